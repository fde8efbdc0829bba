"""`tuwen models` lists what is there, whatever else is there."""

import json
import shutil
from pathlib import Path

import pytest

from cli.running import run
from tuwen.demo import demo_bundle


def test_a_broken_bundle_is_told_and_the_others_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUWEN_MODELS", str(tmp_path))
    for name in ("mine/whole", "mine/broken"):
        (tmp_path / name).mkdir(parents=True)
        shutil.copy(demo_bundle() / "tuwen.json", tmp_path / name)
    (tmp_path / "mine" / "broken" / "tuwen.json").write_text("{")
    ended = run("models", "--local")
    assert ended.exit_code == 0
    assert "*mine/whole" in ended.stdout
    assert "mine/broken" not in ended.stdout
    assert "not listed: " in ended.stderr
    assert "broken" in ended.stderr


def test_licences_are_shown() -> None:
    models = {row["model"]: row for row in json.loads(run("models", "--json").stdout)["models"]}
    assert models["MobileCLIP2-B/dfndr2b"]["non_commercial"]
    assert not models["ViT-B-32/openai"]["non_commercial"]
    listed = run("models").stdout
    assert "MobileCLIP2-B/dfndr2b !" in " ".join(listed.split())
    assert "ViT-B-32/openai !" not in " ".join(listed.split())


def test_a_licence_is_shown_before_a_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODELS", "CACHE"):
        monkeypatch.setenv(f"TUWEN_{name}", str(tmp_path / name))
    for model, licence in (("MobileCLIP2-B/dfndr2b", "Apple-AMLR"), ("org/unknown", "org/unknown")):
        ended = run("pull", model, "--offline")
        assert ended.exit_code == 1
        first, *_ = ended.stderr.splitlines()
        assert licence in first
