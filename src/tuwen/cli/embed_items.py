"""Single pictures and texts of `tuwen embed`: by a bundle's files on a runtime, or by its checkpoint in PyTorch."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuwen.cli import hub
from tuwen.cli.ending import say
from tuwen.cli.output import count, emit
from tuwen.errors import InvalidInput
from tuwen.extras import require
from tuwen.index.place import Place

if TYPE_CHECKING:
    from tuwen.bundle.layout import Tower
    from tuwen.cli.options import Computing
    from tuwen.runtime.encoder import Encoder
    from tuwen.runtime.session import Session


@dataclass(frozen=True, slots=True)
class Items:
    """What is to be embedded, and how.

    Attributes:
        sources: pictures where files of these names exist, else texts.
        texts: texts in any case.
        output: a file for the vectors, None for none; of samples in bulk, a folder or an index.
        weights: the checkpoint, or the file of its weights, for PyTorch.
        static: in shapes that do not change.
    """

    sources: Sequence[str]
    texts: Sequence[str]
    output: Place | None
    weights: Path | None
    static: bool

    def place_of_bulk(self, computing: "Computing") -> Place:
        """Where the vectors of samples in bulk go.

        Raises:
            click.UsageError: it is not said, or something is asked for that is for single items.
        """
        asked = {
            "--text": self.texts,
            "--static": self.static,
            "--weights": self.weights,
            "--runtime torch": computing.runtime == "torch",
        }
        for option, given in asked.items():
            if given:
                raise click.UsageError(f"{option} is for single items: {self.sources[0]} holds samples")
        if self.output is None:
            raise click.UsageError("say where the vectors go: add -o OUT")
        return self.output


def embed_items(items: Items, computing: "Computing", *, as_json: bool) -> int:
    """Embed them, print or save the vectors; the exit code."""
    from tuwen.tasks.items import embed_items as embed
    from tuwen.tasks.items import is_picture, save_items

    if not items.sources and not items.texts:
        raise click.UsageError("name what to embed: pictures, texts, or what holds samples")
    file = _file(items.output)
    for source in items.sources:
        is_picture(source)  # a slip of the pen is told before a model is loaded
    encoder = _encoder(items, computing)
    vectors = embed(items.sources, encoder, texts=items.texts)
    if file is not None:
        save_items(vectors, file)
        say(f"{count(len(vectors), 'vector')}: {file}")
    rows = [asdict(item) | {"vector": item.vector.tolist()} for item in vectors]
    if as_json:
        emit({"model": encoder.name, "fingerprint": encoder.fingerprint, "dim": encoder.dim, "vectors": rows})
    elif file is None:
        for row in rows:
            click.echo(json.dumps(row["vector"]))
    return 0


def _file(output: Place | None) -> Path | None:
    """The array's file; InvalidInput for anything else."""
    if output is None or (isinstance(output, Path) and output.suffix == ".npy"):
        return output
    raise InvalidInput(f"{output}: vectors of single items are saved as one file: name it something.npy")


def _encoder(items: Items, computing: "Computing") -> "Encoder":
    model = computing.model or computing.settings.default_model
    if computing.runtime == "torch":
        return _in_torch(model, items, computing)
    if items.weights is not None:
        raise click.UsageError("--weights is the checkpoint: add --runtime torch")
    return computing.load(model, static=items.static)


def _in_torch(model: str, items: Items, computing: "Computing") -> "Encoder":
    """The bundle's own preprocessing, and its checkpoint's towers.

    Raises:
        MissingExtra: torch is not installed.
        InvalidInput: the checkpoint is not here, or not the one that the bundle was made from.
    """
    from tuwen.runtime.encoder import Encoder
    from tuwen.tasks.load import find_bundle

    settings = computing.settings
    bundle = find_bundle(model, settings.models, settings.cache)
    found = hub.checkpoint_of(bundle.manifest, items.weights, settings)
    torch = require("torch", extra="export")
    from tuwen.models.session import torch_session
    from tuwen.models.sources import load_source
    from tuwen.runtime.session import hold_still

    towers = load_source(found.source, found.weights)
    if towers.weights_sha256() != bundle.manifest.weights_sha256:
        raise InvalidInput(
            f"{found.weights or found.source} is not the checkpoint that {bundle.folder} was made from"
        )
    device = ("cuda" if torch.cuda.is_available() else "cpu") if computing.device == "auto" else computing.device
    precision = "fp32" if computing.precision == "auto" else computing.precision

    def opened(tower: "Tower") -> "Session":
        session = torch_session(towers, tower, device=device, precision=precision, threads=computing.threads)
        return hold_still(session, towers.text_spec.context_length) if items.static else session

    exact, most = computing.exact_decode, settings.max_pixels
    return Encoder(bundle, opened, precision=precision, max_pixels=most, exact_decode=exact)
