"""What the warehouse holds of a person, as files that can be taken along: JSON lines, a file a table.

Rows are those that an erasure would take: of the person's id, of the person's index in `users` of a day, raw lines that
quote the person, uploads where authors are users. Messages that quote several people are left out.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from microrec.errors import BadArgument
from microrec.privacy.erasure import indices_by_day
from microrec.privacy.people import People
from microrec.privacy.quotes import Ids
from microrec.privacy.rewriting import Rewriter
from microrec.tables.arrow import Warehouse

logger = logging.getLogger(__name__)

ABOUT = "about.json"
"""What the files are: of each its table, rows and columns."""


def export(
    warehouse: Warehouse, user_id: str, folder: Path, *, authors_are_users: bool
) -> dict[str, int]:
    """Write the rows of all tables that are about a person, as they are now.

    Args:
        warehouse: has the tables.
        user_id: whose.
        folder: is made, and must be empty.
        authors_are_users: whether an `author_id` is a `user_id`.

    Returns:
        Number of rows by table; tables without any are left out.

    Raises:
        BadArgument: the folder has files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BadArgument(f"{folder}: has files; name an empty folder")
    ids = Ids([user_id])
    people = People(ids, indices_by_day(warehouse, ids), authors_are_users)
    counts = {}
    about = []
    for name in warehouse.tables():
        contract = warehouse.table(name).contract
        n_rows = _write(folder / f"{name}.jsonl", rows_of(warehouse, name, people))
        if n_rows:
            counts[name] = n_rows
            columns = [
                {"name": column.name, "classification": column.classification}
                for column in contract.columns
            ]
            about.append({"table": name, "rows": n_rows, "columns": columns})
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n")
    return counts


def rows_of(warehouse: Warehouse, name: str, people: People) -> Iterator[pa.Table]:
    """Yield the rows of a table that are about some people, with all its columns.

    Args:
        warehouse: has the table.
        name: of the table; of one that nothing was ever committed to there are no rows.
        people: whose rows are wanted.

    Yields:
        Rows of one row group at a time, [n_rows] each.
    """
    table = warehouse.table(name)
    if table.open() is None:
        return
    rewriter = Rewriter(table, people, "")
    files = table.files()
    touched = rewriter.touched(files)
    for path in sorted(touched, key=lambda path: (str(files[path]), path)):
        values = files[path]
        for rows in rewriter.groups(path):
            theirs = rows.filter(people.about(table.contract, rows, str(values["day"])))
            for column in table.contract.partition:
                field = table.contract.schema.field(column)
                value = pa.scalar(values[column], pa.string()).cast(field.type)
                theirs = theirs.append_column(field.name, pa.repeat(value, theirs.num_rows))
            if theirs.num_rows:
                yield theirs.select(table.contract.schema.names)


def _write(path: Path, parts: Iterator[pa.Table]) -> int:
    """Write rows as JSON lines; without rows there is no file."""
    n_rows = 0
    for rows in parts:
        with path.open("a") as file:
            file.writelines(f"{_line(row)}\n" for row in rows.to_pylist())
        n_rows += rows.num_rows
    return n_rows


def _line(row: dict[str, Any]) -> str:
    """A row as JSON; days and instants as ISO 8601."""
    return json.dumps(row, ensure_ascii=False, default=lambda value: value.isoformat())
