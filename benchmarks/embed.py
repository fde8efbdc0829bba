"""Bulk embedding end to end against its stages: what is lost between decoding, the model and the files.

    python benchmarks/embed.py --pictures 60 --rounds 3 --json embed.json
    python benchmarks/embed.py --device cuda --pictures 2000

The photos and the model are those of `ingest.py`. The sides take turns, each in a process of its own and with all
threads: decoding alone, the model alone, and a whole job to clip-retrieval's layout, planned, written and reported:
from a folder, from the same photos in a WebDataset archive, and from a Parquet table of their contents. On a processor
the stages share its cores, so the floor is what both take one after the other, 1 / (1/d + 1/m) pictures a second; on
an accelerator they can run at the same time, so it is the slower of the two.
"""

import argparse
import os
import tempfile
from pathlib import Path

from measuring import finish, machine, table
from parts.photos import as_parquet, as_webdataset, make_large

from ingest import ALONE, CLOCKS, build, described, shares, take_turns


def main() -> None:
    arguments = parse()
    os.environ["TUWEN_DEVICE"] = arguments.device  # a setting, which every side reads
    with tempfile.TemporaryDirectory() as folder:
        photos, bundle = Path(folder) / "photos", arguments.model or build(Path(folder) / "bundle")
        make_large(photos, arguments.pictures)
        archive, rows_file = Path(folder) / "photos.tar", Path(folder) / "photos.parquet"
        as_webdataset(photos, archive)
        as_parquet(photos, rows_file)
        jobs = {side: (side, photos) for side in ALONE}
        jobs |= {"folder": ("embed", photos), "webdataset": ("embed", archive), "parquet": ("embed", rows_file)}
        taken = take_turns(jobs, bundle, Path(folder), arguments)
    floor = sum if arguments.device in ("auto", "cpu") else max
    rows = described(taken, arguments.pictures)
    print(table(rows))
    found = {clock: shares(taken, floor, clock) for clock in CLOCKS}
    for clock, reached in found.items():
        parts = ", ".join(f"{share:.0%} from {name}" for name, share in reached.items())
        print(f"{clock}: {parts} of the floor; the bar is 90%")
    result = {"pictures": arguments.pictures, "device": arguments.device, "rows": rows, "share_of_floor": found}
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
