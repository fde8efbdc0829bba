"""A tokenizer of transformers, from a model's folder, with the `tokenizer.json` that gives the same ids.

Knows which classes are a `tokenizer.json` already, and how the one that is not (SigLIP's, on sentencepiece) becomes
one. Verification compares both, text by text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuwen.bundle.manifest import Cleaning
from tuwen.data.vocabularies import sentencepiece_tokenizer_json
from tuwen.errors import InvalidInput, require
from tuwen.models.torchvision import make_torchvision_importable

_FILES = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("sentencepiece.bpe.model",),
    ("spiece.model",),
)
"""What a tokenizer is read from. Without them transformers makes one that knows no word, and says nothing."""


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """One tokenizer in two forms.

    Attributes:
        reference: transformers' own.
        json: the bytes of the `tokenizer.json`.
        cleaning: what is done to a text before that.
    """

    reference: Any
    json: bytes
    cleaning: Cleaning


def import_transformers() -> Any:  # noqa: ANN401  (a package without types)
    """The package `transformers`, importable beside any torch.

    Raises:
        MissingExtra: it is not installed.
    """
    make_torchvision_importable()
    return require("transformers", extra="export")


def tokenizer_of(folder: Path) -> Tokenizer:
    """The tokenizer whose files lie in a folder.

    Raises:
        InvalidInput: there is none, or its files cannot be read.
    """
    if not any(all((folder / name).is_file() for name in names) for names in _FILES):
        known = ", ".join(" with ".join(names) for names in _FILES)
        raise InvalidInput(f"{folder} has no tokenizer: none of {known}")
    transformers = import_transformers()
    try:
        reference = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())[:160]
        raise InvalidInput(f"{folder} has no tokenizer that transformers can read: {said}") from error
    backend = getattr(reference, "backend_tokenizer", None)
    if backend is not None:
        return Tokenizer(reference, backend.to_str().encode(), "none")
    model = Path(reference.vocab_file).read_bytes()
    return Tokenizer(reference, sentencepiece_tokenizer_json(model), "unpunctuated")


def wordpieces(vocabulary: Sequence[str]) -> Tokenizer:
    """BERT's tokenizer for lower case, over a vocabulary in the order of its ids."""
    ids = {token: index for index, token in enumerate(vocabulary)}
    reference = import_transformers().BertTokenizer(vocab=ids, do_lower_case=True)
    return Tokenizer(reference, reference.backend_tokenizer.to_str().encode(), "none")
