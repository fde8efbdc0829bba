"""Models, tokenizers and image processors of the package `transformers`: CLIP and its relatives, see `KINDS`.

The differences between its classes are one record (`Kind`) for each `model_type`.
"""

import json
import logging
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
from tuwen.bundle.manifest import Cleaning, ImageSpec, Scoring, TextSpec
from tuwen.data.vocabularies import sentencepiece_tokenizer_json
from tuwen.errors import InvalidInput
from tuwen.models.checkpoints import Inspection, read_folder
from tuwen.models.torchvision import import_transformers
from tuwen.models.towers import ToPixels, ToTokens, Towers
from tuwen.types import Pixels, Tokens

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """The properties of one `model_type`.

    Attributes:
        mask: whether its text tower takes an attention mask. CLIP's is causal and pools at the end token; SigLIP's was
            trained with visible padding.
        first: whether a text's vector is made from its first token instead of the tower's own pooling.
        projects: whether projections follow the towers.
        patches: whether its image tower takes patches of an image of any shape (SigLIP 2 with NaFlex). It is used on
            the square grid of its position table, to which images are squashed.
        context: the context length of the family, if its position table is longer.
        languages: ISO 639-1 codes, if they are the same for the whole family.
    """

    mask: bool
    first: bool = False
    projects: bool = True
    patches: bool = False
    context: int | None = None
    languages: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "clip": Kind(mask=False),
    "chinese_clip": Kind(mask=True, first=True, context=52, languages=("zh",)),
    "altclip": Kind(mask=True, first=True, context=77),
    "siglip": Kind(mask=False, projects=False),
    "siglip2": Kind(mask=False, projects=False, patches=True),
    "metaclip_2": Kind(mask=False),
}


@dataclass(frozen=True, slots=True)
class Pictures:
    """How images become pixels: the image spec, and the reference implementation."""

    spec: ImageSpec
    to_pixels: ToPixels


@dataclass(frozen=True, slots=True)
class Texts:
    """How texts become tokens: the text spec with the bytes of `tokenizer.json`, and the reference implementation."""

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
        pictures: the image preprocessing of the same checkpoint.
        texts: the text preprocessing of the same checkpoint.
        vision: the image tower, if it is not transformers' own.
    """
    kind = KINDS[model.config.model_type]
    family, _, name = source.partition(":")
    return Towers(
        name=name,
        family=family,
        source=source,
        vision=vision or _vision(model, kind),
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
    """Both modules of a blueprint, with random weights."""
    model = random(blueprint["transformers"], "the blueprint", seed=0)
    kind = KINDS[model.config.model_type]
    return _vision(model, kind), _Text(model, kind)


def random(config: Mapping[str, Any], name: str, seed: int) -> Any:  # noqa: ANN401
    """Build the model in fp32 on the CPU with random weights.

    Raises:
        InvalidInput: transformers does not accept the configuration.
    """
    made = configured(config, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = import_transformers().AutoModel.from_config(made, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise InvalidInput(
                f"transformers cannot build the configuration of {name}: {_first_line(error)}"
            ) from error
    return model.eval()


def build(config: Mapping[str, Any], state: Mapping[str, torch.Tensor], name: str) -> Any:  # noqa: ANN401
    """Build the model in fp32 on the CPU, with every weight from `state`.

    Raises:
        InvalidInput: a weight is missing, unexpected, or has another shape.
    """
    transformers = import_transformers()
    made = configured(config, name)
    transformers.utils.logging.set_verbosity_error()  # it prints a table of what does not fit; this function raises
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
        InvalidInput: transformers does not accept it.
    """
    values = dict(config)
    try:
        return import_transformers().AutoConfig.for_model(values.pop("model_type"), **values)
    except Exception as error:  # its checks share no base class
        raise InvalidInput(f"transformers does not accept the configuration of {name}: {_first_line(error)}") from error


def _matters(name: str) -> bool:
    """Whether an unexpected weight is an error; position tables and an unused pooling of older versions are not."""
    return not name.endswith(("position_ids", "token_type_ids")) and not name.startswith("text_model.pooler.")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _vision(model: Any, kind: Kind) -> torch.nn.Module:  # noqa: ANN401
    return _Patches(model) if kind.patches else _Vision(model, kind)


class _Vision(torch.nn.Module):
    """pixel_values (n, 3, h, w) -> (n, dim)."""

    def __init__(self, model: Any, kind: Kind) -> None:  # noqa: ANN401
        super().__init__()
        self.tower = model.vision_model
        self.projection = model.visual_projection if kind.projects else torch.nn.Identity()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        vector: torch.Tensor = self.projection(self.tower(pixel_values=pixel_values).pooler_output)
        return vector


class _Patches(torch.nn.Module):
    """pixel_values (n, 3, h, w) -> (n, dim), where h / patch by w / patch is the grid of the position table.

    On that grid every position has its own entry, and nothing is padded or masked: see `Siglip2VisionModel`.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.tower = model.vision_model
        self.patch = model.config.vision_config.patch_size

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        channels, height, width = pixel_values.shape[1:]
        rows, columns = height // self.patch, width // self.patch
        split = pixel_values.reshape(-1, channels, rows, self.patch, columns, self.patch)
        patches = split.permute(0, 2, 4, 3, 5, 1).reshape(-1, rows * columns, self.patch**2 * channels)
        embeddings = self.tower.embeddings
        states = embeddings.patch_embedding(patches) + embeddings.position_embedding.weight
        states = self.tower.post_layernorm(self.tower.encoder(inputs_embeds=states).last_hidden_state)
        vector: torch.Tensor = self.tower.head(states)
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
    """Read the image spec of a folder, with transformers' own processor (on Pillow) as the reference.

    Raises:
        BundleInvalid: the processor's configuration is missing or has unknown values.
    """
    spec = image_spec(processor_of(folder))
    automatic = import_transformers().AutoImageProcessor
    return Pictures(spec, processed_by(automatic.from_pretrained(folder, backend="pil", local_files_only=True)))


def squared_pictures_of(folder: Path, side: int) -> Pictures:
    """Images squashed to `side` by `side` pixels, with the other settings of SigLIP 2's processor in the folder.

    The reference is the processor of SigLIP's models of a fixed size. Of a square image, SigLIP 2's processor makes
    the same pixels.
    """
    transformers = import_transformers()
    own = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    shared = {name: getattr(own, name) for name in ("image_mean", "image_std", "resample")}
    spec = ImageSpec(
        size=(side, side),
        resize="squash",
        interpolation=Image.Resampling(own.resample).name.lower(),  # type: ignore[arg-type]  # the spec checks it
        crop_rounding="floor",
        mean=tuple(own.image_mean),
        std=tuple(own.image_std),
    )
    fixed = transformers.SiglipImageProcessorPil(size={"height": side, "width": side}, **shared)
    return Pictures(spec, processed_by(fixed))


def processed_by(processor: Any) -> ToPixels:  # noqa: ANN401
    """Wrap a processor of transformers; images are processed one by one, because their sizes differ."""

    def to_pixels(images: Sequence[Image.Image]) -> Pixels:
        each = [processor(image, return_tensors="np")["pixel_values"] for image in images]
        return np.concatenate(each).astype(np.float32)

    return to_pixels


_FILES = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("sentencepiece.bpe.model",),
    ("spiece.model",),
)
"""The files of a tokenizer; without them, transformers silently makes one with an empty vocabulary."""


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer of transformers, and the `tokenizer.json` that gives the same ids.

    Attributes:
        reference: transformers' tokenizer.
        json: the bytes of `tokenizer.json`.
        cleaning: the cleaning before it.
    """

    reference: Any
    json: bytes
    cleaning: Cleaning


def tokenizer_of(folder: Path) -> Tokenizer:
    """The tokenizer in a folder.

    Raises:
        InvalidInput: there is none, or its files cannot be read.
    """
    if not any(all((folder / name).is_file() for name in names) for names in _FILES):
        known = ", ".join(" with ".join(names) for names in _FILES)
        raise InvalidInput(f"{folder} has no tokenizer: none of {known}", where=folder)
    transformers = import_transformers()
    try:
        reference = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InvalidInput(f"{folder} has no tokenizer that transformers can read: {reason}", where=folder) from error
    _warn_of_capitals(folder, reference)
    backend = getattr(reference, "backend_tokenizer", None)
    if backend is not None:
        return Tokenizer(reference, backend.to_str().encode(), "none")
    model = Path(reference.vocab_file).read_bytes()
    return Tokenizer(reference, sentencepiece_tokenizer_json(model), "unpunctuated")


def _warn_of_capitals(folder: Path, reference: Any) -> None:  # noqa: ANN401
    """Warn if the tokenizer keeps capitals, although the model's own processor makes its texts lower case."""
    if reference("A Red DOG").input_ids == reference("a red dog").input_ids:
        return
    for name in ("tokenizer_config.json", "processor_config.json", "preprocessor_config.json"):
        settings = read_object(folder / name) if (folder / name).is_file() else {}
        if settings.get("do_lower_case") or str(settings.get("processor_class")).startswith("Siglip"):
            log.warning(
                "%s keeps capitals, but by %s the model was trained on lower case: write texts in lower case",
                folder / "tokenizer.json",
                name,
            )
            return


def wordpieces(vocabulary: Sequence[str]) -> Tokenizer:
    """BERT's tokenizer for lower case, over a vocabulary in the order of its ids."""
    ids = {token: index for index, token in enumerate(vocabulary)}
    reference = import_transformers().BertTokenizer(vocab=ids, do_lower_case=True)
    return Tokenizer(reference, reference.backend_tokenizer.to_str().encode(), "none")


def texts_of(tokenizer: Tokenizer, config: Any) -> Texts:  # noqa: ANN401
    """How a model with this configuration reads texts.

    Raises:
        InvalidInput: the tokenizer pads on the left, or has more tokens than the model.
    """
    kind, reference = KINDS[config.model_type], tokenizer.reference
    words = config.text_config.vocab_size
    if len(reference) > words:
        raise InvalidInput(
            f"the tokenizer has {len(reference)} tokens, but the text tower {words}: they belong to different models",
            value=len(reference),
        )
    if reference.padding_side != "right":
        raise InvalidInput("the tokenizer pads on the left, which tuwen does not support")
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


def load(
    folder: Path, name: str | None = None, *, seed: int | None = None, overrides: Mapping[str, Any] | None = None
) -> Towers:
    """Load the model in a folder, as `save_pretrained` and the hub lay it out.

    Args:
        folder: contains config.json, a processor's configuration, a tokenizer's files, and the weights.
        name: the model's name; by default the folder's, for a snapshot of the hub the repository's.
        seed: draws random weights instead of reading the folder's.
        overrides: values that replace those of `config.json`, nested ones in nested mappings; only with a seed.

    Raises:
        InvalidInput: another file is missing or damaged, the model type is unknown, or the weights belong to another
            model or could run code.
        BundleInvalid: `config.json` is missing or not JSON, or the processor's configuration has unknown values.
    """
    config = read_object(folder / "config.json")
    kind = config.get("model_type")
    if kind not in KINDS:
        place, hint = folder / "config.json", f"known types: {', '.join(KINDS)}"
        message = f"{place}: {of_own_code(config) or f'unknown model_type {kind!r}'}; {hint}"
        raise InvalidInput(message, value=kind, where=place, hint=hint)
    name = name or name_of(folder)
    if KINDS[kind].patches:
        log.warning("%s takes images of any shape; in this bundle they are squashed to a square", name)
        vision = configured(config, name).vision_config
        pictures = squared_pictures_of(folder, math.isqrt(vision.num_patches) * vision.patch_size)
    else:
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


def of_own_code(config: Mapping[str, Any]) -> str:
    """Why a model cannot be loaded that brings its own Python code, as jina-clip-v2 and FG-CLIP 2 do; else empty."""
    kind = config.get("model_type")
    return f"the model type {kind!r} needs code from its repository, which is never run" if "auto_map" in config else ""


def recognises(found: Inspection) -> bool:
    """Whether this is the folder of a model that `load` accepts."""
    return found.config.get("model_type") in KINDS
