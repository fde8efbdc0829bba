"""The tokenizer of every family's bundle in transformers and in transformers.js: the same ids, padded."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tuwen.bundle.companions import write_companions
from tuwen.bundle.manifest import TOKENIZER
from tuwen.data.tokens import Tokenizer
from tuwen.models.sources import load_source

from . import openclip_zoo, original_formats, tiny_transformers

TEXTS = ("a dog", "the quick brown fox jumps over the lazy dog", "两只狗在草地上")
"""Texts that no family's cleaning changes: `tokenizer.json` cannot hold all of it."""

CASES = {
    **{
        kind: lambda folder, kind=kind: load_source(str(tiny_transformers.write(folder, kind)))
        for kind in tiny_transformers.KINDS
    },
    "chinese-clip": lambda folder: load_source(str(original_formats.chinese_clip(folder).path)),
    "flagai": lambda folder: load_source(str(original_formats.flagai(folder).path)),
    "paddle": lambda folder: load_source(str(original_formats.paddle(folder).path)),
    **{
        architecture: lambda folder, name=architecture: openclip_zoo.two_layers(name, folder, width=64)
        for architecture in ("ViT-B-32", "xlm-roberta-base-ViT-B-32", "ViT-L-14-CLIPA", "ViT-B-16-SigLIP2")
    },
}


@pytest.fixture(scope="module", params=CASES)
def bundle(request, tmp_path_factory) -> tuple[Path, list[list[int]]]:
    """The small files of a bundle, and the ids that each text has in tuwen."""
    towers = CASES[request.param](tmp_path_factory.mktemp("checkpoint"))
    folder = tmp_path_factory.mktemp("bundle")
    (folder / TOKENIZER).write_bytes(towers.tokenizer)
    write_companions(folder, 24, towers.image_spec, towers.text_spec, towers.scoring)
    tokens = Tokenizer(folder / TOKENIZER, towers.text_spec).to_tokens(TEXTS)
    return folder, [ids[:length].tolist() for ids, length in zip(tokens.ids, tokens.lengths, strict=True)]


def unpadded(ids: list[list[int]], mask: list[list[int]]) -> list[list[int]]:
    """The ids of each text; all rows must be equally long, with the padding at their ends."""
    assert len({len(row) for row in [*ids, *mask]}) == 1
    assert all(row == sorted(row, reverse=True) for row in mask)
    return [row[: sum(real)] for row, real in zip(ids, mask, strict=True)]


def test_transformers(bundle) -> None:
    from transformers import AutoTokenizer

    folder, expected = bundle
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = tokenizer(list(TEXTS), padding=True, return_attention_mask=True)
    assert unpadded(found["input_ids"], found["attention_mask"]) == expected
    padding = np.array(found["input_ids"])[np.array(found["attention_mask"]) == 0]
    assert set(padding.tolist()) == {tokenizer.pad_token_id}


SCRIPT = """
import { AutoTokenizer, env } from '@huggingface/transformers';
const [parent, name, texts] = process.argv.slice(-3);
env.allowRemoteModels = false;
env.localModelPath = parent;
const tokenizer = await AutoTokenizer.from_pretrained(name);
const { input_ids, attention_mask } = await tokenizer(JSON.parse(texts), { padding: true });
const rows = (tensor) => tensor.tolist().map((row) => row.map(Number));
console.log(JSON.stringify([rows(input_ids), rows(attention_mask)]));
"""


@pytest.fixture(scope="module")
def script() -> Path:
    """Runs where Node finds the npm package: `npm install @huggingface/transformers` in the checkout's folder."""
    place = Path(__file__).parents[2]
    if not (place / "node_modules" / "@huggingface" / "transformers").is_dir():
        pytest.skip("the npm package @huggingface/transformers is not installed")
    return place


def test_transformers_js(bundle, script) -> None:
    folder, expected = bundle
    words = ["node", "--input-type=module", "-e", SCRIPT, "--", str(folder.parent), folder.name, json.dumps(TEXTS)]
    done = subprocess.run(words, cwd=script, capture_output=True, text=True, check=True)
    assert unpadded(*json.loads(done.stdout)) == expected
