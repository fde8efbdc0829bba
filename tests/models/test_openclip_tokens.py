import json

import numpy as np
import pytest

from data.material import TEXTS
from tuwen.data.tokens import Tokenizer
from tuwen.errors import InvalidInput
from tuwen.models.openclip_tokens import reading
from tuwen.models.torchvision import import_open_clip

from .openclip_zoo import write_files

NAMED = ("ViT-L-14-CLIPA", "ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "xlm-roberta-base-ViT-B-32")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {name: tmp_path_factory.mktemp("tokenizer") for name in NAMED}
    for name, folder in found.items():
        write_files(name, folder, 64)
    return found


def text_config(architecture: str):
    return import_open_clip().get_model_config(architecture)["text_cfg"]


@pytest.mark.parametrize("architecture", [*NAMED, "ViT-B-32", "coca_ViT-B-32"])
def test_ids_are_the_reference_s_own(architecture, folders, tmp_path) -> None:
    """In every language, and in what nobody should type."""
    read = reading(text_config(architecture), folders.get(architecture))
    (tmp_path / "tokenizer.json").write_bytes(read.tokenizer)
    texts = [text for text in TEXTS if "\ud83d" not in text]  # halves of a pair break the reference itself
    ours, theirs = Tokenizer(tmp_path / "tokenizer.json", read.spec).to_tokens(texts), read.to_tokens(texts)
    differing = [
        ascii(text) for text, mine, other in zip(texts, ours.ids, theirs.ids, strict=True) if (mine != other).any()
    ]
    assert not differing
    np.testing.assert_array_equal(ours.lengths, theirs.lengths)
    assert ours.ids.shape == (len(texts), read.spec.context_length)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("ViT-L-14-CLIPA", ("ftfy_html_cased", 32, 0, 0)),
        ("ViT-B-16-SigLIP", ("ftfy_canonicalize", 64, 1, 1)),
        ("ViT-B-16-SigLIP2", ("ftfy_canonicalize", 64, 0, 1)),
        ("xlm-roberta-base-ViT-B-32", ("ftfy_html_cased", 77, 1, 2)),
    ],
)
def test_what_it_says_of_texts(architecture, expected, folders) -> None:
    spec = reading(text_config(architecture), folders[architecture]).spec
    assert (spec.cleaning, spec.context_length, spec.pad_id, spec.end_id) == expected
    assert not spec.mask


def test_the_folder_s_own_file_is_kept(folders) -> None:
    """Byte for byte: another version of transformers does not make another model of it."""
    folder = folders["xlm-roberta-base-ViT-B-32"]
    read = reading(text_config("xlm-roberta-base-ViT-B-32"), folder)
    assert read.tokenizer == (folder / "tokenizer.json").read_bytes()


def test_a_tokenizer_that_lies_alone_is_read_as_if_its_configuration_lay_beside_it(folders, tmp_path) -> None:
    """So it is in LAION's repositories of XLM-R."""
    folder = folders["xlm-roberta-base-ViT-B-32"]
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    config = text_config("xlm-roberta-base-ViT-B-32")
    whole, alone = reading(config, folder), reading(config, tmp_path)
    assert (alone.spec, alone.tokenizer) == (whole.spec, whole.tokenizer)
    texts = [text for text in TEXTS if "\ud83d" not in text]
    np.testing.assert_array_equal(alone.to_tokens(texts).ids, whole.to_tokens(texts).ids)


def test_a_file_that_the_reference_reads_otherwise_is_not_kept(folders, tmp_path) -> None:
    """transformers takes the pieces from it and normalises as XLM-R does, whatever the file says."""
    for path in folders["xlm-roberta-base-ViT-B-32"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    document = json.loads((tmp_path / "tokenizer.json").read_text())
    document["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    read = reading(text_config("xlm-roberta-base-ViT-B-32"), tmp_path)
    (tmp_path / "made.json").write_bytes(read.tokenizer)
    ours = Tokenizer(tmp_path / "made.json", read.spec).to_tokens(["A Brown DOG"])
    np.testing.assert_array_equal(ours.ids, read.to_tokens(["A Brown DOG"]).ids)


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({"hf_tokenizer_name": "google/mt5-base"}, "google/mt5-base"),
        ({"hf_tokenizer_name": "x", "tokenizer_mode": "clips"}, "clips"),
        ({"tokenizer_kwargs": {"reduction_mask": "random"}}, ["reduction_mask"]),
    ],
)
def test_missing_and_unsupported_tokenizers(changes, value, tmp_path) -> None:
    with pytest.raises(InvalidInput) as raised:
        reading(changes, tmp_path)
    assert raised.value.value == value


def test_an_unsupported_cleaning(folders) -> None:
    with pytest.raises(InvalidInput) as raised:
        reading({"hf_tokenizer_name": "x", "tokenizer_kwargs": {"clean": "lower"}}, folders[NAMED[0]])
    assert raised.value.value == "lower"


def test_files_that_are_no_tokenizer(tmp_path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidInput) as raised:
        reading({"hf_tokenizer_name": "xlm-roberta-base"}, tmp_path)
    assert raised.value.where == tmp_path
