"""What requests and answers look like. Requests are checked by these; answers are only described by them."""

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from tuwen.index.calibration import Calibration


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("an empty text finds nothing")
    return text


MAX_TEXT = 4096
Text: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT), AfterValidator(_not_empty)]
Id: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Where: TypeAlias = Annotated[str, StringConstraints(max_length=4096)]
Name: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=256)]
MAX_HITS = 1000


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class _Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class _Selection(_Request):
    k: int = Field(20, ge=1, le=MAX_HITS)
    """how many hits"""
    offset: int = Field(0, ge=0, le=10_000)
    """how many of the first hits are passed over"""
    min_score: Annotated[float, Field(ge=-1, le=1)] | Literal["auto"] | None = None
    """leave out hits of a lower cosine; `auto`: the threshold that `tuwen calibrate` measured on this index"""
    where: Where | None = None
    """a filter such as `width >= 1024 and folder == "2023"`"""
    exact: bool = False
    """compare with every row"""
    diversity: float = Field(0.0, ge=0, le=1)
    """how much hits shall differ from one another"""
    unique: float | None = Field(None, gt=0, le=1)
    """hits of a higher cosine to a better hit are folded into it"""


class SearchRequest(_Selection):
    """What is looked for: at least one of text, image and like."""

    text: Text | None = None
    """words, in any language that the model knows"""
    image: Annotated[str, StringConstraints(min_length=1)] | None = None
    """a picture: base64, or a data URL of it; its address, where the service fetches pictures"""
    like: list[Id] = Field([], max_length=100)
    """ids of rows that hits shall be like"""
    unlike: list[Id] = Field([], max_length=100)
    """ids of rows that hits shall be unlike"""

    @model_validator(mode="after")
    def _something(self) -> "SearchRequest":
        if self.text is None and self.image is None and not self.like:
            raise ValueError("nothing to look for: give a text, an image, or ids that hits shall be like")
        return self


class Example(_Request):
    """One thing that hits should resemble, or not: exactly one of id, text, image and vector."""

    id: Id | None = None
    text: Text | None = None
    image: Annotated[str, StringConstraints(min_length=1)] | None = None
    vector: Annotated[list[float], Field(max_length=65_536)] | None = None
    """a vector of the service's model"""
    weight: float = Field(1.0, gt=0, le=100)

    @model_validator(mode="after")
    def _one(self) -> "Example":
        if sum(value is not None for value in (self.id, self.text, self.image, self.vector)) != 1:
            raise ValueError("an example is exactly one of id, text, image and vector")
        return self


class RecommendRequest(_Selection):
    """Examples of what hits shall be like and unlike."""

    like: list[Example] = Field([], max_length=100)
    unlike: list[Example] = Field([], max_length=100)
    strategy: Literal["average", "best"] = "average"
    """`average`: near the mean of the examples; `best`: near any of them"""

    @model_validator(mode="after")
    def _something(self) -> "RecommendRequest":
        if not self.like and not self.unlike:
            raise ValueError("nothing to go by: give an example that hits shall be like, or unlike")
        return self


class ClassifyRequest(_Request):
    """A picture, and what it may show."""

    image: Annotated[str, StringConstraints(min_length=1)] | None = None
    """as in a search"""
    id: Id | None = None
    """instead: a row of the index"""
    labels: list[Name] = Field(min_length=1, max_length=1000)
    template: Text | Annotated[list[Text], Field(min_length=1, max_length=1000)] = "_"
    """a sentence with exactly one `_` or `{}` for the label; of several, the average"""
    multi_label: bool = False
    """judge each label by itself"""
    none_below: float | None = Field(None, ge=0, le=1)
    """report that no label fits if the best one, judged by itself, has a lower probability"""

    @model_validator(mode="after")
    def _one(self) -> "ClassifyRequest":
        if (self.image is None) == (self.id is None):
            raise ValueError("give exactly one of image and id")
        return self


Value: TypeAlias = str | int | float


class Row(_Answer):
    """A row of the index."""

    id: str
    payload: dict[str, Value]


class FoundRow(Row):
    """A row, and how near it is."""

    score: float
    similar: list[str] | None = None
    """ids of rows that were folded into it"""


class Hits(_Answer):
    """Rows, best first."""

    query: str
    model: str
    hits: list[FoundRow]


class LabelOfPicture(_Answer):
    """How well a label fits."""

    label: str
    probability: float
    cosine: float


class LabelledPicture(_Answer):
    """A picture's labels, best first."""

    path: str
    labels: list[LabelOfPicture]
    none: bool | None = None
    """whether no label fits, where `none_below` was given"""


class Refused(_Answer):
    """A picture that cannot be read, and why."""

    path: str
    reason: str


class Labelled(_Answer):
    """The classified picture, or why there is none."""

    model: str
    images: list[LabelledPicture]
    rejected: list[Refused]


class Rows(_Answer):
    """A page of rows."""

    total: int
    rows: list[Row]


class Added(_Answer):
    """A picture that is in the index now."""

    id: str
    path: str


class Report(_Answer):
    """What became of pictures that were added."""

    index: str
    indexed: int
    unchanged: int
    replaced: int
    removed: int
    skipped: int
    rejected: list[Refused]
    seconds: float
    images: list[Added]


class Removed(_Answer):
    """How many rows went."""

    removed: int


class Folder(_Answer):
    """A folder of the collection."""

    name: str
    rows: int


class IndexFacts(_Answer):
    """The index, and what filters can ask for."""

    index: str
    rows: int
    dim: int
    metric: str
    kind: str
    searched: str
    store: str
    model: str
    fingerprint: str
    bytes: int | None
    precisions: list[str]
    write: bool
    calibration: Calibration | None
    types: dict[str, int]
    folders: list[Folder]
    modified: list[float] | None
    width: list[int] | None


class Model(_Answer):
    """The model, as OpenAI's clients list it and with what it knows."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    languages: list[str]
    dim: int
    fingerprint: str


class Models(_Answer):
    """All models of this service: there is one."""

    object: Literal["list"]
    data: list[Model]


class Health(_Answer):
    """How the service does."""

    status: str


class Error(_Answer):
    """What went wrong."""

    code: str
    message: str
    status: int
    type: str | None = None
    """only from the routes for OpenAI's clients"""
    param: str | None = None
    """likewise"""


class Failure(_Answer):
    """The shape of every error."""

    error: Error
