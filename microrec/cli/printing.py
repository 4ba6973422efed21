"""What commands print: lines, tables and JSON lines on standard output, errors on standard error.

Text from outside (ids, titles, reasons, paths) is printed as it is: brackets are no rich markup, colons no emoji, and
control characters are escaped, so that none moves the cursor.

JSON is one object a line, ASCII, with stable keys; days and instants are ISO 8601, figures that are not finite null.
"""

import datetime as dt
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from microrec.core import messages

WIDE = 1000
"""Columns of a table that is written to a file or a pipe: folded ids cannot be searched for."""
ERROR = "bold red"
"""Style of errors."""

output = Console(highlight=False, markup=False, emoji=False)
"""Standard output."""
errors = Console(highlight=False, markup=False, emoji=False, stderr=True)
"""Standard error."""


def print_line(text: str, *, style: str | None = None) -> None:
    """Print a line on standard output.

    Args:
        text: the line.
        style: a style of rich.
    """
    output.print(messages.plain(text), style=style, soft_wrap=True)


def print_error(text: str) -> None:
    """Print an error on standard error, in one line: a task's alert is the last line that was printed."""
    errors.print(messages.one_line(text), style=ERROR, soft_wrap=True)


def print_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows as JSON lines, one object a row."""
    for row in rows:
        output.file.write(json.dumps(_jsonable(row), allow_nan=False) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows as a table; on a terminal as wide as that, elsewhere without folded lines.

    Args:
        title: stands above the table.
        columns: names of the columns; of a row only these are shown, and nothing where it lacks one.
        rows: one mapping a row, by column.
    """
    table = Table()
    for column in columns:
        table.add_column(Text(column), overflow="fold", no_wrap=column == columns[0])
    for row in rows:
        table.add_row(*[Text(messages.plain(_cell(row.get(column)))) for column in columns])
    print_line(title, style="italic")
    wide = Console(file=output.file, highlight=False, width=WIDE)
    (output if output.is_terminal else wide).print(table)


def print_rows(
    title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, as_json: bool
) -> None:
    """Print rows as JSON lines or as a table.

    Args:
        title: stands above the table.
        columns: names of the table's columns.
        rows: one mapping a row; as JSON all its keys are printed.
        as_json: whether the option `--json` was given.
    """
    if as_json:
        print_json(rows)
    else:
        print_table(title, columns, rows)


def hide_table_logs() -> None:
    """Keep the log lines of tables that are read off the terminal; warnings stay."""
    logging.getLogger("microrec").setLevel(logging.WARNING)


def _jsonable(value: Any) -> Any:
    """Return a value as `json` can write it."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else str(value)
