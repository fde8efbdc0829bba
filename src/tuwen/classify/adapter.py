"""An adapter: a classifier learnt from a few images a class, as a folder that belongs to one model.

adapter.json           classes, method, parameters, the model's fingerprint, what was measured, files with sha256
adapter.safetensors    text vectors, and the method's weights or cache
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tuwen.classify.methods import Floats, Residual, softmax
from tuwen.errors import InvalidInput, WrongModel
from tuwen.types import Vectors

FACTS, TENSORS = "adapter.json", "adapter.safetensors"
_VERSION = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """A classifier learnt from a few images of each class.

    Attributes:
        classes: names of the classes.
        model: name of the model.
        fingerprint: of the model; vectors of another are refused.
        method: see `methods`.
        parameters: the method's.
        scale: what the model multiplies cosines with.
        texts: (classes, dim) unit rows.
        residual: what the method adds to the zero-shot logits.
        temperature: what logits are divided by, so that probabilities are right on average.
        none_below: below this probability of the best class, none fits; None where it could not be measured.
        measured: figures on left-out support images, for people to read.
    """

    classes: tuple[str, ...]
    model: str
    fingerprint: str
    method: str
    parameters: Mapping[str, float]
    scale: float
    texts: Vectors
    residual: Residual
    temperature: float
    none_below: float | None
    measured: Mapping[str, Any]

    def logits(self, vectors: Vectors) -> Floats:
        """(n, classes) for (n, dim) unit rows: `s f·t + alpha r(f)`."""
        base = np.asarray(self.scale * (vectors @ self.texts.T), dtype=np.float64)
        return base + self.parameters.get("alpha", 1.0) * self.residual.of(vectors)

    def probabilities(self, vectors: Vectors) -> Floats:
        """(n, classes) that sum to 1."""
        return softmax(self.logits(vectors) / self.temperature)

    def check(self, name: str, fingerprint: str) -> None:
        """See that it belongs to a model.

        Raises:
            WrongModel: it was learnt from another model's vectors.
        """
        if fingerprint != self.fingerprint:
            hint = f"use it with {self.model}, or adapt {name} to the same images"
            message = f"the adapter belongs to {self.model} ({self.fingerprint}), not to {name} ({fingerprint}): {hint}"
            raise WrongModel(message, value=fingerprint, where=self.fingerprint, hint=hint)

    def save(self, folder: Path | str) -> None:
        """Write the folder: aside, then renamed. An adapter that is there already is replaced.

        Raises:
            InvalidInput: something else is there.
        """
        from safetensors.numpy import save_file

        target = Path(folder)
        if target.exists() and not (target / FACTS).is_file() and (target.is_file() or any(target.iterdir())):
            hint = "name a folder that is new, empty, or an adapter"
            raise InvalidInput(f"{target} is not an adapter: {hint}", value=target, where="output", hint=hint)
        aside = target.with_name(f".{target.name}.part")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        tensors = {name: getattr(self.residual, name) for name in ("weight", "bias", "keys", "values")}
        present = {name: np.ascontiguousarray(value) for name, value in tensors.items() if value is not None}
        save_file({"texts": np.ascontiguousarray(self.texts), **present}, aside / TENSORS)
        content = (aside / TENSORS).read_bytes()
        facts = {
            "version": _VERSION,
            "classes": list(self.classes),
            "model": self.model,
            "fingerprint": self.fingerprint,
            "method": self.method,
            "parameters": dict(self.parameters),
            "scale": self.scale,
            "beta": self.residual.beta,
            "temperature": self.temperature,
            "none_below": self.none_below,
            "measured": dict(self.measured),
            "files": {TENSORS: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}},
        }
        (aside / FACTS).write_text(json.dumps(facts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        aside.replace(target)

    @classmethod
    def load(cls, folder: Path | str) -> "Adapter":
        """Read a folder that `save` wrote.

        Raises:
            InvalidInput: it is not an adapter, or a file of it was changed.
        """
        from safetensors.numpy import load as read_tensors

        place = Path(folder)
        try:
            facts = json.loads((place / FACTS).read_text(encoding="utf-8"))
            content = (place / TENSORS).read_bytes()
            known = facts["files"][TENSORS]["sha256"]
        except OSError as error:
            raise _invalid(place, f"{error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise _invalid(place, f"{FACTS} cannot be read") from error
        if facts.get("version") != _VERSION:
            raise _invalid(place, f"it has the version {facts.get('version')}, not {_VERSION}")
        if hashlib.sha256(content).hexdigest() != known:
            raise _invalid(place, f"{TENSORS} is not the file that was written")
        tensors = cast(dict[str, NDArray[np.float32]], read_tensors(content))
        texts = tensors.pop("texts")
        names = ("model", "fingerprint", "method", "parameters", "scale", "temperature", "none_below", "measured")
        return cls(
            classes=tuple(facts["classes"]),
            texts=texts,
            residual=Residual(**tensors, beta=facts["beta"]),
            **{name: facts[name] for name in names},
        )


def _invalid(place: Path, reason: str) -> InvalidInput:
    hint = "make one with tuwen adapt, or name another folder"
    return InvalidInput(f"{place} is not an adapter of tuwen: {reason}; {hint}", value=place, where=place, hint=hint)
