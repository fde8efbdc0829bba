"""What `tuwen search` refuses before an index is opened."""

from pathlib import Path

import pytest

from cli.running import run


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "QUERY"),
        (["猫.jpg"], "--image 猫.jpg"),
        (["PHOTOS/猫.jpg"], "--image PHOTOS/猫.jpg"),
        (["PHOTOS/2023"], "PHOTOS/2023 is a folder"),
        (["--like", "PHOTOS"], "--like PHOTOS"),
        (["--like", "PHOTOS:0.5"], "--like PHOTOS:0.5"),
        (["red", "--unlike", "PHOTOS/2023"], "--unlike PHOTOS/2023"),
    ],
)
def test_a_path_is_never_silently_a_text(
    words: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PHOTOS" / "2023").mkdir(parents=True)
    for name in ("猫.jpg", "PHOTOS/猫.jpg"):
        (tmp_path / name).touch()
    result = run("search", *words, "--index", "photos.tuwen")
    assert result.exit_code == 2
    assert named in result.stderr
