"""Who has withdrawn is in no release that is read, however old it is."""

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from microrec.errors import MissingDay
from microrec.release import reader, record
from microrec.tables.arrow import Warehouse

DAY = dt.date(2026, 1, 8)
LATER = DAY + dt.timedelta(days=2)


@pytest.fixture
def warehouse(place: Path, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """The release of a day with lists of three users, and no metrics."""
    monkeypatch.setattr(record, "RESULTS", ("recommendations", "metrics"))
    opened = Warehouse.open()
    moment = dt.datetime(2026, 1, 9, tzinfo=dt.UTC)
    rows = []
    for user in ("a", "b", "nan"):
        row = {field.name: None for field in opened.table("recommendations").contract.schema}
        row |= {"user_id": user, "rank": 1, "video_id": "v", "score": 1.0, "source": "content"}
        row |= {"reason": "like what you have watched", "valid_until": moment, "propensity": 1.0}
        del row["day"]
        rows.append(row)
    schema = opened.table("recommendations").contract.schema
    schema = schema.remove(schema.get_field_index("day"))
    opened.write("recommendations", pa.Table.from_pylist(rows, schema=schema), day=DAY)
    opened.write_empty("metrics", day=DAY, stage="release")
    suppress(opened, DAY)
    opened.write("releases", record.record(opened, day=DAY), day=DAY)
    return opened


def suppress(warehouse: Warehouse, day: dt.date, *users: str) -> None:
    moments = pa.array(
        [dt.datetime(2026, 1, 9, tzinfo=dt.UTC)] * len(users), pa.timestamp("us", "UTC")
    )
    columns = {"user_id": pa.array(users, pa.string()), "requested_at": moments}
    kinds = pa.array(["erase"] * len(users), pa.string())
    warehouse.write("suppressed_users", pa.table({**columns, "kind": kinds}), day=day)


def wish(warehouse: Warehouse, day: dt.date, *users: str, kind: str = "no_profiling") -> None:
    since = [dt.datetime(2026, 1, 9, tzinfo=dt.UTC)] * len(users)
    columns = {"user_id": pa.array(users, pa.string()), "kind": [kind] * len(users)}
    values = pa.array([""] * len(users), pa.string())
    warehouse.write("preferences", pa.table({**columns, "value": values, "since": since}), day=day)


def served(**options: str) -> list[str]:
    rows = reader.of(DAY).read("recommendations", **options)  # type: ignore[arg-type]
    return sorted(rows["user_id"].to_pylist())


def test_read_leaves_out_who_has_withdrawn_since(warehouse: Warehouse) -> None:
    assert served() == ["a", "b", "nan"]
    suppress(warehouse, LATER, "b", "nan", "stranger")
    assert served() == ["a"]
    assert served(user_id="b") == []
    assert served(user_id="a") == ["a"]
    assert reader.rows_of("recommendations", day=DAY)["user_id"].to_pylist() == ["a"]
    reader.of(DAY).verify()


@pytest.mark.parametrize("as_committed", [False, True])
def test_rows_of_a_user_asks_the_table_for_that_user(
    warehouse: Warehouse, as_committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for the day: a table is sorted by user, and row groups of others are not read."""
    asked = []
    original = Warehouse.read

    def read(self: Warehouse, table: str, **options: Any) -> pa.Table:
        if table == "recommendations":
            asked.append(options["where"])
        return original(self, table, **options)

    monkeypatch.setattr(Warehouse, "read", read)
    for user, expected in (("b", ["b"]), ("stranger", [])):
        rows = reader.rows_of("recommendations", day=DAY, user_id=user, as_committed=as_committed)
        assert rows["user_id"].to_pylist() == expected
    assert asked == [{"user_id": "b"}, {"user_id": "stranger"}]


def test_rows_of_a_user_by_index_are_the_users(warehouse: Warehouse) -> None:
    names = warehouse.table("users").contract.schema
    users = [
        {**dict.fromkeys(names.names), "user_idx": i, "user_id": u} for i, u in enumerate("ab")
    ]
    ones_of = {f.name: 1 for f in names if pa.types.is_integer(f.type) and f.name != "user_idx"}
    moment = {f.name: dt.datetime(2026, 1, 8) for f in names if pa.types.is_timestamp(f.type)}
    schema = names.remove(names.get_field_index("day"))
    rows = [{**row, **ones_of, **moment} for row in users]
    warehouse.write("users", pa.Table.from_pylist(rows, schema=schema), day=DAY)
    assert reader.rows_of("users", day=DAY, user_id="b")["user_idx"].to_pylist() == [1]
    edges = warehouse.table("user_edges").contract.schema
    edge = {"user_idx": [0, 1, 1], "neighbour_idx": [1, 0, 2]}
    ones = {n: [1] * 3 for n in edges.names if n not in edge and n not in ("day", "fit")}
    cut = pa.schema([f for f in edges if f.name not in ("day", "fit")])
    table = pa.table({**edge, **ones}).select(cut.names).cast(cut)
    warehouse.write("user_edges", table, day=DAY, fit="final")
    found = reader.rows_of("user_edges", day=DAY, user_id="b")
    assert sorted(found["neighbour_idx"].to_pylist()) == [0, 2]
    with pytest.raises(MissingDay, match="no rows of user"):
        reader.rows_of("user_edges", day=DAY, user_id="stranger")


def test_read_goes_by_the_last_day_whichever_was_committed_last(warehouse: Warehouse) -> None:
    """Who has come back is served again; an earlier day that is run again changes nothing."""
    suppress(warehouse, LATER - dt.timedelta(days=1), "a", "b")
    suppress(warehouse, LATER, "a")
    suppress(warehouse, DAY, "nan")
    assert served() == ["b", "nan"]


def test_read_leaves_out_personal_rows_of_who_wants_no_profiling_now(warehouse: Warehouse) -> None:
    rows = warehouse.read("recommendations", day=DAY).drop_columns(["day"]).to_pylist()
    rows += [{**rows[0], "user_id": "shy", "source": "no_profiling"}]
    schema = warehouse.table("recommendations").contract.file_schema
    warehouse.write("recommendations", pa.Table.from_pylist(rows, schema=schema), day=DAY)
    warehouse.write("releases", record.record(warehouse, day=DAY), day=DAY)
    assert served() == ["a", "b", "nan", "shy"]
    wish(warehouse, LATER, "b", kind="no_exploration")
    assert served() == ["a", "b", "nan", "shy"]
    wish(warehouse, LATER, "b", "shy")
    suppress(warehouse, LATER, "nan")
    assert served() == ["a", "shy"]
    assert (served(user_id="b"), served(user_id="shy")) == ([], ["shy"])
    rows_read = reader.of(DAY).read("recommendations", columns=["video_id"])
    assert (rows_read.num_rows, rows_read.column_names) == (2, ["video_id"])
    reader.of(DAY).verify()


def test_read_of_columns_without_the_user_leaves_them_out_too(warehouse: Warehouse) -> None:
    suppress(warehouse, LATER, "b")
    rows = reader.of(DAY).read("recommendations", columns=["video_id"])
    assert (rows.num_rows, rows.column_names) == (2, ["video_id"])


def test_read_of_tables_without_users_is_as_published(warehouse: Warehouse) -> None:
    suppress(warehouse, LATER, "b")
    assert reader.of(DAY).read("metrics").num_rows == 0
    assert reader.of(DAY).to_pandas("recommendations")["user_id"].tolist() == ["a", "nan"]
