"""Nights that take over yesterday's lists give the rows of a full build, to the bit."""

import datetime as dt
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tomli_w
from pyspark.sql import DataFrame, SparkSession

from jobs import build_modality_graph, build_user_graph
from microrec.config import settings as house_settings
from microrec.core.fits import FITS, SPLITS
from microrec.graphs.similarity import modality_edges, pearson, provenance, reuse, user_edges
from microrec.tables.arrow import Warehouse
from tests.worlds.graph_rows import DAY, Rows, sorted_rows

NIGHTS = 2
SIMILAR = ("modality", "video_idx", "neighbour_idx", "similarity", "rank")
CORRELATED = ("fit", "user_idx", "neighbour_idx", "pearson", "n_common", "rank")

Vectors = dict[tuple[str, str], dict[str, Any]]
"""By (video, modality): encoder_version and vector."""
Likes = dict[tuple[str, str], dict[str, dict[str, Any]]]
"""By (user, video): what happened, per part."""


# --- Worlds that change a little every night ----------------------------------------------------------


def vector(pick: random.Random) -> dict[str, Any]:
    """Few distinct ones, so many ties; now and then another length, another encoder, nothing usable."""
    n_dims = pick.choice([3] * 9 + [2])
    values = [float(pick.randint(-1, 2)) for _ in range(n_dims)]
    return {"encoder_version": pick.choice(["e1"] * 9 + ["e2"]), "vector": values}


def vectors(pick: random.Random, before: Vectors | None) -> Vectors:
    """A catalogue of vectors, or the one before with some added, changed and removed.

    Ids are drawn from a range, so that those added stand between the others.
    """
    names = [f"v{pick.randrange(400):03}" for _ in range(60 if before is None else 2)]
    now = {key: value for key, value in (before or {}).items() if pick.random() > 0.03}
    for key in [key for key in now if pick.random() < 0.03]:
        now[key] = vector(pick)
    return now | {(name, kind): vector(pick) for name in names for kind in ("visual", "tags")}


def parts(pick: random.Random) -> dict[str, dict[str, Any]]:
    return {
        split: {"n_positive": pick.choice([0, 1, 1, 2]), "undone": pick.random() < 0.2}
        for split in pick.choice([["train"], ["train"], ["train", "validation"], list(SPLITS)])
    }


def likes(pick: random.Random, before: Likes | None) -> Likes:
    """Who watched what in which part, or the same a day later: most pairs as they were."""
    if before is None:
        pairs = {(f"u{pick.randrange(90):02}", f"v{pick.randrange(14):02}") for _ in range(260)}
        return {pair: parts(pick) for pair in sorted(pairs)}
    gone = f"u{pick.randrange(90):02}"
    undone = {"holdout": {"n_positive": 0, "undone": True}}
    now = {
        pair: told | (undone if pick.random() < 0.02 else {})
        for pair, told in before.items()
        if pair[0] != gone and pick.random() > 0.004
    }
    added = [(f"u{pick.randrange(90):02}", f"v{pick.randrange(16):02}") for _ in range(2)]
    return now | {pair: parts(pick) for pair in added}


# --- The same as tables ------------------------------------------------------------------------------


def index(names: set[str], kind: str) -> list[dict[str, Any]]:
    return [{f"{kind}_id": one, f"{kind}_idx": n} for n, one in enumerate(sorted(names))]


def features(now: Vectors) -> list[dict[str, Any]]:
    return [{"video_id": v, "modality": kind, **told} for (v, kind), told in now.items()]


def watched(now: Likes) -> list[dict[str, Any]]:
    users = {row["user_id"]: row["user_idx"] for row in index({u for u, _ in now}, "user")}
    videos = {row["video_id"]: row["video_idx"] for row in index({v for _, v in now}, "video")}
    return [
        {"split": split, "user_idx": users[user], "video_idx": videos[video], **told}
        for (user, video), by_part in now.items()
        for split, told in by_part.items()
    ]


def modality_night(rows: Rows, now: Vectors, hidden: str = "") -> modality_edges.Inputs:
    """A night; a hidden video is in no catalogue."""
    nodes = index({video for video, _ in now} - {hidden}, "video")
    return modality_edges.Inputs(
        rows("video_features", *features(now)), rows("video_nodes", *nodes), len(nodes)
    )


def user_night(rows: Rows, now: Likes, config: pearson.Config) -> user_edges.Inputs:
    users = index({user for user, _ in now}, "user")
    return user_edges.Inputs.of(
        rows("watch_edges", *watched(now)),
        rows("users", *users),
        rows("video_nodes", *index({video for _, video in now}, "video")),
        n_users=len(users),
        config=config,
    )


def told(lists: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    """Rows as `found` tells those of a frame."""
    return sorted(zip(*(lists[name].to_pylist() for name in columns), strict=True))


# --- Every night is a full build ---------------------------------------------------------------------


@pytest.fixture
def whatever_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So much changes in so small a world that no night would take anything over."""
    monkeypatch.setattr(reuse, "WORTH", 1.0)


@pytest.mark.spark
@pytest.mark.usefixtures("interpreted", "whatever_it_costs")
@pytest.mark.parametrize(("seed", "k"), [(1, 3), (2, 200)])
def test_reuse_modality_nights_equal_full_builds(
    rows: Rows, spark: SparkSession, seed: int, k: int
) -> None:
    pick = random.Random(seed)
    config = modality_edges.Config(k=k, block_size=16)

    def edges(night: modality_edges.Inputs, plan: reuse.Plan) -> pa.Table:
        return modality_edges.modality_edges(
            *night[:2], n_videos=night.n_videos, config=config, plan=plan
        ).toArrow()

    now = vectors(pick, None)
    before = modality_night(rows, now)
    lists = edges(before, reuse.FULL)
    for _ in range(NIGHTS):
        now = vectors(pick, now)
        tonight = modality_night(rows, now, hidden=pick.choice(sorted(now))[0])
        plan = modality_edges.plan(tonight, before, spark.createDataFrame(lists), config=config)
        assert plan.change is not None
        assert 0 < plan.n_touched < plan.n_rows
        assert (0 < plan.n_lost < plan.n_rows - plan.n_touched) == (k == 3)
        lists = edges(tonight, plan)
        assert told(lists, *SIMILAR) == told(edges(tonight, reuse.FULL), *SIMILAR)
        before = tonight


@pytest.mark.spark
@pytest.mark.usefixtures("interpreted", "whatever_it_costs")
@pytest.mark.parametrize(("seed", "k"), [(1, 4), (2, 100)])
def test_reuse_user_nights_equal_full_builds(
    rows: Rows, spark: SparkSession, seed: int, k: int
) -> None:
    pick = random.Random(seed)
    config = pearson.Config(k=k, block_size=24, n_videos=20, activity_cap=9, light_positives=2)

    def edges(night: user_edges.Inputs, plans: user_edges.Plans) -> pa.Table:
        return user_edges.networks(night, plans, config=config).toArrow()

    full = dict.fromkeys(FITS, reuse.FULL)
    now = likes(pick, None)
    before = user_night(rows, now, config)
    lists = edges(before, full)
    for _ in range(NIGHTS):
        now = likes(pick, now)
        tonight = user_night(rows, now, config)
        source = spark.createDataFrame(lists).where(f"fit = '{user_edges.SOURCE}'")
        plans = user_edges.plans(tonight, before, source, config=config)
        for plan in plans.values():
            assert plan.change is not None
            assert 0 < plan.n_touched < plan.n_rows
        final = plans["final"]
        assert (0 < final.n_lost < final.n_rows - final.n_touched) == (k == 4)
        lists = edges(tonight, plans)
        assert told(lists, *CORRELATED) == told(edges(tonight, full), *CORRELATED)
        before = tonight


@pytest.mark.spark
def test_reuse_approximate_space_is_not_taken_over(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reuse, "WORTH", 1.0)
    now: Vectors = {
        (f"v{n}", "tags"): {"encoder_version": "e1", "vector": [1.0, float(n)]} for n in range(9)
    }
    before = modality_night(rows, now)
    tonight = modality_night(rows, dict(list(now.items())[1:]))
    lists = rows("modality_edges")
    for exact_up_to, n_touched in ((8, 8), (9, 0)):
        config = modality_edges.Config(exact_up_to=exact_up_to)
        plan = modality_edges.plan(tonight, before, lists, config=config)
        assert (plan.n_rows, plan.n_touched, plan.n_lost) == (8, n_touched, 0)


# --- Plans -------------------------------------------------------------------------------------------


def test_reuse_every_obstacle_is_reported() -> None:
    assert modality_edges.obstacles(modality_edges.Config()) == ()
    assert modality_edges.obstacles(modality_edges.Config(centred=["visual"])) == ("centred",)
    assert user_edges.obstacles(pearson.Config()) == ()
    assert user_edges.obstacles(pearson.Config(signal="weight", hub_cap=9)) == (
        "signal",
        "hub_cap",
    )


def test_reuse_stamp_states_the_difference() -> None:
    config = pearson.Config()
    word = provenance.stamp(1, config, "these")
    assert provenance.stale_reasons(None, word) == ("unknown",)
    assert provenance.stale_reasons(word, word) == ()
    assert provenance.stale_reasons(provenance.stamp(1, config, "those"), word) == ("inputs",)
    assert provenance.stale_reasons(provenance.stamp(2, config, "these"), word) == ("rule",)
    assert provenance.stale_reasons(provenance.stamp(1, pearson.Config(k=9), "these"), word) == (
        "rule",
    )


@pytest.mark.spark
def test_reuse_other_n_takes_nothing_over(rows: Rows) -> None:
    config = pearson.Config()
    now = likes(random.Random(1), None)
    more = now | {("u00", "v99"): {"train": {"n_positive": 1, "undone": False}}}
    before = user_night(rows, now, config)
    tonight = user_night(rows, more, config)
    plans = user_edges.plans(tonight, before, rows("user_edges"), config=config)
    assert plans["final"] == reuse.Plan(("n_videos",))
    assert str(plans["final"]) == "plan=full reasons=n_videos"


def change(spark: SparkSession, *, n_touched: int, n_lost: int) -> reuse.Change:
    """Ten rows; yesterday's lists have two entries each, the next two rows."""
    marks = [(idx, idx < n_touched) for idx in range(10)]
    lists = [
        (idx, (idx + step) % 10 if idx < 10 - n_lost else None, 1.0, step)
        for idx in range(10)
        for step in (1, 2)
    ]
    return reuse.find_change(
        spark.createDataFrame(lists, "idx int, neighbour_idx int, score double, rank int"),
        spark.createDataFrame(marks, "idx int, touched boolean"),
        within=[],
        k=2,
    )


@pytest.mark.spark
def test_reuse_untouched_is_not_compared(spark: SparkSession) -> None:
    def search(rows: DataFrame) -> DataFrame:
        raise AssertionError("compared")

    plan = reuse.plan(change(spark, n_touched=0, n_lost=0))
    assert str(plan) == "plan=incremental rows=10 touched=0 lost=0 reasons=none"
    rows = spark.range(10).selectExpr("int(id) idx")
    lists = reuse.lists(rows, plan, search, score=["score"], k=2)
    assert sorted_rows(lists, "idx", "neighbour_idx", "rank") == sorted(
        (idx, other, rank)
        for idx in range(10)
        for rank, other in enumerate(sorted([(idx + 1) % 10, (idx + 2) % 10]), start=1)
    )


@pytest.mark.spark
def test_reuse_too_much_to_compare_is_a_full_build(spark: SparkSession) -> None:
    # One is touched: two lists lose it. Then 3 of 10 rows meet ten, 7 meet one: 37 of 100 pairs.
    plan = reuse.plan(change(spark, n_touched=1, n_lost=0))
    assert str(plan) == "plan=incremental rows=10 touched=1 lost=2 reasons=none"
    # Half of the rows meet ten, the others meet one: 55 pairs.
    plan = reuse.plan(change(spark, n_touched=1, n_lost=4))
    assert str(plan) == "plan=full rows=10 touched=1 lost=4 reasons=touched"
    assert plan.change is None


# --- The jobs ----------------------------------------------------------------------------------------

YESTERDAY = DAY - dt.timedelta(days=1)
Go = Callable[..., None]


@pytest.fixture
def somewhere(place: Path, interpreted: None, monkeypatch: pytest.MonkeyPatch) -> Go:
    """Call it with a name to be in a warehouse of that name, with a recipe for the graphs."""

    def go(name: str, **sections: dict[str, Any]) -> None:
        (place / "recipe.toml").write_text(tomli_w.dumps({"graphs": sections}))
        monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
        monkeypatch.setenv("MICROREC_WAREHOUSE", str(place / name))
        house_settings.settings.cache_clear()

    return go


def commit(name: str, rows: list[dict[str, Any]], day: dt.date) -> None:
    warehouse = Warehouse.open()
    contract = warehouse.table(name).contract
    full = [{"day": day, **row} for row in rows]
    table = pa.Table.from_pylist(
        [{column: row.get(column) for column in contract.schema.names} for row in full],
        schema=contract.schema,
    )
    scopes = sorted({tuple((part, row[part]) for part in contract.partition) for row in full})
    warehouse.write(name, table, replace=[dict(scope) for scope in scopes])


def commit_vectors(now: Vectors, day: dt.date) -> None:
    commit("video_features", features(now), day)
    nodes = index({video for video, _ in now}, "video")
    commit(
        "video_nodes",
        [{**row, "eligible": True, "degree": 0, "clip_ends_ms": []} for row in nodes],
        day,
    )


def commit_likes(now: Likes, day: dt.date) -> None:
    at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    edge = {"weight": 1.0, "n_views": 1, "n_negative": 0, "last_at": at}
    commit("watch_edges", [{**edge, **row} for row in watched(now)], day)
    seen = {"degree": 1, "first_seen": at, "eligible": True, "clip_ends_ms": []}
    for table, place, kind in (("users", 0, "user"), ("video_nodes", 1, "video")):
        commit(table, [{**seen, **row} for row in index({p[place] for p in now}, kind)], day)
    warehouse = Warehouse.open()
    marks = {"rejected_rows": {"raw_table": "raw_interactions"}, "suppressed_users": {}}
    for table, scope in marks.items():
        empty = warehouse.table(table).contract.file_schema.empty_table()
        warehouse.write(table, empty, day=day, **scope)
    schema = warehouse.table("events").contract.schema
    warehouse.write("events", schema.empty_table(), replace=[{"day": day, "arrived_on": day}])


def built(table: str) -> list[str]:
    return sorted(map(str, Warehouse.open().read(table, day=DAY).to_pylist()))


def plans_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of plans since the last look."""
    told = [one.getMessage() for one in caplog.records if "plan=" in one.getMessage()]
    caplog.clear()
    return told


@pytest.mark.spark
def test_reuse_modality_night_after_another_equals_it_alone(
    somewhere: Go, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(reuse, "WORTH", 1.0)
    pick = random.Random(4)
    config = {"k": 3}
    first = vectors(pick, None)
    second = vectors(pick, first)

    somewhere("alone", modality=config)
    commit_vectors(second, DAY)
    build_modality_graph.main(day=DAY)
    assert plans_of(caplog) == ["table=modality_edges plan=full reasons=unknown"]
    alone = built("modality_edges")
    assert len(alone) > 100

    somewhere("both", modality=config)
    for now, day in ((first, YESTERDAY), (second, DAY)):
        commit_vectors(now, day)
        build_modality_graph.main(day=day)
    assert [plan.split()[1] for plan in plans_of(caplog)] == ["plan=full", "plan=incremental"]
    assert built("modality_edges") == alone

    somewhere("both", modality=config | {"k": 4})
    build_modality_graph.main(day=DAY)
    assert plans_of(caplog) == ["table=modality_edges plan=full reasons=rule"]
    somewhere("both", modality=config)
    commit_vectors(second, YESTERDAY)
    build_modality_graph.main(day=DAY)
    assert plans_of(caplog) == ["table=modality_edges plan=full reasons=inputs"]
    assert built("modality_edges") == alone


@pytest.mark.spark
def test_reuse_user_night_after_another_equals_it_alone(
    somewhere: Go, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(reuse, "WORTH", 1.0)
    pick = random.Random(5)
    config = {"k": 5, "n_videos": 20}
    first = likes(pick, None)
    second = likes(pick, first)

    somewhere("alone", user_edges=config)
    commit_likes(second, DAY)
    build_user_graph.main(day=DAY)
    assert plans_of(caplog) == [
        f"table=user_edges fit={fit} plan=full reasons=unknown" for fit in FITS
    ]
    alone = built("user_edges")
    assert len(alone) > 100

    somewhere("both", user_edges=config)
    for now, day in ((first, YESTERDAY), (second, DAY)):
        commit_likes(now, day)
        build_user_graph.main(day=day)
    kinds = [plan.split()[2] for plan in plans_of(caplog)]
    assert kinds == ["plan=full"] * 2 + ["plan=incremental"] * 2
    assert built("user_edges") == alone
