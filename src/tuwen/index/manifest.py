"""`index.json`: what an index is. Written to a temporary file and renamed, so it is complete at any moment."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import quote, unquote_to_bytes

from pydantic import BaseModel, ConfigDict, ValidationError

from tuwen.bundle.files import replace_text
from tuwen.errors import IndexInvalid, IndexNotFound
from tuwen.index.store import Kind, Metric, StoreName

MANIFEST = "index.json"
FORMAT = 1
_RAW = "percent-encoded:"


class Manifest(BaseModel):
    """The whole of `index.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    format: Literal[1] = 1
    """the version of the folder's layout"""
    store: StoreName = "qdrant-edge"
    """the storage engine"""
    kind: Kind = "hnsw"
    """how rows are found: `hnsw` compares few one by one and finds many through a graph; `flat` compares all; `ivf`
    compares those of the nearest lists"""
    metric: Metric = "cosine"
    """how near two vectors are; of vectors of length 1 both have one order"""
    model: str
    """the name of the model whose vectors these are"""
    fingerprint: str
    """what identifies that model"""
    bundle: str = ""
    """where that model was when the index was created: an absolute path, or a name. Only a hint: the fingerprint
    decides"""
    dim: int
    """the length of a vector"""
    generation: int = 0
    """how often the index was migrated to another model; after the second time, its rows are in the subfolder
    `rows-2`"""
    root: str
    """the folder that keys are relative to: absolute; or relative to the index, where one of the two is in the
    other's parent folder, so that both can be moved together"""
    precisions: tuple[str, ...] = ()
    """the precisions of all rows that were ever written"""
    created: str
    """when, ISO 8601 in UTC"""


def read_manifest(folder: Path | str) -> Manifest:
    """Read the manifest of an index, without waiting for its lock.

    Raises:
        IndexNotFound: there is none.
        IndexInvalid: `index.json` is not one that this version reads.
    """
    path = Path(folder) / MANIFEST
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > FORMAT:
            raise IndexInvalid(
                f"{path} has format {content['format']}, but this version of tuwen reads up to {FORMAT}; upgrade tuwen",
                value="format",
                where=path,
                hint="upgrade tuwen",
            )
        return Manifest.model_validate_json(json.dumps(content))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise not_found(folder) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        hint = "correct it, or build the index again"
        raise IndexInvalid(f"{path}: {field}: {first['msg']}; {hint}", value=field, where=path, hint=hint) from error
    except ValueError as error:
        hint = "restore a copy, or build the index again"
        raise IndexInvalid(f"{path} is not JSON ({error}); {hint}", where=path, hint=hint) from error


def not_found(folder: Path | str) -> IndexNotFound:
    """The error for a folder that is no index."""
    hint = f"build one with tuwen index build PHOTOS/ --index {folder}"
    return IndexNotFound(f"there is no index at {folder}: {hint}", value=str(folder), hint=hint)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `index.json`; on return it is on the disk."""
    write_model(folder / MANIFEST, manifest)


def write_model(path: Path, model: BaseModel) -> None:
    """Write values as JSON, aside and renamed into place; on return they are on the disk. The folder must be locked.

    What a kill leaves aside is overwritten by the next write.
    """
    write_json(path, model.model_dump(mode="json"))


def write_json(path: Path, document: object) -> None:
    """Write a document as `write_model` does."""
    replace_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n", mode=0o644)


def root_to_text(root: Path, folder: Path | None) -> str:
    """A collection's root as `index.json` has it, see `Manifest.root`. `folder`: the index's; None: it has none."""
    base, home = _absolute(root), None if folder is None else _absolute(folder)
    near = home is not None and (base.is_relative_to(home.parent) or home.is_relative_to(base))
    raw = os.fsencode(os.path.relpath(base, home) if near else base)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return _RAW + quote(raw)
    return _RAW + quote(raw) if text.startswith(_RAW) else text


def root_from_text(text: str, folder: Path) -> Path:
    """The inverse of `root_to_text`, as an absolute path."""
    raw = unquote_to_bytes(text.removeprefix(_RAW)) if text.startswith(_RAW) else text.encode()
    return _absolute(folder / os.fsdecode(raw))


def _absolute(path: Path) -> Path:
    """Without `..`, and without following links, so that names stay as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100


class Model(Protocol):
    """What an index needs of the model whose vectors it stores. An `Encoder` is one.

    Attributes:
        name: its name.
        dim: the length of a vector.
        fingerprint: models of the same fingerprint compute comparable vectors.
        precision: what it computes the vectors of images in, e.g. `fp32`, `int8`.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class KnownModel:
    """The facts about a model that is not loaded, which are enough to copy its vectors. See `Model`."""

    name: str
    dim: int
    fingerprint: str
    precision: str


@dataclass(frozen=True, slots=True)
class Info:
    """Facts about an index.

    Attributes:
        index: its folder, or a cluster's URL.
        rows: the number of rows.
        dim: the length of a vector.
        metric: `cosine` or `l2`: how vectors are compared; scores are cosines in any case.
        kind: `hnsw`: through a graph, once there are rows enough; `flat`: compared one by one; `ivf`: in lists.
        searched: the kind that is searched at present: `ivf` with too few rows is `flat`.
        store: the storage engine: `qdrant-edge`, `faiss`, or `qdrant`, which is a cluster.
        model: whose vectors these are.
        fingerprint: what identifies that model.
        bytes: the folder's size on the disk; None for a cluster, which does not report it.
        precisions: the precisions of all rows that were ever written.
    """

    index: str
    rows: int
    dim: int
    metric: str
    kind: str
    searched: str
    store: str
    model: str
    fingerprint: str
    bytes: int | None
    precisions: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks about these rows, one line each; mostly none."""
        return precision_notes(self.index, self.precisions) + kind_notes(self)


def precision_notes(index: str, precisions: Sequence[str]) -> tuple[str, ...]:
    """A line if rows computed in int8 are mixed with others; other precisions hardly differ."""
    others = [precision for precision in precisions if precision != "int8"]
    if not others or len(others) == len(precisions):
        return ()
    return (
        f"{index} has rows computed in int8 and in {', '.join(others)}: the same image scores slightly "
        "differently; build it again in one --precision",
    )


def kind_notes(info: Info) -> tuple[str, ...]:
    """A line if an `ivf` index is searched as `flat`."""
    if info.kind != "ivf" or info.searched == "ivf":
        return ()
    return (
        f"{info.index} is being searched exhaustively for now: its {info.rows:,} rows are too few for IVF, or have "
        "not been built into lists yet",
    )
