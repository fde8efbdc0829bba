"""Export a checkpoint to a bundle: write its files, verify them against the checkpoint, and publish them at once."""

import hashlib
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir
import torch

from tuwen.bundle import manifest as layout
from tuwen.bundle.bundle import Bundle, read_bundle, seal, writing
from tuwen.bundle.catalogue import find_known
from tuwen.bundle.companions import write_companions, write_pad_token
from tuwen.bundle.manifest import (
    FOREIGN,
    FP16_OVERFLOWS,
    PRECISIONS,
    REDUCED_DECODING,
    Check,
    Manifest,
    Precision,
)
from tuwen.data.tokens import Tokenizer
from tuwen.errors import InvalidInput, NotVerified
from tuwen.exporting.canonical import (
    CANONICAL,
    canonical_of,
    canonical_samples,
    measure_figures,
    read_canonical,
    verify_canonical,
    with_figures,
    write_canonical,
)
from tuwen.exporting.compare import Reference, baseline, compare, reference
from tuwen.exporting.decoding import reduced_decoding_cosine
from tuwen.exporting.fp16 import full_weights, half_weights, kept_in_fp32, overflowing
from tuwen.exporting.graph import Graph, save, text_graph, vision_graph
from tuwen.exporting.int8 import quantized
from tuwen.exporting.report import NAME, write_report
from tuwen.exporting.samples import Calibration, Samples, built_in, calibration, given
from tuwen.exporting.sources import as_named, checkpoint
from tuwen.models.sources import load_source
from tuwen.models.towers import Towers, cut_is_exact, with_dims
from tuwen.settings import Settings

log = logging.getLogger(__name__)

LOOKED_AT = 4
"""the number of inputs on which the size of activations is measured"""


def check_precisions(precisions: Sequence[str]) -> None:
    """Check that these are precisions that files can have.

    Raises:
        InvalidInput: one of them is unknown, or there is none.
    """
    unknown = [precision for precision in precisions if precision not in PRECISIONS]
    if unknown or not precisions:
        hint = f"choose from {', '.join(PRECISIONS)}"
        named = f"Unknown precision {', '.join(unknown)}" if unknown else "No precision given"
        raise InvalidInput(f"{named}; {hint}", value=unknown or list(precisions), where="precisions", hint=hint)


def write_tower(
    tower: layout.Tower,
    graph: Graph,
    folder: Path,
    precisions: Sequence[Precision],
    inputs: Calibration,
) -> dict[str, str | int | float | bool]:
    """Write one tower at each precision.

    Args:
        tower: which one.
        graph: the tower in fp32; its `nodes_before` is 0 if it was read from a file.
        folder: the bundle that is being written.
        precisions: which files to write.
        inputs: inputs to calibrate and check int8 on, and to measure activations on.

    Returns:
        Facts for the manifest: how far the graph was simplified, which weights stayed fp32, which nodes exceed fp16,
        and how int8 was made.
    """
    facts: dict[str, str | int | float | bool] = {}
    if graph.nodes_before:
        log.info("%s tower: %d nodes, %d after simplification", tower, graph.nodes_before, graph.nodes_after)
        facts = {f"{tower}_nodes_before": graph.nodes_before, f"{tower}_nodes_after": graph.nodes_after}
    large = overflowing(graph, inputs.checked[:LOOKED_AT])
    if large:
        log.warning("%s tower: activations too large to compute in fp16: %s", tower, ", ".join(large))
        facts[f"{tower}{FP16_OVERFLOWS}"] = ", ".join(large)
    if "fp32" in precisions:
        save(graph, folder / layout.graph(tower, "fp32"))
    if "fp16" in precisions:
        save(half_weights(graph), folder / layout.graph(tower, "fp16"))
        facts[f"{tower}_fp16_kept_fp32"] = len(kept_in_fp32(graph))
    if "int8" in precisions:
        log.info("%s tower: calibrating int8 on %d inputs", tower, len(inputs.measured))
        small = quantized(graph, inputs.measured, inputs.checked)
        save(small.graph, folder / layout.graph(tower, "int8"))
        facts |= {f"{tower}_int8_{name}": value for name, value in small.recipe().items()}
    return facts


def export(  # noqa: PLR0913  (a checkpoint, how it is written, and what it is verified on)
    source: str | Path | Towers | Bundle,
    out: str | Path,
    *,
    precisions: Sequence[Precision] = ("fp32",),
    verify: bool = True,
    weights: str | Path | None = None,
    arch: str | None = None,
    name: str | None = None,
    dims: int | None = None,
    images: Sequence[str | Path] = (),
    texts: str | Path | None = None,
    offline: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Bundle:
    """Export a checkpoint to a bundle, which needs no torch to run.

    Nothing appears at `out` before everything is written and verified on every runtime of this machine; a bundle
    that stands there is replaced as a whole.

    Example:
        >>> import tuwen
        >>> from tuwen.demo import demo_bundle
        >>> bundle = tuwen.export(demo_bundle(), "emoji", precisions=("fp32", "fp16"))
        >>> bundle.precisions
        ('fp32', 'fp16')

    Args:
        source: `openclip:ViT-B-32`, `openclip:ARCHITECTURE/TAG`, `hf:ORG/NAME`, a checkpoint's path, or loaded
            `Towers`. A bundle (or its folder) is exported again at other precisions from its own files.
        out: the bundle's folder.
        precisions: the files to write: `fp32`, `fp16`, `int8`.
        verify: compare the bundle with its checkpoint, and publish it only if all checks pass. Without, its
            manifest has no verify report.
        weights: the checkpoint's file, where `source` is not itself its path.
        arch: the architecture, where the file does not tell it.
        name: the model's name; by default after its source.
        dims: keep the first so many numbers of each vector, scaled to length 1 again: for checkpoints trained with
            Matryoshka heads, such as 256 of 1024. The fingerprint is another one. None: all.
        images: image files or folders to verify and calibrate on; built-in images by default.
        texts: a file of captions, one a line; built-in texts by default.
        offline: do not download a checkpoint that is not on this machine.
        on_progress: called during a download with the bytes done and the bytes in all.

    Returns:
        The bundle.

    Raises:
        InvalidInput: an unknown source, precision or architecture; more `dims` than the checkpoint has, or `dims` for
            a bundle.
        PullFailed: the checkpoint is not on this machine and cannot be downloaded.
        NotVerified: the bundle does not reproduce its checkpoint; `.reports` has every check.
        BundleInvalid: `out` exists and is not a bundle.
    """
    check_precisions(precisions)
    samples = given([Path(path) for path in images], None if texts is None else Path(texts))
    if not isinstance(source, Towers | Bundle) and (Path(source) / layout.MANIFEST).exists():
        source = read_bundle(Path(source))
    if isinstance(source, Bundle):
        if weights is not None or arch is not None:
            raise InvalidInput(
                f"{source.folder} is a bundle, which has its weights: leave weights and arch out",
                value=weights or arch,
                where=source.folder,
            )
        if dims is not None:
            hint = "export its checkpoint with dims"
            raise InvalidInput(
                f"{source.folder} is a bundle, whose vectors cannot be cut: {hint}", value=dims, hint=hint
            )
        return export_bundle(source, Path(out), precisions, samples, name or "", verify=verify)
    if not isinstance(source, Towers):
        file = None if weights is None else Path(weights)
        found = checkpoint(str(source), file, Settings(), offline=offline, on_progress=on_progress)
        source = as_named(load_source(found.source, found.weights, arch=arch), found)
    if dims is not None:
        source = with_dims(source, dims)
        known = find_known(source.source)
        if source.full_dim is not None and not (known and known.matryoshka):
            log.warning(
                "%s is not known to have been trained with Matryoshka heads, so cutting its vectors to %d of %d "
                "numbers may cost much quality: measure it with tuwen evaluate",
                *(source.name, dims, source.full_dim),
            )
    return export_towers(replace(source, name=name or source.name), Path(out), precisions, samples, verify=verify)


def export_towers(
    towers: Towers,
    folder: Path,
    precisions: Sequence[Precision] = ("fp32",),
    samples: Samples | None = None,
    *,
    verify: bool = True,
) -> Bundle:
    """Export a loaded checkpoint to a bundle at `folder`, verified on every runtime of this machine.

    Nothing appears at `folder` before everything is written and verified; a bundle there is replaced as a whole.
    Progress is logged.

    Args:
        towers: the checkpoint; its modules must be fp32 on the CPU, and are put into eval mode.
        folder: the bundle's folder.
        precisions: the files to write: `fp32`, `fp16` (half the size), `int8` (a quarter of the size; see `int8.py`).
        samples: images and texts to verify and to calibrate int8 on; built-in ones by default.
        verify: whether to compare the bundle with the checkpoint.

    Raises:
        InvalidInput: an unknown precision.
        NotVerified: the bundle does not reproduce its checkpoint; `.reports` has every check.
        BundleInvalid: `folder` exists and is not a bundle.
    """
    check_precisions(precisions)
    samples = samples or built_in()
    log.info("%s: %d images and %d texts with its checkpoint", towers.name, len(samples.images), len(samples.texts))
    known = reference(towers, samples)
    with writing(folder) as aside:
        manifest = _write(towers, known, aside, precisions)
        manifest = with_recorded_figures(manifest, aside)
        if verify:
            manifest = verified(manifest, known, aside, "its checkpoint in PyTorch")
    log.info("%s: %s", folder, manifest.fingerprint())
    return read_bundle(folder)


def _write(towers: Towers, known: Reference, folder: Path, precisions: Sequence[Precision]) -> Manifest:
    (folder / layout.TOKENIZER).write_bytes(towers.tokenizer)
    exact = cut_is_exact(towers.text, known.tokens, mask=towers.text_spec.mask)
    text_spec = towers.text_spec.model_copy(update={"cut_exact": exact, "pad_to": "longest" if exact else "context"})
    facts: dict[str, Any] = dict(towers.facts)
    tokenizer = Tokenizer(folder / layout.TOKENIZER, text_spec)
    inputs = calibration(known.samples, towers.image_spec, text_spec, tokenizer)
    facts |= write_tower("vision", _vision(towers), folder, precisions, inputs["vision"])
    facts |= write_tower("text", _text(towers, known), folder, precisions, inputs["text"])
    dim = known.images.shape[1]
    write_companions(folder, dim, towers.image_spec, text_spec, towers.scoring)
    canonical = reference(towers, canonical_samples(towers.image_spec))
    write_canonical(folder, canonical_of(canonical, towers.image_spec, f"{towers.family} in PyTorch, fp32"))
    manifest = Manifest(
        name=towers.name,
        family=towers.family,
        source=towers.source,
        licence=towers.licence,
        dim=dim,
        full_dim=towers.full_dim,
        weights_sha256=towers.weights_sha256(),
        tokenizer_sha256=hashlib.sha256(towers.tokenizer).hexdigest(),
        image=towers.image_spec,
        text=text_spec,
        scoring=towers.scoring,
        files={},
        facts=facts,
    )
    return seal(folder, manifest)


def _vision(towers: Towers) -> Graph:
    return vision_graph(towers.vision, towers.image_spec.size)


def _text(towers: Towers, known: Reference) -> Graph:
    """Traced on 2 real rows of 7 tokens: the exporter must not take the two axes for one."""
    ids = torch.from_numpy(known.tokens.ids[:2, :7])
    return text_graph(towers.text, ids, mask=towers.text_spec.mask)


def with_recorded_figures(manifest: Manifest, folder: Path) -> Manifest:
    """Record what is measured on a written bundle, and seal it again.

    That is how close each precision comes to the canonical outputs, and what decoding at reduced scale costs.
    """
    bundle = read_bundle(folder)
    canonical = read_canonical(bundle)
    assert canonical is not None
    write_canonical(folder, with_figures(canonical, measure_figures(bundle, canonical)))
    facts = {**manifest.facts, REDUCED_DECODING: reduced_decoding_cosine(bundle)}
    return seal(folder, manifest.model_copy(update={"facts": facts}))


def verified(manifest: Manifest, known: Reference, folder: Path, compared_with: str) -> Manifest:
    """Verify a bundle that is being written, and add the reports to its manifest and a report to read.

    Args:
        manifest: the manifest as written.
        known: what the bundle must reproduce.
        folder: the bundle.
        compared_with: what `known` comes from, in words.

    Raises:
        NotVerified: a check failed.
    """
    reports = compare(read_bundle(folder), known)
    for precision, report in reports.items():
        log.info("%s: %d checks %s", precision, len(report.checks), "passed" if report.passed else "failed")
    again = verify_canonical(read_bundle(folder))
    failed = [
        (precision, check)
        for precision, report in [*reports.items(), *again.items()]
        for check in report.checks
        if not check.passed
    ]
    if failed:
        raise NotVerified(f"{manifest.name} was not published: {_described(*failed[0])}", reports)
    write_report(folder / NAME, manifest, compared_with, list(reports.values()))
    return seal(folder, manifest.model_copy(update={"verify": reports}))


def _described(precision: str, check: Check) -> str:
    cosine = "" if check.worst_cosine is None else f", worst cosine {check.worst_cosine:.6f}"
    return (
        f"stage {check.stage} of the {precision} files on {check.runtime} ({check.precision}) differs from its "
        f"checkpoint by {check.max_abs:.2g}{cosine}"
    )


def export_bundle(
    bundle: Bundle,
    folder: Path,
    precisions: Sequence[Precision],
    samples: Samples | None = None,
    name: str = "",
    *,
    verify: bool = True,
) -> Bundle:
    """Export a bundle again at other precisions, verified against its own best files; the fingerprint stays.

    What older versions did not write is added: canonical outputs, and a padding token in the tokenizer's
    configuration.

    Args:
        bundle: a bundle that tuwen wrote, with fp32 or fp16 files.
        folder: the new bundle's folder.
        precisions: the files to write.
        samples: images and texts to verify and to calibrate on; built-in ones by default.
        name: the model's name; by default it stays.
        verify: whether to compare the new files with the old ones.

    Raises:
        InvalidInput: an unknown precision; a pulled bundle, or one with int8 files only.
        NotVerified: the new bundle does not reproduce the old one.
        BundleInvalid: `folder` exists and is not a bundle.
    """
    check_precisions(precisions)
    best = bundle.precisions[0]
    if bundle.manifest.family == FOREIGN or best == "int8":
        raise InvalidInput(
            f"{bundle.folder} was not exported by tuwen, or has int8 files only; export its checkpoint",
            value=best,
            where=bundle.folder,
            hint="export its checkpoint",
        )
    manifest = bundle.manifest
    known = baseline(bundle, samples or built_in())
    tokenizer = Tokenizer(bundle.tokenizer, manifest.text)
    inputs = calibration(known.samples, manifest.image, manifest.text, tokenizer)
    with writing(folder) as aside:
        _copy_all_but_graphs(bundle, aside)
        facts = dict(manifest.facts)
        for tower in layout.TOWERS:
            graph = full_weights(Graph(onnx_ir.load(bundle.graphs[tower, best]), 0, 0))
            facts |= write_tower(tower, graph, aside, precisions, inputs[tower])
        write_pad_token(aside, manifest.text)
        if CANONICAL not in manifest.files:
            own = baseline(bundle, canonical_samples(manifest.image))
            by = f"the bundle's own {best} files on ONNX Runtime, computed in fp32"
            write_canonical(aside, canonical_of(own, manifest.image, by))
        facts["made_from"] = best
        new = manifest.model_copy(update={"facts": facts, "verify": {}, "name": name or manifest.name})
        new = with_recorded_figures(seal(aside, new), aside)
        if verify:
            verified(new, known, aside, f"the {best} files it was made from")
    return read_bundle(folder)


def _copy_all_but_graphs(bundle: Bundle, folder: Path) -> None:
    for name in bundle.manifest.files:
        if not name.startswith("onnx/") and Path(name).stem != Path(NAME).stem:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.folder / name, folder / name)
