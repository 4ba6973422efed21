"""How to write landing files: rows or text lines as one file, and the files of a planted world.

Text formats, as they are written here and as readers have to expect them:

- a CSV file has a header; a quote inside a value is doubled (RFC 4180; Spark needs `escape='"'`); an empty field is
  null; an array is its JSON text; no value holds a line break: a line is a row;
- JSON lines leave nulls out;
- times are ISO-8601 UTC with six decimals (`2026-01-01T08:00:00.000000Z`), in Parquet they are `timestamp[us, UTC]`;
- the last line ends with a newline: a text file that does not was cut off.

The bytes of a file depend on its rows alone (the gzip header carries no time): writing a day twice changes nothing.
"""

import datetime as dt
import gzip
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from microrec.errors import LandingError
from microrec.landing import zone
from microrec.landing.zone import short_path

_ISO = "%Y-%m-%dT%H:%M:%SZ"
_BATCH_ROWS = 10_000


class Part(Protocol):
    """One file to be: typed rows, raw text lines, or both (see `write_world`)."""

    @property
    def table(self) -> str:
        """Landing table."""

    @property
    def day(self) -> dt.date:
        """UTC day of arrival."""

    @property
    def name(self) -> str:
        """File name without its ending."""

    @property
    def kind(self) -> str:
        """One of `KINDS`."""

    @property
    def rows(self) -> pa.Table | None:
        """Rows that fit the table's types."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines that no typed row can hold."""


def write_rows(
    landing: str, table: str, day: dt.date, rows: pa.Table, *, kind: str, name: str = "part-0"
) -> Path:
    """Write rows as one landing file, replacing a file of the same name.

    Args:
        landing: root of the landing zone.
        table: landing table.
        day: UTC day of arrival.
        rows: any columns, one row per line; times are brought to microseconds UTC (a naive time is taken as UTC).
        kind: one of `KINDS`.
        name: file name without its ending.

    Returns:
        The path of the file.

    Raises:
        LandingError: unknown kind, unusable name, a line break inside a CSV value, or no rows at
            all in a JSON lines file (zero bytes cannot be told from a file that was cut off).
    """
    if kind == "parquet":
        return _lay_down(
            zone.path_of(landing, table, day, kind=kind, name=name), _parquet_writer(rows)
        )
    return write_lines(landing, table, day, lines_of(rows, kind), kind=kind, name=name)


def write_lines(
    landing: str, table: str, day: dt.date, lines: Sequence[str], *, kind: str, name: str = "part-0"
) -> Path:
    """Write raw text lines as they are (for CSV, the header is the caller's first line).

    Args:
        landing: root of the landing zone.
        table: landing table.
        day: UTC day of arrival.
        lines: without line breaks.
        kind: a text kind of `KINDS`.
        name: file name without its ending.

    Returns:
        The path of the file.

    Raises:
        LandingError: the kind is not a text kind, the name is unusable, or there is no line.
    """
    path = zone.path_of(landing, table, day, kind=kind, name=name)
    if kind == "parquet":
        raise LandingError(f"{short_path(path)}: lines cannot be written as Parquet")
    if not lines:
        raise LandingError(
            f"{short_path(path)}: no lines; an empty text file looks like a cut-off one"
        )
    text = ("\n".join(lines) + "\n").encode()
    return _lay_down(path, _gzip_writer(text) if kind.endswith(".gz") else _bytes_writer(text))


def lines_of(rows: pa.Table, kind: str) -> list[str]:
    """Return the text lines of rows, a CSV header first.

    Args:
        rows: any columns, one row per line.
        kind: a text kind of `KINDS`.

    Raises:
        LandingError: unknown text kind, or a line break inside a CSV value.
    """
    if kind.removesuffix(".gz") == "jsonl":
        return list(_json_lines(rows))
    if kind.removesuffix(".gz") == "csv":
        return _csv_lines(rows)
    raise LandingError(f"no text lines of kind {kind!r}")


def write_world(
    landing: str, parts: Iterable[Part], *, truth: Mapping[str, object] | None = None
) -> list[Path]:
    """Write the files of a planted world and its truth (`_truth/truth.json`).

    Raw lines go into the middle of the typed rows of a text part, where a careless reader fails; a Parquet part holds
    none and raises.

    Args:
        landing: root of the landing zone.
        parts: the files to be.
        truth: what is known about the world; no file if left out.

    Returns:
        Paths of the files, in the order of the parts, that of the truth last.

    Raises:
        LandingError: the landing zone holds other files of these tables (two worlds would be read as one).
    """
    planned = list(parts)
    _refuse_strangers(landing, planned)
    written = [_write_part(landing, part) for part in planned]
    if truth is not None:
        text = json.dumps(truth, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        path = Path(landing) / "_truth" / "truth.json"
        written.append(_lay_down(path, _bytes_writer(text.encode())))
    return written


def write_file(landing: str, path: str, content: bytes) -> Path:
    """Write a file that `raw_media` names, whole or not at all; one that is there is replaced.

    Args:
        landing: root of the landing zone.
        path: from the root.
        content: of the file.

    Returns:
        Its path.
    """
    return _lay_down(Path(landing) / path, _bytes_writer(content))


def refuse_other_files(landing: str, table: str, keep: Iterable[Path]) -> None:
    """Refuse a landing table that holds data files other than the ones about to be written.

    Args:
        landing: root of the landing zone.
        table: landing table.
        keep: paths of the files to be written.

    Raises:
        LandingError: names the first such file and how many there are.
    """
    wanted = set(keep)
    others = [
        path
        for day in zone.days(landing, table)
        for path in zone.files(landing, table, day)
        if path not in wanted
    ]
    if others:
        raise LandingError(
            f"{short_path(others[0])}: the landing zone {landing} already holds {len(others)} other"
            f" file(s) of {table}; choose an empty folder"
        )


def _refuse_strangers(landing: str, parts: Sequence[Part]) -> None:
    for table in zone.TABLES:
        mine = (part for part in parts if part.table == table)
        keep = [zone.path_of(landing, table, p.day, kind=p.kind, name=p.name) for p in mine]
        refuse_other_files(landing, table, keep)


def _write_part(landing: str, part: Part) -> Path:
    if part.rows is not None and not part.lines:
        return write_rows(landing, part.table, part.day, part.rows, kind=part.kind, name=part.name)
    lines = [] if part.rows is None else lines_of(part.rows, part.kind)
    middle = (len(lines) + 1) // 2
    spliced = [*lines[:middle], *part.lines, *lines[middle:]]
    return write_lines(landing, part.table, part.day, spliced, kind=part.kind, name=part.name)


def _in_utc_microseconds(rows: pa.Table) -> pa.Table:
    """Times as `timestamp[us, UTC]`; what is finer than a microsecond is cut off."""
    for position, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            times = rows.column(position).cast(pa.timestamp("us", tz="UTC"), safe=False)
            rows = rows.set_column(position, field.name, times)
    return rows


def _in_iso_text(rows: pa.Table) -> pa.Table:
    rows = _in_utc_microseconds(rows)
    for position, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            text = pc.strftime(rows.column(position), format=_ISO)
            rows = rows.set_column(position, field.name, text)
    return rows


def _json_lines(rows: pa.Table) -> Iterator[str]:
    for batch in _in_iso_text(rows).to_batches(max_chunksize=_BATCH_ROWS):
        for row in batch.to_pylist():
            present = {column: value for column, value in row.items() if value is not None}
            yield _json(present)


def _csv_lines(rows: pa.Table) -> list[str]:
    flat = _in_iso_text(rows)
    for position, field in enumerate(flat.schema):
        if pa.types.is_list(field.type):
            flat = flat.set_column(position, field.name, _json_texts(flat.column(position)))
    _refuse_line_breaks(flat)
    sink = io.BytesIO()
    pcsv.write_csv(flat, sink)
    return sink.getvalue().decode().split("\n")[:-1]


def _json_texts(values: pa.ChunkedArray) -> pa.Array:
    texts = (None if value is None else _json(value) for value in values.to_pylist())
    return pa.array(texts, pa.string())


def _json(value: Any) -> str:
    """JSON text; JSON has no NaN and no Infinity, so they are null."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refuse_line_breaks(rows: pa.Table) -> None:
    for name in rows.column_names:
        column = rows.column(name)
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            continue
        n_broken = pc.sum(pc.match_substring_regex(column, r"[\r\n]")).as_py() or 0
        if n_broken:
            raise LandingError(f"{name}: {n_broken} value(s) with a line break; CSV rows are lines")


def _parquet_writer(rows: pa.Table) -> Callable[[Path], None]:
    typed = _in_utc_microseconds(rows)
    return lambda path: pq.write_table(typed, path, compression="zstd", write_page_checksum=True)


def _bytes_writer(content: bytes) -> Callable[[Path], None]:
    def store(path: Path) -> None:
        path.write_bytes(content)

    return store


def _gzip_writer(content: bytes) -> Callable[[Path], None]:
    return _bytes_writer(gzip.compress(content, compresslevel=6, mtime=0))


def _lay_down(path: Path, store: Callable[[Path], None]) -> Path:
    """Writes under a hidden name, then renames: a reader meets a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"_{path.name}.{os.getpid()}")
    try:
        store(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
