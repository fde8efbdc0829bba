"""A bundle to another bundle at other precisions, from its own files: where the checkpoint is not at hand.

Knows bundles. What a precision is, `files.py` knows.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx_ir

from tuwen.bundle import layout
from tuwen.bundle.bundle import Bundle, read_bundle, seal, writing
from tuwen.bundle.manifest import FOREIGN, Precision
from tuwen.errors import InvalidInput
from tuwen.export.bundle import verified
from tuwen.export.calibration import calibration
from tuwen.export.files import check_precisions, write_tower
from tuwen.export.graph import Graph
from tuwen.export.precision import full_weights
from tuwen.export.report import NAME
from tuwen.export.samples import Samples, built_in
from tuwen.export.verify import baseline
from tuwen.prepare.texts import Tokenizer


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
