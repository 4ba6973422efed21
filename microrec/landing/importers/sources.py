"""Somebody's files as DuckDB sees them: CSV and JSON as text, Parquet with its types.

Every relation has, beside the file's columns, `row_no`: the place of a row in its file, from 1.
"""

import csv
import glob
import gzip
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from microrec.core import messages
from microrec.errors import LandingError
from microrec.landing.importers.mapping import Csv

ROW_NO = "row_no"
ENDINGS = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "json", ".ndjson": "json",
    ".json": "json", ".parquet": "parquet",
}  # fmt: skip
"""Format by the ending of a file's name, before `.gz`."""


@dataclass(frozen=True)
class Source:
    """A file, and the query that reads it."""

    path: Path
    columns: tuple[str, ...]
    """Names of its columns."""
    query: str
    """SELECT of its columns and `row_no`."""


def expanded(patterns: Iterable[str]) -> list[Path]:
    """Return the files that names and patterns stand for, each once, sorted.

    Args:
        patterns: paths, or patterns as a shell has them (`logs/*.csv.gz`, `**` for folders).

    Raises:
        LandingError: a name or pattern stands for no file, or a file has no known ending.
    """
    paths: set[Path] = set()
    for pattern in patterns:
        named = Path(pattern)
        matches = [named] if named.is_file() else map(Path, glob.glob(pattern, recursive=True))
        files = [path for path in matches if path.is_file()]
        if not files:
            raise LandingError(f"{messages.shown(pattern, 200)}: no such file")
        paths.update(files)
    for path in paths:
        _format(path)
    return sorted(paths)


def open_source(connection: duckdb.DuckDBPyConnection, path: Path, style: Csv) -> Source:
    """Find the columns of a file and how to read it.

    Args:
        connection: a DuckDB connection that may read the file.
        path: the file.
        style: how CSV files are written.

    Raises:
        LandingError: the file is empty or cannot be read, or two columns have one name.
    """
    kind = _format(path)
    if kind == "csv":
        columns, query = _csv(path, style)
    elif kind == "json":
        columns, query = _json(connection, path)
    else:
        columns, query = _parquet(connection, path)
    repeated = [name for name, n in Counter(c.lower() for c in columns).items() if n > 1]
    if repeated:
        raise LandingError(f"{path}: two columns are called {messages.shown(repeated[0])}")
    if ROW_NO not in map(str.lower, columns):
        query = f"SELECT *, row_number() OVER () AS {ROW_NO} FROM ({query})"
    return Source(path, tuple(columns), query)


def text(value: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def name(value: str) -> str:
    """Return the name of a column as SQL has it."""
    return '"' + value.replace('"', '""') + '"'


def _format(path: Path) -> str:
    ending = Path(path.name.removesuffix(".gz")).suffix.lower()
    if ending not in ENDINGS or (ending == ".parquet" and path.suffix == ".gz"):
        raise LandingError(
            f"{path}: unknown kind of file, expected one of {', '.join(ENDINGS)}, text also as .gz"
        )
    return ENDINGS[ending]


def _csv(path: Path, style: Csv) -> tuple[Sequence[str], str]:
    columns = style.header or _header(path, style)
    types = ", ".join(f"{text(column)}: 'VARCHAR'" for column in columns)
    return columns, (
        f"SELECT * FROM read_csv({_literal(path)}, auto_detect=false, columns={{{types}}},"
        f" header={not style.header}, delim={text(style.delimiter)}, quote={text(style.quote)},"
        f" escape={text(style.quote)}, encoding={text(style.encoding)}, strict_mode=true)"
    )


def _header(path: Path, style: Csv) -> list[str]:
    encoding = "utf-8-sig" if style.encoding == "utf-8" else style.encoding
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding=encoding, errors="replace", newline="") as stream:
            rows = csv.reader(stream, delimiter=style.delimiter, quotechar=style.quote)
            header = next(rows, [])
    except (OSError, EOFError, UnicodeError, csv.Error) as error:
        raise LandingError(f"{path}: its header cannot be read ({error})") from error
    if not any(column.strip() for column in header):
        raise LandingError(f"{path}: no header line; name the columns in [csv] header")
    return [column.strip() for column in header]


def _json(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[Sequence[str], str]:
    lines = Path(path.name.removesuffix(".gz")).suffix.lower() != ".json"
    layout = "newline_delimited" if lines else "auto"
    objects = f"read_json_objects({_literal(path)}, format='{layout}')"
    try:
        other = connection.execute(
            f"SELECT json_type(json) FROM {objects} WHERE json_type(json) <> 'OBJECT' LIMIT 1"
        ).fetchone()
        keys = connection.execute(
            f"SELECT DISTINCT unnest(json_keys(json)) AS key FROM {objects} ORDER BY key"
        ).fetchall()
    except duckdb.Error as error:
        raise LandingError(unreadable(path, error)) from error
    if other:
        raise LandingError(f"{path}: a line holds a JSON {other[0].lower()}, not an object")
    columns = [key for (key,) in keys]
    if not columns:
        raise LandingError(f"{path}: the file holds no object")
    # A pointer of RFC 6901, which any key can be written as.
    values = [
        f"json->>{text('/' + key.replace('~', '~0').replace('/', '~1'))} AS {name(key)}"
        for key in columns
    ]
    return columns, f"SELECT {', '.join(values)} FROM {objects}"


def _parquet(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[Sequence[str], str]:
    query = f"SELECT * FROM read_parquet({_literal(path)}, hive_partitioning=false)"
    try:
        columns = [row[0] for row in connection.execute(f"DESCRIBE {query}").fetchall()]
    except duckdb.Error as error:
        raise LandingError(unreadable(path, error)) from error
    return columns, query


def unreadable(path: Path, error: Exception) -> str:
    """Return the message about a file that DuckDB cannot read, in one line."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return messages.one_line(f"{path}: {' '.join(lines[:3])}")


def _literal(path: Path) -> str:
    # DuckDB would read `*`, `?` and `[` of a name as a pattern; in brackets they stand for themselves.
    escaped = "".join(f"[{sign}]" if sign in "*?[" else sign for sign in str(path.resolve()))
    return text(escaped)
