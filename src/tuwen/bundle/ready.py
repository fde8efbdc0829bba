"""A model in a layout of others, made a bundle of tuwen's own: no torch is needed.

Knows where its files go in a bundle. What they compute is not changed, nor what identifies the model; nothing is
verified against a checkpoint, which was never here.
"""

import os
import shutil
from pathlib import Path

from tuwen.bundle import huggingface, layout
from tuwen.bundle.bundle import Bundle, read_bundle, seal, writing
from tuwen.bundle.foreign import read_foreign
from tuwen.bundle.graph import read_graph
from tuwen.bundle.manifest import PRECISIONS
from tuwen.errors import BundleInvalid


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
        for tower in layout.TOWERS:
            for precision in PRECISIONS:
                if (tower, precision) in foreign.graphs:
                    _place(foreign.graphs[tower, precision], aside / layout.graph(tower, precision))
        _share(foreign.tokenizer, aside / layout.TOKENIZER)
        if huggingface.is_here(files):  # they describe this layout to other programs
            for config in {*huggingface.CONFIGS, *huggingface.PROCESSORS} - {layout.TOKENIZER}:
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
