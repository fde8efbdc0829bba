import os
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuwen.data.files import Skipped, find_sources, key_of, open_file, path_of
from tuwen.errors import InvalidInput
from tuwen.types import Source

PNG = b"\x89PNG\r\n\x1a\n"
AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def write(path: Path, content: bytes = PNG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def keys(*paths: Path, root: Path) -> list[str]:
    return [found.key for found in find_sources(paths, root) if isinstance(found, Source)]


def skipped(*paths: Path, root: Path) -> dict[str, str]:
    return {found.path.name: found.reason for found in find_sources(paths, root) if isinstance(found, Skipped)}


def test_folders_from_top_to_bottom_and_by_name(tmp_path) -> None:
    for name in ("b/2.png", "b/10.png", "b/a/x.PNG", "a.png", "c.png", "B.png"):
        write(tmp_path / name)
    assert keys(tmp_path, root=tmp_path) == ["B.png", "a.png", "b/10.png", "b/2.png", "b/a/x.PNG", "c.png"]


def test_a_picture_is_told_by_content_or_by_ending(tmp_path) -> None:
    write(tmp_path / "no ending")
    write(tmp_path / "wrong.txt")
    write(tmp_path / "claims.jpg", b"not at all")
    write(tmp_path / "notes.txt", b"Python notes")
    write(tmp_path / "empty", b"")
    assert keys(tmp_path, root=tmp_path) == ["claims.jpg", "no ending", "wrong.txt"]
    assert skipped(tmp_path, root=tmp_path) == {"empty": "", "notes.txt": ""}


def test_size_and_time(tmp_path) -> None:
    path = write(tmp_path / "a.png")
    os.utime(path, (1, 1234567890.25))
    assert list(find_sources([path], tmp_path)) == [Source("a.png", path, len(PNG), 1234567890.25)]


def test_files_and_folders_may_be_mixed_and_overlap(tmp_path) -> None:
    for name in ("x/1.png", "x/y/2.png", "3.png", "z/4.png"):
        write(tmp_path / name)
    given_paths = [tmp_path / "3.png", tmp_path / "x/y", tmp_path / "x", tmp_path / "x" / ".." / "3.png"]
    assert keys(*given_paths, root=tmp_path) == ["3.png", "x/1.png", "x/y/2.png"]


def test_a_path_that_is_not_there_is_an_error(tmp_path) -> None:
    with pytest.raises(InvalidInput) as raised:
        find_sources([tmp_path, tmp_path / "nowhere"], tmp_path)
    assert raised.value.value == tmp_path / "nowhere"


def test_links_to_files_are_followed(tmp_path) -> None:
    write(tmp_path / "real.png")
    (tmp_path / "link.png").symlink_to("real.png")
    assert keys(tmp_path, root=tmp_path) == ["link.png", "real.png"]


def test_a_loop_of_links_ends(tmp_path) -> None:
    write(tmp_path / "a/1.png")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to(tmp_path / "a/self")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert keys(tmp_path, root=tmp_path) == ["a/1.png"]


def test_a_folder_linked_from_outside_is_searched_once(tmp_path) -> None:
    write(tmp_path / "outside/1.png")
    write(tmp_path / "inside/2.png")
    (tmp_path / "outside/back").symlink_to(tmp_path / "outside")
    for name in ("first", "second"):
        (tmp_path / "inside" / name).symlink_to(tmp_path / "outside")
    assert keys(tmp_path / "inside", root=tmp_path / "inside") == ["2.png", "first/1.png"]


def test_a_folder_that_is_itself_a_link(tmp_path) -> None:
    write(tmp_path / "real/1.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert keys(tmp_path / "link", root=tmp_path / "link") == ["1.png"]


def test_a_broken_link_claims_what_its_name_says(tmp_path) -> None:
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    assert keys(tmp_path, root=tmp_path) == ["gone.png"]
    assert skipped(tmp_path, root=tmp_path) == {"gone.txt": "No such file or directory"}


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes or sockets in folders")
@pytest.mark.timeout(20)
def test_pipes_sockets_and_devices_are_not_opened(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null.png").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket.png"))
        assert skipped(tmp_path, root=tmp_path) == dict.fromkeys(["null.png", "pipe", "pipe.png", "socket.png"], "")
    for name in ("pipe.png", "null.png", "."):
        with pytest.raises(OSError):  # noqa: PT011
            open_file(tmp_path / name)


@pytest.mark.skipif(sys.platform == "win32" or AS_ROOT, reason="this user may read everything")
def test_what_may_not_be_read_is_told(tmp_path) -> None:
    write(tmp_path / "closed/1.png")
    unknown = write(tmp_path / "unknown")
    (tmp_path / "closed").chmod(0)
    unknown.chmod(0)
    try:
        assert skipped(tmp_path, root=tmp_path) == {
            "closed": "the folder cannot be opened: Permission denied",
            "unknown": "Permission denied",
        }
    finally:
        (tmp_path / "closed").chmod(0o755)


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch) -> None:
    write(tmp_path / "a/1.png")
    write(tmp_path / "b/2.png")
    whole = Path.iterdir

    def iterdir(path: Path):
        if path.name == "a":
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert keys(tmp_path, root=tmp_path) == ["b/2.png"]
    assert skipped(tmp_path, root=tmp_path) == {"a": "the folder cannot be opened: Permission denied"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names of any bytes")
def test_names_that_are_not_utf_8(tmp_path) -> None:
    raw = [b"caf\xe9.png", b"100%.png", b"\xe7\x8c\xab \xff.png", b"%FF.png", b"%41.png", "猫.png".encode()]
    for name in raw:
        write(tmp_path / os.fsdecode(name))
    found = keys(tmp_path, root=tmp_path)
    assert sorted(found) == sorted(["caf%E9.png", "100%.png", "猫 %FF.png", "%25FF.png", "%41.png", "猫.png"])
    assert {os.fsencode(path_of(key, tmp_path).name) for key in found} == set(raw)


NAMES = st.lists(
    st.sampled_from(
        [b"%", b"25", b"F", b"41", b"\xff", b"\xc3", b"\xa9", "é".encode(), b"a", b".", b" ", b"%FF", b"%C3"]
    ),
    min_size=1,
    max_size=8,
).map(b"".join)


@given(st.lists(NAMES, min_size=1, max_size=3))
def test_every_path_comes_back_from_its_key(parts: list[bytes]) -> None:
    root = Path("/photos")
    path = Path(os.path.normpath(os.fsdecode(b"/photos/" + b"/".join(parts))))
    key = key_of(path, root)
    key.encode("utf-8")
    assert path_of(key, root) == path


@given(st.text(st.characters(exclude_characters="/\0%", exclude_categories=["Cs"]), min_size=1))
def test_a_plain_name_is_its_own_key(name: str) -> None:
    if name not in (".", ".."):
        assert key_of(Path("/photos") / name, Path("/photos")) == name


def test_keys_outside_the_root_are_absolute(tmp_path, monkeypatch) -> None:
    assert key_of(Path("/a/b/c.png"), Path("/a/x")) == "/a/b/c.png"
    assert key_of(Path("/a/bc/d.png"), Path("/a/b")) == "/a/bc/d.png"
    assert path_of("/a/b/c.png", Path("/a/x")) == Path("/a/b/c.png")
    monkeypatch.chdir(tmp_path)
    assert key_of(Path("x/../y.png"), Path()) == "y.png"
    assert path_of("y.png", Path()) == tmp_path / "y.png"


def test_a_deep_tree_is_searched(tmp_path) -> None:
    folder = tmp_path
    for _ in range(300):
        folder = folder / "d"
    write(folder / "deep.png")
    assert keys(tmp_path, root=tmp_path) == ["d/" * 300 + "deep.png"]


def test_real_collections(shared_data) -> None:
    formats = shared_data / "formats"
    assert skipped(formats, root=shared_data) == {"not-an-image.txt": ""}
    found = keys(formats, shared_data / "odd_images", root=shared_data)
    assert len(found) == len(set(found)) > 670
    assert "formats/images_nested_directories/misc/bees/bee.jpg" in found
    assert "odd_images/pillow/timeout-6646305047838720" in found
    assert all(path_of(key, shared_data).is_file() for key in found)
