"""Files of random rows and damage: each row is accepted, a repeat or refused with a reason, and none is misread.

`make test` runs a few dozen files. At the size that is asked of a release:

    MICROREC_FUZZ_FILES=500 MICROREC_FUZZ_ROWS=10000 MICROREC_FUZZ_SEED=7 \
      python -m pytest tests/landing/test_conservation_fuzzed.py
"""

import datetime as dt
import json
import logging
import math
import os
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from microrec.config.settings import settings
from microrec.errors import LandingError
from microrec.events import catalogue, consent, counts, parse, rules
from microrec.events.config import Config
from microrec.landing import lines, readers, verify, zone
from microrec.landing.listing import Listing
from microrec.landing.verify import Limits
from microrec.tables import contract
from tests.worlds import event_lines, fuzzed_files
from tests.worlds.event_lines import MONDAY, later
from tests.worlds.fuzzed_files import FuzzedFile, Record

logger = logging.getLogger(__name__)

N_FILES = int(os.environ.get("MICROREC_FUZZ_FILES", "50"))
N_ROWS = int(os.environ.get("MICROREC_FUZZ_ROWS", "600"))
SEED = int(os.environ.get("MICROREC_FUZZ_SEED", "8"))
AT_ONCE = 25
"""Files of a table that are read in one scan."""
BLANKS = " \t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)
EXACT = 2**53
VAGUE = re.compile(rb'\\u00|"surplus": \{')
"""A line with it may lose an id that is a float: the key is escaped, or stands in another value too."""
OF_COLUMNS = ("column missing", "column twice", "semicolons", "binary column")
"""Damage that is refused when the columns are looked at, after the files."""


LIMITS = Limits(line_bytes=fuzzed_files.LONG)


@pytest.fixture
def landing(place: Path) -> str:
    """An empty landing zone."""
    return str(place / "landing")


@dataclass
class Findings:
    """What is wrong, and how many rows and files came to what."""

    wrong: list[str] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)

    def note_refusal(self, name: str, file: FuzzedFile, error: LandingError) -> None:
        """A refusal names the file, in one line, and has a cause."""
        self.counted["refused files"] += 1
        self.counted["rows of refused files"] += len(file.records)
        if name not in str(error) or not str(error).isprintable():
            self.wrong.append(f"{name}: refused without its name, or in lines: {error!s:.200}")
        endangered = any(record.endangers_file for record in file.records)
        if file.refused is False and not endangered:
            self.wrong.append(f"{name} ({file.damage}): refused without a cause: {error!s:.300}")


@pytest.mark.spark
@pytest.mark.parametrize("table", fuzzed_files.TABLES)
def test_rows_of_fuzzed_files_are_accepted_repeats_or_refused_and_none_is_misread(
    spark: SparkSession, landing: str, table: str
) -> None:
    made = fuzzed_files.files(SEED, n_files=N_FILES, n_rows=N_ROWS)
    files = [file for file in made if file.table == table]
    findings = Findings()
    for start in range(0, len(files), AT_ONCE):
        folder = zone.path_of(landing, table, MONDAY, kind="csv").parent
        shutil.rmtree(folder, ignore_errors=True)
        sound = {
            name: file
            for number, file in enumerate(files[start : start + AT_ONCE], start=start)
            if (name := land(landing, file, number, findings))
        }
        rows, judged = read(spark, landing, table, sound, findings)
        for name, file in sound.items():
            check_rows(name, file, rows[name], findings)
            check_verdicts(name, file, judged[name], findings)
    logger.info("table=%s files=%d %s", table, len(files), dict(findings.counted))
    assert not findings.wrong, f"{len(findings.wrong)} faults:\n" + "\n".join(findings.wrong[:20])
    assert findings.counted["accepted"] > 0
    assert findings.counted["refused files"] > 0


def test_inspection_reads_of_fuzzed_files_what_was_written(tmp_path: Path) -> None:
    """The reader that needs no Spark, by the same laws."""
    findings = Findings()
    with duckdb.connect() as connection:
        for number, file in enumerate(fuzzed_files.files(SEED, n_files=N_FILES, n_rows=N_ROWS)):
            path = zone.path_of(
                str(tmp_path), file.table, MONDAY, kind=file.kind, name=f"f{number:04d}"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
            try:
                rows = inspected(connection, file.table, path)
            except LandingError as error:
                findings.note_refusal(path.name, file, error)
                continue
            if file.refused is True:
                findings.wrong.append(f"{path.name}: {file.damage} is not refused")
            findings.counted["rows"] += len(rows)
            check_rows(path.name, file, rows, findings)
    logger.info("inspection files=%d %s", N_FILES, dict(findings.counted))
    assert not findings.wrong, f"{len(findings.wrong)} faults:\n" + "\n".join(findings.wrong[:20])
    assert findings.counted["rows"] > 0
    assert findings.counted["refused files"] > 0


def inspected(connection: duckdb.DuckDBPyConnection, table: str, path: Path) -> list[Row]:
    """Rows as `lines` reads them, in the columns of `readers`; a null may be a value that could not be read."""
    promised = contract.load(settings().schemas, table)
    verify.verify_file(path, LIMITS)
    lines.create(connection, promised)
    lines.load(connection, promised, path, LIMITS)
    query = f"SELECT * FROM {table} ORDER BY number"
    return [
        Row(
            **row
            | {
                "malformed": row["unread"] not in (None, "inexact_id"),
                "unread": [name for name in names_of(table) if row[name] is None],
            }
        )
        for row in connection.sql(query).to_arrow_table().to_pylist()
    ]


def land(landing: str, file: FuzzedFile, number: int, findings: Findings) -> str | None:
    """Lay a file down, alone at first; return its name, or None if it is refused as a whole."""
    path = zone.path_of(landing, file.table, MONDAY, kind=file.kind, name=f"f{number:04d}")
    first = zone.path_of(
        f"{landing}-{number}", file.table, MONDAY, kind=file.kind, name=path.name.split(".")[0]
    )
    for each in (path, first):
        each.parent.mkdir(parents=True, exist_ok=True)
    first.write_bytes(file.content)
    try:
        readers.require(f"{landing}-{number}", file.table, MONDAY, limits=LIMITS)
    except LandingError as error:
        findings.note_refusal(path.name, file, error)
        return None
    if file.refused is True and file.damage not in OF_COLUMNS:
        findings.wrong.append(f"{path.name}: {file.damage} is not refused")
    first.rename(path)
    return path.name


def read(
    spark: SparkSession, landing: str, table: str, files: dict[str, FuzzedFile], findings: Findings
) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """Rows as they were read, and as they were judged, by file; files that are refused by then are taken out."""
    while files:
        listing = Listing.take(landing, last=MONDAY)
        try:
            with readers.named_faults(
                spark, landing, listing, interactions=[MONDAY], limits=LIMITS
            ):
                raw = readers.read_days(spark, landing, table, [MONDAY], limits=LIMITS).persist()
                rows = by_file(raw)
                judged = by_file(verdicts_on(spark, table, raw))
                raw.unpersist()
                return rows, judged
        except LandingError as error:
            (name,) = re.findall(r"file (f[0-9]{4}[.a-z]+)|(?<=/)(f[0-9]{4}[.a-z]+)", str(error))[
                :1
            ]
            refused = "".join(name).rstrip(".")
            findings.note_refusal(refused, files.pop(refused), error)
            (zone.path_of(landing, table, MONDAY, kind="csv").parent / refused).unlink()
    return {}, {}


def by_file(frame: DataFrame) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in frame.collect():
        grouped[row.file.rsplit("/", 1)[1]].append(row)
    return grouped


def verdicts_on(spark: SparkSession, table: str, raw: DataFrame) -> DataFrame:
    if table != "raw_interactions":
        return {**catalogue.JUDGES, **consent.JUDGES}[table](raw)
    known = [(f"v{n}", later(-9), None, 10_000) for n in range(5)]
    return rules.judge(
        parse.interactions(raw),
        event_lines.states(spark, *known),
        days=[MONDAY],
        config=Config(),
        lateness_days=2,
    )


def check_rows(name: str, file: FuzzedFile, rows: list[Row], findings: Findings) -> None:
    """One row per record; those that are no record are marked, and all others say what was written."""
    if len(rows) != len(file.records):
        findings.wrong.append(
            f"{name} ({file.damage}): {len(rows)} rows of {len(file.records)} records"
        )
        return
    # A small file is one task, whose rows come in the order of the file.
    for number, (row, record) in enumerate(zip(rows, delivered(file), strict=True)):
        where = f"{name} ({file.damage}) record {number}"
        if row.malformed != (record.values is None):
            findings.wrong.append(
                f"{where}: malformed is {row.malformed}: {record.content[:300]!r}"
            )
        elif record.values is not None:
            for column in names_of(file.table):
                value = record.values.get(column)
                is_unread = column in row.unread
                if is_unread and isinstance(value, float) and VAGUE.search(record.content):
                    continue
                if not agrees(row[column], value, column, is_unread=is_unread):
                    findings.wrong.append(
                        f"{where} {column}: read {row[column]!r:.80} (unread: {row.unread}), written {value!r:.80};"
                        f" {row.line!r:.300}"
                    )


def delivered(file: FuzzedFile) -> Sequence[Record]:
    """The records; of a Parquet file as DuckDB reads it, where it does."""
    if file.kind != "parquet" or file.damage == "flipped":
        return file.records
    with tempfile.NamedTemporaryFile(suffix=".parquet") as copy:
        copy.write(file.content)
        copy.flush()
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        try:
            query = f"SELECT * FROM read_parquet('{copy.name}')"
            read_by_duckdb = connection.sql(query).to_arrow_table()
        except duckdb.Error:
            return file.records
    return [Record(b"", fuzzed_files.in_utc(row)) for row in read_by_duckdb.to_pylist()]


def agrees(read: Any, value: Any, column: str, *, is_unread: bool) -> bool:
    """Whether what was read says what was written; `is_unread` is right only of what a column cannot hold."""
    if column in ("tags", "vector"):
        return list_agrees(read, value, column, is_unread=is_unread)
    if value is None or (isinstance(value, str) and not value.strip(" ")) or is_nan(value):
        return read is None or not read.strip(" ") or is_nan(float_of(read.strip('"')))
    if is_unread:
        return column.endswith("_id") and not isinstance(value, str) and not is_exact(value)
    if isinstance(value, str):
        return bool(read == value)
    if column.endswith("_id"):
        return is_exact(value) and read == str(int(value))
    if isinstance(value, bool):
        return bool(read == str(value).lower())
    if isinstance(value, int | float | Decimal):
        number = float_of(read.strip('"'))
        # As few digits are written as tell single floats apart.
        return bool(number == float(value)) or (
            is_single(value) and np.float32(number) == np.float32(value)
        )
    if isinstance(value, dt.datetime):
        return bool(dt.datetime.fromisoformat(read) == value)
    return bool(json.loads(read) == value)


def is_single(value: Any) -> bool:
    """Whether a number may come of a float of 32 bits."""
    return (
        isinstance(value, float) and bool(np.isfinite(value)) and float(np.float32(value)) == value
    )


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def is_exact(value: Any) -> bool:
    """Whether a number is the only one that is written so."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return False
    if not math.isfinite(value) or value != int(value):
        return False
    return not isinstance(value, float) or abs(value) < EXACT


def float_of(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def list_agrees(read: Any, value: Any, column: str, *, is_unread: bool) -> bool:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip(" ") else None
        except ValueError:
            return read is None and is_unread
        if value is None:
            return read is None
    if value is None or is_nan(value):
        return read is None
    if not isinstance(value, list):
        return read is None and is_unread
    if read is None:
        return is_unread and not all(fits(item, column) for item in value)
    return len(read) == len(value) and all(
        item_agrees(*pair, column) for pair in zip(read, value, strict=True)
    )


def fits(item: Any, column: str) -> bool:
    if column == "tags":
        return isinstance(item, str)
    return isinstance(item, int | float) and not isinstance(item, bool)


def item_agrees(read: Any, item: Any, column: str) -> bool:
    if item is None:
        return read is None
    if column == "tags":
        return (
            bool(read == item) if isinstance(item, str) else read is None or isinstance(read, str)
        )
    if not fits(item, column):
        written = float_of(str(item))
        return read is None or read == written or (math.isnan(read) and math.isnan(written))
    with np.errstate(over="ignore"):
        return read is not None and (
            np.float32(item) == np.float32(read) or (is_nan(item) and math.isnan(read))
        )


def check_verdicts(name: str, file: FuzzedFile, judged: list[Row], findings: Findings) -> None:
    """Each row has one verdict, and what is accepted says what was written, typed."""
    for row in judged:
        kind = {None: "accepted", "duplicate": "repeats", "superseded": "repeats"}.get(
            row.rule, "refused"
        )
        findings.counted[kind] += 1
    if len(judged) != len(file.records):
        findings.wrong.append(f"{name}: {len(judged)} verdicts on {len(file.records)} records")
    written = Counter(
        typed(file.table, record.values) for record in file.records if record.values is not None
    )
    accepted = [row.asDict() for row in judged if row.rule is None]
    # Of a row that lost an optional value only the ids are compared.
    ids = len({"user_id", "video_id"} & set(event_lines.COLUMNS[file.table]))
    named = {row[:ids] for row in written}
    incomplete = [typed(file.table, row)[:ids] for row in accepted if row.get(counts.NULLED)]
    findings.wrong += [
        f"{name}: accepted {row}, which nobody named" for row in incomplete if row not in named
    ]
    whole = Counter(typed(file.table, row) for row in accepted if not row.get(counts.NULLED))
    for strange in whole - written:
        findings.wrong.append(f"{name} ({file.damage}): accepted {strange}, which was not written")


def typed(table: str, values: Mapping[str, Any]) -> tuple[Any, ...]:
    """What identifies a row, in types, as Python's own parsers read them; of a judged row as it is."""
    ids = [name for name in ("user_id", "video_id") if name in event_lines.COLUMNS[table]]
    row = [an_id(values.get(name)) for name in ids]
    if table == "raw_interactions":
        instant = an_instant(values.get("started_at"))
        return (*row, instant, a_number(values.get("watch_ms")), values.get("surface"))
    if table == "raw_videos":
        return (*row, a_number(values.get("duration_ms")) or None, values.get("caption") or None)
    if table == "raw_privacy_requests":
        return (*row, a_text(values.get("kind")).strip(" ").lower())
    if table == "raw_clip_features":
        return (*row, *[a_number(values.get(name)) for name in ("clip_no", "start_ms", "end_ms")])
    modality = a_text(values.get("modality")).strip(" ").lower()
    return (*row, modality, a_text(values.get("encoder_version")))


def a_text(value: Any) -> str:
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"))
    return str(value)


def an_id(value: Any) -> str | None:
    if is_exact(value):
        return str(int(value))
    return value.strip(BLANKS) if isinstance(value, str) else None


def a_number(value: Any) -> int | None:
    try:
        return int(Decimal(str(value)))
    except (ArithmeticError, ValueError):
        return None


def an_instant(value: Any) -> dt.datetime | None:
    """Times without a zone are UTC; numbers are milliseconds."""
    if isinstance(value, str) and not value.strip().isdecimal():
        try:
            value = dt.datetime.fromisoformat(value.strip().upper())
        except ValueError:
            return None
    if isinstance(value, dt.datetime):
        return value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    number = a_number(value)
    return (
        None
        if number is None
        else dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=min(number, 10**14))
    )


def names_of(table: str) -> list[str]:
    declared = contract.load(settings().schemas, table).columns
    return [column.name for column in declared if column.name != "day"]
