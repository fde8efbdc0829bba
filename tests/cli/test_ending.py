import click
import pytest

from tuwen.cli.command import exit_code
from tuwen.errors import BundleNotFound, InvalidInput


def ending(error: BaseException):
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BundleNotFound("no model x\nhere"), 1, "tuwen: error: no model x here\n"),
        (InvalidInput("k is 0"), 2, "tuwen: error: k is 0\n"),
        (OSError(28, "No space left on device", "a.png"), 1, "tuwen: error: No space left on device: a.png\n"),
        (KeyboardInterrupt(), 130, "tuwen: stopped\n"),
        (click.Abort(), 130, "tuwen: stopped\n"),
    ],
)
def test_an_error_is_one_line_and_a_code(capsys, error: BaseException, code: int, line: str) -> None:
    assert exit_code(ending(error)) == code
    captured = capsys.readouterr()
    assert captured.err == line
    assert captured.out == ""


def test_wrong_usage_is_click_s_to_tell(capsys) -> None:
    assert exit_code(ending(click.UsageError("no such option: --x"))) == 2
    assert "no such option: --x" in capsys.readouterr().err


def test_a_bug_is_one_line_and_its_traceback_is_for_who_asks(capsys, monkeypatch) -> None:
    assert exit_code(ending(KeyError("x"))) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "this is a bug in tuwen: KeyError: 'x'" in line
    monkeypatch.setenv("TUWEN_TRACEBACK", "1")
    assert exit_code(ending(KeyError("x"))) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "code"), [(None, 0), (0, 0), (3, 3), ("text", 0)])
def test_what_a_command_returns_is_its_code_if_it_is_a_number(value: object, code: int) -> None:
    assert exit_code(lambda: value) == code
