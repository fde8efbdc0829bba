"""The tools that convert a bundle's graphs for other runtimes.

OpenVINO   the package openvino, in this process             weights in fp32 or fp16
MNN        the converter in the package mnn                  weights in fp32 or fp16
ncnn       pnnx, a program in the package pnnx               one image or text at a time
TensorRT   trtexec, of an NVIDIA TensorRT installation       one engine for a range of batch sizes
Ascend OM  atc, of the CANN toolkit                          one file for each batch size
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
from typing import ClassVar, Literal, TypeAlias

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.converted import Target, model_files
from tuwen.bundle.graph import read_graph
from tuwen.bundle.manifest import Tower
from tuwen.errors import InvalidInput, MissingExtra, NotConverted, RuntimeUnavailable
from tuwen.runtime.engines import import_openvino

Weights: TypeAlias = Literal["fp32", "fp16"]
Shape: TypeAlias = tuple[int | None, ...]

SHORTEST, TYPICAL = 4, 16
"""tokens: the shortest text that an engine accepts, and the length that it is tuned for"""


@dataclass(frozen=True, slots=True)
class Job:
    """One tower to convert.

    Attributes:
        bundle: its bundle.
        tower: which one.
        graph: its ONNX file.
        folder: where the result is written.
        to: the runtime to convert for.
        precision: the precision that weights are stored in.
        batches: batch sizes, smallest first, for tools that build for given sizes.
        chip: the processor's name, for OM.
    """

    bundle: Bundle
    tower: Tower
    graph: Path
    folder: Path
    to: Target
    precision: Weights
    batches: Sequence[int]
    chip: str | None

    @property
    def model(self) -> str:
        """The path of the file that the runtime loads."""
        return str(self.folder / model_files(self.to, self.tower)[0])

    def shapes(self, batch: int, length: int | None = None) -> dict[str, tuple[int, ...]]:
        """The shape of each input for a batch of images, or of texts of a length (by default the context length)."""
        image, text = self.bundle.manifest.image, self.bundle.manifest.text
        shape = (batch, 3, *image.size) if self.tower == "vision" else (batch, length or text.context_length)
        return {port.name: shape for port in read_graph(self.graph).inputs}


class Tool:
    """A converter: a subclass names its commands, or converts in this process."""

    default: ClassVar[Weights] = "fp32"
    """the precision of weights if none is asked for"""

    def version(self) -> str:
        """The tool's name and version.

        Raises:
            RuntimeUnavailable: the program is not installed.
            MissingExtra: the package is not installed.
        """
        raise NotImplementedError

    def commands(self, job: Job) -> list[tuple[str, ...]]:  # noqa: ARG002
        """The commands that convert a tower, in order; empty if that happens in this process."""
        return []

    def inputs(self, job: Job) -> Mapping[str, Shape]:
        """The names and shapes of the result's inputs."""
        return {port.name: port.shape for port in read_graph(job.graph).inputs}

    def run(self, job: Job) -> None:
        """Convert a tower.

        Raises:
            NotConverted: the tool failed.
        """
        for command in self.commands(job):
            run_command(command, job)


class OpenVino(Tool):
    """OpenVINO's intermediate representation: `.xml` and `.bin`."""

    def version(self) -> str:  # noqa: D102
        return f"openvino {import_openvino().__version__.split('-')[0]}"

    def run(self, job: Job) -> None:  # noqa: D102
        openvino = import_openvino()
        from openvino.tools.ovc import convert_model  # which `import_openvino` leaves out

        try:
            model = convert_model(str(job.graph))
            openvino.save_model(model, job.model, compress_to_fp16=job.precision == "fp16")
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise NotConverted(f"openvino cannot convert {job.graph}: {reason}", where=job.graph) from error


class Mnn(Tool):
    """MNN's own format. The function below `mnnconvert` is called: that command reports to its makers' servers."""

    def version(self) -> str:  # noqa: D102
        return package_version("mnn")

    def commands(self, job: Job) -> list[tuple[str, ...]]:  # noqa: D102
        options = ["-f", "ONNX", "--modelFile", str(job.graph), "--MNNModel", job.model, "--bizCode", "tuwen"]
        options += ["--fp16"] if job.precision == "fp16" else []
        code = "import sys, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
        return [(sys.executable, "-c", code, *options)]

    def run(self, job: Job) -> None:  # noqa: D102
        super().run(job)
        if not Path(job.model).is_file():  # it exits with 0 when it fails
            raise NotConverted(f"MNN wrote nothing for {job.graph}", where=job.graph)


class Ncnn(Tool):
    """ncnn's `.param` and `.bin`, by pnnx: for one image or text at a time, texts at full length."""

    def version(self) -> str:  # noqa: D102
        return f"{package_version('pnnx')}, {package_version('ncnn')}"

    def commands(self, job: Job) -> list[tuple[str, ...]]:  # noqa: D102
        kind = "f32" if job.tower == "vision" else "i64"
        shapes = ",".join(f"[{','.join(map(str, shape))}]{kind}" for shape in job.shapes(1).values())
        return [(_pnnx(), str(job.graph), f"inputshape={shapes}", f"fp16={int(job.precision == 'fp16')}")]

    def inputs(self, job: Job) -> Mapping[str, Shape]:  # noqa: D102
        return job.shapes(1)

    def run(self, job: Job) -> None:
        """Pnnx writes eight files beside the graph, so it is given a link to it in a folder of its own."""
        with tempfile.TemporaryDirectory(dir=job.folder) as folder:
            for path in job.graph.parent.iterdir():  # weights may be in files beside the graph
                (Path(folder) / path.name).symlink_to(path.absolute())
            program, _, *options = self.commands(job)[0]
            graph = Path(folder) / job.graph.name
            output = run_command((program, str(graph), *options), job)
            missing = sorted({line.split()[1] for line in output.splitlines() if line.startswith("todo ")})
            if missing:
                other = "vision" if job.tower == "text" else "text"
                hint = f"convert the other tower alone (--tower {other})"
                raise NotConverted(
                    f"ncnn lacks {', '.join(missing)}, which the {job.tower} tower of {job.bundle.manifest.name} "
                    f"uses; {hint}",
                    value=missing,
                    where=job.tower,
                    hint=hint,
                )
            for name, suffix in zip(model_files("ncnn", job.tower), (".param", ".bin"), strict=True):
                graph.with_suffix(f".ncnn{suffix}").rename(job.folder / name)


class TensorRt(Tool):
    """An engine for a range of batch sizes, by `trtexec`."""

    default = "fp16"

    def version(self) -> str:  # noqa: D102
        return find_program("trtexec", "TensorRT")

    def commands(self, job: Job) -> list[tuple[str, ...]]:  # noqa: D102
        batches, text = sorted(job.batches), job.bundle.manifest.text
        lengths = (SHORTEST, TYPICAL, text.context_length) if text.cut_exact else (text.context_length,) * 3
        sizes = (batches[0], batches[len(batches) // 2], batches[-1])
        ranges = [
            f"--{name}Shapes=" + ",".join(f"{port}:{'x'.join(map(str, shape))}" for port, shape in shapes.items())
            for name, batch, length in zip(("min", "opt", "max"), sizes, lengths, strict=True)
            for shapes in [job.shapes(batch, min(length, text.context_length))]
        ]
        reduced = ["--fp16"] if job.precision == "fp16" else []
        return [("trtexec", f"--onnx={job.graph}", f"--saveEngine={job.model}", *ranges, *reduced)]


class Ascend(Tool):
    """An OM file for each batch size, by `atc`; texts at full length."""

    default = "fp16"

    def version(self) -> str:  # noqa: D102
        return find_program("atc", "the CANN toolkit (source its set_env.sh)")

    def commands(self, job: Job) -> list[tuple[str, ...]]:  # noqa: D102
        if job.chip is None:
            hint = "add --chip, e.g. 310P3 or 910B4 (npu-smi info shows it)"
            raise InvalidInput(f"atc needs the name of the processor: {hint}", where="--chip", hint=hint)
        mode = {"fp16": "force_fp16", "fp32": "must_keep_origin_dtype"}[job.precision]
        return [
            (
                "atc",
                "--framework=5",
                f"--model={job.graph}",
                f"--output={job.folder / f'{job.tower}_bs{batch}'}",
                f"--input_format={'NCHW' if job.tower == 'vision' else 'ND'}",
                "--input_shape="
                + ";".join(f"{name}:{','.join(map(str, shape))}" for name, shape in job.shapes(batch).items()),
                f"--precision_mode={mode}",
                f"--soc_version=Ascend{job.chip.removeprefix('Ascend')}",
                "--log=error",
            )
            for batch in job.batches
        ]

    def inputs(self, job: Job) -> Mapping[str, Shape]:  # noqa: D102
        return {name: (None, *shape[1:]) for name, shape in job.shapes(1).items()}


TOOLS: dict[Target, Tool] = {
    "openvino": OpenVino(),
    "mnn": Mnn(),
    "ncnn": Ncnn(),
    "tensorrt": TensorRt(),
    "om": Ascend(),
}


def package_version(name: str) -> str:
    """A package's name and version.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError as error:
        raise MissingExtra(name, "convert") from error


def _pnnx() -> str:
    """The program inside the package pnnx, found without importing the package, which would import torch."""
    found = find_spec("pnnx")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra("pnnx", "convert")
    suffix = ".exe" if sys.platform == "win32" else ""
    return str(Path(found.submodule_search_locations[0]) / f"pnnx{suffix}")


def find_program(name: str, product: str) -> str:
    """The name of a program on PATH.

    Raises:
        RuntimeUnavailable: it is not there.
    """
    if shutil.which(name) is None:
        hint = f"install {product}, or print the command with --dry-run and run it where {name} is installed"
        raise RuntimeUnavailable(f"{name} is not on this machine's PATH; {hint}", value=name, hint=hint)
    return name


def run_command(command: Sequence[str], job: Job) -> str:
    """Run a command and return what it printed.

    Raises:
        NotConverted: it ended with an error.
    """
    done = subprocess.run(command, cwd=job.folder, capture_output=True, text=True, errors="replace", check=False)
    output = f"{done.stdout}\n{done.stderr}"
    if done.returncode:
        last = next((line for line in reversed(output.splitlines()) if line.strip()), "it printed nothing")
        raise NotConverted(
            f"{Path(command[0]).name} could not convert {job.graph} (exit code {done.returncode}): {last.strip()}",
            value=done.returncode,
            where=job.graph,
        )
    return output
