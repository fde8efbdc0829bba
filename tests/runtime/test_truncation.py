from pathlib import Path
from typing import Any

import onnx
import pytest

import tiny
from runtime.quantised import dynamic_int8
from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import FOREIGN
from tuwen.runtime import loading
from tuwen.runtime.loading import with_truncation
from tuwen.runtime.selection import Plan

UNKNOWN = tiny.TEXT.model_copy(update={"cut_exact": False})
MASKED = UNKNOWN.model_copy(update={"mask": True})


def bundle_of(folder: Path, words: onnx.ModelProto, **changes: Any) -> Bundle:
    graphs = {"onnx/vision_model.onnx": tiny.vision_graph(), "onnx/text_model.onnx": words}
    return tiny.write_bundle(folder, graphs, **({"text": UNKNOWN, "family": FOREIGN} | changes))


def plan(runtime: str, file: Any = "fp32") -> Plan:
    return Plan(runtime, "cpu", file, "int8" if file == "int8" else "fp32", 1)


@pytest.mark.parametrize(
    ("text", "changes", "exact"),
    [
        (tiny.text_graph(), {}, True),
        (tiny.text_graph(masked=True), {"text": MASKED}, True),
        (tiny.text_graph(causal=False), {}, False),
        (tiny.text_graph(length=tiny.CONTEXT), {}, False),
        (tiny.text_graph(batch=1), {}, True),
    ],
    ids=["causal", "masked", "sees its padding", "of fixed length", "one at a time"],
)
def test_a_tower_is_cut_where_that_changes_nothing(
    text: onnx.ModelProto, changes: dict[str, Any], exact: bool, runtime: str, tmp_path: Path
) -> None:
    found = with_truncation(bundle_of(tmp_path / "a", text, **changes), plan(runtime), tmp_path / "cache")
    assert found.manifest.text.cut_exact is exact


def test_int8_alone_is_never_cut(runtime: str, tmp_path: Path) -> None:
    vision, text = dynamic_int8()
    graphs = {"onnx/vision_model_int8.onnx": vision, "onnx/text_model_int8.onnx": text}
    bundle = tiny.write_bundle(tmp_path / "a", graphs, text=UNKNOWN, family=FOREIGN)
    assert not with_truncation(bundle, plan(runtime, "int8"), tmp_path / "cache").manifest.text.cut_exact


def test_the_outcome_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, cache = bundle_of(tmp_path / "a", tiny.text_graph()), tmp_path / "cache"
    first = with_truncation(bundle, plan("onnxruntime"), cache)
    monkeypatch.setattr(loading, "_truncation_is_exact", lambda *_: pytest.fail("tried again"))
    assert with_truncation(bundle, plan("onnxruntime"), cache) == first


def test_a_damaged_memory_is_as_good_as_none(tmp_path: Path) -> None:
    bundle, cache = bundle_of(tmp_path / "a", tiny.text_graph()), tmp_path / "cache"
    with_truncation(bundle, plan("onnxruntime"), cache)
    (entry,) = (cache / "cuts").iterdir()
    entry.write_text('"perhaps"')
    assert with_truncation(bundle, plan("onnxruntime"), cache).manifest.text.cut_exact


def test_without_a_cache_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_truncation_is_exact", lambda *_: pytest.fail("tried"))
    bundle = bundle_of(tmp_path / "a", tiny.text_graph())
    assert with_truncation(bundle, plan("onnxruntime"), None) == bundle


def test_the_fingerprint_stays(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "a", tiny.text_graph())
    found = with_truncation(bundle, plan("onnxruntime"), tmp_path / "cache")
    assert found.manifest.fingerprint() == bundle.manifest.fingerprint()


def test_a_bundle_of_our_own_is_not_tested_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_truncation_is_exact", lambda *_: pytest.fail("tested"))
    bundle = bundle_of(tmp_path / "a", tiny.text_graph(), family="openclip")
    assert with_truncation(bundle, plan("onnxruntime"), tmp_path / "cache") is bundle
