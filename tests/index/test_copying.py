"""Rows from one index to another, by `tuwen index copy`: exactly, resumable, between all stores."""

import json
from pathlib import Path

import pytest
from backends import DESIGNS
from making import FakeModel, payload, rows

from local_cluster import LOCAL_MODE_SAYS, local_cluster
from tuwen.cli.main import tuwen
from tuwen.errors import InvalidInput, WrongModel
from tuwen.index.index import VectorIndex, manifest_of
from tuwen.index.location import Location
from tuwen.ingest import copy as copying
from tuwen.types import Row

pytestmark = [pytest.mark.filterwarnings(f"ignore:{said}") for said in LOCAL_MODE_SAYS]
MADE = [
    *rows(1_200),
    Row("文/1", rows(1, seed=9)[0].vector, {"type": "text", "text": "一只猫", "note": 0.1 + 0.2}),
]


@pytest.fixture
def source(place: Path) -> Path:
    folder = place / "source.tuwen"
    with VectorIndex.create(folder, encoder=FakeModel(precision="bf16"), root=place / "PHOTOS", metric="l2") as index:
        index.upsert(MADE)
        index.optimize()
    return folder


def copied(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    capsys.readouterr()
    assert not tuwen.main(["index", "copy", *map(str, words), "--json"], standalone_mode=False)
    document = json.loads(capsys.readouterr().out)
    del document["seconds"]
    return document


def content(place: Location) -> tuple[dict, dict[str, bytes]]:
    """All that is in an index: id -> payload, id -> vector's bytes."""
    with VectorIndex.open(place, encoder=None) as index:
        listed = {row.id: row.payload for row in index.list()}
        return listed, {name: vector.tobytes() for name, vector in index.vectors(list(listed)).items()}


@pytest.mark.parametrize("design", ["edge-flat", "faiss-hnsw", "faiss-ivf"])
def test_there_and_back_nothing_has_changed(
    source: Path, place: Path, design: str, capsys: pytest.CaptureFixture[str]
) -> None:
    there, back = place / "there.tuwen", place / "back.tuwen"
    options = [word for name, value in DESIGNS[design].items() for word in (f"--{name}", value)]
    expected = {"from": str(source), "to": str(there), "rows": 1_201, "copied": 1_201, "unchanged": 0}
    assert copied(capsys, source, there, *options) == expected
    copied(capsys, there, back)
    assert content(there) == content(back) == content(source)
    made = manifest_of(back)
    assert (made.model, made.metric, made.precisions) == ("fake", manifest_of(there).metric, ("bf16",))
    with VectorIndex.open(back, encoder=FakeModel()) as index:
        assert index.root == place / "PHOTOS"
        assert index.search(MADE[3].vector, k=1)[0].payload["path"] == MADE[3].key


def test_to_a_cluster_and_back(
    source: Path, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with local_cluster(monkeypatch) as cluster:
        copied(capsys, source, cluster)
        assert copied(capsys, cluster, place / "back.tuwen")["copied"] == 1_201
        assert content(cluster) == content(place / "back.tuwen") == content(source)
        with VectorIndex.open(cluster, encoder=FakeModel()) as index:
            assert (index.root, index.info().metric) == (place / "PHOTOS", "l2")


def test_commands_take_a_url_for_an_index(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with local_cluster(monkeypatch) as cluster:
        copied(capsys, source, cluster)
        printed = {}
        for words in (["remove", MADE[0].key, "文"], ["list", "--where", 'folder == "3"'], ["info"]):
            assert not tuwen.main(["index", *words, "--index", str(cluster), "--json"], standalone_mode=False)
            printed[words[0]] = json.loads(capsys.readouterr().out)
    assert printed["remove"]["removed"] == 2
    assert {row["payload"]["folder"] for row in printed["list"]["rows"]} == {"3"}
    assert (printed["info"]["index"], printed["info"]["rows"]) == (str(cluster), 1_199)
    assert (printed["info"]["store"], printed["info"]["bytes"]) == ("qdrant", None)


def test_interrupted_it_goes_on_and_writes_only_what_differs(
    source: Path, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = place / "target.tuwen"
    upsert = VectorIndex.upsert
    pages = []

    def stopped(index: VectorIndex, page: list[Row]) -> None:
        pages.append(len(page))
        if len(pages) == 3:
            raise InvalidInput("pulled the plug")
        upsert(index, page)

    with monkeypatch.context() as patch:
        patch.setattr(VectorIndex, "upsert", stopped)
        with pytest.raises(InvalidInput, match="plug"):
            tuwen.main(["index", "copy", str(source), str(target)], standalone_mode=False)
    again = copied(capsys, source, target)
    assert (again["copied"], again["unchanged"]) == (1_201 - 2 * copying.PAGE, 2 * copying.PAGE)
    with VectorIndex.open(target, encoder=FakeModel()) as index:
        index.update_payloads({MADE[0].key: payload(MADE[0].key, width=1)})
        index.upsert([Row(MADE[1].key, MADE[2].vector, MADE[1].payload), rows(1, prefix="mine/")[0]])
    assert copied(capsys, source, target)["copied"] == 2
    payloads, _ = content(target)
    assert len(payloads) == 1_202, "rows that only the target has stay"
    assert copied(capsys, source, target)["copied"] == 0


def test_what_does_not_fit_is_refused(source: Path, place: Path) -> None:
    target = place / "target.tuwen"
    VectorIndex.create(target, encoder=FakeModel("other", fingerprint="e" * 16)).close()
    with pytest.raises(WrongModel, match="other") as wrong:
        tuwen.main(["index", "copy", str(source), str(target)], standalone_mode=False)
    assert (wrong.value.value, wrong.value.where) == ("fake", target)
    with pytest.raises(InvalidInput) as caught:
        tuwen.main(["index", "copy", str(source), str(target), "--kind", "flat"], standalone_mode=False)
    assert caught.value.where == target
