"""Bulk embedding end to end against its stages: what is lost between decoding, the model and the files.

    python benchmarks/embed.py --pictures 60 --rounds 3 --json embed.json
    python benchmarks/embed.py --device cuda --pictures 2000

The photos and the model are those of `ingest.py`. Three sides take turns, each in a process of its own and with all
threads: decoding alone, the model alone, and a whole job from a folder to clip-retrieval's layout, planned, written
and reported. On a processor the stages share its cores, so the floor is what both take one after the other,
1 / (1/d + 1/m) pictures a second; on an accelerator they can run at the same time, so it is the slower of the two.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from measuring import finish, machine, table
from parts.photos import make_large

from ingest import build, one

SIDES = ("decoding alone", "model alone", "embed")


def main() -> None:
    arguments = parse()
    os.environ["TUWEN_DEVICE"] = arguments.device  # a setting, which every side reads
    with tempfile.TemporaryDirectory() as folder:
        photos, bundle = Path(folder) / "photos", arguments.model or build(Path(folder) / "bundle")
        make_large(photos, arguments.pictures)
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for turn in range(arguments.rounds):
            for side, taken in seconds.items():
                store = Path(folder) / f"{side}-{turn}".replace(" ", "-")
                taken.append(one(side, photos, bundle, store, arguments.threads))
                print(f"round {turn + 1}, {side}: {arguments.pictures / taken[-1]:.1f} pictures/s", file=sys.stderr)
    floor = sum if arguments.device in ("auto", "cpu") else max
    floors = [floor(pair) for pair in zip(seconds["decoding alone"], seconds["model alone"], strict=True)]
    share = median(best / ours for best, ours in zip(floors, seconds["embed"], strict=True))
    rows = [
        {"what": side, "pictures_per_second": arguments.pictures / median(taken), "seconds": median(taken)}
        for side, taken in (seconds | {"floor": floors}).items()
    ]
    print(table(rows))
    print(f"embedding reaches {share:.0%} of the floor; the bar is 90%")
    result = {"pictures": arguments.pictures, "device": arguments.device, "rows": rows, "share_of_floor": share}
    finish({"machine": machine(arguments.threads), **result}, arguments.json)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2, help="threads of every side")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side takes its turn")
    parser.add_argument("--device", default="auto", help="what the model computes on, e.g. cuda")
    parser.add_argument("--model", type=Path, help="a bundle in place of ViT-B/32")
    parser.add_argument("--json", type=Path, help="also write the result here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
