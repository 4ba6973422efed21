"""Who has withdrawn is in no release that is read, however old it is."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

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
