"""Whether a landing file is whole: it is read to its end, in constant memory, within the limits of the recipe.

A file that is empty, cut off or corrupt, or that inflates beyond `Limits`, is refused by name.
"""

import gzip
import zlib
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from microrec.errors import LandingError
from microrec.landing.zone import kind_of, short_path

_CHUNK = 1 << 20
_READ_ROWS = 65_536
_NESTED_ROWS = 1_024
_TEXT = "BYTE_ARRAY"
_BATCH_BYTES = 1 << 26
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}
"""Bytes of a value in memory."""


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
        """Return the bytes that a file of `size` bytes on disk may grow to as it is read."""
        return min(self.file_bytes, max(self.free_bytes, self.ratio * size))


DEFAULT = Limits()


def verify_file(path: Path, limits: Limits = DEFAULT) -> None:
    """Read a file to its end, in constant memory, and refuse it if that cannot be done or it is beyond the limits.

    A gzip stream is inflated (its checksum covers every byte); a Parquet file is decoded batch by batch (with page
    checksums where the writer left them). This costs one pass. The alternative is a night that fails half way or, for
    text, one that is short and does not fail at all.

    Args:
        path: the file.
        limits: what it may hold.

    Raises:
        LandingError: the file is empty, truncated, corrupt or a bomb; the message names file and reason.
    """
    kind = kind_of(path)
    size = path.stat().st_size
    if size == 0:
        raise LandingError(f"{short_path(path)}: the file has zero bytes")
    if kind == "parquet":
        _verify_parquet(path, size, limits)
    else:
        _verify_text(path, size, limits)


def _verify_text(path: Path, size: int, limits: Limits) -> None:
    last = b""
    total = 0
    open_line = 0
    allowed = limits.allowed(size)
    try:
        with _open_text(path) as stream:
            while chunk := stream.read(_CHUNK):
                last = chunk
                total = total + len(chunk)
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
        raise LandingError(f"{short_path(path)}: truncated or corrupt gzip ({error})") from error
    if not last:
        raise LandingError(f"{short_path(path)}: the file holds no line")
    if not last.endswith(b"\n"):
        raise LandingError(
            f"{short_path(path)}: cut off in the middle of its last line (no newline)"
        )


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
                    f"{short_path(path)}: {n_rows} rows, its footer says {file.metadata.num_rows}"
                )
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
    columns = [metadata.schema.column(position) for position in range(metadata.num_columns)]
    return [one.path for one in columns if one.physical_type == _TEXT and "." not in one.path]


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
    nested = any(column.physical_type == _TEXT and "." in column.path for column in columns)
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
