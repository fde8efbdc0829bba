"""A bundle to what another runtime reads: OpenVINO IR, MNN, ncnn, TensorRT engines, Ascend OM.

Each tower is converted by the runtime's own tool, and run and compared with the bundle's where this machine can;
nothing is published that differs. Knows the order of steps. Does not know any tool (`converters.py`), nor torch.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.bundle import Bundle, writing
from tuwen.bundle.converted import MANIFEST, Converted, Input, Target
from tuwen.bundle.files import sha256
from tuwen.bundle.graph import read_graph
from tuwen.bundle.manifest import Check, File, Precision, Tower
from tuwen.data.pixels import to_pixels
from tuwen.errors import InvalidInput, NotConverted, TuwenError
from tuwen.exporting.checks import Stage, check_vectors, failed
from tuwen.exporting.converters import CONVERTERS, Converter, Job, Weights
from tuwen.exporting.samples import built_in
from tuwen.exporting.verify import image_vectors, text_vectors
from tuwen.runtime.converted import RUNNABLE, converted_encoder, open_converted
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.selection import Choice, make_plan, open_session
from tuwen.runtime.session import embedding_output
from tuwen.types import Pixels, Tokens

# ---- What a converted model computes against what its bundle computes

UNIT = 1e-3
"""how far a row's own length may be from 1"""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found: a check for each tower, and whether its own output is of length 1 (None: not tried)."""

    checks: tuple[Check, ...]
    unit_length: bool | None


def prove(bundle: Bundle, converted: Converted, folder: Path, threads: int) -> Proof:
    """Run both on the built-in pictures and texts, all at once and one by one."""
    file = next(name for name in bundle.precisions if name != "int8")
    ours, theirs = _of_bundle(bundle, file, threads), converted_encoder(bundle, converted, folder, threads)
    samples, towers = built_in(), tuple(converted.inputs)
    pixels, tokens = to_pixels(ours.image_spec, samples.images), ours.to_tokens(samples.texts)
    inputs: dict[Tower, Pixels | Tokens] = {"vision": pixels, "text": tokens}
    checks = tuple(_check(tower, converted, inputs[tower], ours, theirs) for tower in towers)
    if not all(check.passed for check in checks):
        return Proof(checks, None)
    return Proof(checks, all(_is_unit(converted, folder, tower, threads) for tower in towers))


def _of_bundle(bundle: Bundle, file: Precision, threads: int) -> Encoder:
    plan = make_plan(bundle, Choice("onnxruntime", "cpu", file, threads))
    return Encoder(bundle, lambda tower: open_session(bundle, tower, plan, None), precision=plan.precision)


def _check(tower: Tower, converted: Converted, inputs: Pixels | Tokens, ours: Encoder, theirs: Encoder) -> Check:
    """The bars of `tuwen verify`; failed where it gives no vectors at all."""
    stage: Stage = "image" if tower == "vision" else "text"
    expected = _vectors(ours, inputs)[0]
    try:
        return check_vectors(stage, converted.to, converted.precision, _vectors(theirs, inputs), expected)
    except TuwenError:
        return failed(stage, converted.to, converted.precision)


def _vectors(encoder: Encoder, inputs: Pixels | Tokens) -> NDArray[np.float32]:
    return text_vectors(encoder, inputs) if isinstance(inputs, Tokens) else image_vectors(encoder, inputs)


def _is_unit(converted: Converted, folder: Path, tower: Tower, threads: int) -> bool:
    """Whether the rows of its own output are of length 1, also in a batch: not every runtime gets this right."""
    session = open_converted(converted, folder, tower, threads)
    rng = np.random.default_rng(0)
    feeds = {}
    for port in session.inputs:
        shape = tuple(axis or fallback for axis, fallback in zip(port.shape, (3, 8, 8, 8), strict=False))
        feeds[port.name] = (
            rng.standard_normal(shape).astype(np.float32) if tower == "vision" else np.ones(shape, dtype=port.dtype)
        )
    return bool(np.abs(np.linalg.norm(session.run(feeds), axis=1) - 1).max() < UNIT)


# ---- A bundle to what another runtime reads: OpenVINO IR, MNN, ncnn, TensorRT engines, Ascend OM.

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be written.

    Attributes:
        to: for which runtime.
        precision: what weights are stored in; None: as is usual there.
        towers: which.
        batches: for tools that build for given sizes: engines for the range of them, an OM file for each.
        chip: the processor's name, for OM: as `npu-smi info` has it.
        threads: for the proof.
    """

    to: Target
    precision: Weights | None
    towers: Sequence[Tower]
    batches: Sequence[int]
    chip: str | None
    threads: int


def commands(bundle: Bundle, wanted: Wanted, folder: Path) -> list[tuple[str, ...]]:
    """What would be run, tower by tower; nothing is. Empty where a library converts in this process.

    Raises:
        InvalidInput: something is missing, or does not go together.
    """
    converter, jobs = _planned(bundle, wanted, folder)
    return [command for job in jobs for command in converter.commands(job)]


def convert(bundle: Bundle, wanted: Wanted, folder: Path) -> Converted:
    """Convert, prove and publish.

    Raises:
        InvalidInput: something is missing, or does not go together.
        RuntimeUnavailable: the tool is not installed.
        MissingExtra: likewise, where it is a package.
        NotConverted: the tool has failed, or what it made computes something else.
        BundleInvalid: `folder` is something else.
    """
    with writing(folder, MANIFEST) as aside:
        converter, jobs = _planned(bundle, wanted, aside)
        recorded = tuple(_without(aside, command) for job in jobs for command in converter.commands(job))
        tool = converter.version()
        for job in jobs:
            log.info("%s tower to %s, by %s", job.tower, wanted.to, tool)
            converter.run(job)
        converted = _described(bundle, wanted, aside, tool).model_copy(update={"commands": recorded})
        proof = prove(bundle, converted, aside, wanted.threads) if wanted.to in RUNNABLE else Proof((), None)
        failed = [check for check in proof.checks if not check.passed]
        if failed:
            raise NotConverted(_differs(wanted, failed[0].stage, failed[0].worst_cosine), proof.checks)
        converted = converted.model_copy(update={"checks": proof.checks, "unit_length": proof.unit_length})
        (aside / MANIFEST).write_text(converted.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return converted


def _planned(bundle: Bundle, wanted: Wanted, folder: Path) -> tuple[Converter, list[Job]]:
    converter = CONVERTERS[wanted.to]
    precision = wanted.precision or converter.usual
    file = _file(bundle)
    jobs = [Job(bundle, tower, bundle.graphs[tower, file], folder, precision, wanted) for tower in wanted.towers]
    return converter, jobs


def _file(bundle: Bundle) -> Precision:
    """The best files that are not quantised: what int8 means differs from runtime to runtime."""
    found = next((file for file in bundle.precisions if file != "int8"), None)
    if found is None:
        raise InvalidInput(f"{bundle.folder} has int8 files only: convert a bundle that was exported at fp32 or fp16")
    return found


def _described(bundle: Bundle, wanted: Wanted, aside: Path, tool: str) -> Converted:
    converter, jobs = _planned(bundle, wanted, aside)
    graphs = {job.tower: read_graph(job.graph) for job in jobs}
    return Converted(
        to=wanted.to,
        precision=jobs[0].precision,
        model=bundle.manifest.name,
        fingerprint=bundle.manifest.fingerprint(),
        dim=bundle.manifest.dim,
        tool=tool,
        commands=(),
        inputs={
            job.tower: tuple(Input(name=name, shape=shape) for name, shape in converter.inputs(job).items())
            for job in jobs
        },
        outputs={
            tower: embedding_output([(it.name, len(it.shape) or None) for it in graph.outputs], str(bundle.folder))
            for tower, graph in graphs.items()
        },
        unit_length=None,
        checks=(),
        files={
            path.relative_to(aside).as_posix(): File(sha256=sha256(path), bytes=path.stat().st_size)
            for path in sorted(aside.rglob("*"))
            if path.is_file()
        },
    )


def _without(aside: Path, command: Sequence[str]) -> tuple[str, ...]:
    """The command as it is of use later: the folder that it wrote to has gone by then."""
    return tuple(word.replace(f"{aside}/", "") for word in command)


def _differs(wanted: Wanted, stage: str, cosine: float | None) -> str:
    found = "gives no vectors at all" if cosine is None else f"differs from the bundle's (worst cosine {cosine:.4f})"
    return f"the {stage} tower that was converted to {wanted.to} {found}, and was not published"
