"""A configuration and a model to batches; a model whose pictures are prepared otherwise."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.making import picture, write_pairs
from training.towers import CONTEXT, SIZE, small_towers
from tuwen.data.tokens import Tokenizer
from tuwen.models.towers import Towers
from tuwen.training.config import ImageChanges, TrainConfig
from tuwen.training.config_file import config_of
from tuwen.training.data import open_stream
from tuwen.training.model import with_image
from tuwen.training.pairs import Part


@pytest.fixture(scope="module")
def towers() -> Towers:
    return small_towers()


def config(train: object, *overrides: str) -> TrainConfig:
    tree = {"model": {"source": "x"}, "data": {"train": train}, "run": {"epochs": 1, "batch": 4}}
    return config_of(tree, ["run.workers=2", *overrides])


def test_a_configuration_is_followed(towers: Towers, tmp_path: Path) -> None:
    folder = f"{write_pairs(tmp_path, range(22))}"
    stream = open_stream(config(folder, "augment.crop=none", "data.shuffle=false"), towers)
    first, *rest = stream
    assert (len(first), first.pixels.shape, len(rest)) == (4, (4, 3, SIZE, SIZE), 4)
    exact = towers.text_spec.cut_exact
    assert first.ids.shape[1] == (int(first.mask.sum(dim=1).max()) if exact else CONTEXT)
    images = [Image.open(io.BytesIO(picture(number))).convert("RGB") for number in range(0, 8, 2)]
    assert np.abs(first.pixels.numpy() - towers.to_pixels(images)).max() < 1e-5
    assert len(open_stream(config(folder, "data.drop_last=false"), towers)) == 6
    assert len(open_stream(config(folder), towers, Part(1, 2))) == 2


def test_pictures_may_be_prepared_otherwise(towers: Towers) -> None:
    assert with_image(towers, ImageChanges()) is towers
    changed = with_image(towers, ImageChanges(resize="squash", mean=(0.5, 0.5, 0.5)))
    assert (changed.image_spec.resize, changed.image_spec.mean) == ("squash", (0.5, 0.5, 0.5))
    assert changed.image_spec.std == towers.image_spec.std
    wide = Image.new("RGB", (90, 30))
    wide.paste((255, 255, 255), (0, 0, 30, 30))
    assert not np.allclose(changed.to_pixels([wide]), towers.to_pixels([wide]))


def test_captions_of_real_photos_in_two_languages(towers: Towers, shared_data: Path) -> None:
    table = shared_data / "flickr8k_200" / "captions.jsonl"
    source = {"path": f"{table}", "captions": {"en": "en", "zh": "zh"}}
    tree = config([source], "data.languages={zh: 1}", "run.batch=100", "augment.flip=0.5")
    batches = list(open_stream(tree, towers))
    assert [len(batch) for batch in batches] == [100, 100]
    tokenizer = Tokenizer(towers.tokenizer, towers.text_spec)
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    chinese = tokenizer.to_tokens([text for row in rows for text in row["zh"]])
    known = {tuple(ids[:length].tolist()) for ids, length in zip(chinese.ids, chinese.lengths, strict=True)}
    for batch in batches:
        for ids, mask in zip(batch.ids, batch.mask, strict=True):
            assert tuple(ids[: int(mask.sum())].tolist()) in known
