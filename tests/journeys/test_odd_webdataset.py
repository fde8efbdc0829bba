"""Every odd picture that there is, in a webdataset among sound ones: the job completes and its report is exact."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

import colours
from samples_of import write_tar
from tuwen.data.decode import read_image
from tuwen.data.formats import HEAD, format_of_content, format_of_name
from tuwen.data.pillow_warnings import silence_libtiff
from tuwen.runtime.loading import Choice, load_encoder
from tuwen.types import Rejected

pytestmark = [pytest.mark.journey, pytest.mark.long]


def sound(number: int) -> bytes:
    stream = io.BytesIO()
    colours.picture(list(colours.COLOURS)[number % 5], seed=number % 50).save(stream, "JPEG")
    return stream.getvalue()


def members(odd: list[Path], count: int) -> dict[str, bytes]:
    """`count` samples, the odd ones spread among them, each with a caption."""
    step = max(1, count // max(1, len(odd)))
    named: dict[str, bytes] = {}
    for number in range(count):
        path = odd[number // step] if number % step == 0 and number // step < len(odd) else None
        ending = "jpg" if path is None else path.suffix.lstrip(".")
        name = f"{number:06}.{ending}" if ending else f"{number:06}"
        named[name] = sound(number) if path is None else path.read_bytes()
        named[f"{number:06}.txt"] = b"a photo of something"
    return named


def is_picture(name: str, content: bytes) -> bool:
    return format_of_name(name) is not None or format_of_content(content[:HEAD]) is not None


@pytest.mark.parametrize("count", [500, pytest.param(10_000, id="10000")])
def test_all_odd_pictures_in_a_webdataset(terminal, shared_data: Path, count: int) -> None:
    odd = sorted(path for path in (shared_data / "odd_images").rglob("*") if path.is_file() and path.suffix != ".txt")
    chosen = odd if count >= len(odd) else odd[:: -(-len(odd) // count)]
    named = members(chosen, count)
    write_tar(terminal.folder / "odd.tar", named)
    silence_libtiff()
    encoder = load_encoder("demo", Choice(), models=terminal.folder, cache=None)
    pictures = {name: content for name, content in named.items() if not name.endswith(".txt")}
    claimed = {name: content for name, content in pictures.items() if is_picture(name, content)}
    wrong = {
        name for name, content in claimed.items() if isinstance(read_image(content, name, encoder.reading), Rejected)
    }

    words = ("embed", "odd.tar", "-o", "out", "--model", "demo", "--shard-size", "1000", "--only", "images")
    report = terminal.type(*words, "--json", code=3).json
    assert {item["path"] for item in report["rejected"]} == wrong
    assert len(report["rejected"]) == len(wrong)
    assert all(item["reason"] for item in report["rejected"])
    assert report["samples"] == count
    assert report["embedded"] == report["images"] == len(claimed) - len(wrong)
    unclaimed = len(pictures) - len(claimed)
    assert report["skipped"] == 2 * unclaimed  # the file that belongs to no sample, and the caption left without one
    assert {*report["unused"]} == pictures.keys() - claimed.keys()
    out = terminal.folder / "out"
    vectors = np.concatenate([np.load(path) for path in sorted((out / "img_emb").iterdir())]).astype(np.float32)
    assert len(vectors) == report["images"]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)
    lines = (out / "rejected.jsonl").read_text(encoding="ascii").splitlines()
    assert [json.loads(line) for line in lines] == report["rejected"]
