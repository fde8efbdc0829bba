"""Rows and a model for tests of an index."""

from dataclasses import dataclass

import numpy as np

from tuwen.types import Row

DIM = 24


@dataclass
class FakeModel:
    """What an index knows of an encoder."""

    name: str = "fake"
    dim: int = DIM
    fingerprint: str = "0123456789abcdef"
    precision: str = "fp32"


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def vectors(count: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    """(count, dim) unit rows, in clusters as pictures are."""
    random = np.random.default_rng(seed)
    centres = unit(random.normal(size=(max(1, count // 50), dim)))
    return unit(
        1.0 + 2.0 * np.sqrt(dim) * centres[random.integers(len(centres), size=count)] + random.normal(size=(count, dim))
    )


def payload(key: str, **facts) -> dict[str, str | int | float]:
    folder, _, name = key.rpartition("/")
    usual = {
        "type": "image",
        "width": 640,
        "height": 480,
        "format": "JPEG",
        "modified": 1_700_000_000.25,
        "bytes": 12_345,
    }
    return {"path": key, "folder": folder, "name": name, "content": f"sha of {key}", **usual, **facts}


def row(key: str, vector: np.ndarray | None = None, **facts) -> Row:
    return Row(key, vectors(1, seed=len(key))[0] if vector is None else vector, payload(key, **facts))


def rows(count: int, seed: int = 0, prefix: str = "", dim: int = DIM) -> list[Row]:
    """Rows whose facts differ: key 7 is `0/7.jpg`, 100 wide and 70 high."""
    made = vectors(count, dim, seed)
    return [
        row(f"{prefix}{i % 10}/{i}.jpg", made[i], width=100 + i % 1000, height=10 * i, modified=1.7e9 + i / 7)
        for i in range(count)
    ]


def paths(hits) -> list[str]:
    """The keys of hits, in their order."""
    return [str(hit.payload["path"]) for hit in hits]
