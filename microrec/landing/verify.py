"""Whether a landing file is whole, and how it is to be read: one pass, in constant memory, within the recipe's limits.

A file that is empty, cut off or corrupt, or that inflates beyond `Limits`, is refused by name.
"""

import collections
import contextlib
import gzip
import itertools
import json
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, field_validator

from microrec.config.recipe import Recipe
from microrec.core import messages
from microrec.errors import LandingError
from microrec.landing import parquet, records
from microrec.landing.zone import TABLES, kind_of, short_path

_CHUNK = 1 << 20
_READ_ROWS = 65_536
_NESTED_ROWS = 1_024
_TEXT = "BYTE_ARRAY"
_BATCH_BYTES = 1 << 26
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}
"""Bytes of a value in memory."""
_DELTA = {"DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"}
_SAMPLE = 1_000
"""JSON lines in which unknown keys are looked for."""
_LINE_FIELDS = 20_000
"""Bytes of a CSV line, and so its fields, that Spark's parser surely takes: it ends the job at 20,480 fields."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BEFORE_QUOTE = np.isin(np.arange(256), [ord(","), ord("\n"), ord('"')])
_AFTER_QUOTE = np.isin(np.arange(256), [ord(","), ord("\n"), ord("\r"), ord('"')])


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
    """Bytes of a Parquet value, or of a CSV record that spans lines: one is held whole, and a file with a longer one is
    refused. No more of a line is held."""
    line_bytes: int = Field(default=2**20, ge=1)
    """Bytes of a line or row that is read; a longer one is rejected (`line_too_long`), and its beginning kept."""
    columns: int = Field(default=1000, ge=1)
    """Columns of a Parquet or CSV file."""
    refuse_unknown_columns: tuple[str, ...] = ()
    """Tables of which a file with an unknown column (or JSON key) is refused. Elsewhere a warning names such columns,
    and they are passed over."""

    @field_validator("refuse_unknown_columns")
    @classmethod
    def _are_tables(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(names) - set(TABLES))
        if unknown:
            raise ValueError(f"{unknown}: not among {', '.join(TABLES)}")
        return names

    @property
    def sizes(self) -> records.Sizes:
        """What the reader of text records holds in memory."""
        return records.Sizes(line=self.line_bytes, record=self.value_bytes)

    def allowed(self, size: int) -> int:
        """Return the bytes that a file of `size` bytes on disk may grow to as it is read."""
        return min(self.file_bytes, max(self.free_bytes, self.ratio * size))


DEFAULT = Limits()


def limits_of(recipe: Recipe) -> Limits:
    """Return the limits that a recipe sets.

    Raises:
        RecipeError: its section is refused.
    """
    return recipe.section("landing", Limits)


class Findings(NamedTuple):
    """What the pass over a whole file has found."""

    by_record: bool = False
    """Spark's own readers would misread the file or end with an exception: `records` reads it."""
    columns: tuple[str, ...] = ()
    """Names of a CSV file's header; keys of the objects of JSON lines, in the order they were met."""
    header: str = ""
    """The header of a CSV file as delivered."""


def verify_file(path: Path, limits: Limits = DEFAULT, *, all_keys: bool = False) -> Findings:
    """Read a file to its end, in constant memory, and refuse it if that cannot be done or it is beyond the limits.

    A gzip stream is inflated (its checksum covers every byte); a Parquet file is decoded batch by batch (with page
    checksums where the writer left them). This costs one pass. The alternative is a night that fails half way or, for
    text, one that is short and does not fail at all. A second pass reads a CSV file record by record if quotes, bare
    carriage returns, NUL, very long lines or its repeated header make lines and records differ.

    Args:
        path: the file.
        limits: what it may hold.
        all_keys: look for keys in all JSON lines, instead of the first `_SAMPLE`.

    Returns:
        How the file is to be read; of Parquet files nothing is said.

    Raises:
        LandingError: the file is empty, truncated, corrupt or a bomb, is no text in UTF-8, has broken quotes, or is one
            JSON document instead of lines; the message names file and reason, and the line where there is one.
    """
    kind = kind_of(path)
    size = path.stat().st_size
    if size == 0:
        raise LandingError(f"{short_path(path)}: the file has zero bytes")
    if kind == "parquet":
        _verify_parquet(path, size, limits)
        return Findings()
    is_csv = kind.startswith("csv")
    by_record = _verify_text(path, size, limits, is_csv=is_csv)
    if is_csv:
        header = _header(path, limits, whole=by_record)
        names = tuple((name or "").strip() for name in header.fields)
        return Findings(by_record, names, header.text)
    _refuse_document(path, limits)
    return Findings(by_record, _keys(path, limits, None if all_keys else _SAMPLE))


def _verify_text(path: Path, size: int, limits: Limits, *, is_csv: bool) -> bool:
    """Read a text file to its end; return whether it has to be read record by record."""
    total = 0
    last = b""
    allowed = limits.allowed(size)
    scan = _Scan(is_csv, _LINE_FIELDS if is_csv else limits.value_bytes)
    try:
        with records.open_text(path) as stream:
            while chunk := stream.read(_CHUNK):
                if not total and chunk.startswith(_UTF16):
                    raise LandingError(f"{short_path(path)}: UTF-16; text has to be UTF-8")
                last = chunk
                total += len(chunk)
                if total > allowed:
                    raise _bomb(path, size, allowed)
                scan.look_at(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise LandingError(f"{short_path(path)}: truncated or corrupt gzip ({error})") from error
    if not last:
        raise LandingError(f"{short_path(path)}: the file holds no line")
    if last.endswith(b"\r"):
        raise LandingError(
            f"{short_path(path)}: lines that end in CR; they have to end in LF or CR LF"
        )
    if not last.endswith(b"\n"):
        raise LandingError(
            f"{short_path(path)}: cut off in the middle of its last line (no newline)"
        )
    return not scan.is_plain or (path.suffix == ".gz" and not _is_one_member(path, total))


class _Scan:
    """Looks through a text file for what makes Spark's lines differ from records."""

    def __init__(self, is_csv: bool, longest: int) -> None:
        self.is_plain = True
        self._is_csv = is_csv
        self._longest = longest
        self._header = b""
        self._open_line = b""

    def look_at(self, chunk: bytes) -> None:
        """Take the next bytes of the file."""
        if not self.is_plain:
            return
        end = chunk.rfind(b"\n") + 1
        block = self._open_line + chunk[:end]
        self._open_line = chunk[end:] if end else block + chunk
        if not end:
            self.is_plain = len(self._open_line) <= self._longest
            return
        self.is_plain = self._is_plain(block)

    def _is_plain(self, block: bytes) -> bool:
        if block.count(b"\r") != block.count(b"\r\n") or _has_longer_line(block, self._longest):
            return False
        if not self._is_csv:
            return True
        rest = block
        if not self._header:
            self._header = block[: block.index(b"\n")].removeprefix(records.BOM).rstrip(b"\r")
            rest = block[block.index(b"\n") :]
        repeated = rest.startswith(self._header) or b"\n" + self._header in rest
        # Spark takes a byte order mark off each line that it parses: off a text of the first column.
        has_mark = b"\n" + records.BOM in block
        return b"\0" not in block and not (repeated or has_mark) and _quotes_are_plain(block)


def _has_longer_line(block: bytes, longest: int) -> bool:
    start = 0
    while start < len(block):
        end = block.rfind(b"\n", start, start + longest + 1)
        if end < 0:
            return True
        start = end + 1
    return False


def _quotes_are_plain(block: bytes) -> bool:
    """Whether quotes of whole lines stand as RFC 4180 has them, and none spans lines."""
    if b'"' not in block:
        return True
    codes = np.frombuffer(block, np.uint8)
    quotes = np.flatnonzero(codes == ord('"'))
    if len(quotes) % 2:
        return False
    # What stands before the first byte is the end of a line, as does the last byte.
    before = codes[quotes[::2] - 1]
    after = codes[quotes[1::2] + 1]
    line_ends = np.flatnonzero(codes == ord("\n"))
    n_before_end = np.searchsorted(quotes, line_ends)
    return bool(
        _BEFORE_QUOTE[before].all() and _AFTER_QUOTE[after].all() and not (n_before_end & 1).any()
    )


def _is_one_member(path: Path, total: int) -> bool:
    """Whether a gzip file of so many inflated bytes is one member: nothing follows the length it ends with."""
    with path.open("rb") as stream:
        stream.seek(-4, os.SEEK_END)
        return int.from_bytes(stream.read(4), "little") == total % 2**32


def _header(path: Path, limits: Limits, *, whole: bool) -> records.Record:
    """Return the header of a CSV file; read all records if lines are not records."""
    with contextlib.closing(records.csv_records(path, limits.sizes)) as delivered:
        header = next(delivered)
        if header.malformed or header.too_long:
            raise LandingError(
                f"{short_path(path)}: header: {'too long' if header.too_long else 'malformed'}:"
                f" {messages.shown(header.text)}"
            )
        if len(header.fields) > limits.columns:
            raise LandingError(
                f"{short_path(path)}: {len(header.fields)} columns, more than {limits.columns}"
            )
        if whole:
            collections.deque(delivered, maxlen=0)
    return header


def _refuse_document(path: Path, limits: Limits) -> None:
    """Refuse a file that is one array or one object over several lines."""
    with contextlib.closing(records.json_records(path, limits.sizes)) as delivered:
        written = (record for record in delivered if record.text.strip())
        head = list(itertools.islice(written, 2))
    if not head:
        return
    text = head[0].text.strip()
    if text.startswith("[") and (len(head) == 1 or not _is_json(text)):
        raise LandingError(
            f"{short_path(path)}: an array, not JSON lines: one object a line is read"
        )
    if text == "{":
        raise LandingError(
            f"{short_path(path)}: an object over several lines, not JSON lines: one object a line is read"
        )


def _keys(path: Path, limits: Limits, n_lines: int | None) -> tuple[str, ...]:
    """Return the keys of the objects of a JSON lines file; of its first lines if a number is given."""
    keys: dict[str, None] = {}
    with contextlib.closing(records.json_records(path, limits.sizes)) as delivered:
        for record in itertools.islice(delivered, n_lines):
            try:
                value = None if record.too_long else json.loads(record.text)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict) and len(keys) <= limits.columns:
                keys.update(dict.fromkeys(value))
    return tuple(keys)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _bomb(path: Path, size: int, allowed: int) -> LandingError:
    return LandingError(
        f"{short_path(path)}: its {size} bytes grow beyond {allowed} as it is read; if it is sound, have it delivered"
        " in parts or raise file_bytes or ratio in [landing] of the recipe"
    )


def _too_long(path: Path, what: str, limits: Limits) -> LandingError:
    return LandingError(
        f"{short_path(path)}: a {what} of more than {limits.value_bytes} bytes; if it is sound, raise value_bytes in"
        " [landing] of the recipe"
    )


def _verify_parquet(path: Path, size: int, limits: Limits) -> None:
    try:
        texts = _texts(path, pq.read_metadata(path), size, limits)
        with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=texts) as file:
            _check_offsets(path, file.metadata, size)
            n_rows = _read_all(path, file, size, limits)
            if n_rows != file.metadata.num_rows:
                raise LandingError(
                    f"{short_path(path)}: {n_rows} rows, its footer says {file.metadata.num_rows}"
                )
    except pa.ArrowNotImplementedError as error:
        reason = str(error).splitlines()[0]
        raise LandingError(
            f"{short_path(path)}: Parquet that is not read here ({reason})"
        ) from error
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise LandingError(
            f"{short_path(path)}: truncated or corrupt Parquet ({reason})"
        ) from error


def _texts(path: Path, metadata: pq.FileMetaData, size: int, limits: Limits) -> list[str]:
    """Flat columns of bytes, which are read as a dictionary: a text that is named a billion times is held once.

    Raises:
        LandingError: what the footer says is beyond the limits.
    """
    allowed = limits.allowed(size)
    declared = 0
    if metadata.num_columns > limits.columns:
        raise LandingError(
            f"{short_path(path)}: {metadata.num_columns} columns, more than {limits.columns}"
        )
    for group in (metadata.row_group(number) for number in range(metadata.num_row_groups)):
        for column in (group.column(position) for position in range(metadata.num_columns)):
            # A run of equal numbers takes no bytes in the file and all of them in memory.
            width = _WIDTHS.get(column.physical_type, 0)
            declared += max(column.total_uncompressed_size, column.num_values * width)
        if declared > allowed:
            raise _bomb(path, size, allowed)
    return [path for path, has_dictionary in _text_columns(metadata).items() if has_dictionary]


def _text_columns(metadata: pq.FileMetaData) -> dict[str, bool]:
    """Return the columns of bytes, and whether each can be read as a dictionary: it is flat, and not delta encoded."""
    columns = [metadata.schema.column(position) for position in range(metadata.num_columns)]
    texts = {
        column.path: "." not in column.path for column in columns if column.physical_type == _TEXT
    }
    for group in (metadata.row_group(number) for number in range(metadata.num_row_groups)):
        for chunk in (group.column(position) for position in range(metadata.num_columns)):
            if chunk.path_in_schema in texts and _DELTA & set(chunk.encodings):
                texts[chunk.path_in_schema] = False
    return texts


def _read_all(path: Path, file: pq.ParquetFile, size: int, limits: Limits) -> int:
    """Decode a file and count its rows."""
    n_rows = 0
    total = 0
    allowed = limits.allowed(size)
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
    while parquet.is_list(column.type):
        column = column.flatten()
    if not pa.types.is_dictionary(column.type):
        has_length = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        longest = pc.max(pc.binary_length(column)).as_py() if has_length else 0
        return column.nbytes, longest or 0
    lengths = pc.binary_length(column.dictionary)
    named = pc.sum(lengths.take(column.indices)).as_py()
    return named or 0, pc.max(lengths).as_py() or 0


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    """Rows of a batch: fewer where rows are long lists, or hold texts that are read without a dictionary."""
    nested = not all(_text_columns(metadata).values())
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    values = [
        group.column(position).num_values / max(group.num_rows, 1)
        for group in groups
        for position in range(metadata.num_columns)
    ]
    most = _NESTED_ROWS if nested else _READ_ROWS
    return max(1, min(most, int(_BATCH_BYTES / 8 / max([*values, 1]))))


def _check_offsets(path: Path, metadata: pq.FileMetaData, size: int) -> None:
    """A footer that points past its own file was glued onto a shorter body."""
    body = size - metadata.serialized_size - 8
    for group in range(metadata.num_row_groups):
        for position in range(metadata.num_columns):
            column = metadata.row_group(group).column(position)
            start = column.dictionary_page_offset or column.data_page_offset
            if start + column.total_compressed_size > body:
                raise LandingError(
                    f"{short_path(path)}: row group {group} of column {column.path_in_schema} ends"
                    f" past the file's {size} bytes"
                )
