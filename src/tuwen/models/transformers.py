"""A model that the package `transformers` defines, with its tokenizer and image processor, to towers.

Knows what its CLIP, Chinese-CLIP, AltCLIP and SigLIP classes have in common and where they differ: one record a
`model_type`. Does not know files: who calls it has read the configuration and the weights.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tuwen.bundle.foreign import name_of
from tuwen.bundle.huggingface import image_spec, processor_of, read_object
from tuwen.bundle.manifest import ImageSpec, Scoring, TextSpec
from tuwen.errors import InvalidInput
from tuwen.models.checkpoints import read_folder
from tuwen.models.sources import Contents
from tuwen.models.tokenizers import Tokenizer, import_transformers, tokenizer_of
from tuwen.models.towers import ToPixels, ToTokens, Towers
from tuwen.types import Pixels, Tokens


@dataclass(frozen=True, slots=True)
class Kind:
    """What sets one `model_type` apart.

    Attributes:
        mask: whether its text tower needs to know which tokens are padding. CLIP's is causal and ends at the end
            token; SigLIP's was trained to read its padding.
        first: whether a text's vector is made of its first token, instead of what the tower pools itself.
        projects: whether projections follow the towers.
        context: the length that the family was trained at, where its position table is longer.
        languages: ISO 639-1 codes, where the family has one answer.
    """

    mask: bool
    first: bool = False
    projects: bool = True
    context: int | None = None
    languages: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "clip": Kind(mask=False),
    "chinese_clip": Kind(mask=True, first=True, context=52, languages=("zh",)),
    "altclip": Kind(mask=True, first=True, context=77),
    "siglip": Kind(mask=False, projects=False),
}


@dataclass(frozen=True, slots=True)
class Pictures:
    """How pictures become pixels: in our words, and by the reference."""

    spec: ImageSpec
    to_pixels: ToPixels


@dataclass(frozen=True, slots=True)
class Texts:
    """How texts become tokens: in our words with the bytes of `tokenizer.json`, and by the reference."""

    spec: TextSpec
    json: bytes
    to_tokens: ToTokens


def towers_of(
    model: Any,  # noqa: ANN401
    source: str,
    pictures: Pictures,
    texts: Texts,
    vision: torch.nn.Module | None = None,
) -> Towers:
    """Towers of a model that `build` made.

    Args:
        model: of one of `KINDS`.
        source: the family and its name for the model.
        pictures: of the same checkpoint.
        texts: likewise.
        vision: the model's image tower, where it is not one of transformers.
    """
    kind = KINDS[model.config.model_type]
    family, _, name = source.partition(":")
    return Towers(
        name=name,
        family=family,
        source=source,
        vision=vision or _Vision(model, kind),
        text=_Text(model, kind),
        image_spec=pictures.spec,
        text_spec=texts.spec,
        scoring=_scoring(model),
        tokenizer=texts.json,
        weights={name: tensor for name, tensor in model.state_dict().items() if not name.startswith("logit_")},
        to_pixels=pictures.to_pixels,
        to_tokens=texts.to_tokens,
        blueprint={"transformers": json.loads(model.config.to_json_string())} if vision is None else None,
    )


def rebuilt(blueprint: Mapping[str, Any]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Both modules of a blueprint, with weights that are yet to come."""
    model = random(blueprint["transformers"], "the blueprint", seed=0)
    kind = KINDS[model.config.model_type]
    return _Vision(model, kind), _Text(model, kind)


def random(config: Mapping[str, Any], name: str, seed: int) -> Any:  # noqa: ANN401
    """The model in fp32 on the CPU with random weights.

    Raises:
        InvalidInput: the configuration is none of transformers', or makes no model.
    """
    made = configured(config, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = import_transformers().AutoModel.from_config(made, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise InvalidInput(f"the configuration of {name} makes no model: {_first_line(error)}") from error
    return model.eval()


def build(config: Mapping[str, Any], state: Mapping[str, torch.Tensor], name: str) -> Any:  # noqa: ANN401
    """The model in fp32 on the CPU, every weight from `state`.

    Raises:
        InvalidInput: a weight is missing, of another shape, or belongs to no part of the model.
    """
    transformers = import_transformers()
    made = configured(config, name)
    transformers.utils.logging.set_verbosity_error()  # it prints a table of what does not fit; we raise
    transformers.utils.logging.disable_progress_bar()
    full = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    try:
        model, found = transformers.MODEL_MAPPING[type(made)].from_pretrained(
            None, config=made, state_dict=full, dtype=torch.float32, output_loading_info=True
        )
    except RuntimeError as error:
        raise InvalidInput(f"the weights of {name} do not fit it: {_first_line(error)}") from error
    wrong = [*found["missing_keys"], *found["mismatched_keys"], *filter(_matters, found["unexpected_keys"])]
    if wrong:
        raise InvalidInput(f"the weights of {name} do not fit it: {wrong[0]} is one of {len(wrong)} that differ")
    return model.eval()


def configured(config: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401
    """The configuration as an object of transformers.

    Raises:
        InvalidInput: it is none that transformers takes.
    """
    values = dict(config)
    try:
        return import_transformers().AutoConfig.for_model(values.pop("model_type"), **values)
    except Exception as error:  # its checks share no base
        raise InvalidInput(f"the configuration of {name} is none of transformers': {_first_line(error)}") from error


def _matters(name: str) -> bool:
    """Tables of 0, 1, 2, … that older versions saved, and a pooling that the family does not use, do not."""
    return not name.endswith(("position_ids", "token_type_ids")) and not name.startswith("text_model.pooler.")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


class _Vision(torch.nn.Module):
    """pixel_values (n, 3, h, w) -> (n, dim)."""

    def __init__(self, model: Any, kind: Kind) -> None:  # noqa: ANN401
        super().__init__()
        self.tower = model.vision_model
        self.projection = model.visual_projection if kind.projects else torch.nn.Identity()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        vector: torch.Tensor = self.projection(self.tower(pixel_values=pixel_values).pooler_output)
        return vector


class _Text(torch.nn.Module):
    """input_ids (n, l) [, attention_mask (n, l)] -> (n, dim)."""

    def __init__(self, model: Any, kind: Kind) -> None:  # noqa: ANN401
        super().__init__()
        self.tower = model.text_model
        self.projection = model.text_projection if kind.projects else torch.nn.Identity()
        self.first = kind.first

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        output = self.tower(input_ids=input_ids, attention_mask=attention_mask)
        vector: torch.Tensor = self.projection(output.last_hidden_state[:, 0] if self.first else output.pooler_output)
        return vector


def _scoring(model: Any) -> Scoring:  # noqa: ANN401
    scale = float(model.logit_scale.detach().exp().reshape(()))
    bias = getattr(model, "logit_bias", None)
    if bias is None:
        return Scoring(kind="softmax", scale=scale)
    return Scoring(kind="sigmoid", scale=scale, bias=float(bias.detach().reshape(())))


def pictures_of(folder: Path) -> Pictures:
    """What a folder says of its pictures, and transformers' processor in its exact form, on Pillow.

    Raises:
        BundleInvalid: the file that says it is missing, or says what tuwen does not know.
    """
    spec = image_spec(processor_of(folder))
    automatic = import_transformers().AutoImageProcessor
    return Pictures(spec, processed_by(automatic.from_pretrained(folder, backend="pil", local_files_only=True)))


def processed_by(processor: Any) -> ToPixels:  # noqa: ANN401
    """A processor of transformers, one picture after the other: they differ in size."""

    def to_pixels(images: Sequence[Image.Image]) -> Pixels:
        each = [processor(image, return_tensors="np")["pixel_values"] for image in images]
        return np.concatenate(each).astype(np.float32)

    return to_pixels


def texts_of(tokenizer: Tokenizer, config: Any) -> Texts:  # noqa: ANN401
    """How a model with this configuration reads texts.

    Raises:
        InvalidInput: the tokenizer pads on the left, or knows more words than the model.
    """
    kind, reference = KINDS[config.model_type], tokenizer.reference
    words = config.text_config.vocab_size
    if len(reference) > words:
        raise InvalidInput(f"its tokenizer has {len(reference)} words, its text tower {words}: they are of two models")
    if reference.padding_side != "right":
        raise InvalidInput("its tokenizer pads on the left, which tuwen does not")
    ends = reference("").input_ids[-1:]
    limits = (reference.model_max_length, config.text_config.max_position_embeddings, kind.context or math.inf)
    spec = TextSpec(
        languages=kind.languages,
        cleaning=tokenizer.cleaning,
        context_length=int(min(limits)),
        pad_id=reference.pad_token_id,
        pad_to="context",
        end_id=ends[0] if ends and ends[0] in reference.all_special_ids else None,
        mask=kind.mask,
        cut_exact=False,
    )
    return Texts(spec, tokenizer.json, _tokenized_by(reference, spec.context_length))


def _tokenized_by(tokenizer: Any, length: int) -> ToTokens:  # noqa: ANN401
    def to_tokens(texts: Sequence[str]) -> Tokens:
        settings = {"padding": "max_length", "truncation": True, "max_length": length}
        read = tokenizer(list(texts), **settings, return_attention_mask=True, return_tensors="np")
        return Tokens(read["input_ids"].astype(np.int64), read["attention_mask"].sum(axis=1).astype(np.int64))

    return to_tokens


# ---- Models of transformers in a local folder, as its `save_pretrained` and the hub lay them out.


def load(
    folder: Path, name: str | None = None, *, seed: int | None = None, overrides: Mapping[str, Any] | None = None
) -> Towers:
    """Load the model in a folder, or make one like it.

    Args:
        folder: with config.json, a processor's configuration, a tokenizer's files, and the weights.
        name: what people call the model; else the folder's name, of a snapshot the repository's.
        seed: of random weights in place of the folder's, which need not be there.
        overrides: what `config.json` should say instead, nested entries in nested mappings; only with a seed.

    Raises:
        InvalidInput: another file is missing or damaged, the model is of a kind that is not known, or the weights
            are not of this model or could run code.
        BundleInvalid: `config.json` is missing or no JSON, or the processor's says what tuwen does not know.
    """
    config = read_object(folder / "config.json")
    kind = config.get("model_type")
    if kind not in KINDS:
        raise InvalidInput(f"{folder / 'config.json'}: model_type is {kind!r}; there are {', '.join(KINDS)}")
    name = name or name_of(folder)
    pictures = pictures_of(folder)
    if seed is None:
        model = build(config, read_folder(folder), name)
    else:
        model = random(_merged(config, overrides or {}), name, seed)
    return towers_of(model, f"hf:{name}", pictures, texts_of(tokenizer_of(folder), model.config))


def _merged(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    inner = {
        key: _merged(config.get(key) or {}, value) for key, value in overrides.items() if isinstance(value, Mapping)
    }
    return {**config, **overrides, **inner}


def is_here(contents: Contents) -> bool:
    """Whether this is the folder of a model that `load` takes."""
    return contents.config.get("model_type") in KINDS
