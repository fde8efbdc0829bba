"""`tuwen bench`, as typed."""

import json

import pytest

from cli.running import run
from shapes import shape, written_shapes
from tuwen.bench.bench import TORCH, TORCH_CUT, Benchmark, Row
from tuwen.bench.cold_start import ColdStart
from tuwen.bundle.bundle import read_bundle
from tuwen.cli.bench import show
from tuwen.demo import demo_bundle

NAME = "ViT-tiny-of-bench"
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "layers": 1, "width": 32, "heads": 2},
}
FEW = ("demo", "--quick", "--batch", "2", "--runtime", "onnxruntime", "--threads", "1")


@pytest.fixture(scope="module")
def architecture(tmp_path_factory) -> str:
    from tuwen.models.torchvision import import_open_clip

    config = tmp_path_factory.mktemp("architecture") / f"{NAME}.json"
    config.write_text(json.dumps(CONFIG))
    import_open_clip().add_model_config(config)
    return f"openclip:{NAME}"


def test_against_torch_as_json(architecture, root, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tuwen.cli.bench.PAUSE", 0.0)
    plot = tmp_path / "speed.png"
    result = run("bench", *FEW, "--against", "torch", "--source", architecture, "--seed", 0, "--plot", plot, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert shape(document) == written_shapes(root)["bench"]
    assert len(result.stderr.splitlines()) == 1, "a note that the weights are others"
    assert {(row["part"], row["runtime"]) for row in document["against"]} == {
        *(("image", "torch"), ("text", "torch"), ("five-fifty", "torch")),
        *(("text", "torch-cut"), ("five-fifty", "torch-cut")),
    }
    (image,), (text,) = document["image"], document["text"]
    assert (image["batch"], image["runtime"], image["precision"]) == (2, "onnxruntime", "fp32")
    assert image["times_torch"] > 0
    assert image["times_torch_cut"] is None
    assert text["times_torch_cut"] > 0
    assert image["per_second"] == pytest.approx(2000 / image["p50_ms"])
    assert image["p50_ms"] <= image["p95_ms"] <= image["p99_ms"]
    (start,) = document["starts"]
    assert 0.2 < start["seconds"] < 120
    assert start["peak_mib"] > 50
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_tables_fit_a_terminal(capsys) -> None:
    """With the longest names, six digits, and both baselines."""
    rows = [
        Row(part, batch, runtime, "bf16", "cpu", 123456.7, 1234.5, 1345.6, 1456.7, 1.234, 5, 0.5, 1000.25, cut)
        for part, cut in (("image", None), ("text", 123.45), ("five-fifty", 123.45))
        for batch in (1, 64)
        for runtime in ("onnxruntime", "openvino-ir", TORCH, TORCH_CUT)
        if (part, runtime) != ("image", TORCH_CUT)
    ]
    starts = [ColdStart("onnxruntime", "bf16", "cpu", 12.345, 12345.6)]
    show(Benchmark(read_bundle(demo_bundle()), 64, {"fp32": 1e12, "bf16": 2e12}, rows, starts))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    words = [line.split() for line in lines]
    assert [sum(name in line for line in words) for name in ("onnxruntime", TORCH_CUT)] == [9, 5], "none is wrapped"
    assert [line.split() for line in lines if line.startswith("batch")] == [
        ["batch", "runtime", "in", "images/s", "ms", "prepare", "of", "max", "×", "torch"],
        ["batch", "runtime", "in", "texts/s", "ms", "prepare", "of", "max", "×", "torch", "×", "cut"],
    ]
    assert lines[-1] == "matrix products alone, GFLOP/s at best: 1,000 in fp32, 2,000 in bf16"


@pytest.mark.parametrize(
    ("arguments", "code", "value"),
    [
        (("demo", "--batch", "0,8"), 2, "0,8"),
        (("demo", "--runtime", "ort"), 2, "ort"),
        (("demo", "--precision", "int8"), 1, "int8"),
        (("demo", "--seed", "1"), 2, "--against torch"),
        (("nowhere",), 1, "nowhere"),
        (("demo", "--against", "torch", "--source", "hf:x", "--seed", "1"), 2, "--seed"),
        (("demo", "--against", "torch"), 2, "recipes/emoji"),
        (("demo", "--against", "torch", "--source", "hf:a/b"), 2, "tuwen export hf:a/b"),
    ],
)
def test_a_mistake_is_an_error_that_names_the_value(arguments, code, value, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("bench", *arguments, "--quick")
    assert result.exit_code == code
    assert value in result.stderr
    assert not result.stdout
