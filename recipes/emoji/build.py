"""Build the packaged model and gallery: `python -m recipes.emoji.build` draws, trains, exports and measures.

The bundle and the gallery are written to `src/tuwen/demo/`, as package data. Downloads and intermediate files are kept
in `--work`, and an interrupted build is resumed.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from recipes.emoji.evaluate import evaluate
from recipes.emoji.gallery import write_gallery
from recipes.emoji.sources import require_debian
from recipes.emoji.words import read_emoji

import tuwen
from tuwen.bundle.bundle import read_manifest, seal

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "src" / "tuwen" / "demo"
SOURCE = "recipes/emoji"
LIMIT = 12 * 2**20
"""the largest size of bundle and gallery together, in bytes"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/emoji"), help="downloads and intermediate files")
    parser.add_argument("--to", type=Path, default=DEMO, help="where bundle/ and gallery/ are written")
    asked = parser.parse_args()
    require_debian()
    write_gallery(read_emoji(), asked.to / "gallery")
    facts = trained(asked.work.resolve())
    pack(asked.work, facts, asked.to)
    print(f"trained in {facts['training_seconds'] / 60:.0f} minutes")


def trained(work: Path) -> dict[str, Any]:
    """Run or resume both parts of the training; returns facts to record."""
    first, polish = work / "first", work / "polish"
    settings = f"objective.settings.work={work}"
    outcomes = [
        train("tuwen_emoji", first, settings, f"model.overrides.work={work}"),
        train("tuwen_emoji_polish", polish, settings, f"model.source={first / 'best'}"),
    ]
    return {
        "steps": sum(outcome["steps"] for outcome in outcomes),
        "training_seconds": round(sum(outcome["seconds"] for outcome in outcomes)),
    }


def train(recipe: str, output: Path, *overrides: str) -> dict[str, Any]:
    """Run `tuwen train` with a recipe of `configs/`; returns its JSON document."""
    begun = (output / "last").exists()
    which = ["--resume", str(output)] if begun else ["-c", str(ROOT / "configs" / f"{recipe}.yaml")]
    options = [part for override in (f"run.output={output}", *overrides) for part in ("-o", override)]
    command = [sys.executable, "-m", "tuwen", "train", *which, *([] if begun else options), "--json"]
    done = subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def pack(work: Path, facts: dict[str, Any], to: Path) -> None:
    """Copy the bundle beside the gallery, measure it, and record the figures in its manifest."""
    bundle = to / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.copytree(work / "polish" / "bundle", bundle, ignore=shutil.ignore_patterns("VERIFY.*"))  # names folders
    manifest = read_manifest(bundle)
    files = {name: file for name, file in manifest.files.items() if (bundle / name).exists()}
    facts |= {key: value for key, value in manifest.facts.items() if not key.startswith("trained_")}
    sealed = manifest.model_copy(update={"source": SOURCE, "files": files, "facts": facts})
    seal(bundle, sealed)
    measured = evaluate(tuwen.load(str(bundle)), to / "gallery", work)
    seal(bundle, sealed.model_copy(update={"facts": facts | measured}))
    weigh(to)


def weigh(to: Path) -> None:
    """Exit if bundle and gallery are too large for the package."""
    files = (path for part in ("bundle", "gallery") for path in (to / part).rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    print(f"bundle and gallery: {size / 2**20:.2f} MiB")
    if size > LIMIT:
        raise SystemExit(f"bundle and gallery have {size} bytes, {size - LIMIT} more than allowed")


if __name__ == "__main__":
    main()
