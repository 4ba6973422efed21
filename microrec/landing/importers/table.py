"""Somebody's table written as landing files, a Parquet file for each source file and arrival day.

Files are read one after the other into a scratch database on disk, in the order of their rows, so memory is bounded and
the same files give the same bytes. Nothing is laid down before every file has been read; then each landing file is
renamed into its place whole.
"""

import datetime as dt
import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from microrec.config.settings import settings
from microrec.core import messages
from microrec.errors import LandingError
from microrec.landing import zone
from microrec.landing.importers import expressions, sources
from microrec.landing.importers.expressions import Binder
from microrec.landing.importers.mapping import Mapping
from microrec.landing.importers.sources import ROW_NO, Source, name
from microrec.tables import contract
from microrec.tables.contract import Contract

MEMORY = "1GB"
"""What DuckDB may hold; beyond that it spills into the scratch folder."""
ROWS = 65_536
"""Rows of a row group."""
TIMES = {"raw_interactions": "started_at", "raw_privacy_requests": "requested_at"}
"""Column whose day is the day of arrival, unless the mapping has another rule."""


@dataclass
class Report:
    """What an import read, wrote and left out; of a dry run, what it would."""

    table: str
    read: dict[str, int] = field(default_factory=dict)
    """Rows by source file."""
    filtered: dict[str, int] = field(default_factory=dict)
    """Rows that `where` left out, by source file."""
    undated: int = 0
    """Rows without a readable time, delivered on the file's last day for the night to refuse."""
    written: Counter[dt.date] = field(default_factory=Counter)
    """Rows by arrival day."""
    expressions: dict[str, str] = field(default_factory=dict)
    """What each landing column was made of."""
    empty: Counter[str] = field(default_factory=Counter)
    """Rows without a value, by landing column."""
    uncomputed: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Values that could not be computed, by landing column: their number, and the first."""
    unused: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Columns that no expression names, by source file."""
    unchanged: int = 0
    """Landing files that were there already, byte for byte."""
    removed: list[Path] = field(default_factory=list)
    """Landing files of the same sources that `replace` took away."""


@dataclass(frozen=True)
class _Draft:
    hidden: Path
    path: Path


def import_files(
    files: Iterable[str],
    mapping: Mapping,
    landing: str,
    *,
    replace: bool = False,
    dry_run: bool = False,
) -> Report:
    """Write somebody's files into a landing zone.

    Args:
        files: paths or patterns.
        mapping: what becomes of their columns.
        landing: root of the landing zone.
        replace: whether files of earlier deliveries of the same sources may be replaced.
        dry_run: whether to write nothing.

    Returns:
        What was read, written and left out.

    Raises:
        LandingError: a file cannot be read, an expression does not fit, no row has a day, or a landing file of the
            same name is there with other content.
    """
    paths = sources.expanded(files)
    promised = contract.load(settings().schemas, mapping.table)
    report = Report(mapping.table)
    names = _file_names(paths)
    drafts: list[_Draft] = []
    try:
        for path in paths:
            with tempfile.TemporaryDirectory(prefix="microrec-import-") as scratch:
                staged = _Staged(path, mapping, promised, Path(scratch), report)
                if not dry_run:
                    drafts += staged.drafts(landing, names[path])
        if not report.written:
            raise LandingError(f"{mapping.table}: {_nothing(report)}")
        if not dry_run:
            _lay_down(landing, mapping.table, drafts, set(names.values()), report, replace=replace)
    finally:
        for draft in drafts:
            draft.hidden.unlink(missing_ok=True)
    return report


class _Staged:
    """The rows of one file, as landing values, in a database on disk."""

    def __init__(
        self, path: Path, mapping: Mapping, promised: Contract, scratch: Path, report: Report
    ) -> None:
        self._types = {column.name: column.type for column in promised.columns}
        self._table = promised.table
        self._connection = _connect(path, scratch)
        try:
            source = sources.open_source(self._connection, path, mapping.csv)
            self._columns = self._stage(source, mapping, promised, report)
            self._count(source, report)
        except BaseException:
            self._connection.close()
            raise

    def _stage(
        self, source: Source, mapping: Mapping, promised: Contract, report: Report
    ) -> list[str]:
        binder = Binder(self._connection, source)
        wanted = expressions.chosen(mapping, promised, source)
        used: set[str] = set()
        selected = [name(ROW_NO)]
        values: dict[str, str] = {}
        for column, text in wanted.items():
            bound = binder.bind(text, column)
            used |= {*bound.inputs}
            value = expressions.as_landing(
                bound, self._types[column], column=column, wanted=mapping
            )
            values[column], failed = expressions.kept(value, bound, self._types[column])
            selected.append(f"{values[column]} AS {name(column)}")
            selected.append(f"{failed} AS {name('failed ' + column)}")
        condition = "true"
        if mapping.where:
            bound = binder.bind(mapping.where, "where")
            used |= {*bound.inputs}
            condition = f"coalesce(CAST({bound.sql} AS BOOLEAN), false)"
        day = expressions.arrival_day(binder, mapping, values.get(TIMES.get(self._table, "")))
        selected += [f"{condition} AS kept", f"{day} AS day"]
        report.expressions |= wanted
        report.unused[str(source.path)] = tuple(c for c in source.columns if c not in used)
        try:
            self._connection.execute(
                f"CREATE TABLE staged AS SELECT {', '.join(selected)} FROM ({source.query})"
            )
        except duckdb.Error as error:
            raise LandingError(sources.unreadable(source.path, error)) from error
        return list(wanted)

    def _count(self, source: Source, report: Report) -> None:
        path = str(source.path)
        n_read, n_kept, n_undated = self._row(
            "SELECT count(*), count(*) FILTER (kept), count(*) FILTER (kept AND day IS NULL) FROM staged"
        )
        report.read[path] = n_read
        report.filtered[path] = n_read - n_kept
        days = dict(
            self._connection.execute(
                "SELECT day, count(*) FROM staged WHERE kept AND day IS NOT NULL GROUP BY day ORDER BY day"
            ).fetchall()
        )
        if n_undated:
            if not days:
                raise LandingError(
                    f"{path}: {n_undated} row(s), and none has a readable day; {self._time()}"
                )
            last = max(days)
            self._connection.execute("UPDATE staged SET day = ? WHERE day IS NULL", [last])
            days[last] += n_undated
        report.undated += n_undated
        report.written.update(days)
        for column in self._columns:
            self._count_column(column, report)

    def _time(self) -> str:
        column = TIMES.get(self._table, "")
        if column not in self._columns:
            return "change the rule `day` of the mapping"
        example = self._row(f"SELECT min({name(column)}) FROM staged WHERE kept")[0]
        return (
            f"{column} is {messages.shown(example)}: say what it is counted in ([units] {column} = 's'), or how it is"
            " written (time_format)"
        )

    def _count_column(self, column: str, report: Report) -> None:
        failed = name("failed " + column)
        n_null, n_failed = self._row(
            f"SELECT count(*) FILTER ({name(column)} IS NULL), count(*) FILTER ({failed}) FROM staged WHERE kept"
        )
        report.empty[column] += n_null
        if n_failed:
            first = self._row(
                f"SELECT {ROW_NO}, CAST({name(column)} AS VARCHAR) FROM staged WHERE kept AND {failed}"
                f" ORDER BY {ROW_NO} LIMIT 1"
            )
            n_before, example = report.uncomputed.get(column, (0, ""))
            shown = f"row {first[0]}: {first[1] or 'null'}"
            report.uncomputed[column] = (n_before + n_failed, example or shown)

    def _row(self, query: str) -> Any:
        return self._connection.execute(query).fetchall()[0]

    def drafts(self, landing: str, stem: str) -> Iterator[_Draft]:
        """Write a hidden file a day, each in the order of the source's rows."""
        listed = ", ".join(["day", *map(name, self._columns)])
        query = f"SELECT {listed} FROM staged WHERE kept ORDER BY day, {name(ROW_NO)}"
        rows = self._connection.sql(query).to_arrow_reader(ROWS)
        schema = self._schema(rows.schema)
        for day, batches in itertools.groupby(_by_day(rows), key=lambda each: each[0]):
            path = zone.path_of(landing, self._table, day, kind="parquet", name=stem)
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = _Draft(path.with_name(f"_{path.name}.{os.getpid()}"), path)
            yield draft
            with pq.ParquetWriter(
                draft.hidden, schema, compression="zstd", write_page_checksum=True
            ) as writer:
                for _, batch in batches:
                    writer.write_table(pa.Table.from_batches([batch]).cast(schema))
        self._connection.close()

    def _schema(self, made: pa.Schema) -> pa.Schema:
        """Text, but for lists that an expression made."""
        return pa.schema(
            [
                pa.field(f.name, self._types[f.name] if pa.types.is_list(f.type) else pa.string())
                for f in made
                if f.name != "day"
            ]
        )


def _connect(path: Path, scratch: Path) -> duckdb.DuckDBPyConnection:
    """A database in the scratch folder that reads one file and nothing else; one thread keeps the order of rows."""
    connection = duckdb.connect(
        str(scratch / "import.duckdb"),
        config={
            "threads": 1,
            "memory_limit": MEMORY,
            "temp_directory": str(scratch),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    # The one computes common parts of two expressions outside of their TRY; the other takes the bounds of a Parquet
    # column, which leave NaN out, for those of all its values.
    connection.execute("SET disabled_optimizers = 'common_subexpressions,statistics_propagation'")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET allowed_paths = [{sources.text(str(path.resolve()))}]")
    connection.execute(f"SET allowed_directories = [{sources.text(str(scratch))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _by_day(rows: pa.RecordBatchReader) -> Iterator[tuple[dt.date, pa.RecordBatch]]:
    """Cut batches, which are sorted by day, where the day changes; the column `day` goes."""
    for batch in rows:
        days = batch.column("day")
        start = 0
        for run in pc.run_end_encode(days).run_ends.to_pylist() if len(days) else []:
            yield days[start].as_py(), batch.slice(start, run - start).drop_columns(["day"])
            start = run


def _lay_down(
    landing: str,
    table: str,
    drafts: Sequence[_Draft],
    stems: set[str],
    report: Report,
    *,
    replace: bool,
) -> None:
    """Compare the drafts with what is there, then rename all of them."""
    planned = {draft.path for draft in drafts}
    earlier = [
        path
        for day in zone.days(landing, table)
        for path in zone.files(landing, table, day)
        if _stem(path) in stems
    ]
    same = {d.path for d in drafts if d.path.is_file() and _equal(d.hidden, d.path)}
    others = [path for path in earlier if path not in same]
    if others and not replace:
        raise LandingError(
            f"{zone.short_path(others[0])}: an earlier delivery of this name holds other rows"
            f" ({len(others)} file(s)); rename the source, or say --replace"
        )
    for draft in drafts:
        draft.hidden.replace(draft.path)
    for path in others:
        if path not in planned:
            path.unlink()
            report.removed.append(path)
    report.unchanged = len(same)


def _equal(first: Path, second: Path) -> bool:
    if first.stat().st_size != second.stat().st_size:
        return False
    with first.open("rb") as left, second.open("rb") as right:
        while chunk := left.read(1 << 20):
            if chunk != right.read(1 << 20):
                return False
    return True


def _stem(path: Path) -> str:
    return path.name.removesuffix("." + zone.kind_of(path))


def _file_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Name each landing file after its source, with as many folders as tell them apart."""
    for n_parts in range(1, 9):
        named = {path: _plain("-".join(path.resolve().parts[-n_parts:])) for path in paths}
        if len(set(named.values())) == len(paths):
            return named
    raise LandingError(f"{paths[0]}: files whose names are alike; import them one by one")


def _plain(text: str) -> str:
    stem = text.removesuffix(".gz")
    stem = stem[: stem.rfind(".")] if "." in stem else stem
    plain = "".join(sign if sign.isalnum() or sign in "-_.=" else "_" for sign in stem)
    return plain.lstrip("._") or "file"


def _nothing(report: Report) -> str:
    n_read, n_filtered = sum(report.read.values()), sum(report.filtered.values())
    if n_read:
        return f"`where` leaves out all {n_filtered} of {n_read} row(s)"
    return "the files hold no row"
