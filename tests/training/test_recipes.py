"""The recipes in `configs/` can be read, and the one of PaddleClas says what PaddleClas' own file says."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel

from models import original_formats, tiny_transformers
from tuwen.training.config import TrainConfig
from tuwen.training.config_file import dump_config, read_config
from tuwen.training.loop import fit

from .runs import losses, write_pairs
from .towers import OVERRIDES

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for path in (ROOT / "configs").glob("*.yaml") if path.stem != "inference_clip")

PADDLE = """
Global:
  {checkpoints: null, pretrained_model: ViT-B-32.pdparams, output_dir: ./output/, device: cpu, save_interval: 1,
   eval_during_train: True, eval_interval: 1, epochs: 120, print_batch_step: 1, use_visualdl: False,
   image_shape: [3, 224, 224], export_shape: [77], export_type: int64, save_inference_dir: ./inference_text}
Arch: {name: CLIP_vit_base_patch32_224_with_TextEncoder, clip: text}
Loss: {margin: 1.0, embedding_size: 512, is_text_image_pairs: True, weight: 1.0}
Optimizer:
  {name: AdamW, beta1: 0.9, beta2: 0.999, epsilon: 1.0e-8, weight_decay: 0.05, layerwise_decay: 0.6,
   filter_bias_and_bn: True,
   lr: {name: Cosine, learning_rate: 0.0004, eta_min: 1.0e-6, warmup_epoch: 10, warmup_start_lr: 5.0e-7}}
ResizeImage: {size: 224, interpolation: bicubic, backend: pil}
Dataset: {name: Img2Dataset, root_path: ./mscoco, split: train}
NormalizeImage:
  {scale: 1.0/255.0, order: "", mean: [0.48145466, 0.4578275, 0.40821073],
   std: [0.26862954, 0.26130258, 0.27577711]}
Sampler: {name: DistributedBatchSampler, batch_size: 256, drop_last: False, shuffle: True}
Loader: {num_workers: 4, use_shared_memory: True}
"""


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_can_be_read_and_written(path: Path, tmp_path: Path) -> None:
    config = read_config(path)
    again = tmp_path / path.name
    again.write_text(dump_config(config), encoding="utf-8")
    assert read_config(again) == config


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_command_in_a_recipe_can_be_given(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    overrides = re.findall(r"-o (\S+=\S+)", text)
    assert f"tuwen train -c configs/{path.name}" in text
    assert read_config(path, overrides)


def smallest(recipe: str, folder: Path) -> list[str]:
    """What makes a recipe one of a small model of its family, with 24 pairs and nothing else changed."""
    pairs = write_pairs(folder / "pairs")
    if recipe == "finetune_openclip":
        scratch = ["model.weights=null", "model.scratch=true", f"model.overrides={json.dumps(OVERRIDES)}"]
        return ["model.source=openclip:ViT-B-32/openai", *scratch, f"data.train={pairs}", f"evaluate.pairs={pairs}"]
    if recipe == "clip_vit_b32_coco":
        weights = original_formats.paddle(folder).path
        found = [f"model.source=paddle:{weights}", f"data.train={pairs}", f"evaluate.pairs={pairs}"]
        return [*found, "schedule.warmup_epochs=null"]
    model = tiny_transformers.write(folder / "model", "chinese_clip")
    rows = [{"image": path.name, "zh": f"红色 {path.stem}", "en": path.stem} for path in sorted(pairs.glob("*.png"))]
    table = pairs / "captions.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return [f"model.source=hf:{model}", f"data.train.0.path={table}", f"evaluate.pairs.0.path={table}"]


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["clip_vit_b32_coco", "finetune_openclip", "finetune_chinese_clip"])
def test_a_recipe_runs_with_a_small_model_of_its_family(recipe: str, tmp_path: Path) -> None:
    run = ["run.steps=3", "run.epochs=null", "run.batch=8", "run.device=cpu", f"run.output={tmp_path / 'output'}"]
    chunk = [] if recipe == "clip_vit_b32_coco" else ["run.chunk=4", "schedule.warmup_steps=1"]
    config = read_config(ROOT / "configs" / f"{recipe}.yaml", [*run, *chunk, *smallest(recipe, tmp_path)])
    outcome = fit(config, lambda line: None)
    assert len(losses(tmp_path / "output")) == 3
    assert outcome.skipped == {}
    assert {"text_retrieval_recall@1", "image_retrieval_recall@10"} < set(outcome.metrics)


def test_the_paddle_recipe_is_that_one() -> None:
    ours, theirs = read_config(ROOT / "configs" / "clip_vit_b32_coco.yaml"), yaml.safe_load(PADDLE)
    options, rates, settings = theirs["Optimizer"], theirs["Optimizer"]["lr"], theirs["Global"]
    optimizer, schedule, run = ours.optimizer, ours.schedule, ours.run
    assert optimizer.betas == (options["beta1"], options["beta2"])
    assert (optimizer.eps, optimizer.lr) == (options["epsilon"], rates["learning_rate"])
    assert (optimizer.weight_decay, optimizer.layer_decay) == (options["weight_decay"], options["layerwise_decay"])
    assert (schedule.warmup_lr, schedule.eta_min) == (rates["warmup_start_lr"], rates["eta_min"])
    assert (schedule.name, schedule.warmup_epochs) == ("cosine", rates["warmup_epoch"])
    assert (run.epochs, run.log_every) == (settings["epochs"], settings["print_batch_step"])
    assert (run.save_epochs, ours.evaluate.epochs) == (settings["save_interval"], settings["eval_interval"])
    assert (run.output, run.device) == (Path(settings["output_dir"]), settings["device"])
    assert (run.batch, run.workers) == (theirs["Sampler"]["batch_size"], theirs["Loader"]["num_workers"])
    assert (ours.data.drop_last, ours.data.shuffle) == (
        theirs["Sampler"]["drop_last"],
        theirs["Sampler"]["shuffle"],
    )
    assert ours.data.train[0].path == Path(theirs["Dataset"]["root_path"], theirs["Dataset"]["split"])
    assert list(ours.model.image.mean or ()) == theirs["NormalizeImage"]["mean"]
    assert list(ours.model.image.std or ()) == theirs["NormalizeImage"]["std"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_guide_names_every_key_of_paddle_and_only_keys_of_ours(language: str) -> None:
    text = (ROOT / "docs" / language / "train.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (`.*?) \| (.*) \|$", re.split(r"^## .*PaddleClas.*$", text, flags=re.MULTILINE)[-1], re.MULTILINE
    )
    named = {name for theirs, _ in rows for name in re.findall(r"`([\w.]+)`", theirs)}
    assert {key.rsplit(".", 1)[-1] for key in named} >= {*leaves(yaml.safe_load(PADDLE))} - {"lr"}
    sections = "model|objective|data|augment|loss|optimizer|schedule|run|evaluate|export"
    for place in re.findall(rf"`((?:{sections})\.[\w.]+)", text):
        assert has(TrainConfig, place.split(".")), place


def leaves(tree: object) -> Iterator[str]:
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield from leaves(value) if isinstance(value, dict) else [key]


def has(model: type[BaseModel], path: Sequence[str]) -> bool:
    field = model.model_fields.get(path[0])
    if field is None or len(path) == 1:
        return field is not None
    kinds = (field.annotation, *get_args(field.annotation))
    return has(next(kind for kind in kinds if hasattr(kind, "model_fields")), path[1:])
