"""What JSON is made of: as a command prints it, and as docs/en/json.md says it."""

import json
import re
from pathlib import Path


def shape(value: object) -> object:
    """What a JSON value is made of: the names in it, and what stands below each; a list is its first item."""
    if isinstance(value, dict):
        return {name: shape(below) for name, below in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value and isinstance(value[0], dict) else None


def written_shapes(root: Path) -> dict[str, object]:
    """Heading -> the shape that stands below it on the page; a name without a value is one whose value is plain."""
    page = (root / "docs" / "en" / "json.md").read_text(encoding="utf-8")
    found = re.findall(r"^## (.*?)\n+```json\n(.*?)\n```$", page, re.MULTILINE | re.DOTALL)
    return {heading: json.loads(re.sub(r'("[\w-]+")(?=[,}])', r"\1: null", text)) for heading, text in found}
