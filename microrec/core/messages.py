"""Text from outside as messages and logs show it: cut, escaped, in one line."""

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move a cursor, end a line or turn writing around."""


def shown(value: object, width: int = 60) -> str:
    """Return a value from outside as a message shows it: quoted, cut, in one line.

    Args:
        value: any object; its text is shown.
        width: characters that are kept.

    Returns:
        The text in single quotes, and its length where it was cut. Quotes and backslashes within are escaped, so that
        where the value ends is plain: an alert leaves out what is quoted.
    """
    text = str(value)
    escaped = text[:width].replace("\\", "\\\\").replace("'", "\\'")
    return f"'{plain(escaped)}'" + (f" ({len(text)} characters)" if len(text) > width else "")


def plain(text: str) -> str:
    """Return a text with an escape in place of each character of `CONTROL`."""
    return CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def one_line(text: str, width: int = 4000) -> str:
    """Return a message in one line of bounded length: a task's alert is the last line that was printed.

    Args:
        text: of any number of lines.
        width: characters that are kept.

    Returns:
        The lines joined by spaces, escaped as by `plain`, with ` ...` where they were cut.
    """
    line = plain(" ".join(part.strip() for part in text.splitlines() if part.strip()))
    return line if len(line) <= width else f"{line[:width]} ..."
