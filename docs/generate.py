"""Write what the code itself can tell: reference of commands, settings, keys, names and errors.

    python docs/generate.py            write the pages
    python docs/generate.py --check    change nothing; name the pages that are no longer true and exit with 1

Knows no command, setting or file by name: it walks what is there.
"""

import ast
import difflib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, NoneType
from typing import get_args

import click
from pydantic import BaseModel

import tuwen
from tuwen import errors
from tuwen.settings import Settings

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tuwen"
REFERENCE = ROOT / "docs" / "reference"
NOTE = "<!-- written by docs/generate.py; change the code, then run `make docs` -->\n"


def commands(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A context for `command` and for every visible command below it, in the order of the help."""
    settings = {**command.context_settings, "terminal_width": 100, "max_content_width": 100}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None and not found.hidden:
                yield from commands(found, below, context)


def command_pages() -> dict[Path, str]:
    """One page for each command of the first level; the commands of a group share its page."""
    from tuwen.cli.main import tuwen as command

    pages: dict[Path, str] = {}
    for context in commands(command, "tuwen"):
        words = context.command_path.split()
        page = REFERENCE / f"{words[1] if len(words) > 1 else 'tuwen'}.md"
        heading = "#" if page not in pages else "##"
        text = f"{heading} {context.command_path}\n\n```text\n{context.get_help()}\n```\n"
        pages[page] = pages[page] + "\n" + text if page in pages else f"{NOTE}\n{text}"
    return pages


def settings_page() -> str:
    """Every setting with the variable that sets it, its default and what it is."""
    rows = ["| variable | field | default | what it is |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "see below" if field.default_factory else "not set" if field.default is None else f"`{field.default}`"
        rows.append(f"| `TUWEN_{name.upper()}` | `{name}` | {default} | {field.description or ''} |")
    head = "".join(f"{line}\n" for line in (Settings.__doc__ or "").splitlines())
    return f"""{NOTE}
# Settings

{head}
A variable of the environment sets a field; so does a line of `~/.config/tuwen/settings.toml`
(`TUWEN_SETTINGS` names another file). The environment wins over the file, an option of a command over both.
`models` stands below `XDG_DATA_HOME` (`~/.local/share/tuwen`), `cache` below `XDG_CACHE_HOME` (`~/.cache/tuwen`).

{chr(10).join(rows)}
"""


def errors_page() -> str:
    """The error tree, as its module draws it."""
    return f"{NOTE}\n# Errors\n\n```text\n{(errors.__doc__ or '').strip()}\n```\n"


def stub(node: ast.stmt) -> ast.stmt | None:
    """The outside of a definition: names, types, docstring; None for what is private or no definition."""
    if isinstance(node, ast.AnnAssign):
        return node
    if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
        return None
    docstring = ast.get_docstring(node)
    kept: list[ast.stmt] = [ast.Expr(ast.Constant(docstring))] if docstring else []
    if isinstance(node, ast.ClassDef):
        kept += [inner for statement in node.body if (inner := stub(statement))]
    node.body = kept if kept else [ast.Expr(ast.Constant(...))]
    return node


def definition(published: type | FunctionType) -> ast.stmt:
    """The source of a published class or function; to a class, its bases of the package add what they define."""
    source = PACKAGE.parent / Path(*published.__module__.split(".")).with_suffix(".py")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    found = next(node for node in tree.body if getattr(node, "name", "") == published.__name__)
    if isinstance(found, ast.ClassDef) and isinstance(published, type):
        for base in published.__mro__[1:]:
            if base.__module__.startswith("tuwen."):
                below = definition(base)
                assert isinstance(below, ast.ClassDef)
                found.body += [node for node in below.body if isinstance(node, ast.FunctionDef)]
    return found


def python_page() -> str:
    """The published names, as stubs."""
    parts = [f"{NOTE}\n# Python\n"]
    for name in tuwen.__all__:
        if name.startswith("_"):
            continue
        found = definition(getattr(tuwen, name))
        parts.append(f"## tuwen.{name}\n\n```python\n{formatted(ast.unparse(stub(found) or found))}```\n")
    return "\n".join(parts)


def manifest_page() -> str:
    """Every field of `tuwen.json`: the whole, which the module defines last, then its parts."""
    tree = ast.parse((PACKAGE / "bundle" / "manifest.py").read_text(encoding="utf-8"))
    *parts, whole = [node for node in tree.body if isinstance(node, ast.ClassDef) and any(map(described, node.body))]
    text = [f"{NOTE}\n# tuwen.json\n"]
    for node in (whole, *parts):
        rows = [described(*pair) for pair in zip(node.body, [*node.body[1:], None], strict=True)]
        table = "\n".join(["| field | type | default | what it is |", "|---|---|---|---|", *filter(None, rows)])
        text.append(f"## {node.name}\n\n{ast.get_docstring(node)}\n\n{table}\n")
    return "\n".join(text)


def configuration_page() -> str:
    """Every key of a training's configuration, section by section."""
    from tuwen.training.config import TrainConfig

    text = [f"{NOTE}\n# The configuration of a training\n"]
    for name, model in sections(TrainConfig, ""):
        rows = ["| key | default | what it is |", "|---|---|---|"]
        for key, field in model.model_fields.items():
            if field.description:
                default = (
                    "required" if field.is_required() else f"`{written(field.get_default(call_default_factory=True))}`"
                )
                what = " ".join(field.description.split())
                rows.append(f"| `{name}.{key}` | {default} | {what[0].upper()}{what[1:]} |")
        text.append(f"## {name}\n\n{model.__doc__}\n\n{chr(10).join(rows)}\n")
    return "\n".join(text)


def sections(model: type[BaseModel], place: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section of the tree below `model`, by the dotted path of its keys; a source of pairs as `source`."""
    for name, field in model.model_fields.items():
        whole, parts = field.annotation, get_args(field.annotation)
        below = parts[0] if NoneType in parts or name == "train" else whole
        if isinstance(below, type) and issubclass(below, BaseModel):
            yield "data.train[]" if name == "train" else f"{place}{name}", below
            yield from sections(below, f"{place}{name}.")


def written(value: object) -> str:
    """A default as one writes it in YAML."""
    return json.dumps(value, default=str)


def architectures_page(page: Path) -> str:
    """The architectures of open_clip, those that tests try apart; as it was where open_clip is not installed."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        return page.read_text(encoding="utf-8")
    zoo = ast.parse((ROOT / "tests" / "models" / "openclip_zoo.py").read_text(encoding="utf-8"))
    table = next(node for node in zoo.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "TWO")
    tested = list(ast.literal_eval(table.value)) if table.value is not None else []
    known = sorted(path.stem for path in (Path(spec.origin).parent / "model_configs").glob("*.json"))
    lines = {
        "Tested": "Loaded, exported and verified by the tests with two layers of random weights.",
        "Untested": "The same code loads, exports and verifies them; no test does it.",
    }
    names = {"Tested": tested, "Untested": [name for name in known if name not in tested]}
    sections = (f"## {head}\n\n{lines[head]}\n\n{', '.join(f'`{name}`' for name in names[head])}\n" for head in names)
    return f"{NOTE}\n# Architectures of open_clip\n\n" + "\n".join(sections)


def described(node: ast.stmt, below: ast.stmt | None = None) -> str | None:
    """A field's row of the table, with the docstring `below` it; None for what is no field."""
    if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.target.id == "model_config":
        return None
    what = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
    kind = ast.unparse(node.annotation).replace("|", "\\|")
    default = f"`{ast.unparse(node.value)}`" if node.value else "required"
    return f"| `{node.target.id}` | `{kind}` | {default} | {' '.join(str(what).split())} |"


def formatted(code: str) -> str:
    """`code` with the line breaks of the house."""
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", "stub.pyi", "-"]
    return subprocess.run(command, input=code, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def pages() -> dict[Path, str]:
    """Every page that this script writes."""
    made = command_pages()
    made |= {
        REFERENCE / "settings.md": settings_page(),
        REFERENCE / "python.md": python_page(),
        REFERENCE / "errors.md": errors_page(),
        REFERENCE / "manifest.md": manifest_page(),
        REFERENCE / "openclip.md": architectures_page(REFERENCE / "openclip.md"),
        REFERENCE / "configuration.md": configuration_page(),
    }
    return made


def stale(made: dict[Path, str]) -> Iterator[str]:
    """What differs between the pages as they are and as they should be, in words."""
    for page, text in made.items():
        name = page.relative_to(ROOT).as_posix()
        now = page.read_text(encoding="utf-8") if page.exists() else ""
        if now != text:
            changed = difflib.unified_diff(now.splitlines(), text.splitlines(), name, name, lineterm="", n=0)
            yield "\n".join(list(changed)[:12])
    for page in REFERENCE.glob("*.md"):
        if page not in made:
            yield f"{page.relative_to(ROOT)}: there is no such command any more"


def main() -> int:
    """Write the pages, or check them."""
    made = pages()
    if "--check" in sys.argv[1:]:
        problems = list(stale(made))
        for problem in problems:
            print(problem)
        if problems:
            print(f"{len(problems)} pages are not what the code says; `make docs` writes them anew")
        return 1 if problems else 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for page in REFERENCE.glob("*.md"):
        if page not in made:
            page.unlink()
    for page, text in made.items():
        page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
