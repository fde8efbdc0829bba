"""Queries whose answer is known: from a file, from words that nothing matches, from a collection's own pictures.

Knows where they come from. Does not know their scores.
"""

import csv
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from tuwen.errors import InvalidInput
from tuwen.index.calibration import QueryKind
from tuwen.index.store import row_id
from tuwen.prepare.sources import is_file, key_of
from tuwen.tasks.terms import RowId
from tuwen.tasks.unrelated import unrelated

if TYPE_CHECKING:
    from tuwen.index.index import Index
    from tuwen.runtime.encoder import Encoder

_SEED = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """A query, and the rows that it should find.

    Attributes:
        what: a text, a picture's file, or a row of the index that looks for the row nearest to itself.
        right: ids of the rows that match; none where nothing does.
    """

    what: str | Path | RowId
    right: tuple[str, ...] = ()

    @property
    def kind(self) -> QueryKind:
        """What is asked with."""
        return "text" if isinstance(self.what, str) else "image"

    @property
    def matches(self) -> bool:
        """Whether there is something to find: a picture of the collection is at home in it."""
        return bool(self.right) or isinstance(self.what, RowId)


def random_probes(count: int, encoder: "Encoder", index: "Index") -> list[Probe]:
    """`count` texts that nothing matches, in the model's languages, and as many of the index's own pictures.

    Chosen at random, and the same every time. There may be fewer pictures.
    """
    texts = [Probe(text) for text in unrelated(count, encoder.text_spec.languages)]
    return texts + [Probe(RowId(row)) for row in _some_pictures(count, index)]


def labelled_probes(path: Path, index: "Index") -> list[Probe]:
    """Queries from a file in UTF-8, by its ending.

        .jsonl          {"query": "a dog", "paths": ["dog.jpg", "park/dogs.jpg"]}
        .csv, .tsv      a query, and a path in each of the columns after it, as many as there are; no heading

    A query is a picture if a file of that name exists (as it is, or beside the list), else a text. Paths are those
    that the index has, or files; none means that nothing matches.

    Raises:
        InvalidInput: the file cannot be read, or a path is not in the index; the message names the line.
    """
    readers = {".jsonl": _json_lines, ".csv": _csv_lines, ".tsv": _tsv_lines}
    if path.suffix.lower() not in readers:
        raise InvalidInput(f"{path} ends in none of {', '.join(readers)}: it is not clear how to read it")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    found = []
    for number, (query, paths) in readers[path.suffix.lower()](text, path):
        if not query.strip():
            raise InvalidInput(f"{path}, line {number}: the query is empty")
        right = _rows(paths, index, f"{path}, line {number}")
        found.append(Probe(_picture(query, path.parent) or query, right))
    if not found:
        raise InvalidInput(f"{path} has no query")
    return found


def _picture(query: str, folder: Path) -> Path | None:
    return next((file for file in (Path(query), folder / query) if is_file(file)), None)


def _rows(paths: Sequence[str], index: "Index", place: str) -> tuple[str, ...]:
    ids = []
    for path in paths:
        key = path if index.payloads([path]) else key_of(Path(path), index.root)
        if key != path and not index.payloads([key]):
            raise InvalidInput(
                f"{place}: the index has nothing of the path {path}: tuwen index list shows its paths"
            )
        ids.append(str(row_id(key)))
    return tuple(ids)


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, tuple[str, list[str]]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as error:
            raise InvalidInput(f"{path}, line {number}: no JSON ({error})") from error
        if not _is_labelled(item):
            raise InvalidInput(
                f'{path}, line {number}: {line.strip()[:80]}: expected {{"query": "a dog", "paths": ["dog.jpg"]}}'
            )
        yield number, (item["query"], item["paths"])


def _is_labelled(item: object) -> bool:
    if not isinstance(item, dict) or set(item) != {"query", "paths"}:
        return False
    paths = item["paths"]
    return (
        isinstance(item["query"], str) and isinstance(paths, list) and all(isinstance(path, str) for path in paths)
    )


def _csv_lines(text: str, path: Path, delimiter: str = ",") -> Iterator[tuple[int, tuple[str, list[str]]]]:
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, (cells[0], [cell for cell in cells[1:] if cell.strip()])
    except csv.Error as error:
        raise InvalidInput(f"{path}, line {reader.line_num}: {error}") from error


def _tsv_lines(text: str, path: Path) -> Iterator[tuple[int, tuple[str, list[str]]]]:
    return _csv_lines(text, path, "\t")


def _some_pictures(count: int, index: "Index") -> list[str]:
    """Ids of rows, each as likely as any other; of the keys alone, for there may be millions."""
    keys = index.keys('type == "image"')
    return [str(row_id(key)) for key in random.Random(_SEED).sample(keys, min(count, len(keys)))]
