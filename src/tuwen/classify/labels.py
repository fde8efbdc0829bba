"""Labels for classification: reading them, filling templates, one vector for each."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuwen.data.records import is_utf8, open_text
from tuwen.errors import InvalidInput
from tuwen.runtime.encoder import Encoder
from tuwen.types import Vectors

PLAIN = "_"
"""the template that is the label itself"""

_COMMAS = re.compile("[,，、،]")
_SLOT = re.compile(r"_|\{\}")


@dataclass(frozen=True, slots=True)
class LabelVectors:
    """Labels as the model sees them.

    Attributes:
        labels: n of them, all different.
        vectors: (n, dim) unit rows.
        neutral: (dim,) unit vector of the templates without any label.
    """

    labels: tuple[str, ...]
    vectors: Vectors
    neutral: NDArray[np.float32]


def split_labels(text: str) -> tuple[str, ...]:
    """`cat, dog` -> `("cat", "dog")`; split at `,` and at the commas `，`, `、` and `،`. Others: use a file.

    Raises:
        InvalidInput: no label, or one twice.
    """
    return checked_labels([label.strip() for label in _COMMAS.split(text)], "--labels")


def read_labels(path: Path, encoding: str | None = None) -> tuple[str, ...]:
    """Labels from a file, one per line; blank lines are ignored.

    Args:
        path: the file.
        encoding: its encoding, e.g. `gb18030`; None: UTF-8, or UTF-16 with a byte order mark.

    Raises:
        InvalidInput: the file cannot be read or is in another encoding, which the message names if it can; no label,
            or one twice.
    """
    with open_text(path, encoding) as file:
        lines = list(file)
    wrong = next((number for number, line in enumerate(lines, start=1) if not is_utf8(line)), 0)
    if wrong:
        what, hint = encoding or "UTF-8", "name its encoding with --encoding, or save it as UTF-8"
        raise InvalidInput(f"{path} is not {what} (line {wrong}): {hint}", value=wrong, where=path, hint=hint)
    return checked_labels([line.strip() for line in lines], str(path))


def fill(template: str, label: str) -> str:
    """The template with `label` in its slot: `a photo of a _` or `a photo of a {}`.

    Raises:
        InvalidInput: the template has no slot, or more than one.
    """
    parts = _SLOT.split(template)
    if len(parts) != 2:
        message = f"the template {template!r} has {len(parts) - 1} slots for the label; it needs exactly one _ or {{}}"
        raise InvalidInput(message, value=template, where="template")
    return label.join(parts)


def label_vectors(labels: Sequence[str], templates: Sequence[str], encoder: Encoder) -> LabelVectors:
    """Encode every label in every template; a label's vector is the mean over the templates, normalised to length 1.

    Args:
        labels: n labels.
        templates: at least one; see `fill`.
        encoder: the model.

    Raises:
        InvalidInput: a template has not exactly one slot.
    """
    return averaged(labels, encoder.encode_texts(label_texts(labels, templates)))


def label_texts(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every label in every template, label by label; then the templates with an empty label.

    Raises:
        InvalidInput: a template has not exactly one slot, or there is none.
    """
    if not templates:
        raise InvalidInput("no template was given; _ stands for the label itself", where="template")
    filled = [[fill(template, label) for template in templates] for label in labels]
    empty = [" ".join(fill(template, "").split()) for template in templates]
    return [text for row in (*filled, empty) for text in row]


def averaged(labels: Sequence[str], vectors: Vectors) -> LabelVectors:
    """Average the vectors of `label_texts` over the templates, normalised to length 1: one vector per label."""
    means = vectors.astype(np.float64).reshape(len(labels) + 1, -1, vectors.shape[1]).mean(axis=1)
    units = (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)
    return LabelVectors(tuple(labels), units[:-1], units[-1])


def checked_labels(labels: Sequence[str], where: str) -> tuple[str, ...]:
    """The labels that are not empty. `where`: their source, for the error message.

    Raises:
        InvalidInput: no label, or one twice.
    """
    kept = tuple(label for label in labels if label)
    if not kept:
        raise InvalidInput(f"{where} has no label", where=where)
    twice = [label for label, count in Counter(kept).items() if count > 1]
    if twice:
        raise InvalidInput(f"{where} has the label {twice[0]!r} more than once", value=twice[0], where=where)
    return kept
