"""The public API: loading a model, and an index that knows its own model.

The command line, the server and Python users call the same functions. Names are published by `tuwen/__init__.py`.
"""

from collections.abc import Sequence

from tuwen.classify.classifier import Classifier
from tuwen.classify.labels import PLAIN
from tuwen.index.index import VectorIndex
from tuwen.runtime.encoder import Encoder as RuntimeEncoder
from tuwen.runtime.loading import Choice, load_encoder
from tuwen.settings import Settings


class Encoder(RuntimeEncoder):
    """A model that turns images and texts into unit vectors, and labels into a classifier."""

    def classifier(
        self, labels: Sequence[str], template: str | Sequence[str] = PLAIN, *, multi_label: bool = False
    ) -> Classifier:
        """A classifier of images by labels that the model has not been trained on; see `Classifier`.

        Args:
            labels: at least one, all different.
            template: a sentence with one `_` or `{}` for the label, or several whose vectors are averaged.
            multi_label: judge each label by itself instead of against the others.

        Raises:
            InvalidInput: no label, a label twice, or a template that has not exactly one place for the label.
        """
        return Classifier(self, labels, template=template, multi_label=multi_label)


class Index(VectorIndex):
    """Images and texts of one model, searchable by text, image and vector."""


def load(
    model: str,
    *,
    runtime: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    exact_decode: bool = False,
) -> Encoder:
    """Load a model: a bundle's folder, the name of a model on this machine, or `demo`.

    Args:
        model: what to load. Foreign ONNX layouts (Hugging Face's, immich's) are read in place.
        runtime: `auto`, `onnxruntime` or `openvino`. Here and below, `auto` is what the settings say, and they say
            to choose unless a person has set them.
        device: `auto`, or e.g. `cpu`, `cuda:1`, `tensorrt`, `openvino:GPU`.
        precision: `auto`, `fp32`, `bf16`, `fp16` or `int8`.
        threads: for computing and for decoding; None: what the settings say, or all cores that this process may use.
        exact_decode: decode JPEGs at full scale, as the reference libraries do: slower, vectors equal to theirs in
            every digit that counts. By default they are decoded at a scale close to the model's input size.

    Returns:
        The encoder: pictures and texts to unit vectors.

    Raises:
        BundleError: there is no such model here, or its files are not right.
        RuntimeUnavailable: what was asked for is not on this machine; the message lists what is.
    """
    settings = Settings()
    choice = Choice(
        runtime=settings.runtime if runtime == "auto" else runtime,
        device=settings.device if device == "auto" else device,
        precision=settings.precision if precision == "auto" else precision,
        threads=settings.threads if threads is None else threads,
    )
    return load_encoder(
        model,
        choice,
        models=settings.models,
        cache=settings.cache,
        max_pixels=settings.max_pixels,
        exact_decode=exact_decode,
        kind=Encoder,
    )
