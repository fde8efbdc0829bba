"""Read models in other layouts in place: Hugging Face's ONNX repositories, and immich's.

Each layout has its own module; this one hashes the files and makes the manifest. What a layout does not say is left
open or refused; nothing is filled in with common values.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from tuwen.bundle import huggingface, immich
from tuwen.bundle.bundle import Bundle, field_of, first_fault, read_bundle, seal, writing
from tuwen.bundle.files import cached_sha256
from tuwen.bundle.graph import read_graph
from tuwen.bundle.huggingface import Parts
from tuwen.bundle.manifest import FOREIGN, PRECISIONS, TOKENIZER, TOWERS, File, Manifest, Precision, Tower, graph
from tuwen.errors import BundleInvalid, BundleNotFound

LAYOUTS = (huggingface, immich)


def is_foreign(folder: Path) -> bool:
    """Whether the folder looks like a model in one of these layouts."""
    return any(layout.matches(folder) for layout in LAYOUTS)


def read_foreign(folder: Path, cache: Path | None = None) -> Bundle:
    """Read a model in another layout.

    Its fingerprint is computed from its files: the best precision of each tower, with its weights, and the tokenizer.
    So it does not change with the precision that is loaded, nor with the folder's name.

    Args:
        folder: the model.
        cache: where digests of unchanged files are stored.

    Raises:
        BundleNotFound: the folder has none of these layouts.
        BundleInvalid: a file or field is missing, or has a value that tuwen does not support.
    """
    for layout in LAYOUTS:
        if layout.matches(folder):
            try:
                return _bundle(folder, layout.read(folder), cache)
            except ValidationError as error:
                raise BundleInvalid(
                    f"{folder}: {first_fault(error)}; get its files again", value=field_of(error), where=folder
                ) from error
    looked = ", ".join(layout.MARK for layout in LAYOUTS)
    raise BundleNotFound(f"there is no model at {folder}: looked for {looked}", where=folder)


def _bundle(folder: Path, parts: Parts, cache: Path | None) -> Bundle:
    best = {tower: _best(folder, tower, parts.graphs) for tower in TOWERS}
    weights = {tower: _with_weights(best[tower]) for tower in TOWERS}
    hashes = {tower: [cached_sha256(path, cache) for path in weights[tower]] for tower in TOWERS}
    tokenizer = cached_sha256(parts.tokenizer, cache)
    named = [*weights["vision"], *weights["text"], parts.tokenizer]
    manifest = Manifest(
        name=name_of(folder),
        family=FOREIGN,
        source=parts.source,
        dim=parts.dim,
        weights_sha256=hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest(),
        tokenizer_sha256=tokenizer,
        image=parts.image,
        text=parts.text,
        scoring=parts.scoring,
        files=_files(folder, named, cache),
    )
    bundle = Bundle(folder, manifest, parts.graphs, parts.tokenizer)
    if not bundle.precisions:
        raise BundleInvalid(
            f"{folder} has no precision that both towers have; get the other tower's file too", where=folder
        )
    return bundle


def _best(folder: Path, tower: Tower, graphs: dict[tuple[Tower, Precision], Path]) -> Path:
    for precision in PRECISIONS:
        if (tower, precision) in graphs:
            return graphs[tower, precision]
    raise BundleInvalid(
        f"{folder} has no {tower} tower in a precision that tuwen reads ({', '.join(PRECISIONS)})",
        value=tower,
        where=folder,
    )


def _with_weights(graph: Path) -> list[Path]:
    """A graph and the files of its weights."""
    paths = [graph, *(graph.parent / name for name in read_graph(graph).weight_files)]
    for path in paths[1:]:
        if not path.is_file():
            raise BundleInvalid(f"{path} is missing, but {graph.name} has weights in it; get it too", where=path)
    return paths


def _files(folder: Path, paths: Iterable[Path], cache: Path | None) -> dict[str, File]:
    return {
        path.relative_to(folder).as_posix(): File(sha256=cached_sha256(path, cache), bytes=path.stat().st_size)
        for path in paths
    }


def name_of(folder: Path) -> str:
    """The folder's name; for a snapshot in Hugging Face's cache, the repository's."""
    place = folder.resolve()
    if place.parent.name == "snapshots":
        return place.parents[1].name.removeprefix("models--").replace("--", "/")
    return place.name


def adopt(files: Path, folder: Path, *, name: str, source: str, licence: str, cache: Path | None) -> Bundle:
    """Make a bundle from a model in another layout; it appears at `folder` complete, or not at all.

    Args:
        files: the downloaded model, which is left as it is.
        folder: the bundle's folder.
        name: the model's name.
        source: where it came from.
        licence: the licence of the weights; "" if not known.
        cache: where digests are stored.

    Raises:
        BundleInvalid: the model lacks a necessary fact or file.
    """
    foreign = read_foreign(files, cache)
    with writing(folder) as aside:
        (aside / "onnx").mkdir()
        for tower in TOWERS:
            for precision in PRECISIONS:
                if (tower, precision) in foreign.graphs:
                    _place(foreign.graphs[tower, precision], aside / graph(tower, precision))
        _share(foreign.tokenizer, aside / TOKENIZER)
        if huggingface.matches(files):  # other programs read them
            for config in {*huggingface.CONFIGS, *huggingface.PROCESSORS} - {TOKENIZER}:
                if (files / config).is_file():
                    _share(files / config, aside / config)
        changes = {"name": name, "source": source, "licence": licence}
        seal(aside, foreign.manifest.model_copy(update=changes))
    return read_bundle(folder, cache)


def _place(graph: Path, place: Path) -> None:
    """Place a graph, and beside it the files of its weights, under the names that the graph refers to."""
    _share(graph, place)
    for weights in read_graph(graph).weight_files:
        target = place.parent / weights
        if target.exists():
            raise BundleInvalid(
                f"{graph.parent.parent}: both towers have weights in a file called {weights}", value=weights
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        _share(graph.parent / weights, target)


def _share(path: Path, place: Path) -> None:
    """Place a file elsewhere as a hard link, or as a copy if that is not possible."""
    whole = path.resolve()
    try:
        os.link(whole, place)
    except OSError:
        shutil.copyfile(whole, place)
