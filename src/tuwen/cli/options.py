"""The options that commands share."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import tuwen
from tuwen.api import Encoder
from tuwen.bundle.bundle import Bundle
from tuwen.cli.command import steps_shown
from tuwen.data.datasets import expanded
from tuwen.data.pillow_warnings import silence_libtiff
from tuwen.data.selection import Selection
from tuwen.errors import InvalidInput, require
from tuwen.index.location import Location, parse_location, resolve_location
from tuwen.progress import KINDS
from tuwen.runtime.encoder import Encoder as RuntimeEncoder
from tuwen.runtime.loading import Choice, default_model, load_encoder, planned
from tuwen.runtime.machine import usable_cores
from tuwen.runtime.measured import Plans
from tuwen.runtime.selection import ASKED, FAST, RUNTIMES
from tuwen.settings import Settings, read_settings

if TYPE_CHECKING:
    from tuwen.client.client import Client  # imports httpx2, which only --url needs

F = TypeVar("F", bound=Callable[..., Any])


class NewFile(click.Path):
    """A file to write, in a folder that exists: checked before any work is done.

    `endings`: the extensions that its name may have, for example `.png`; any if there are none.
    """

    def __init__(self, *endings: str) -> None:
        super().__init__()
        self._endings = endings

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ANN401
        """The path; a usage error if it cannot be written."""
        path = Path(value)
        if not path.parent.is_dir():
            self.fail(f"{path} cannot be written: the folder {path.parent} does not exist", param, ctx)
        if path.is_dir():
            self.fail(f"{path} is a folder: name a file in it", param, ctx)
        if self._endings and path.suffix.lower() not in self._endings:
            self.fail(f"{path} cannot be written: its name must end with {' or '.join(self._endings)}", param, ctx)
        return path


class NewPlot(NewFile):
    """A plot to write; that it can be drawn is checked before any work is done."""

    def __init__(self) -> None:
        super().__init__(".png", ".svg", ".pdf")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ANN401
        """The path; a usage error if it cannot be written, `MissingExtra` if matplotlib is not installed."""
        path = super().convert(value, param, ctx)
        require("matplotlib", extra="plot")
        return path


class SamplesType(click.Path):
    """A file or folder of samples that exists, or a name with braces for several, e.g. `{00000..00009}.tar`."""

    def __init__(self) -> None:
        super().__init__(exists=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ANN401
        """The path; a usage error if one of the files does not exist."""
        for path in expanded(Path(value)):
            super().convert(path, param, ctx)
        return Path(value)


class LocationType(click.ParamType[Location]):
    """The place of an index: a folder, or a cluster's URL."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:  # noqa: ANN401
        """The place; a usage error for a URL without one."""
        try:
            return parse_location(value)
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
SAMPLES = SamplesType()
LOCATION = LocationType()

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
progress = click.option(
    "--progress",
    type=click.Choice(KINDS),
    default="auto",
    show_default=True,
    help='Progress on standard error; json: one line {"committed": n} per batch.',
)
index = click.option(
    "--index",
    "folder",
    type=LOCATION,
    metavar="INDEX",
    help="The index: a folder, or qdrant://host:6333/name; the setting TUWEN_INDEX by default.",
)

sort = click.option("--sort", metavar="FIELD", help="Order by a field, such as taken, or -taken for the newest first.")
url = click.option(
    "--url", metavar="URL", help="A running service, instead of --index; the setting TUWEN_URL by default."
)
encoding = click.option(
    "--encoding", metavar="NAME", help="The encoding of text files and tables, e.g. gb18030; UTF-8 by default."
)
COMPUTING = ("model", "runtime", "device", "precision", "threads", "exact_decode")
"""the parameters that `computing` adds"""


@dataclass(frozen=True, slots=True)
class Address:
    """The URL of a running service whose index a command uses, and its key."""

    url: str
    key: str | None

    def __str__(self) -> str:
        """The URL."""
        return self.url

    def client(self) -> "Client":
        """A client of the service."""
        return tuwen.Client(self.url, self.key)


@dataclass(frozen=True, slots=True)
class Computing:
    """The model and how it computes: the options of `computing`, over the settings.

    Attributes:
        settings: all of them.
        model: the value of `--model`, None if it is not given.
        exact_decode: whether JPEGs are decoded at full scale.
        measures: whether to measure first what is fastest here, if that is not known yet: worth it for long jobs.
    """

    settings: Settings
    model: str | None
    runtime: str
    device: str
    precision: str
    threads: int | None
    exact_decode: bool
    measures: bool = False

    @property
    def model_or_default(self) -> str:
        """The value of `--model`, or what `default_model` chooses."""
        return self.model or default_model(self.settings.default_model, self.settings.models)

    @property
    def cores(self) -> int:
        """The number of threads for computing: all usable cores unless it is given."""
        return self.threads or usable_cores()

    @property
    def choice(self) -> Choice:
        """What is asked of the engines."""
        return Choice(self.runtime, self.device, self.precision, self.threads)

    def measuring(self) -> "Computing":
        """The same for a long job, see `measures`."""
        return replace(self, measures=True)

    def plans(self, bundle: Bundle) -> Plans:
        """How a model is computed with these options."""
        with self.telling():
            return planned(bundle, self.choice, self.settings.cache, measure=self.measures)[1]

    def load(self, model: str, *, static: bool = False) -> Encoder:
        """Load a model with these options; `static`: for fixed input shapes."""
        silence_libtiff()
        with self.telling():
            return load_encoder(
                model,
                replace(self.choice, static=static),
                models=self.settings.models,
                cache=self.settings.cache,
                max_pixels=self.settings.max_pixels,
                exact_decode=self.exact_decode,
                measure=self.measures,
                kind=Encoder,
            )

    def load_in_torch(self, bundle: Bundle, weights: Path | None, *, static: bool = False) -> RuntimeEncoder:
        """A bundle's preprocessing with its checkpoint's towers in PyTorch, see `torch_encoder`."""
        require("torch", extra="export")
        from tuwen.exporting.torch_runtime import torch_encoder

        return torch_encoder(
            bundle,
            weights,
            device=self.device,
            precision=self.precision,
            threads=self.threads,
            static=static,
            max_pixels=self.settings.max_pixels,
            exact_decode=self.exact_decode,
            settings=self.settings,
        )

    def telling(self) -> AbstractContextManager[None]:
        """Within the block, print which precision `fast` is, and on a terminal that something is measured."""
        seen = self.precision == FAST or (self.measures and sys.stderr.isatty())
        return steps_shown() if seen else nullcontext()


def place(command: F) -> F:
    """Add `--index --url`; the command gets `place`: an index's place, or the `Address` of a service.

    Outermost, if a command has `computing` too: its options are refused for a service.
    """

    @wraps(command)
    def with_place(**options: Any) -> object:  # noqa: ANN401
        found = _place(options.pop("folder"), options.pop("url"))
        _check_computing(found, options)
        return command(place=found, **options)

    return index(url(with_place))  # type: ignore[return-value]


def service(command: F) -> F:
    """Add `--url` alone, for commands without an index; the command gets `service`, None if it is not given."""

    @wraps(command)
    def with_service(**options: Any) -> object:  # noqa: ANN401
        given = options.pop("url")
        found = None if given is None else Address(given, read_settings().key)
        _check_computing(found, options)
        return command(service=found, **options)

    asks = click.option("--url", metavar="URL", help="Use a running service and its model.")
    return asks(with_service)  # type: ignore[return-value]


def computing(command: F) -> F:
    """Add `--model --runtime --device --precision --threads --exact-decode`; the command gets a `Computing`."""

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
    """As `computing`, with `--runtime torch`."""
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
    """Add `--kind --metric --store`; the command gets `asked`, those that are given; see `tuwen.index.store.design`."""

    @wraps(command)
    def with_design(**words: Any) -> object:  # noqa: ANN401
        given = {name: words.pop(name) for name in ("kind", "metric", "store")}
        return command(asked={name: value for name, value in given.items() if value not in (None, "auto")}, **words)

    for option in reversed(_DESIGN):
        with_design = option(with_design)
    return with_design  # type: ignore[return-value]


_SELECTED = (
    click.option(
        "--exclude",
        multiple=True,
        metavar="GLOB",
        help="Leave out files and folders that match, as in .gitignore; repeatable. The index remembers it.",
    ),
    click.option("--include", multiple=True, metavar="GLOB", help="Take only files that match; likewise."),
    click.option(
        "--no-default-excludes",
        "all_files",
        is_flag=True,
        help="Also take system folders, previews, partial downloads and empty files.",
    ),
)


def selected(command: F) -> F:
    """Add `--exclude --include --no-default-excludes`; `command` gets `selection`, None if none of them is given."""

    @wraps(command)
    def reading(exclude: Sequence[str], include: Sequence[str], all_files: bool, **others: Any) -> object:  # noqa: ANN401
        chosen = Selection(exclude, include, not all_files)
        return command(selection=None if chosen == Selection() else chosen, **others)

    for option in reversed(_SELECTED):
        reading = option(reading)
    return reading  # type: ignore[return-value]


def _check_computing(place: object, options: Mapping[str, Any]) -> None:
    """Raise `click.UsageError` if an option is given that a service chooses itself."""
    given = [name.replace("_", "-") for name in COMPUTING if options.get(name)]
    if given and isinstance(place, Address):
        raise click.UsageError(f"--{given[0]} is chosen by the service at {place}: leave it out")


def _place(folder: Location | None, url: str | None) -> Location | Address:
    """The place of `--index` or `--url`, or of the settings.

    Raises:
        click.UsageError: neither is given, or both are.
    """
    settings = read_settings()
    if folder is None and url is None:
        folder, url = None if settings.index is None else parse_location(settings.index), settings.url
    if folder is not None and url is not None:
        raise click.UsageError(f"both an index ({folder}) and a service ({url}) are given: use --index or --url")
    if url is not None:
        return Address(url, settings.key)
    return index_folder(folder)


def as_set(model: str | None = None) -> Computing:
    """The settings' choices, for a command without options of its own."""
    settings = read_settings()
    return Computing(
        settings, model, settings.runtime, settings.device, settings.precision, settings.threads, exact_decode=False
    )


def index_folder(folder: Location | None) -> Location:
    """What `--index` says, or the setting, see `resolve_location`.

    Raises:
        click.UsageError: neither says anything.
    """
    settings = read_settings()
    chosen = folder or settings.index
    if chosen is None:
        raise click.UsageError("no index is given: add --index FOLDER, or set TUWEN_INDEX")
    return resolve_location(chosen, settings)


_DESIGN = (
    click.option("--kind", metavar="KIND", help="hnsw (or HNSW32; the default), flat or ivf."),
    click.option(
        "--metric", metavar="METRIC", help="cosine (or ip; the default) or l2; scores are cosines in either case."
    ),
    click.option(
        "--store",
        type=click.Choice(["auto", "qdrant-edge", "faiss"]),
        help="The storage engine; auto: FAISS for ivf, otherwise Qdrant Edge.",
    ),
)
_COMPUTING = (
    click.option("--model", metavar="MODEL", help="A bundle's folder, or a model's name."),
    click.option("--runtime", type=click.Choice(RUNTIMES), help="The runtime."),
    click.option("--device", metavar="DEVICE", help="For example cpu, cuda:1, openvino:GPU; see tuwen doctor."),
    click.option(
        "--precision",
        type=click.Choice(ASKED),
        help="What to compute in. auto: the fastest that is exact; fast: the fastest that passed verification.",
    ),
    click.option("--threads", type=click.IntRange(min=1), help="Threads for computing; all cores by default."),
    click.option(
        "--exact-decode", is_flag=True, help="Decode JPEGs at full scale, as the reference libraries do: slower."
    ),
)
