"""The package as a whole: public names, what is imported, requirements, wheel and source distribution."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

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


def test_published_names_exist_and_are_all() -> None:
    assert all(getattr(tuwen, name) is not None for name in tuwen.__all__)
    assert sorted(tuwen.__all__) == sorted({*tuwen._MODULES, "__version__"})
    assert dir(tuwen) == sorted(tuwen.__all__)
    with pytest.raises(AttributeError, match="load_model"):
        _ = tuwen.load_model


def test_type_checkers_see_the_same_names() -> None:
    guarded = next(node for node in parse(PACKAGE / "__init__.py").body if isinstance(node, ast.If))
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    assert {alias.name: node.module for node in imports for alias in node.names} == tuwen._MODULES


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


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    pytest.importorskip("uv", reason="uv builds the distributions; the extra `dev` has it")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", folder, ROOT], check=True)
    return folder


@pytest.mark.long
def test_the_wheel_has_every_file_of_the_package(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*") if path.is_file()}
    assert packed == {path.as_posix() for path in files if path.parent.name != "__pycache__"}


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_the_wheel_in_a_clean_environment(distributions: Path, tmp_path: Path, installer: str) -> None:
    (wheel,) = distributions.glob("*.whl")
    scripts = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    venv.create(tmp_path / "env", with_pip=installer == "pip")
    command = {
        "pip": [scripts / "python", "-m", "pip", "install"],
        "uv": [sys.executable, "-m", "uv", "pip", "install", "--python", scripts / "python"],
    }
    subprocess.run([*command[installer], "--quiet", wheel], check=True)
    home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

    def tuwen_json(*words: str) -> dict[str, Any]:
        done = subprocess.run(
            [scripts / "tuwen", *words, "--json"], cwd=tmp_path, env=home, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    assert len(tuwen_json("demo")["searches"]) > 1
    hits = tuwen_json("search", "a cat", "--index", "demo-output/photos.tuwen")["hits"]
    assert "cat" in hits[0]["payload"]["path"] or "kitten" in hits[0]["payload"]["path"]


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
