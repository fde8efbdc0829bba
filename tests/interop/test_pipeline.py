from pathlib import Path

import pytest
import yaml

from tuwen.bundle.manifest import ImageSpec
from tuwen.errors import InvalidInput
from tuwen.interop.paddle_config import BUILDS, IDLE, INSTEAD, SEARCHES, USED, Plan, differences, read_plan

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
    return read_plan(config, overrides, model)[1]


def plan(config: Path, *overrides: str) -> Plan:
    plan, problems = read_plan(config, overrides, "demo")
    assert problems == []
    assert plan is not None
    return plan


def test_the_pipelines_own_example_is_understood(config: Path) -> None:
    found = plan(config)
    assert (found.mode, found.k, found.min_score, found.model) == ("text-to-image", 1, 0.5, "demo")
    assert found.design == {"kind": "HNSW32", "metric": "IP"}
    assert found.indexes == {"image": Path("clip_image"), "text": Path("clip_text")}
    assert (found.device, found.precision, found.threads) == ("cpu", None, 10)
    assert found.dims == {"Global.embedding_size": 512, "IndexProcess.embedding_size": 512}
    assert sorted(found.idle) == sorted(IDLE)
    spec = ImageSpec(size=(224, 224), resize="shortest", mean=tuple(MEAN), std=tuple(STD))
    assert list(differences(found.transforms, spec)) == []


@pytest.mark.parametrize("mode", [*BUILDS, *SEARCHES])
def test_every_mode(config: Path, mode: str) -> None:
    assert plan(config, f"Global.mode={mode}").mode == mode


def test_overrides_win(config: Path) -> None:
    found = plan(
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
    assert (found.device, found.precision) == ("tensorrt", "fp16")
    assert found.design == {"kind": "IVF", "metric": "L2"}
    assert (found.k, found.min_score, found.delimiter, found.operation) == (7, 0, "\t", "append")


def test_a_model_is_named_in_place_of_paddles(config: Path, bundle: Path) -> None:
    assert problems(config, model=None) == [
        f"Global.inference_{tower}_encoder_dir: ./inference_{tower} is no bundle; a Paddle inference model cannot "
        "be run: give --model BUNDLE, or write Global.model (tuwen export makes bundles)"
        for tower in ("image", "text")
    ]
    dirs = [f"Global.inference_{tower}_encoder_dir={bundle}" for tower in ("image", "text")]
    found, wrong = read_plan(config, dirs, None)
    assert wrong == []
    assert found is not None
    assert found.model == str(bundle)
    found, _ = read_plan(config, ["Global.model=mine"], None)
    assert found is not None
    assert found.model == "mine"


def test_all_problems_are_told_at_once(config: Path) -> None:
    found = problems(
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
    )
    assert found == [
        "IndexProcess.index_method: 'PQ' cannot be used: write one of HNSW32, IVF, Flat",
        "IndexProcess.dist_type: 'hamming' cannot be used: write one of IP, L2",
        "IndexProcess.return_k: 0 cannot be used: write a whole number above 0",
        "IndexProcess.score_thres: 'high' cannot be used: write a cosine, -1 to 1",
        "Global.batchsize is not known: did you mean Global.batch_size?",
        "IndexProcess.index_dir cannot be used: write image_index_dir and text_index_dir",
        "Arch.name is not known: leave it out",
        "Global.infer_imgs: nowhere: name a picture or a folder that is there",
        "IndexProcess.image_index_dir is missing: name the folder of that index",
        "Global.use_tensorrt: TensorRT computes on a GPU: write use_gpu: True, too",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is no YAML"),
        ("- a", "must have sections"),
        ("Global: 3", "must have sections"),
        ("", "must have sections"),
        ("\x00", "is no YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(InvalidInput, match=message):
        read_plan(tmp_path / "a.yaml", (), None)


@pytest.mark.parametrize("override", ["mode=x", "Global.mode", "Global.mode=[", "=x"])
def test_overrides_that_are_none(config: Path, override: str) -> None:
    with pytest.raises(InvalidInput, match="-o "):
        problems(config, override)


def test_preprocessing_that_is_not_the_models_is_told() -> None:
    spec = ImageSpec(size=(64, 64), resize="shortest", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    transforms = {next(iter(each)): next(iter(each.values())) or {} for each in TRANSFORMS} | {"RandFlip": {}}
    found = list(differences(transforms, spec))
    assert [line.split(":")[1].strip() for line in found[:-1]] == [
        "ResizeImage.size",
        "CropImage.size",
        "NormalizeImage.mean",
        "NormalizeImage.std",
    ]
    assert found[0] == (
        "PreProcess.transform_ops: ResizeImage.size: 224 is not the model's ((64, 64)): leave PreProcess out, it "
        "brings its own"
    )
    assert "RandFlip cannot be done" in found[-1]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_guide_names_every_key(root: Path, language: str) -> None:
    page = (root / "docs" / language / "pipeline.md").read_text(encoding="utf-8")
    for key in (*USED, *IDLE, *INSTEAD):
        assert f"`{key}`" in page, key
