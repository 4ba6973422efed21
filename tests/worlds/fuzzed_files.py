"""Landing files of random rows and damage, with what is right of each: the rows it holds, or that it is refused.

Nothing of microrec's own is used: files are made by Python's `json`, `csv` and `gzip` and by pyarrow.
"""

import csv
import datetime as dt
import gzip
import io
import json
import math
import random
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.worlds.event_lines import COLUMNS

Values = dict[str, Any]
KINDS = ("jsonl", "jsonl.gz", "csv", "csv.gz", "parquet")
TABLES = tuple(COLUMNS)
REQUIRED = {
    "raw_interactions": ("user_id", "video_id", "started_at"),
    "raw_videos": ("video_id", "eligible"),
    "raw_video_features": ("video_id", "modality", "encoder_version", "vector"),
    "raw_clip_features": ("video_id", "clip_no", "start_ms", "end_ms", "vector"),
    "raw_privacy_requests": ("user_id", "kind", "requested_at"),
}
SERIAL = {"raw_interactions": "surface", "raw_videos": "caption"}
"""Columns that hold a text of their own in each row, where a table has one that no rule looks at."""
LONG = 50_000
"""Bytes of a line that is too long; the tests read with this as the limit."""
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Record:
    """One record of a file."""

    content: bytes
    """Text formats: as it stands in the file, with its end."""
    values: Values | None
    """Of its columns, as Python reads them; null where it is no record of its format."""
    endangers_file: bool = False
    """It may leave open where records begin: the file may be refused."""


@dataclass(frozen=True)
class FuzzedFile:
    """A landing file."""

    table: str
    kind: str
    damage: str
    """What was done to the whole file."""
    content: bytes
    records: tuple[Record, ...]
    refused: bool | None
    """Whether it has to be refused; null where it may be."""


def _one_of(rng: random.Random, common: Sequence[Any], odd: Sequence[Any]) -> Any:
    return rng.choice(odd) if rng.random() < 0.2 else rng.choice(common)


ODD_IDS: tuple[Any, ...] = (
    None, "", " ", "nan", "NaN", "null", "None", "007", "1.0", "1e5", " u1 ", "\u00a0u1\u00a0", "\ufeffu1", "u,1",
    'u"1', "u\n1", "u\r1", "u\r\n1", "u\x001", "\x1b[31m", "u\\1", "u\\", "\\N", "é", "e\u0301", "😀", "a\ufffd",
    "x" * 513, "x" * 512, "'", "[1]", '{"a":1}', '""', '"', "#u", "=1+1", "\t", 17, -1, 0, 2**53 - 1, 2**53 + 1, 10**30,
    1.0, 1.5, -2.0, 1e5, 1e300, float(2**53), True, [], ["u1"], {"user_id": "u9"}, [None], math.nan, math.inf,
)  # fmt: skip
ODD_TIMES: tuple[Any, ...] = (
    None, "", "2026-01-05", "2026-01-05 10:00", "2026-01-05t10:00:00z", "2026-01-05T10:00:00.123456789Z", 1767607200000,
    "1767607200000", 1767607200, 1767607200.5, "yesterday", "2026-02-30T10:00:00Z", "0000-01-01T00:00:00Z", True, [1],
    "9999-12-31T23:59:59-14:00", "2026-01-05T10:00:00+05:30", "2026-01-05T10:00:00+0530", "5/1/2026 10:00", "10:00",
    "T10:00", "2026-01-05T25:00:00Z", " 2026-01-05T10:00:00Z ", {"t": 1}, 10**20, -1, math.nan,
)  # fmt: skip
ODD_NUMBERS: tuple[Any, ...] = (
    None, "", " 7 ", "1200 ms", "1,5", "+5", "0x10", "1e3", "1.0", "1.5", -1, 0, 2**31, 2**63, 10**15, 10**30, 1200.0,
    1.5, 1e3, 1e300, 1e-9, math.nan, math.inf, -math.inf, True, "true", [1], {"ms": 1}, "٣", "nan", "Infinity", "-0",
)  # fmt: skip
ODD_FLAGS: tuple[Any, ...] = (
    None, "", "yes", "TRUE", " false ", 1, 0, 1.0, 0.0, 2, True, False, "t", "1.0", [], {"is": True}, math.nan,
)  # fmt: skip
ODD_TAGS: tuple[Any, ...] = (
    None, [], ["a,b", 'c"d'], ["line\nbreak", "cr\r"], [None, "a"], ["é😀"], [1, 1.5, True], [["a"]], [{"a": 1}],
    "cats", "[", "[]", '["a"] ["b"]', "{}", 5, {"a": 1}, ["x" * 600], ["\x00"], [""], '["a",]', "null",
)  # fmt: skip
ODD_VECTORS: tuple[Any, ...] = (
    None, [], [0.0, 0.0], [1e10, 1.0], [3e38, 1.0], [1e39, 1.0], [1e-40, 1.0], [None, 1.0], [math.nan, 1.0], ["1", 2],
    [True, 1.0], [1, 2, 3], [[1.0], 2.0], {"0": 1.0}, "[1,2]", "1 2", 7, [math.inf, 1.0], [1] * 5000, "[1,2] x",
    ["NaN", 1.0], ["-Infinity", 1.0],
)  # fmt: skip
ODD_TEXTS: tuple[Any, ...] = (
    None,
    "",
    "a,b",
    'say "hi"',
    "two\nlines",
    "bare\rreturn",
    "\x00",
    "é",
    5,
    1.5,
    ["x"],
    {},
)


def _values(table: str, rng: random.Random, serial: int) -> Values:
    """A row: mostly sound, each value odd once in five times."""
    known = [f"v{n}" for n in range(5)]
    users = [f"u{n}" for n in range(50)]
    time = f"2026-01-05T{rng.randrange(24):02d}:{rng.randrange(60):02d}:00Z"
    flag = (None, "0", 1, True, "false")
    pools: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {
        "user_id": (users, ODD_IDS),
        "video_id": ([*known, f"w{serial}"], ODD_IDS),
        "event_id": ([None, f"e{serial}"], ODD_IDS),
        "session_id": ([None, "s"], ODD_IDS),
        "author_id": (users, ODD_IDS),
        "started_at": ([time], ODD_TIMES),
        "published_at": ([None, time], ODD_TIMES),
        "requested_at": ([time], ODD_TIMES),
        "watch_ms": ([5000, "700"], ODD_NUMBERS),
        "duration_ms": ([None, 9000, "8000"], ODD_NUMBERS),
        "clip_no": ([0, 1, "2"], ODD_NUMBERS),
        "start_ms": ([0, "100"], ODD_NUMBERS),
        "end_ms": ([2500, "3000"], ODD_NUMBERS),
        "eligible": ([1, "true", False], ODD_FLAGS),
        "tags": ([["a", "b"], None], ODD_TAGS),
        "vector": ([[rng.random(), 0.5], [1, 2]], ODD_VECTORS),
        "modality": (["visual", "audio"], ODD_TEXTS),
        "encoder_version": (["1"], ODD_TEXTS),
        "kind": (["opt_out", "opt_in", "erase"], ODD_TEXTS),
        "caption": (["fine"], ODD_TEXTS),
        "surface": (["feed"], ODD_TEXTS),
    }
    pools |= dict.fromkeys(
        ("liked", "shared", "followed", "commented", "disliked"), (flag, ODD_FLAGS)
    )
    row = {name: _one_of(rng, *pools[name]) for name in COLUMNS[table]}
    if table in SERIAL:
        row[SERIAL[table]] = f"row {serial}" + rng.choice(
            ["", "", "", ", quoted", "\nof two lines"]
        )
    return row


def _json_line(values: Values, rng: random.Random) -> bytes:
    kept = {
        name: value for name, value in values.items() if value is not None or rng.random() < 0.5
    }
    items = list(kept.items())
    rng.shuffle(items)
    separators = rng.choice([(", ", ": "), (",", ":"), (" , ", " : ")])
    text = json.dumps(dict(items), ensure_ascii=rng.random() < 0.5, separators=separators)
    return text.encode()


def _truncated(line: bytes, rng: random.Random) -> bytes:
    return line[: rng.randrange(1, len(line))]


def _with_key(line: bytes, text: bytes) -> bytes:
    return line[:-1] + (b", " if len(line) > 2 else b"") + text + b"}"


BROKEN_JSON: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncated": _truncated,
    "two objects": lambda line, rng: line + rng.choice([b"", b" ", b","]) + line,
    "something after": lambda line, rng: line + rng.choice([b" x", b"}", b";", b" []", b" 1", b"//"]),
    "array": lambda line, rng: b"[" + line + b"]",
    "duplicate key": lambda line, rng: _with_key(line, b'"twice": 1, "twice": 2'),
    "no object": lambda line, rng: rng.choice([b"null", b"5", b'"text"', b"true", b"x", b"{", b"}", b"[]"]),
    "blank": lambda line, rng: rng.choice([b"", b" ", b"\t"]),
    "raw NUL": lambda line, rng: _with_key(line, b'"surplus": "a\x00b"'),
    "no UTF-8": lambda line, rng: _with_key(line, b'"surplus": "\xff"'),
    "single quotes": lambda line, rng: _with_key(line, b"'surplus': 1"),
    "trailing comma": lambda line, rng: line[:-1] + b",}",
    "comment": lambda line, rng: _with_key(line, b'"surplus": 1 /* x */'),
    "leading zero": lambda line, rng: _with_key(line, b'"surplus": 007'),
    "too long": lambda line, rng: _with_key(line, b'"surplus": "' + b"x" * LONG + b'"'),
    "control character": lambda line, rng: _with_key(line, b'"surplus": "a\x07b"'),
}  # fmt: skip
DECOY = b'{"surplus": {"user_id": 5.0, "video_id": "v0"}}'
ODD_JSON: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "lone surrogate": lambda line, rng: re.sub(
        rb'(:\s*)"u', rb'\1"' + rng.choice([rb"\\ud83d", rb"\\udc00\\ud83d"]) + b"u", line),
    "return as blank": lambda line, rng: line[:1] + b"\r" + line[1:-1] + b"\r}",
    "return at the end": lambda line, rng: line + b"\r",
    "decoy": lambda line, rng: _with_key(DECOY, line[1:-1] or b'"more": 1'),
    "escaped keys": lambda line, rng: line.replace(b'"user_id"', rb'"user\u005fid"').replace(
        b'"video_id"', rb'"\u0076ideo_id"'),
    "blanks around": lambda line, rng: b"  " + line + b" \t",
    "depth": lambda line, rng: _with_key(line, b'"surplus": ' + b"[" * 50 + b"]" * 50),
}  # fmt: skip


def _read_by_json(line: bytes) -> Values | None:
    """What Python's json reads; half a character is what a decoder puts in its place.

    None where there is a NaN or an Infinity, which Python reads and JSON does not have.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return SURROGATE.sub("\ufffd", value)
        if isinstance(value, list):
            return [plain(item) for item in value]
        return (
            {plain(key): plain(item) for key, item in value.items()}
            if isinstance(value, dict)
            else value
        )

    try:
        read = plain(json.loads(line.decode(), parse_constant=_refuse_constant))
    except NotANumberError:
        return None
    assert isinstance(read, dict)
    return read


class NotANumberError(ValueError):
    """A NaN or an Infinity stands where a value of JSON is."""


def _refuse_constant(name: str) -> None:
    raise NotANumberError(name)


def _json_record(table: str, rng: random.Random, serial: int, odd: float) -> Record:
    line = _json_line(_values(table, rng, serial), rng)
    if rng.random() >= odd:
        return Record(line + b"\n", _read_by_json(line))
    if rng.random() < 0.5:
        line = rng.choice(list(ODD_JSON.values()))(line, rng)
        return Record(line + b"\n", _read_by_json(line))
    broken = rng.choice(list(BROKEN_JSON.values()))(line, rng)
    begins_document = broken.strip() == b"{" or broken.lstrip().startswith(b"[")
    return Record(broken + b"\n", None, begins_document)


def _csv_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _csv_line(fields: Sequence[str], rng: random.Random) -> bytes:
    text = io.StringIO()
    if rng.random() < 0.3:
        csv.writer(text, quoting=csv.QUOTE_ALL).writerow(fields)
    else:
        csv.writer(text).writerow(fields)
    return text.getvalue().removesuffix("\r\n").encode()


BROKEN_CSV: dict[str, tuple[bool, Callable[[list[str], random.Random], bytes]]] = {
    "quote within": (True, lambda fields, rng: b",".join([b'a"b', *[b"1"] * (len(fields) - 1)])),
    "quotes within": (True, lambda fields, rng: b",".join([b'a"b"c', *[b"1"] * (len(fields) - 1)])),
    "text after the quote": (True, lambda fields, rng: b",".join([b'"a"b', *[b"1"] * (len(fields) - 1)])),
    "escaped by backslash": (True, lambda fields, rng: b",".join([rb'"a\"b\"c"', *[b"1"] * (len(fields) - 1)])),
    "bare return": (False, lambda fields, rng: b",".join([b"a\rb", *[b"1"] * (len(fields) - 1)])),
    "returns as line ends": (False, lambda fields, rng: b"\r".join([b",".join([b"u1"] * len(fields))] * 3)),
    "no UTF-8": (False, lambda fields, rng: b",".join([b"\xff", *[b"1"] * (len(fields) - 1)])),
    "few fields": (False, lambda fields, rng: b",".join([b"1"] * (len(fields) - 1))),
    "many fields": (False, lambda fields, rng: b",".join([b"1"] * (len(fields) + rng.randrange(1, 3)))),
    "very many fields": (False, lambda fields, rng: b"," * 30_000),
    "blank": (False, lambda fields, rng: rng.choice([b"", b" ", b"\t"])),
    "too long": (False, lambda fields, rng: b",".join([b"x" * LONG, *[b"1"] * (len(fields) - 1)])),
}  # fmt: skip


def _csv_record(
    table: str, header: Sequence[str], rng: random.Random, *, serial: int, odd: float
) -> Record:
    values = _values(table, rng, serial)
    fields = [_csv_text(values.get(name, "surplus")) for name in header]
    end = rng.choice([b"\n", b"\n", b"\r\n"])
    if rng.random() >= odd:
        line = _csv_line(fields, rng)
        (read,) = csv.reader(io.StringIO(line.decode(), newline=""), strict=True)
        return Record(line + end, dict(zip(header, read, strict=True)))
    if rng.random() < 0.2:
        line = _csv_line(header, rng)
        return Record(line + b"\n", {name: name for name in header})
    endangers, damage = rng.choice(list(BROKEN_CSV.values()))
    return Record(damage(fields, rng) + b"\n", None, endangers)


TEXT_DAMAGE: dict[str, bool | None] = {
    "none": False, "byte order mark": False, "empty": True, "no line end": True, "UTF-16": True,
    "returns for line ends": True,
}  # fmt: skip
CSV_DAMAGE: dict[str, bool | None] = {
    "header alone": False, "semicolons": True, "column missing": True, "column twice": True, "unknown column": False,
    "shuffled columns": False, "quote not closed": True, "header malformed": True,
}  # fmt: skip
JSON_DAMAGE: dict[str, bool | None] = {"one array": True, "one object over lines": True}
GZIP_DAMAGE: dict[str, bool | None] = {
    "truncated": True, "flipped": True, "bytes after": True, "padding": False, "members": False, "no gzip": True,
    "twice": None,
}  # fmt: skip
"""What is done to a whole file, and whether it has to be refused."""


def text_file(table: str, kind: str, rng: random.Random, *, rows: int, first: int) -> FuzzedFile:
    """Return a CSV or JSON lines file.

    Args:
        table: landing table.
        kind: of `KINDS`.
        rng: source of every draw.
        rows: number of records.
        first: serial number of the first row.
    """
    is_csv = kind.startswith("csv")
    damages = TEXT_DAMAGE | (CSV_DAMAGE if is_csv else JSON_DAMAGE)
    if kind.endswith(".gz"):
        damages |= GZIP_DAMAGE
    damage = rng.choice(list(damages)) if rng.random() < 0.5 else "none"
    odd = rng.choice([0.0, 0.0, 0.05, 0.3])
    header = _header(table, damage, rng)
    records = [
        _csv_record(table, header, rng, serial=first + n, odd=odd)
        if is_csv
        else _json_record(table, rng, first + n, odd)
        for n in range(0 if damage == "header alone" else rows)
    ]
    parts = [record.content for record in records]
    if is_csv:
        parts.insert(0, _csv_line(header, rng) + rng.choice([b"\n", b"\r\n"]))
    content = _damaged_text(damage, parts, rng)
    if kind.endswith(".gz"):
        content = _damaged_gzip(damage, content, rng)
    return FuzzedFile(table, kind, damage, content, tuple(records), damages[damage])


def _header(table: str, damage: str, rng: random.Random) -> list[str]:
    required = REQUIRED[table]
    header = [name for name in COLUMNS[table] if name in required or rng.random() < 0.8]
    if table in SERIAL and SERIAL[table] not in header:
        header.append(SERIAL[table])
    if damage == "column missing":
        header.remove(rng.choice(required))
    if damage == "column twice":
        header.append(rng.choice(header))
    if damage == "unknown column":
        header.insert(
            rng.randrange(len(header)), rng.choice(["colour", "a b", "é", "Video_ID", "day"])
        )
    if damage == "shuffled columns":
        rng.shuffle(header)
    return header


def _damaged_text(damage: str, parts: list[bytes], rng: random.Random) -> bytes:
    content = b"".join(parts)
    if damage == "byte order mark":
        return b"\xef\xbb\xbf" + content
    if damage == "empty":
        return b""
    if damage == "no line end":
        return content.rstrip(b"\r\n") + b"x"
    if damage == "UTF-16":
        return content.decode(errors="replace").encode("utf-16")
    if damage == "returns for line ends":
        return b"a,b\r1,2\r" if rng.random() < 0.5 else b'{"a": 1}\r{"a": 2}\r'
    if damage == "semicolons":
        return parts[0].replace(b",", b";") + b"".join(parts[1:])
    if damage == "quote not closed":
        return content + b'"' + b"u1,v1\n" * rng.randrange(1, 5)
    if damage == "header malformed":
        return b'user"_id,' + content
    if damage == "one array":
        return json.dumps([{"user_id": "u1"}] * 3, indent=rng.choice([None, 1])).encode() + b"\n"
    if damage == "one object over lines":
        return json.dumps({"user_id": "u1"}, indent=1).encode() + b"\n"
    return content


def _damaged_gzip(damage: str, content: bytes, rng: random.Random) -> bytes:
    packed = gzip.compress(content, mtime=0)
    if damage == "truncated":
        return packed[: rng.randrange(1, len(packed))]
    if damage == "flipped":
        at = rng.randrange(12, len(packed))
        return packed[:at] + bytes([packed[at] ^ (1 << rng.randrange(8))]) + packed[at + 1 :]
    if damage == "bytes after":
        return packed + rng.choice([b"x", b"\n", b"\x1f\x8b", b"\x00\x01"])
    if damage == "padding":
        return packed + bytes(rng.choice([1, 512, 5000]))
    if damage == "members":
        at = rng.randrange(len(content))
        return gzip.compress(content[:at]) + gzip.compress(b"") + gzip.compress(content[at:])
    if damage == "no gzip":
        return content
    return gzip.compress(packed) if damage == "twice" else packed


PARQUET_DAMAGE: dict[str, bool | None] = {
    "none": False, "truncated": True, "flipped": None, "glued": True, "empty": True, "no rows": False,
    "column missing": True,
    "unknown column": False, "nested column": False, "binary column": True,
}  # fmt: skip
CODECS = ("none", "snappy", "gzip", "zstd", "lz4", "brotli")


def _typed(name: str, values: list[Any], rng: random.Random) -> pa.Array:
    """A column in one of the types a writer may give it; a value that does not fit is null."""
    kinds: list[tuple[pa.DataType, Callable[[Any], Any]]] = [(pa.string(), _parquet_text)] * 3
    kinds += [
        (kind, _parquet_text)
        for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string()))
    ]
    if name in ("vector", "tags"):
        item, convert = (pa.float32(), float) if name == "vector" else (pa.string(), str)
        lists = [pa.list_(item), pa.large_list(item)]
        lists += [pa.list_(pa.float64()), pa.list_(pa.float16())] if name == "vector" else []
        kinds += [(kind, lambda value: _parquet_list(value, convert)) for kind in lists * 2]
    elif name.endswith("_at"):
        kinds += [
            (pa.timestamp(unit, zone), _parquet_time)
            for unit in ("ms", "us", "ns")
            for zone in (None, "UTC")
        ]
        kinds += [(pa.timestamp("us", "Asia/Shanghai"), _parquet_time), (pa.int64(), _whole)]
    elif name in ("liked", "shared", "followed", "commented", "disliked", "eligible"):
        kinds += [(pa.bool_(), _truth)] * 3 + [
            (kind, _whole) for kind in (pa.int8(), pa.uint8(), pa.float64())
        ]
    elif name not in ("kind", "modality", "caption", "surface", "encoder_version"):
        kinds += [
            (kind, _whole)
            for kind in (pa.int64(), pa.uint64(), pa.decimal128(20, 0), pa.decimal128(12, 2))
        ]
        kinds += [(kind, _fraction) for kind in (pa.float64(), pa.float32())]
    kind, convert_value = rng.choice(kinds)
    return pa.array([_fitting(kind, convert_value(value)) for value in values], kind)


def _parquet_text(value: Any) -> str | None:
    return None if value is None else _csv_text(value)


def _parquet_list(value: Any, convert: Callable[[Any], Any]) -> list[Any] | None:
    if not isinstance(value, list):
        return None
    try:
        return [None if item is None else convert(item) for item in value]
    except (TypeError, ValueError):
        return None


def _parquet_time(value: Any) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(value).astimezone(dt.UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and value[1:].isdecimal() and value.isascii():
        return int(value[1:])
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole else None


def _fraction(value: Any) -> float | None:
    return value if isinstance(value, float) else _whole(value)


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _fitting(kind: pa.DataType, value: Any) -> Any:
    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None
    return value


def parquet_file(table: str, rng: random.Random, *, rows: int, first: int) -> FuzzedFile:
    """Return a Parquet file of any of the types, codecs and encodings that pyarrow writes.

    Args:
        table: landing table.
        rng: source of every draw.
        rows: number of rows.
        first: serial number of the first row.
    """
    damage = rng.choice(list(PARQUET_DAMAGE)) if rng.random() < 0.4 else "none"
    values = [_values(table, rng, first + n) for n in range(0 if damage == "no rows" else rows)]
    header = _header(table, damage, rng)
    columns = {
        name: _typed(name, [row[name] for row in values], rng)
        for name in header
        if name in COLUMNS[table]
    }
    if damage == "unknown column":
        columns["surplus"] = pa.array([b"x"] * len(values), pa.binary())
    if damage == "nested column":
        columns["surplus"] = pa.array([{"user_id": "u9", "video_id": [1]}] * len(values))
    if damage == "binary column":
        name = rng.choice(header)
        columns[name] = pa.array([b"\xff"] * len(values), pa.binary())
    content = _damaged_parquet(damage, _parquet_bytes(pa.table(columns), rng), rng)
    as_read = pa.table(columns).to_pylist()
    records = tuple(Record(b"", in_utc(row)) for row in as_read)

    return FuzzedFile(table, "parquet", damage, content, records, PARQUET_DAMAGE[damage])


def in_utc(row: Values) -> Values:
    """Return a row of Parquet; times without a zone are UTC."""
    return {
        name: value.replace(tzinfo=dt.UTC)
        if isinstance(value, dt.datetime) and value.tzinfo is None
        else value
        for name, value in row.items()
    }


def _parquet_bytes(table: pa.Table, rng: random.Random) -> bytes:
    sink = io.BytesIO()
    has_ns = any(pa.types.is_timestamp(kind) and kind.unit == "ns" for kind in table.schema.types)
    pq.write_table(
        table,
        sink,
        compression=rng.choice(CODECS),
        use_dictionary=rng.random() < 0.5,
        data_page_version=rng.choice(["1.0", "2.0"]),
        row_group_size=rng.choice([3, 1000]),
        version="2.6" if has_ns else rng.choice(["1.0", "2.4", "2.6"]),
        use_deprecated_int96_timestamps=rng.random() < 0.2,
        write_page_checksum=True,
        store_schema=rng.random() < 0.7,
    )
    return sink.getvalue()


def _damaged_parquet(damage: str, content: bytes, rng: random.Random) -> bytes:
    if damage == "truncated":
        return content[: rng.randrange(1, len(content))]
    if damage == "flipped":
        at = rng.randrange(4, len(content))
        return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    if damage == "glued":
        body = len(content) - int.from_bytes(content[-8:-4], "little") - 8
        return content[: body // 2] + content[body:]
    return b"" if damage == "empty" else content


def files(seed: int, *, n_files: int, n_rows: int) -> list[FuzzedFile]:
    """Return files of all tables and formats in turn.

    Args:
        seed: of every draw.
        n_files: number of files.
        n_rows: number of rows of all of them.
    """
    rng = random.Random(seed)
    kinds = [(table, kind) for kind in KINDS for table in TABLES]
    each = n_rows // n_files
    made = []
    for number in range(n_files):
        table, kind = kinds[number % len(kinds)]
        if kind == "parquet":
            made.append(parquet_file(table, rng, rows=each, first=number * each))
        else:
            made.append(text_file(table, kind, rng, rows=each, first=number * each))
    return made


def shown(values: Mapping[str, Any]) -> str:
    """Return a row as a failure names it."""
    printable = set(string.printable)
    return "".join(c if c in printable else ascii(c)[1:-1] for c in repr(values))[:600]
