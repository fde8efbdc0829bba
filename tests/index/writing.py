"""A process that writes to an index until it is killed, and says before and after each step what it does.

    python writing.py FOLDER SEED VERSION

The vector of a row follows from its key and version, so that a row mixed from two would be seen.
"""

import json
import random
import sys

import numpy as np
from making import DIM, FakeModel, payload, unit

from tuwen.index.index import VectorIndex
from tuwen.index.stores import faiss as faiss_finder
from tuwen.types import Row

KEYS = 400


def vector(key: str, version: int) -> np.ndarray:
    return unit(np.random.default_rng([int(key), version]).normal(size=DIM))


def made(key: str, version: int) -> Row:
    return Row(key, vector(key, version), payload(key, folder=f"{int(key) % 5}", version=version, moved=0))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def step(index: VectorIndex, chance: random.Random, version: int) -> None:
    """One call, announced as {"does", "keys", "version"} and confirmed by an empty line once it has returned."""
    does = chance.choice(["upsert"] * 5 + ["remove", "move", "optimize"])
    keys = [f"{key}" for key in chance.sample(range(KEYS), chance.choice((1, 20, 150)))]
    if does == "move":
        keys = list(index.payloads(keys))
    say(json.dumps({"does": does, "keys": keys, "version": version}))
    if does == "upsert":
        index.upsert([made(key, version) for key in keys])
    elif does == "remove":
        index.remove(keys)
    elif does == "move":
        stored = index.payloads(keys)
        index.update_payloads({key: {**stored[key], "moved": version} for key in keys})
    else:
        index.optimize()
    say("")


def main() -> None:
    folder, seed, first = sys.argv[1:]
    chance = random.Random(seed)
    faiss_finder.DUE = 20  # so that a few hundred rows are built, added to and compacted again and again
    with VectorIndex.open(folder, encoder=FakeModel()) as index:
        say("")
        for version in range(int(first), sys.maxsize):
            step(index, chance, version)


if __name__ == "__main__":
    main()
