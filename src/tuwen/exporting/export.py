"""The whole way from a checkpoint to a bundle in place: export, prove, write, verify, publish.

Knows the order of these steps. Each of them is known by its own file.
"""

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir
import torch

from tuwen.bundle import manifest as layout
from tuwen.bundle.bundle import Bundle, read_bundle, seal, writing
from tuwen.bundle.manifest import (
    FOREIGN,
    FP16_OVERFLOWS,
    PRECISIONS,
    Check,
    ImageSpec,
    Manifest,
    Precision,
    Scoring,
    TextSpec,
)
from tuwen.data.tokens import Tokenizer
from tuwen.errors import InvalidInput, NotVerified
from tuwen.exporting.graph import Graph, save, text_graph, vision_graph
from tuwen.exporting.int8 import quantized
from tuwen.exporting.precision import full_weights, half_weights, kept_in_fp32, overflowing
from tuwen.exporting.report import NAME, write_report
from tuwen.exporting.samples import Calibration, Samples, built_in, calibration
from tuwen.exporting.verify import Reference, baseline, reference, verify
from tuwen.models.towers import Towers, cut_is_exact

# ---- The files that other readers of this layout want beside the graphs

_RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}  # Pillow's numbers


def write_companions(folder: Path, dim: int, image: ImageSpec, text: TextSpec, scoring: Scoring) -> None:
    """Write `config.json`, `preprocessor_config.json` and `tokenizer_config.json` into a bundle."""
    contents = {
        "config.json": _config(dim, scoring),
        "preprocessor_config.json": _preprocessor(image),
        "tokenizer_config.json": _tokenizer(text),
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _config(dim: int, scoring: Scoring) -> dict[str, Any]:
    """`clip` for softmax and `siglip` for sigmoid: the types whose towers these readers load one by one."""
    kind = "clip" if scoring.kind == "softmax" else "siglip"
    return {"model_type": kind, "projection_dim": dim, "logit_scale_init_value": math.log(scoring.scale)}


def _preprocessor(image: ImageSpec) -> dict[str, Any]:
    height, width = image.size
    exact = {"height": height, "width": width}
    crops = image.resize == "shortest"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": image.edge or max(height, width)} if crops else exact,
        "resample": _RESAMPLE[image.interpolation],
        "do_center_crop": crops,
        "crop_size": exact,
        "do_pad": image.resize == "pad",
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
    }


def _tokenizer(text: TextSpec) -> dict[str, Any]:
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": text.context_length}


# ---- One tower's files in a bundle


LOOKED_AT = 4
"""How many runs tell how large activations get."""


def check_precisions(precisions: Sequence[str]) -> None:
    """Refuse what no file can be written at.

    Raises:
        InvalidInput: one of them is unknown, or there is none.
    """
    unknown = [precision for precision in precisions if precision not in PRECISIONS]
    if unknown or not precisions:
        raise InvalidInput(f"cannot export at precision {', '.join(unknown) or 'none'}; there are fp32, fp16 and int8")


def write_tower(
    tower: layout.Tower,
    graph: Graph,
    folder: Path,
    precisions: Sequence[Precision],
    inputs: Calibration,
) -> dict[str, str | int | float | bool]:
    """Write one tower at each precision.

    Args:
        tower: which.
        graph: it, in fp32; its `nodes_before` is 0 where it comes from a file.
        folder: the bundle that is being written.
        precisions: which files.
        inputs: what int8 is calibrated and checked on, and the size of activations is looked at on.

    Returns:
        Facts for the manifest: how far it was simplified, what stayed fp32, what fp16 could not compute, int8's
        whole recipe.
    """
    facts: dict[str, str | int | float | bool] = {}
    if graph.nodes_before:
        log.info("%s tower: %d nodes, %d after simplification", tower, graph.nodes_before, graph.nodes_after)
        facts = {f"{tower}_nodes_before": graph.nodes_before, f"{tower}_nodes_after": graph.nodes_after}
    large = overflowing(graph, inputs.checked[:LOOKED_AT])
    if large:
        log.warning("%s tower: too large for computing in fp16: %s", tower, ", ".join(large))
        facts[f"{tower}{FP16_OVERFLOWS}"] = ", ".join(large)
    if "fp32" in precisions:
        save(graph, folder / layout.graph(tower, "fp32"))
    if "fp16" in precisions:
        save(half_weights(graph), folder / layout.graph(tower, "fp16"))
        facts[f"{tower}_fp16_kept_fp32"] = len(kept_in_fp32(graph))
    if "int8" in precisions:
        log.info("%s tower: to int8, on %d inputs", tower, len(inputs.measured))
        small = quantized(graph, inputs.measured, inputs.checked)
        save(small.graph, folder / layout.graph(tower, "int8"))
        facts |= {f"{tower}_int8_{name}": value for name, value in small.recipe().items()}
    return facts


# ---- The whole way from a checkpoint to a bundle in place: export, prove, write, verify, publish.

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
    text_spec = towers.text_spec.model_copy(update={"cut_exact": exact, "pad_to": "longest" if exact else "context"})
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


# ---- A bundle to another bundle at other precisions


def export_again(
    bundle: Bundle, folder: Path, precisions: Sequence[Precision], samples: Samples | None = None, name: str = ""
) -> Bundle:
    """Write a bundle's model at other precisions, verified against its own best files.

    It is the same model: the fingerprint stays.

    Args:
        bundle: one that tuwen wrote, with fp32 or fp16 files.
        folder: where the new bundle is to stand.
        precisions: which files it is to have.
        samples: what to calibrate and verify on; the built-in set where it is None.
        name: what to call it, else as it was called.

    Raises:
        InvalidInput: a precision that there is none of; a foreign bundle, or one of int8 alone.
        NotVerified: it does not reproduce the older one.
        BundleInvalid: `folder` exists and is not a bundle.
    """
    check_precisions(precisions)
    best = bundle.precisions[0]
    if bundle.manifest.family == FOREIGN or best == "int8":
        raise InvalidInput(
            f"{bundle.folder} is not a bundle of tuwen's own with fp32 or fp16 files: export its checkpoint"
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
        facts["made_from"] = best
        new = manifest.model_copy(update={"facts": facts, "verify": {}, "name": name or manifest.name})
        verified(seal(aside, new), known, aside, f"the {best} files it was made from")
    return read_bundle(folder)


def _copy_all_but_graphs(bundle: Bundle, folder: Path) -> None:
    for name in bundle.manifest.files:
        if not name.startswith("onnx/") and Path(name).stem != Path(NAME).stem:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.folder / name, folder / name)
