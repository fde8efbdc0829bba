"""Models in the layouts of others, read where they stand: Hugging Face's ONNX repositories, and immich's.

Knows what the two have in common: files to hash, tokens by name, graphs by tower. Each layout has its own file.
What a layout does not say is left open or refused; nothing is filled in with what most models have.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from tuwen.bundle import huggingface, immich
from tuwen.bundle.bundle import Bundle, first_fault, read_bundle, seal, writing
from tuwen.bundle.files import cached_sha256
from tuwen.bundle.graph import read_graph
from tuwen.bundle.huggingface import Parts
from tuwen.bundle.manifest import FOREIGN, PRECISIONS, TOKENIZER, TOWERS, File, Manifest, Precision, Tower, graph
from tuwen.errors import BundleInvalid, BundleNotFound

LAYOUTS = (huggingface, immich)


def is_foreign(folder: Path) -> bool:
    """Whether the folder looks like a model in one of these layouts."""
    return any(layout.is_here(folder) for layout in LAYOUTS)


def read_foreign(folder: Path, cache: Path | None = None) -> Bundle:
    """Read a model in the layout of others.

    Its fingerprint is made of its own files: the best precision that each tower has, with its weights, and the
    tokenizer; so it does not change with the precision that is loaded, nor with the folder's name.

    Args:
        folder: the model.
        cache: where digests of unchanged files are remembered.

    Raises:
        BundleNotFound: it is no such layout.
        BundleInvalid: a file or field is missing, or of a kind that tuwen does not know.
    """
    for layout in LAYOUTS:
        if layout.is_here(folder):
            try:
                return _bundle(folder, layout.read(folder), cache)
            except ValidationError as error:
                raise BundleInvalid(f"{folder}: {first_fault(error)}; get its files again") from error
    looked = ", ".join(layout.MARK for layout in LAYOUTS)
    raise BundleNotFound(f"there is no model at {folder}: looked for {looked}")


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
        raise BundleInvalid(f"{folder} has no precision that both towers have; get the other tower's file too")
    return bundle


def _best(folder: Path, tower: Tower, graphs: dict[tuple[Tower, Precision], Path]) -> Path:
    for precision in PRECISIONS:
        if (tower, precision) in graphs:
            return graphs[tower, precision]
    raise BundleInvalid(f"{folder} has no {tower} tower in a precision that tuwen reads ({', '.join(PRECISIONS)})")


def _with_weights(graph: Path) -> list[Path]:
    """A graph and the files that hold its weights."""
    paths = [graph, *(graph.parent / name for name in read_graph(graph).weight_files)]
    for path in paths[1:]:
        if not path.is_file():
            raise BundleInvalid(f"{path} is missing, but {graph.name} has weights in it; get it too")
    return paths


def _files(folder: Path, paths: Iterable[Path], cache: Path | None) -> dict[str, File]:
    return {
        path.relative_to(folder).as_posix(): File(sha256=cached_sha256(path, cache), bytes=path.stat().st_size)
        for path in paths
    }


def name_of(folder: Path) -> str:
    """The folder's name; of a snapshot in Hugging Face's cache, the repository's."""
    place = folder.resolve()
    if place.parent.name == "snapshots":
        return place.parents[1].name.removeprefix("models--").replace("--", "/")
    return place.name


# ---- A model in a layout of others, made a bundle of tuwen's own: no torch is needed.


def adopt(files: Path, folder: Path, *, name: str, source: str, licence: str, cache: Path | None) -> Bundle:
    """Make a bundle at `folder` of a model in another layout; it appears there complete, or not at all.

    Args:
        files: the model as it was fetched; stays as it is.
        folder: where the bundle shall be.
        name: what to call the model.
        source: where it came from.
        licence: of the weights, "" where it is not known.
        cache: where digests are remembered.

    Raises:
        BundleInvalid: the model lacks a fact or a file.
    """
    foreign = read_foreign(files, cache)
    with writing(folder) as aside:
        (aside / "onnx").mkdir()
        for tower in TOWERS:
            for precision in PRECISIONS:
                if (tower, precision) in foreign.graphs:
                    _place(foreign.graphs[tower, precision], aside / graph(tower, precision))
        _share(foreign.tokenizer, aside / TOKENIZER)
        if huggingface.is_here(files):  # they describe this layout to other programs
            for config in {*huggingface.CONFIGS, *huggingface.PROCESSORS} - {TOKENIZER}:
                if (files / config).is_file():
                    _share(files / config, aside / config)
        changes = {"name": name, "source": source, "licence": licence}
        seal(aside, foreign.manifest.model_copy(update=changes))
    return read_bundle(folder, cache)


def _place(graph: Path, place: Path) -> None:
    """A graph, and beside it the files that hold its weights: they are found by the names that it has for them."""
    _share(graph, place)
    for weights in read_graph(graph).weight_files:
        target = place.parent / weights
        if target.exists():
            raise BundleInvalid(f"{graph.parent.parent}: both towers have weights in a file called {weights}")
        target.parent.mkdir(parents=True, exist_ok=True)
        _share(graph.parent / weights, target)


def _share(path: Path, place: Path) -> None:
    """The same bytes at another place: one file with two names where the disk can do that, else a copy."""
    whole = path.resolve()
    try:
        os.link(whole, place)
    except OSError:
        shutil.copyfile(whole, place)
