"""Convert a bundle for another runtime: OpenVINO IR, MNN, ncnn, TensorRT engines, Ascend OM.

Each tower is converted by the runtime's own tool (see `tools.py`), then run and compared with the bundle if tuwen can
run the result on this machine. A result that differs is not published.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.bundle import Bundle, writing
from tuwen.bundle.converted import MANIFEST, Converted, Input, Target
from tuwen.bundle.files import sha256
from tuwen.bundle.graph import read_graph
from tuwen.bundle.manifest import TOWERS, Check, File, Precision, Tower
from tuwen.data.pixels import to_pixels
from tuwen.errors import InvalidInput, NotConverted, TuwenError
from tuwen.exporting.checks import Stage, check_vectors, failed
from tuwen.exporting.runs import image_vectors, text_vectors
from tuwen.exporting.samples import built_in
from tuwen.exporting.tools import TOOLS, Job, Weights
from tuwen.runtime.converted import RUNNABLE, converted_encoder, open_converted
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.loading import find_bundle
from tuwen.runtime.machine import usable_cores
from tuwen.runtime.selection import Choice, make_plan, open_session
from tuwen.runtime.session import embedding_output
from tuwen.settings import Settings
from tuwen.types import Pixels, Tokens

log = logging.getLogger(__name__)

BATCHES = (1, 8, 32)
UNIT = 1e-3
"""how far from 1 the length of a row may be"""


def convert(  # noqa: PLR0913  (what to convert, and for what)
    bundle: str | Path | Bundle,
    out: str | Path,
    to: Target,
    *,
    precision: Weights | None = None,
    towers: Sequence[Tower] = TOWERS,
    batches: Sequence[int] = BATCHES,
    chip: str | None = None,
    threads: int | None = None,
) -> Converted:
    """Convert a bundle for another runtime, and compare the two where tuwen can run the result.

    Nothing appears at `out` before everything is written and compared.

    Example:
        >>> from tuwen.exporting.convert import convert
        >>> converted = convert("demo", "emoji-openvino", "openvino", precision="fp16")
        >>> [(check.stage, check.passed) for check in converted.checks]
        [('image', True), ('text', True)]

    Args:
        bundle: a bundle, its folder, or the name of a model on this machine.
        out: the folder to write.
        to: `openvino`, `mnn`, `ncnn`, `tensorrt` or `om`.
        precision: the precision of the weights; by default fp32, for TensorRT and OM fp16.
        towers: the towers to convert.
        batches: the batch sizes that TensorRT engines and OM files are built for.
        chip: the processor's name for OM, as `npu-smi info` shows it.
        threads: for running the result; all cores by default.

    Returns:
        The content of `converted.json`.

    Raises:
        InvalidInput: the bundle has int8 files only, or `chip` is missing.
        RuntimeUnavailable: the tool is not installed.
        MissingExtra: the tool's package is not installed.
        NotConverted: the tool failed, or its result differs from the bundle; `.checks` has what was found.
        BundleInvalid: `out` exists and is not a converted bundle.
    """
    found, tool = _bundle(bundle), TOOLS[to]
    with writing(Path(out), MANIFEST) as aside:
        jobs = _jobs(found, aside, to, precision=precision, towers=towers, batches=batches, chip=chip)
        # as they are of use later: the folder that they wrote to is renamed
        commands = [tuple(w.replace(f"{aside}/", "") for w in line) for job in jobs for line in tool.commands(job)]
        name = tool.version()
        for job in jobs:
            log.info("%s tower to %s, by %s", job.tower, to, name)
            tool.run(job)
        converted = _describe(jobs, name, commands)
        proof = prove(found, converted, aside, threads or usable_cores()) if to in RUNNABLE else Proof((), None)
        for check in proof.checks:
            if not check.passed:
                raise NotConverted(_difference(to, check), proof.checks)
        converted = converted.model_copy(update={"checks": proof.checks, "unit_length": proof.unit_length})
        (aside / MANIFEST).write_text(converted.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return converted


def conversion_commands(  # noqa: PLR0913  (as `convert`)
    bundle: str | Path | Bundle,
    out: str | Path,
    to: Target,
    *,
    precision: Weights | None = None,
    towers: Sequence[Tower] = TOWERS,
    batches: Sequence[int] = BATCHES,
    chip: str | None = None,
) -> list[tuple[str, ...]]:
    """The commands that `convert` would run, tower by tower; empty if a library converts in this process.

    Raises:
        InvalidInput: the bundle has int8 files only, or `chip` is missing.
    """
    jobs = _jobs(_bundle(bundle), Path(out), to, precision=precision, towers=towers, batches=batches, chip=chip)
    return [command for job in jobs for command in TOOLS[to].commands(job)]


class Proof(NamedTuple):
    """The outcome of a comparison.

    `checks`: one for each tower; `unit_length`: whether the converted towers' own rows have length 1 (None: not tried).
    """

    checks: tuple[Check, ...]
    unit_length: bool | None


def prove(bundle: Bundle, converted: Converted, folder: Path, threads: int) -> Proof:
    """Run both on the built-in images and texts, all at once and one by one."""
    plan = make_plan(bundle, Choice("onnxruntime", "cpu", _best_file(bundle), threads))
    ours = Encoder(bundle, lambda tower: open_session(bundle, tower, plan, None), precision=plan.precision)
    theirs = converted_encoder(bundle, converted, folder, threads)
    samples, towers = built_in(), tuple(converted.inputs)
    pixels, tokens = to_pixels(ours.image_spec, samples.images), ours.to_tokens(samples.texts)
    inputs: dict[Tower, Pixels | Tokens] = {"vision": pixels, "text": tokens}
    checks = tuple(_check(tower, converted, inputs[tower], ours, theirs) for tower in towers)
    if not all(check.passed for check in checks):
        return Proof(checks, None)
    return Proof(checks, all(_is_unit(converted, folder, tower, threads) for tower in towers))


def _check(tower: Tower, converted: Converted, inputs: Pixels | Tokens, ours: Encoder, theirs: Encoder) -> Check:
    """As strict as `tuwen verify`; failed if there are no vectors at all."""
    stage: Stage = "image" if tower == "vision" else "text"
    expected = _vectors(ours, inputs)[0]
    try:
        return check_vectors(stage, converted.to, converted.precision, _vectors(theirs, inputs), expected)
    except TuwenError:
        return failed(stage, converted.to, converted.precision)


def _vectors(encoder: Encoder, inputs: Pixels | Tokens) -> NDArray[np.float32]:
    return text_vectors(encoder, inputs) if isinstance(inputs, Tokens) else image_vectors(encoder, inputs)


def _is_unit(converted: Converted, folder: Path, tower: Tower, threads: int) -> bool:
    """Whether the rows of a tower's own output have length 1, also in a batch: not every runtime gets this right."""
    session = open_converted(converted, folder, tower, threads)
    rng = np.random.default_rng(0)
    feeds = {}
    for port in session.inputs:
        shape = tuple(axis or fallback for axis, fallback in zip(port.shape, (3, 8, 8, 8), strict=False))
        feeds[port.name] = (
            rng.standard_normal(shape).astype(np.float32) if tower == "vision" else np.ones(shape, dtype=port.dtype)
        )
    return bool(np.abs(np.linalg.norm(session.run(feeds), axis=1) - 1).max() < UNIT)


def _bundle(bundle: str | Path | Bundle) -> Bundle:
    if isinstance(bundle, Bundle):
        return bundle
    settings = Settings()
    return find_bundle(str(bundle), settings.models, settings.cache)


def _jobs(  # noqa: PLR0913  (as `convert`)
    bundle: Bundle,
    folder: Path,
    to: Target,
    *,
    precision: Weights | None,
    towers: Sequence[Tower],
    batches: Sequence[int],
    chip: str | None,
) -> list[Job]:
    file = _best_file(bundle)
    stored = precision or TOOLS[to].default
    return [Job(bundle, tower, bundle.graphs[tower, file], folder, to, stored, batches, chip) for tower in towers]


def _best_file(bundle: Bundle) -> Precision:
    """The bundle's best files that are not quantised: int8 means something else in every runtime."""
    found = next((file for file in bundle.precisions if file != "int8"), None)
    if found is None:
        hint = "convert a bundle that was exported at fp32 or fp16"
        raise InvalidInput(f"{bundle.folder} has int8 files only; {hint}", value="int8", where=bundle.folder, hint=hint)
    return found


def _describe(jobs: Sequence[Job], tool: str, commands: Sequence[tuple[str, ...]]) -> Converted:
    """What was written, before it is compared."""
    first = jobs[0]
    manifest, folder = first.bundle.manifest, first.folder
    graphs = {job.tower: read_graph(job.graph) for job in jobs}
    return Converted(
        to=first.to,
        precision=first.precision,
        model=manifest.name,
        fingerprint=manifest.fingerprint(),
        dim=manifest.dim,
        tool=tool,
        commands=tuple(commands),
        inputs={
            job.tower: tuple(Input(name=name, shape=shape) for name, shape in TOOLS[job.to].inputs(job).items())
            for job in jobs
        },
        outputs={
            tower: embedding_output([(it.name, len(it.shape) or None) for it in graph.outputs], str(manifest.name))
            for tower, graph in graphs.items()
        },
        unit_length=None,
        checks=(),
        files={
            path.relative_to(folder).as_posix(): File(sha256=sha256(path), bytes=path.stat().st_size)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    )


def _difference(to: Target, check: Check) -> str:
    cosine = check.worst_cosine
    found = "gives no vectors" if cosine is None else f"differs from the bundle (worst cosine {cosine:.4f})"
    return f"the {check.stage} tower converted to {to} {found}, and was not published"
