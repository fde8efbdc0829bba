"""A damaged bundle, its hashes corrected, fails without its checkpoint: every fault is seeded and caught."""

import hashlib
import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tuwen.bundle.bundle import read_bundle, seal
from tuwen.bundle.companions import CONFIG, PREPROCESSOR, TOKENIZER_CONFIG, check_graphs, write_companions
from tuwen.bundle.manifest import TOKENIZER, TOWERS, ImageSpec, graph
from tuwen.data.pixels import to_pixels
from tuwen.demo import demo_bundle
from tuwen.errors import BundleInvalid
from tuwen.exporting.canonical import CANONICAL, drawn, read_canonical, sampled, sizes, verify_canonical
from tuwen.exporting.checks import WORST_COSINE
from tuwen.exporting.export import export_bundle
from tuwen.exporting.graph import save, vision_graph
from tuwen.exporting.runs import parse_devices

from .checkpoints import causal

pytestmark = pytest.mark.precision


def failed_stages(bundle, folder, *, spoil=None, **facts) -> set[str]:
    """The stages that fail for a copy of a bundle with a fault in it, its companions and hashes written anew.

    The fp32 graphs alone: they are the ones that a fault is put into.
    """
    shutil.copytree(bundle.folder, folder)
    for tower in TOWERS:
        (folder / graph(tower, "fp16")).unlink()
    manifest = bundle.manifest.model_copy(update=facts)
    if spoil is not None:
        spoil(folder)
    write_companions(folder, manifest.dim, manifest.image, manifest.text, manifest.scoring)
    seal(folder, manifest)
    reports = verify_canonical(read_bundle(folder))
    return {check.stage for report in reports.values() for check in report.checks if not check.passed}


def change_weights(folder, tower, ends, change) -> None:
    """Change the first fp32 matrix of a tower that is at least as wide as a layer."""
    path = folder / graph(tower, "fp32")
    model = onnx.load(path)
    tensor = [t for t in model.graph.initializer if len(t.dims) == 2 and min(t.dims) >= 64][ends]
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(model, path)


def reordered(values):
    return np.concatenate([values[32:], values[:32]])


def test_a_right_bundle_passes(tiny_bundle) -> None:
    reports = verify_canonical(tiny_bundle)
    assert set(reports) == {"fp32", "fp16"}
    assert all(report.passed for report in reports.values())
    canonical = read_canonical(tiny_bundle)
    assert canonical.figures.keys() == {"fp32", "fp16"}
    assert canonical.figures["fp32"].image == pytest.approx(1)
    assert (tiny_bundle.folder / CANONICAL).stat().st_size < 16_000


def test_every_device_is_compared(tiny_bundle) -> None:
    reports = verify_canonical(tiny_bundle, parse_devices("cpu:onnxruntime,cpu:openvino@fp32"))
    assert set(reports) == {"cpu:onnxruntime", "cpu:openvino@fp32"}
    assert all(report.passed for report in reports.values())


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_reordered_rows(tiny_bundle, folder, tower) -> None:
    def spoil(copy) -> None:
        change_weights(copy, tower, 0, reordered)

    found = failed_stages(tiny_bundle, folder, spoil=spoil)
    assert ("image" if tower == "vision" else "text") in found


@pytest.mark.long
def test_a_scaled_block(tiny_bundle, folder) -> None:
    def spoil(copy) -> None:
        change_weights(copy, "vision", 1, lambda values: values * np.float32(1.05))

    assert "image" in failed_stages(tiny_bundle, folder, spoil=spoil)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
        pytest.param({"interpolation": "bilinear"}, marks=pytest.mark.long),
        pytest.param({"crop_rounding": "floor"}, marks=pytest.mark.long),
    ],
    ids=["mean and std", "interpolation", "crop rounding"],
)
def test_another_image_spec(tiny_bundle, folder, change) -> None:
    image = tiny_bundle.manifest.image.model_copy(update=change)
    assert image != tiny_bundle.manifest.image
    assert "pixels" in failed_stages(tiny_bundle, folder, image=image)


def test_another_logit_scale(tiny_bundle, folder) -> None:
    scoring = tiny_bundle.manifest.scoring.model_copy(update={"scale": 50.0})
    assert failed_stages(tiny_bundle, folder, scoring=scoring) >= {"labels"}


def test_another_tokenizer(tiny_bundle, folder) -> None:
    """Two words exchange their ids."""
    content = json.loads(tiny_bundle.tokenizer.read_bytes())
    words = content["model"]["vocab"]
    words["photo</w>"], words["cat</w>"] = words["cat</w>"], words["photo</w>"]
    changed = json.dumps(content).encode()

    def spoil(copy) -> None:
        (copy / TOKENIZER).write_bytes(changed)

    digest = hashlib.sha256(changed).hexdigest()
    assert "tokens" in failed_stages(tiny_bundle, folder, spoil=spoil, tokenizer_sha256=digest)


@pytest.mark.long
def test_towers_of_two_models(tiny_bundle, folder) -> None:
    other = vision_graph(causal(seed=1).vision, tiny_bundle.manifest.image.size)

    def spoil(copy) -> None:
        save(other, copy / graph("vision", "fp32"))

    found = failed_stages(tiny_bundle, folder, spoil=spoil)
    assert {"image", "similarity"} <= found
    assert "text" not in found


def test_a_drop_below_the_recorded_figure(folder) -> None:
    """Above the bar of fp16, yet further off than at export."""
    bundle = read_bundle(demo_bundle())
    shutil.copytree(bundle.folder, folder)
    path = folder / graph("vision", "fp16")
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 2 and values.dtype == np.float16:
            step = np.abs(values).max() / 24
            tensor.CopyFrom(numpy_helper.from_array((np.round(values / step) * step).astype(np.float16), tensor.name))
    onnx.save(model, path)
    seal(folder, bundle.manifest)
    checks = [check for check in verify_canonical(read_bundle(folder))["fp16"].checks if check.stage == "image"]
    assert all(check.worst_cosine > WORST_COSINE["fp16"] and not check.passed for check in checks)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (PREPROCESSOR, "image_mean", [0.5, 0.5, 0.5]),
        (PREPROCESSOR, "resample", 2),
        (CONFIG, "logit_scale_init_value", 1.0),
        (CONFIG, "projection_dim", 33),
        (TOKENIZER_CONFIG, "model_max_length", 64),
    ],
)
def test_files_that_disagree_are_refused_on_opening(tiny_bundle, folder, name, key, value) -> None:
    shutil.copytree(tiny_bundle.folder, folder)
    content = json.loads((folder / name).read_bytes())
    (folder / name).write_text(json.dumps(content | {key: value}))
    seal(folder, tiny_bundle.manifest)
    with pytest.raises(BundleInvalid) as caught:
        read_bundle(folder)
    assert (caught.value.value, caught.value.where) == (value, f"{name}: {key}")


def test_graphs_of_another_shape(tiny_bundle) -> None:
    manifest = tiny_bundle.manifest
    image = manifest.image.model_copy(update={"size": (96, 96)})
    for facts, where in (({"image": image}, "pixel_values"), ({"dim": 48}, "image_embeds")):
        with pytest.raises(BundleInvalid) as caught:
            check_graphs(tiny_bundle.folder, manifest.model_copy(update=facts), tiny_bundle.graphs)
        assert str(caught.value.where).endswith(where)


def test_a_bundle_without_canonical_outputs(tiny_bundle, folder, caplog) -> None:
    shutil.copytree(tiny_bundle.folder, folder)
    (folder / CANONICAL).unlink()
    seal(folder, tiny_bundle.manifest)
    assert verify_canonical(read_bundle(folder)) == {}
    assert caplog.records


def test_a_bundle_of_an_older_version_is_brought_up_to_date(tiny_bundle, tmp_path, caplog) -> None:
    """It names no padding token and has no canonical outputs: it opens, verify says so, and export adds both."""
    old = tmp_path / "old"
    shutil.copytree(tiny_bundle.folder, old)
    (old / CANONICAL).unlink()
    config = json.loads((old / TOKENIZER_CONFIG).read_bytes())
    (old / TOKENIZER_CONFIG).write_text(json.dumps({key: config[key] for key in config if key != "pad_token"}))
    seal(old, tiny_bundle.manifest)
    verify_canonical(read_bundle(old))
    assert len(caplog.records) == 2
    caplog.clear()
    new = export_bundle(read_bundle(old), tmp_path / "new", ("fp32",))
    assert json.loads((new.folder / TOKENIZER_CONFIG).read_bytes()) == config
    assert "pad_token" not in json.loads((old / TOKENIZER_CONFIG).read_bytes())
    assert verify_canonical(new)["fp32"].passed
    assert caplog.records == []


@pytest.mark.parametrize("size", [32, 224, 256, 336, 384, 448])
@pytest.mark.parametrize(
    "change",
    [
        {"crop_rounding": "floor"},
        {"resize_rounding": "round"},
        {"interpolation": "bilinear"},
        {"resize": "squash"},
        {"resize": "pad"},
    ],
    ids=str,
)
def test_every_part_of_an_image_spec_shows(size, change) -> None:
    spec = ImageSpec(size=(size, size), resize="shortest", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    images = drawn(sizes(spec))
    ours, theirs = (sampled(to_pixels(each, images)) for each in (spec, spec.model_copy(update=change)))
    assert np.abs(ours - theirs).max() > 1e-3


def test_the_packaged_model() -> None:
    bundle = read_bundle(demo_bundle())
    assert bundle.manifest.fingerprint() == "7b7cc24642bb98b7"
    assert all(report.passed for report in verify_canonical(bundle).values())
    canonical = read_canonical(bundle)
    assert canonical.precision == "fp16"
