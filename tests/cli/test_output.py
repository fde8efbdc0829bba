import json
import random
import unicodedata

import click
import pytest

from tuwen.cli import console as output
from tuwen.cli.main import COMMANDS, tuwen
from tuwen.types import Rejected


def width(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


def test_a_table_fits_80_columns_with_wide_letters(capsys) -> None:
    path = "照片/二〇二三年/" + "很长的文件名" * 10 + ".jpg"
    output.table(("rank", "score", "path"), [(1, "0.312", path), (20, "0.300", "cat.jpg")], numbers=(0, 1))
    lines = capsys.readouterr().out.splitlines()
    assert max(width(line) for line in lines) <= 80
    assert lines[0].split() == ["rank", "score", "path"]
    assert "".join("".join(line.split()) for line in lines[1:-1]) == f"10.312{path}", "nothing is cut off"
    assert lines[-1] == "  20  0.300  cat.jpg"


@pytest.mark.parametrize(
    ("length", "line"), [(75, "m" * 75 + "  512"), (76, "m" * 76 + " 512"), (77, "m" * 75 + "  512")]
)
def test_columns_stand_closer_where_that_spares_a_line(capsys, length: int, line: str) -> None:
    output.table(("model", "dim"), [("m" * length, 512)], numbers=(1,))
    assert capsys.readouterr().out.splitlines()[1] == line


def test_a_table_looks_the_same_with_and_without_rich() -> None:
    draw = random.Random(0)

    def cell() -> str:
        return "".join(draw.choices("ab [/]0.", k=draw.randint(0, 12))).strip()

    fitted = 0
    for _ in range(300):
        columns = draw.randint(1, 8)
        cells = [[cell() for _ in range(columns)] for _ in range(draw.randint(1, 6))]
        numbers = draw.sample(range(columns), draw.randint(0, columns))
        if quick := output._fitting(cells, 80, numbers):
            fitted += 1
            slow = output._wrapped(cells, 80, numbers)
            assert [line.rstrip() for line in quick] == [line.rstrip() for line in slow]
    assert 200 < fitted < 300, "both kinds of tables were drawn"


def test_a_table_takes_markup_as_text_and_steers_no_terminal(capsys) -> None:
    output.table(("path",), [("[red]a[/red]\x1b[2J\n.jpg",)])
    out = capsys.readouterr().out
    assert "[red]a[/red]\\x1b[2J\\n.jpg" in out
    assert "\x1b" not in out


def test_json_keeps_letters_as_they_are(capsys) -> None:
    output.emit({"path": "猫.jpg"})
    out = capsys.readouterr().out
    assert "猫" in out
    assert json.loads(out) == {"path": "猫.jpg"}


def test_rejected_inputs_are_listed_a_line_each(capsys) -> None:
    output.list_rejected([Rejected("a\nb.jpg", "is cut short"), Rejected("c.png", "is empty")])
    captured = capsys.readouterr()
    assert captured.err == "tuwen: rejected: a\\nb.jpg: is cut short\ntuwen: rejected: c.png: is empty\n"
    assert captured.out == ""


@pytest.mark.parametrize(("number", "text"), [(0, "0 rows"), (1, "1 row"), (20_000, "20,000 rows")])
def test_counts_are_words(number: int, text: str) -> None:
    assert output.count(number, "row") == text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_the_group_has_the_first_line_of_each_command(name: str) -> None:
    command = tuwen.get_command(click.Context(tuwen), name)
    assert command.help.splitlines()[0] == COMMANDS[name][1]
