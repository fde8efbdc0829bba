"""The documentation: its examples name what exists, links lead somewhere, both languages agree, the site builds."""

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import click
import pytest

import tuwen
import tuwen.errors
from tuwen.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
PAIRS = [(ROOT / "README.md", ROOT / "README.zh.md")]
PAIRS += [(page, DOCS / "zh" / page.name) for page in sorted((DOCS / "en").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every visible command with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                if not below.hidden:
                    yield from walk(below, f"{path} {name}")


def commands() -> list[tuple[str, click.Command]]:
    from tuwen.cli.main import tuwen as command

    return list(walk(command, "tuwen"))


def test_every_command_has_an_example_and_json() -> None:
    for path, command in commands():
        if not isinstance(command, click.Group):
            assert re.search(rf"^ +{path}(\s|$)", command.get_help(click.Context(command)), re.MULTILINE), path
            if path != "tuwen mcp":  # its standard output is the protocol's
                assert any("--json" in parameter.opts for parameter in command.params), path


def test_guides_name_only_what_there_is() -> None:
    known = {
        path: {name for item in command.params for name in (*item.opts, *item.secondary_opts)} | {"--help"}
        for path, command in commands()
    }
    for page in PAGES:
        for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
            lines = block.replace("\\\n", " ").splitlines() if language in {"sh", "console"} else []
            for line in (line for line in lines if line.startswith("tuwen ")):
                words = line.split("#")[0].split()
                path = max((path for path in known if words[: len(path.split())] == path.split()), key=len)
                used = set(re.findall(r"(?<=\s)--[a-z][\w-]*", line.split("#")[0]))
                assert used <= known[path], f"{short(page)}: {line}"
                assert path != "tuwen" or words[1].startswith("-"), f"{short(page)}: {line}"


def test_every_public_name_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^::: tuwen\.(\w+)$", text, re.MULTILINE))
    errors = {name for name in tuwen.__all__ if name in vars(tuwen.errors)}
    assert shown == set(tuwen.__all__) - errors - {"__version__"}


@pytest.mark.long
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="the documentation site is built by the extra `docs`")
    done = subprocess.run(
        [sys.executable, DOCS / "site" / "build.py", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for home in (tmp_path / "site", tmp_path / "site" / "zh"):
        commands_page = (home / "reference" / "commands.html").read_text(encoding="utf-8")
        assert all(f"{path}</h" in re.sub(r"<a .*?</a>", "", commands_page) for path, _ in commands())
        settings = (home / "reference" / "settings.html").read_text(encoding="utf-8")
        assert all(f'id="tuwen.settings.Settings.{name}"' in settings for name in Settings.model_fields)
        for page in home.rglob("*.html"):
            assert not re.search(r'<(script|link|img)[^>]* (src|href)="?https?:', page.read_text(encoding="utf-8")), (
                page
            )


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", text, re.MULTILINE)[0] == tuwen.__version__


def anchor(heading: str) -> str:
    """What a heading is called in an address."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def outside_of_code(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", outside_of_code(page)):
        if "://" in target:
            continue
        name, _, part = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        headings = re.findall(r"^#+ (.*)$", outside_of_code(file), re.MULTILINE) if part else []
        assert not part or part in map(anchor, headings), target


def skeleton(page: Path) -> list[str]:
    """The levels of a page's headings and its blocks of code without their comments, in order."""
    text = page.read_text(encoding="utf-8")
    blocks = [re.sub(r"[ \t]*# .*", "", "".join(block)) for block in FENCE.findall(text)]
    return [*re.findall(r"^#+(?= )", FENCE.sub("", text), re.MULTILINE), *blocks]


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=short)
def test_both_languages_say_the_same(english: Path, chinese: Path) -> None:
    for ours, theirs in zip_longest(skeleton(english), skeleton(chinese)):
        assert ours == theirs


def test_no_guide_is_in_one_language_only() -> None:
    assert {page.name for page in (DOCS / "en").glob("*.md")} == {page.name for page in (DOCS / "zh").glob("*.md")}


def test_every_attack_that_is_listed_has_its_test() -> None:
    text = (DOCS / "en" / "serve.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "server").glob("test_*.py"))
    assert named <= set(re.findall(r"def (test_\w+)", code))
    attacks = (ROOT / "tests" / "server" / "test_attacks.py").read_text(encoding="utf-8")
    assert set(re.findall(r"def (test_\w+)", attacks)) <= named
