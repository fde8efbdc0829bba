"""The tokenizer of an open_clip model: its `tokenizer.json`, its text spec, and open_clip's own tokenizer as reference.

CLIP's tokenizer comes with open_clip; tokenizers of transformers are read from a folder. Nothing is downloaded.
"""

import gzip
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tuwen.bundle.manifest import Cleaning, TextSpec
from tuwen.data.vocabularies import bpe_tokenizer_json
from tuwen.errors import InvalidInput
from tuwen.models.towers import ToTokens
from tuwen.types import Tokens

_CONTEXT = 77  # open_clip's default
_CLIP_END = 49407  # the last entry of CLIP's vocabulary; pooling finds it as the largest id
_FILES = ("tokenizer.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "vocab.txt", "vocab.json")
_CONFIG = "tokenizer_config.json"
_CLASSES = {
    "xlm-roberta-base": "XLMRobertaTokenizer",
    "xlm-roberta-large": "XLMRobertaTokenizer",
    "roberta-base": "RobertaTokenizer",
    "facebook/xlm-v-base": "XLMRobertaTokenizer",
}
"""tokenizers whose class is not stated in repositories that only have a `tokenizer.json`, such as LAION's"""
_CLEANING: dict[str, Cleaning] = {"whitespace": "ftfy_html_cased", "canonicalize": "ftfy_canonicalize"}
_PROBES = (
    "A brown dog isn't running; it's 7 o'clock.",
    "  <b>Two</b>\tcats\n",
    "一只棕色的狗在草地上奔跑",
    "犬が走る ＦＵＬＬ",
    "갈색 개",
    "Коричневая собака",
    "كلب بني",
    "สุนัข 👩‍👩‍👧 é e\u0301",
    "",
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a model reads texts.

    Attributes:
        tokenizer: the bytes of `tokenizer.json`.
        spec: the text spec, with what `tokenizer.json` cannot contain.
        to_tokens: open_clip's own tokenizer.
    """

    tokenizer: bytes
    spec: TextSpec
    to_tokens: ToTokens


def reading(text_config: Mapping[str, Any], folder: Path | None) -> Reading:
    """Load the tokenizer that a model's `text_cfg` names.

    Args:
        text_config: open_clip's `text_cfg`.
        folder: the folder with the files of a transformers tokenizer.

    Raises:
        InvalidInput: the files are missing, or the ids cannot be produced by a `tokenizer.json`.
    """
    options = dict(text_config.get("tokenizer_kwargs") or {})
    context = text_config.get("context_length") or _CONTEXT
    if name := text_config.get("hf_tokenizer_name"):
        mode = text_config.get("tokenizer_mode")
        if mode:
            raise InvalidInput(
                f"the tokenizer {name} in mode {mode!r} pads within a text, which tuwen does not support",
                value=mode,
                where=name,
            )
        return _of_transformers(name, _with_files(name, folder), context, options)
    if options:
        raise InvalidInput(f"unsupported options of CLIP's tokenizer: {', '.join(options)}", value=list(options))
    return _of_clip(context)


def _of_clip(context: int) -> Reading:
    from open_clip.tokenizer import SimpleTokenizer, default_bpe

    reference = SimpleTokenizer(context_length=context)
    merges = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]

    def to_tokens(texts: Sequence[str]) -> Tokens:
        ids = reference(list(texts)).numpy()
        padding = (ids[:, ::-1] != 0).argmax(axis=1)  # 0 is also the id of "!", but no text ends with that
        return Tokens(ids, lengths=ids.shape[1] - padding)

    return Reading(bpe_tokenizer_json(merges), _spec("ftfy_html", context, pad=0, end=_CLIP_END), to_tokens)


def _with_files(name: str, folder: Path | None) -> Path:
    if folder is not None and any((folder / file).is_file() for file in _FILES):
        return folder
    hint = "put its files (tokenizer.json, tokenizer_config.json) beside the weights"
    where = "" if folder is None else f", which is not in {folder}"
    raise InvalidInput(f"the model needs the tokenizer {name}{where}: {hint}", value=name, where=folder, hint=hint)


@contextmanager
def _described(name: str, folder: Path) -> Iterator[Path]:
    """The folder, or a temporary copy of its tokenizer with the configuration that it lacks."""
    if name not in _CLASSES or (folder / _CONFIG).is_file():
        yield folder
        return
    with TemporaryDirectory() as scratch:
        for file in filter(Path.is_file, (folder / file for file in _FILES)):
            shutil.copyfile(file, Path(scratch) / file.name)
        (Path(scratch) / _CONFIG).write_text(json.dumps({"tokenizer_class": _CLASSES[name]}), encoding="utf-8")
        yield Path(scratch)


def _of_transformers(name: str, folder: Path, context: int, options: dict[str, Any]) -> Reading:
    cleaning = _CLEANING.get(options.get("clean", "whitespace"))
    if cleaning is None:
        clean, known = options["clean"], ", ".join(_CLEANING)
        raise InvalidInput(f"unsupported text cleaning {clean!r}; supported are {known}", value=clean, where=folder)
    reference = _reference(name, folder, {"context_length": context, **options})
    tokenizer = reference.tokenizer
    if tokenizer.padding_side != "right" or tokenizer.pad_token_id is None:
        raise InvalidInput(
            f"the tokenizer in {folder} pads on the left or not at all; open_clip's models need padding on the right",
            where=folder,
        )

    def to_tokens(texts: Sequence[str]) -> Tokens:
        clean = [reference.clean_fn(text) for text in texts]
        rows = tokenizer(clean, truncation=True, max_length=context)["input_ids"]
        return Tokens(reference(list(texts)).numpy(), lengths=np.array([len(row) for row in rows], dtype=np.int64))

    ending = to_tokens([""])
    end = int(ending.ids[0, ending.lengths[0] - 1]) if ending.lengths[0] else None
    spec = _spec(cleaning, context, pad=tokenizer.pad_token_id, end=end)
    return Reading(_tokenizer_json(reference, folder), spec, to_tokens)


def _reference(name: str, folder: Path, options: dict[str, Any]) -> Any:  # noqa: ANN401  (open_clip is not typed)
    """open_clip's own tokenizer from the files in the folder."""
    from open_clip.tokenizer import HFTokenizer

    try:
        with _described(name, folder) as place:
            return HFTokenizer(str(place), local_files_only=True, trust_remote_code=False, **options)
    except Exception as error:  # the libraries raise no narrower class
        raise InvalidInput(f"transformers cannot read the tokenizer in {folder}: {error!r}", where=folder) from error


def _tokenizer_json(reference: Any, folder: Path) -> bytes:  # noqa: ANN401  (open_clip is not typed)
    """The folder's own `tokenizer.json` if it gives the reference's ids, else the one that transformers makes.

    Its bytes do not change with the version of transformers, so the model's fingerprint does not either.
    """
    from tokenizers import Tokenizer

    made = reference.tokenizer.backend_tokenizer
    own = folder / "tokenizer.json"
    written = Tokenizer.from_file(str(own)) if own.is_file() else None
    if written is not None:
        written.no_padding()
        written.no_truncation()
        made.no_padding()
        made.no_truncation()
        same = all(written.encode(text).ids == made.encode(text).ids for text in _PROBES)
        written = written if same else None
    document = own.read_bytes() if written is not None else made.to_str().encode()
    return _with_separator_stripped(document, reference) if reference.strip_sep_token else document


def _with_separator_stripped(document: bytes, reference: Any) -> bytes:  # noqa: ANN401
    """The tokenizer with the id 0 for its separator, which open_clip sets after tokenizing for CLIPA."""
    content = json.loads(document)
    separator = reference.tokenizer.sep_token
    content["model"]["vocab"][separator] = 0
    for token in content["added_tokens"]:
        token["id"] = 0 if token["content"] == separator else token["id"]
    special = content["post_processor"].get("special_tokens", {})
    if separator in special:
        special[separator]["ids"] = [0]
    return json.dumps(content, ensure_ascii=False).encode()


def _spec(cleaning: Cleaning, context: int, *, pad: int, end: int | None) -> TextSpec:
    return TextSpec(
        cleaning=cleaning,
        context_length=context,
        pad_id=pad,
        pad_to="context",
        end_id=end,
        mask=False,
        cut_exact=False,
    )
