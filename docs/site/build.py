"""Build the documentation site, in English and Chinese.

    python docs/site/build.py [FOLDER]      build/docs, unless another folder is named; open site/index.html in it

The pages of each language are laid out in a folder of their own (the guides at its root, the reference, the developer
pages and the pictures beside them), then Zensical renders that folder. The reference of the command line is written
here from `--help`; mkdocstrings writes the rest of the reference from docstrings. A broken link or an unknown name
fails the build.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
READMES = {"en": "README.md", "zh": "README.zh.md"}
SHARED = ("architecture.md", "log.md", "decisions", "reference", "pictures", "scores")
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def layout(language: str) -> dict[Path, Path]:
    """The place in the site of `language` of every file that belongs to it."""
    places = {path: Path(path.name) for path in (DOCS / language).iterdir()}
    for name in SHARED:
        top = DOCS / name
        for path in top.rglob("*") if top.is_dir() else [top]:
            if path.is_file():
                places[path] = path.relative_to(DOCS)
    places[ROOT / READMES[language]] = Path("index.md")
    places[ROOT / "CHANGELOG.md"] = Path("changelog.md")
    places[ROOT / "CONTRIBUTING.md"] = Path("contributing.md")
    places[ROOT / "recipes" / "emoji" / "README.md"] = Path("recipe-emoji.md")
    places[ROOT / "recipes" / "photo" / "README.md"] = Path("recipe-photo.md")
    return places


def elsewhere(language: str) -> dict[Path, Path]:
    """Where a link to the other language leads: to its home page, or to the same guide in `language`."""
    (other,) = READMES.keys() - {language}
    home = Path("../index.html" if other == "en" else "zh/index.html")
    return {ROOT / READMES[other]: home, **{path: Path(path.name) for path in (DOCS / other).iterdir()}}


def relinked(text: str, folder: Path, place: Path, places: dict[Path, Path]) -> str:
    """The text of a page from `folder` with its relative links pointing to where their targets are in the site."""

    def moved(match: re.Match[str]) -> str:
        target = places.get((folder / match[2]).resolve())
        if target is None:
            return match[0]
        return f"{match[1]}{Path(os.path.relpath(target, place.parent)).as_posix()}{match[3]}"

    return LINK.sub(moved, text)


def lay_out(language: str, folder: Path) -> None:
    """Copy the pages of one language to `folder`, and add the help of every command to their page."""
    files = layout(language)
    for source, place in files.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            text = relinked(source.read_text(encoding="utf-8"), source.parent, place, {**elsewhere(language), **files})
            target.write_text(text, encoding="utf-8")
        else:
            shutil.copy(source, target)
    with (folder / "reference" / "commands.md").open("a", encoding="utf-8") as page:
        page.write(commands_help())


def commands_help() -> str:
    """The help of every command."""
    from tuwen.cli.main import tuwen

    parts = []
    for context in walk(tuwen, "tuwen"):
        level = "#" * min(3, 1 + len(context.command_path.split()))
        parts.append(f"{level} {context.command_path}\n\n```text\n{context.get_help()}\n```\n")
    return "\n".join(parts)


def walk(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A context for `command` and for every visible command below it, in the order of the help."""
    settings = {**command.context_settings, "terminal_width": 88, "max_content_width": 88}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None and not found.hidden:
                yield from walk(found, below, context)


def main() -> int:
    """Build both languages; the exit code is that of the first that fails."""
    build = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "docs"
    for name in (*READMES, "site"):
        shutil.rmtree(build / name, ignore_errors=True)
    for language in READMES:
        lay_out(language, build / language)
        for script in Path(__file__).parent.glob("*.js"):
            shutil.copy(script, build / language)
    for config in Path(__file__).parent.glob("*.yml"):
        shutil.copy(config, build)
    for language in READMES:
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", f"{language}.yml"]
        environment = {**os.environ, "TUWEN_SOURCES": str(ROOT / "src")}
        built = subprocess.run(command, cwd=build, env=environment, check=False)
        if built.returncode:
            return built.returncode
    print(f"The site is at {build / 'site' / 'index.html'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
