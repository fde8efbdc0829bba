"""Annotation files of benchmarks: images by name with their captions, in the forms that datasets are published in.

Karpathy        {"images": [{"filename", "filepath", "split", "sentences": [{"raw"}]}]}
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuwen.data.samples import Listed, span_of
from tuwen.errors import InvalidInput
from tuwen.types import Rejected


def list_annotations(path: Path, splits: tuple[str, ...], root: Path | None) -> Iterator[Listed | Rejected]:
    """The samples of an annotation file in any of the known forms; arguments as for `list_karpathy`."""
    return list_karpathy(path, splits, root)


def splits_of(path: Path) -> list[str]:
    """The splits of an annotation file, sorted; empty where it has none."""
    document = _document(path)
    images = document.get("images") if isinstance(document, Mapping) else None
    entries = images if isinstance(images, list) else []
    return sorted({str(entry["split"]) for entry in entries if isinstance(entry, Mapping) and "split" in entry})


def list_karpathy(path: Path, splits: tuple[str, ...], root: Path | None) -> Iterator[Listed | Rejected]:
    """The images of some splits of a Karpathy file with all their captions. An image's key is its path.

    Args:
        path: the file.
        splits: such as `train`, `restval`, `val`, `test`; empty: all.
        root: the folder that paths are relative to; None: the file's own folder.

    Raises:
        InvalidInput: it is not a Karpathy file, or has none of the splits.
    """
    entries = _images(_document(path), path)
    known = sorted({str(entry["split"]) for entry in entries if isinstance(entry, Mapping) and "split" in entry})
    if splits and not set(splits) & set(known):
        hint = f"its splits are {', '.join(known)}"
        raise InvalidInput(f"{path} has no split {' or '.join(splits)}; {hint}", value=splits, where=path, hint=hint)
    seen = set[str]()
    for number, entry in enumerate(entries):
        if splits and isinstance(entry, Mapping) and entry.get("split") not in splits:
            continue
        listed = _karpathy(entry, root or path.parent) if isinstance(entry, Mapping) else None
        if listed is None:
            yield Rejected(f"{path}:{number}", "is not an entry with a filename and sentences")
        elif listed.key in seen:
            yield Rejected(f"{path}:{number}", f"repeats {listed.key}")
        else:
            seen.add(listed.key)
            yield listed


def _document(path: Path) -> Any:  # noqa: ANN401  (JSON)
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}", where=path) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is not valid JSON: {error}", where=path) from error


def _images(document: object, path: Path) -> list[object]:
    images = document.get("images") if isinstance(document, Mapping) else None
    if not isinstance(images, list):
        raise InvalidInput(f'{path} is not an annotation file: it has no list "images"', where=path)
    return images


def _karpathy(entry: Mapping[str, object], root: Path) -> Listed | None:
    name, sentences = entry.get("filename"), entry.get("sentences")
    if not isinstance(name, str) or not isinstance(sentences, list):
        return None
    raw = [sentence.get("raw") if isinstance(sentence, Mapping) else None for sentence in sentences]
    captions = tuple(text.strip() for text in raw if isinstance(text, str) and text.strip())
    folder = entry.get("filepath")
    key = f"{folder}/{name}" if isinstance(folder, str) and folder else name
    place = root / key
    return Listed(key, key, str(place), span_of(place), captions=captions)
