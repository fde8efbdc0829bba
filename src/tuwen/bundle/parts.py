"""What every foreign layout comes down to, and the facts about tokens that its files share."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from tuwen.bundle.config import Config
from tuwen.bundle.layout import Tower
from tuwen.bundle.manifest import ImageSpec, Precision, Scoring, TextSpec
from tuwen.errors import BundleInvalid


@dataclass(frozen=True, slots=True)
class Parts:
    """A model as its layout describes it.

    Attributes:
        source: the checkpoint that it was made from, as far as it says.
        dim: the length of a vector.
        image: how a picture becomes pixels.
        text: how a text becomes tokens.
        scoring: how cosines become probabilities, or None where the layout does not say.
        graphs: the files that tuwen can use.
        tokenizer: its `tokenizer.json`.
    """

    source: str
    dim: int
    image: ImageSpec
    text: TextSpec
    scoring: Scoring | None
    graphs: dict[tuple[Tower, Precision], Path]
    tokenizer: Path


def scoring(config: Config, kind: str) -> Scoring | None:
    """The learned scale, stored as checkpoints store it: as a logarithm. None where the file has none.

    `logit_scale_init_value` is not taken for it: that is where training began.

    Args:
        config: the model's configuration.
        kind: `softmax` or `sigmoid`.
    """
    needed = ["logit_scale"] if kind == "softmax" else ["logit_scale", "logit_bias"]
    if not all(map(config.has, needed)):
        return None
    scale = math.exp(config.need("logit_scale", float, int))
    bias = float(config.need("logit_bias", float, int)) if kind == "sigmoid" else 0.0
    return Scoring(kind="sigmoid" if kind == "sigmoid" else "softmax", scale=scale, bias=bias)


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The ids of the tokens that pad and end a text."""

    pad_id: int
    end_id: int


def special_tokens(tokenizer: Path) -> SpecialTokens:
    """Read them from `tokenizer.json`, by the names in the `tokenizer_config.json` beside it.

    Raises:
        BundleInvalid: a file, a name or its id is missing.
    """
    config = Config(tokenizer.parent / "tokenizer_config.json")
    ids = _added_tokens(tokenizer)
    end = "eos_token" if config.has("eos_token") else "sep_token"
    return SpecialTokens(*(_id_of(config, field, ids, tokenizer) for field in ("pad_token", end)))


def _id_of(config: Config, field: str, ids: dict[str, int], tokenizer: Path) -> int:
    token = config.need(field, str, dict)
    name = token if isinstance(token, str) else str(token.get("content"))
    if name not in ids:
        raise BundleInvalid(f"{tokenizer} has no token {name!r}, which {config.path.name} names as {field}")
    return ids[name]


def _added_tokens(tokenizer: Path) -> dict[str, int]:
    """The list of special tokens alone: the vocabulary that follows it is many megabytes."""
    try:
        text = tokenizer.read_text(encoding="utf-8")
        start = text.index("[", text.index('"added_tokens"'))
        listed, _ = json.JSONDecoder().raw_decode(text, start)
        return {str(token["content"]): int(token["id"]) for token in listed}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleInvalid(f"{tokenizer} cannot be read as a tokenizer.json ({error}); get it again") from error
