"""The options that commands share, read once into one value.

Knows settings and their options. Does not know any command.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import tuwen
from tuwen.api import Encoder
from tuwen.data.pillow_warnings import silence_libtiff
from tuwen.errors import InvalidInput, require
from tuwen.index.location import Place, located, place_of
from tuwen.progress import KINDS
from tuwen.runtime.loading import Choice, load_encoder
from tuwen.runtime.machine import usable_cores
from tuwen.settings import Settings, read_settings

if TYPE_CHECKING:
    from tuwen.client.client import Client  # imports httpx2, which only --url needs

F = TypeVar("F", bound=Callable[..., Any])


class NewFile(click.Path):
    """A file to be written, in a folder that is there: found out before any work is done.

    `endings`: what its name may end with, e.g. `.png`, where that says what is written; any where there are none.
    """

    def __init__(self, *endings: str) -> None:
        super().__init__()
        self._endings = endings

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ANN401
        """The path; a usage error if it cannot be written to."""
        path = Path(value)
        if not path.parent.is_dir():
            self.fail(f"{path} cannot be written: there is no folder {path.parent}", param, ctx)
        if path.is_dir():
            self.fail(f"{path} is a folder: name a file in it", param, ctx)
        if self._endings and path.suffix.lower() not in self._endings:
            self.fail(f"{path} cannot be written: its name must end with {' or '.join(self._endings)}", param, ctx)
        return path


class NewPlot(NewFile):
    """A plot to be drawn, with what draws it: found out before what it shows is measured."""

    def __init__(self) -> None:
        super().__init__(".png", ".svg", ".pdf")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ANN401
        """The path; a usage error if it cannot be written to, `MissingExtra` if nothing can draw it."""
        path = super().convert(value, param, ctx)
        require("matplotlib", extra="plot")
        return path


class PlaceType(click.ParamType[Place]):
    """Where an index is or shall be: a folder, or a cluster's URL."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:  # noqa: ANN401
        """The place; a usage error if it is a URL that names none."""
        try:
            return place_of(value)
        except InvalidInput as error:
            self.fail(str(error), param, ctx)


class Words(click.ParamType[tuple[str, ...]]):
    """Words with commas between them."""

    name = "list"

    def convert(self, value: object, param: object, ctx: object) -> tuple[str, ...]:  # noqa: ARG002
        """The words, each once."""
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(word.strip() for word in str(value).split(",") if word.strip()))


class Sizes(click.ParamType[tuple[int, ...]]):
    """Batch sizes with commas between them."""

    name = "sizes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers, in order, each once; a usage error if one is none."""
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",")]
        if not all(word.isdecimal() and int(word) for word in words):
            self.fail(f"{value!r} are no batch sizes: write whole numbers from 1 on, e.g. 1,8,32", param, ctx)
        return tuple(sorted({int(word) for word in words}))


FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_FILE = NewFile()
NEW_PICTURE = NewFile(".png", ".jpg", ".webp")
NEW_PLOT = NewPlot()
EXISTING = click.Path(exists=True, path_type=Path)
ANY_PATH = click.Path(path_type=Path)
PLACE = PlaceType()

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
progress = click.option(
    "--progress",
    type=click.Choice(KINDS),
    default="auto",
    show_default=True,
    help='What standard error shows meanwhile; json: one line {"committed": n} a batch.',
)
index = click.option(
    "--index",
    "folder",
    type=PLACE,
    metavar="INDEX",
    help="The index: a folder, or qdrant://host:6333/name; else the setting TUWEN_INDEX.",
)

url = click.option("--url", metavar="URL", help="A running service, in place of --index; else TUWEN_URL.")
COMPUTING = ("model", "runtime", "device", "precision", "threads", "exact_decode")
"""the parameters of the options of `computing`"""


@dataclass(frozen=True, slots=True)
class Address:
    """A running service whose index a command works on, and the key that it wants. As text: where it answers."""

    url: str
    key: str | None

    def __str__(self) -> str:
        """As people type it."""
        return self.url

    def client(self) -> "Client":
        """A client of it."""
        return tuwen.Client(self.url, self.key)


@dataclass(frozen=True, slots=True)
class Computing:
    """Which model, and how it computes: the options of `computing`, over the settings.

    Attributes:
        settings: all of them.
        model: what `--model` says, None where it says nothing.
        exact_decode: whether JPEGs are decoded at full scale.
    """

    settings: Settings
    model: str | None
    runtime: str
    device: str
    precision: str
    threads: int | None
    exact_decode: bool

    @property
    def cores(self) -> int:
        """Threads that read and decode: as many as compute."""
        return self.threads or usable_cores()

    def load(self, model: str, *, static: bool = False) -> Encoder:
        """The encoder of that model, as the options want it to compute; `static`: in shapes that do not change."""
        silence_libtiff()
        return load_encoder(
            model,
            Choice(self.runtime, self.device, self.precision, self.threads, static),
            models=self.settings.models,
            cache=self.settings.cache,
            max_pixels=self.settings.max_pixels,
            exact_decode=self.exact_decode,
            kind=Encoder,
        )


def place(command: F) -> F:
    """Add `--index --url`; `command` gets one `place`: an index's folder, or the `Address` of a service.

    Outside of `computing`, if a command has both: what a service computes with is its own choice.
    """

    @wraps(command)
    def with_place(**options: Any) -> object:  # noqa: ANN401
        found = _place(options.pop("folder"), options.pop("url"))
        _check_computing(found, options)
        return command(place=found, **options)

    return index(url(with_place))  # type: ignore[return-value]


def service(command: F) -> F:
    """Add `--url` alone, for what needs no index; `command` gets one `service`, None where it is not said."""

    @wraps(command)
    def with_service(**options: Any) -> object:  # noqa: ANN401
        given = options.pop("url")
        found = None if given is None else Address(given, read_settings().key)
        _check_computing(found, options)
        return command(service=found, **options)

    asks = click.option("--url", metavar="URL", help="Ask a running service, with its model.")
    return asks(with_service)  # type: ignore[return-value]


def computing(command: F) -> F:
    """Add `--model --runtime --device --precision --threads --exact-decode`; `command` gets one `Computing`."""

    @wraps(command)
    def with_computing(**options: Any) -> object:  # noqa: ANN401
        given = {name: options.pop(name) for name in COMPUTING if name != "exact_decode"}
        exact = options.pop("exact_decode")
        chosen = {name: value for name, value in given.items() if value is not None}
        return command(computing=replace(as_set(), exact_decode=exact, **chosen), **options)

    for option in reversed(_COMPUTING):
        with_computing = option(with_computing)
    return with_computing  # type: ignore[return-value]


def computing_in_torch_too(command: F) -> F:
    """As `computing`, where `--runtime torch` is a choice, too."""
    with_computing = computing(command)
    for option in with_computing.__click_params__:  # type: ignore[attr-defined]
        if option.name == "runtime":
            option.type = click.Choice([*option.type.choices, "torch"])
    return with_computing


def computing_of_argument(command: F) -> F:
    """As `computing_in_torch_too`, of a command whose argument `model` names the model: without `--model`."""
    with_computing = computing_in_torch_too(command)
    parameters = with_computing.__click_params__  # type: ignore[attr-defined]
    parameters[:] = [parameter for parameter in parameters if parameter.name != "model"]
    return with_computing


def designed(command: F) -> F:
    """Add `--kind --metric --store`; `command` gets what is said of them, see `index/kinds.py`."""

    @wraps(command)
    def with_design(**words: Any) -> object:  # noqa: ANN401
        given = {name: words.pop(name) for name in ("kind", "metric", "store")}
        return command(asked={name: value for name, value in given.items() if value not in (None, "auto")}, **words)

    for option in reversed(_DESIGN):
        with_design = option(with_design)
    return with_design  # type: ignore[return-value]


def _check_computing(place: object, options: Mapping[str, Any]) -> None:
    """Raises click.UsageError: what a service computes with is asked for."""
    given = [name.replace("_", "-") for name in COMPUTING if options.get(name)]
    if given and isinstance(place, Address):
        raise click.UsageError(f"--{given[0]} is for the service at {place} to say: leave it out")


def _place(folder: Place | None, url: str | None) -> Place | Address:
    """What `--index` or `--url` says, or the settings.

    Raises:
        click.UsageError: neither says anything, or both do.
    """
    settings = read_settings()
    if folder is None and url is None:
        folder, url = None if settings.index is None else place_of(settings.index), settings.url
    if folder is not None and url is not None:
        raise click.UsageError(f"both an index ({folder}) and a service ({url}) are given: say --index or --url")
    if url is not None:
        return Address(url, settings.key)
    return index_folder(folder)


def as_set(model: str | None = None) -> Computing:
    """How the settings want it, where a command line says nothing."""
    settings = read_settings()
    return Computing(
        settings, model, settings.runtime, settings.device, settings.precision, settings.threads, exact_decode=False
    )


def index_folder(folder: Place | None) -> Place:
    """What `--index` says, or the setting, see `located`.

    Raises:
        click.UsageError: neither says anything.
    """
    settings = read_settings()
    chosen = folder or settings.index
    if chosen is None:
        raise click.UsageError("no index is given: add --index FOLDER, or set TUWEN_INDEX")
    return located(chosen, settings)


_DESIGN = (
    click.option("--kind", metavar="KIND", help="How rows are found: hnsw (or HNSW32; the default), flat or ivf."),
    click.option("--metric", metavar="METRIC", help="cosine (or ip; the default) or l2; scores are cosines anyway."),
    click.option(
        "--store",
        type=click.Choice(["auto", "qdrant-edge", "faiss"]),
        help="What keeps the rows; auto: FAISS for ivf, else Qdrant Edge.",
    ),
)
_COMPUTING = (
    click.option("--model", metavar="MODEL", help="A bundle's folder, a model's name, or demo."),
    click.option("--runtime", type=click.Choice(["auto", "onnxruntime", "openvino"]), help="What computes."),
    click.option("--device", metavar="DEVICE", help="E.g. cpu, cuda:1, openvino:GPU; see tuwen doctor."),
    click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]), help="What in."),
    click.option("--threads", type=click.IntRange(min=1), help="Threads for computing; all cores by default."),
    click.option("--exact-decode", is_flag=True, help="Decode JPEGs at full scale: slower, bit-exact resizing."),
)
