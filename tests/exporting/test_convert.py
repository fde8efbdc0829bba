"""Small bundles for other runtimes: converted, run, compared; what differs is refused; what tools are told."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import tiny
from tuwen.bundle.bundle import read_bundle
from tuwen.bundle.converted import MANIFEST, read_converted
from tuwen.demo import demo_bundle
from tuwen.errors import (
    BundleChanged,
    BundleInvalid,
    BundleNotFound,
    InvalidInput,
    NotConverted,
    RuntimeUnavailable,
)
from tuwen.exporting.convert import conversion_commands, convert
from tuwen.exporting.tools import TOOLS, OpenVino
from tuwen.runtime.converted import converted_encoder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny.write_bundle(tmp_path_factory.mktemp("convert") / "tiny")


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """A text tower that takes a mask, and says so."""
    graphs = {"onnx/vision_model.onnx": tiny.vision_graph(), "onnx/text_model.onnx": tiny.text_graph(masked=True)}
    text = tiny.TEXT.model_copy(update={"mask": True})
    return tiny.write_bundle(tmp_path_factory.mktemp("convert") / "masked", graphs, text=text)


@pytest.mark.parametrize(
    ("to", "precision"),
    [
        ("openvino", "fp16"),
        ("mnn", "fp32"),
        pytest.param("openvino", "fp32", marks=pytest.mark.long),
        pytest.param("mnn", "fp16", marks=pytest.mark.long),
    ],
)
def test_what_is_converted_computes_the_same(to, precision, masked, tmp_path) -> None:
    converted = convert(masked, tmp_path / "out", to, precision=precision, threads=1)
    assert [(check.stage, check.passed) for check in converted.checks] == [("image", True), ("text", True)]
    assert converted == read_converted(tmp_path / "out", masked)
    encoder = converted_encoder(masked, converted, tmp_path / "out", 1)
    texts = ["the dog", "a cat on the dog", "cat"]
    whole, alone = encoder.encode_texts(texts), [encoder.encode_texts([text]) for text in texts]
    np.testing.assert_allclose(whole, np.concatenate(alone), atol=1e-6)
    assert converted.unit_length == (to == "openvino")
    assert to in converted.tool
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"], "nothing is left beside it"


def test_ncnn_takes_what_it_has_operations_for(tmp_path) -> None:
    bundle = read_bundle(demo_bundle())
    converted = convert(bundle, tmp_path / "out", "ncnn", towers=("vision",))
    (check,) = converted.checks
    assert (check.stage, check.passed) == ("image", True)
    assert check.worst_cosine > 0.99999
    assert set(converted.files) == {"vision.ncnn.param", "vision.ncnn.bin"}
    with pytest.raises(RuntimeUnavailable):
        converted_encoder(bundle, converted, tmp_path / "out", 1).encode_texts(["cat"])


def test_ncnn_says_what_it_lacks(bundle, tmp_path) -> None:
    with pytest.raises(NotConverted) as caught:
        convert(bundle, tmp_path / "out", "ncnn", towers=("text",))
    assert (caught.value.value, caught.value.where) == (["CumSum"], "text")
    assert list(tmp_path.iterdir()) == []


def test_ncnn_makes_something_else_of_a_plain_reshape_and_is_refused(bundle, tmp_path) -> None:
    with pytest.raises(NotConverted) as caught:
        convert(bundle, tmp_path / "out", "ncnn", towers=("vision",))
    assert [(check.stage, check.passed) for check in caught.value.checks] == [("image", False)]
    assert list(tmp_path.iterdir()) == []


def test_what_differs_is_not_published(bundle, tmp_path, monkeypatch) -> None:
    """A converter that takes another graph: the proof finds it, and what stood there stays."""
    convert(bundle, tmp_path / "out", "openvino")
    before = (tmp_path / "out" / MANIFEST).read_bytes()
    other = tiny.vision_graph()
    weights = onnx.numpy_helper.to_array(other.graph.initializer[1])
    other.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(weights * 1.3, "first"))
    onnx.save(other, tmp_path / "other.onnx")

    class Wrong(OpenVino):
        def run(self, job):
            super().run(replace(job, graph=tmp_path / "other.onnx") if job.tower == "vision" else job)

    monkeypatch.setitem(TOOLS, "openvino", Wrong())
    with pytest.raises(NotConverted) as found:
        convert(bundle, tmp_path / "out", "openvino")
    assert [(check.stage, check.passed) for check in found.value.checks] == [("image", False), ("text", True)]
    assert (tmp_path / "out" / MANIFEST).read_bytes() == before


def test_another_model_or_file_is_refused(bundle, masked, tmp_path) -> None:
    convert(bundle, tmp_path / "out", "openvino")
    with pytest.raises(BundleInvalid):
        read_converted(tmp_path / "out", masked)
    (tmp_path / "out" / "text.bin").write_bytes(b"other")
    with pytest.raises(BundleChanged):
        read_converted(tmp_path / "out", bundle)
    with pytest.raises(BundleNotFound):
        read_converted(tmp_path, bundle)
    with pytest.raises(BundleInvalid):
        convert(bundle, bundle.folder, "openvino")


def test_trtexec_is_told_the_range_of_shapes(masked, tmp_path) -> None:
    vision, text = conversion_commands(masked, tmp_path, "tensorrt")
    assert vision == (
        "trtexec",
        f"--onnx={masked.folder}/onnx/vision_model.onnx",
        f"--saveEngine={tmp_path}/vision.engine",
        "--minShapes=pixel_values:1x3x8x8",
        "--optShapes=pixel_values:8x3x8x8",
        "--maxShapes=pixel_values:32x3x8x8",
        "--fp16",
    )
    assert text[3:6] == (
        "--minShapes=input_ids:1x4,attention_mask:1x4",
        "--optShapes=input_ids:8x16,attention_mask:8x16",
        "--maxShapes=input_ids:32x24,attention_mask:32x24",
    )
    assert "--fp16" not in conversion_commands(masked, tmp_path, "tensorrt", precision="fp32")[0]


def test_atc_is_told_one_shape_a_file(masked, tmp_path) -> None:
    found = conversion_commands(masked, tmp_path, "om", chip="310P3", batches=(1, 8), towers=("text",))
    assert found == [
        (
            "atc",
            "--framework=5",
            f"--model={masked.folder}/onnx/text_model.onnx",
            f"--output={tmp_path}/text_bs{batch}",
            "--input_format=ND",
            f"--input_shape=input_ids:{batch},24;attention_mask:{batch},24",
            "--precision_mode=force_fp16",
            "--soc_version=Ascend310P3",
            "--log=error",
        )
        for batch in (1, 8)
    ]
    with pytest.raises(InvalidInput) as caught:
        conversion_commands(masked, tmp_path, "om")
    assert caught.value.where == "--chip"


def tool(folder: Path, name: str, script: str) -> None:
    """A program of that name; the real one needs hardware that a test machine has not."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_an_engine_is_recorded_and_not_said_to_be_proved(bundle, tmp_path, monkeypatch) -> None:
    tool(
        tmp_path / "bin",
        "trtexec",
        'for word; do case $word in --saveEngine=*) echo engine > "${word#*=}";; esac; done',
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    converted = convert(bundle, tmp_path / "out", "tensorrt")
    assert (converted.checks, converted.unit_length) == ((), None)
    assert set(converted.files) == {"vision.engine", "text.engine"}
    assert converted.commands[0][2] == "--saveEngine=vision.engine", "its folder has been renamed since"
    with pytest.raises(RuntimeUnavailable):
        converted_encoder(bundle, converted, tmp_path / "out", 1)


def test_a_tool_that_fails_or_is_not_there(bundle, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(RuntimeUnavailable) as missing:
        convert(bundle, tmp_path / "out", "tensorrt")
    assert missing.value.value == "trtexec"
    tool(tmp_path / "bin", "atc", "echo E10001: no such chip; exit 3")
    with pytest.raises(NotConverted) as broken:
        convert(bundle, tmp_path / "out", "om", chip="none")
    assert broken.value.value == 3
    assert "E10001" in str(broken.value)
    assert not (tmp_path / "out").exists()


def test_int8_files_alone_are_not_converted(tmp_path) -> None:
    graphs = {"onnx/vision_model_int8.onnx": tiny.vision_graph(), "onnx/text_model_int8.onnx": tiny.text_graph()}
    only = tiny.write_bundle(tmp_path / "int8", graphs)
    with pytest.raises(InvalidInput) as caught:
        conversion_commands(only, tmp_path, "mnn")
    assert caught.value.value == "int8"
