import math

import numpy as np

from tuwen.prepare.samples import Sample
from tuwen.tasks.embedding import Embedded, Item
from tuwen.tasks.rows import rows_of, storable

PICTURE = {"content": "c", "width": 4, "height": 3, "format": "JPEG", "bytes": 9, "modified": 5.0}


def test_a_picture_and_its_captions_are_rows() -> None:
    sample = Sample("d/a", "d/a.jpg", "", None, ("one", " ", "three"), {"url": "u", "width": 99, "path": "x"}, 5.0)
    images, texts = np.eye(4, dtype=np.float32)[:1], np.eye(4, dtype=np.float32)[1:]
    picture, one, three = rows_of(Embedded(0, [Item(sample, PICTURE, 0, 0)], [], 0, 0, images, texts))
    names = {"path": "d/a.jpg", "folder": "d", "name": "a.jpg"}
    assert (picture.key, picture.payload) == (
        "d/a.jpg",
        {**names, **PICTURE, "url": "u", "caption": "one", "type": "image"},
    )
    assert (one.key, one.payload["type"], one.payload["text"]) == ("d/a.jpg#0", "text", "one")
    assert (three.key, three.payload["text"]) == ("d/a.jpg#2", "three")
    np.testing.assert_array_equal(three.vector, texts[2])


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
