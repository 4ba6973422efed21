"""A night builds what changed and no more, and gives what a loop over all raw viewings gives."""

import datetime as dt
import random
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tomli_w
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from jobs import build_watch_graph, count_exposures
from microrec.config import settings as house_settings
from microrec.graphs.watch import clip_edges, daily
from microrec.graphs.watch.sums import UNIT
from microrec.tables.arrow import Warehouse
from tests.worlds.graph_rows import Rows, exit_row, instant, sorted_rows

CONFIG = clip_edges.Config()


def on(day: int) -> dt.date:
    return dt.date(2026, 1, day)


# --- The plan -----------------------------------------------------------------------------------------

EVENTS = {
    (on(1), on(1)): "a",
    (on(1), on(2)): "b",
    (on(2), on(2)): "c",
    (on(1), on(3)): "d",
    (on(3), on(3)): "e",
}


def planned(events: Any, committed: Any, config: clip_edges.Config = CONFIG) -> daily.Plan:
    return daily.plan(events, committed, config=config)


def stamps(events: Any) -> dict[daily.Arrival, str]:
    return dict(planned(events, {}).build)


def test_daily_first_night_builds_everything() -> None:
    plan = planned(EVENTS, {})
    assert sorted(plan.build) == sorted(EVENTS)
    assert str(plan) == "plan=full build=5 reuse=0 reasons=new:5"
    assert set(plan.fresh) == {(on(1), on(1)), (on(2), on(2)), (on(3), on(3))}
    assert set(plan.late) == {(on(1), on(2)), (on(1), on(3))}
    assert set(plan.earlier) == {(on(1), on(1)), (on(1), on(2))}


def test_daily_next_night_builds_arrivals_and_reopened_days() -> None:
    before = {of: word for of, word in EVENTS.items() if of[1] < on(3)}
    plan = planned(EVENTS, stamps(before))
    assert str(plan) == "plan=incremental build=2 reuse=3 reasons=new:2"
    assert plan.fresh == ((on(3), on(3)),)
    assert plan.late == ((on(1), on(3)),)
    assert plan.earlier == ((on(1), on(1)), (on(1), on(2)))


def test_daily_same_night_again_builds_nothing() -> None:
    plan = planned(EVENTS, stamps(EVENTS))
    assert str(plan) == "plan=incremental build=0 reuse=5 reasons=none"
    assert plan.fresh == plan.late == plan.earlier == ()


def test_daily_other_events_rebuild_their_arrivals_and_later() -> None:
    plan = planned({**EVENTS, (on(1), on(2)): "other"}, stamps(EVENTS))
    assert sorted(plan.build) == [(on(1), on(2)), (on(1), on(3))]
    assert plan.reasons == {"events": 2}


def test_daily_deleted_events_leave_one_empty_partition() -> None:
    remaining = {of: text for of, text in EVENTS.items() if of != (on(1), on(3))}
    plan = planned(remaining, stamps(EVENTS))
    assert sorted(plan.build) == [(on(1), on(3))]
    assert plan.fresh == plan.late == plan.earlier == ()
    assert not planned(remaining, {**stamps(remaining), **plan.build}).build


@pytest.mark.parametrize(
    "config",
    [
        clip_edges.Config(cut="equal"),
        clip_edges.Config(clip_ms=4_000),
        clip_edges.Config(early_ms=1),
    ],
    ids=str,
)
def test_daily_other_clip_cuts_rebuild_everything(config: clip_edges.Config) -> None:
    assert str(planned(EVENTS, stamps(EVENTS), config)) == (
        "plan=full build=5 reuse=0 reasons=rule:5"
    )


def test_daily_new_format_rebuilds_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stamps(EVENTS)
    monkeypatch.setattr(daily, "FORMAT", daily.FORMAT + 1)
    assert planned(EVENTS, before).reasons == {"rule": 5}


def test_daily_partition_of_unknown_origin_is_rebuilt() -> None:
    assert planned(EVENTS, {**stamps(EVENTS), (on(2), on(2)): None}).reasons == {"unknown": 1}


@given(
    st.dictionaries(st.tuples(st.integers(1, 4), st.integers(0, 3)), st.sampled_from("ab")),
    st.dictionaries(st.tuples(st.integers(1, 4), st.integers(0, 3)), st.sampled_from("ab")),
)
def test_daily_reused_partitions_were_made_of_the_same_events(
    before: dict[tuple[int, int], str], now: dict[tuple[int, int], str]
) -> None:
    old, new = (
        {(on(day), on(day + lag)): word for (day, lag), word in events.items()}
        for events in (before, now)
    )
    plan = planned(new, stamps(old))
    assert sorted([*plan.build, *plan.reuse]) == sorted({*old, *new})
    for day, arrived_on in plan.reuse:
        of_day = [
            {of: word for of, word in events.items() if of[0] == day and of[1] <= arrived_on}
            for events in (old, new)
        ]
        assert of_day[0] == of_day[1]
    for late in plan.late:
        assert {of for of in new if of[0] == late[0] and of[1] < late[1]} <= set(plan.earlier)


# --- The aggregates -----------------------------------------------------------------------------------

COLUMNS = ("arrived_on", "user_id", "n_views", "n_positive", "n_negative", "counted_ms", "undone")


def aggregated(fresh: Any, late: Any, earlier: Any) -> Any:
    """Aggregates, and of each the watch times of the viewings that count."""
    days = daily.daily_watches(fresh, late, earlier, config=CONFIG)
    counting = F.transform(F.filter("viewings", lambda of: of["counts"]), lambda of: of["watch_ms"])
    return days.withColumn("counted_ms", counting)


@pytest.mark.spark
def test_daily_viewings_of_a_day_sum(rows: Rows) -> None:
    events = rows(
        "events",
        {"started_at": instant(5, 9), "watch_ms": 6_000},
        {"started_at": instant(5, 10), "feedback": "neutral"},
        {"started_at": instant(5, 11), "feedback": "negative", "watch_ms": 100},
        {"started_at": instant(5, 12), "feedback": "not_started", "watch_ms": 0},
        {"started_at": instant(4, 11), "user_id": "u2"},
    )
    found_rows = sorted_rows(aggregated(events, events.limit(0), events.limit(0)), *COLUMNS)
    assert found_rows == [
        (on(4), "u2", 1, 1, 0, [10_000], False),
        (on(5), "u1", 4, 1, 1, [6_000, 10_000], False),
    ]
    (day,) = sorted_rows(
        aggregated(events.where("user_id = 'u1'"), events.limit(0), events.limit(0)),
        "first_at", "last_at", "clip_exits",
    )  # fmt: skip
    exits = [exit_row(watch_ms, 10_000, CONFIG) for watch_ms in (100, 6_000, 10_000)]
    assert day == (instant(5, 9), instant(5, 12), exits)


@pytest.mark.spark
def test_daily_viewings_that_started_are_kept_by_surface(rows: Rows) -> None:
    """A later dislike takes no positive from them; what never started is not among them."""
    dislike = {"feedback": "negative", "disliked": True, "watch_ms": 0}
    events = rows(
        "events",
        {"started_at": instant(5, 9), "surface": "search"},
        {"started_at": instant(5, 9), "surface": "feed", "feedback": "negative"},
        {"started_at": instant(5, 10), "feedback": "neutral"},
        {"started_at": instant(5, 11), "surface": "feed", **dislike},
        {"started_at": instant(5, 12), "surface": "feed", "feedback": "not_started"},
        {"started_at": instant(5, 9), "video_id": "v2", "feedback": "not_started"},
    )
    none = events.limit(0)
    found = sorted_rows(aggregated(events, none, none), "video_id", "started")
    told = [("", False), ("feed", False), ("feed", False), ("search", True)]
    started = [{"surface": surface, "positive": positive} for surface, positive in told]
    assert found == [("v1", started), ("v2", [])]


@pytest.mark.spark
def test_daily_unmeasured_viewings_count_but_left_nowhere(rows: Rows) -> None:
    unmeasured = {"started_at": instant(5, 9), "watch_ms": None, "duration_ms": None}
    events = rows("events", unmeasured, {"started_at": instant(5, 10)})
    none = events.limit(0)
    ((n_views, exits),) = sorted_rows(aggregated(events, none, none), "n_views", "clip_exits")
    assert (n_views, len(exits)) == (2, 1)


@pytest.mark.spark
def test_daily_dislike_voids_earlier_and_simultaneous_views(rows: Rows) -> None:
    dislike = {"feedback": "negative", "disliked": True, "watch_ms": 1}
    events = rows(
        "events",
        {"started_at": instant(5, 9), "watch_ms": 2_000},
        {"started_at": instant(5, 10), "watch_ms": 3_000},
        {"started_at": instant(5, 10), **dislike},
        {"started_at": instant(5, 8), **dislike},
        {"started_at": instant(5, 11), "watch_ms": 4_000},
        {"started_at": instant(5, 12), "user_id": "u2"},
    )
    assert sorted_rows(aggregated(events, events.limit(0), events.limit(0)), *COLUMNS) == [
        (on(5), "u1", 5, 1, 2, [4_000], True),
        (on(5), "u2", 1, 1, 0, [10_000], False),
    ]


@pytest.mark.spark
def test_daily_late_partition_recomputes_only_touched_pairs(rows: Rows) -> None:
    first = {"started_at": instant(5, 9), "watch_ms": 5_000}
    own = rows("events", {**first, "event_id": "a"}, {**first, "user_id": "u2"})
    second = {**first, "arrived_on": on(6), "watch_ms": 2_500, "event_id": "b"}
    third = {"arrived_on": on(7), "event_id": "c"}
    late = rows("events", second, {**third, "started_at": instant(5, 8)})
    told = sorted_rows(aggregated(own, late, own.unionByName(late)), *COLUMNS)
    assert told == [
        (on(5), "u1", 1, 1, 0, [5_000], False),
        (on(5), "u2", 1, 1, 0, [5_000], False),
        (on(6), "u1", 2, 2, 0, [2_500, 5_000], False),
        (on(7), "u1", 3, 3, 0, [2_500, 5_000, 10_000], False),
    ]
    assert sorted_rows(aggregated(own.limit(0), late.where("event_id = 'c'"), own), *COLUMNS) == [
        (on(7), "u1", 2, 2, 0, [5_000, 10_000], False)
    ]


@pytest.mark.spark
def test_daily_correction_replaces_its_original(rows: Rows) -> None:
    liked = {"event_id": "a", "started_at": instant(5, 9), "watch_ms": 5_000}
    own = rows("events", liked, {**liked, "event_id": "b", "watch_ms": 2_500})
    unliked = {**liked, "arrived_on": on(6), "feedback": "negative", "watch_ms": 1}
    again = {**liked, "arrived_on": on(7), "feedback": "neutral", "watch_ms": 9_000}
    late = rows("events", unliked, again)
    assert sorted_rows(aggregated(own, late, own.unionByName(late)), *COLUMNS) == [
        (on(5), "u1", 2, 2, 0, [2_500, 5_000], False),
        (on(6), "u1", 2, 1, 1, [2_500], False),
        (on(7), "u1", 2, 1, 0, [2_500, 9_000], False),
    ]


# --- Nights of a random world against a loop -----------------------------------------------------------

NIGHTS = [on(4), on(6)]
WINDOW, HALF_LIFE = 4, 1.0
FEEDBACK = {
    "like": "positive",
    "watch": "neutral",
    "skip": "negative",
    "dislike": "negative",
    "pass": "not_started",
}


def world(seed: int, n_users: int = 60) -> list[dict[str, Any]]:
    """Rows of `events`: some arrive late, some are corrected once or twice, few instants, so ties."""
    pick = random.Random(seed)
    rows = []
    for number in range(n_users * 4):
        day = on(pick.randint(1, 6))
        video = f"v{pick.randint(0, 2)}"
        told = {
            "event_id": f"e{number}",
            "user_id": f"u{number % n_users:02}",
            "video_id": video,
            "day": day,
            "arrived_on": day + dt.timedelta(pick.choice([0, 0, 0, 1, 2])),
            "corrects": None,
        }
        rows.append(told | _content(pick, day))
        while pick.random() < 0.3:
            arrived_on = rows[-1]["arrived_on"] + dt.timedelta(pick.randint(1, 2))
            told = told | {"arrived_on": arrived_on, "corrects": rows[-1]["arrived_on"]}
            rows.append(told | _content(pick, day))
    return rows


def _content(pick: random.Random, day: dt.date) -> dict[str, Any]:
    kind = pick.choice(["like", "like", "watch", "skip", "dislike", "pass"])
    played = pick.choice([0, 2_000, 4_999, 5_000, 8_000, 16_000])
    return {
        "started_at": instant(day.day, pick.randint(0, 3)),
        "watch_ms": 0 if kind == "pass" else played,
        "duration_ms": pick.choice([8_000, 8_000, 17_000]),
        "feedback": FEEDBACK[kind],
        "disliked": kind == "dislike",
        "surface": pick.choice([None, "feed", "search"]),
    }


SUPPRESSED = {on(4): ["u00"], on(6): ["u01", "u02"]}
NOW = on(6)
"""Consent of this night counts for all."""


def known(rows: list[dict[str, Any]], night: dt.date) -> list[dict[str, Any]]:
    """Of each event id the row that arrived last by the end of the night."""
    last: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["arrived_on"]):
        if row["arrived_on"] <= night:
            last[row["event_id"]] = row
    return list(last.values())


def part_of(day: dt.date, night: dt.date) -> str:
    return {0: "holdout", 1: "validation"}.get((night - day).days, "train")


def clip_rows(viewings: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Edges of a pair's day: clip, sign and weight."""
    nets: dict[int, Fraction] = defaultdict(Fraction)
    told = [exit_row(row["watch_ms"], row["duration_ms"], CONFIG) for row in viewings]
    exits = [one for one in told if one is not None]
    for one in exits:
        for clip in range(one["n_through"]):
            nets[clip] += 1
        if one["n_through"] < one["n_clips"]:
            nets[one["n_through"]] -= 1 if one["early"] else Fraction(1, 2)
    n_clips = max((one["n_clips"] for one in exits), default=0)
    return [
        (clip, 1, float(net / n_clips)) if net > 0 else (clip, -1, float(-net))
        for clip, net in nets.items()
        if net
    ]


def expected(rows: list[dict[str, Any]], night: dt.date) -> dict[str, list[Any]]:
    seen = [
        row
        for row in known(rows, night)
        if 0 <= (night - row["day"]).days < WINDOW and row["user_id"] not in SUPPRESSED[NOW]
    ]
    seen = [row | {"strength": _strength(row, seen)} for row in seen]
    users = sorted({row["user_id"] for row in seen})
    pairs = defaultdict(list)
    for row in seen:
        place = users.index(row["user_id"]), int(row["video_id"][1:])
        pairs[part_of(row["day"], night), *place].append(row)
    expected: dict[str, list[Any]] = {
        "users": [_node(n, user, "video_id", seen) for n, user in enumerate(users)],
        "video_nodes": [_node(n, f"v{n}", "user_id", seen) for n in range(4)],
        "watch_edges": [],
        "clip_edges": [],
        "exposure_counts": counted(users, seen),
    }
    for key, viewings in pairs.items():
        expected["watch_edges"].append((*key, *_weighed(viewings, night)))
        for day in {row["day"] for row in viewings}:
            of_day = [row for row in viewings if row["day"] == day]
            expected["clip_edges"] += [(*key, day, *edge) for edge in clip_rows(of_day)]
    return {table: sorted(values) for table, values in expected.items()}


def _strength(row: dict[str, Any], seen: list[dict[str, Any]]) -> float:
    """The mid-rank of a viewing among those of its day and of like length that played: of people of the night alone."""
    if row["watch_ms"] == 0:
        return 0.5
    alike = (row["day"], row["duration_ms"])  # The lengths of the world are a bucket each.
    peers = [p["watch_ms"] for p in seen if (p["day"], p["duration_ms"]) == alike and p["watch_ms"]]
    less = sum(watch_ms < row["watch_ms"] for watch_ms in peers)
    return (less + peers.count(row["watch_ms"]) / 2) / len(peers)


def counted(users: list[str], seen: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """How often each pair was shown and liked, by surface and day."""
    totals: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
    for row in (one for one in seen if one["feedback"] != "not_started"):
        pair = users.index(row["user_id"]), int(row["video_id"][1:])
        total = totals[*pair, row["surface"] or "", row["day"]]
        total[0] += 1
        total[1] += row["feedback"] == "positive"
    return [(*key, *total) for key, total in totals.items()]


def _node(idx: int, one: str, other: str, seen: list[dict[str, Any]]) -> tuple[Any, ...]:
    mine = [row for row in seen if one in (row["user_id"], row["video_id"])]
    first = min((row["started_at"] for row in mine), default=None)
    return idx, one, len({row[other] for row in mine}), first


def _weighed(viewings: list[dict[str, Any]], night: dt.date) -> tuple[Any, ...]:
    """A viewing counts unless the pair was disliked at its instant or later in the same part."""
    standing = [
        row
        for row in viewings
        if not any(o["disliked"] and o["started_at"] >= row["started_at"] for o in viewings)
    ]
    terms = [
        row["strength"] * 0.5 ** ((night - row["day"]).days / HALF_LIFE)
        for row in standing
        if row["feedback"] in ("positive", "neutral")
    ]
    weight = sum(round(term * UNIT) for term in terms) / UNIT
    return (
        weight,
        len(viewings),
        sum(row["feedback"] == "positive" for row in standing),
        sum(row["feedback"] == "negative" for row in viewings),
        any(row["disliked"] for row in viewings),
        max(row["started_at"] for row in viewings),
    )


COMPARED = {
    "users": ("user_idx", "user_id", "degree", "first_seen"),
    "video_nodes": ("video_idx", "video_id", "degree", "first_seen"),
    "watch_edges": (
        "split", "user_idx", "video_idx",
        "weight", "n_views", "n_positive", "n_negative", "undone", "last_at",
    ),
    "clip_edges": (
        "split", "user_idx", "video_idx", "watched_on", "clip_no", "sign", "weight"
    ),
    "exposure_counts": (
        "user_idx", "video_idx", "surface", "shown_on", "n_shown", "n_positive"
    ),
}  # fmt: skip


def built(night: dt.date) -> dict[str, list[Any]]:
    warehouse = Warehouse.open()
    return {
        table: sorted(
            tuple(row[name] for name in columns)
            for row in warehouse.read(table, day=night).to_pylist()
        )
        for table, columns in COMPARED.items()
    }


def aggregates() -> list[str]:
    rows = Warehouse.open().read("daily_watches").to_pylist()
    return sorted(map(str, rows))


def arrive(rows: list[dict[str, Any]], days: list[dt.date]) -> None:
    """Commit the arrival days, as `validate_events` would."""
    warehouse = Warehouse.open()
    schema = warehouse.table("events").contract.schema
    filled = {
        "watch_ratio": 1.0, "n_replays": 0, "skipped": False,
        **dict.fromkeys(("liked", "shared", "followed", "commented"), False),
    }  # fmt: skip
    arrived = [filled | row for row in rows if row["arrived_on"] in days]
    table = pa.Table.from_pylist(
        [{name: row.get(name) for name in schema.names} for row in arrived], schema=schema
    )
    warehouse.write("events", table, replace=[{"arrived_on": day} for day in days])
    for day in days:
        refused = warehouse.table("rejected_rows").contract.file_schema.empty_table()
        warehouse.write("rejected_rows", refused, day=day, raw_table="raw_interactions")


def catalogue_and_consent() -> None:
    warehouse = Warehouse.open()
    for night in NIGHTS:
        videos = [{"video_id": f"v{n}", "eligible": True} for n in range(4)]
        asked = [
            {"user_id": user, "kind": "opt_out", "requested_at": instant(1)}
            for user in SUPPRESSED[night]
        ]
        for table, rows in (("videos", videos), ("suppressed_users", asked)):
            schema = warehouse.table(table).contract.file_schema
            filled = [{name: row.get(name) for name in schema.names} for row in rows]
            warehouse.write(table, pa.Table.from_pylist(filled, schema=schema), day=night)


@pytest.fixture
def somewhere(
    place: Path, interpreted: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Call it with a name to be in an empty warehouse of that name, with the recipe of this test."""
    recipe = {"night": {"window_days": WINDOW}, "graphs": {"watch": {"half_life_days": HALF_LIFE}}}
    (place / "recipe.toml").write_text(tomli_w.dumps(recipe))
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))

    def go(name: str) -> None:
        monkeypatch.setenv("MICROREC_WAREHOUSE", str(place / name))
        house_settings.settings.cache_clear()
        catalogue_and_consent()

    return go


@pytest.mark.spark
@settings(
    max_examples=1,  # a world holds some 200 pairs, each with a history of its own
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[
        HealthCheck.function_scoped_fixture
    ],  # each world has a place of its own
)
@given(seed=st.integers(0, 2**32))
def test_daily_nights_in_any_order_equal_a_loop(
    somewhere: Callable[[str], None], seed: int
) -> None:
    rows = world(seed)
    somewhere(f"one-by-one-{seed}")
    arrived: list[dt.date] = []
    for night in NIGHTS:
        days = [on(n) for n in range(1, night.day + 1) if on(n) not in arrived]
        arrive(rows, days)
        arrived += days
        build_watch_graph.main(day=night)
        count_exposures.main(day=night, anyway=True)
    one_by_one = {night: built(night) for night in NIGHTS}
    for night in NIGHTS:
        assert one_by_one[night] == expected(rows, night)
    kept = aggregates()

    somewhere(f"last-first-{seed}")
    arrive(rows, [on(n) for n in range(1, 9)])
    for night in NIGHTS[::-1]:
        build_watch_graph.main(day=night)
        count_exposures.main(day=night, anyway=True)
        assert built(night) == one_by_one[night]
    assert aggregates() == kept
