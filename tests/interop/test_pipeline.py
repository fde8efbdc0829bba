import re
from pathlib import Path

import pytest
import yaml

from tuwen.bundle.manifest import ImageSpec
from tuwen.errors import InvalidInput
from tuwen.interop.paddle_config import (
    IDLE,
    INSTEAD,
    MODES,
    USED,
    InvalidConfig,
    PaddleConfig,
    check_model,
    differences,
    read_config,
)

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
TRANSFORMS = [
    {"ResizeImage": {"size": 224}},
    {"CropImage": {"size": 224}},
    {"NormalizeImage": {"scale": "1.0/255.0", "mean": MEAN, "std": STD, "order": "", "channel_num": 3}},
    {"ToCHWImage": None},
]
CONFIG = {
    "Global": {
        "mode": "text-to-image",
        "infer_imgs": "photo.jpg",
        "texts": "texts.txt",
        "inference_image_encoder_dir": "./inference_image",
        "inference_text_encoder_dir": "./inference_text",
        "batch_size": 1,
        "use_gpu": False,
        "embedding_size": 512,
        "enable_mkldnn": False,
        "cpu_num_threads": 10,
        "enable_benchmark": True,
        "use_fp16": False,
        "ir_optim": False,
        "use_tensorrt": False,
        "gpu_mem": 8000,
        "enable_profile": False,
    },
    "PreProcess": {"transform_ops": TRANSFORMS},
    "IndexProcess": {
        "index_method": "HNSW32",
        "image_index_dir": "./clip_image",
        "text_index_dir": "./clip_text",
        "index_operation": "new",
        "delimiter": "\t",
        "dist_type": "IP",
        "embedding_size": 512,
        "batch_size": 1,
        "return_k": 1,
        "score_thres": 0.5,
    },
}
"""every key that the pipeline's own example has, with its values"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "texts.txt").touch()
    file = tmp_path / "inference_clip.yaml"
    file.write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    return file


def problems(config: Path, *overrides: str, model: str | None = "demo") -> list[str]:
    """The keys that are wrong."""
    with pytest.raises(InvalidConfig) as caught:
        read_config(config, overrides, model)
    return [re.split(r":? ", problem)[0] for problem in caught.value.problems]


def read(config: Path, *overrides: str) -> PaddleConfig:
    return read_config(config, overrides, "demo")


def test_the_pipelines_own_example_is_understood(config: Path) -> None:
    found = read(config)
    assert (found.mode, found.process.return_k, found.process.score_thres, found.model) == (
        *("text-to-image", 1, 0.5, "demo"),
    )
    assert found.design == {"kind": "HNSW32", "metric": "IP"}
    assert (found.indexed, found.index) == ("image", Path("clip_image"))
    assert (found.device, found.general.use_fp16, found.general.cpu_num_threads) == ("cpu", False, 10)
    assert sorted(found.idle) == sorted(IDLE)
    spec = ImageSpec(size=(224, 224), resize="shortest", mean=tuple(MEAN), std=tuple(STD))
    check_model(found, "a model", 512, spec)
    with pytest.raises(InvalidConfig) as caught:
        check_model(found, "a model", 768, spec)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        *("Global.embedding_size", "IndexProcess.embedding_size"),
    ]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode(config: Path, mode: str) -> None:
    assert read(config, f"Global.mode={mode}").mode == mode


def test_overrides_win(config: Path) -> None:
    found = read(
        config,
        "Global.use_gpu=True",
        "Global.use_tensorrt=true",
        "Global.use_fp16=True",
        "IndexProcess.index_method=IVF",
        "IndexProcess.dist_type=L2",
        "IndexProcess.return_k=7",
        "IndexProcess.score_thres=0",
        r"IndexProcess.delimiter=\t",
        "IndexProcess.index_operation=append",
    )
    assert (found.device, found.general.use_fp16) == ("tensorrt", True)
    assert found.design == {"kind": "IVF", "metric": "L2"}
    process = found.process
    assert (process.return_k, process.score_thres, process.delimiter, process.index_operation) == (
        *(7, 0, "\t", "append"),
    )


def test_a_model_is_named_in_place_of_paddles(config: Path, bundle: Path) -> None:
    dirs = ["Global.inference_image_encoder_dir", "Global.inference_text_encoder_dir"]
    assert problems(config, model=None) == dirs
    assert read_config(config, [f"{name}={bundle}" for name in dirs]).model == str(bundle)
    assert read_config(config, ["Global.model=mine"]).model == "mine"


def test_all_problems_are_reported_together(config: Path) -> None:
    assert problems(
        config,
        "Global.mode=image-to-image",
        "Global.infer_imgs=nowhere",
        "Global.use_tensorrt=True",
        "Global.batchsize=3",
        "IndexProcess.index_method=PQ",
        "IndexProcess.dist_type=hamming",
        "IndexProcess.return_k=0",
        "IndexProcess.score_thres=high",
        "IndexProcess.index_dir=x",
        "IndexProcess.image_index_dir=null",
        "Arch.name=CLIP",
    ) == [
        "Global.batchsize",
        "IndexProcess.index_method",
        "IndexProcess.dist_type",
        "IndexProcess.return_k",
        "IndexProcess.score_thres",
        "IndexProcess.index_dir",
        "Arch",
        "Global.use_tensorrt",
        "Global.infer_imgs",
        "IndexProcess.image_index_dir",
    ]
    assert problems(config, "Global.mode=null") == ["Global.mode"]
    assert problems(config, "Global.mode=train") == ["Global.mode"]
    assert problems(config, "Global.texts=no.txt") == ["Global.texts"]
    assert problems(config, "IndexProcess.image_index_dir='qdrant://'") == ["IndexProcess.image_index_dir"]


@pytest.mark.parametrize("content", ["a: [", "- a", "Global: 3", "", "\x00"])
def test_files_that_are_no_configuration(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(InvalidInput) as caught:
        read_config(tmp_path / "a.yaml")
    assert caught.value.where == tmp_path / "a.yaml"


@pytest.mark.parametrize("override", ["mode=x", "Global.mode", "Global.mode=[", "=x"])
def test_overrides_that_are_none(config: Path, override: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_config(config, [override], "demo")
    assert caught.value.value == override


def test_preprocessing_that_is_not_the_models_is_refused() -> None:
    spec = ImageSpec(size=(64, 64), resize="shortest", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    found = [line.split(":")[1].split()[0] for line in differences([*TRANSFORMS, {"RandFlip": None}], spec)]
    assert found == ["ResizeImage.size", "CropImage.size", "NormalizeImage.mean", "NormalizeImage.std", "RandFlip"]
    own = [{"ResizeImage": {"size": [64, 64]}}, {"NormalizeImage": {"mean": [0.5, 0.5, 0.50001]}}, "ToCHWImage"]
    assert differences(own, spec) == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_guide_names_every_key(root: Path, language: str) -> None:
    page = (root / "docs" / language / "pipeline.md").read_text(encoding="utf-8")
    for key in (*USED, *IDLE, *INSTEAD):
        assert f"`{key}`" in page, key
