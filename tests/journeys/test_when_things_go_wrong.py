"""One line, the right code, nothing half done: wrong words, missing models, broken files, Ctrl-C, closed pipes."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

import colours

pytestmark = [pytest.mark.journey, pytest.mark.long]

COUNT = 3 * len(colours.COLOURS)


INDEX = ("--index", "photos.tuwen")


def one_line(ended) -> str:
    assert ended.out == ""
    assert ended.err.count("\n") == 1, ended.err
    assert ended.err.startswith("tuwen: error: ")
    return ended.err


@pytest.mark.parametrize(
    "words",
    [
        ("search",),
        ("search", "red"),
        ("search", "red", "-k", "0", "--index", "x"),
        ("search", "--image", "gone.jpg", "--index", "x"),
        ("index", "build", "nowhere/", "--index", "x"),
        ("index", "add", "--index", "x"),
        ("classify", "x.jpg"),
        ("classify", ".", "--labels", "a,b", "-o", "nowhere/res.json"),
        ("search", "red", "--index", "x", "--sheet", "."),
        ("search", "red", "--index", "x", "--sheet", "x.gif"),
        ("bench", "x", "--plot", "x.jpg"),
        ("nonsense",),
        ("search", "red", "--nonsense"),
        ("index", "build", ".", "--index", "x", "--device", "toaster"),
    ],
)
def test_wrong_usage_is_2(terminal, words: tuple[str, ...]) -> None:
    ended = terminal.type(*words, code=2)
    assert ended.out == ""
    assert "rror: " in ended.err
    assert list(terminal.folder.iterdir()) == []


def test_a_filter_that_cannot_be_understood_is_2(desk) -> None:
    assert "widht" in one_line(desk.type("search", "red", *INDEX, "--where", "widht > 3 and", code=2))


def test_terms_that_cancel_each_other_out_are_2(desk) -> None:
    ended = desk.type("search", "red", "--unlike", "red", *INDEX, code=2)
    assert "cancel each other out" in one_line(ended)


def test_a_setting_that_cannot_be_used_is_2(terminal, photos: Path) -> None:
    terminal.environment["TUWEN_THREADS"] = "many"
    ended = terminal.type("index", "build", "PHOTOS", "--index", "x", code=2)
    assert "TUWEN_THREADS" in one_line(ended)


def test_no_index_is_1_and_says_how_to_make_one(terminal) -> None:
    ended = terminal.type("search", "red", "--index", "gone.tuwen", code=1)
    assert "gone.tuwen" in one_line(ended)
    assert "tuwen index build" in ended.err


def test_another_model_than_the_index_s_is_1(desk, tmp_path: Path) -> None:
    other = colours.make_bundle(tmp_path / "other", seed=7)
    for words in (("search", "red"), ("index", "add", "PHOTOS"), ("index", "build", "PHOTOS")):
        line = one_line(desk.type(*words, *INDEX, "--model", other, code=1))
        assert "colours" in line


def test_another_root_is_an_error_that_names_index_add(desk) -> None:
    colours.make_photos(desk.folder / "MORE", count=1)
    line = one_line(desk.type("index", "build", "MORE", *INDEX, code=2))
    assert "tuwen index add" in line
    assert desk.type("index", "info", *INDEX, "--json").json["rows"] == COUNT


def test_files_that_cannot_be_read_are_3_and_listed(terminal, photos: Path, bundle: Path) -> None:
    (photos / "破.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    ended = terminal.type("index", "build", "PHOTOS", "--index", "x", "--model", bundle, "--json", code=3)
    assert ended.json["indexed"] == COUNT
    (rejected,) = ended.json["rejected"]
    assert rejected["path"] == "破.jpg"
    assert f"rejected: 破.jpg: {rejected['reason']}" in ended.err


def test_a_query_picture_that_cannot_be_read_is_1(desk) -> None:
    (desk.folder / "bad.jpg").write_bytes(b"no picture")
    assert "bad.jpg" in one_line(desk.type("search", "--image", "bad.jpg", *INDEX, code=1))


def test_a_reader_that_goes_away_is_no_error(desk) -> None:
    command = " ".join(desk.command("index", "list", *INDEX))
    for form in (f"{command} | head -n 1", f"{command} --json | head -c 5", f"{command} | true"):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", form],
            cwd=desk.folder,
            env=desk.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), form


def test_progress_for_programs_is_a_line_a_write(terminal, photos: Path, bundle: Path) -> None:
    colours.make_photos(photos, count=120)
    words = ("index", "build", "PHOTOS", "--model", bundle, "--index")
    ended = terminal.type(*words, "x", "--json", "--progress", "json")
    committed = [json.loads(line)["committed"] for line in ended.err.splitlines()]
    assert committed == sorted(set(committed))
    assert len(committed) >= 3
    assert committed[-1] == ended.json["indexed"] == 600
    assert terminal.type(*words, "y", "--progress", "none").err == ""


def test_ctrl_c_says_what_is_in_the_index_and_the_next_run_goes_on(terminal, photos: Path, bundle: Path) -> None:
    colours.make_photos(photos, count=60)
    big = colours.picture("red", size=(3000, 2000))
    for i in range(40):
        big.save(photos / f"zz-{i}.jpg", comment=str(i))
    words = ("index", "build", "PHOTOS", "--index", "x", "--model", bundle)
    process = terminal.start(*words, "--progress", "json")
    committed = json.loads(process.stderr.readline())["committed"]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    (rows,) = re.findall(r"^tuwen: stopped: (\d+) rows in x; run the same command again to go on$", err, re.M)
    assert committed <= int(rows) < 340
    assert terminal.type("index", "info", "--index", "x", "--json").json["rows"] == int(rows)
    again = terminal.type(*words, "--json").json
    assert (again["indexed"], again["unchanged"]) == (340 - int(rows), int(rows))


def test_a_second_process_waits_and_then_names_the_holder(desk) -> None:
    desk.environment["TUWEN_LOCK_TIMEOUT"] = "0.5"
    holder = (
        "import sys, time; from tuwen.index.index import VectorIndex\n"
        "with VectorIndex.open('photos.tuwen', encoder=None): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [os.sys.executable, "-c", holder],
        cwd=desk.folder,
        env=desk.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "held\n"
        line = one_line(desk.type("search", "red", *INDEX, code=1))
        assert str(process.pid) in line
    finally:
        process.kill()
        process.communicate()
    assert desk.type("search", "red", *INDEX, "--json").json["hits"]
