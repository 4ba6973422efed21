"""How rows lie on disk: in order, in sized files, with statistics no reader is misled by."""

import datetime as dt
import itertools
import json
import operator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from microrec.config.settings import HOME
from microrec.tables import arrow, contract, layout
from microrec.tables import spark as engine
from microrec.tables.commit import Author

DAY = dt.date(2026, 1, 4)
NEXT = dt.date(2026, 1, 5)
AUTHOR = Author("test", 1, "0")

COLUMNS = {
    "id": ("bigint", True),
    "small": ("int", False),
    "note": ("string", False),
    "at": ("timestamp", False),
    "born": ("date", False),
    "seen": ("boolean", False),
    "score": ("double", True),
    "loose": ("float", False),
    "vector": ("array<float>", False),
}
"""Physical type and whether it is required."""


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Contracts of `marks`, keyed by id and partitioned by day."""
    folder = tmp_path_factory.mktemp("schemas")
    lines = [
        "apiVersion: v3.1.0", "kind: DataContract", "id: t", "version: 1.0.0", "status: active",
        "schema:", "- name: marks", "  physicalType: table", "  properties:",
        "  - {name: day, physicalType: date, required: true, partitioned: true, partitionKeyPosition: 1}",
    ]  # fmt: skip
    for name, (kind, required) in COLUMNS.items():
        key = ", primaryKey: true, primaryKeyPosition: 1" if name == "id" else ""
        told = "true" if required else "false"
        lines.append(
            f"  - {{name: {name}, physicalType: '{kind}', required: {told}, classification: none{key}}}"
        )
    (folder / "marks.yaml").write_text("\n".join(lines))
    return folder


@pytest.fixture
def warehouse(tmp_path: Path, schemas: Path) -> arrow.Warehouse:
    return arrow.Warehouse(str(tmp_path / "warehouse"), schemas, AUTHOR, {})


# Microseconds, and both sides of 1970; no surrogates, which UTF-8 does not have.
instants = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(
    st.sampled_from(["a", "é", "\U0010ffff"]), min_size=31, max_size=35
)
values = {
    "small": st.integers(-(2**31), 2**31 - 1),
    "note": texts,
    "at": instants,
    "born": st.dates(),
    "seen": st.booleans(),
    "vector": st.just([1.0, -1.0]),
}
marks = st.fixed_dictionaries(
    {"score": st.floats(allow_nan=False), **{n: st.none() | v for n, v in values.items()}}
)


def table_of(found: list[dict[str, Any]], schemas: Path, *, partition: bool = False) -> pa.Table:
    """Marks with ids that fall from 2: negative ones among them, and not in order; half on each day."""
    promised = contract.load(schemas, "marks")
    schema = promised.schema if partition else promised.file_schema
    numbered = [
        {"day": (DAY, NEXT)[number % 2], "id": 2 - number, **mark}
        for number, mark in enumerate(found)
    ]
    plain = pa.schema([pa.field(field.name, field.type) for field in schema])
    return pa.Table.from_pylist(numbered, schema=plain)


def told(table: pa.Table, schemas: Path, folder: Path) -> dict[str, Any]:
    """What the log would say of a file of these rows, in row groups of three."""
    pq.write_table(table, folder / "marks.parquet", row_group_size=3)
    footer = pq.read_metadata(folder / "marks.parquet")
    said: dict[str, Any] = json.loads(layout.statistics(footer, contract.load(schemas, "marks")))
    return said


def typed(bound: Any, value: Any) -> Any:
    """A bound of the log in the type of the values of its column."""
    if isinstance(value, dt.datetime):
        return dt.datetime.fromisoformat(bound)
    return dt.date.fromisoformat(bound) if isinstance(value, dt.date) else bound


def ordered(value: Any) -> Any:
    """A value as Delta orders it: texts by their bytes."""
    return value.encode() if isinstance(value, str) else value


@given(found=st.lists(marks, max_size=10))
def test_bounds_of_the_log_contain_every_value(
    found: list[dict[str, Any]], schemas: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = table_of(found, schemas)
    said = told(table, schemas, tmp_path_factory.getbasetemp())
    assert said["numRecords"] == len(found)
    flat = [name for name in table.column_names if name != "vector"]
    assert said["nullCount"] == {name: table[name].null_count for name in flat}
    lows, highs = said.get("minValues", {}), said.get("maxValues", {})
    # One missing bound misleads a reader, so it is all columns that have a value, or none.
    assert set(lows) == set(highs) in ({n for n in flat if table[n].null_count < len(found)}, set())
    for name in lows:
        for value in filter(lambda one: one is not None, table[name].to_pylist()):
            low, high = typed(lows[name], value), typed(highs[name], value)
            assert ordered(low) <= ordered(value) <= ordered(high)


def test_bounds_are_as_tight_as_the_notation_allows(schemas: Path, tmp_path: Path) -> None:
    at = dt.datetime(2026, 1, 4, 12, 0, 0, 1, tzinfo=dt.UTC)
    one = {"small": -7, "note": "é" * 33, "at": at, "born": DAY, "score": -0.5, "seen": False}
    two = {**one, "small": 8, "note": "éa", "at": at + dt.timedelta(seconds=1), "score": 2.0}
    said = told(table_of([one, two, {"score": 0.0}, two], schemas), schemas, tmp_path)
    assert said["minValues"] == {
        "id": -1, "small": -7, "note": "éa", "at": "2026-01-04T12:00:00.000Z", "born": "2026-01-04",
        "score": -0.5, "seen": False,
    }  # fmt: skip
    assert said["maxValues"] == {
        "id": 2, "small": 8, "note": "é" * 32 + "\U0010ffff", "at": "2026-01-04T12:00:01.001Z",
        "born": "2026-01-04", "score": 2.0, "seen": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    "spoil",
    [
        {"score": pa.array([float("inf")])},
        {"score": pa.array([float("-inf")])},
        {"loose": pa.array([0.0], pa.float32())},
        {"at": pa.array([2**62], pa.int64())},
        {"born": pa.array([2**30], pa.int32())},
        {"note": pa.array(["a" * 32 + "\U0010ffff"])},
    ],
    ids=lambda spoil: next(iter(spoil)),
)
def test_bounds_absent_where_none_is_safe(
    spoil: dict[str, pa.Array], schemas: Path, tmp_path: Path
) -> None:
    table = table_of([{"score": 0.0}], schemas)
    assert told(table, schemas, tmp_path)["minValues"] == {"id": 2, "score": 0.0}
    ((name, column),) = spoil.items()
    place = table.column_names.index(name)
    table = table.set_column(place, name, column.cast(table.schema.field(name).type))
    assert set(told(table, schemas, tmp_path)) == {"numRecords", "nullCount"}


ASKED = {"=": operator.eq, "<": operator.lt, ">=": operator.ge}
LITERALS = {
    "small": str, "note": lambda v: "'" + v.replace("'", "''") + "'", "score": lambda v: f"cast('{v!r}' as double)",
    "at": lambda v: f"arrow_cast('{v.isoformat()}', 'Timestamp(Microsecond, Some(\"UTC\"))')",
    "born": lambda v: f"date '{v.isoformat()}'", "seen": str,
}  # fmt: skip


@settings(max_examples=10)
@given(found=st.lists(marks, min_size=1, max_size=6), data=st.data())
def test_filtered_read_equals_a_full_scan(
    found: list[dict[str, Any]],
    data: st.DataObject,
    schemas: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    warehouse = arrow.Warehouse(str(tmp_path_factory.mktemp("warehouse")), schemas, AUTHOR, {})
    table = table_of(found, schemas, partition=True)
    warehouse.write("marks", table, replace=[{"day": DAY}, {"day": NEXT}])
    for column in LITERALS:
        present = [mark[column] for mark in found if mark[column] is not None]
        wanted = data.draw(st.sampled_from(present) if present else values[column])
        for sign, holds in ASKED.items():
            right = [
                row["id"]
                for row in table.select(["id", column]).to_pylist()
                if row[column] is not None and holds(ordered(row[column]), ordered(wanted))
            ]
            assert found_by_readers(warehouse, column, sign, wanted) == [sorted(right)] * 3
        missing = [2 - number for number, mark in enumerate(found) if mark[column] is None]
        delta = DeltaTable(f"{warehouse.root}/marks").to_pyarrow_dataset()
        rows = delta.to_table(filter=pc.field(column).is_null())
        assert sorted(rows["id"].to_pylist()) == sorted(missing)


def found_by_readers(warehouse: arrow.Warehouse, column: str, sign: str, wanted: Any) -> list[Any]:
    """Ids that three readers of Delta find: deltalake's Arrow dataset, its SQL engine, Polars."""
    where, holds = f"{warehouse.root}/marks", ASKED[sign]
    delta = DeltaTable(where)
    kind = warehouse.table("marks").contract.schema.field(column).type
    rows = delta.to_pyarrow_dataset().to_table(
        filter=holds(pc.field(column), pa.scalar(wanted, kind))
    )
    sql = f'select id from marks where "{column}" {sign} {LITERALS[column](wanted)}'
    answer = pa.table(QueryBuilder().register("marks", delta).execute(sql))
    frame = pl.scan_delta(where).filter(holds(pl.col(column), pl.lit(wanted))).collect()
    return [sorted(one["id"].to_pylist()) for one in (rows, answer, frame.to_arrow())]


def test_filtered_read_opens_no_other_file(warehouse: arrow.Warehouse, schemas: Path) -> None:
    found = [{"score": float(number), "note": f"n{number % 2}"} for number in range(6)]
    table = table_of(found, schemas, partition=True)
    warehouse.write("marks", table, replace=[{"day": DAY}, {"day": NEXT}])
    (gone,) = Path(warehouse.root).glob("marks/*/day=2026-01-05/*.parquet")
    gone.unlink()
    assert found_by_readers(warehouse, "note", "=", "n0") == [[-2, 0, 2]] * 3


def shuffled(number: int, schemas: Path) -> pa.Table:
    """So many marks, ids in no order, on two days."""
    places = np.random.default_rng(4).permutation(number)
    found = [{"score": 0.0, "vector": [float(place), 0.5]} for place in range(number)]
    return table_of(found, schemas, partition=True).take(pa.array(places))


def files_of(warehouse: arrow.Warehouse, day: dt.date) -> list[list[tuple[int, int, int]]]:
    """Of each file of a day and each of its row groups: rows, least and greatest id."""
    found = []
    for _, paths in warehouse.snapshot("marks", day=day).parts:
        for path in paths:
            footer = pq.read_metadata(path)
            groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
            ids = [group.column(0).statistics for group in groups]
            found.append([(g.num_rows, s.min, s.max) for g, s in zip(groups, ids, strict=True)])
    return found


def lie_in_order(files: list[list[tuple[int, int, int]]]) -> bool:
    groups = [group for file in files for group in file]
    return all(before[2] < after[1] for before, after in itertools.pairwise(groups))


def test_arrow_day_is_in_key_order_and_split_by_size(
    warehouse: arrow.Warehouse, schemas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "ROW_GROUP", 20)
    table, days = shuffled(200, schemas), [{"day": DAY}, {"day": NEXT}]
    warehouse.write("marks", table, replace=days)
    (one,) = files_of(warehouse, DAY)
    assert [rows for rows, _, _ in one] == [20] * 5
    assert lie_in_order([one])
    # The first group fills a file, whatever it holds.
    monkeypatch.setattr(layout, "FILE_BYTES", 1)
    warehouse.write("marks", table, replace=days)
    assert [len(file) for file in files_of(warehouse, DAY)] == [1] * 5
    assert lie_in_order(files_of(warehouse, DAY))
    assert (
        warehouse.read("marks")
        .sort_by("id")
        .equals(table.sort_by("id").cast(warehouse.read("marks").schema))
    )


def test_arrow_wide_rows_make_small_row_groups(
    schemas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = shuffled(100, schemas)
    monkeypatch.setattr(layout, "GROUP_BYTES", rows.nbytes // 4)
    assert layout.group_rows(rows) == 25
    assert layout.group_rows(rows.slice(0, 0)) == layout.ROW_GROUP


@pytest.mark.spark
def test_spark_day_is_one_file_in_key_order(
    warehouse: arrow.Warehouse, schemas: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "ROW_GROUP", 20)
    rows = spark.createDataFrame(shuffled(200, schemas)).repartition(5, "id")
    theirs = engine.Warehouse(warehouse.root, schemas, AUTHOR, {})
    theirs.write("marks", rows, replace=[{"day": DAY}, {"day": NEXT}])
    for day in (DAY, NEXT):
        (one,) = files_of(warehouse, day)
        assert [rows for rows, _, _ in one] == [20] * 5
        assert lie_in_order([one])
    # A day that all rows share is no column of the frame: Spark would forget the order over it.
    theirs.write("marks", rows.where(F.col("day") == DAY).drop("day"), day=DAY)
    (one,) = files_of(warehouse, DAY)
    assert lie_in_order([one])


@pytest.mark.spark
def test_spark_large_day_is_split_by_ranges(
    warehouse: arrow.Warehouse, schemas: Path, spark: SparkSession
) -> None:
    size = "spark.sql.adaptive.advisoryPartitionSizeInBytes"
    usual = spark.conf.get(size)
    filler = dict.fromkeys(COLUMNS, "null") | {"id": "id", "score": "0", "note": "uuid()"}
    columns = [f"cast({filler[name]} as {kind}) {name}" for name, (kind, _) in COLUMNS.items()]
    rows = spark.range(0, 4000, numPartitions=8).selectExpr(*columns)
    try:
        spark.conf.set(size, "50k")
        engine.Warehouse(warehouse.root, schemas, AUTHOR, {}).write("marks", rows, day=DAY)
    finally:
        spark.conf.set(size, usual)
    files = files_of(warehouse, DAY)
    assert len(files) > 2
    assert lie_in_order(sorted(files, key=lambda file: file[0][1]))


def test_read_by_key_returns_only_its_rows(
    warehouse: arrow.Warehouse, schemas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "ROW_GROUP", 20)
    table = shuffled(200, schemas)
    warehouse.write("marks", table, replace=[{"day": DAY}, {"day": NEXT}])
    found = warehouse.read("marks", where={"id": -7}, columns=["day", "id", "vector"])
    right = table.filter(pc.equal(table["id"], -7)).select(["day", "id", "vector"])
    assert found.to_pylist() == right.to_pylist()
    assert warehouse.read("marks", where={"id": -7, "score": 1.0}).num_rows == 0
    assert warehouse.read("marks", where={"id": 10_000}, day=DAY).num_rows == 0
    some = warehouse.read("marks", where={"id": range(-7, 12)}, columns=["day", "id", "vector"])
    between = pc.and_(pc.greater_equal(table["id"], -7), pc.less(table["id"], 12))
    wanted = table.filter(between).select(["day", "id", "vector"]).to_pylist()
    assert len(wanted) > 3
    assert sorted(map(str, some.to_pylist())) == sorted(map(str, wanted))


def test_vector_column_becomes_a_matrix(warehouse: arrow.Warehouse, schemas: Path) -> None:
    warehouse.write("marks", shuffled(10, schemas).drop_columns(["day"]), day=DAY)
    vectors = warehouse.read("marks", day=DAY)["vector"]
    fixed = vectors.cast(pa.list_(pa.float32(), 2)).combine_chunks()
    matrix = fixed.flatten().to_numpy(zero_copy_only=True).reshape(len(fixed), -1)
    assert matrix.tolist() == vectors.to_pylist()
    with pytest.raises(pa.ArrowInvalid):
        vectors.cast(pa.list_(pa.float32(), 3))


def test_log_has_no_bounds_of_files_with_personal_columns(tmp_path: Path) -> None:
    schemas = HOME / "schemas"
    for table in ("users", "suppressed_users", "user_edges", "watch_edges", "rejected_rows"):
        promised = contract.load(schemas, table)
        schema = pa.schema([pa.field(f.name, f.type) for f in promised.file_schema])
        values = [pa.array([0, 1]).cast(kind) for kind in schema.types]
        pq.write_table(pa.table(values, schema=schema), tmp_path / "personal.parquet")
        footer = pq.read_metadata(tmp_path / "personal.parquet")
        assert set(json.loads(layout.statistics(footer, promised))) == {"numRecords", "nullCount"}
