"""A model and how it is computed, without any `auto`: what a job needs to be resumed, here or on other machines."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tuwen.data.pillow_warnings import silence_libtiff
from tuwen.errors import WrongModel
from tuwen.runtime.loading import find_bundle, load_encoder, planned, portable_name
from tuwen.runtime.selection import Choice

if TYPE_CHECKING:
    from tuwen.bundle.manifest import Tower
    from tuwen.runtime.encoder import Encoder
    from tuwen.settings import Settings


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to load the model of a job.

    Attributes:
        model: a bundle's folder or a model's name, the same on every machine.
        fingerprint: the expected fingerprint of that model.
        choice: runtime, device, precision and threads; none is `auto`, so that all machines compute the same.
        models: where pulled models are kept.
        cache: where compiled models are kept.
        max_pixels: images of more pixels are rejected.
        exact_decode: whether JPEGs are decoded at full scale.
    """

    model: str
    fingerprint: str
    choice: Choice
    models: Path
    cache: Path
    max_pixels: int
    exact_decode: bool

    @classmethod
    def of(cls, model: str, choice: Choice, tower: "Tower", settings: "Settings", *, exact_decode: bool) -> Self:
        """Decide what is left to `auto`: both towers are computed as is fastest for one.

        Raises:
            BundleError: there is no such model on this machine, or its files are invalid.
            RuntimeUnavailable: the runtime, device or precision is not available.
        """
        found = find_bundle(model, settings.models, settings.cache)
        bundle, plans = planned(found, choice, settings.cache, measure=True)
        plan = plans[tower, "many"]
        return cls(
            portable_name(model),
            bundle.manifest.fingerprint(),
            Choice(plan.runtime, plan.device, plan.precision, plan.threads),
            settings.models,
            settings.cache,
            settings.max_pixels,
            exact_decode,
        )

    @property
    def threads(self) -> int:
        """Cores per worker."""
        assert self.choice.threads is not None, "a recipe has a number of threads"
        return self.choice.threads

    @property
    def facts(self) -> dict[str, Any]:
        """What the vectors depend on beside the model and its precision."""
        return {
            "runtime": self.choice.runtime,
            "device": self.choice.device,
            "exact_decode": self.exact_decode,
            "max_pixels": self.max_pixels,
        }

    def load(self) -> "Encoder":
        """Load the model.

        Raises:
            WrongModel: what has its name on this machine is another model.
            RuntimeUnavailable: this machine lacks the runtime, device or precision.
        """
        silence_libtiff()
        encoder = load_encoder(
            self.model,
            self.choice,
            models=self.models,
            cache=self.cache,
            max_pixels=self.max_pixels,
            exact_decode=self.exact_decode,
        )
        if encoder.fingerprint != self.fingerprint:
            raise WrongModel(
                f"{self.model} on {platform.node()} has the fingerprint {encoder.fingerprint}, expected "
                f"{self.fingerprint}: copy the same bundle to every machine",
                value=encoder.fingerprint,
                where=platform.node(),
            )
        return encoder
