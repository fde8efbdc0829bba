"""Which captions a picture has, by language, and which of them is drawn in an epoch.

Knows how sources name captions and languages. Does not know tokens.
"""

import hashlib
import tempfile
import weakref
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from threading import Lock
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen.data.datasets import list_samples
from tuwen.data.files import Skipped
from tuwen.data.karpathy import list_karpathy
from tuwen.data.samples import Fact, Listed, Sample
from tuwen.data.tables import TABLES, Columns, values_of
from tuwen.errors import InvalidInput
from tuwen.training.config import PairSource
from tuwen.types import Rejected

Captions: TypeAlias = Mapping[str, tuple[str, ...]]
"""language, "" where it is not known -> texts; none is empty"""


def captions_of(listed: Listed, sample: Sample, source: PairSource) -> Captions:
    """A picture's captions: those beside it, one a line; or those in the columns that the source names."""
    beside = listed.caption is not None or listed.facts is not None
    if isinstance(source.captions, Mapping):
        found = {language: _texts(sample.extra.get(column)) for language, column in source.captions.items()}
        if not beside:  # the first of them was asked for as the column of captions
            found[next(iter(source.captions))] = sample.captions
    else:
        texts = _texts(sample.extra.get(source.captions)) if beside and source.captions else sample.captions
        texts = _lines(texts) if beside and source.captions is None else texts
        found = _by_language(texts, source, sample)
    kept = {language: _kept(texts) for language, texts in found.items()}
    return {language: texts for language, texts in kept.items() if texts}


def _by_language(texts: tuple[str, ...], source: PairSource, sample: Sample) -> dict[str, tuple[str, ...]]:
    """Captions by what the source says of them, or a column: of all of them, or of each."""
    if source.language_column is None:
        return {source.language or "": texts}
    spoken = _texts(sample.extra.get(source.language_column))
    each = spoken if len(spoken) > 1 else (spoken or ("",)) * len(texts)
    if len(each) != len(texts):
        return {}  # nobody can say which is in which
    found: dict[str, tuple[str, ...]] = {}
    for language, text in zip(each, texts, strict=True):
        found[language] = (*found.get(language, ()), text)
    return found


def draw(captions: Captions, weights: Mapping[str, float], random: Random) -> str | None:
    """One caption: with weights, of a language drawn by them; else any. None: there is none of those languages."""
    if not weights:
        every = [text for texts in captions.values() for text in texts]
        return random.choice(every) if every else None
    spoken = [language for language in captions if language in weights]
    if not spoken:
        return None
    (language,) = random.choices(spoken, [weights[language] for language in spoken])
    return random.choice(captions[language])


def _lines(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(line for text in texts for line in text.splitlines())


def _texts(value: Fact) -> tuple[str, ...]:
    return tuple(values_of(value))


def _kept(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text.strip() for text in texts if text.strip())


# ---- All pairs of a run by number

SPLITS = ("train", "restval")
"""of a Karpathy file, what is trained on where nobody says"""
_KARPATHY = ".json"


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture with its captions, listed; and the source that it is of. No other pair of the run has its key."""

    key: str
    listed: Listed
    source: PairSource


class Listing:
    """Pairs by number, from 0. May be read by many threads at once.

    Attributes:
        rejected: what claims to be a pair and is none, with the reason.
        fingerprint: 16 hex digits over all that was found: as long as it is the same, so are the numbers.
    """

    def __init__(self, sources: Sequence[PairSource], splits: tuple[str, ...] = SPLITS) -> None:
        """Walk the sources; `splits`: of a Karpathy file whose source names none.

        Raises:
            InvalidInput: one of them does not exist, or is of no kind that has pairs.
        """
        self._sources = tuple(sources)
        self._ends, self._of, self._shards = array("q", [0]), array("H"), array("q")
        self._file, self._lock = tempfile.TemporaryFile(prefix="tuwen-pairs-"), Lock()  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self.rejected: list[Rejected] = []
        digest = hashlib.sha256()
        shard = None
        for number, item in _found(self._sources, splits):
            if isinstance(item, Rejected):
                self.rejected.append(item)
                continue
            here = _shard(item)
            if here is None or here != shard:
                self._shards.append(len(self._of))
            shard = here
            line = item.line().encode("utf-8", "surrogatepass")
            self._file.write(line)
            self._ends.append(self._ends[-1] + len(line))
            self._of.append(number)
            size = item.image.size if item.image else 0
            digest.update(f"{number}\0{item.key}\0{size}\0{item.captions}\n".encode("utf-8", "surrogatepass"))
        self._file.flush()
        self.fingerprint = digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._of)

    def __getitem__(self, number: int) -> Pair:
        start, end = self._ends[number], self._ends[number + 1]
        with self._lock:
            self._file.seek(start)
            line = self._file.read(end - start)
        listed, source = Listed.of_line(line.decode("utf-8", "surrogatepass")), self._of[number]
        return Pair(f"{source}/{listed.key}", listed, self._sources[source])

    @property
    def shards(self) -> NDArray[np.int64]:
        """(shards,) the number of the first pair of each; a picture in a file of its own is a shard by itself."""
        return np.array(self._shards, dtype=np.int64)


def _found(sources: Sequence[PairSource], splits: tuple[str, ...]) -> Iterator[tuple[int, Listed | Rejected]]:
    for number, source in enumerate(sources):
        is_empty = True
        for item in _listed(source, splits):
            if isinstance(item, Rejected):
                yield number, item
            elif isinstance(item, Listed) and item.pictured:  # a text alone does not claim to be a pair
                yield number, item if _may_be_captioned(item, source) else Rejected(item.key, "has no caption")
            else:
                continue
            is_empty = False
        if is_empty:
            raise InvalidInput(f"data: there is no pair of a picture and a caption in {source.path}: name another")


def _may_be_captioned(listed: Listed, source: PairSource) -> bool:
    known = listed.captioned or listed.facts is not None or listed.row is not None
    return known or any(listed.extra.get(column) for column in columns_of(source).more)


def columns_of(source: PairSource) -> Columns:
    """Which columns of a table a source means; captions are in several where each has a language."""
    found = Columns(source.key, source.image, root=source.images, language=source.language_column)
    if not isinstance(source.captions, dict):
        return replace(found, caption=source.captions)
    first, *more = source.captions.values()
    return replace(found, caption=first, more=tuple(more))


def _listed(source: PairSource, splits: tuple[str, ...]) -> Iterator[Listed | Rejected | Skipped]:
    path, ending = source.path, source.path.suffix.lower()
    if source.images is not None and ending not in {*TABLES, ".parquet", _KARPATHY}:
        raise InvalidInput(f"data: {path} is no table and no Karpathy file: leave images out, or name one of these")
    if source.splits and ending != _KARPATHY:
        raise InvalidInput(f"data: {path} is no Karpathy file (.json), which alone has splits: leave them out")
    if ending == _KARPATHY and not path.is_dir():
        return list_karpathy(path, source.splits or splits, source.images)
    return list_samples([path], columns_of(source))


def _shard(listed: Listed) -> str | None:
    """The file that the pair is in along with others; None: its picture is a file of its own, as good as any."""
    if listed.row is not None:
        return listed.row.path
    return listed.image.path if listed.image is not None and listed.image.path.lower().endswith(".tar") else None
