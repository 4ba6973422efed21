"""Histories in order, futures from others, and nothing at or after a row's cut."""

import datetime as dt
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import build_sequences
from microrec.config.settings import settings
from microrec.core import days
from microrec.errors import MissingDay
from microrec.graphs.sequences import cuts, futures, sequences
from microrec.graphs.sequences.sequences import Config
from microrec.graphs.similarity import pearson, user_edges
from microrec.graphs.watch import strength, watch_edges
from microrec.tables import arrow
from tests.worlds.graph_rows import DAY, Rows, instant

Lists = dict[tuple[dt.datetime, int], dict[str, Any]]
Viewing = tuple[dt.datetime, int]
CONFIG = Config(
    example_days=3,
    history_length=6,
    n_anchors=3,
    fragment_length=2,
    future_length=4,
    activity_quantile=0.9,
    touch_cap=2,
    n_successors=2,
)
CUTS = cuts.cuts(DAY, n_days=CONFIG.example_days)
NETWORK = pearson.Config(min_common=1, k=4)
N_USERS, N_VIDEOS = 14, 25


def lists(
    viewings: DataFrame,
    network: DataFrame,
    users: DataFrame,
    config: Config,
    day: dt.date = DAY,
    remembered: dict[int, list[int]] | None = None,
) -> Lists:
    at = cuts.cuts(day, n_days=config.example_days)
    shown = sequences.exposures(viewings, cuts=at)
    wanted = sequences.wanted_rows(shown, users, cuts=at)
    positive = sequences.positive_viewings(viewings, config=config)
    looked_up = sequences.futures(
        positive, network, wanted, cuts=at, n_users=N_USERS, config=config
    )
    histories = sequences.histories(positive, wanted, cuts=at)
    result = sequences.sequences(wanted, histories, looked_up)
    if remembered:
        seen = viewings.sparkSession.createDataFrame(
            [*remembered.items()], "user_idx int, remembered array<int>"
        )
        disliked = sequences.dislikes(viewings, cuts=at)
        result = sequences.without_unwanted(result, disliked, seen)
    found = {}
    for row in result.toArrow().to_pylist():
        key = (row.pop("cut_at"), row.pop("user_idx"))
        assert key not in found
        for half in ("history", "future"):
            row[half] = [tuple(one.values()) for one in row[half]]
        found[key] = row
    return found


def random_events(seed: int, n: int = 380) -> list[dict[str, Any]]:
    """Viewings of days 1 to 5, more videos every day; users of unequal activity; no two at one instant."""
    generator = np.random.default_rng(seed)
    share = generator.dirichlet(np.ones(N_USERS))
    events = []
    for number in range(n):
        at = instant(1, number * 5 * 24 / n)
        events.append(
            {
                "user_idx": int(generator.choice(N_USERS, p=share)),
                "video_idx": int(generator.integers(10 + number * (N_VIDEOS - 10) // n)),
                "started_at": at,
                "day": at.date(),
                "feedback": "positive" if generator.uniform() < 0.8 else "negative",
            }
        )
    return events


def history_before(events: list[dict[str, Any]], cut: dt.datetime) -> dict[int, list[Viewing]]:
    found: dict[int, list[Viewing]] = defaultdict(list)
    for one in sorted(events, key=lambda one: (one["started_at"], one["video_idx"])):
        if one["feedback"] == "positive" and one["started_at"] < cut:
            found[one["user_idx"]].append((one["started_at"], one["video_idx"]))
    return found


def fragments(
    seen: dict[int, list[Viewing]], config: Config
) -> dict[int, dict[int, list[Viewing]]]:
    """By video and user: what followed the last touch, of those who are looked up."""
    counts = sorted(len(one) for one in seen.values())
    usual = counts[max(0, math.ceil(config.activity_quantile * len(counts)) - 1)] if counts else 0
    found: dict[int, dict[int, list[Viewing]]] = defaultdict(dict)
    for video in {video for one in seen.values() for _, video in one}:
        touched = []
        for user, mine in seen.items():
            if len(mine) <= usual and any(one == video for _, one in mine):
                place = max(place for place, (_, one) in enumerate(mine) if one == video)
                after = mine[place + 1 : place + 1 + config.fragment_length]
                if after := [one for one in after if one[0] > mine[place][0]]:
                    touched.append((mine[place][0], user, after))
        touched.sort(key=lambda one: (-one[0].timestamp(), one[1]))
        found[video] = {user: after for _, user, after in touched[: config.touch_cap]}
    return found


def brute_future(
    user: int, near: dict[int, float], seen: dict[int, list[Viewing]], cut: dt.datetime, config: Config
) -> tuple[str, list[tuple[Any, ...]]]:  # fmt: skip
    last = {video: place for place, (_, video) in enumerate(seen[user])}
    anchors = sorted(last, key=lambda video: -last[video])[: config.n_anchors]
    followed = fragments(seen, config)

    def fresh(at: dt.datetime) -> float:
        return math.exp(-(cut - at).total_seconds() / 86_400 / config.tau_days)

    by: dict[str, dict[int, list[float]]] = {"neighbours": {}, "successors": {}}
    latest: dict[str, dict[int, dt.datetime]] = {"neighbours": {}, "successors": {}}

    def add(source: str, video: int, weight: float, at: dt.datetime) -> None:
        by[source].setdefault(video, []).append(weight)
        latest[source][video] = max(at, latest[source].get(video, at))

    for anchor in anchors:
        for neighbour, correlation in near.items():
            for at, video in followed[anchor].get(neighbour, []):
                add("neighbours", video, correlation * fresh(at), at)
        after: dict[int, list[dt.datetime]] = defaultdict(list)
        for of_user in followed[anchor].values():
            for at, video in of_user:
                after[video].append(at)
        weight = {video: round(sum(map(fresh, some)), 12) for video, some in after.items()}
        for video in sorted(weight, key=lambda one: (-weight[one], one))[: config.n_successors]:
            add("successors", video, weight[video], max(after[video]))
    for source in ("neighbours", "successors"):
        left = {video: sum(some) for video, some in by[source].items() if video not in last}
        kept = sorted(left, key=lambda one: (-round(left[one], 12), one))[: config.future_length]
        if kept:
            return source, sorted((latest[source][one], one, left[one]) for one in kept)
    return "none", []


def random_network(seed: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    return [
        {"cut_at": cut, "user_idx": u, "neighbour_idx": int(v), "pearson": float(generator.uniform(0.1, 1))}
        for cut in CUTS
        for u in range(N_USERS)
        for v in generator.permutation(N_USERS)[:3]
        if u != v
    ]  # fmt: skip


def network_frame(viewings: DataFrame, edges: list[dict[str, Any]]) -> DataFrame:
    kinds = "cut_at timestamp, user_idx int, neighbour_idx int, pearson double"
    tuples = [tuple(one.values()) for one in edges]
    return viewings.sparkSession.createDataFrame(tuples, kinds)


@pytest.mark.spark
@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(("seed", "at_once"), [(1, 250_000), (2, 4)], ids=["whole", "in blocks"])
def test_sequences_random_world_equals_brute_force_at_every_cut(
    rows: Rows, seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequences, "USERS_AT_ONCE", at_once)
    events = random_events(seed)
    edges = random_network(seed)
    users = rows("users", *[{"user_idx": u, "user_id": f"u{u}"} for u in range(N_USERS)])
    viewings = rows("events", *events).repartition(3)
    found = lists(viewings, network_frame(viewings, edges), users, CONFIG)
    shown = {(days.start(one["day"]), one["user_idx"]) for one in events}
    everyone = {(cut, user) for cut in CUTS[-2:] for user in range(N_USERS)}
    assert set(found) == everyone | {one for one in shown if one[0] in CUTS[:-2]}
    sources = defaultdict(int)
    for (cut, user), row in found.items():
        seen = history_before(events, cut)
        near = {
            one["neighbour_idx"]: one["pearson"]
            for one in edges
            if (one["cut_at"], one["user_idx"]) == (cut, user)
        }
        source, future = brute_future(user, near, seen, cut, CONFIG)
        assert row["history"] == [(video, at) for at, video in seen[user]][-CONFIG.history_length :]
        assert row["future_from"] == source
        assert [(at, video) for video, at, _ in row["future"]] == [one[:2] for one in future]
        assert [one[2] for one in row["future"]] == pytest.approx([one[2] for one in future])
        times = [one[1] for one in row["history"] + row["future"]]
        assert row["last_at"] == max(times, default=None)
        assert all(at < cut for at in times)
        sources[source] += 1
    assert min(sources[name] for name in futures.SOURCES) > 0


@pytest.mark.spark
@pytest.mark.usefixtures("interpreted")
def test_sequences_later_events_change_nothing_at_a_cut(rows: Rows) -> None:
    """The leak canary: of two worlds only the days before day 4 are the same; rows as of it stand."""
    cut = CUTS[1]
    before = [one for one in random_events(3) if one["started_at"] < cut]
    worlds = [
        of_world(rows, [*before, *(one for one in random_events(seed) if one["started_at"] >= cut)])
        for seed in (3, 4)
    ]
    shared = [key for key in worlds[0] if key[0] <= cut and key in worlds[1]]
    assert len([key for key in shared if key[0] == cut and worlds[0][key]["future"]]) > 3
    for key in shared:
        assert worlds[0][key] == worlds[1][key]
    later = [key for key in worlds[0] if key[0] > cut and key in worlds[1]]
    assert any(worlds[0][key] != worlds[1][key] for key in later)


@pytest.mark.spark
@pytest.mark.usefixtures("interpreted")
def test_sequences_as_of_an_earlier_day_equal_its_trial(rows: Rows) -> None:
    events = random_events(9)
    cut = CUTS[1]
    tonight = of_world(rows, events)
    of_that_day = [one for one in events if one["day"] <= cut.date()]
    that_night = of_world(rows, of_that_day, day=cut.date())
    shared = [key for key in tonight if key[0] == cut]
    assert len([key for key in shared if tonight[key]["future"]]) > 3
    for key in shared:
        assert tonight[key] == that_night[key]


@pytest.mark.spark
@pytest.mark.usefixtures("interpreted")
def test_sequences_have_nothing_that_was_disliked_or_seen_before_the_window(rows: Rows) -> None:
    """A positive viewing after the dislike stands, and one before it at an earlier cut."""
    events = random_events(3)
    for number, event in enumerate(events):
        event["disliked"] = event["feedback"] == "negative" and number % 2 == 0
    edges = random_network(3)
    users = rows("users", *[{"user_idx": u, "user_id": f"u{u}"} for u in range(N_USERS)])
    viewings = rows("events", *events).repartition(3)
    remembered = {user: [user % 7, 20 + user % 3] for user in range(0, N_USERS, 2)}
    network = network_frame(viewings, edges)
    plain = lists(viewings, network, users, CONFIG)
    kept = lists(viewings, network, users, CONFIG, remembered=remembered)
    assert set(kept) == set(plain)
    n_gone = {"history": 0, "future": 0}
    for (cut, user), row in kept.items():
        before = plain[cut, user]
        disliked: dict[int, dt.datetime] = {}
        for event in events:
            if event["disliked"] and event["user_idx"] == user and event["started_at"] < cut:
                disliked[event["video_idx"]] = event["started_at"]
        unwanted = {*disliked, *remembered.get(user, [])}
        stands = [(v, at) for v, at in before["history"] if v not in disliked or at >= disliked[v]]
        assert row["history"] == stands
        assert row["future"] == [one for one in before["future"] if one[0] not in unwanted]
        assert row["future_from"] == (before["future_from"] if row["future"] else "none")
        times = [one[1] for one in row["history"] + row["future"]]
        assert row["last_at"] == max(times, default=None)
        for half in n_gone:
            n_gone[half] += len(before[half]) - len(row[half])
    assert min(n_gone.values()) > 0


def of_world(rows: Rows, events: list[dict[str, Any]], day: dt.date = DAY) -> Lists:
    """A night with networks made of its events."""
    users = rows("users", *[{"user_idx": u, "user_id": f"u{u}"} for u in range(N_USERS)])
    viewings = rows("events", *events)
    at = cuts.cuts(day, n_days=CONFIG.example_days)
    wanted = sequences.wanted_rows(sequences.exposures(viewings, cuts=at), users, cuts=at)
    network = as_of_network(rows, events, users, wanted, NETWORK, at)
    return lists(viewings, network, users, CONFIG, day)


def as_of_network(
    rows: Rows,
    events: list[dict[str, Any]],
    users: DataFrame,
    wanted: DataFrame,
    config: pearson.Config,
    at: list[dt.datetime] = CUTS,
) -> DataFrame:
    """Whom users correlate with as of every cut, all built by `cuts.networks`."""
    videos = rows("video_nodes", *[{"video_idx": v, "video_id": f"v{v}"} for v in range(N_VIDEOS)])
    pairs = cuts.pairs(
        rows("daily_watches", *daily(events)), users, videos, cuts=at, config=watch_edges.Config()
    )
    return cuts.networks(pairs, wanted, n_users=N_USERS, config=config)


def daily(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`daily_watches` of the events."""
    by: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for one in events:
        by[one["day"], one["user_idx"], one["video_idx"]].append(one)
    return [
        {
            "day": day, "user_id": f"u{user}", "video_id": f"v{video}", "n_views": len(some),
            "n_positive": sum(one["feedback"] == "positive" for one in some),
            "undone": (user + video + day.day) % 7 == 0,
            "last_at": max(one["started_at"] for one in some),
            "viewings": [
                {"duration_ms": 10_000, "watch_ms": 1 + (user * 7 + video * 3) % 11, "counts": True}
            ] * len(some),
        }
        for (day, user, video), some in by.items()
    ]  # fmt: skip


@pytest.mark.spark
@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(
    "options", [{}, {"signal": "weight", "hub_cap": 8, "n_videos": 40}], ids=["plain", "knobs"]
)
def test_network_as_of_a_cut_equals_the_days_trial(rows: Rows, options: dict[str, Any]) -> None:
    events = random_events(5)
    users = rows("users", *[{"user_idx": u, "user_id": f"u{u}"} for u in range(N_USERS)])
    videos = rows("video_nodes", *[{"video_idx": v, "video_id": f"v{v}"} for v in range(N_VIDEOS)])
    viewings = rows("events", *events)
    wanted = sequences.wanted_rows(sequences.exposures(viewings, cuts=CUTS), users, cuts=CUTS)
    config = NETWORK.model_copy(update=options)
    n_edges = 0
    found = as_of_network(rows, events, users, wanted, config).toArrow().to_pylist()
    asked = {(one["cut_at"], one["user_idx"]) for one in wanted.toArrow().to_pylist()}
    for cut in CUTS[:-1]:
        night = [one for one in daily(events) if one["day"] <= cut.date()]
        viewings = strength.of_viewings(
            rows("daily_watches", *night), edges_ms=watch_edges.Config().duration_edges_ms
        )
        parts = watch_edges.parts(viewings, day=cut.date(), config=watch_edges.Config())
        edges = watch_edges.watch_edges(parts.join(users, "user_id").join(videos, "video_id"))
        n_videos = user_edges.count_videos(edges, fit="trial", config=config)
        trial = user_edges.user_edges(
            edges, fit="trial", n_users=N_USERS, n_videos=n_videos, config=config
        )
        expected = {
            (one["user_idx"], one["neighbour_idx"]): one["pearson"]
            for one in trial.toArrow().to_pylist()
            if (cut, one["user_idx"]) in asked
        }
        mine = {
            (one["user_idx"], one["neighbour_idx"]): one["pearson"]
            for one in found
            if one["cut_at"] == cut
        }
        assert mine == expected
        n_edges += len(mine)
    assert n_edges > 30


@pytest.mark.spark
@pytest.mark.usefixtures("interpreted")
def test_fragment_starts_after_the_last_touch_and_skips_seen_videos(rows: Rows) -> None:
    me = 0
    you = 1
    anchor = 10
    mine = [(anchor, 1), (11, 2)]
    yours = [(anchor, 3), (12, 4), (anchor, 5), (99, 5), (11, 6), (13, 7), (14, 7), (15, 8)]
    events = [
        {"user_idx": user, "video_idx": video, "started_at": instant(2, hour), "day": dt.date(2026, 1, 2)}
        for user, part in [(me, mine), (you, yours)]
        for video, hour in part
    ]  # fmt: skip
    users = rows("users", {"user_idx": me}, {"user_idx": you})
    viewings = rows("events", *events)
    cut = CUTS[-1]
    edge = {"cut_at": cut, "user_idx": me, "neighbour_idx": you, "pearson": 0.5}
    config = Config(fragment_length=3, activity_quantile=1.0)
    found = lists(viewings, network_frame(viewings, [edge]), users, config)
    # After 10 (last at 5 h): 99 is of the same instant, no successor; 11 is known; so 13.
    # After 11 (6 h): 13, 14, 15.
    ages = {video: 3 + (24 - hour) / 24 for video, hour in yours[5:]}
    once = {video: 0.5 * math.exp(-age / 7) for video, age in ages.items()}
    assert found[cut, me]["future"] == [
        (13, instant(2, 7), pytest.approx(2 * once[13])),
        (14, instant(2, 7), pytest.approx(once[14])),
        (15, instant(2, 8), pytest.approx(once[15])),
    ]
    assert found[cut, me]["future_from"] == "neighbours"
    # Nobody is your neighbour; what I watched after 10 you know.
    assert (found[cut, you]["future_from"], found[cut, you]["future"]) == ("none", [])


@pytest.mark.spark
def test_exposures_are_the_viewings_of_target_days(rows: Rows) -> None:
    events = random_events(6)
    found = sequences.exposures(rows("events", *events), cuts=CUTS)
    told = found.agg(F.count("*"), F.min("cut_at"), F.max("cut_at")).head()
    kept = [one for one in events if one["day"] >= CUTS[0].date()]
    assert told is not None
    assert told[0] == len(kept)
    assert found.where("started_at < cut_at or started_at >= cut_at + interval 1 day").count() == 0


@pytest.mark.spark
@pytest.mark.parametrize("timezone", ["Asia/Shanghai", "Europe/Berlin", "Pacific/Auckland"])
def test_exposures_are_cut_at_the_starts_of_local_days(rows: Rows, timezone: str) -> None:
    """The clocks of Berlin go forward on 29 March 2026, those of Auckland back on 5 April."""
    last = dt.date(2026, 4, 7)
    at = cuts.cuts(last, n_days=12, timezone=timezone)
    shown = [start + dt.timedelta(minutes=minute) for start in at[:-1] for minute in (0, 22 * 60)]
    events = [
        {"event_id": f"e{n}", "day": days.of(instant, timezone), "started_at": instant}
        for n, instant in enumerate(shown)
    ]
    found = sequences.exposures(rows("events", *events), cuts=at, timezone=timezone)
    expected = {(instant, days.start(days.of(instant, timezone), timezone)) for instant in shown}
    told = found.select("started_at", "cut_at").toArrow().to_pylist()
    assert {(row["started_at"], row["cut_at"]) for row in told} == expected
    assert {row["cut_at"] for row in told} == set(at[:-1])
    day_of = cuts.day_of(F.col("cut_at"), timezone).alias("day")
    assert {row.day for row in found.select(day_of).collect()} == {event["day"] for event in events}


@pytest.mark.spark
@pytest.mark.usefixtures("interpreted")
def test_sequences_row_order_is_bit_identical(rows: Rows) -> None:
    """Viewings told twice, viewings of one instant, and weights whose sum depends on their order."""
    events = random_events(7)
    for one, other in zip(events[::9], events[1::9], strict=False):
        other["started_at"] = one["started_at"]
    events += [{**one, "event_id": f"twice {n}"} for n, one in enumerate(events[::5])]
    edges = random_network(7)
    worlds = []
    for seed in (1, 2):
        generator = np.random.default_rng(seed)
        shuffled = [events[n] for n in generator.permutation(len(events))]
        users = rows("users", *[{"user_idx": u, "user_id": f"u{u}"} for u in range(N_USERS)])
        viewings = rows("events", *shuffled).repartition(1 + seed)
        network = network_frame(viewings, [edges[n] for n in generator.permutation(len(edges))])
        config = CONFIG.model_copy(update={"touch_cap": 9, "n_anchors": 9, "future_length": 20})
        worlds.append(lists(viewings, network, users, config))
    assert worlds[0] == worlds[1]
    assert any(len(row["future"]) > 5 for row in worlds[0].values())
    assert all(len(set(row["history"])) == len(row["history"]) for row in worlds[0].values())


@pytest.mark.spark
@pytest.mark.usefixtures("interpreted")
def test_sequences_one_target_day_has_two_cuts_and_no_earlier_network(rows: Rows) -> None:
    events = random_events(8)
    users = rows("users", *[{"user_idx": u, "user_id": f"u{u}"} for u in range(N_USERS)])
    videos = rows("video_nodes", *[{"video_idx": v, "video_id": f"v{v}"} for v in range(N_VIDEOS)])
    at = cuts.cuts(DAY, n_days=1)
    wanted = sequences.wanted_rows(
        sequences.exposures(rows("events", *events), cuts=at), users, cuts=at
    )
    assert wanted.count() == 2 * N_USERS
    watches = rows("daily_watches", *daily(events))
    pairs = cuts.pairs(watches, users, videos, cuts=at[:-2], config=watch_edges.Config())
    found = cuts.networks(pairs, wanted, n_users=N_USERS, config=pearson.Config())
    assert found.columns == cuts.EDGE
    assert found.count() == 0


@pytest.mark.spark
def test_sources_are_measured_per_cut(rows: Rows) -> None:
    names = ["neighbours", "successors", "none", "none"]
    table = rows("users", {}).sparkSession.createDataFrame(
        [(cut, name) for cut in CUTS[:2] for name in names], "cut_at timestamp, future_from string"
    )
    found = {(one.metric, one.slice): one.value for one in sequences.measure(table)}
    for cut in ("2026-01-03", "2026-01-04"):
        values = [found[f"future_from_{name}", f"cut={cut}"] for name in futures.SOURCES]
        assert values == [0.25, 0.25, 0.5]


def test_sequences_unread_by_the_recipe_are_not_built(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "recipe.toml").write_text('[night]\nmodels = ["popularity"]\n')
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    warehouse = arrow.Warehouse.open()
    for table in ("sequences", "exposures"):
        with pytest.raises(MissingDay):
            warehouse.read(table, day=DAY)
    build_sequences.main(day=DAY)
    assert [warehouse.read(table, day=DAY).num_rows for table in ("sequences", "exposures")] == [
        0,
        0,
    ]
    assert warehouse.read("metrics", day=DAY, stage="sequences").num_rows == 0, (
        "nor of an earlier run"
    )
    (place / "recipe.toml").write_text('[night]\nmodels = ["popularity"]\nrankers = ["din"]\n')
    with pytest.raises(MissingDay, match="users"):
        build_sequences.main(day=DAY)
    (place / "recipe.toml").write_text('[night]\nmodels = ["popularity"]\n')
    with pytest.raises(MissingDay, match="users"):
        build_sequences.main(day=DAY, anyway=True)
