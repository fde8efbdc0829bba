"""An encoder and an index that fit each other, as the options ask for.

Knows which model a command takes: the one that is named, else the index's own, else the default for a new index;
never another in silence. Does not know what is done with them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from tuwen.cli.options import Address, Computing, read_settings
from tuwen.cli.places import Here, Rows, Searched, Served, ServedRows
from tuwen.errors import BundleNotFound, IndexNotFound, InvalidInput
from tuwen.index.place import Place

if TYPE_CHECKING:
    from tuwen.index.index import Index
    from tuwen.index.manifest import Manifest
    from tuwen.runtime.encoder import Encoder


@contextmanager
def opened(folder: Place, computing: Computing) -> Iterator[tuple["Encoder", "Index"]]:
    """The index in `folder`, and its model.

    Raises:
        IndexNotFound: there is none.
        BundleNotFound: its model is not on this machine.
        WrongModel: `--model` names another model than the index's.
    """
    from tuwen.index.index import Index
    from tuwen.index.opening import manifest_of

    encoder = _model_of(manifest_of(folder), folder, computing)
    settings = computing.settings
    with Index.open(
        folder, encoder=encoder, lock_timeout=settings.lock_timeout, quantize_above=settings.quantize_above
    ) as index:
        yield encoder, index


@contextmanager
def opened_or_new(
    folder: Place,
    root: Path,
    computing: Computing,
    asked: Mapping[str, str] = MappingProxyType({}),
    *,
    anywhere: bool = False,
) -> Iterator[tuple["Encoder", "Index"]]:
    """The index of the pictures below `root`: gone on with, or begun with the default model if none is named.

    Args:
        folder: the index.
        root: the collection.
        computing: the model.
        asked: of what kind, metric and store it shall be, see `design`; what is not said may be anything.
        anywhere: go on with an index of another root, too; a new one is of this root.

    Raises:
        InvalidInput: the index has another root, or is not as it is asked to be.
        BundleNotFound: the model is not on this machine.
        WrongModel: `--model` names another model than the index's.
    """
    from tuwen.index.opening import design_at, make, manifest_of, root_of

    try:
        manifest = manifest_of(folder)
    except IndexNotFound:
        model = computing.model or computing.settings.default_model
        make(folder, computing.load(model), root, design_at(folder, asked), bundle=place_of(model))
    else:
        check_design(manifest, folder, asked)
        base = root_of(manifest, folder)
        if not anywhere and not (base.exists() and base.samefile(root)):
            raise InvalidInput(
                f"{folder} is the index of {base}, not of {root}: tuwen index add {root} --index {folder} adds to "
                "it, another --index makes a new one"
            )
    with opened(folder, computing) as both:
        yield both


@contextmanager
def opened_alone(place: Place | Address) -> Iterator[Rows]:
    """The index in a folder without its model, or a service's: enough to look at rows and to take some out."""
    from tuwen.index.index import Index

    if isinstance(place, Address):
        with place.client() as client:
            yield ServedRows(client)
        return
    with Index.open(place, encoder=None, lock_timeout=read_settings().lock_timeout) as index:
        yield index


def check_design(manifest: "Manifest", folder: Place, asked: Mapping[str, str]) -> None:
    """An index stays what it was made as: said, where something else is asked for."""
    from tuwen.index.kinds import design

    made = {"kind": manifest.kind, "metric": manifest.metric, "store": manifest.store}
    if design(**{**made, **asked}) != design(**made):
        raise InvalidInput(
            f"{folder} is of kind {manifest.kind} and metric {manifest.metric} in {manifest.store}, and stays so: "
            "leave out --kind, --metric and --store, or make another --index"
        )


@contextmanager
def opened_to_search(place: Place | Address, computing: Computing) -> Iterator[Searched]:
    """The index in a folder with its model, or a service; errors as `opened`."""
    if isinstance(place, Address):
        with place.client() as client:
            yield Served(client)
        return
    with opened(place, computing) as (encoder, index):
        yield Here(encoder, index)


def place_of(model: str) -> str:
    """A model's folder as an absolute path, so that it is found from anywhere; any other name as it is."""
    from tuwen.tasks.load import folder_named

    folder = folder_named(model)
    return str(folder.absolute()) if folder.is_dir() and model != "demo" else model


def _model_of(manifest: "Manifest", folder: Place, computing: Computing) -> "Encoder":
    """The model that is named, else the index's own: where it was when the index was made, or by its name."""
    if computing.model is not None:
        return computing.load(computing.model)
    for model in filter(None, (manifest.bundle, manifest.model)):
        with suppress(BundleNotFound):
            return computing.load(model)
    raise BundleNotFound(
        f"{folder} was made with the model {manifest.model} ({manifest.bundle}), which is not on this machine: put "
        f"it back, or get it with tuwen pull {manifest.model}, or say where it is with --model FOLDER"
    )
