"""Build the packaged model and gallery: `python -m recipes.emoji.build` draws, trains, exports and measures.

The bundle and the gallery are written to `src/tuwen/demo/`, as package data. Downloads and intermediate files are kept
in `--work`, and an interrupted build is resumed.
"""

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from recipes.common.packing import check_size, pack
from recipes.emoji.evaluate import evaluate
from recipes.emoji.gallery import write_gallery
from recipes.emoji.sources import require_debian
from recipes.emoji.words import read_emoji

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
    measure = partial(evaluate, gallery=asked.to / "gallery", work=asked.work)
    pack(asked.work / "polish" / "bundle", asked.to / "bundle", SOURCE, facts, measure)
    check_size([asked.to / "bundle", asked.to / "gallery"], LIMIT)
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


if __name__ == "__main__":
    main()
