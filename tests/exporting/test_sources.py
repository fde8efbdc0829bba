"""From what is typed to the repository and the files that it names; nothing is fetched here."""

from pathlib import Path

import pytest

from tuwen.bundle.bundle import read_manifest
from tuwen.bundle.catalogue import catalogue, find_known, is_non_commercial
from tuwen.bundle.wanted import checkpoint_files, is_ready, ready_files, weights_in
from tuwen.demo import demo_bundle
from tuwen.errors import InvalidInput, PullFailed
from tuwen.exporting.pull import named, pull
from tuwen.exporting.sources import checkpoint_here, checkpoint_of, in_folder, named_here, repository_of
from tuwen.settings import Settings

BESIDE = ["config.json", "vocab.txt", "README.md", "sub/config.json"]


@pytest.mark.parametrize(
    ("source", "repository"),
    [
        ("hf:BAAI/AltCLIP-m18", "BAAI/AltCLIP-m18"),
        ("hf:/somewhere/else", None),
        ("openclip:ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        ("openclip:convnext_base/laion400m_s13b_b51k", "laion/CLIP-convnext_base-laion400M-s13B-b51K"),
        ("openclip:ViT-B-32", None),
        ("chinese-clip:ViT-B-16", "OFA-Sys/chinese-clip-vit-base-patch16"),
        ("chinese-clip:RN50", "OFA-Sys/chinese-clip-rn50"),
        ("openclip:nothing/known", None),
        ("paddle:ViT-B-32.pdparams", None),
    ],
)
def test_repository(source: str, repository: str | None) -> None:
    assert repository_of(source) == repository


def test_a_folder_is_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert repository_of("hf:org/name") is None


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (["open_clip_pytorch_model.bin", "open_clip_model.safetensors"], ["open_clip_model.safetensors"]),
        (["open_clip_model.safetensors", "model.safetensors"], ["open_clip_model.safetensors"]),
        (["pytorch_model.bin", "model.safetensors", "tf_model.h5"], ["model.safetensors"]),
        (["clip_cn_rn50.pt"], ["clip_cn_rn50.pt"]),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
    ],
)
def test_files_of_a_checkpoint(names: list[str], weights: list[str], tmp_path: Path) -> None:
    assert checkpoint_files([*names, *BESIDE]) == [*weights, "config.json", "vocab.txt"]
    for name in names:
        (tmp_path / name).touch()
    assert weights_in(tmp_path) == tmp_path / weights[0]
    alone = in_folder("hf:org/name", tmp_path).source
    (tmp_path / "config.json").touch()
    described = in_folder("hf:org/name", tmp_path).source
    if weights[0].startswith("open_clip"):
        assert alone == described == f"openclip:{tmp_path}"
    else:
        assert (alone, described) == (str(tmp_path / weights[0]), str(tmp_path)), "its family is told by what it holds"
    assert in_folder("openclip:A/t", tmp_path) == ("openclip:A/t", tmp_path / weights[0], "openclip:A/t")


def test_a_checkpoint_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside its name, a folder in place of it, and what may be neither fetched nor guessed."""
    monkeypatch.setenv("TUWEN_CACHE", str(tmp_path))
    settings, file = Settings(), tmp_path / "w.bin"
    file.touch()
    assert checkpoint_here("openclip:ViT-B-32/old.bin", file, settings) == ("openclip:ViT-B-32", file, None)
    assert checkpoint_here("openclip:ViT-B-32/random-0", file, settings) == ("openclip:ViT-B-32", file, None)
    assert checkpoint_here("paddle:a/b.pdparams", file, settings) == ("paddle:a/b.pdparams", file, None)
    for family in ("hf", "flagai", "trained"):
        assert checkpoint_here(f"{family}:name", tmp_path, settings) == (f"{family}:{tmp_path}", None, None)
        assert checkpoint_here(f"{family}:{tmp_path}", None, settings) == (f"{family}:{tmp_path}", None, None)
    assert checkpoint_here("output/best", tmp_path, settings) == (str(tmp_path), None, None)
    assert named_here("clip", None, settings) == ("clip", None, None), "what it names is for load_source to say"
    with pytest.raises(InvalidInput) as raised:
        named_here("chinese-clip:ViT-H-14", None, settings)
    assert raised.value.value == "chinese-clip:ViT-H-14"
    assert "tuwen export" in raised.value.hint


def test_only_what_the_hub_has_is_to_be_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUWEN_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    packaged = read_manifest(demo_bundle())
    with pytest.raises(InvalidInput) as local:
        checkpoint_of(packaged, None, Settings())
    assert "tuwen pull" not in local.value.hint
    pulled = packaged.model_copy(update={"source": "hf:BAAI/AltCLIP-m18"})
    with pytest.raises(InvalidInput) as published:
        checkpoint_of(pulled, None, Settings())
    assert "tuwen pull hf:BAAI/AltCLIP-m18 --export" in published.value.hint


def test_files_that_are_not_there() -> None:
    with pytest.raises(PullFailed):
        checkpoint_files(["a.pt", "b.pt", *BESIDE])
    layout = ["onnx/vision_model.onnx", "onnx/text_model.onnx", "config.json", "tokenizer.json"]
    assert is_ready(layout)
    with pytest.raises(PullFailed) as missing:
        ready_files(layout, ["fp32"])
    assert missing.value.value == ["preprocessor_config.json", "tokenizer_config.json"]
    described = [*layout, "tokenizer_config.json", "processor_config.json"]
    assert sorted(ready_files(described, ["fp32"])) == sorted(described)
    with pytest.raises(PullFailed):
        ready_files(["visual/model.onnx", "textual/model.onnx"], ["fp32", "int8"])


def test_the_catalogue_holds_together() -> None:
    models = catalogue().models
    assert len({known.name for known in models}) == len(models)
    for known in models:
        assert set(known.quality) <= set(catalogue().figures), known.name
        assert known.hub.count("/") == 1
        assert known.dim > 0
        assert known.languages
        assert find_known(known.source) == find_known(f"hf:{known.hub}") == known
        assert known.also is None or find_known(known.also) == known
    assert {figure for known in models for figure in known.quality} == set(catalogue().figures)


def test_the_catalogue_is_what_open_clip_publishes() -> None:
    from tuwen.models.torchvision import import_open_clip

    package = import_open_clip()
    for known in catalogue().models:
        family, _, name = known.source.partition(":")
        if family == "openclip":
            architecture, _, tag = name.partition("/")
            config = package.get_model_config(architecture)
            assert package.get_pretrained_cfg(architecture, tag)["hf_hub"].rstrip("/") == known.hub
            assert (config["embed_dim"], config["vision_cfg"]["image_size"]) == (known.dim, known.image), known.name


def test_a_model_that_needs_code_of_its_own_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(PullFailed) as refused:
        pull("jinaai/jina-clip-v2")
    assert refused.value.value == "jinaai/jina-clip-v2"
    assert is_non_commercial(named("jinaai/jina-clip-v2").licence)
