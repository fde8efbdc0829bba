"""What a newcomer types first: the demo, the doctor, and every command's help."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from PIL import Image

from isolation import COMPUTING
from journeys.conftest import Terminal
from tuwen.cli.main import tuwen

pytestmark = pytest.mark.journey


def walk(command: click.Command, path: tuple[str, ...]):
    yield path
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                yield from walk(command.get_command(context, name), (*path, name))


EVERY_HELP = """
import json, sys
from tuwen.cli.main import tuwen

for words in json.load(sys.stdin):
    tuwen.main([*words, "--help"], prog_name="tuwen", standalone_mode=False)
"""
FIRST = {
    "photos": {
        "en": "animals/honey-bee.jpg",
        "zh": "animals/chelsea-the-cat.jpg",
        "ja": "buildings/suspension-bridge.jpg",
    },
    "pictograms": {"en": "smileys-and-emotion/red-heart.webp"},
}
"""the best hit of a query"""


@pytest.fixture(scope="module", params=["photos", pytest.param("pictograms", marks=pytest.mark.long)])
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, home: Path):
    """A terminal in which a demo has run, the gallery's name, and what was printed; how to compute is measured."""
    terminal = Terminal(tmp_path_factory.mktemp("demo"), home)
    for name in COMPUTING:
        del terminal.environment[name]
    yield terminal, request.param, terminal.type("demo", "--gallery", request.param, "-k", 4).out
    terminal.check()


def test_the_demo_searches_in_several_languages_and_by_picture(shown) -> None:
    terminal, gallery, out = shown
    titles = re.findall(rf"^(.+)  \((\w+): (demo-output/{gallery}-\d\d-\w+\.png)\)$", out, re.M)
    assert len({language for _, language, _ in titles} - {"picture"}) >= 5
    assert titles[-1][1] == "picture"
    for _, _, sheet in titles:
        with Image.open(terminal.folder / sheet) as image:
            assert image.format == "PNG"
            assert image.width > 4 * 100
    tables = re.findall(r"^rank  score  name +path\n((?:.+\n)+)", out, re.M)
    assert len(tables) == len(titles)
    assert max(map(len, out.split("What to type next")[0].splitlines())) <= 80


def test_what_the_demo_says_to_type_next_works(shown) -> None:
    terminal, _, out = shown
    lines = [line.strip() for line in out.split("What to type next:")[1].splitlines()]
    searches = [line for line in lines if line.startswith("tuwen search")]
    assert len(searches) >= 3
    assert terminal.type(*shlex.split(searches[0])[1:]).out.startswith("rank")
    for line in searches[1:]:
        assert terminal.look(*shlex.split(line)[1:]).out.startswith("rank")


@pytest.mark.long
def test_the_demo_for_programs_takes_the_place_of_an_earlier_one(shown) -> None:
    terminal, gallery, _ = shown
    found = terminal.type("demo", "--gallery", gallery, "--json").json
    assert set(found) == {"index", "model", "searches"}
    assert found["index"] == f"demo-output/{gallery}.tuwen"
    assert all(set(search) == {"query", "language", "hits", "sheet"} for search in found["searches"])
    assert all(len(search["hits"]) == 5 for search in found["searches"])
    for search in found["searches"]:
        if search["language"] in FIRST[gallery]:
            assert search["hits"][0]["payload"]["path"] == FIRST[gallery][search["language"]]


def test_hits_among_the_photos_name_their_authors(shown) -> None:
    terminal, gallery, _ = shown
    found = terminal.look("search", "cat", "--index", f"demo-output/{gallery}.tuwen", "--json").json
    fields = {"title", "author", "licence", "source"}
    assert all((gallery == "photos") == (fields <= hit["payload"].keys()) for hit in found["hits"])


def test_the_doctor(terminal) -> None:
    found = terminal.type("doctor", "--json").json
    assert found["cores"] >= 1
    assert {engine["name"] for engine in found["engines"]} == {"onnxruntime", "openvino"}
    shown = terminal.type("doctor").out
    assert all(word in shown for word in ("cpu", "cores", "accelerators", "onnxruntime", "openvino"))
    assert found["advice"] in shown


def test_every_command_has_help_and_none_needs_torch_for_it(terminal) -> None:
    commands = list(walk(tuwen, ()))
    done = subprocess.run(
        [sys.executable, "-c", EVERY_HELP],
        input=json.dumps(commands),
        cwd=terminal.folder,
        env=terminal.environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stderr == ""
    usages = [line.split()[2:] for line in done.stdout.splitlines() if line.startswith("Usage: tuwen")]
    assert [tuple(words[: len(path)]) for words, path in zip(usages, commands, strict=True)] == commands
