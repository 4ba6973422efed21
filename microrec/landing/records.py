"""Text files of the landing zone record by record, in bounded memory and without Spark.

CSV is RFC 4180: comma, double quote, and a quote inside a quoted field doubled; a backslash is text. A field that is
quoted may hold commas and line breaks; one that is not holds no quote and no bare carriage return. Lines end with LF or
CR LF. What breaks these rules costs its record alone (`malformed`), unless it leaves open where records begin: then the
file is refused by the number of the line.

    a quote that is never closed, or not within `Sizes.record`
    a broken record with an odd number of quotes: one is missing, here or elsewhere
    broken quotes in a file of which other records span lines

A line of a JSON lines file is a record.
"""

import gzip
import re
import zlib
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, cast

from microrec.errors import LandingError
from microrec.landing.zone import short_path

KEPT = 1000
"""Characters of a line or record that is too long."""
BOM = b"\xef\xbb\xbf"

_QUOTE, _COMMA = b'"', b","
_QUOTED = re.compile(rb'[^"]*+(?:""[^"]*+)*+')
"""The content of a quoted field, up to the quote that closes it."""


class Sizes(NamedTuple):
    """Bytes of what is held in memory."""

    line: int
    """A record beyond it is `too_long`: cut, and not parsed."""
    record: int
    """No more of a record is held."""


class Line(NamedTuple):
    """A line without its end."""

    number: int
    """From 1."""
    content: bytes
    end: bytes
    """LF or CR LF."""
    cut: bool
    """Only the beginning is here."""
    odd_rest: bool
    """What was cut off holds an odd number of quotes."""


class Record(NamedTuple):
    """A record of a text file."""

    number: int
    """Of the line where it begins, from 1."""
    text: str
    """As delivered; of one that is too long the beginning."""
    fields: tuple[str | None, ...]
    """Of a CSV record; null where a field is empty and not quoted."""
    malformed: bool
    """Quotes or carriage returns are where RFC 4180 has none, or the bytes are not UTF-8."""
    too_long: bool


def open_text(path: Path) -> IO[bytes]:
    """Open a plain or gzip file for reading; inflated, members one after another, padding with zeros left out."""
    if path.name.endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def lines(path: Path, sizes: Sizes) -> Generator[Line]:
    """Read the lines of a file; a byte order mark at its beginning is left out.

    Args:
        path: the file, plain or gzip.
        sizes: what is held of a line.

    Raises:
        LandingError: the gzip stream is truncated or corrupt.
    """
    try:
        with open_text(path) as stream:
            number = 0
            while piece := stream.readline(sizes.record + 2):
                number += 1
                content = piece.removeprefix(BOM) if number == 1 else piece
                yield _line(number, content, stream, sizes.record)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise LandingError(f"{short_path(path)}: truncated or corrupt gzip ({error})") from error


def json_records(path: Path, sizes: Sizes) -> Generator[Record]:
    """Read the lines of a JSON lines file as records without fields.

    Args:
        path: the file, plain or gzip.
        sizes: what is held of a line.

    Raises:
        LandingError: the gzip stream is truncated or corrupt.
    """
    for line in lines(path, sizes):
        too_long = line.cut or len(line.content) > sizes.line
        yield _record(line.number, line.content, (), malformed=False, too_long=too_long)


def csv_records(path: Path, sizes: Sizes) -> Generator[Record]:
    """Read the records of a CSV file, the header first.

    Args:
        path: the file, plain or gzip.
        sizes: what is held of a record.

    Raises:
        LandingError: broken quotes leave open where records begin, named by file and line; or the gzip stream is
            truncated or corrupt.
    """
    scanner = _Scanner(path, sizes)
    for line in lines(path, sizes):
        if record := scanner.feed(line):
            yield record
    scanner.finish()


def _line(number: int, piece: bytes, stream: IO[bytes], limit: int) -> Line:
    if piece.endswith(b"\n"):
        end = b"\r\n" if piece.endswith(b"\r\n") else b"\n"
        return Line(number, piece.removesuffix(end), end, cut=False, odd_rest=False)
    n_quotes = 0
    cut = False
    rest = piece
    while rest and not rest.endswith(b"\n"):
        rest = stream.readline(limit)
        n_quotes += rest.count(_QUOTE)
        cut = cut or bool(rest)
    return Line(number, piece, b"\n", cut=cut, odd_rest=n_quotes % 2 == 1)


def _record(
    number: int,
    content: bytes,
    fields: tuple[bytes | None, ...],
    *,
    malformed: bool,
    too_long: bool,
) -> Record:
    if too_long:
        return Record(number, _text(content[: 4 * KEPT])[:KEPT], (), malformed=False, too_long=True)
    text = _text(content)
    garbled = "\ufffd" in text and not _is_utf8(content)
    values = tuple(None if value is None else _text(value) for value in fields)
    return Record(number, text, values, malformed=malformed or garbled, too_long=False)


def _text(content: bytes) -> str:
    return content.decode(errors="replace")


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass
class _Scanner:
    """Makes records of the lines of a CSV file."""

    path: Path
    sizes: Sizes
    number: int = 0
    """Line where the record begins."""
    content: list[bytes] = field(default_factory=list)
    """Lines of the record, with their ends but for the last."""
    fields: list[bytes | None] = field(default_factory=list)
    quoted: list[bytes] | None = None
    """Parts of the quoted field that is open."""
    broken: bool = False
    """Quotes are where RFC 4180 has none."""
    bare_return: bool = False
    """A carriage return is where RFC 4180 has none."""
    too_long: bool = False
    n_bytes: int = 0
    first_broken: int = 0
    """Line of the first broken record."""
    first_spanning: int = 0
    """Line of the first record that spans lines."""

    def feed(self, line: Line) -> Record | None:
        """Take a line; return the record that ends with it, if one does."""
        if not self.content:
            self.number = line.number
        self.content.append(line.content)
        self.n_bytes += len(line.content) + len(line.end)
        self.too_long = self.too_long or line.cut
        if line.cut:
            # Only the number of quotes is known of the rest.
            n_quotes = line.content.count(_QUOTE) + line.odd_rest + (self.quoted is not None)
            self.quoted = [b""] if n_quotes % 2 else None
        else:
            self._scan(line.content)
        if self.quoted is None:
            return self._complete()
        self.quoted.append(line.end)
        self.content.append(line.end)
        if self.n_bytes > self.sizes.record:
            raise self._unclosed(f"is not closed within {self.sizes.record} bytes")
        return None

    def finish(self) -> None:
        """Refuse a file that ends inside a quoted field."""
        if self.quoted is not None:
            raise self._unclosed("is not closed before the end of the file")

    def _scan(self, line: bytes) -> None:
        if self.quoted is None and _QUOTE not in line and b"\r" not in line:
            self.fields = [value or None for value in line.split(_COMMA)]
            return
        position = -1 if self.quoted is None else self._quoted_field(line, 0)
        while position is not None and position < len(line):
            position = self._field(line, position + 1)

    def _field(self, line: bytes, start: int) -> int | None:
        """Read the field at a position; return where it ends, None if that is on a later line."""
        if line.startswith(_QUOTE, start):
            self.quoted = []
            return self._quoted_field(line, start + 1)
        end = line.find(_COMMA, start)
        end = len(line) if end < 0 else end
        value = line[start:end]
        self.broken = self.broken or _QUOTE in value
        self.bare_return = self.bare_return or b"\r" in value
        self.fields.append(value or None)
        return end

    def _quoted_field(self, line: bytes, start: int) -> int | None:
        content = cast(re.Match[bytes], _QUOTED.match(line, start))
        parts = cast(list[bytes], self.quoted)
        parts.append(content[0])
        if content.end() == len(line):
            return None
        self.quoted = None
        self.fields.append(b"".join(parts).replace(b'""', _QUOTE))
        closed = content.end() + 1
        end = line.find(_COMMA, closed)
        end = len(line) if end < 0 else end
        self.broken = self.broken or end != closed
        return end

    def _complete(self) -> Record:
        content = b"".join(self.content)
        if len(self.content) > 1:
            self.first_spanning = self.first_spanning or self.number
        if self.broken:
            self.first_broken = self.first_broken or self.number
            if content.count(_QUOTE) % 2:
                raise self._refused(self.number, "a quote is missing or one too many")
        if self.first_broken and self.first_spanning:
            spans = f"in a file whose record at line {self.first_spanning} spans lines"
            raise self._refused(
                self.first_broken, f"a quote inside a field is not doubled, {spans}"
            )
        too_long = self.too_long or len(content) > self.sizes.line
        record = _record(
            self.number,
            content,
            tuple(self.fields),
            malformed=self.broken or self.bare_return,
            too_long=too_long,
        )
        self.content = []
        self.fields = []
        self.broken = self.bare_return = self.too_long = False
        self.n_bytes = 0
        return record

    def _unclosed(self, how: str) -> LandingError:
        return self._refused(
            self.number, f"a quote that opens in the record which begins here {how}"
        )

    def _refused(self, number: int, reason: str) -> LandingError:
        return LandingError(
            f"{short_path(self.path)}: line {number}: {reason}, so where records begin cannot be told; deliver the"
            " file again with quotes as RFC 4180 has them (a field with quotes in quotes, each of its own doubled), or"
            " as JSON lines or Parquet"
        )
