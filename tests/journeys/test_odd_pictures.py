"""Every odd picture there is, in one run: each is indexed, or listed with its reason, or no picture at all."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.journey, pytest.mark.long]


def test_every_file_is_accounted_for(terminal, bundle: Path, shared_data: Path) -> None:
    folders = [shared_data / name for name in ("odd_images", "formats", "exif_orientation")]
    for folder in folders:
        (terminal.folder / "ALL").mkdir(exist_ok=True)
        (terminal.folder / "ALL" / folder.name).symlink_to(folder, target_is_directory=True)
    report = terminal.type("index", "build", "ALL", "--index", "x", "--model", bundle, "--json", code=3).json
    files = {f"{f.name}/{p.relative_to(f).as_posix()}" for f in folders for p in f.rglob("*") if p.is_file()}
    listed = terminal.type("index", "list", "--index", "x", "--json").json["rows"]
    indexed = {row["payload"]["path"] for row in listed}
    rejected = {item["path"] for item in report["rejected"]}
    assert not indexed & rejected
    assert indexed | rejected <= files
    assert len(files) == len(indexed) + len(rejected) + report["skipped"]
    assert (len(indexed), report["unchanged"]) == (report["indexed"], 0)
    assert all(item["reason"] and "\n" not in item["reason"] for item in report["rejected"])
    assert len(indexed) > 500
    orientations = [path for path in indexed if path.startswith("exif_orientation/")]
    assert len(orientations) == 18
    again = terminal.type("index", "build", "ALL", "--index", "x", "--json", code=3).json
    assert (again["indexed"], again["unchanged"]) == (0, len(indexed))
    assert again["rejected"] == report["rejected"]
