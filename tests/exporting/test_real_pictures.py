"""Exported models on photos that nobody here made; all skip where the optional folder of them is absent."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuwen.exporting.export import export_towers
from tuwen.exporting.samples import Photos, Samples
from tuwen.models.openclip import load
from tuwen.runtime.loading import load_encoder
from tuwen.runtime.selection import Choice


@pytest.mark.parametrize("name", ["Landscape", "Portrait"])
def test_orientations_of_one_photo_give_one_vector(tiny_bundle, shared_data, tmp_path, name) -> None:
    encoder = load_encoder(str(tiny_bundle.folder), Choice(precision="fp32"), models=tmp_path, cache=None)
    files = sorted((shared_data / "exif_orientation").glob(f"{name}_?.jpg"))
    assert len(files) == 9
    vectors = encoder.encode_images(files)
    assert (vectors @ vectors.T).min() >= 0.999
    with Image.open(files[1]) as picture:
        turned = encoder.encode_images([picture.convert("RGB").transpose(Image.Transpose.ROTATE_180)])
    assert (vectors @ turned.T).max() < 0.999, "else the bound would prove nothing"


def captions(folder: Path, count: int) -> list[str]:
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row["en"][0] for row in rows][:count]


@pytest.mark.long
@pytest.mark.parity
def test_vit_b_32_at_full_size_on_photos(shared_data, tmp_path) -> None:
    folder = shared_data / "flickr8k_200"
    photos = sorted((folder / "images").iterdir())[:64]
    samples = Samples(Photos(photos), captions(folder, 64))
    bundle = export_towers(load("ViT-B-32"), tmp_path / "b32", ("fp32", "fp16"), samples)
    checks = {precision: report.checks for precision, report in bundle.manifest.verify.items()}
    exact = [check for check in checks["fp32"] if check.precision == "fp32"]
    assert max(check.max_abs for check in exact) <= 1e-5
    assert all(check.top1 == check.top10 == 1.0 for check in exact if check.stage == "similarity")
    half = [check for check in checks["fp16"] if check.precision == "fp16"]
    assert min(check.worst_cosine for check in half) >= 0.999
    assert bundle.manifest.text.cut_exact
    sizes = {place: path.stat().st_size for place, path in bundle.graphs.items()}
    assert np.isclose(sizes["vision", "fp16"] / sizes["vision", "fp32"], 0.5, atol=0.02)
