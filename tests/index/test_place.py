"""Where an index can be, as people write it."""

from pathlib import Path

import pytest

from tuwen.errors import InvalidInput
from tuwen.index.location import Cluster, parse_location


def test_a_folder_stays_a_folder() -> None:
    for text in ("photos.tuwen", "/data/qdrant", "qdrant:/odd", "C:/photos"):
        assert parse_location(text) == Path(text)
    assert parse_location(Path("a")) == Path("a")


CLUSTERS = [
    ("qdrant://host:7000/photos", Cluster("host", 7000, "photos"), "qdrant://host:7000/photos"),
    ("qdrants://db.example.org/a-b.c_1/", Cluster("db.example.org", 6333, "a-b.c_1", tls=True), None),
    ("qdrant://[::1]:6333/x", Cluster("::1", 6333, "x"), "qdrant://[::1]:6333/x"),
]


@pytest.mark.parametrize(("text", "place", "shown"), CLUSTERS, ids=[text for text, *_ in CLUSTERS])
def test_a_cluster_is_read_and_shown(text: str, place: Cluster, shown: str | None) -> None:
    assert parse_location(text) == place
    assert str(place) == (shown or "qdrants://db.example.org:6333/a-b.c_1")
    assert parse_location(str(place)) == place


WRONG = [
    "qdrant://:secret@[host/x",
    "qdrant://:secret@ho℀st/x",
    "qdrant://host",
    "qdrant:///photos",
    "qdrant://host:70000/x",
    "qdrant://host/a/b",
    "qdrant://host/x?y=1",
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_location(text)
    assert "qdrant://host" in caught.value.hint
    assert "secret" not in str(caught.value)


def test_a_key_is_nowhere_to_be_seen() -> None:
    place = parse_location("qdrants://host/photos", key="secret")
    assert isinstance(place, Cluster)
    assert place.key == "secret"
    assert "secret" not in f"{place} {place!r}"
    with pytest.raises(InvalidInput) as caught:
        parse_location("qdrants://user:secret@host/photos")
    assert "secret" not in str(caught.value)
    assert "TUWEN_QDRANT_KEY" in str(caught.value)
