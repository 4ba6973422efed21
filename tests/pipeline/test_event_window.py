"""Readers of a window see, of each viewing and of each pair's day, what arrived last by the night."""

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from microrec.errors import MissingDay
from microrec.pipeline import event_window
from microrec.tables import arrow, spark

pytestmark = pytest.mark.spark

SUNDAY, MONDAY, TUESDAY, WEDNESDAY = (dt.date(2026, 1, day) for day in (4, 5, 6, 7))
NOON = dt.datetime(2026, 1, 4, 12, tzinfo=dt.UTC)
EVENT = {
    "user_id": "u", "video_id": "v", "started_at": NOON, "watch_ms": 5000, "duration_ms": 10000,
    "watch_ratio": 0.5, "n_replays": 0, "skipped": False, "liked": False, "shared": False,
    "followed": False, "commented": False, "disliked": False, "feedback": "neutral",
}  # fmt: skip
PAIR = {
    "user_id": "u", "video_id": "v", "n_views": 1, "n_positive": 0, "n_negative": 0,
    "undone": False, "first_at": NOON, "last_at": NOON, "clip_exits": [], "started": [],
    "viewings": [{"duration_ms": 10_000, "watch_ms": 5_000, "counts": True}],
}  # fmt: skip


def arrive(table: str, arrived_on: dt.date, default: dict[str, Any], *rows: dict[str, Any]) -> None:
    warehouse = arrow.Warehouse.open()
    schema = warehouse.table(table).contract.schema
    complete = [default | {"arrived_on": arrived_on} | row for row in rows]
    filled = [{name: row.get(name) for name in schema.names} for row in complete]
    frame = pa.Table.from_pylist(filled, schema=schema)
    warehouse.write(table, frame, replace=[{"arrived_on": arrived_on}])
    marks = {"rejected_rows": {"raw_table": "raw_interactions"}, "suppressed_users": {}}
    for marked, scope in marks.items():
        empty = warehouse.table(marked).contract.file_schema.empty_table()
        warehouse.write(marked, empty, day=arrived_on, **scope)


def suppress(user: str, night: dt.date) -> None:
    warehouse = arrow.Warehouse.open()
    row = {"user_id": user, "kind": "erase", "requested_at": NOON}
    schema = warehouse.table("suppressed_users").contract.file_schema
    warehouse.write("suppressed_users", pa.Table.from_pylist([row], schema=schema), day=night)


def events(night: dt.date, days: int = 7) -> list[tuple[str, int]]:
    rows = event_window.read_events(spark.Warehouse.open(), day=night, days=days).collect()
    return sorted((row.event_id, row.watch_ms) for row in rows)


def test_events_correction_replaces_the_row_it_corrects(place: Path, spark: SparkSession) -> None:
    arrive(
        "events", SUNDAY, EVENT,
        {"day": SUNDAY, "event_id": "a", "watch_ms": 1},
        {"day": SUNDAY, "event_id": "b", "watch_ms": 1},
        {"day": SUNDAY, "event_id": "c", "watch_ms": 1},
    )  # fmt: skip
    arrive(
        "events", MONDAY, EVENT,
        {"day": SUNDAY, "event_id": "a", "watch_ms": 2, "corrects": SUNDAY},
        {"day": SUNDAY, "event_id": "late", "watch_ms": 2},
        {"day": MONDAY, "event_id": "b", "watch_ms": 2},
        {"day": MONDAY, "event_id": "c", "watch_ms": 2},
    )  # fmt: skip
    arrive(
        "events", TUESDAY, EVENT,
        {"day": SUNDAY, "event_id": "a", "watch_ms": 3, "corrects": SUNDAY},
        {"day": SUNDAY, "event_id": "late", "watch_ms": 3, "corrects": MONDAY},
        {"day": MONDAY, "event_id": "c", "watch_ms": 3, "corrects": MONDAY},
        {"day": TUESDAY, "event_id": "d", "watch_ms": 3},
    )  # fmt: skip
    sunday, monday = [("a", 1), ("b", 1), ("c", 1)], [("b", 2), ("c", 2)]
    assert events(SUNDAY) == sunday
    assert events(MONDAY) == sorted([("a", 2), *sunday[1:], ("late", 2), *monday])
    assert events(TUESDAY) == sorted(
        [("a", 3), *sunday[1:], ("late", 3), ("b", 2), ("c", 3), ("d", 3)]
    )
    assert events(TUESDAY, days=2) == [("b", 2), ("c", 3), ("d", 3)]
    assert events(TUESDAY, days=1) == [("d", 3)]


def test_daily_watches_latest_arrival_of_a_pairs_day_is_read(
    place: Path, spark: SparkSession
) -> None:
    arrive(
        "daily_watches", SUNDAY, PAIR,
        {"day": SUNDAY, "n_views": 1},
        {"day": SUNDAY, "user_id": "other", "n_views": 1},
        {"day": SUNDAY, "user_id": "gone", "n_views": 1},
    )  # fmt: skip
    arrive(
        "daily_watches", MONDAY, PAIR, {"day": SUNDAY, "n_views": 2}, {"day": MONDAY, "n_views": 5}
    )
    arrive(
        "daily_watches", TUESDAY, PAIR,
        {"day": SUNDAY, "n_views": 3},
        {"day": SUNDAY, "user_id": "gone", "n_views": 3},
        {"day": MONDAY, "user_id": "other", "n_views": 3},
    )  # fmt: skip
    suppress("gone", TUESDAY)

    def seen(night: dt.date) -> list[tuple[str, str, int]]:
        rows = event_window.read_daily_watches(_house(), day=night, days=7).collect()
        return sorted((str(row.day)[-1], row.user_id, row.n_views) for row in rows)

    # Who has withdrawn on Tuesday is left out of the nights before too.
    assert seen(SUNDAY) == [("4", "other", 1), ("4", "u", 1)]
    assert seen(MONDAY) == [("4", "other", 1), ("4", "u", 2), ("5", "u", 5)]
    assert seen(TUESDAY) == [("4", "other", 1), ("4", "u", 3), ("5", "other", 3), ("5", "u", 5)]
    with pytest.raises(MissingDay, match="2026-01-07"):
        event_window.read_daily_watches(_house(), day=WEDNESDAY, days=7)


def test_days_on_which_a_user_had_opted_out_are_left_out(place: Path, spark: SparkSession) -> None:
    """A day that the period touches is left out whole; the user's other days count."""
    for night in (SUNDAY, MONDAY, TUESDAY):
        for table, default in (("events", EVENT), ("daily_watches", PAIR)):
            rows = [{"day": night, "user_id": user} for user in ("back", "u")]
            named = [row | {"event_id": str(number)} for number, row in enumerate(rows)]
            arrive(table, night, default, *(named if table == "events" else rows))
    warehouse = arrow.Warehouse.open()
    schema = warehouse.table("withheld_periods").contract.file_schema
    period = {"user_id": "back", "since": NOON, "until": NOON + dt.timedelta(days=1)}
    row = period | {"first_day": SUNDAY, "last_day": MONDAY}
    warehouse.write("withheld_periods", pa.Table.from_pylist([row], schema=schema), day=TUESDAY)
    expected = [(SUNDAY, "u"), (MONDAY, "u"), (TUESDAY, "back"), (TUESDAY, "u")]
    for read in (event_window.read_events, event_window.read_daily_watches):
        rows = read(_house(), day=TUESDAY, days=7).collect()
        assert sorted((row.day, row.user_id) for row in rows) == expected
    erased = row | {"since": None, "first_day": None, "last_day": MONDAY}
    warehouse.write("withheld_periods", pa.Table.from_pylist([erased], schema=schema), day=TUESDAY)
    rows = event_window.read_daily_watches(_house(), day=TUESDAY, days=7).collect()
    assert sorted((row.day, row.user_id) for row in rows) == expected


def test_rows_of_who_wants_no_profiling_are_left_out_until_they_take_it_back(
    place: Path, spark: SparkSession
) -> None:
    """Of nights before the wish too; another wish changes nothing."""
    for table, default in (("events", EVENT), ("daily_watches", PAIR)):
        rows = [{"day": SUNDAY, "user_id": user} for user in ("shy", "u")]
        named = [row | {"event_id": str(number)} for number, row in enumerate(rows)]
        arrive(table, SUNDAY, default, *(named if table == "events" else rows))
    warehouse = arrow.Warehouse.open()
    schema = warehouse.table("preferences").contract.file_schema

    def users(*kinds: tuple[str, str]) -> list[list[str]]:
        held = [{"user_id": user, "kind": kind, "value": "", "since": NOON} for user, kind in kinds]
        warehouse.write("preferences", pa.Table.from_pylist(held, schema=schema), day=TUESDAY)
        read = (event_window.read_events, event_window.read_daily_watches)
        tables = [each(_house(), day=SUNDAY, days=7).collect() for each in read]
        return [sorted(row.user_id for row in rows) for rows in tables]

    assert users(("shy", "no_profiling"), ("u", "no_exploration")) == [["u"], ["u"]]
    assert users(("u", "no_exploration")) == [["shy", "u"], ["shy", "u"]]


def test_rows_of_who_teaches_nobody_are_read_for_themselves_alone(
    place: Path, spark: SparkSession
) -> None:
    """Who wants no profiling either has none read."""
    for table, default in (("events", EVENT), ("daily_watches", PAIR)):
        rows = [{"day": SUNDAY, "user_id": user} for user in ("both", "quiet", "u")]
        named = [row | {"event_id": str(number)} for number, row in enumerate(rows)]
        arrive(table, SUNDAY, default, *(named if table == "events" else rows))
    warehouse = arrow.Warehouse.open()
    schema = warehouse.table("preferences").contract.file_schema

    def users(*kinds: tuple[str, str]) -> list[list[str]]:
        held = [{"user_id": user, "kind": kind, "value": "", "since": NOON} for user, kind in kinds]
        warehouse.write("preferences", pa.Table.from_pylist(held, schema=schema), day=TUESDAY)
        read = (
            event_window.read_events,
            event_window.read_daily_watches,
            event_window.read_private_watches,
        )
        tables = [each(_house(), day=SUNDAY, days=7).collect() for each in read]
        return [sorted(row.user_id for row in rows) for rows in tables]

    everybody = ["both", "quiet", "u"]
    assert users(("u", "no_exploration")) == [everybody, everybody, []]
    wishes = [("quiet", "no_teaching"), ("both", "no_teaching"), ("both", "no_profiling")]
    assert users(*wishes) == [["u"], ["u"], ["quiet"]]


def test_stamps_of_partitions_change_with_their_files(place: Path, spark: SparkSession) -> None:
    arrive("events", SUNDAY, EVENT, {"day": SUNDAY, "event_id": "a"})
    arrive(
        "events", MONDAY, EVENT, {"day": SUNDAY, "event_id": "b"}, {"day": MONDAY, "event_id": "c"}
    )
    arrive("events", TUESDAY, EVENT)
    before = _house().arrivals("events", day=TUESDAY, days=7)
    assert list(before) == [(SUNDAY, SUNDAY), (SUNDAY, MONDAY), (MONDAY, MONDAY)]
    assert list(_house().arrivals("events", day=MONDAY, days=1)) == [(MONDAY, MONDAY)]
    assert list(_house().arrivals("events", day=SUNDAY, days=7)) == [(SUNDAY, SUNDAY)]
    arrive(
        "events", MONDAY, EVENT, {"day": SUNDAY, "event_id": "b"}, {"day": MONDAY, "event_id": "c"}
    )
    after = _house().arrivals("events", day=TUESDAY, days=7)
    assert {of for of in before if before[of] != after[of]} == {(SUNDAY, MONDAY), (MONDAY, MONDAY)}


def test_partitions_read_are_exactly_those_requested(place: Path, spark: SparkSession) -> None:
    arrive("events", SUNDAY, EVENT, {"day": SUNDAY, "event_id": "a"})
    arrive(
        "events", MONDAY, EVENT,
        {"day": SUNDAY, "event_id": "a", "corrects": SUNDAY},
        {"day": MONDAY, "event_id": "c"},
    )  # fmt: skip

    def read(*arrivals: tuple[dt.date, dt.date]) -> list[tuple[str, dt.date]]:
        rows = _house().read_arrivals("events", arrivals).collect()
        return sorted((row.event_id, row.arrived_on) for row in rows)

    assert read((SUNDAY, SUNDAY)) == [("a", SUNDAY)]
    assert read((SUNDAY, SUNDAY), (SUNDAY, MONDAY)) == [("a", SUNDAY), ("a", MONDAY)]
    assert read() == []
    assert (
        _house().read_arrivals("events", []).columns
        == _house().table("events").contract.schema.names
    )


def test_partitions_remember_their_inputs(place: Path, spark: SparkSession) -> None:
    arrive("daily_watches", SUNDAY, PAIR, {"day": SUNDAY})
    arrive("daily_watches", MONDAY, PAIR, {"day": SUNDAY}, {"day": MONDAY})
    warehouse = arrow.Warehouse.open()
    rows = warehouse.read("daily_watches", day=SUNDAY, arrived_on=MONDAY)
    scope = {"day": SUNDAY, "arrived_on": MONDAY}
    warehouse.write("daily_watches", rows, replace=[scope], made_with=["word"])
    assert _house().arrivals_made_with("daily_watches", day=MONDAY, days=7) == {
        (SUNDAY, SUNDAY): None,
        (SUNDAY, MONDAY): "word",
        (MONDAY, MONDAY): None,
    }
    assert _house().arrivals_made_with("daily_watches", day=MONDAY, days=1) == {
        (MONDAY, MONDAY): None
    }


def _house() -> spark.Warehouse:
    return spark.Warehouse.open()
