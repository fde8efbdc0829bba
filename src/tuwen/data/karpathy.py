"""Karpathy's files of captioned pictures: `dataset_coco.json`, `dataset_flickr30k.json`.

Each picture is an entry with its split, its place and its sentences. Knows such a file. Does not open the pictures.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from tuwen.data.samples import Listed, span_of
from tuwen.errors import InvalidInput
from tuwen.types import Rejected


def list_karpathy(path: Path, splits: tuple[str, ...], root: Path | None) -> Iterator[Listed | Rejected]:
    """The pictures of some splits with all their captions; a picture's key is its path.

    Args:
        path: the file.
        splits: such as `train`, `restval`, `val`, `test`.
        root: the folder that paths are relative to; None: the file's own.

    Raises:
        InvalidInput: it is no such file, or has none of the splits.
    """
    entries = _entries(path)
    known = sorted({str(entry.get("split")) for entry in entries if isinstance(entry, Mapping)})
    if not set(splits) & set(known):
        raise InvalidInput(f"{path} has no split {' or '.join(splits)}; its splits are {', '.join(known)}")
    seen = set[str]()
    for number, entry in enumerate(entries):
        if isinstance(entry, Mapping) and entry.get("split") not in splits:
            continue
        listed = _listed(entry, root or path.parent) if isinstance(entry, Mapping) else None
        if listed is None:
            yield Rejected(f"{path}:{number}", "is no entry with a filename and sentences")
        elif listed.key in seen:
            yield Rejected(f"{path}:{number}", f"is {listed.key} once more")
        else:
            seen.add(listed.key)
            yield listed


def _entries(path: Path) -> list[object]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InvalidInput(f"{path} is no JSON: {error}") from error
    images = document.get("images") if isinstance(document, Mapping) else None
    if not isinstance(images, list):
        raise InvalidInput(f'{path} is no Karpathy file: there is no list "images" in it')
    return images


def _listed(entry: Mapping[str, object], root: Path) -> Listed | None:
    name, sentences = entry.get("filename"), entry.get("sentences")
    if not isinstance(name, str) or not isinstance(sentences, list):
        return None
    raw = [sentence.get("raw") if isinstance(sentence, Mapping) else None for sentence in sentences]
    captions = tuple(text for text in raw if isinstance(text, str))
    folder = entry.get("filepath")
    key = f"{folder}/{name}" if isinstance(folder, str) and folder else name
    place = root / key
    return Listed(key, key, str(place), span_of(place), captions=captions)
