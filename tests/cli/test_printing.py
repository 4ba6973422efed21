"""Printing: text from outside is printed as it is, JSON can be parsed by anybody."""

import contextlib
import datetime as dt
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrec.cli import printing

MARKUP = ["[red]x[/red]", "[/]", "[bold", ":smile:", "[link=file:///etc]u[/link]", "\\[x]"]


@pytest.mark.parametrize("text", MARKUP)
def test_print_line_and_print_error_print_markup_literally(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printing.print_line(text)
    printing.print_error(f"MissingDay: {text}")
    printed = capsys.readouterr()
    assert printed.out == f"{text}\n"
    assert printed.err == f"MissingDay: {text}\n"


@pytest.mark.parametrize("text", MARKUP)
def test_print_table_prints_titles_columns_and_cells_literally(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printing.print_table(f"title {text}", [f"column {text}"], [{f"column {text}": f"cell {text}"}])
    printed = capsys.readouterr().out
    for part in ("title", "column", "cell"):
        assert f"{part} {text}" in printed


def test_print_table_escapes_control_characters_and_folds_no_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printing.print_table("t\x1b[2J", ["a", "b"], [{"a": "\x1b[2J\n", "b": "x" * 300}, {"a": 0.25}])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "t\\x1b[2J" in printed
    assert "\\x1b[2J\\n" in printed
    assert "x" * 300 in printed
    assert "0.2500" in printed


def test_print_json_has_iso_dates_and_null_for_what_is_not_finite(
    capsys: pytest.CaptureFixture[str],
) -> None:
    at = dt.datetime(2026, 1, 4, 12, tzinfo=dt.UTC)
    row = {
        "day": dt.date(2026, 1, 4), "at": at, "score": float("nan"), "n": 3, "none": None,
        "nested": [{"at": at, "low": float("inf")}], "id": "ü\x1b\n",
    }  # fmt: skip
    printing.print_json([row, {"a": 1}])
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first) == {
        "day": "2026-01-04", "at": "2026-01-04T12:00:00+00:00", "score": None, "n": 3, "none": None,
        "nested": [{"at": "2026-01-04T12:00:00+00:00", "low": None}], "id": "ü\x1b\n",
    }  # fmt: skip
    assert first.isascii()
    assert second == '{"a": 1}'


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.floats(), st.integers(), st.none())))
def test_print_json_prints_a_line_a_row_whatever_is_in_it(row: dict[str, object]) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        printing.print_json([row])
    (line,) = printed.getvalue().splitlines(keepends=True)
    assert line.count("\n") == 1
    assert json.loads(line).keys() == row.keys()
