"""The tools that convert: one class each, which says what it runs, and runs it.

    OpenVINO   the package itself, in this process                    fp32, fp16 weights
    MNN        the converter within its package, in a process         fp32, fp16 weights
    ncnn       pnnx, a program within its package                     one row at a time
    TensorRT   trtexec, of NVIDIA's installation                      an engine for a range of batches
    Ascend     atc, of the CANN toolkit                               an OM file for each batch

Knows tools and their arguments. Does not know what is done with what they write.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.converted import Target, model_files
from tuwen.bundle.graph import read_graph
from tuwen.bundle.manifest import Tower
from tuwen.errors import InvalidInput, MissingExtra, NotConverted, RuntimeUnavailable
from tuwen.runtime.engines import import_openvino

if TYPE_CHECKING:
    from tuwen.exporting.convert import Wanted

Weights: TypeAlias = Literal["fp32", "fp16"]
Shape: TypeAlias = tuple[int | None, ...]

SHORTEST, USUAL = 4, 16
"""tokens: an engine takes texts from the one on, and is tuned for the other"""


@dataclass(frozen=True, slots=True)
class Job:
    """One tower to be converted.

    Attributes:
        bundle: whose.
        tower: which.
        graph: its ONNX file.
        folder: where to.
        precision: what weights are stored in.
        wanted: the rest of what was asked for.
    """

    bundle: Bundle
    tower: Tower
    graph: Path
    folder: Path
    precision: Weights
    wanted: "Wanted"

    def path(self, name: str) -> str:
        """A file in the folder."""
        return str(self.folder / name)

    @property
    def model(self) -> str:
        """The file that the runtime will be given."""
        return self.path(model_files(self.wanted.to, self.tower)[0])

    def shapes(self, batch: int, length: int | None = None) -> dict[str, tuple[int, ...]]:
        """Each input's shape for so many pictures, or texts of so many tokens (None: the context length)."""
        image, text = self.bundle.manifest.image, self.bundle.manifest.text
        shape = (batch, 3, *image.size) if self.tower == "vision" else (batch, length or text.context_length)
        return {port.name: shape for port in read_graph(self.graph).inputs}


class Converter(Protocol):
    """A tool.

    Attributes:
        usual: the precision where none is asked for.
    """

    usual: Weights

    def version(self) -> str:
        """Its name and version.

        Raises:
            RuntimeUnavailable: it is not installed.
            MissingExtra: likewise, where it is a package.
        """
        ...

    def commands(self, job: Job) -> list[tuple[str, ...]]:
        """What it runs, in order; empty where it works in this process."""
        ...

    def inputs(self, job: Job) -> Mapping[str, Shape]:
        """What its result takes: names and shapes."""
        ...

    def run(self, job: Job) -> None:
        """Write the files.

        Raises:
            NotConverted: it has failed.
        """
        ...


class OpenVino:
    """OpenVINO's intermediate representation: `.xml` and `.bin`."""

    usual: Weights = "fp32"

    def version(self) -> str:
        """See `Converter`."""
        return f"openvino {import_openvino().__version__.split('-')[0]}"

    def commands(self, job: Job) -> list[tuple[str, ...]]:  # noqa: ARG002
        """See `Converter`."""
        return []

    def inputs(self, job: Job) -> Mapping[str, Shape]:
        """See `Converter`."""
        return _as_in_the_graph(job)

    def run(self, job: Job) -> None:
        """See `Converter`."""
        package = import_openvino()
        try:
            model = package.convert_model(str(job.graph))
            package.save_model(model, job.model, compress_to_fp16=job.precision == "fp16")
        except RuntimeError as error:
            raise NotConverted(f"openvino cannot convert {job.graph}: {str(error).strip().splitlines()[-1]}") from error


class Mnn:
    """MNN's own format. Its command line reports to its makers' servers, so what lies below it is called."""

    usual: Weights = "fp32"

    def version(self) -> str:
        """See `Converter`."""
        return _package("mnn")

    def commands(self, job: Job) -> list[tuple[str, ...]]:
        """See `Converter`."""
        words = ["-f", "ONNX", "--modelFile", str(job.graph), "--MNNModel", job.model, "--bizCode", "tuwen"]
        words += ["--fp16"] if job.precision == "fp16" else []
        code = "import sys, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
        return [(sys.executable, "-c", code, *words)]

    def inputs(self, job: Job) -> Mapping[str, Shape]:
        """See `Converter`."""
        return _as_in_the_graph(job)

    def run(self, job: Job) -> None:
        """See `Converter`."""
        _run(self.commands(job)[0], job)
        if not Path(job.model).is_file():
            raise NotConverted(f"MNN has written nothing for {job.graph}")


class Ncnn:
    """ncnn's `.param` and `.bin`, by way of pnnx: for one row at a time, texts at full length."""

    usual: Weights = "fp32"

    def version(self) -> str:
        """See `Converter`."""
        return f"{_package('pnnx')}, {_package('ncnn')}"

    def commands(self, job: Job) -> list[tuple[str, ...]]:
        """See `Converter`."""
        kind = "f32" if job.tower == "vision" else "i64"
        shapes = ",".join(f"[{','.join(map(str, shape))}]{kind}" for shape in job.shapes(1).values())
        stored = int(job.precision == "fp16")
        return [(_pnnx(), str(job.graph), f"inputshape={shapes}", f"fp16={stored}")]

    def inputs(self, job: Job) -> Mapping[str, Shape]:
        """See `Converter`."""
        return job.shapes(1)

    def run(self, job: Job) -> None:
        """Pnnx writes eight files beside the graph, so it is given a link to it in a folder of its own."""
        with tempfile.TemporaryDirectory(dir=job.folder) as place:
            for path in job.graph.parent.iterdir():  # weights may be in files beside the graph
                (Path(place) / path.name).symlink_to(path.absolute())
            program, _, *rest = self.commands(job)[0]
            link = Path(place) / job.graph.name
            said = _run((program, str(link), *rest), job)
            missing = sorted({line.split()[1] for line in said.splitlines() if line.startswith("todo ")})
            if missing:
                raise NotConverted(
                    f"ncnn lacks {', '.join(missing)}, which the {job.tower} tower of {job.bundle.manifest.name} "
                    f"uses: convert the other one alone (--tower {'vision' if job.tower == 'text' else 'text'})"
                )
            for name, ending in zip(model_files("ncnn", job.tower), (".param", ".bin"), strict=True):
                link.with_suffix(f".ncnn{ending}").rename(job.folder / name)


class TensorRt:
    """An engine for a range of batches, by `trtexec`."""

    usual: Weights = "fp16"

    def version(self) -> str:
        """See `Converter`."""
        return _program("trtexec", "TensorRT")

    def commands(self, job: Job) -> list[tuple[str, ...]]:
        """See `Converter`."""
        batches, text = sorted(job.wanted.batches), job.bundle.manifest.text
        lengths = (SHORTEST, USUAL, text.context_length) if text.cut_exact else (text.context_length,) * 3
        sizes = (batches[0], batches[len(batches) // 2], batches[-1])
        ranges = [
            f"--{name}Shapes=" + ",".join(f"{port}:{'x'.join(map(str, shape))}" for port, shape in shapes.items())
            for name, batch, length in zip(("min", "opt", "max"), sizes, lengths, strict=True)
            for shapes in [job.shapes(batch, min(length, text.context_length))]
        ]
        reduced = ["--fp16"] if job.precision == "fp16" else []
        return [("trtexec", f"--onnx={job.graph}", f"--saveEngine={job.model}", *ranges, *reduced)]

    def inputs(self, job: Job) -> Mapping[str, Shape]:
        """See `Converter`."""
        return _as_in_the_graph(job)

    def run(self, job: Job) -> None:
        """See `Converter`."""
        for command in self.commands(job):
            _run(command, job)


class Ascend:
    """An OM file for each batch, by `atc`; texts at full length."""

    usual: Weights = "fp16"

    def version(self) -> str:
        """See `Converter`."""
        return _program("atc", "the CANN toolkit (source its set_env.sh)")

    def commands(self, job: Job) -> list[tuple[str, ...]]:
        """See `Converter`."""
        if job.wanted.chip is None:
            raise InvalidInput("atc wants the processor's name: add --chip, e.g. 310P3 or 910B4 (npu-smi info tells)")
        kept = {"fp16": "force_fp16", "fp32": "must_keep_origin_dtype"}[job.precision]
        return [
            (
                "atc",
                "--framework=5",
                f"--model={job.graph}",
                f"--output={job.path(f'{job.tower}_bs{batch}')}",
                f"--input_format={'NCHW' if job.tower == 'vision' else 'ND'}",
                f"--input_shape={_atc(job.shapes(batch))}",
                f"--precision_mode={kept}",
                f"--soc_version=Ascend{job.wanted.chip.removeprefix('Ascend')}",
                "--log=error",
            )
            for batch in job.wanted.batches
        ]

    def inputs(self, job: Job) -> Mapping[str, Shape]:
        """See `Converter`."""
        return {name: (None, *shape[1:]) for name, shape in job.shapes(1).items()}

    def run(self, job: Job) -> None:
        """See `Converter`."""
        for command in self.commands(job):
            _run(command, job)


CONVERTERS: dict[Target, Converter] = {
    "openvino": OpenVino(),
    "mnn": Mnn(),
    "ncnn": Ncnn(),
    "tensorrt": TensorRt(),
    "om": Ascend(),
}


def _as_in_the_graph(job: Job) -> Mapping[str, Shape]:
    return {port.name: port.shape for port in read_graph(job.graph).inputs}


def _atc(shapes: Mapping[str, Sequence[int]]) -> str:
    return ";".join(f"{name}:{','.join(map(str, shape))}" for name, shape in shapes.items())


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError as error:
        raise MissingExtra(name, "convert") from error


def _pnnx() -> str:
    """The program lies within its package, which would import torch."""
    found = find_spec("pnnx")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra("pnnx", "convert")
    ending = ".exe" if sys.platform == "win32" else ""
    return str(Path(found.submodule_search_locations[0]) / f"pnnx{ending}")


def _program(name: str, of: str) -> str:
    if shutil.which(name) is None:
        raise RuntimeUnavailable(
            f"{name} is not on this machine's PATH: install {of}, or print its command with --dry-run and run it "
            "where it is"
        )
    return name


def _run(command: Sequence[str], job: Job) -> str:
    """What it printed.

    Raises:
        NotConverted: it could not be run, or ended with an error.
    """
    done = subprocess.run(command, cwd=job.folder, capture_output=True, text=True, errors="replace", check=False)
    said = f"{done.stdout}\n{done.stderr}"
    if done.returncode:
        last = next((line for line in reversed(said.splitlines()) if line.strip()), "it says nothing")
        name = Path(command[0]).name
        raise NotConverted(f"{name} could not convert {job.graph} (exit code {done.returncode}): {last.strip()}")
    return said
