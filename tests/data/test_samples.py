import os
from pathlib import Path

import pytest

from tuwen.data.samples import Listed, RowOf, Sample, Span, facts_of, read_sample, seconds_of, span_of
from tuwen.types import Rejected


def test_a_line_holds_everything() -> None:
    listed = Listed(
        "k\udcff",
        "k.jpg",
        "/p\udcff",
        Span("/p\udcff", 3, 4, 5),
        Span("c", 0, 1, 2),
        None,
        ("红",),
        {"n": None, "x": 1.5},
    )
    assert Listed.of_line(listed.line()) == listed
    assert listed.line().isascii()
    row = Listed("k", row=RowOf("p", 7, 8, "jpg", None))
    assert Listed.of_line(row.line()) == row
    assert (row.pictured, row.captioned) == (True, False)
    nameless = Listed("", image=Span("/a.tar", 512, 4, 5))  # as `._cat.jpg` in an archive
    assert Listed.of_line(nameless.line()) == nameless
    assert (listed.pictured, listed.captioned) == (True, True)


def test_a_span_is_a_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    assert Span(str(path), 2, 3, 0).read() == b"234"
    assert span_of(path).read() == b"0123456789"
    with pytest.raises(OSError, match=str(3)):
        Span(str(path), 8, 3, 0).read()


@pytest.mark.parametrize(("caption", "facts"), [(b"\xff", b"{}"), (b"a", b"{"), (b"a", b"[" * 200_000), (b"a", b"[]")])
def test_what_cannot_be_read_is_rejected(tmp_path: Path, caption: bytes, facts: bytes) -> None:
    (tmp_path / "c").write_bytes(caption)
    (tmp_path / "f").write_bytes(facts)
    found = read_sample(Listed("k", caption=span_of(tmp_path / "c"), facts=span_of(tmp_path / "f")))
    assert isinstance(found, Rejected)
    assert found.path == "k"


def test_an_empty_caption_file_is_no_caption(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes("\ufeff \n".encode())
    for lines in (False, True):
        found = read_sample(Listed("k", caption=span_of(tmp_path / "c")), lines=lines)
        assert isinstance(found, Sample)
        assert found.captions == ()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.jpg")
    assert read_sample(Listed("k", image=span_of(tmp_path / "p.jpg"))).path == "k"


def test_nested_facts_become_flat() -> None:
    assert facts_of({"a": {"b": {"c": 1}}, "d": [1, "x"], "e": None, "f": True}) == {
        "a.b.c": 1,
        "d": '[1, "x"]',
        "e": None,
        "f": True,
    }


def test_times_are_those_of_the_system_to_the_last_bit(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch()
    for number in range(500):
        os.utime(file, ns=(0, 1_600_000_000_123_456_789 + number * 98_765_432_123_457))
        state = file.stat()
        assert seconds_of(state.st_mtime_ns) == state.st_mtime
