"""The schemas of requests and responses. Requests are validated; responses are only documented, which is faster."""

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from tuwen.index.calibration import Calibration


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is empty")
    return text


MAX_TEXT = 4096
Text: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT), AfterValidator(_not_empty)]
Id: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Where: TypeAlias = Annotated[str, StringConstraints(max_length=4096)]
Name: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Sort: TypeAlias = Annotated[str, StringConstraints(pattern=r"^-?[a-z_]{1,64}$")]
MAX_HITS = 1000


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class _Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class _Selection(_Request):
    k: int = Field(20, ge=1, le=MAX_HITS)
    """the number of hits"""
    offset: int = Field(0, ge=0, le=10_000)
    """the number of hits to skip"""
    min_score: Annotated[float, Field(ge=-1, le=1)] | Literal["auto"] | None = None
    """drop hits with a lower cosine; `auto`: the threshold that `tuwen calibrate` measured on this index"""
    where: Where | None = None
    """a filter such as `width >= 1024 and folder == "2023"`"""
    exact: bool = False
    """compare with every row instead of searching the approximate index"""
    diversity: float = Field(0.0, ge=0, le=1)
    """how much hits should differ from each other"""
    unique: float | None = Field(None, gt=0, le=1)
    """fold hits whose cosine to a better hit is at least this into that hit"""
    sort: Sort | None = None
    """order the hits of this answer by a field, e.g. `-taken`; best first without it"""


class SearchRequest(_Selection):
    """A query: at least one of text, image and like."""

    text: Text | None = None
    """a text, in any language that the model knows"""
    image: Annotated[str, StringConstraints(min_length=1)] | None = None
    """an image: base64, a data URL, or an http or https URL if the service fetches images"""
    like: list[Id] = Field([], max_length=100)
    """ids of rows that hits should resemble"""
    unlike: list[Id] = Field([], max_length=100)
    """ids of rows that hits should not resemble"""

    @model_validator(mode="after")
    def _something(self) -> "SearchRequest":
        if self.text is None and self.image is None and not self.like:
            raise ValueError("nothing to search for: give a text, an image, or ids of rows that hits should resemble")
        return self


class Example(_Request):
    """An example that hits should or should not resemble: exactly one of id, text, image and vector."""

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
    """A query by examples that hits should or should not resemble."""

    like: list[Example] = Field([], max_length=100)
    unlike: list[Example] = Field([], max_length=100)
    strategy: Literal["average", "best"] = "average"
    """`average`: close to the mean of the examples; `best`: close to any of them"""

    @model_validator(mode="after")
    def _something(self) -> "RecommendRequest":
        if not self.like and not self.unlike:
            raise ValueError("nothing to search for: give an example that hits should, or should not, resemble")
        return self


class ClassifyRequest(_Request):
    """An image, and the labels to compare it with or the adapter to classify it by."""

    image: Annotated[str, StringConstraints(min_length=1)] | None = None
    """an image, as in a search"""
    id: Id | None = None
    """the id of a row, instead of an image"""
    labels: list[Name] | None = Field(None, min_length=1, max_length=1000)
    adapter: Name | None = None
    """in place of labels: a classifier that `tuwen adapt` learnt and this service serves, see `GET /v1/index`"""
    template: Text | Annotated[list[Text], Field(min_length=1, max_length=1000)] = "_"
    """a sentence with exactly one `_` or `{}` for the label; several are averaged"""
    multi_label: bool = False
    """judge each label by itself instead of against the others"""
    none_below: float | None = Field(None, ge=0, le=1)
    """report that no label fits if the best one, judged by itself, has a lower probability; with an adapter, what was
    measured with it by default"""

    @model_validator(mode="after")
    def _one(self) -> "ClassifyRequest":
        if (self.image is None) == (self.id is None):
            raise ValueError("give exactly one of image and id")
        if (self.labels is None) == (self.adapter is None):
            raise ValueError("give exactly one of labels and adapter")
        if self.adapter is not None and (self.multi_label or self.template != "_"):
            raise ValueError("an adapter has its own labels: leave out template and multi_label")
        return self


class DownloadRequest(_Request):
    """Rows whose files to download."""

    ids: list[Id] = Field(min_length=1, max_length=MAX_HITS)


Value: TypeAlias = str | int | float


class Row(_Answer):
    """A row of the index."""

    id: str
    payload: dict[str, Value]


class FoundRow(Row):
    """A row and its cosine to the query."""

    score: float
    similar: list[str] | None = None
    """ids of the rows that were folded into it"""


class Hits(_Answer):
    """Rows, best first."""

    query: str
    model: str
    hits: list[FoundRow]


class ImageLabel(_Answer):
    """How well a label fits."""

    label: str
    probability: float
    cosine: float


class LabelledImage(_Answer):
    """The labels of an image, best first."""

    path: str
    labels: list[ImageLabel]
    none: bool | None = None
    """whether no label fits; only if `none_below` or an adapter was given"""


class Refused(_Answer):
    """An image that cannot be read, and why."""

    path: str
    reason: str


class Labelled(_Answer):
    """The classified image, or why it could not be classified."""

    model: str
    images: list[LabelledImage]
    rejected: list[Refused]


class Rows(_Answer):
    """A page of rows."""

    total: int
    rows: list[Row]


class Added(_Answer):
    """An image that is in the index now."""

    id: str
    path: str


class Report(_Answer):
    """The results of an upload."""

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
    """The number of removed rows."""

    removed: int


class Folder(_Answer):
    """A folder and the number of its rows."""

    name: str
    rows: int


class Period(_Answer):
    """A year or a month, and the number of its images."""

    first: str
    last: str
    rows: int


class Dates(_Answer):
    """The images over time."""

    field: str
    """the payload field with the date: `taken`, or `modified` if no row has that"""
    periods: list[Period]


class ServedAdapter(_Answer):
    """A classifier that `tuwen adapt` learnt."""

    name: str
    classes: list[str]
    method: str


class Facet(_Answer):
    """A value, and the number of rows that have it."""

    name: str
    rows: int


class Facets(_Answer):
    """How many rows there are of each value."""

    by: str
    facets: list[Facet]


class IndexFacts(_Answer):
    """The index, and the values to filter by."""

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
    cameras: list[Folder]
    adapters: list[ServedAdapter]
    dates: Dates | None
    modified: list[float] | None
    width: list[int] | None


class Model(_Answer):
    """The model: OpenAI's fields, and its languages, dimension and fingerprint."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    languages: list[str]
    dim: int
    fingerprint: str


class Models(_Answer):
    """The models of this service; there is one."""

    object: Literal["list"]
    data: list[Model]


class Health(_Answer):
    """The state of the service."""

    status: str


class Error(_Answer):
    """The description of an error."""

    code: str
    message: str
    status: int
    type: str | None = None
    """only in responses to OpenAI's clients"""
    param: str | None = None
    """likewise"""


class Failure(_Answer):
    """The shape of every error."""

    error: Error
