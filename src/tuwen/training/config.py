"""All that a training run is told: one typed tree, frozen, in which an unknown key is an error.

Every section is read by the part that it is named after. Knows what each key may be and which exclude each other.
Does not know files: see `config_file.py`. Never imports torch.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from tuwen.bundle.manifest import Precision

Positive = Annotated[int, Field(ge=1)]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AtLeast = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    """Strict types, frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


def at_most_one(section: Section, *names: str) -> None:
    """See to it that not more than one of these is set.

    Raises:
        ValueError: several are.
    """
    given = [name for name in names if getattr(section, name) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other: leave one out")


class PairSource(Section, strict=False):
    """One place that pairs are read from."""

    path: Path
    """a folder (`cat.jpg` and `cat.txt`; what img2dataset wrote), a WebDataset `.tar`, `.parquet`, `.csv`, `.tsv`,
    `.jsonl`, or an annotation file (Karpathy, COCO, Flickr30k, Flickr30k-CN, COCO-CN, Chinese-CLIP)"""
    images: Path | None = None
    """the folder that the images of a table or an annotation file are in; not set: the file's own"""
    splits: tuple[str, ...] = ()
    """which splits of a dataset that has splits; not set: `train`, which includes Karpathy's `restval`"""
    key: str | None = None
    """the column that names a pair; not set: found by its usual names"""
    image: str | None = None
    """the column of pictures or their paths; likewise"""
    captions: Annotated[dict[str, str], Field(min_length=1)] | str | None = None
    """the column of captions, or language -> column where each has one; not set: found by its usual names"""
    language: str | None = None
    """the language of all captions, e.g. `zh`"""
    language_column: str | None = None
    """the column that says which language a row's captions are in"""

    @model_validator(mode="after")
    def _language_is_said_once(self) -> Self:
        said = (self.language is not None, self.language_column is not None, isinstance(self.captions, dict))
        if sum(said) > 1:
            raise ValueError(
                "language, language_column and a language for each column of captions exclude each other: leave "
                "all but one out"
            )
        return self

    def speaks(self, language: str) -> bool:
        """Whether there may be captions in a language."""
        named = self.captions if isinstance(self.captions, dict) else {self.language: ""}
        return self.language_column is not None or language in named


def _listed(value: object) -> object:
    """`./photos` is `[{path: ./photos}]`, and so is one source that stands alone."""
    several = value if isinstance(value, list | tuple) else [value]
    return [{"path": item} if isinstance(item, str | Path) else item for item in several]


Sources: TypeAlias = Annotated[tuple[PairSource, ...], BeforeValidator(_listed), Field(strict=False)]


class DataConfig(Section):
    """Which pairs are trained on, and in which order."""

    train: Annotated[Sources, Field(min_length=1)]
    """a path, a source, or several of both"""
    languages: dict[str, Above] = Field(default_factory=dict)
    """language -> weight: how often a caption is drawn from it, among those that a picture has; others are left
    out. Empty: every caption is as likely"""
    shuffle: bool = True
    """whether every epoch has an order of its own"""
    buffer: Positive = 10_000
    """pairs that are mixed with each other: shards come in random order, and pairs within so many of them"""
    drop_last: bool = True
    """whether the pairs that do not fill a last batch wait for another epoch"""
    cut: bool = True
    """whether texts are cut to the longest of their batch, where that is known to change nothing for the model"""
    max_bad: Share = 0.01
    """the run stops when a greater share of the pairs cannot be read"""
    max_pixels: Positive = 178_956_970
    """a picture of more pixels counts as one that cannot be read"""
    exact: bool = False
    """whether every pixel is decoded; else large pictures are decoded at reduced scale, several times as fast"""

    @model_validator(mode="after")
    def _languages_are_spoken(self) -> Self:
        silent = [name for name in self.languages if not any(source.speaks(name) for source in self.train)]
        if silent:
            raise ValueError(
                f"languages: no source of train says that it has captions in {', '.join(silent)}: say it with "
                f"language, language_column, or captions: {{{silent[0]}: COLUMN}}"
            )
        return self


class Jitter(Section):
    """Random changes of colour: each factor is drawn from 1 - x to 1 + x, hue from -x to x."""

    probability: Share = 0.8
    """how often"""
    brightness: Share = 0.0
    """x of the brightness"""
    contrast: Share = 0.0
    """x of the contrast"""
    saturation: Share = 0.0
    """x of the saturation"""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """x of the hue, in turns of the colour wheel"""


class AugmentConfig(Section):
    """What is done to a training picture before it is scaled as the model's image spec says."""

    crop: Literal["random", "none"] = "random"
    """`random`: a random part, brought to the model's size; `none`: exactly as the model sees pictures later"""
    scale: tuple[Part, Part] = (0.9, 1.0)
    """the least and the greatest share of the picture's area that a random part has"""
    ratio: tuple[Above, Above] = (0.75, 4 / 3)
    """the least and the greatest ratio of its width to its height"""
    flip: Share = 0.0
    """how often a picture is mirrored: captions may say left and right, and writing is to be read"""
    jitter: Jitter = Jitter()
    """changes of colour"""
    grayscale: Share = 0.0
    """how often the colours are taken away"""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        for name, (low, high) in {"scale": self.scale, "ratio": self.ratio}.items():
            if low > high:
                raise ValueError(f"{name}: the least, {low}, is above the greatest, {high}")
        return self


Blocks: TypeAlias = Annotated[int, Field(ge=0)] | Literal["all"]
Beta: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


class ImageChanges(Section):
    """How pictures are prepared, where not as the checkpoint says; the bundle will say it, too."""

    resize: Literal["shortest", "squash", "pad"] | None = None
    """see the bundle's image spec, as the others"""
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest"] | None = None
    """the resampling filter"""
    mean: tuple[float, float, float] | None = None
    """subtracted from each channel after scaling to 0..1"""
    std: tuple[Above, Above, Above] | None = None
    """each channel is divided by this"""


class ModelConfig(Section):
    """What is trained."""

    source: str = Field(min_length=1)
    """`family:name`, `family:folder`, a path, or `python:package.module:function` that returns Towers"""
    weights: Path | None = None
    """a file of weights for the architecture that `source` names"""
    arch: str | None = None
    """the architecture, where a path does not tell it"""
    scratch: bool = False
    """whether weights begin at random"""
    seed: int | None = None
    """of the random weights; not set: run.seed"""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """changes of the architecture, by the family's own names; only with scratch"""
    image: ImageChanges = ImageChanges()
    """changes of how pictures are prepared"""
    lock_image: Blocks = 0
    """how many of the vision tower's first blocks are not trained (what is before them included), or `all`"""
    lock_text: Blocks = 0
    """likewise, of the text tower"""
    checkpointing: bool = False
    """whether activations are computed again in the backward pass instead of kept"""

    @model_validator(mode="after")
    def _scratch_is_whole(self) -> Self:
        if self.scratch and self.weights is not None:
            raise ValueError("scratch and weights exclude each other")
        if self.overrides and not self.scratch:
            raise ValueError("overrides change an architecture, which weights would not fit: set scratch: true")
        return self


class LossConfig(Section):
    """What is minimised."""

    kind: Literal["infonce", "siglip"] = "infonce"
    """`infonce`: softmax both ways over the batch; `siglip`: a sigmoid for each pair"""
    dedupe: bool = True
    """whether equal captions or pictures within a batch are no negatives of each other"""
    max_scale: Above | None = None
    """the greatest factor of the cosines; not set: 100, or what the model begins with if that is more"""


class ObjectiveConfig(Section):
    """A loss of your own and the batches that it is computed on, in place of `data` and of the losses over pairs.

    Of the section `loss`, `kind` and `max_scale` still say how the scale begins and what it may become.
    """

    source: str = Field(pattern=r"^python:[\w.]+:\w+$")
    """`python:package.module:function` that returns a `tuwen.training.objective.Objective`"""
    settings: dict[str, Any] = Field(default_factory=dict)
    """what the function is given by name, after the pair, the section `run` and the process' part"""


class OptimizerConfig(Section):
    """How weights move."""

    name: Literal["adamw"] = "adamw"
    """with weight decay apart from the gradient"""
    lr: Above = 5e-4
    """the greatest rate, after the warm-up"""
    betas: tuple[Beta, Beta] = (0.9, 0.98)
    """decays of the averages of gradients and of their squares"""
    eps: Above = 1e-6
    """added to the root of the latter"""
    weight_decay: AtLeast = 0.2
    """of matrices; biases, norms and all else of one dimension have none"""
    layer_decay: Part = 1.0
    """block i of n learns at lr * layer_decay^(n - i), embeddings at layer_decay^(n + 1)"""
    clip: Above | None = None
    """the greatest norm of all gradients together"""
    accumulate: Positive = 1
    """batches whose gradients are added up before a step"""


class ScheduleConfig(Section):
    """How the rate changes, step by step: a line up from warmup_lr to lr, then a cosine down to eta_min."""

    name: Literal["cosine", "constant"] = "cosine"
    """`constant`: stays at lr after the warm-up, until a cooldown if there is one"""
    warmup_lr: AtLeast = 0.0
    """where the warm-up starts"""
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """its length in steps; neither given: no warm-up"""
    warmup_epochs: AtLeast | None = None
    """its length in epochs"""
    cooldown_steps: Positive | None = None
    """how many of the last steps lead from a constant rate down to eta_min, in a line; neither given: none"""
    cooldown_epochs: Above | None = None
    """likewise, in epochs"""
    eta_min: AtLeast = 0.0
    """where the cosine or the cooldown ends"""

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        at_most_one(self, "warmup_steps", "warmup_epochs")
        at_most_one(self, "cooldown_steps", "cooldown_epochs")
        if self.name == "cosine" and (self.cooldown_steps or self.cooldown_epochs):
            raise ValueError("a cosine comes down by itself: a cooldown needs name: constant")
        return self


class RunConfig(Section):
    """How long, how much at a time, and where to."""

    output: Path = Path("output")
    """the folder of checkpoints, logs and the report"""
    epochs: Positive | None = None
    """how often all pairs are seen; this or steps"""
    steps: Positive | None = None
    """how often the weights move; this or epochs"""
    batch: Positive = 256
    """pairs of one batch, of each process"""
    chunk: Positive | None = None
    """pairs that go through the towers at once, with the gradient of the whole batch; not set: all of it"""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """what the towers compute in; weights are kept in fp32"""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:1`"""
    workers: Annotated[int, Field(ge=0)] = 4
    """threads of each process that read and prepare pairs; results do not depend on it"""
    seed: Annotated[int, Field(ge=0)] = 0
    """of the order of pairs, the captions drawn, the augmentations and all else that is random"""
    save_steps: Positive | None = None
    """a checkpoint every so many steps"""
    save_epochs: Positive | None = None
    """a checkpoint every so many epochs; neither given: every epoch"""
    keep_last: Positive = 3
    """how many checkpoints are kept, beside the best"""
    log_every: Positive = 10
    """steps between two lines of the log"""
    fsdp: bool = False
    """whether weights, gradients and moments are shared among the processes: for what one device cannot hold"""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """decay of a moving average of the weights, which is then what is evaluated and exported"""

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        at_most_one(self, "epochs", "steps")
        at_most_one(self, "save_steps", "save_epochs")
        if self.epochs is None and self.steps is None:
            raise ValueError("say how long: epochs or steps")
        if self.fsdp and self.ema is not None:
            raise ValueError("fsdp and ema exclude each other: the mean weights are kept whole in every process")
        if self.chunk is not None and self.chunk > self.batch:
            raise ValueError(f"chunk, {self.chunk}, is above batch, {self.batch}")
        return self


class EvaluateConfig(Section):
    """What is measured while training, by the encoder that also serves."""

    steps: Positive | None = None
    """every so many steps"""
    epochs: Positive | None = None
    """every so many epochs; neither given: every epoch, if there is something to measure"""
    pairs: Sources = ()
    """pairs never trained on: recall at k, both ways"""
    zeroshot: Path | None = None
    """a folder of folders of pictures, each named after its class: accuracy"""
    templates: tuple[Annotated[str, Field(pattern="_")], ...] = ("a photo of a _",)
    """what a class's name is set into, in place of `_`"""
    k: tuple[Positive, ...] = (1, 5, 10)
    """the k of recall at k and of the accuracy among the k best"""
    batch: Positive = 64
    """pictures or texts encoded at once"""

    @model_validator(mode="after")
    def _one_interval(self) -> Self:
        at_most_one(self, "steps", "epochs")
        return self


class ExportConfig(Section):
    """The bundle that is made of the best checkpoint at the end."""

    precisions: tuple[Precision, ...] = ("fp32",)
    """what its files come in; empty: no bundle is made"""
    bench: bool = True
    """whether the bundle's speed on this machine is measured, too"""
    name: str | None = None
    """what people call the model; not set: the name of the output folder"""
    licence: str = ""
    """SPDX identifier or name of the licence of the weights"""


class TrainConfig(Section):
    """A whole training run."""

    model: ModelConfig
    objective: ObjectiveConfig | None = None
    data: DataConfig | None = Field(default=None, validate_default=True)
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    run: RunConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()

    @field_validator("data")
    @classmethod
    def _there_is_something_to_train_on(cls, data: DataConfig | None, info: ValidationInfo) -> DataConfig | None:
        if data is None and info.data.get("objective", cls) is None:
            raise ValueError("say what to train on, data: {train: ./pairs}, or an objective of your own")
        return data

    @model_validator(mode="after")
    def _an_objective_has_its_own(self) -> Self:
        unused = {
            "data": self.data is not None,
            "augment": self.augment != AugmentConfig(),
            "loss.dedupe": not self.loss.dedupe,
            "run.chunk": self.run.chunk is not None,
            "run.fsdp": self.run.fsdp,
        }
        said = ", ".join(name for name, found in unused.items() if found)
        if self.objective is not None and said:
            raise ValueError(f"an objective of your own has its own batches and its own loss: leave out {said}")
        return self
