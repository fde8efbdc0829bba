"""Annotation files of benchmarks: images by name with their captions, in the forms that datasets are published in.

    Karpathy         {"images": [{"filename", "filepath", "split", "sentences": [{"raw"}]}]}
    COCO             {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}
    lines            `dog.jpg#0<TAB>caption`, `dog.jpg,caption`; Flickr30k, Flickr8k-CN, Flickr30k-CN, COCO-CN
    Chinese-CLIP     `X_texts.jsonl` with image ids, `X_imgs.tsv` with images in base64
    XTD10            `test_image_names.txt`, and a `test_1kcaptions_LANGUAGE.txt` for each language
    Crossmodal-3600  `captions.jsonl`: captions by language; the first one in each is used

Images are looked up below the folder that contains the file, and are not opened here.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tuwen.data.files import open_file
from tuwen.data.formats import format_of_name
from tuwen.data.records import JSON_LINES, NOT_UTF8, UTF8, is_utf8, open_text, read_records
from tuwen.data.samples import Listed, Span, span_of, split_of
from tuwen.errors import InvalidInput
from tuwen.types import Rejected

ANNOTATIONS = frozenset({".json", ".token"})
"""extensions of files that are annotations whatever they contain; `.txt`, `.jsonl` and `.tsv` files may be"""
FIRST_CAPTION_ONLY = "Crossmodal-3600: only the first caption in each language is used, as in published results"

_XTD_NAMES, _XTD_CAPTIONS = "test_image_names.txt", re.compile(r"test_1kcaptions_(\w+)\.txt")
_TEXTS, _PICTURES = "_texts.jsonl", "_imgs.tsv"
_KEY, _LOCALE = "image/key", "image/locale"
_COCO_CN = "coco-cn_{split}.txt"
_IMAGE = r"\.(?:jpe?g|png|webp|gif|bmp)"
_NUMBERED = re.compile(r"(?P<image>[^\s#][^#\t]*)#(?:(?P<kind>[A-Za-z]{2,3})#)?\d+[\t ]+(?P<text>.*)")
_TABBED = re.compile(rf"(?P<image>\d+|[^\t]*?{_IMAGE})\t(?P<text>.*)", re.IGNORECASE)
_COMMA = re.compile(rf"(?P<image>[^,\t]*?{_IMAGE}),(?P<text>.*)", re.IGNORECASE)
_HEAD = re.compile(r"image\w*\s*,\s*\w+", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_TAGGED = re.compile(r"\S+:[A-Za-z]+(?:\s+\S+:[A-Za-z]+)*")
_SEGMENTED = re.compile(r"(?<=[^\x00-\x7f])\s+|\s+(?=[^\x00-\x7f])")
_SPLIT = re.compile(r"(?:^|[^a-z]|boson)(train|restval|val|valid|validation|dev|test)(?![a-z])")
_SPLITS = ("train", "val", "test")
_JAPANESE = {"jp": "ja"}
_LANGUAGES = frozenset({"ar", "cs", "de", "en", "es", "fr", "hi", "it", "ja", "jp", "ko", "pl", "ru", "tr", "uk", "zh"})


def is_annotations(path: Path) -> bool:
    """Whether a file is in one of the known forms, by its extension, or else by its name and its first line."""
    extension, name = path.suffix.lower(), path.name
    if extension in ANNOTATIONS or name == _XTD_NAMES or name.endswith(_PICTURES):
        return True
    if extension in JSON_LINES:
        first = next((record.fields for record in read_records(path, UTF8) if record.fields), {})
        return _KEY in first or {"text", "image_ids"} <= first.keys()
    if extension != ".txt":
        return False
    if _XTD_CAPTIONS.fullmatch(name) and _xtd_names(path) is not None:
        return True
    with open_text(path, UTF8) as file:
        first_line = next((line.strip("\r\n") for line in file if line.strip()), "")
    return _HEAD.fullmatch(first_line) is not None or _caption_line(first_line) is not None


def list_annotations(path: Path, splits: tuple[str, ...] = (), root: Path | None = None) -> Iterator[Listed | Rejected]:
    """The images of an annotation file with all their captions. An image's key is its path as the file has it.

    Args:
        path: a file in one of the known forms.
        splits: such as `train`, `val`, `test`, see `split_of`; empty: all.
        root: the folder that images are looked up in; None: the file's own folder.

    Raises:
        InvalidInput: the file is in none of the known forms, or has none of the splits.
    """
    images, name = _Images(root or _root_of(path)), path.name
    if path.suffix.lower() == ".json":
        yield from _list_json(path, splits, images)
    elif name.endswith((_TEXTS, _PICTURES)):
        yield from _list_chinese_clip(path)
    elif path.suffix.lower() in JSON_LINES:
        yield from _list_crossmodal(path, images)
    elif name == _XTD_NAMES or _XTD_CAPTIONS.fullmatch(name):
        yield from _list_xtd(path, images)
    else:
        yield from _list_lines(path, images)


def splits_of(path: Path) -> list[str]:
    """The splits within an annotation file, sorted; empty where it has none."""
    if path.suffix.lower() != ".json":
        return [split for split in _SPLITS if (path.parent / _COCO_CN.format(split=split)).is_file()]
    document = _document(path)
    images = document.get("images") if isinstance(document, Mapping) else None
    entries = images if isinstance(images, list) else []
    return sorted({split_of(entry["split"]) for entry in entries if isinstance(entry, Mapping) and "split" in entry})


def split_in_name(path: Path) -> str:
    """The split that a file's name tells, such as `val` of `captions_val2017.json`; empty if it tells none."""
    found = _SPLIT.search(path.stem.lower())
    return split_of(found[1]) if found else ""


def no_split(path: Path, splits: Iterable[str], known: Iterable[str]) -> InvalidInput:
    """The error for a dataset that has none of the splits that were asked for."""
    named = ", ".join(sorted(filter(None, known)))
    hint = f"its splits are {named}" if named else "it has no splits that are known: leave the split out"
    value = " or ".join(splits)
    return InvalidInput(f"{path} has no split {value}; {hint}", value=value, where=path, hint=hint)


def notes_on(path: Path) -> tuple[str, ...]:
    """What to know about how a file is read."""
    is_crossmodal = path.suffix.lower() in JSON_LINES and not path.name.endswith(_TEXTS) and is_annotations(path)
    return (FIRST_CAPTION_ONLY,) if is_crossmodal else ()


def annotations_in(folder: Path) -> list[Path]:
    """The annotation files of a dataset whose folder this is: one, or one for each split; empty if it has none.

    Raises:
        InvalidInput: several files could be meant.
    """
    for pattern in _PATTERNS:
        found = sorted(path for path in folder.glob(pattern) if path.is_file() and is_annotations(path))
        splits = [split_in_name(path) for path in found]
        if len(found) > 1 and ("" in splits or len(set(splits)) < len(splits)):
            named = ", ".join(str(path.relative_to(folder)) for path in found)
            hint = f"name one of the files: {named}"
            raise InvalidInput(f"{folder} has several annotation files: {hint}", value=folder, hint=hint)
        if found:
            return found
    return []


_PATTERNS = (
    "dataset.json",
    "dataset_coco*.json",
    "dataset_flickr*.json",
    f"*{_TEXTS}",
    "captions.jsonl",
    _XTD_NAMES,
    f"XTD10/{_XTD_NAMES}",
    "imageid.human-written-caption.txt",
    "*_karpathy.json",
    "captions_*.json",
    "annotations/captions_*.json",
    "*.token",
    "*_karpathy.txt",
    "*_zh.txt",
    "captions.txt",
    "TextData/seg.*.caption.txt",
    "*/TextData/seg.*.caption.txt",
    "*.caption.txt",
    "test.txt",
)
"""where datasets have their annotations, the most particular first"""


class _Images:
    """Looks up image files by the names that annotations give them: in a folder, or one or two levels below it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def listed(
        self, name: str, captions: Iterable[str], language: str = "", split: str = "", languages: tuple[str, ...] = ()
    ) -> Listed:
        """An image with its captions, of which those that are blank are left out."""
        path = self._found(name)
        texts = tuple(text.strip() for text in captions if text.strip())
        spoken = languages or ((language,) * len(texts) if language else ())
        return Listed(name, name, str(path), span_of(path), captions=texts, languages=spoken, split=split)

    def _found(self, name: str) -> Path:
        names = [name] if format_of_name(name) else [name + extension for extension in (".jpg", ".jpeg", ".png", "")]
        for folder in (self._root, *self._below):
            for each in names:
                if (folder / each).is_file():
                    if folder is not self._root:  # the others are likely to be there, too
                        self._below.remove(folder)
                        self._below.insert(0, folder)
                    return folder / each
        return self._root / names[0]

    @cached_property
    def _below(self) -> list[Path]:
        found = [folder for pattern in ("*/", "*/*/") for folder in sorted(self._root.glob(pattern))]
        return [folder for folder in found if not any(part.startswith(".") for part in folder.parts)]


def _root_of(path: Path) -> Path:
    """The folder of a dataset: that of its annotation file, or the one above, where annotations have their own."""
    folder = path.parent
    if folder.name == "TextData":
        return folder.parent.parent
    return folder.parent if folder.name in {"annotations", "XTD10", "MIC", "STAIR"} else folder


def _document(path: Path) -> Any:  # noqa: ANN401  (JSON)
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}", where=path) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is not valid JSON: {error}", where=path) from error


def _list_json(path: Path, splits: tuple[str, ...], images: _Images) -> Iterator[Listed | Rejected]:
    document = _document(path)
    entries = document.get("images") if isinstance(document, Mapping) else None
    if not isinstance(entries, list):
        raise InvalidInput(f'{path} is not an annotation file: it has no list "images"', where=path)
    annotations = document.get("annotations")
    if isinstance(annotations, list):
        yield from _list_coco(path, entries, annotations, images)
    else:
        yield from _list_karpathy(path, entries, splits, images)


def _list_karpathy(
    path: Path, entries: list[Any], splits: tuple[str, ...], images: _Images
) -> Iterator[Listed | Rejected]:
    known = {str(entry["split"]) for entry in entries if isinstance(entry, Mapping) and "split" in entry}
    asked = {*splits, *(split_of(split) for split in splits if split != "restval")}
    wanted = {split for split in known if split in asked or split_of(split) in asked}
    if splits and not wanted:
        raise no_split(path, splits, known)
    seen = set[str]()
    for number, entry in enumerate(entries):
        if splits and isinstance(entry, Mapping) and entry.get("split") not in wanted:
            continue
        name, sentences = (entry.get("filename"), entry.get("sentences")) if isinstance(entry, Mapping) else (None, 0)
        if not isinstance(name, str) or not isinstance(sentences, list):
            yield Rejected(f"{path}:{number}", "is not an entry with a filename and sentences")
            continue
        key = f"{entry['filepath']}/{name}" if entry.get("filepath") else name
        if key in seen:
            yield Rejected(f"{path}:{number}", f"repeats {key}")
            continue
        seen.add(key)
        raw = [sentence.get("raw") if isinstance(sentence, Mapping) else None for sentence in sentences]
        yield images.listed(key, (text for text in raw if isinstance(text, str)), split=split_of(entry.get("split")))


def _list_coco(path: Path, entries: list[Any], annotations: list[Any], images: _Images) -> Iterator[Listed | Rejected]:
    names = {
        entry["id"]: entry["file_name"]
        for entry in entries
        if isinstance(entry, Mapping) and "id" in entry and isinstance(entry.get("file_name"), str)
    }
    captions: dict[object, list[str]] = {number: [] for number in names}
    for number, annotation in enumerate(annotations):
        known = isinstance(annotation, Mapping) and annotation.get("image_id") in names
        if known and isinstance(annotation.get("caption"), str):
            captions[annotation["image_id"]].append(annotation["caption"])
        elif known:
            yield Rejected(f"{path}:annotations:{number}", "is not an entry with an image_id and a caption")
        else:
            yield Rejected(f"{path}:annotations:{number}", "belongs to none of the images")
    for number, name in names.items():
        yield images.listed(name, captions[number], split=split_in_name(path))


def _caption_line(line: str) -> tuple[str, str, str] | None:
    """A line's image, caption and language, "" if unknown; None if it is in none of the known forms."""
    match = _NUMBERED.fullmatch(line) or _TABBED.fullmatch(line) or _COMMA.fullmatch(line)
    if match is None:
        return None
    text, kind = match["text"].strip(), (match.groupdict().get("kind") or "").lower()
    if match.re is _COMMA and _QUOTED.fullmatch(text):
        text = text[1:-1].replace('""', '"')
    language = next((code for code in ("zh", "en") if kind.startswith(code)), kind)
    if language == "zh" and _TAGGED.fullmatch(text):
        text = " ".join(word.rpartition(":")[0] for word in text.split())
    return match["image"].strip(), _SEGMENTED.sub("", text) if language == "zh" else text, language


def _list_lines(path: Path, images: _Images) -> Iterator[Listed | Rejected]:
    """A file with a caption in each line, with the image that it belongs to. `coco-cn_*.txt` name COCO-CN's splits."""
    captions: dict[str, list[tuple[str, str]]] = {}
    spoken, split, splits = _language_of(path), split_in_name(path), _coco_cn_splits(path)
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            text = line.strip("\r\n")
            if not text.strip() or (number == 1 and _HEAD.fullmatch(text)):
                continue
            found = _caption_line(text) if is_utf8(text) else None
            if found is None:
                reason = "is not a line with an image and a caption" if is_utf8(text) else NOT_UTF8
                yield Rejected(f"{path}:{number}", reason)
                continue
            image, caption, language = found
            captions.setdefault(image, []).append((caption, language or spoken))
    for name in dict.fromkeys((*captions, *splits)):
        pairs = [(text, language) for text, language in captions.get(name, ()) if text]
        languages = tuple(language for _, language in pairs) if any(language for _, language in pairs) else ()
        texts = (text for text, _ in pairs)
        yield images.listed(name, texts, languages=languages, split=splits.get(name, split))


def _language_of(path: Path) -> str:
    """The language of captions that a file's name tells: `flickr30k_test_zh.txt`; COCO-CN is Chinese."""
    last = re.split(r"[._-]", path.stem)[-1].lower()
    if last in _LANGUAGES:
        return _JAPANESE.get(last, last)
    return "zh" if (path.parent / _COCO_CN.format(split="test")).is_file() else ""


def _coco_cn_splits(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for split in _SPLITS:
        names = path.parent / _COCO_CN.format(split=split)
        if names.is_file():
            found |= {line.strip(): split for line in _lines(names) if line.strip()}
    return found


def _list_chinese_clip(path: Path) -> Iterator[Listed | Rejected]:
    stem = path.name.removesuffix(_TEXTS).removesuffix(_PICTURES)
    texts, pictures = path.with_name(stem + _TEXTS), path.with_name(stem + _PICTURES)
    for needed, other in ((texts, pictures), (pictures, texts)):
        if not needed.is_file():
            hint = f"put both into one folder: {texts.name} and {pictures.name}"
            raise InvalidInput(f"{needed} does not exist, which {other.name} belongs to", value=needed, hint=hint)
    captions: dict[str, list[str]] = {}
    yield from _read_texts(texts, captions)
    seen, split = set[str](), split_in_name(path)
    for number, listed in _pictures(pictures):
        if listed is None or listed.key in seen:
            yield Rejected(f"{pictures}:{number}", f"repeats {listed.key}" if listed else "is not an id and an image")
            continue
        seen.add(listed.key)
        yield replace(listed, captions=tuple(text.strip() for text in captions.get(listed.key, ())), split=split)
    yield from (Rejected(key, f"the image is not in {pictures.name}") for key in captions if key not in seen)


def _read_texts(path: Path, captions: dict[str, list[str]]) -> Iterator[Rejected]:
    """Add the captions of a file to those of their images, by id."""
    for record in read_records(path):
        text, ids = record.fields.get("text"), record.fields.get("image_ids")
        if isinstance(text, str) and text.strip() and isinstance(ids, list) and ids and is_utf8(text):
            for each in ids:
                captions.setdefault(str(each), []).append(text)
        elif record.fields or record.reason:
            yield Rejected(f"{path}:{record.line}", record.reason or "is not a record with a text and image_ids")


def _pictures(path: Path) -> Iterator[tuple[int, Listed | None]]:
    """The lines of a file of ids and base64, with their numbers; None: a line is in another form."""
    modified, start = path.stat().st_mtime_ns, 0
    with open_file(path) as file:
        for number, line in enumerate(file, start=1):
            name, separator, content = line.rstrip(b"\r\n").partition(b"\t")
            key = name.decode("utf-8", "replace").strip()
            if key and separator and content:
                span = Span(str(path), start + len(name) + 1, len(content), modified, base64=True)
                yield number, Listed(key, key, key, span)
            elif line.strip():
                yield number, None
            start += len(line)


def _list_crossmodal(path: Path, images: _Images) -> Iterator[Listed | Rejected]:
    for record in read_records(path):
        if not record.fields and not record.reason:
            continue
        key, captions = record.fields.get(_KEY), dict[str, str]()
        for language, value in record.fields.items():
            texts = value.get("caption") if isinstance(value, Mapping) else None
            if isinstance(texts, list) and texts and isinstance(texts[0], str) and texts[0].strip():
                captions[language] = texts[0]
        if isinstance(key, str):
            yield images.listed(f"{key}.jpg", captions.values(), languages=tuple(captions))
        else:
            yield Rejected(f"{path}:{record.line}", record.reason or f"has no {_KEY}")


def _list_xtd(path: Path, images: _Images) -> Iterator[Listed | Rejected]:
    """The images with a caption in each language; with that of one file alone if it is a language's."""
    names_file = path if path.name == _XTD_NAMES else _xtd_names(path)
    if names_file is None:
        hint = f"put {_XTD_NAMES} into its folder"
        raise InvalidInput(f"{path} has captions without the names of their images: {hint}", where=path, hint=hint)
    names = [line.strip() for line in _lines(names_file) if line.strip()]
    files = [path] if path.name != _XTD_NAMES else _xtd_captions(path)
    captions: dict[str, list[str]] = {}
    for file in files:
        match = _XTD_CAPTIONS.fullmatch(file.name)
        language = match[1] if match else ""
        lines = [line.strip() for line in _lines(file)]
        if len(lines) != len(names):
            yield Rejected(str(file), f"has {len(lines)} captions for the {len(names)} images of {names_file.name}")
            continue
        captions.setdefault(_JAPANESE.get(language, language), lines)
    for number, name in enumerate(names):
        spoken = {language: lines[number] for language, lines in captions.items() if lines[number]}
        yield images.listed(name, spoken.values(), languages=tuple(spoken), split="test")


def _xtd_names(path: Path) -> Path | None:
    places = (path.parent / _XTD_NAMES, path.parent.parent / "XTD10" / _XTD_NAMES)
    return next((place for place in places if place.is_file()), None)


def _xtd_captions(names: Path) -> list[Path]:
    """The files of captions beside the names of images, and in the folders of the languages that came later."""
    folders = (names.parent, names.parent.parent / "MIC", names.parent.parent / "STAIR")
    return [path for folder in folders for path in sorted(folder.glob("test_1kcaptions_*.txt"))]


def _lines(path: Path) -> list[str]:
    with open_text(path) as file:
        return [line.rstrip("\n") for line in file]
