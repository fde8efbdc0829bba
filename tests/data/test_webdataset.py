import os
from pathlib import Path

import pytest

from samples_of import jpeg, read_all, write_tar
from tuwen.data.files import Skipped
from tuwen.data.samples import Listed, Sample
from tuwen.data.webdataset import list_tar
from tuwen.types import Rejected


def test_members_meet_by_key_wherever_they_stand(tmp_path: Path) -> None:
    members = {"b.txt": b"two", "a.jpg": jpeg(1), "b.jpg": jpeg(2), "a.json": b'{"n": 1}', "a.txt": b"one"}
    tar = write_tar(tmp_path / "0.tar", members)
    os.utime(tar, (1e9, 1e9))  # a round number: times are kept to the microsecond
    assert read_all(list_tar(tar, "0.tar/")) == [
        Sample("0.tar/b", "0.tar/b.jpg", "b", jpeg(2), ("two",), {}, tar.stat().st_mtime),
        Sample("0.tar/a", "0.tar/a.jpg", "a", jpeg(1), ("one",), {"n": 1}, tar.stat().st_mtime),
    ]


def test_it_reads_what_webdataset_writes(tmp_path: Path) -> None:
    from webdataset import TarWriter

    with TarWriter(str(tmp_path / "0.tar")) as writer:
        for i in range(20):
            writer.write({"__key__": f"{i:09}", "jpg": jpeg(i), "txt": f"caption {i}", "json": {"key": f"{i:09}"}})
    samples = read_all(list_tar(tmp_path / "0.tar", ""))
    assert [sample.key for sample in samples] == [f"{i:09}" for i in range(20)]
    assert [sample.captions for sample in samples] == [(f"caption {i}",) for i in range(20)]
    assert [sample.image for sample in samples] == [jpeg(i) for i in range(20)]


def test_a_picture_is_told_by_its_content_and_masks_are_none(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "0.tar", {"a.jpg": jpeg(1), "a.mask.png": jpeg(2), "b": jpeg(3), "c.cls": b"7"})
    found = list(list_tar(tar, ""))
    assert [sample.image for sample in read_all(found)] == [jpeg(1), jpeg(3)]
    assert [item.path.name for item in found if isinstance(item, Skipped)] == ["a.mask.png", "c.cls"]


def test_names_do_not_lead_out_of_the_archive(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "0.tar", {"/etc/a.jpg": jpeg(1), "../b": jpeg(2), "./c/d.jpg": jpeg(3)})
    found = [(item.key, item.name, item.place) for item in list_tar(tar, "0.tar/") if isinstance(item, Listed)]
    assert found == [
        ("0.tar/etc/a", "0.tar/etc/a.jpg", "etc/a"),
        ("0.tar/b", "0.tar/b", "b"),
        ("0.tar/c/d", "0.tar/c/d.jpg", "c/d"),
    ]


def test_a_member_twice_is_told(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "0.tar", [("a.jpg", jpeg(1)), ("a.jpg", jpeg(2))])
    found = list(list_tar(tar, ""))
    assert [item.path for item in found if isinstance(item, Rejected)] == ["a.jpg"]
    assert [sample.image for sample in read_all(found)] == [jpeg(1)]


@pytest.mark.parametrize("left", [0.1, 0.3, 0.7])
def test_an_archive_cut_short_gives_what_it_has_and_says_so(tmp_path: Path, left: float) -> None:
    tar = write_tar(tmp_path / "0.tar", {f"{i}.jpg": jpeg(i) for i in range(20)})
    content = tar.read_bytes()
    tar.write_bytes(content[: int(len(content) * left)])
    found = list(list_tar(tar, ""))
    whole = [sample for sample in read_all(found) if isinstance(sample, Sample)]
    assert [sample.image for sample in whole] == [jpeg(i) for i in range(len(whole))]
    assert [item.path for item in found if isinstance(item, Rejected)] == [str(tar)]


def test_an_archive_cut_between_two_members_says_so_too(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "0.tar", {f"{i}.jpg": jpeg(i) for i in range(3)})
    size = next(item for item in reversed(list(list_tar(tar, ""))) if isinstance(item, Listed)).image.start
    tar.write_bytes(tar.read_bytes()[: size - 512])
    found = list(list_tar(tar, ""))
    assert len(read_all(found)) == 2
    assert [item.path for item in found if isinstance(item, Rejected)] == [str(tar)]


@pytest.mark.parametrize("content", [b"\x1f\x8b\x08 compressed", b"nothing of the kind" * 100])
def test_what_is_no_archive_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.tar").write_bytes(content)
    for name in ("0.tar", "none.tar"):
        assert [item.path for item in list_tar(tmp_path / name, "")] == [str(tmp_path / name)]


def test_a_changed_archive_is_told(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "0.tar", {"a.jpg": jpeg(1)})
    found = list(list_tar(tar, ""))
    tar.write_bytes(tar.read_bytes()[:600])
    assert [type(item) for item in read_all(found)] == [Rejected]


def pairs(tar: Path) -> dict[str, tuple[bytes | None, tuple[str, ...]]]:
    return {item.key: (item.image, item.captions) for item in read_all(list_tar(tar, "")) if isinstance(item, Sample)}


def test_dots_in_names(tmp_path: Path) -> None:
    days = {
        f"2020.01.0{day}_a.{kind}": content for day in (5, 6) for kind, content in (("jpg", jpeg(day)), ("txt", b"x"))
    }
    assert pairs(write_tar(tmp_path / "0.tar", days)) == {f"2020.01.0{day}_a": (jpeg(day), ("x",)) for day in (5, 6)}
    one = {"2020.01.05_a.jpg": jpeg(1), "2020.01.05_a.txt": b"x", "2020.01.06_b.jpg": jpeg(2)}
    assert pairs(write_tar(tmp_path / "1.tar", one)) == {
        "2020.01.05_a": (jpeg(1), ("x",)),
        "2020.01.06_b": (jpeg(2), ()),
    }


def test_extensions_of_several_parts(tmp_path: Path) -> None:
    members = {"s0.input.jpg": jpeg(1), "s0.outputs.txt": b"x", "s1.left.png": jpeg(2), "s1.right.png": jpeg(3)}
    tar = write_tar(tmp_path / "0.tar", {**members, "s1.txt": b"both"})
    assert pairs(tar) == {"s0": (jpeg(1), ("x",)), "s1.left": (jpeg(2), ("both",)), "s1.right": (jpeg(3), ("both",))}


def test_members_that_belong_to_no_sample_are_named(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "0.tar", {"a.jpg": jpeg(1), "a.npy": b"", "b.json": b"{}"})
    assert [item.path.name for item in list_tar(tar, "") if isinstance(item, Skipped)] == ["a.npy", "b.json"]


def test_classes(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "0.tar", {"a.jpg": jpeg(1), "a.cls": b"7\n"})
    assert [item.labels for item in list_tar(tar, "") if isinstance(item, Listed)] == [("7",)]
