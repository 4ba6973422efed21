"""The landing zone: where the producers' files lie, whether they are whole, how to lay them down.

Layout: `<landing>/<table>/day=YYYY-MM-DD/<any name>.{parquet,jsonl,jsonl.gz,csv,csv.gz}`. The
folder's day is the UTC day of **arrival**, not of what the rows describe. Names that start with
`_` or `.` are not data (a file being written, a marker, `_truth/`); a file of any other kind is an
error, because a file that is quietly skipped is a day that is quietly short.

Text formats, as `write` lays them down and as readers have to expect them:

- a CSV file has a header; a quote inside a value is doubled (RFC 4180; Spark needs `escape='"'`);
  an empty field is null; an array is its JSON text; no value holds a line break: a line is a row;
- JSON lines leave nulls out;
- times are ISO-8601 UTC with six decimals (`2026-01-01T08:00:00.000000Z`), in Parquet they are
  `timestamp[us, UTC]`;
- the last line ends with a newline: a text file that does not was cut off.

Producers are not trusted. A link that leads out of the landing zone, a pipe or a device, a name that ends a line in a
log, and a file that inflates beyond `Limits` are refused, each by name.

The bytes of a file depend on its rows alone (the gzip header carries no time): writing a day twice
changes nothing.
"""

import datetime as dt
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from microrec.core import arguments, messages
from microrec.errors import BadArgument, LandingError

TABLES = (
    "raw_interactions",
    "raw_videos",
    "raw_video_features",
    "raw_clip_features",
    "raw_privacy_requests",
)
KINDS = ("parquet", "jsonl", "jsonl.gz", "csv", "csv.gz")

_ISO = "%Y-%m-%dT%H:%M:%SZ"
_CHUNK = 1 << 20
_BATCH_ROWS = 10_000
_READ_ROWS = 65_536
_NESTED_ROWS = 1_024
_TEXT = "BYTE_ARRAY"
_BATCH_BYTES = 1 << 26


class Limits(BaseModel):
    """What a landing file may hold (section `[landing]` of the recipe); a night refuses a file with more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_bytes: int = Field(default=64 * 2**30, ge=1)
    """Bytes of a file as it is read: inflated, decoded."""
    ratio: int = Field(default=200, ge=1)
    """So many times its size on disk a file may grow, once it is beyond `free_bytes`. Logs grow five to fifty times."""
    free_bytes: int = Field(default=256 * 2**20, ge=1)
    """Up to here a file may grow as it likes: a small file of equal lines is no bomb."""
    value_bytes: int = Field(default=16 * 2**20, ge=_CHUNK)
    """Bytes of a line or of a Parquet value: Spark holds one whole. What is shorter and longer than `line_bytes` is
    refused alone."""
    line_bytes: int = Field(default=2**20, ge=1)
    """Bytes of a line or row that is read; a longer one is rejected (`line_too_long`), and its beginning kept."""
    columns: int = Field(default=1000, ge=1)
    """Columns of a Parquet file."""

    def allowed(self, size: int) -> int:
        """Bytes that a file of some bytes on disk may grow to."""
        return min(self.file_bytes, max(self.free_bytes, self.ratio * size))


DEFAULT = Limits()


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


def days(landing: str, table: str) -> list[dt.date]:
    """Days on which at least one data file of a table arrived, ascending.

    Raises:
        LandingError: a folder beside the days, or a file of an unknown kind.
    """
    root = _table_folder(landing, table)
    if not root.is_dir():
        return []
    found = [_day_of(folder) for folder in root.iterdir() if not _is_hidden(folder)]
    return sorted(day for day in found if files(landing, table, day))


def files(landing: str, table: str, day: dt.date) -> list[Path]:
    """Data files that arrived on a day, sorted by name; empty if none did.

    Raises:
        LandingError: an entry is a folder, has none of the endings of `KINDS`, leads out of the landing zone, is no
            plain file, or has a name that cannot be read or logged.
    """
    folder = _folder(landing, table, day)
    if not folder.is_dir():
        return []
    found = sorted(path for path in folder.iterdir() if not _is_hidden(path))
    landing_root = Path(landing).resolve()
    for path in found:
        kind_of(path)
        _refuse_strange(path, landing_root)
    return found


def stamp(landing: str, table: str, day: dt.date, *, back: int = 0) -> str:
    """One word for what arrived on a day and on so many days before: names, sizes and times of the files.

    Raises:
        LandingError: as `files`.
    """
    days_ = [day - dt.timedelta(days=ago) for ago in range(back + 1)]
    found = [(path, path.stat()) for one in days_ for path in files(landing, table, one)]
    words = [f"{_short(path)} {stat.st_size} {stat.st_mtime_ns}" for path, stat in found]
    return sha256("\n".join(words).encode()).hexdigest()[:16]


def kind_of(path: Path) -> str:
    """The kind of a data file, by its ending.

    Raises:
        LandingError: the entry is a folder or has none of the endings of `KINDS`.
    """
    if path.is_dir():
        raise LandingError(f"{_short(path)}: a folder inside a landing day")
    for kind in KINDS:
        if path.name.endswith("." + kind):
            return kind
    raise LandingError(f"{_short(path)}: unknown kind of file, expected one of {', '.join(KINDS)}")


def verify(path: Path, limits: Limits = DEFAULT) -> None:
    """Reads a file to its end, in constant memory, and says so if that cannot be done or it is beyond the limits.

    A gzip stream is inflated (its checksum covers every byte); a Parquet file is decoded batch by
    batch (with page checksums where the writer left them). This costs one pass. The alternative is
    a night that fails half way or, for text, one that is short and does not fail at all.

    Raises:
        LandingError: the file is empty, truncated, corrupt or a bomb; the message names file and reason.
    """
    kind = kind_of(path)
    size = path.stat().st_size
    if size == 0:
        raise LandingError(f"{_short(path)}: the file has zero bytes")
    if kind == "parquet":
        _verify_parquet(path, size, limits)
    else:
        _verify_text(path, size, limits)


def write(
    landing: str, table: str, day: dt.date, rows: pa.Table, *, kind: str, name: str = "part-0"
) -> Path:
    """Writes rows as one landing file, replacing a file of the same name.

    Args:
        landing: root of the landing zone.
        table: landing table.
        day: UTC day of arrival.
        rows: any columns; times are brought to microseconds UTC (a naive time is taken as UTC).
        kind: one of `KINDS`.
        name: file name without its ending.

    Returns:
        The path of the file.

    Raises:
        LandingError: unknown kind, unusable name, a line break inside a CSV value, or no rows at
            all in a JSON lines file (zero bytes cannot be told from a file that was cut off).
    """
    if kind == "parquet":
        return _lay_down(path_of(landing, table, day, kind=kind, name=name), _parquet_writer(rows))
    return write_lines(landing, table, day, lines_of(rows, kind), kind=kind, name=name)


def write_lines(
    landing: str, table: str, day: dt.date, lines: Sequence[str], *, kind: str, name: str = "part-0"
) -> Path:
    """Writes raw text lines as they are (for CSV, the header is the caller's first line).

    Raises:
        LandingError: the kind is not a text kind, the name is unusable, or there is no line.
    """
    path = path_of(landing, table, day, kind=kind, name=name)
    if kind == "parquet":
        raise LandingError(f"{_short(path)}: lines cannot be written as Parquet")
    if not lines:
        raise LandingError(f"{_short(path)}: no lines; an empty text file looks like a cut-off one")
    text = ("\n".join(lines) + "\n").encode()
    return _lay_down(path, _gzip_writer(text) if kind.endswith(".gz") else _bytes_writer(text))


def lines_of(rows: pa.Table, kind: str) -> list[str]:
    """The text lines of rows, a CSV header first.

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
    """Writes the files of a planted world and its truth (`_truth/truth.json`).

    Lines go into the middle of the typed rows of a text part, where a careless reader loses its
    footing; in a Parquet part they have no place and raise.

    Raises:
        LandingError: the landing zone holds other files of these tables (two worlds would be read
            as one).
    """
    planned = list(parts)
    _refuse_strangers(landing, planned)
    written = [_write_part(landing, part) for part in planned]
    if truth is not None:
        text = json.dumps(truth, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        path = Path(landing) / "_truth" / "truth.json"
        written.append(_lay_down(path, _bytes_writer(text.encode())))
    return written


def refuse_other_files(landing: str, table: str, keep: Iterable[Path]) -> None:
    """Refuses a landing table that holds data files other than the ones about to be written.

    Raises:
        LandingError: names the first such file and how many there are.
    """
    wanted = set(keep)
    others = [
        path
        for day in days(landing, table)
        for path in files(landing, table, day)
        if path not in wanted
    ]
    if others:
        raise LandingError(
            f"{_short(others[0])}: the landing zone {landing} already holds {len(others)} other"
            f" file(s) of {table}; choose an empty folder"
        )


def path_of(landing: str, table: str, day: dt.date, *, kind: str, name: str = "part-0") -> Path:
    """Where `write` puts a file.

    Raises:
        LandingError: unknown kind or unusable name.
    """
    path = _folder(landing, table, day) / f"{name}.{kind}"
    if kind not in KINDS:
        raise LandingError(
            f"{_short(path)}: unknown kind {kind!r}, expected one of {', '.join(KINDS)}"
        )
    if not name or name[0] in "_." or "/" in name:
        raise LandingError(f"{_short(path)}: {name!r} is no name for a data file")
    return path


def _refuse_strangers(landing: str, parts: Sequence[Part]) -> None:
    for table in TABLES:
        mine = (part for part in parts if part.table == table)
        keep = [path_of(landing, table, p.day, kind=p.kind, name=p.name) for p in mine]
        refuse_other_files(landing, table, keep)


def _write_part(landing: str, part: Part) -> Path:
    if part.rows is not None and not part.lines:
        return write(landing, part.table, part.day, part.rows, kind=part.kind, name=part.name)
    lines = [] if part.rows is None else lines_of(part.rows, part.kind)
    middle = (len(lines) + 1) // 2
    spliced = [*lines[:middle], *part.lines, *lines[middle:]]
    return write_lines(landing, part.table, part.day, spliced, kind=part.kind, name=part.name)


def _table_folder(landing: str, table: str) -> Path:
    if "://" in landing:
        raise LandingError(
            f"landing {landing.split('://')[0]}://...: a landing zone is a folder; mount the bucket or copy the day"
        )
    if not landing.strip():
        raise LandingError("landing: no folder is named (MICROREC_LANDING)")
    if table not in TABLES:
        raise LandingError(f"{messages.shown(table)}: not one of {', '.join(TABLES)}")
    return Path(landing) / table


def _folder(landing: str, table: str, day: dt.date) -> Path:
    return _table_folder(landing, table) / f"day={day.isoformat()}"


def _day_of(folder: Path) -> dt.date:
    try:
        # Exactly: a folder `day=20260101` would be taken for a day that is looked for under another name.
        return arguments.day(folder.name.removeprefix("day=") * folder.name.startswith("day="))
    except BadArgument as error:
        raise LandingError(f"{_short(folder)}: not a folder day=YYYY-MM-DD") from error


def _refuse_strange(path: Path, landing_root: Path) -> None:
    """What a reader would follow out of the zone, wait for without end, misread or log as two lines."""
    name = path.name
    if messages.plain(name) != name or ":" in name:
        raise LandingError(
            f"{_short(path)}: control characters, `:` or bytes that are no UTF-8 in its name"
        )
    if not path.resolve().is_relative_to(landing_root):
        raise LandingError(f"{_short(path)}: a link that leads out of the landing zone")
    if not path.is_file():
        raise LandingError(f"{_short(path)}: not a plain file")


def _is_hidden(path: Path) -> bool:
    return path.name[0] in "_."


def _short(path: Path) -> str:
    """Table, day and file: enough to find it, whatever the landing zone is called."""
    return messages.plain("/".join(path.parts[-3:]))


def _verify_text(path: Path, size: int, limits: Limits) -> None:
    last, total, open_line = b"", 0, 0
    allowed = limits.allowed(size)
    try:
        with _open_text(path) as stream:
            while chunk := stream.read(_CHUNK):
                last, total = chunk, total + len(chunk)
                if total > allowed:
                    raise _bomb(path, size, allowed)
                # A line within a chunk is no longer than the chunk: only those across chunks are measured.
                first = chunk.find(b"\n")
                open_line += len(chunk) if first < 0 else first
                if open_line > limits.value_bytes:
                    raise _too_long(path, "line", limits)
                if first >= 0:
                    open_line = len(chunk) - chunk.rfind(b"\n") - 1
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise LandingError(f"{_short(path)}: truncated or corrupt gzip ({error})") from error
    if not last:
        raise LandingError(f"{_short(path)}: the file holds no line")
    if not last.endswith(b"\n"):
        raise LandingError(f"{_short(path)}: cut off in the middle of its last line (no newline)")


def _bomb(path: Path, size: int, allowed: int) -> LandingError:
    return LandingError(
        f"{_short(path)}: its {size} bytes grow beyond {allowed} as it is read; if it is sound, have it delivered in"
        " parts or raise file_bytes or ratio in [landing] of the recipe"
    )


def _too_long(path: Path, what: str, limits: Limits) -> LandingError:
    return LandingError(
        f"{_short(path)}: a {what} of more than {limits.value_bytes} bytes; if it is sound, raise value_bytes in"
        " [landing] of the recipe"
    )


def _open_text(path: Path) -> IO[bytes] | gzip.GzipFile:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rb")
    return path.open("rb")


def _verify_parquet(path: Path, size: int, limits: Limits) -> None:
    try:
        texts = _texts(path, pq.read_metadata(path), size, limits)
        with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=texts) as file:
            _check_offsets(path, file.metadata, size)
            n_rows = _read_all(path, file, size, limits)
            if n_rows != file.metadata.num_rows:
                raise LandingError(
                    f"{_short(path)}: {n_rows} rows, its footer says {file.metadata.num_rows}"
                )
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise LandingError(f"{_short(path)}: truncated or corrupt Parquet ({reason})") from error


def _texts(path: Path, metadata: pq.FileMetaData, size: int, limits: Limits) -> list[str]:
    """Flat columns of bytes, which are read as a dictionary: a text that is named a billion times is held once.

    Raises:
        LandingError: what the footer says is beyond the limits.
    """
    allowed, declared = limits.allowed(size), 0
    if metadata.num_columns > limits.columns:
        raise LandingError(
            f"{_short(path)}: {metadata.num_columns} columns, more than {limits.columns}"
        )
    for group in (metadata.row_group(number) for number in range(metadata.num_row_groups)):
        for column in (group.column(position) for position in range(metadata.num_columns)):
            # A run of equal numbers takes no bytes in the file and all of them in memory.
            width = _WIDTHS.get(column.physical_type, 0)
            declared += max(column.total_uncompressed_size, column.num_values * width)
        if declared > allowed:
            raise _bomb(path, size, allowed)
    columns = [metadata.schema.column(position) for position in range(metadata.num_columns)]
    return [one.path for one in columns if one.physical_type == _TEXT and "." not in one.path]


def _read_all(path: Path, file: pq.ParquetFile, size: int, limits: Limits) -> int:
    """Decode a file and count its rows."""
    n_rows, total, allowed = 0, 0, limits.allowed(size)
    for batch in file.iter_batches(batch_size=_rows_at_once(file.metadata)):
        n_rows += batch.num_rows
        for n_bytes, longest in map(_measured, batch.columns):
            total += n_bytes
            if longest > limits.value_bytes:
                raise _too_long(path, "value", limits)
        if total > allowed:
            raise _bomb(path, size, allowed)
    return n_rows


def _measured(column: pa.Array) -> tuple[int, int]:
    """Bytes of all values of a column, each counted as often as it is named, and of the longest text."""
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = column.flatten()
    if not pa.types.is_dictionary(column.type):
        return column.nbytes, 0
    lengths = pc.binary_length(column.dictionary)
    named = pc.sum(lengths.take(column.indices)).as_py()
    return named or 0, pc.max(lengths).as_py() or 0


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    """Rows of a batch: fewer where rows are long lists, or lists of texts, which no dictionary holds."""
    columns = [metadata.schema.column(position) for position in range(metadata.num_columns)]
    nested = any(one.physical_type == _TEXT and "." in one.path for one in columns)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    values = [
        group.column(position).num_values / max(group.num_rows, 1)
        for group in groups
        for position in range(metadata.num_columns)
    ]
    most = _NESTED_ROWS if nested else _READ_ROWS
    return max(1, min(most, int(_BATCH_BYTES / 8 / max([*values, 1]))))


_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}
"""Bytes of a value in memory."""


def _check_offsets(path: Path, metadata: pq.FileMetaData, size: int) -> None:
    """A footer that points past its own file was glued onto a shorter body."""
    body = size - metadata.serialized_size - 8
    for group in range(metadata.num_row_groups):
        for position in range(metadata.num_columns):
            column = metadata.row_group(group).column(position)
            start = column.dictionary_page_offset or column.data_page_offset
            if start + column.total_compressed_size > body:
                raise LandingError(
                    f"{_short(path)}: row group {group} of column {column.path_in_schema} ends"
                    f" past the file's {size} bytes"
                )


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
            yield json.dumps(present, ensure_ascii=False)


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
    texts = (
        None if value is None else json.dumps(value, ensure_ascii=False)
        for value in values.to_pylist()
    )
    return pa.array(texts, pa.string())


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
