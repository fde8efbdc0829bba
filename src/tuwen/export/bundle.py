"""The whole way from a checkpoint to a bundle in place: export, prove, write, verify, publish.

Knows the order of these steps. Each of them is known by its own file.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tuwen.bundle import layout
from tuwen.bundle.bundle import Bundle, read_bundle, seal, writing
from tuwen.bundle.manifest import Check, Manifest, Precision
from tuwen.errors import NotVerified
from tuwen.export.calibration import calibration
from tuwen.export.companions import write_companions
from tuwen.export.files import check_precisions, write_tower
from tuwen.export.graph import Graph, text_graph, vision_graph
from tuwen.export.report import NAME, write_report
from tuwen.export.samples import Samples, built_in
from tuwen.export.verify import Reference, reference, verify
from tuwen.models.cut import cut_is_exact
from tuwen.models.towers import Towers
from tuwen.prepare.texts import Tokenizer

log = logging.getLogger(__name__)


def export(
    towers: Towers,
    folder: Path,
    precisions: Sequence[Precision] = ("fp32",),
    samples: Samples | None = None,
) -> Bundle:
    """Export a checkpoint to a bundle at `folder`, verified on every runtime of this machine.

    Nothing appears at `folder` before all is written and verified; an older bundle there is replaced as a whole.
    How far it has come is logged.

    Args:
        towers: the checkpoint; its modules must be fp32 on the CPU, and are put into eval mode.
        folder: where the bundle is to stand.
        precisions: which files to write: `fp32`, `fp16` (weights of half the size, computed in fp32 on CPUs),
            `int8` (a quarter of the size; see `int8.py`).
        samples: what to verify on, and to calibrate int8 on; a built-in set of odd pictures and multilingual texts
            where it is None.

    Raises:
        InvalidInput: a precision that cannot be exported.
        NotVerified: the bundle does not reproduce its checkpoint; the message names stage and numbers.
        BundleInvalid: `folder` exists and is not a bundle.
    """
    check_precisions(precisions)
    samples = samples or built_in()
    log.info("%s: %d pictures and %d texts by its checkpoint", towers.name, len(samples.images), len(samples.texts))
    known = reference(towers, samples)
    with writing(folder) as aside:
        manifest = _write(towers, known, aside, precisions)
        manifest = verified(manifest, known, aside, "its checkpoint in PyTorch")
    log.info("%s: %s", folder, manifest.fingerprint())
    return read_bundle(folder)


def _write(towers: Towers, known: Reference, folder: Path, precisions: Sequence[Precision]) -> Manifest:
    (folder / layout.TOKENIZER).write_bytes(towers.tokenizer)
    exact = cut_is_exact(towers.text, known.tokens, mask=towers.text_spec.mask)
    text_spec = towers.text_spec.model_copy(
        update={"cut_exact": exact, "pad_to": "longest" if exact else "context"}
    )
    facts: dict[str, Any] = dict(towers.facts)
    tokenizer = Tokenizer(folder / layout.TOKENIZER, text_spec)
    inputs = calibration(known.samples, towers.image_spec, text_spec, tokenizer)
    facts |= write_tower("vision", _vision(towers), folder, precisions, inputs["vision"])
    facts |= write_tower("text", _text(towers, known), folder, precisions, inputs["text"])
    dim = known.images.shape[1]
    write_companions(folder, dim, towers.image_spec, text_spec, towers.scoring)
    manifest = Manifest(
        name=towers.name,
        family=towers.family,
        source=towers.source,
        licence=towers.licence,
        dim=dim,
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
    """Traced on real rows, cut short where they may be: 2 rows of 7, so that the two axes are told apart."""
    ids = torch.from_numpy(known.tokens.ids[:2, :7])
    return text_graph(towers.text, ids, mask=towers.text_spec.mask)


def verified(manifest: Manifest, known: Reference, folder: Path, compared_with: str) -> Manifest:
    """Verify what was written; the manifest with a report a precision, written again, and the report to read.

    Args:
        manifest: as it was written.
        known: what the bundle must reproduce.
        folder: where it is being written.
        compared_with: what `known` is of, in words.

    Raises:
        NotVerified: a check failed.
    """
    reports = verify(read_bundle(folder), known)
    for precision, report in reports.items():
        log.info("%s: %d checks %s", precision, len(report.checks), "passed" if report.passed else "failed")
    failed = [
        (precision, check) for precision, report in reports.items() for check in report.checks if not check.passed
    ]
    if failed:
        raise NotVerified(f"{manifest.name} was not published: {_described(*failed[0])}", reports)
    write_report(folder / NAME, manifest, compared_with, list(reports.values()))
    return seal(folder, manifest.model_copy(update={"verify": reports}))


def _described(precision: Precision, check: Check) -> str:
    cosine = "" if check.worst_cosine is None else f", worst cosine {check.worst_cosine:.6f}"
    return (
        f"stage {check.stage} of the {precision} files on {check.runtime} ({check.precision}) differs from its "
        f"checkpoint by {check.max_abs:.2g}{cosine}"
    )
