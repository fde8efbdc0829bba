"""Everything from nothing: `python -m recipes.emoji.build` draws, trains, exports and measures.

The bundle and the gallery are written to `src/tuwen/demo/`, as package data. What is fetched and made on the way is
kept in `--work`, and an interrupted build goes on where it stopped.
"""

import argparse
import logging
import os
from pathlib import Path

from recipes.emoji.evaluate import evaluate
from recipes.emoji.gallery import write_gallery
from recipes.emoji.pack import pack, record
from recipes.emoji.polish import Polish, TextRun
from recipes.emoji.sources import require_debian
from recipes.emoji.train import Config, Run
from recipes.emoji.words import read_emoji

import tuwen

DEMO = Path(__file__).parents[2] / "src" / "tuwen" / "demo"
LIMIT = 12 * 2**20
"""the most bytes that bundle and gallery may have together."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=Path("build/emoji"), help="what is fetched and made on the way"
    )
    parser.add_argument("--to", type=Path, default=DEMO, help="where bundle/ and gallery/ are written")
    asked = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tuwen").setLevel(logging.INFO)
    require_debian()
    asked.work.mkdir(parents=True, exist_ok=True)
    (asked.work / "pid").write_text(str(os.getpid()))
    run = Run(Config(), asked.work)
    run.train()
    checkpoint = TextRun(Polish(), run).train()
    finish(asked.work, checkpoint, asked.to)


def finish(work: Path, checkpoint: Path, to: Path) -> None:
    """Write gallery and bundle, measure the bundle, record the figures in its manifest, and weigh both."""
    write_gallery(read_emoji(), to / "gallery")
    pack(checkpoint, work / "tokenizer.json", to / "bundle")
    record(to / "bundle", evaluate(tuwen.load(str(to / "bundle")), to / "gallery", work))
    size = sum(
        path.stat().st_size for room in ("bundle", "gallery") for path in (to / room).rglob("*") if path.is_file()
    )
    print(f"bundle and gallery: {size / 2**20:.2f} MiB")
    if size > LIMIT:
        raise SystemExit(f"bundle and gallery have {size} bytes, {size - LIMIT} more than the package may hold")


if __name__ == "__main__":
    main()
