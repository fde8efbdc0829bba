"""Small models of every family, from the files that its authors publish to a verified bundle."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models import original_formats, tiny_transformers
from tuwen.bundle.bundle import Bundle
from tuwen.exporting.export import export_towers
from tuwen.models.sources import load_source
from tuwen.models.towers import Towers

HF = {kind: lambda folder, kind=kind: tiny_transformers.write(folder, kind) for kind in tiny_transformers.KINDS}
ORIGINAL = {
    "chinese-clip": lambda folder: original_formats.chinese_clip(folder).path,
    "chinese-clip-resnet": lambda folder: original_formats.chinese_clip(folder, original_formats.RESNET).path,
    "flagai": lambda folder: original_formats.flagai(folder).path,
    "paddle": lambda folder: original_formats.paddle(folder).path,
}
CASES: dict[str, Callable[[Path], Path]] = HF | ORIGINAL
PADS = ("siglip", "siglip2", "siglip2_naflex")  # their text towers read their padding, so that nothing may be cut
MASKED = "altclip"


def check(name: str, towers: Towers, bundle: Bundle) -> None:
    spec = bundle.manifest.text
    assert (spec.cut_exact, spec.pad_to) == ((False, "context") if name in PADS else (True, "longest"))
    worst = {(check.stage, check.precision): check for check in bundle.manifest.verify["fp32"].checks}
    for stage in ("image", "text"):
        assert worst[stage, "fp32"].max_abs <= 1e-5
    assert all(check.max_abs == 0 for check in bundle.manifest.verify["fp32"].checks if check.stage == "tokens")
    assert all(check.worst_cosine >= 0.999 for check in bundle.manifest.verify["fp16"].checks if check.worst_cosine)
    assert bundle.manifest.family == towers.family
    assert bundle.manifest.scoring == towers.scoring


def test_exported_and_verified_often(masked_towers, masked_bundle) -> None:
    check(MASKED, masked_towers, masked_bundle)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in CASES if name != MASKED])
def test_exported_and_verified(name, tmp_path) -> None:
    """`export` raises where a stage, a precision or a runtime does not give what the checkpoint gives."""
    (tmp_path / "checkpoint").mkdir()
    towers = load_source(str(CASES[name](tmp_path / "checkpoint")))
    check(name, towers, export_towers(towers, tmp_path / "bundle", ("fp32", "fp16")))
