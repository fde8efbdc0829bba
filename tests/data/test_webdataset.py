import os
from pathlib import Path

import pytest

from samples_of import jpeg, read_all, rejected, write_tar
from tuwen.data.files import Skipped
from tuwen.data.samples import Listed, Sample
from tuwen.data.webdataset import list_tar


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
    assert sum(isinstance(item, Skipped) for item in found) == 1


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
    assert rejected(found) == ["a.jpg: is in the archive twice; the first one counts"]
    assert [sample.image for sample in read_all(found)] == [jpeg(1)]


@pytest.mark.parametrize("left", [0.1, 0.3, 0.7])
def test_an_archive_cut_short_gives_what_it_has_and_says_so(tmp_path: Path, left: float) -> None:
    tar = write_tar(tmp_path / "0.tar", {f"{i}.jpg": jpeg(i) for i in range(20)})
    content = tar.read_bytes()
    tar.write_bytes(content[: int(len(content) * left)])
    found = list(list_tar(tar, ""))
    whole = [sample for sample in read_all(found) if isinstance(sample, Sample)]
    assert [sample.image for sample in whole] == [jpeg(i) for i in range(len(whole))]
    assert "is damaged or cut short" in "".join(rejected(found))


def test_an_archive_cut_between_two_members_says_so_too(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "0.tar", {f"{i}.jpg": jpeg(i) for i in range(3)})
    size = next(item for item in reversed(list(list_tar(tar, ""))) if isinstance(item, Listed)).image.start
    tar.write_bytes(tar.read_bytes()[: size - 512])
    found = list(list_tar(tar, ""))
    assert len(read_all(found)) == 2
    assert "its end mark is missing; 2 samples" in "".join(rejected(found))


@pytest.mark.parametrize("content", [b"\x1f\x8b\x08 compressed", b"nothing of the kind" * 100])
def test_what_is_no_archive_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.tar").write_bytes(content)
    assert "is no tar file, or a compressed one" in "".join(rejected(list_tar(tmp_path / "0.tar", "")))
    assert "cannot be read" in "".join(rejected(list_tar(tmp_path / "none.tar", "")))


def test_a_changed_archive_is_told(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "0.tar", {"a.jpg": jpeg(1)})
    found = list(list_tar(tar, ""))
    tar.write_bytes(tar.read_bytes()[:600])
    assert "it has changed meanwhile" in "".join(rejected(read_all(found)))
