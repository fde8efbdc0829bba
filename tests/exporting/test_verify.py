"""Verification passes what is right; a fault in any stage makes that stage fail."""

import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

from tuwen.bundle.bundle import read_bundle, seal
from tuwen.bundle.companions import write_companions
from tuwen.bundle.manifest import ImageSpec, Scoring, graph
from tuwen.data.tokens import Tokenizer
from tuwen.errors import InvalidInput, NotVerified, RuntimeUnavailable
from tuwen.exporting.checks import probabilities
from tuwen.exporting.compare import check_inputs, compare, compare_devices, reference
from tuwen.exporting.export import export_towers
from tuwen.exporting.report import write_report
from tuwen.exporting.runs import lower, parse_devices
from tuwen.exporting.samples import Samples, built_in, labelled
from tuwen.exporting.verify import verify

pytestmark = pytest.mark.precision

FEW = Samples(built_in().images[:4], built_in().texts[:16])


@pytest.mark.parametrize("name", ["tiny", pytest.param("masked", marks=pytest.mark.long)])
def test_a_right_bundle_passes_on_every_runtime(request, name) -> None:
    manifest = request.getfixturevalue(f"{name}_bundle").manifest
    assert {check.runtime for check in manifest.verify["fp32"].checks} == {"prepare", "onnxruntime", "openvino"}
    for report in manifest.verify.values():
        assert report.passed
        assert [check.stage for check in report.checks if check.runtime == "openvino"][:4] == [
            "image",
            "text",
            "similarity",
            "labels",
        ]
    exact = [check for check in manifest.verify["fp32"].checks if check.precision == "fp32"]
    assert max(check.max_abs for check in exact) <= 1e-5
    assert {check.top10 for check in exact if check.stage == "similarity"} == {1.0}


def test_fp16_is_close_but_not_the_same(tiny_bundle) -> None:
    images = [check for check in tiny_bundle.manifest.verify["fp16"].checks if check.stage == "image"]
    assert [check.precision for check in images] == ["fp16", "fp16"]
    assert all(check.worst_cosine >= 0.999 and check.max_abs > 1e-5 for check in images)


def failed_stages(towers, bundle, folder, spoil=lambda graphs: None, **facts) -> set[str]:
    """Copy a bundle with a fault in it, and verify: the stages that do not pass.

    Args:
        towers: the checkpoint.
        bundle: its bundle.
        folder: for the copy.
        spoil: changes the fp32 graphs in place, by tower.
        facts: of the manifest, to be replaced.
    """
    shutil.copytree(bundle.folder, folder)
    graphs = {tower: onnx.load(folder / graph(tower, "fp32")) for tower in ("vision", "text")}
    spoil(graphs)
    for tower, model in graphs.items():
        onnx.save(model, folder / graph(tower, "fp32"))
        (folder / graph(tower, "fp16")).unlink(missing_ok=True)
    manifest = bundle.manifest.model_copy(update=facts)
    write_companions(folder, manifest.dim, manifest.image, manifest.text, manifest.scoring)
    seal(folder, manifest)
    reports = compare(read_bundle(folder), reference(towers, FEW))
    assert reports.keys() == {"fp32"}
    return {check.stage for check in reports["fp32"].checks if not check.passed}


def weight(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name.endswith(name))


def edit(model: onnx.ModelProto, name: str, change) -> None:
    tensor = weight(model, name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))


def test_no_fault(tiny_towers, tiny_bundle, folder) -> None:
    assert failed_stages(tiny_towers, tiny_bundle, folder) == set()


def test_a_wrong_mean(tiny_towers, tiny_bundle, folder) -> None:
    red, green, blue = tiny_towers.image_spec.mean
    wrong = tiny_towers.image_spec.model_copy(update={"mean": (red, blue, green)})
    assert failed_stages(tiny_towers, tiny_bundle, folder, image=wrong) == {"pixels", "similarity"}


def test_a_missing_mask(masked_towers, masked_bundle, folder) -> None:
    def ignore_mask(graphs) -> None:
        """What reads the mask reads ones in its place, of the same shape."""
        model = graphs["text"].graph
        for node in model.node:
            node.input[:] = ["ones" if name == "attention_mask" else name for name in node.input]
        one = numpy_helper.from_array(np.array(1, dtype=np.int64), "one")
        model.initializer.append(one)
        model.node.insert(0, onnx.helper.make_node("Max", ["attention_mask", "one"], ["ones"]))

    assert failed_stages(masked_towers, masked_bundle, folder, ignore_mask) >= {"text", "similarity"}


def test_swapped_layers(tiny_towers, tiny_bundle, folder) -> None:
    def swap(graphs) -> None:
        first, second = (weight(graphs["vision"], f"resblocks.{layer}.mlp.c_fc.bias") for layer in (0, 1))
        first.name, second.name = second.name, first.name

    with torch.no_grad():
        for layer, block in enumerate(tiny_towers.vision.tower.transformer.resblocks):
            assert block.mlp.c_fc.bias.abs().max() > 0, layer  # else swapping would change nothing
    assert failed_stages(tiny_towers, tiny_bundle, folder, swap) == {"image", "similarity"}


def test_a_shifted_position(tiny_towers, tiny_bundle, folder) -> None:
    def shift(graphs) -> None:
        edit(graphs["text"], "positional_embedding", lambda table: np.roll(table, 1, axis=0))

    assert failed_stages(tiny_towers, tiny_bundle, folder, shift) >= {"text", "similarity"}


def test_a_wrong_scale(tiny_towers, tiny_bundle, folder) -> None:
    wrong = tiny_bundle.manifest.scoring.model_copy(update={"scale": 10.0})
    assert failed_stages(tiny_towers, tiny_bundle, folder, scoring=wrong) == {"labels"}


def test_numbers_that_are_none(tiny_towers, tiny_bundle, folder) -> None:
    def spoil(graphs) -> None:
        edit(graphs["vision"], "conv1.weight", lambda values: np.full_like(values, np.nan))

    assert failed_stages(tiny_towers, tiny_bundle, folder, spoil) == {"image", "similarity", "labels"}


@pytest.mark.long
def test_a_bundle_that_fails_is_not_published(tiny_towers, folder) -> None:
    """Its description says of the pixels what the checkpoint's own preprocessing does not do."""
    faulty = dataclasses.replace(tiny_towers, to_pixels=lambda images: tiny_towers.to_pixels(images) + 0.1)
    with pytest.raises(NotVerified) as caught:
        export_towers(faulty, folder, samples=FEW)
    assert list(folder.parent.iterdir()) == []
    wrong = {check.stage for check in caught.value.reports["fp32"].checks if not check.passed}
    assert wrong >= {"pixels"}


def test_another_tokenizer(tiny_towers, tiny_bundle, masked_bundle) -> None:
    known = reference(tiny_towers, FEW)
    wrong = Tokenizer(masked_bundle.tokenizer, masked_bundle.manifest.text)
    pixels, tokens = check_inputs(known, tiny_bundle.manifest.image, wrong)
    assert (pixels.passed, tokens.passed, tokens.max_abs) == (True, False, len(FEW.texts))


def test_pixels_of_another_size(tiny_towers, tiny_bundle) -> None:
    spec = ImageSpec(size=(32, 32), resize="squash", mean=(0, 0, 0), std=(1, 1, 1))
    tokenizer = Tokenizer(tiny_bundle.tokenizer, tiny_bundle.manifest.text)
    pixels = check_inputs(reference(tiny_towers, FEW), spec, tokenizer)[0]
    assert not pixels.passed
    assert math.isinf(pixels.max_abs)


def test_probabilities() -> None:
    cosines = np.array([[0.3, 0.1], [0.2, 0.2]], dtype=np.float32)
    softmax = probabilities(Scoring(kind="softmax", scale=100), cosines)
    np.testing.assert_allclose(softmax, [[1, np.exp(-20)], [0.5, 0.5]], rtol=1e-5)
    sigmoid = probabilities(Scoring(kind="sigmoid", scale=10, bias=-2), cosines)
    np.testing.assert_allclose(sigmoid[0], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))], rtol=1e-5)


def test_devices(tiny_bundle) -> None:
    """A person's own labels on a runtime, on another, and by other files."""
    samples = labelled([], ["a photo of a cat", "a photo of a dog", "a photo of a tree"])
    devices = parse_devices("cpu:onnxruntime, cpu:openvino@fp32,cpu@fp16")
    runtime, files = compare_devices(tiny_bundle, devices, samples)
    for name, report in (("cpu:openvino@fp32", runtime), ("cpu@fp16", files)):
        assert [check.stage for check in report.checks] == ["image", "text", "similarity", "labels"]
        assert {check.runtime for check in report.checks} == {name}
        assert report.passed
    assert [check.precision for check in runtime.checks] == ["fp32"] * 4
    assert min(check.max_abs for check in files.checks[:2]) > 1e-5, "fp16 weights are others"


@pytest.mark.parametrize(
    ("written", "wrong"),
    [("cpu", "cpu"), ("cpu,cpu", "cpu,cpu"), ("cpu,teapot", "teapot"), ("cpu,cpu@fp8", "fp8")],
)
def test_devices_that_are_none(written, wrong) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_devices(written)
    assert caught.value.value == wrong


def test_a_device_that_is_not_here(tiny_bundle) -> None:
    with pytest.raises(RuntimeUnavailable):
        compare_devices(tiny_bundle, parse_devices("cpu,cann"), FEW)


def test_the_lower_precision_bounds_the_error() -> None:
    assert (lower("fp32", "bf16"), lower("int8", "fp16"), lower("fp32", "fp32")) == ("bf16", "int8", "fp32")


def test_one_label_is_no_distribution() -> None:
    with pytest.raises(InvalidInput) as caught:
        labelled([], ["a cat"])
    assert caught.value.value == ["a cat"]


def test_in_one_line(tiny_towers, tiny_bundle, tmp_path) -> None:
    alone = verify(tiny_bundle.folder)
    assert {(check.stage, check.runtime) for check in alone.checks} >= {
        ("pixels", "prepare"),
        ("image", "openvino"),
        ("text", "onnxruntime"),
    }
    against = verify(tiny_bundle, against=tiny_towers, samples=FEW)
    devices = verify(tiny_bundle, devices="cpu:onnxruntime,cpu:openvino@fp32", samples=FEW)
    for found in (alone, against, devices):
        assert found.passed
        assert len(set(found.checks)) == len(found.checks)
    devices.write(tmp_path / "report.md")
    assert len(rows(tmp_path / "report.md")) == len(devices.checks)
    with pytest.raises(InvalidInput):
        verify(tiny_bundle, against="torch", devices="cpu,cuda")


def rows(report: Path) -> list[str]:
    """The rows of a report's table, without its head."""
    return [line for line in report.read_text(encoding="utf-8").splitlines() if line.startswith("|")][2:]


def test_a_report_to_read(tiny_bundle, tmp_path) -> None:
    """It is in the bundle, has one row a check, and marks those that failed."""
    manifest = tiny_bundle.manifest
    checks = {check for report in manifest.verify.values() for check in report.checks}
    assert len(rows(tiny_bundle.folder / "VERIFY.md")) == len(checks)
    report = manifest.verify["fp32"]
    bad = report.checks[-1].model_copy(update={"passed": False, "max_abs": math.inf, "worst_cosine": None})
    spoiled = report.model_copy(update={"checks": (*report.checks[:-1], bad), "passed": False})
    write_report(tmp_path / "new" / "r.md", manifest, "nothing", [spoiled])
    (failed,) = (row for row in rows(tmp_path / "new" / "r.md") if "**failed**" in row)
    assert "| inf |" in failed
    with Image.open(tmp_path / "new" / "r.png") as plot:
        assert plot.width > 600
