"""`tuwen models` lists what is there, whatever else is there."""

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
