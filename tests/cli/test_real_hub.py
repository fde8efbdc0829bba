"""Against the real hub: published outputs of a model that is pulled from there. Only with -m hub."""

from pathlib import Path

import numpy as np
import pytest

from cli.running import run

pytestmark = [pytest.mark.hub, pytest.mark.enable_socket]

NAME = "ViT-B-32/openai"


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("ways", [(), ("--export",)], ids=["ready", "exported"])
def test_a_pulled_model_gives_the_published_vectors(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TUWEN_MODELS", str(tmp_path))
    assert run("pull", NAME, *ways).exit_code == 0
    published = shared_data / "vectors" / "jina_clip_vitb32"
    operands = ("--text", "Han likes eating pizza", published / "man_piercing.jpg")
    done = run("embed", *operands, "--model", NAME, "--precision", "fp32", "-o", tmp_path / "v.npy")
    assert done.exit_code == 0, done.output
    image, text = np.load(tmp_path / "v.npy")
    assert image @ unit(np.load(published / "image_expected.npy"))[0] > 0.999
    assert text @ unit(np.load(published / "text_expected.npy")).reshape(-1) > 0.9999
