"""What it costs to read one user, one day, everything: the layout on disk against a plain one.

`python -m tests.benchmarks.reads --warehouse DIR --table user_edges --day D --out DIR`

The table's rows are written twice, by the same writer: as `microrec/tables/layout.py` says, and plainly
(rows in no order, one row group a file, no statistics in the log). Three readers answer the same
questions on both: microrec's own, Polars (`scan_delta`) and DuckDB (over the files the log names).
Every answer is compared with the first before anything is timed. A reading opens the log, as a
consumer's does; files are in the page cache; runs take turns. `read_mb` is what the process asked
the system to read, the log and the footers included.
"""

import argparse
import datetime as dt
import gc
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from microrec.tables import layout
from microrec.tables.arrow import Warehouse
from tests.benchmarks import report

logger = logging.getLogger(__name__)

Question = dict[str, object]
"""Columns and the values they must have; none asks for everything."""
Reader = Callable[[Warehouse, str, Question], pa.Table]
USERS = 20
"""So many users are asked for in turn."""
FEW = 10_000
"""Answers with fewer rows are compared in every turn."""


def microrec(warehouse: Warehouse, table: str, asked: Question) -> pa.Table:
    """Our reader: partitions by the log, rows by the row groups' bounds."""
    partition = warehouse.table(table).contract.partition
    where = {name: value for name, value in asked.items() if name not in partition}
    days = {name: value for name, value in asked.items() if name in partition}
    return warehouse.read(table, where=where, **days)


def polars(warehouse: Warehouse, table: str, asked: Question) -> pa.Table:
    """Polars, lazily: it skips files by the log and row groups by their footers."""
    lazy = pl.scan_delta(f"{warehouse.root}/{table}").filter(
        *[pl.col(name) == value for name, value in asked.items()]
    )
    return lazy.collect().to_arrow()


def duck(warehouse: Warehouse, table: str, asked: Question) -> pa.Table:
    """DuckDB over the files the log names: row groups by their footers."""
    files = [path for _, paths in warehouse.snapshot(table).parts for path in paths]
    where = " AND ".join(f'"{name}" = ?' for name in asked) or "TRUE"
    query = f"SELECT * FROM read_parquet(?, hive_partitioning = true) WHERE {where}"
    return duckdb.connect().sql(query, params=[files, *asked.values()]).to_arrow_table()


READERS: dict[str, Reader] = {"microrec": microrec, "peer: polars": polars, "peer: duckdb": duck}


@contextmanager
def plain() -> Iterator[None]:
    """Within, tables are written without order, in one row group a file and without statistics."""
    changes: dict[str, object] = {
        "order": lambda contract: [],
        "group_rows": lambda rows: max(rows.num_rows, 1),
        "statistics": lambda footer, contract: json.dumps({"numRecords": footer.num_rows}),
        "FILE_BYTES": 2**62,
    }
    with ExitStack() as patches:
        for name, change in changes.items():
            patches.enter_context(mock.patch.object(layout, name, change))
        yield


def copies(rows: pa.Table, key: str, times: int) -> pa.Table:
    """The rows so many times, each copy with keys of its own."""
    parts = []
    for number in range(times):
        kind = rows.schema.field(key).type
        if pa.types.is_integer(kind):
            step = pc.add(pc.max(rows[key]), 1)
            moved = pc.add(rows[key], pc.multiply(step, pa.scalar(number, kind)))
        else:
            moved = pc.binary_join_element_wise(rows[key], f"-{number}" if number else "", "")
        parts.append(rows.set_column(rows.schema.get_field_index(key), key, moved.cast(kind)))
    return pa.concat_tables(parts)


def write(warehouse: Warehouse, table: str, rows: pa.Table) -> float:
    """Commit the rows day by day; median seconds of staging them all, which is where layouts differ."""
    days = pc.unique(rows["day"]).to_pylist()
    others = [name for name in warehouse.table(table).contract.partition if name != "day"]
    seconds: list[float] = []
    stage = Warehouse._stage

    def timed(*given: object) -> None:
        began = time.perf_counter()
        stage(*given)
        seconds.append(time.perf_counter() - began)

    with mock.patch.object(Warehouse, "_stage", timed):
        for _ in range(3):
            for day in days:
                mine = rows.filter(pc.equal(rows["day"], day)).drop_columns(["day"])
                parts = mine.select(others).group_by(others).aggregate([]).to_pylist()
                warehouse.write(table, mine, replace=parts if others else None, day=day)
    return statistics.median(np.reshape(seconds, (3, -1)).sum(axis=1).tolist())


def on_disk(warehouse: Warehouse, table: str) -> dict[str, tuple[float, str]]:
    """Bytes, files and row groups of what is committed."""
    files = [path for _, paths in warehouse.snapshot(table).parts for path in paths]
    groups = sum(pq.read_metadata(path).num_row_groups for path in files)
    size = sum(Path(path).stat().st_size for path in files)
    return {
        "size": (size / 2**20, "MB"),
        "files": (len(files), ""),
        "row groups": (groups, ""),
    }


def same(actual: pa.Table, right: pa.Table) -> bool:
    """Whether two answers hold the same rows, in whatever order and types of text."""
    order = [(f.name, "ascending") for f in right.schema if not pa.types.is_nested(f.type)]
    lined_up = actual.select(right.column_names).cast(right.schema).sort_by(order)
    return bool(lined_up.equals(right.sort_by(order)))


def asked_bytes() -> int:
    """Bytes this process has asked the system for so far (Linux)."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar")))


def measure(
    houses: dict[str, Warehouse], table: str, questions: list[Question], *, runs: int, split: str
) -> list[report.Row]:
    """Seconds and bytes of every reader on every layout; the questions are asked in turn."""
    seen: dict[str, list[tuple[float, float]]] = {}
    for run in range(runs + 1):
        asked = questions[run % len(questions)]
        right: pa.Table | None = None
        for name, reader in READERS.items():
            for kind, warehouse in houses.items():
                gc.collect()
                before, began = asked_bytes(), time.perf_counter()
                actual = reader(warehouse, table, asked)
                seconds, read = time.perf_counter() - began, asked_bytes() - before
                right = actual if right is None else right
                # Later turns ask for another user, but the same days: once is enough for these.
                if (run == 0 or right.num_rows < FEW) and not same(actual, right):
                    raise SystemExit(f"{name} on the {kind} layout has other rows for {asked}")
                # The first turn loads code and fills caches.
                if run:
                    seen.setdefault(f"{name}, {kind} layout", []).append((seconds, read / 2**20))
    rows = []
    for name, figures in seen.items():
        for place, (metric, unit) in enumerate((("seconds", "s"), ("read_mb", "MB"))):
            values = [figure[place] for figure in figures]
            rows.append(
                report.row("reads", name, metric, split, statistics.median(values), unit=unit,
                           low=min(values), high=max(values), seeds=runs)
            )  # fmt: skip
    return rows


def both(rows: pa.Table, table: str, folder: str) -> tuple[dict[str, Warehouse], list[report.Row]]:
    """Write the rows in both layouts: the warehouses, and what they take on disk."""
    houses = {name: Warehouse.open(f"{folder}/{name}") for name in ("sorted", "plain")}
    results = []
    for name, warehouse in houses.items():
        with plain() if name == "plain" else ExitStack():
            seconds = write(warehouse, table, rows)
        told = {**on_disk(warehouse, table), "write_seconds": (seconds, "s")}
        results += [
            report.row("reads", f"{name} layout", metric, f"{table}, on disk", value, unit=unit)
            for metric, (value, unit) in told.items()
        ]
    return houses, results


def options() -> argparse.Namespace:
    """The command line."""
    given = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    given.add_argument("--warehouse", required=True)
    given.add_argument("--table", default="user_edges")
    given.add_argument("--day", type=dt.date.fromisoformat, required=True)
    given.add_argument("--out", type=Path, required=True)
    given.add_argument("--runs", type=int, default=9)
    given.add_argument("--times", type=int, default=1, help="copies of the rows, keys made apart")
    return given.parse_args()


def main() -> None:
    """Write both layouts, ask, report."""
    given = options()
    source, table = Warehouse.open(given.warehouse), given.table
    key = layout.order(source.table(table).contract)[0]
    rows = copies(source.read(table), key, given.times)
    generator = np.random.default_rng(3)
    shuffled = rows.take(generator.permutation(rows.num_rows))
    known = pc.unique(shuffled.filter(pc.equal(shuffled["day"], given.day))[key])
    asked = known.take(generator.integers(0, len(known), USERS)).to_pylist()
    questions: dict[str, list[Question]] = {
        "one user": [{"day": given.day, key: value} for value in asked],
        "one day": [{"day": given.day}],
        "all": [{}],
    }
    with tempfile.TemporaryDirectory() as folder:
        houses, results = both(shuffled, table, folder)
        for name, mine in questions.items():
            logger.info("%s", name)
            results += measure(houses, table, mine, runs=given.runs, split=f"{table}, {name}")
    words = f"{table}, {rows.num_rows:,} rows, {given.day}; median and range of {given.runs} runs."
    how = (__doc__ or "").split("\n\n", 2)[2]
    report.write(results, given.out, preface=f"# Reading\n\n{words}\n\n{how}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("microrec").setLevel(logging.WARNING)
    main()
