"""What holds for the code as a whole: sizes, published names, what is imported, packaging.

Knows nothing of what any room does.
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tuwen

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tuwen"
FOLDERS = ("src", "tests", "recipes", "benchmarks", "docs")
CODE = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
HEAVY = {"torch", "torchvision", "transformers", "open_clip"}


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_file_says_what_it_is() -> None:
    assert [short(path) for path in PACKAGE.rglob("*.py") if not ast.get_docstring(parse(path))] == []


# Published names


def test_published_names_exist_and_are_all() -> None:
    assert all(getattr(tuwen, name) is not None for name in tuwen.__all__)
    assert sorted(tuwen.__all__) == sorted({*tuwen._MODULES, "__version__"})
    assert dir(tuwen) == sorted(tuwen.__all__)
    with pytest.raises(AttributeError, match="no attribute 'load_model'"):
        _ = tuwen.load_model


def test_type_checkers_see_the_same_names() -> None:
    guarded = next(node for node in parse(PACKAGE / "__init__.py").body if isinstance(node, ast.If))
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    assert {alias.name: node.module for node in imports for alias in node.names} == tuwen._MODULES


# What is imported


def modules_after(code: str, *arguments: object) -> set[str]:
    """The first names of all modules that are loaded in a fresh interpreter once it has run `code`."""
    tail = "\nimport json, sys; print('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    command = [sys.executable, "-c", code + tail, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code", ["import tuwen", "from tuwen.cli.main import tuwen; tuwen.main(['--help'], standalone_mode=False)"]
)
def test_import_and_help_load_nothing_heavy(code: str) -> None:
    assert not modules_after(code) & {
        "httpx2",
        "numpy",
        "pydantic",
        "PIL",
        "onnxruntime",
        "openvino",
        *HEAVY,
    }


SEARCH = """
import sys
from tuwen.cli.main import tuwen
from tuwen.demo import demo_gallery
food = str(demo_gallery() / "food-and-drink")
for line in (["index", "build", food, "--model", "demo"], ["search", "a red apple"]):
    tuwen.main([*line, "--index", sys.argv[1]], standalone_mode=False)
"""


def test_a_search_never_loads_torch(tmp_path: Path) -> None:
    loaded = modules_after(SEARCH, tmp_path / "gallery.tuwen")
    assert "qdrant_edge" in loaded
    assert not loaded & HEAVY


# Packaging


def test_every_package_that_is_needed_has_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    needed = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    for requirement in set(needed):
        lines = [line for line in text.splitlines() if f'"{requirement}"' in line]
        assert all(re.search(r"# \w.{5,}", line) for line in lines), requirement


def test_all_is_every_extra_that_users_need_but_cuda() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (line,) = extras["all"]
    assert set(line.removeprefix("tuwen[").removesuffix("]").split(",")) == set(extras) - {"all", "dev", "docs", "cuda"}


def test_the_lock_holds_every_package_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[\[><=]", name)[0].lower().replace("_", "-") for name in needed} - {"tuwen"}
    assert names <= {line.split("==")[0] for line in lock.splitlines()}
    assert "://" not in lock


def test_nothing_names_one_machine() -> None:
    place = re.compile(r"/(?:work|root|home/\w+|Users/\w+)/")
    texts = [path for path in ROOT.glob("[!.]*") if path.is_file() and path.suffix != ".png"]
    texts += [
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".json", ".sh"}
    ]
    found = [short(path) for path in texts if place.search(path.read_text(encoding="utf-8"))]
    assert found == []
