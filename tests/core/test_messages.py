"""Text from outside is quoted, cut and put in one line before it is shown."""

import pytest

from microrec.core import messages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("abc\u202edef", "abc\\u202edef"),
        ("\ud800", "\\ud800"),
        ("äß 漢字", "äß 漢字"),
    ],
    ids=["line end", "colour", "turned writing", "surrogate", "letters"],
)
def test_plain_control_characters_are_escaped(text: str, expected: str) -> None:
    assert messages.plain(text) == expected


def test_shown_long_value_is_cut_with_its_length() -> None:
    assert messages.shown("x" * 61) == f"'{'x' * 60}' (61 characters)"
    assert messages.shown("x" * 60) == f"'{'x' * 60}'"


def test_one_line_many_lines_are_joined_and_cut() -> None:
    assert messages.one_line("  first \n\n\tsecond\n") == "first second"
    assert messages.one_line("ab" * 5, width=4) == "abab ..."
