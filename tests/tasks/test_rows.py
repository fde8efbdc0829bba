import math
from pathlib import Path

import numpy as np
import pytest

from tuwen.prepare.samples import Sample
from tuwen.tasks.embedding import Embedded, Item
from tuwen.tasks.rows import Names, rows_of, storable

PICTURE = {"content": "c", "width": 4, "height": 3, "format": "JPEG", "bytes": 9, "modified": 5.0}


def test_a_picture_and_its_captions_are_rows() -> None:
    sample = Sample("d/a", "d/a.jpg", "", None, ("one", " ", "three"), {"url": "u", "width": 99, "path": "x"}, 5.0)
    images, texts = np.eye(4, dtype=np.float32)[:1], np.eye(4, dtype=np.float32)[1:]
    picture, one, three = rows_of(
        Embedded(0, [Item(sample, PICTURE, 0, 0)], [], 0, 0, images, texts), Names(Path("/r"), Path("/r"))
    )
    names = {"path": "d/a.jpg", "folder": "d", "name": "a.jpg"}
    assert (picture.key, picture.payload) == (
        "d/a.jpg",
        {**names, **PICTURE, "url": "u", "caption": "one", "type": "image"},
    )
    assert (one.key, one.payload["type"], one.payload["text"]) == ("d/a.jpg#0", "text", "one")
    assert (three.key, three.payload["text"]) == ("d/a.jpg#2", "three")
    np.testing.assert_array_equal(three.vector, texts[2])


@pytest.mark.parametrize(
    ("sources", "name", "place", "picture", "caption"),
    [
        (["/r"], "d/a.jpg", "/r/d/a.jpg", "d/a.jpg", "d/a.jpg"),
        (["/r/d"], "a.jpg", "/r/d/a.jpg", "d/a.jpg", "d/a.jpg"),
        (["/far"], "a.jpg", "/far/a.jpg", "/far/a.jpg", "/far/a.jpg"),
        (["/r/d", "/far"], "r/d/a.jpg", "/r/d/a.jpg", "d/a.jpg", "d/a.jpg"),
        (["/r/x.tar"], "a.jpg", "a", "x.tar/a.jpg", "x.tar/a.jpg"),
        (["/r/s"], "x.tar/a.jpg", "a", "s/x.tar/a.jpg", "s/x.tar/a.jpg"),
        (["/r/one.csv"], "a.jpg", "/r/a.jpg", "a.jpg", "one.csv/a.jpg"),
        (["/r/one.csv", "/r/two.csv"], "one.csv/a.jpg", "/r/a.jpg", "a.jpg", "one.csv/a.jpg"),
        (["/labels.txt"], "", "", "/labels.txt/7", "/labels.txt/7"),
    ],
)
def test_no_two_jobs_call_samples_the_same(sources, name: str, place: str, picture: str, caption: str) -> None:
    names = Names.of([Path(it) for it in sources], Path("/r"))
    sample = Sample("7" if not name else name.removesuffix(".jpg"), name, place, None, (), {}, 0.0)
    assert (names.picture(sample), names.sample(sample)) == (picture, caption)


def test_what_an_index_can_store() -> None:
    facts = {
        "a": None,
        "_b": 1,
        "c": True,
        "d": math.nan,
        "e": 2**70,
        "width": "wide",
        "modified": 3,
        "f": "\udcff",
    }
    assert storable(facts) == {"c": 1, "e": str(2**70), "modified": 3, "f": "?"}
