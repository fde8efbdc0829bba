"""An encoder and an index that fit each other, as the options ask for.

Knows which model a command takes: the one that is named, else the index's own, else the default for a new index;
never another in silence. Does not know what is done with them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tuwen.cli.options import Computing

if TYPE_CHECKING:
    from tuwen.index.index import Index
    from tuwen.runtime.encoder import Encoder


@contextmanager
def opened(folder: Path, computing: Computing) -> Iterator[tuple["Encoder", "Index"]]:
    """The index in `folder`, and its model.

    Raises:
        IndexNotFound: there is none.
        BundleNotFound: its model is not on this machine.
        WrongModel: `--model` names another model than the index's.
    """
    from tuwen.index.index import Index

    encoder = computing.load(computing.model) if computing.model else _own_model(folder, computing)
    with Index.open(folder, encoder=encoder, lock_timeout=computing.settings.lock_timeout) as index:
        yield encoder, index


@contextmanager
def opened_or_new(folder: Path, root: Path, computing: Computing) -> Iterator[tuple["Encoder", "Index"]]:
    """The index of the pictures below `root`: gone on with, or begun.

    Raises:
        InvalidInput: the index is of another root.
        BundleNotFound: a new index's model is not on this machine.
    """
