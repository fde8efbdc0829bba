"""The public API: the examples in its docstrings, and what they do not show."""

import doctest
import inspect
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tuwen
from tuwen import api
from tuwen.demo import demo_gallery
from tuwen.search.query import RowId

FOOD = "food-and-drink"
APPLE = f"{FOOD}/red-apple.webp"


def published() -> Iterator[tuple[str, object]]:
    """The functions and classes of the public API, and the public methods that these classes define."""
    for name in ("load", "Encoder", "Index", "embed", "evaluate", "adapt"):
        member = getattr(tuwen, name)
        yield name, member
        if inspect.isclass(member):
            yield from ((f"{name}.{key}", value) for key, value in vars(member).items() if is_public(key, value))


def is_public(name: str, value: object) -> bool:
    return not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, classmethod))


EXAMPLES = dict(published())


EVERY = 8
"""of the gallery's pictures: each example and test copies them, and some index them anew"""


@pytest.fixture(scope="module")
def built(memory: Path) -> Path:
    """A folder with photos, their index, and an index of texts, as the examples have them."""
    place = memory / "api"
    for folder in (FOOD, "flags"):
        (place / "photos" / folder).mkdir(parents=True)
        every = sorted((demo_gallery() / folder).iterdir())
        for picture in {*every[::EVERY], *(path for path in every if path.name == Path(APPLE).name)}:
            shutil.copy2(picture, place / "photos" / folder)
    tuwen.Index.build(place / "photos", place / "photos.tuwen", "demo").close()
    texts = ["a red apple", "a dog"]
    tuwen.Index.build(texts, place / "captions.tuwen", "demo").close()
    return place


@pytest.fixture
def place(built: Path, memory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, as the working folder."""
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        work = Path(folder) / "work"
        subprocess.run(["cp", "-R", built, work], check=True)  # leaves the holes in the indexes' files
        monkeypatch.chdir(work)
        yield work


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_published_name_has_an_example_that_runs(name: str, place: Path) -> None:
    member = EXAMPLES[name]
    doc = inspect.getdoc(member.__func__ if isinstance(member, classmethod) else member) or ""
    examples = doctest.DocTestParser().get_doctest(doc, {"tuwen": tuwen, "Path": Path}, name, None, None)
    assert examples.examples, f"{name} has no example"
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_every_kind_of_query_finds_the_same_row(place: Path) -> None:
    with tuwen.Index.open("photos.tuwen") as index:
        file = place / "photos" / APPLE
        vector = index.encoder.encode_images([file])[0]
        hit = index.search(file, k=1)[0]
        queries: list[object] = [file.read_bytes(), Image.open(file), vector, 7 * vector.astype(np.float64)]
        for query in queries:
            found = index.search(query, k=1)[0]
            assert (found.id, found.payload["path"]) == (hit.id, APPLE)
            assert found.score == pytest.approx(1, abs=1e-3)
        others = index.search(hit, k=3)
        assert hit.id not in [other.id for other in others]
        assert others == index.search(RowId(hit.id), k=3)


def test_weights_and_strategies_are_those_of_the_terms(place: Path) -> None:
    with tuwen.Index.open("photos.tuwen") as index:
        first, second = index.encoder.encode_texts(["a red apple", "flag"])
        total = 2 * first.astype(np.float64) - 0.5 * second
        found = index.search(tuwen.Query(like=[("a red apple", 2.0)], unlike=[("flag", 0.5)]), k=5, exact=True)
        assert [hit.id for hit in found] == [hit.id for hit in index.search(total, k=5, exact=True)]
        best = index.search(tuwen.Query(like=["a red apple", "flag"], strategy="best"), k=20)
        assert {hit.payload["folder"] for hit in best} == {FOOD, "flags"}


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (3.5, tuwen.InvalidInput),
        (" ", tuwen.InvalidInput),
        (tuwen.Query(), tuwen.InvalidInput),
        (tuwen.Query(like="apple"), tuwen.InvalidInput),
        (tuwen.Query(like=[("apple", 0)]), tuwen.InvalidInput),
        (tuwen.Query(like=[("apple", float("nan"))]), tuwen.InvalidInput),
        (RowId("1b671a64-40d5-591e-99b0-da01ff1f3341"), tuwen.InvalidInput),
        (np.zeros(384, np.float32), tuwen.InvalidVectors),
        (np.ones((2, 3), np.float32), tuwen.InvalidVectors),
        (np.ones(3, np.float32), tuwen.InvalidVectors),
        (tuwen.Query(like=["apple", np.ones(3, np.float32)]), tuwen.InvalidVectors),
        (Path("gone.jpg"), tuwen.RejectedImages),
    ],
)
def test_what_cannot_be_searched_for(query: object, error: type[Exception], place: Path) -> None:
    with tuwen.Index.open("photos.tuwen") as index, pytest.raises(error):
        index.search(query)


def test_auto_thresholds_want_a_calibration(place: Path) -> None:
    with tuwen.Index.open("photos.tuwen") as index, pytest.raises(tuwen.InvalidInput):
        index.search("apple", min_score="auto")


def counting(loaded: list[str]) -> Callable[[str], tuwen.Encoder]:
    def load(name: str) -> tuwen.Encoder:
        loaded.append(name)
        return tuwen.load(name)

    return load


def test_an_index_loads_its_model_once_and_only_when_it_is_needed(place: Path) -> None:
    loaded: list[str] = []
    with tuwen.Index.open("photos.tuwen", load=counting(loaded)) as index:
        hit = index.search(np.ones(index.dim), k=1)[0]
        assert index.search(hit, k=1)
        assert index.remove(where='folder == "flags" and name == "nothing"') == 0
        assert loaded == []
        assert index.search("apple")
        assert index.sync().indexed == 0
    assert loaded == ["demo"]


def test_a_build_loads_the_model_once(place: Path) -> None:
    loaded: list[str] = []
    for rows in (0, 2):
        with tuwen.Index.open_or_create("new.tuwen", None, "demo", load=counting(loaded)) as index:
            assert index.info().rows == rows
            index.add(["one", "two"], progress=False)
    assert loaded == ["demo", "demo"]


def test_another_model_is_refused(place: Path) -> None:
    other = tuwen.load("demo")
    other.fingerprint = "0" * 16
    with pytest.raises(tuwen.WrongModel):
        tuwen.Index.open("photos.tuwen", encoder=other)
    with pytest.raises(tuwen.WrongModel):
        tuwen.Index.build("photos", "photos.tuwen", other)
    with tuwen.Index.open("photos.tuwen", load=lambda _: other) as index, pytest.raises(tuwen.WrongModel):
        index.search("apple")
    with pytest.raises(tuwen.InvalidInput):
        tuwen.Index.open("photos.tuwen", "demo", encoder=other)


def test_a_model_that_is_gone_is_named(place: Path) -> None:
    def nothing(name: str) -> tuwen.Encoder:
        raise tuwen.BundleNotFound(name)

    with tuwen.Index.open("photos.tuwen", load=nothing) as index, pytest.raises(tuwen.BundleNotFound) as caught:
        index.search("apple")
    assert caught.value.value == "pictograms"
    assert caught.value.where == Path("photos.tuwen")


def test_building_again_updates(place: Path) -> None:
    shutil.copy(place / "photos" / APPLE, place / "photos" / "new.webp")
    (place / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    with tuwen.Index.build("photos", "photos.tuwen") as index:
        assert (index.report.indexed, index.report.replaced) == (1, 0)
        assert [item.path for item in index.report.rejected] == ["broken.jpg"]
    with pytest.raises(tuwen.InvalidInput) as caught:
        tuwen.Index.build("photos/flags", "photos.tuwen")
    assert caught.value.where == Path("photos.tuwen")
    with pytest.raises(tuwen.InvalidInput):
        tuwen.Index.build("photos", "photos.tuwen", kind="flat")
    with tuwen.Index.build("photos", "photos.tuwen", kind="HNSW32") as index:
        assert index.info().kind == "hnsw"


def test_what_is_added(place: Path) -> None:
    (place / "lines.txt").write_text("a red apple\na green pear\n", encoding="utf-8")
    with tuwen.Index.build("lines.txt", "mixed.tuwen", "demo") as index:
        assert index.report.indexed == 2
        assert index.add([place / "photos" / APPLE, place / "photos" / "flags"]).indexed > 10
        assert index.add({"mine": "a blue car"}).indexed == 1
        assert index.add(["a blue car", "a blue car", " "]).indexed == 1
        assert index.add([]).indexed == 0
        texts = {row.payload["text"] for row in index.list('type == "text"')}
        assert texts == {"a red apple", "a green pear", "a blue car"}
        for wrong in (
            [str(place / "photos" / APPLE)],
            [place / "lines.txt", place / "photos"],
            "gone",
            ["a", Path("b")],
        ):
            with pytest.raises(tuwen.InvalidInput):
                index.add(wrong)


def test_what_is_removed(place: Path) -> None:
    with tuwen.Index.open("photos.tuwen") as index:
        hits = index.search("a red apple", k=2)
        assert index.remove([hits[0], RowId(hits[0].id), "flags"]) == 1
        flags = index.count('folder == "flags"')
        assert index.remove(where='folder == "flags" and name startswith "flag-a"') > 0
        left = index.count('folder == "flags"')
        assert 0 < left < flags
        assert index.remove([Path("photos/flags"), Path("photos/none")]) == left
        assert index.keys('folder == "flags"') == []
        for wrong in ({}, {"rows": ["a"], "where": "width > 1"}, {"rows": "a"}, {"where": "wide > 1"}):
            with pytest.raises(tuwen.InvalidInput):
                index.remove(**wrong)


def test_moved_and_deleted_files(place: Path) -> None:
    (place / "photos" / APPLE).rename(place / "photos" / "apple.webp")
    next((place / "photos" / "flags").iterdir()).unlink()
    with tuwen.Index.open("photos.tuwen") as index:
        report = index.sync()
        assert (report.indexed, report.removed) == (1, 2)
        assert index.report == report
        assert index.search("a red apple", k=1)[0].payload["path"] == "apple.webp"
        with pytest.raises(tuwen.InvalidInput):
            index.sync("gone")


def test_a_selection_is_the_same_idea_as_on_the_command_line(place: Path) -> None:
    (place / "photos" / "drafts").mkdir()
    (place / "photos" / APPLE).rename(place / "photos" / "drafts" / "apple.webp")
    drafts = tuwen.Selection(exclude=["drafts/"])
    with tuwen.Index.build("photos/", "selected.tuwen", model="demo", selection=drafts) as index:
        assert not index.keys('folder == "drafts"')
        assert index.add("photos/").indexed == 0, "the index remembers the selection"
        assert index.sync(selection=tuwen.Selection()).indexed == 1
        assert index.add("photos/", selection=tuwen.Selection(include=["*.png"])).unchanged == 0
        with pytest.raises(tuwen.InvalidInput) as wrong:
            tuwen.Selection(exclude="drafts/")
    assert wrong.value.where == "exclude"


def test_many_images_that_are_gone_remove_nothing_unless_it_is_allowed(place: Path) -> None:
    with tuwen.Index.open("photos.tuwen") as index:
        rows = index.info().rows
        (place / "photos").rename(place / "away")
        (place / "photos").mkdir()
        with pytest.raises(tuwen.TooManyRemoved) as refused:
            index.sync()
        assert refused.value.value == rows
        assert index.sync(max_removed=1).removed == rows


def test_an_index_needs_no_with_and_its_lock_ends_with_close(place: Path) -> None:
    index = tuwen.Index.open("photos.tuwen")
    with pytest.raises(tuwen.IndexLocked):
        tuwen.Index.open("photos.tuwen", lock_timeout=0)
    index.close()
    index.close()
    tuwen.Index.open("photos.tuwen", lock_timeout=0).close()


def test_a_failed_build_lets_go_of_the_index(place: Path) -> None:
    with pytest.raises(tuwen.InvalidInput):
        tuwen.Index.build("photos/none", "photos.tuwen")
    tuwen.Index.open("photos.tuwen", lock_timeout=0).close()


def test_the_loader_may_choose_how_to_compute(place: Path) -> None:
    with tuwen.Index.open("photos.tuwen", load=partial(tuwen.load, precision="fp32")) as index:
        assert index.encoder.precision == "fp32"


def test_duplicates_are_found(place: Path) -> None:
    shutil.copy(place / "photos" / APPLE, place / "photos" / "twin.webp")
    with tuwen.Index.build("photos", "photos.tuwen") as index:
        groups = index.duplicates(0.999)
    assert {APPLE, "twin.webp"} in [{row.payload["path"] for row in group} for group in groups]


def test_the_loader_is_the_public_one_by_default() -> None:
    assert inspect.signature(tuwen.Index.open).parameters["load"].default is api.load
