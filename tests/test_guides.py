"""Every example in the README and the guides runs: the blocks marked `sh` and `python`, page by page, in order.

The guides speak of a person's own photos and model; here the packaged gallery and model stand in for them. Only the
English pages are run: `test_docs.py` sees to it that the examples of both languages are the same.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tuwen
from isolation import COMPUTING
from shapes import shape, written_shapes

GUIDES = Path(__file__).parents[1] / "docs" / "en"
README = Path(__file__).parents[1] / "README.md"
CONFIG = Path(__file__).parents[1] / "configs" / "inference_clip.yaml"
SEARCH = ("Global.mode=image-to-image", "Global.infer_imgs=more", "IndexProcess.image_index_dir=i.tuwen")
ELSEWHERE = {
    "bench": "is compared where it takes part with PyTorch: see tests/cli/test_bench.py",
    "convert": "takes half a minute: see tests/cli/test_convert.py",
    "export": "takes a checkpoint: see tests/cli/test_export.py",
    "index migrate": "takes a second model: see tests/ingest/test_migrate.py",
    "pull": "takes a hub: see tests/journeys/test_pull.py",
    "train": "takes a minute: see tests/cli/test_train.py",
    "serve": "goes on until it is ended: see tests/journeys/test_serve.py",
}
FIRST = [README, GUIDES / "getting-started.md"]
PAGES = [
    *FIRST,
    *(pytest.param(page, marks=pytest.mark.long) for page in sorted(GUIDES.glob("*.md")) if page not in FIRST),
]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the guides have it: `photos/` with two folders below it, `more/`, `cat.jpg`, `labels.txt`."""
    from tuwen.demo import demo_gallery

    folder = tmp_path_factory.mktemp("guide")
    pictures = sorted(path for path in demo_gallery().rglob("*") if path.is_file())
    for place, chosen in {
        "photos/2023": pictures[::40],
        "photos/2024": pictures[1::40],
        "more": pictures[2::80],
    }.items():
        (folder / place).mkdir(parents=True)
        for picture in chosen:
            shutil.copy(picture, folder / place)
    Image.open(next(demo_gallery().rglob("cat-face.*"))).convert("RGB").save(folder / "cat.jpg")
    (folder / "labels.txt").write_text("cat\ndog\ntree\nheart\n", encoding="utf-8")
    shutil.copytree(CONFIG.parent, folder / CONFIG.parent.name)
    (folder / "captions.txt").write_text("a smiling cat\na red heart\n", encoding="utf-8")
    (folder / "captions.csv").write_text("image,caption\ncat.jpg,a smiling cat\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The packaged model is the default model, and nobody's own settings, models or caches are seen."""
    home = str(tmp_path_factory.mktemp("home"))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    package = str(Path(tuwen.__file__).parents[1])
    own = {"PATH": path, "HOME": home, "PYTHONPATH": package, "TUWEN_DEFAULT_MODEL": "demo", "LANG": "C.UTF-8"}
    return COMPUTING | own


@pytest.mark.journey
@pytest.mark.parametrize("guide", PAGES, ids=lambda value: value.stem)
def test_every_example_runs(guide: Path, photos: Path, environment: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    for language, block in BLOCK.findall(guide.read_text(encoding="utf-8")):
        command = ["bash", "-euo", "pipefail", "-c", block] if language == "sh" else [sys.executable, "-c", block]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr


@pytest.mark.long
@pytest.mark.journey
def test_every_shape_is_what_is_printed(photos: Path, environment: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(photos / "more", tmp_path / "more")
    shutil.copytree(photos / "photos", tmp_path / "classes")
    for folder in ("more", "classes/2023"):
        (tmp_path / folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    np.save(tmp_path / "zero.npy", np.zeros((1, 128), np.float32))
    (tmp_path / "zero.txt").write_text("nothing\n", encoding="utf-8")
    index = ["--index", "i.tuwen"]
    commands = {
        "index build, add, sync, remove": ["index", "build", "more", *index],
        "index info": ["index", "info", *index],
        "index copy": ["index", "copy", "i.tuwen", "copy.tuwen"],
        "index list": ["index", "list", *index],
        "index duplicates": ["index", "duplicates", *index, "--threshold", "0.1"],
        "calibrate": ["calibrate", *index, "--random", "5"],
        "search": ["search", "a cat", *index],
        "evaluate": ["evaluate", "demo", "classes"],
        "adapt": ["adapt", "demo", "classes", "-o", "adapter", "--method", "zero-shot"],
        "classify": ["classify", "more", "--labels", "cat,dog"],
        "embed, bulk": ["embed", "more", "-o", "embedded"],
        "embed, items": ["embed", "a cat"],
        "index export": ["index", "export", *index, "-o", "exported.npy"],
        "index import": [
            *("index", "import", "zero.npy", "--names", "zero.txt", "--index", "j.tuwen", "--model", "demo")
        ],
        "run": ["run", "-c", str(CONFIG), *(word for key in SEARCH for word in ("-o", key))],
        "models": ["models"],
        "verify": ["verify", "demo"],
        "demo": ["demo", "-k", "1"],
        "doctor": ["doctor"],
    }
    printed = {}
    for heading, words in commands.items():
        command = [sys.executable, "-m", "tuwen", *words, "--json"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 3), done.stderr
        printed[heading] = shape(json.loads(done.stdout))
    written = written_shapes(GUIDES.parents[1])
    assert printed.keys() | ELSEWHERE.keys() == written.keys()
    assert printed == {name: written[name] for name in printed}


@pytest.mark.long
def test_the_thresholds_in_the_guide_are_those_of_the_packaged_model(
    environment: dict[str, str], tmp_path: Path
) -> None:
    checkout = GUIDES.parents[1]
    (block,) = [
        block
        for block in re.findall(r"^```console\n(.*?)^```$", (GUIDES / "search.md").read_text("utf-8"), re.M | re.S)
        if "docs/scores/queries.tsv" in block
    ]
    for place in ("src/tuwen/photo/gallery", "docs/scores/queries.tsv"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).symlink_to(checkout / place)
    command = ["bash", "-euo", "pipefail", "-c", f"{block.rstrip()} --json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.partition("\n")[2])["thresholds"]["text"]
    measured = (found["threshold"], 100 * found["false_accept"], 100 * found["false_reject"])
    for language in ("en", "zh"):
        text = (checkout / "docs" / language / "search.md").read_text("utf-8")
        line = text[text.index("225") :]
        written = [float(number) for number in re.findall(r"0\.\d{3}|[\d.]+(?= %)", line)[:3]]
        assert written == pytest.approx(measured, abs=0.5), language
        assert written[0] == pytest.approx(measured[0], abs=0.005), language
