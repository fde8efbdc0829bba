"""Through the real package, against a hub on loopback."""

import logging
import threading
from pathlib import Path

import pytest

import hub_server
from tuwen.bundle.hub import Fetched, fetch
from tuwen.errors import PullFailed

NAME = "org/model"
FILES = {
    "config.json": b'{"a": 1}',
    "model.safetensors": bytes(range(256)) * 10_000,  # several chunks
    "README.md": b"not wanted",
    "deep/er/empty.txt": b"",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    with hub_server.running() as hub:
        hub.add(NAME, FILES)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        yield hub


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No waiting between two tries; what would have been waited."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


def choose(names) -> list[str]:
    if "config.json" not in names:
        raise PullFailed("no config")
    return [name for name in names if name != "README.md"]


def steps(cache: Path, *, name: str = NAME, offline: bool = False) -> list[Fetched]:
    return list(fetch(name, choose, cache=cache, offline=offline))


def fetched(cache: Path, **options) -> Path:
    folder = steps(cache, **options)[-1].folder
    assert folder is not None
    return folder


def test_files_come_once_and_are_where_others_look_for_them(hub, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    seen = steps(tmp_path)
    folder = seen[-1].folder
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(FILES) - {"README.md"}
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    done = [step.done for step in seen]
    assert done == sorted(done)
    assert (done[-1], len(done) > 5) == (seen[-1].total, True)
    asked = len(hub.seen)
    assert asked == 1 + 3, "one question, and a redirect for the large file"
    assert fetched(tmp_path) == folder
    assert len(hub.seen) == asked, "nothing is asked for what is here"
    assert fetched(tmp_path, offline=True) == folder
    there = snapshot_download(NAME, local_files_only=True, cache_dir=tmp_path / "hub")
    assert Path(there) == folder


def test_nothing_is_told_of_who_asks(hub, tmp_path: Path) -> None:
    fetched(tmp_path)
    for seen in hub.seen:
        assert "torch" not in seen.agent
        assert "agent/" not in seen.agent
        assert "/resolve/" in seen.path or seen.path.startswith(("/api/models/org/model", "/cdn/"))


def test_what_another_program_fetched_is_taken_offline(hub, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    there = [hf_hub_download(NAME, name, cache_dir=tmp_path / "hub", endpoint=hub.url) for name in FILES]
    asked = len(hub.seen)
    assert fetched(tmp_path, offline=True) == Path(there[0]).parent
    assert len(hub.seen) == asked
    fetched(tmp_path)
    assert not [seen for seen in hub.seen[asked:] if "/api/" not in seen.path], "no byte comes twice"


def test_offline_asks_nothing(hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PullFailed):
        fetched(tmp_path, offline=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PullFailed):
        fetched(tmp_path)
    assert hub.seen == []


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub, tmp_path: Path, quick) -> None:
    hub.cuts = [100_000, 1_000_000, 1_200_000]
    folder = fetched(tmp_path)
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    starts = [
        int(seen.range.removeprefix("bytes=").rstrip("-"))
        for seen in hub.seen
        if seen.path.startswith("/cdn") and seen.range
    ]
    assert starts == sorted(starts)
    assert len(starts) == 3
    assert starts[-1] > 1_100_000
    hub.cuts = [0] * 20
    hub.add(NAME, FILES | {"model.safetensors": b"other" * 1000})
    with pytest.raises(PullFailed):
        fetched(tmp_path / "elsewhere")


def test_a_hub_without_ranges_sends_all_again(hub, tmp_path: Path, quick) -> None:
    hub.ranges = False
    hub.cuts = [1_000_000]
    assert (fetched(tmp_path) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_part_of_an_earlier_process_is_gone_on_with(hub, tmp_path: Path) -> None:
    data = FILES["model.safetensors"]
    blobs = tmp_path / "hub" / "models--org--model" / "blobs"
    blobs.mkdir(parents=True)
    part = blobs / f"{hub_server.sha256(data)}.incomplete"
    part.write_bytes(data[:1_600_000])
    fetched(tmp_path)
    assert "bytes=1600000-" in {seen.range for seen in hub.seen}
    assert not part.exists()


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_other_bytes_than_announced_are_refused(hub, tmp_path: Path, file: str) -> None:
    hub.add(NAME, {"config.json": FILES["config.json"], file: FILES[file]})
    hub.altered = True
    with pytest.raises(PullFailed):
        fetched(tmp_path)
    hub.altered = False
    assert (fetched(tmp_path) / file).read_bytes() == FILES[file]


def test_two_at_once_share_the_work(hub, tmp_path: Path) -> None:
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(fetched(tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 1
    assert len([seen for seen in hub.seen if seen.path.startswith("/cdn")]) == 1


def test_a_busy_hub_is_waited_for_as_long_as_it_says(hub, tmp_path: Path, quick, caplog) -> None:
    caplog.set_level(logging.INFO, logger="tuwen")
    hub.refusals = [(429, {"Retry-After": "7"}), (503, {})]
    fetched(tmp_path)
    assert 8.0 in quick
    assert any("Rate limited" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    "status",
    [503, 429, 403, 418],
)
def test_refusals_are_reported(hub, tmp_path: Path, quick, status: int) -> None:
    hub.always = status
    with pytest.raises(PullFailed) as caught:
        fetched(tmp_path)
    assert (caught.value.value, caught.value.where) == (status, NAME)


def test_what_is_not_there_or_not_for_everybody(hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PullFailed) as missing:
        fetched(tmp_path, name="org/nothing")
    assert missing.value.value == 404
    hub.private[NAME] = "secret"
    with pytest.raises(PullFailed) as private:
        fetched(tmp_path)
    assert private.value.value == 401
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetched(tmp_path)
    hub.gated.add("org/gated")
    hub.add("org/gated", FILES)
    with pytest.raises(PullFailed) as gated:
        fetched(tmp_path, name="org/gated")
    assert gated.value.where == "org/gated"
    with pytest.raises(PullFailed) as unnamed:
        fetched(tmp_path, name="org/../model")
    assert unnamed.value.value == "org/../model"


def test_no_hub_at_all(hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PullFailed):
        fetched(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"{hub.url}/nohub")
    with pytest.raises(PullFailed):
        fetched(tmp_path)


def test_no_room(hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(PullFailed):
        fetched(tmp_path)
    assert not hub.bodies()
