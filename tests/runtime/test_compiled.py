import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import tiny
from tuwen.runtime.engines import import_openvino
from tuwen.runtime.openvino import OpenVinoSession

IDS = {"input_ids": np.array([[5, 6, 7, tiny.END], [8, tiny.END, 0, 0]])}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "model" / "text_model.onnx"
    path.parent.mkdir()
    onnx.save(tiny.text_graph(), path)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def vectors(graph: Path, cache: Path | None, **options: object) -> np.ndarray:
    settings = {"device": "cpu", "precision": "fp32", "threads": 1} | options
    return OpenVinoSession(graph, cache=cache, **settings).run(IDS)


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "openvino").rglob("*.*"))


@pytest.fixture
def no_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("compiled again")

    monkeypatch.setattr(import_openvino().Core, "compile_model", refuse)


def test_what_was_compiled_is_read_the_next_time(graph: Path, cache: Path, request: pytest.FixtureRequest) -> None:
    first = vectors(graph, cache)
    assert [entry.suffix for entry in entries(cache)] == [".blob"]
    request.getfixturevalue("no_compiling")
    np.testing.assert_array_equal(vectors(graph, cache), first)


def test_other_settings_are_compiled_apart(graph: Path, cache: Path) -> None:
    vectors(graph, cache, threads=1)
    vectors(graph, cache, threads=2)
    assert len(entries(cache)) == 2


def test_without_a_cache_nothing_is_kept(graph: Path, tmp_path: Path) -> None:
    vectors(graph, None)
    assert list(tmp_path.iterdir()) == [graph.parent]


def test_a_changed_graph_is_compiled_anew_and_the_old_one_forgotten(graph: Path, cache: Path) -> None:
    before = vectors(graph, cache)
    (old,) = entries(cache)
    onnx.save(tiny.text_graph(causal=False), graph)
    after = vectors(graph, cache)
    (new,) = entries(cache)
    assert new != old
    assert np.abs(after - before).max() > 0.01
    np.testing.assert_array_equal(after, vectors(graph, None))


def test_changed_weights_beside_the_graph_are_compiled_anew(graph: Path, cache: Path) -> None:
    model = tiny.text_graph()
    onnx.save(model, graph, save_as_external_data=True, location="weights", size_threshold=0)
    before = vectors(graph, cache)
    weights = graph.parent / "weights"
    values = np.fromfile(weights, dtype=np.float32)
    (-values[: tiny.VOCABULARY * tiny.WIDTH]).tofile(weights)
    with weights.open("ab") as file:
        values[tiny.VOCABULARY * tiny.WIDTH :].tofile(file)
    after = vectors(graph, cache)
    assert np.abs(after - before).max() > 0.01
    assert len(entries(cache)) == 1


def test_the_same_graph_at_another_path_is_its_own_entry(graph: Path, cache: Path, tmp_path: Path) -> None:
    vectors(graph, cache)
    vectors(shutil.copy(graph, tmp_path / "copy.onnx"), cache)
    assert len(entries(cache)) == 2


@pytest.mark.parametrize("left", [0, 1, 100, 5000])
def test_an_entry_cut_short_is_compiled_anew(graph: Path, cache: Path, left: int) -> None:
    expected = vectors(graph, cache)
    (entry,) = entries(cache)
    whole = entry.read_bytes()
    entry.write_bytes(whole[:left])
    np.testing.assert_array_equal(vectors(graph, cache), expected)
    assert entry.stat().st_size == pytest.approx(len(whole), abs=100), "names within it vary a little"


def test_a_cache_that_cannot_be_written_changes_nothing(graph: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder is wanted")
    np.testing.assert_array_equal(vectors(graph, blocked / "cache"), vectors(graph, None))


def test_what_a_killed_process_left_half_written_goes_after_an_hour(graph: Path, cache: Path) -> None:
    vectors(graph, cache, threads=1)
    folder = entries(cache)[0].parent
    for name, age in (("young.part", 0), ("old.part", 4000)):
        (folder / name).write_bytes(b"half")
        now = (folder / name).stat().st_mtime
        os.utime(folder / name, (now - age, now - age))
    vectors(graph, cache, threads=2)
    assert sorted(path.suffix for path in folder.iterdir()) == [".blob", ".blob", ".part"]
    assert (folder / "young.part").exists()


OPEN = """
import sys
from pathlib import Path
import numpy as np
from tuwen.runtime.openvino import OpenVinoSession
session = OpenVinoSession(Path(sys.argv[1]), device="cpu", precision="fp32", threads=1, cache=Path(sys.argv[2]))
print(session.run({"input_ids": np.array([[5, 6, 7, int(sys.argv[3])]])}).tobytes().hex())
"""


def test_processes_that_start_at_once_agree_and_leave_one_whole_entry(graph: Path, cache: Path) -> None:
    arguments = [sys.executable, "-c", OPEN, str(graph), str(cache), str(tiny.END)]
    processes = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert len(outputs) == 1
    assert [entry.suffix for entry in entries(cache)] == [".blob"]
