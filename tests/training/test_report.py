"""The page and the curves of a run."""

from pathlib import Path

from PIL import Image

from tuwen.training.record import CURVES, write_report

STEPS = [{"step": step, "epoch": 1.0, "loss": 3.0 / step, "lr": 1e-3, "scale": 14.0} for step in (1, 2, 3)]


def test_a_run_that_measured_something_else_after_a_break(tmp_path: Path) -> None:
    rows = [
        *STEPS,
        {"step": 2, "text_retrieval_recall@1": 0.25},
        {"step": 3, "acc1": 0.5, "text_retrieval_recall@1": 1.0},
    ]
    page = write_report(tmp_path, "small", rows, {"steps": "3"}).read_text()
    assert page.splitlines()[0] == "# small"
    assert "| step | text_retrieval_recall@1 | acc1 |" in page
    assert "| 2 | 0.2500 |  |" in page
    assert "| 3 | 1.0000 | 0.5000 |" in page


def test_curves_of_a_run_that_measured_nothing(tmp_path: Path) -> None:
    page = write_report(tmp_path, "small", STEPS, {}).read_text()
    assert "| step |" not in page
    colours = Image.open(tmp_path / CURVES).convert("RGB").getcolors(1_000_000)
    assert (43, 108, 176) in {colour for _, colour in colours or ()}  # that of the lines
