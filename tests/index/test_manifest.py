import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuwen.errors import IndexInvalid
from tuwen.index.manifest import Manifest, read_manifest, root_from_text, root_to_text, write_manifest

MANIFEST = Manifest(model="猫", fingerprint="f" * 16, dim=8, root="..", created="2026-01-01T00:00:00+00:00")


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    later = MANIFEST.model_copy(update={"precisions": ("bf16", "int8")})
    write_manifest(tmp_path, later)
    assert read_manifest(tmp_path) == later
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]


SPOILED = [
    ("{", None),
    ("", None),
    ("[]", "the file"),
    ('{"format": 2, "who": "knows"}', "format"),
    ({"dim": None}, "dim"),
    ({"dim": "eight"}, "dim"),
    ({"store": "cupboard"}, "store"),
    ({"colour": "red"}, "colour"),
]


@pytest.mark.parametrize(("content", "field"), SPOILED, ids=[str(content) for content, _ in SPOILED])
def test_an_invalid_manifest_is_named_with_its_field(tmp_path: Path, content, field: str | None) -> None:
    if isinstance(content, dict):
        content = json.dumps({**MANIFEST.model_dump(), **content})
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(IndexInvalid) as caught:
        read_manifest(tmp_path)
    assert (caught.value.value, caught.value.where) == (field, tmp_path / "index.json")
    assert "\n" not in str(caught.value)


def test_a_root_nearby_moves_with_the_index(tmp_path: Path) -> None:
    for root, folder in (
        (tmp_path / "PHOTOS", tmp_path / "photos.tuwen"),
        (tmp_path, tmp_path / "photos.tuwen"),
        (tmp_path, tmp_path / "PHOTOS" / "photos.tuwen"),
    ):
        text = root_to_text(root, folder)
        assert root_from_text(text, folder) == root
        moved = Path("/elsewhere") / folder.relative_to(tmp_path)
        assert root_from_text(text, moved) == Path("/elsewhere") / root.relative_to(tmp_path)


def test_a_root_far_away_stays_where_it_is(tmp_path: Path) -> None:
    text = root_to_text(Path("/data/photos"), tmp_path / "photos.tuwen")
    assert text == "/data/photos"
    assert root_from_text(text, Path("/elsewhere/photos.tuwen")) == Path("/data/photos")


def test_a_relative_root_is_taken_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = root_to_text(Path("PHOTOS/.."), Path("photos.tuwen"))
    assert root_from_text(text, Path("photos.tuwen")) == tmp_path


NAMES = st.binary(min_size=1, max_size=20).filter(lambda it: not {*b"/\0"} & {*it} and it not in (b".", b".."))


@given(NAMES)
def test_a_root_of_any_name_comes_back(name: bytes) -> None:
    for root in (Path("/data") / os.fsdecode(name), Path("/far") / "percent-encoded:" / os.fsdecode(name)):
        text = root_to_text(root, Path("/data/photos.tuwen"))
        text.encode("utf-8")
        assert root_from_text(text, Path("/data/photos.tuwen")) == root
