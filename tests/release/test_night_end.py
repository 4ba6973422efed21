"""The last four jobs on a planted world: from fitted models to a release, and what stops one.

Twelve users like videos of their own parity. `content` knows this; `popularity` offers everybody the
videos with the highest numbers. On the held-out day each user likes the first unseen video of the
own parity.
"""

import datetime as dt
import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from jobs import (
    blend_candidates,
    check_recommendations,
    describe_clips,
    describe_trends,
    evaluate_sources,
    publish_release,
    select_candidates,
    select_recommendations,
    train_model,
)
from microrec.candidates.retrieval import exact
from microrec.cli import app
from microrec.config.settings import settings
from microrec.core import fitted, knowledge
from microrec.errors import CheckFailed, GateHeld, MicrorecError, MissingDay
from microrec.models import registry
from microrec.models.clip import clip_interest
from microrec.models.inputs import graph_arrays
from microrec.models.sequence import exposures
from microrec.pipeline import fit_tables, fusing
from microrec.pipeline.night import Night
from microrec.pipeline.proposals import Proposals
from microrec.plots import data
from microrec.release import reader, retention, rollback
from microrec.tables import arrow
from tests.worlds import small_tables

DAY = dt.date(2026, 1, 10)
MIDNIGHT = dt.datetime(2026, 1, 10, tzinfo=dt.UTC)
N_USERS, N_VIDEOS, K = 12, 30, 5
MODELS = ("content", "popularity")
RECIPE = """
[night]
k = 5
models = ["popularity", "content"]

[candidates.blend]
weights = {content = {warm = 1.0, cold = 1.0}, popularity = {warm = 0.1, cold = 0.1}}

[candidates.ladder]
fresh_length = 3
"""

SEGMENTS = {"__global__", "__fresh__", "surface=search", "tag=even", "tag=odd"}
"""Of the lists for everybody; the main surface has none, nor the tag of one video alone."""


@pytest.fixture
def warehouse(place: Path, monkeypatch: pytest.MonkeyPatch) -> arrow.Warehouse:
    """A warehouse as training leaves it."""
    (place / "recipe.toml").write_text(RECIPE)
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    opened = arrow.Warehouse.open()
    plant(opened, DAY)
    return opened


def plant(warehouse: arrow.Warehouse, day: dt.date) -> None:
    """Users, videos, edges, suppressed users and two fitted models of a day."""
    warehouse.write("users", users(), day=day)
    warehouse.write("video_nodes", videos(), day=day)
    tags = [
        ["even"] if video % 2 == 0 else ["odd", "rare"][: 1 + (video == 1)]
        for video in range(N_VIDEOS)
    ]
    tagged = pa.table({"video_id": videos()["video_id"], "tags": pa.array(tags)})
    warehouse.write("videos", small_tables.complete("videos", tagged, without={"day"}), day=day)
    warehouse.write("watch_edges", watches(), day=day)
    suppressed = {
        "user_id": ["u03"],
        "kind": ["opt_out"],
        "requested_at": pa.array([MIDNIGHT], pa.timestamp("us", "UTC")),
    }
    warehouse.write("suppressed_users", pa.table(suppressed), day=day)
    for table in ("modality_edges", "video_features"):
        warehouse.write_empty(table, day=day)
    warehouse.write("exposure_counts", shown(day), day=day)
    parity = np.eye(2, dtype=np.float32)
    number = np.arange(1, N_VIDEOS + 1, dtype=np.float32)[:, None]
    for fit in ("trial", "final"):
        train(
            warehouse,
            day,
            fit,
            "content",
            parity[np.arange(N_USERS) % 2],
            parity[np.arange(N_VIDEOS) % 2] * (1 - number / 1000),
        )
        train(warehouse, day, fit, "popularity", np.ones((N_USERS, 1), np.float32), number)


def users() -> pa.Table:
    columns = {
        "user_idx": pa.array(range(N_USERS), pa.int32()),
        "user_id": [f"u{i:02}" for i in range(N_USERS)],
        "degree": pa.array([5] * N_USERS, pa.int32()),
        "first_seen": pa.array([MIDNIGHT] * N_USERS, pa.timestamp("us", "UTC")),
    }
    return pa.table(columns)


def videos() -> pa.Table:
    nothing = [None] * N_VIDEOS
    columns = {
        "video_idx": pa.array(range(N_VIDEOS), pa.int32()),
        "video_id": [f"v{i:02}" for i in range(N_VIDEOS)],
        "author_id": pa.array(nothing, pa.string()),
        "published_at": pa.array(nothing, pa.timestamp("us", "UTC")),
        "duration_ms": pa.array(nothing, pa.int64()),
        "eligible": [i != 29 for i in range(N_VIDEOS)],
        "degree": pa.array([1] * N_VIDEOS, pa.int32()),
        "first_seen": pa.array(nothing, pa.timestamp("us", "UTC")),
        "clip_ends_ms": pa.array([[]] * N_VIDEOS, pa.list_(pa.int64())),
    }
    return pa.table(columns)


def watches() -> pa.Table:
    """Each user: the first two videos of the own parity before D, the third one on D."""
    rows = [
        (split, user, user % 2 + 2 * at)
        for user in range(N_USERS)
        for at, split in enumerate(("train", "validation", "holdout"))
    ]
    split, user, video = zip(*rows, strict=True)
    n = len(rows)
    columns = {
        "split": list(split),
        "user_idx": pa.array(user, pa.int32()),
        "video_idx": pa.array(video, pa.int32()),
        "weight": [1.0] * n,
        "n_views": pa.array([1] * n, pa.int32()),
        "n_positive": pa.array([1] * n, pa.int32()),
        "n_negative": pa.array([0] * n, pa.int32()),
        "undone": pa.array([False] * n),
        "last_at": pa.array([MIDNIGHT] * n, pa.timestamp("us", "UTC")),
    }
    return pa.table(columns)


def shown(day: dt.date) -> pa.Table:
    """Ten videos on the surface `search`, each liked by user 0 or 1 on the day; somewhat more is liked on `feed`."""
    rows = [(user, video, "search") for user in (0, 1) for video in range(user, 10, 2)]
    rows += [(user, user % 2, "feed") for user in range(N_USERS)]
    counts = dict.fromkeys(rows, 1)
    user, video, surface = zip(*counts, strict=True)
    columns = {
        "user_idx": pa.array(user, pa.int32()),
        "video_idx": pa.array(video, pa.int32()),
        "surface": surface,
        "shown_on": [day] * len(counts),
        "n_shown": pa.array([1] * len(counts), pa.int32()),
        "n_positive": pa.array([1] * len(counts), pa.int32()),
    }
    return pa.table(columns)


def train(
    warehouse: arrow.Warehouse,
    day: dt.date,
    fit: str,
    model: str,
    user: np.ndarray,
    video: np.ndarray,
) -> None:
    """Save vectors as a fitted model."""
    vectors = fitted.Embeddings(
        user=user,
        video=video,
        user_known=np.ones(N_USERS, np.bool_),
        video_known=np.ones(N_VIDEOS, np.bool_),
    )
    path, digest = warehouse.save_artefact(
        day=day,
        fit=fit,
        model=model,
        save=lambda folder: fitted.save(fitted.Trained(vectors, {}), folder, config=exact.Config()),
    )
    row = {
        "config": "{}",
        "seed": 1,
        "first_day": day,
        "last_day": day,
        "n_users": N_USERS,
        "n_videos": N_VIDEOS,
        "n_edges": 36,
        "metrics": "{}",
        "path": path,
        "digest": digest,
    }
    warehouse.write("models", pa.Table.from_pylist([row]), day=day, fit=fit, model=model)


def night(day: dt.date = DAY) -> None:
    """The jobs in the order of the DAG."""
    for fit in ("trial", "final"):
        for model in MODELS:
            select_candidates.main(day=day, fit=fit, model=model)
        blend_candidates.main(day=day, fit=fit)
        if fit == "trial":
            evaluate_sources.main(day=day)
    select_recommendations.main(day=day)
    check_recommendations.main(day=day)
    describe_trends.main(day=day)
    describe_clips.main(day=day)
    publish_release.main(day=day)


def test_night_end_publishes_a_release(warehouse: arrow.Warehouse) -> None:
    night()
    release = reader.latest(warehouse.root)
    assert release.day == DAY
    assert set(release.tables) == {
        "recommendations",
        "segment_recommendations",
        "fallback_recommendations",
        "similar_videos",
        "rewatch_recommendations",
        "user_trends",
        "clip_interest",
        "exit_points",
        "blend_weights",
        "metrics",
        "gate_results",
    }
    assert set(release.read("blend_weights")["method"].to_pylist()) == {"closed_form"}
    for described in ("user_trends", "clip_interest", "exit_points"):
        assert release.read(described).num_rows == 0, "no model of it in this recipe"
    with pytest.raises(MissingDay, match="no clip_interest was fitted"):
        data.of_user("u01", "v01", DAY)
    with pytest.raises(MissingDay, match="had no clip_interest model"):
        data.of_video("v01", DAY)
    lists = release.read("recommendations")
    expected = sorted(set(users()["user_id"].to_pylist()) - {"u03"})
    assert sorted(set(lists["user_id"].to_pylist())) == expected
    assert lists.num_rows == K * len(expected)
    mine = release.read("recommendations", user_id="u00").to_pylist()
    assert [row["rank"] for row in mine] == [1, 2, 3, 4, 5]
    assert (mine[0]["video_id"], mine[0]["source"]) == ("v06", "content")
    assert {int(row["video_id"][1:]) % 2 for row in mine} == {0}
    assert mine[0]["valid_until"] == MIDNIGHT + dt.timedelta(hours=24 + 72)
    gates = release.read("gate_results")
    failed = {row["gate"] for row in gates.to_pylist() if row["status"] != "pass"}
    assert failed == {"identical_top10"}, "six of eleven share a list: told, not held"
    assert {"better_than_popularity", "seen"} <= set(gates["gate"].to_pylist())
    fallback = release.read("fallback_recommendations").to_pylist()
    assert {row["segment"] for row in fallback} == SEGMENTS
    metrics = release.read("metrics").to_pylist()
    (gain,) = [
        row
        for row in metrics
        if (row["name"], row["metric"], row["slice"])
        == ("blend-minus-popularity", "ndcg@20", "all")
    ]
    assert gain["low"] > 0
    assert gain["n"] == N_USERS
    release.verify()


def test_list_of_a_tag_is_whole_and_has_no_video_without_it(warehouse: arrow.Warehouse) -> None:
    night()
    release = reader.latest(warehouse.root)
    rows = release.read("fallback_recommendations").to_pylist()
    of_tag = [row for row in rows if row["segment"] == "tag=odd"]
    assert [row["rank"] for row in of_tag] == [1, 2, 3, 4, 5]
    assert {int(row["video_id"][1:]) % 2 for row in of_tag} == {1}
    metrics = release.read("metrics").to_pylist()
    figures = {
        row["slice"]: row["value"]
        for row in metrics
        if row["name"] == "fallback_recommendations" and row["metric"] == "segments"
    }
    assert figures == {"surface": 1.0, "tag": 2.0}


def test_list_of_a_segment_that_breaks_a_law_holds_the_night(warehouse: arrow.Warehouse) -> None:
    night()
    rows = warehouse.read("segment_recommendations", day=DAY).to_pandas().drop(columns="day")
    assert set(rows["segment"]) == {"surface=search", "tag=even", "tag=odd"}
    seen = rows.index[rows["user_id"] == "u00"][0]
    for changes, gate in (
        ({"video_id": "v00"}, "segment_seen"),
        ({"video_id": "v29"}, "segment_ineligible"),
        ({"user_id": "u03"}, "segment_suppressed"),
        ({"rank": 9}, "segment_ranks_contiguous"),
    ):
        wrong = rows.copy()
        wrong.loc[seen, list(changes)] = list(changes.values())
        table = pa.Table.from_pandas(wrong, preserve_index=False)
        schema = warehouse.table("segment_recommendations").contract.schema
        fields = [schema.field(name) for name in table.column_names]
        warehouse.write("segment_recommendations", table.cast(pa.schema(fields)), day=DAY)
        with pytest.raises(GateHeld, match=gate):
            publish_release.main(day=DAY)


def test_fusion_weights_final_fit_has_the_trials_for_everybody(
    warehouse: arrow.Warehouse,
) -> None:
    night()
    of_fold: dict[int, list[dict]] = {0: [], 1: [], 2: []}
    for row in warehouse.read("fusion_weights", day=DAY, fit="trial").to_pylist():
        of_fold[row["fold"]].append(row)
    assert all(
        {row["source"] for row in rows} >= {"popularity", "content"} for rows in of_fold.values()
    )
    final = warehouse.read("fusion_weights", day=DAY, fit="final").to_pylist()
    assert final == [row | {"fit": "final"} for row in of_fold[0]]


def test_fusion_weights_blend_below_its_best_source_final_fit_follows_that_source(
    warehouse: arrow.Warehouse,
) -> None:
    night()
    results = warehouse.read("gate_results", day=DAY, fit="trial").to_pylist()
    failed = [row | {"status": "fail"} if row["gate"] == "best_source" else row for row in results]
    assert failed != results
    rows = pa.Table.from_pylist(failed).drop_columns(["day", "fit"])
    warehouse.write("gate_results", rows, day=DAY, fit="trial")
    final = Night.open(DAY, fit="final")
    fusing.write(final, fit_tables.read(final), Proposals.open(final))
    weights = fusing.weights_of_everybody(final)
    values = {
        row["name"]: row["value"]
        for row in warehouse.read("metrics", day=DAY, stage="evaluation").to_pylist()
        if (row["metric"], row["slice"]) == ("ndcg@20", "all")
    }
    sources = final.config.sources
    best = max(sorted(sources), key=lambda source: values[source])
    assert {source: weights.chosen(source).warm for source in sources} == {
        source: float(source == best) for source in sources
    }


def test_night_end_repeated_keeps_digests_and_latest(
    warehouse: arrow.Warehouse,
) -> None:
    night()
    first = reader.latest(warehouse.root)
    night()
    again = reader.latest(warehouse.root)
    assert {t: (p.rows, p.digest) for t, p in first.tables.items()} == {
        t: (p.rows, p.digest) for t, p in again.tables.items()
    }
    assert first.read("recommendations").equals(again.read("recommendations"))
    earlier = DAY - dt.timedelta(days=1)
    plant(warehouse, earlier)
    night(earlier)
    assert reader.days(warehouse.root) == [earlier, DAY]
    assert reader.latest(warehouse.root).day == DAY
    assert reader.of(earlier, warehouse.root).read("recommendations").num_rows == K * (N_USERS - 1)


def test_rollback_withdraws_later_releases_until_they_change(
    warehouse: arrow.Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    earlier = DAY - dt.timedelta(days=1)
    night()
    plant(warehouse, earlier)
    night(earlier)
    good, bad = reader.of(earlier), reader.latest()
    lines = [line for line in caplog.messages if line.startswith("release day=")]
    assert lines == [
        f"release day={DAY} id={bad.id} latest=True",
        f"release day={earlier} id={good.id} latest=False",
    ]
    for target, reason, words in (
        (good.id, " ", "give a reason"),
        ("2020-01-01", "why", f"no release '2020-01-01'; the last ones: {good.id}, {bad.id}"),
        (str(DAY), "why", "is the latest release already"),
    ):
        with pytest.raises(MicrorecError, match=re.escape(words)):
            rollback.to(target, reason=reason)
    assert rollback.to(good.id, reason="all videos of one author") == [DAY]
    assert reader.latest() == good
    assert reader.days() == [earlier]
    with pytest.raises(MissingDay, match="withdrawn: all videos of one author"):
        reader.of(DAY)
    bad.verify()  # a reader who holds it still finds what was published
    with pytest.raises(GateHeld, match="has the same rows again"):
        publish_release.main(day=DAY)
    assert reader.latest() == good
    rows = warehouse.read("recommendations", day=DAY).drop_columns(["day"])
    place = rows.schema.get_field_index("reason")
    words = pa.array(["other words"] * rows.num_rows)
    warehouse.write("recommendations", rows.set_column(place, "reason", words), day=DAY)
    publish_release.main(day=DAY)
    assert reader.latest().day == DAY
    assert reader.latest().id != bad.id
    rollback.to(str(earlier), reason="once more")
    assert rollback.to(str(DAY), reason="it was right") == []
    assert (reader.latest().day, reader.latest().reason) == (DAY, None)


def test_vacuum_keeps_only_what_kept_releases_pin(warehouse: arrow.Warehouse) -> None:
    vacuum = partial(retention.vacuum, now=dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5))
    earlier = DAY - dt.timedelta(days=1)
    plant(warehouse, earlier)
    night(earlier)
    night()
    first = reader.of(earlier)
    rows = warehouse.read("recommendations", day=earlier).drop_columns(["day"])
    between = warehouse.write("recommendations", rows, day=earlier)  # nobody pins this version
    warehouse.write("recommendations", rows, day=earlier)
    folder = Path(warehouse.root)
    stale = folder / "recommendations" / "attempt-died-0" / "part-0.parquet"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"half a file")

    def files(version: int) -> list[Path]:
        parts = warehouse.snapshot("recommendations", day=earlier, version=version).parts
        return [Path(file) for _, some in parts for file in some]

    pinned, passed = files(first.tables["recommendations"].version), files(between)
    assert set(pinned).isdisjoint(passed)
    assert not vacuum(warehouse, hours=1, keep=30)["recommendations"], "all are young"
    would = vacuum(warehouse, hours=0, keep=30, dry_run=True)["recommendations"]
    assert {Path(name).name for name in would} == {one.name for one in (stale, *passed)}
    assert stale.exists()
    vacuum(warehouse, hours=0, keep=30)
    assert not any(one.exists() for one in (stale, *passed))
    assert all(one.exists() for one in pinned)
    first.verify()
    reader.latest().verify()
    assert vacuum(warehouse, hours=0, keep=1)["artefacts"] == [str(earlier)]
    assert [one.name for one in (folder / "artefacts").iterdir()] == [f"day={DAY}"]
    reader.latest().verify()


LEARNING = """
[candidates.hybrid]
least_nights = 1
least_positives = 1
least_in_leaf = 1
"""


def test_next_night_learns_from_and_is_held_against_the_last_release(
    warehouse: arrow.Warehouse, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (place / "recipe.toml").write_text(RECIPE + LEARNING)
    unmeasured, earlier = (DAY - dt.timedelta(days=back) for back in (2, 1))
    for day in (unmeasured, earlier):
        plant(warehouse, day)
    for model in MODELS:
        select_candidates.main(day=unmeasured, fit="trial", model=model)
    with caplog.at_level("INFO"):
        night(earlier)
        night()
    assert f"blend day={earlier} fit=final method=closed_form" in caplog.text, "not judged yet"
    assert f"blend day={DAY} fit=final method=learned" in caplog.text
    judged = warehouse.read("gate_results", day=DAY, fit="trial").to_pylist()
    gates = {row["gate"]: row for row in judged}
    assert gates["learned_not_worse"]["status"] == "pass"
    assert gates["champion"]["status"] == "pass"
    assert gates["champion"]["observed"] > 0, "yesterday's list cannot have what yesterday showed"
    assert 0 < gates["churn"]["observed"] <= 1
    assert gates["verdict"]["detail"].startswith("PROMOTE")
    before = warehouse.read("gate_results", day=earlier, fit="trial")["gate"].to_pylist()
    assert not {"learned_not_worse", "champion", "churn"} & set(before)
    for fit in ("trial", "final"):
        weights = warehouse.read("blend_weights", day=DAY, fit=fit)
        assert set(weights["method"].to_pylist()) == {"learned"}
    (row,) = warehouse.read("models", day=DAY, fit="trial", model="hybrid").to_pylist()
    assert (row["first_day"], row["last_day"]) == (earlier, earlier), "not from its own day"
    (row,) = warehouse.read("models", day=DAY, fit="final", model="hybrid").to_pylist()
    assert (row["first_day"], row["last_day"]) == (earlier, DAY)
    first = warehouse.digest("candidates", day=DAY, fit="trial", source="hybrid")
    blend_candidates.main(day=DAY, fit="trial")
    again = warehouse.digest("candidates", day=DAY, fit="trial", source="hybrid")
    assert again == first, "measured by now, the day still does not teach its own trial"


def constant(user: np.ndarray, video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.ones_like(user), np.ones_like(video)


def shuffled(user: np.ndarray, video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.roll(user, 1, axis=0), video


@pytest.mark.parametrize(
    ("sabotage", "gate"), [(constant, "dead_sources"), (shuffled, "collapsed_sources")]
)
def test_gate_sabotaged_source_holds_the_night(
    warehouse: arrow.Warehouse, sabotage: Callable[..., Any], gate: str
) -> None:
    earlier = DAY - dt.timedelta(days=1)
    plant(warehouse, earlier)
    night(earlier)
    parity = np.eye(2, dtype=np.float32)
    slope = 1 - np.arange(1, N_VIDEOS + 1, dtype=np.float32)[:, None] / 1000
    right = parity[np.arange(N_USERS) % 2], parity[np.arange(N_VIDEOS) % 2] * slope
    train(warehouse, DAY, "trial", "content", *sabotage(*right))
    with pytest.raises(GateHeld, match=f"{gate} .*: content"):
        night()
    assert reader.latest(warehouse.root).day == earlier


def shuffle(warehouse: arrow.Warehouse) -> None:
    """The vectors: everybody is offered what the other half likes."""
    for fit in ("trial", "final"):
        wrong = np.eye(2, dtype=np.float32)[np.arange(1, N_VIDEOS + 1) % 2]
        right = np.eye(2, dtype=np.float32)[np.arange(N_USERS) % 2]
        train(warehouse, DAY, fit, "content", right, wrong)


def test_promotion_worse_blend_is_released_with_the_reason(
    warehouse: arrow.Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffle(warehouse)
    monkeypatch.setenv("MICROREC_PROMOTE", "the floor was broken on that day")
    settings.cache_clear()
    night()
    release = reader.latest(warehouse.root)
    assert release.reason == "the floor was broken on that day"
    verdict = release.to_pandas("gate_results").set_index(["fit", "gate"])["status"]
    assert verdict["trial", "better_than_popularity"] == "fail", "it is told as it was"


def test_promotion_passing_night_records_no_reason(
    warehouse: arrow.Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROREC_PROMOTE", "the floor was broken on that day")
    settings.cache_clear()
    night()
    assert reader.latest(warehouse.root).reason is None


def test_gate_worse_blend_is_held(warehouse: arrow.Warehouse) -> None:
    """Shuffled vectors: the night ends red with its verdict written, and there is no release."""
    shuffle(warehouse)
    with pytest.raises(GateHeld, match="better_than_popularity"):
        night()
    verdict = warehouse.read("gate_results", day=DAY, fit="trial")
    assert "fail" in verdict["status"].to_pylist()
    select_recommendations.main(day=DAY)
    for model in MODELS:
        select_candidates.main(day=DAY, fit="final", model=model)
    with pytest.raises(GateHeld, match="fit=trial"):
        publish_release.main(day=DAY)
    with pytest.raises(MissingDay):
        reader.latest(warehouse.root)


def test_publish_release_table_changed_outside_is_held(
    warehouse: arrow.Warehouse,
) -> None:
    """The gate reads the table, not what the stage meant to write."""
    night()
    before = reader.latest(warehouse.root)
    lists = warehouse.read("recommendations", day=DAY)
    seen = pc.if_else(
        pc.and_(pc.equal(lists["user_id"], "u00"), pc.equal(lists["rank"], 2)),
        "v02",
        lists["video_id"],
    )
    at = lists.schema.get_field_index("video_id")
    warehouse.write(
        "recommendations", lists.set_column(at, "video_id", seen).drop(["day"]), day=DAY
    )
    with pytest.raises(GateHeld, match="seen"):
        publish_release.main(day=DAY)
    stands = reader.latest(warehouse.root)
    assert stands == before
    assert stands.read("recommendations").equals(lists)


def test_night_end_missing_source_is_tolerated_and_logged(
    warehouse: arrow.Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    for model in MODELS:
        select_candidates.main(day=DAY, fit="trial", model=model)
    evaluate_sources.main(day=DAY)
    select_candidates.main(day=DAY, fit="final", model="content")
    blend_candidates.main(day=DAY, fit="final")
    with caplog.at_level("WARNING"):
        select_recommendations.main(day=DAY)
    assert "missing_source=popularity" in caplog.text
    check_recommendations.main(day=DAY)
    describe_trends.main(day=DAY)
    describe_clips.main(day=DAY)
    publish_release.main(day=DAY)
    assert reader.latest(warehouse.root).day == DAY


def with_clips(warehouse: arrow.Warehouse) -> None:
    """A fitted `clip_interest`: three clips a video, which users of even number watch to the end."""
    settings().recipe.write_text(
        RECIPE.replace("[night]", '[night]\nrankers = ["clip_interest"]')
        + "[models.clip_interest]\ndim = 4\nmax_epochs = 1\n"
    )
    nodes, ends = videos(), [[5000, 10_000, 12_000]] * (N_VIDEOS - 1) + [[]]
    place = nodes.schema.get_field_index("clip_ends_ms")
    ends = pa.array(ends, pa.list_(pa.int64()))
    warehouse.write("video_nodes", nodes.set_column(place, "clip_ends_ms", ends), day=DAY)
    rows = [
        {**pair, "clip_no": clip, "sign": 1 if stays or not clip else -1}
        for pair in watches().select(["split", "user_idx", "video_idx"]).to_pylist()
        if pair["user_idx"] < N_USERS - 2
        for stays in [pair["user_idx"] % 2 == 0]
        for clip in range(3 if stays else 2)
    ]
    ages = {"train": 2, "validation": 1, "holdout": 0}
    days = [DAY - dt.timedelta(days=ages[row["split"]]) for row in rows]
    edges = pa.Table.from_pylist(rows).append_column("watched_on", pa.array(days))
    for name in ("user_idx", "video_idx", "clip_no", "sign"):
        at = edges.schema.get_field_index(name)
        edges = edges.set_column(at, name, edges[name].cast(pa.int32()))
    weight = pa.array([1.0] * len(rows))
    warehouse.write("clip_edges", edges.append_column("weight", weight), day=DAY)
    for name in ("clip_features", "video_features", "modality_edges"):
        warehouse.write_empty(name, day=DAY)
    for fit in ("trial", "final"):
        warehouse.write_empty("user_edges", day=DAY, fit=fit)
        train_model.main(day=DAY, fit=fit, model="clip_interest")


def test_clip_interest_final_fit_covers_all_served_users(warehouse: arrow.Warehouse) -> None:
    with_clips(warehouse)
    night()
    needed = graph_arrays.reads(registry.card("clip_interest").reads, "final")
    tables = {name: warehouse.read(name, day=DAY, **part) for name, part in needed.items()}
    graph = graph_arrays.build_graph(tables, fit="final")
    folder = warehouse.find_artefact(day=DAY, fit="final", model="clip_interest")
    network = exposures.load("clip_interest", folder, graph, device="cpu")
    served = knowledge.served(users(), warehouse.read("suppressed_users", day=DAY))
    (everyone,) = clip_interest.audience(network, graph, [served])
    told = reader.rows_of("clip_interest", root=warehouse.root).to_pandas()
    told = told.sort_values(["video_id", "clip_no"])
    assert told["interest"].to_numpy() == pytest.approx(everyone, abs=1e-6)
    assert set(told["video_id"]) == {f"v{i:02}" for i in range(N_VIDEOS - 1)}
    typed = CliRunner().invoke(
        app.app, ["show", "clip_interest", "--warehouse", str(warehouse.root)]
    )
    assert f"clip_interest: {len(told)} rows" in typed.output
    first = told[told["video_id"] == "v01"]
    assert first["n_reached"].tolist() == [5, 5, 0]
    assert first["n_left"].tolist() == [0, 5, 0], "5 are told, fewer would not be"
    assert first["is_predicted"].tolist() == [False, False, True]
    figures = warehouse.read("metrics", day=DAY, stage="clips").to_pandas().set_index("metric")
    assert set(figures.index) == {"within_clips", "log_loss", "ece"}
    of_day = warehouse.count("clip_edges", day=DAY, split="holdout")
    assert (figures["n"] == of_day).all(), "the trial is asked of what it has not seen"
    exits = reader.latest(warehouse.root).to_pandas("exit_points")
    assert set(exits.groupby("segment").size()) == {N_VIDEOS - 1}
    ends = exits.groupby("segment")["expected_watch_ms"].mean()
    assert ends["leaves_early"] < ends["__global__"] < ends["stays"]
    whole = exits[exits["segment"] == "__global__"].sort_values("video_id")["completed"]
    assert whole.to_numpy() == pytest.approx(everyone[2::3], abs=1e-6)


def test_plot_clips_are_of_the_final_fit_as_released(warehouse: arrow.Warehouse) -> None:
    with_clips(warehouse)
    night()
    found = data.of_user("u01", "v01", DAY)
    needed = graph_arrays.reads(registry.card("clip_interest").reads, "final")
    tables = {name: warehouse.read(name, day=DAY, **part) for name, part in needed.items()}
    graph = graph_arrays.build_graph(tables, fit="final")
    folder = warehouse.find_artefact(day=DAY, fit="final", model="clip_interest")
    network = exposures.load("clip_interest", folder, graph, device="cpu")
    known = clip_interest.all_rows(network, graph)
    ((_, _, chance),) = clip_interest.stays(network, known, np.array([1]), np.array([1]))
    assert found.interest == pytest.approx(np.exp(chance), abs=1e-6)
    assert found.end_ms.tolist() == [5000, 10_000, 12_000]
    seen = found.viewings.select(["watched_on", "clip_no", "sign"]).to_pylist()
    assert [tuple(row.values()) for row in seen] == [
        (DAY - dt.timedelta(days=2), 0, 1),
        (DAY - dt.timedelta(days=2), 1, -1),
    ]
    clips, exits = data.of_video("v01", DAY)
    assert clips["n_reached"].to_pylist() == [5, 5, 0]
    assert set(exits["segment"].to_pylist()) == {"__global__", "leaves_early", "typical", "stays"}
    for asked in (["clips", "--user", "u01"], ["retention"]):
        png = Path(warehouse.root) / f"{asked[0]}.png"
        typed = ["plot", *asked, "--video", "v01", "--day", str(DAY), "--out", str(png)]
        result = CliRunner().invoke(app.app, typed)
        assert result.exit_code == 0, result.output
        assert png.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(MissingDay, match=r"users\[day=2026-01-10\]: no user 'stranger'"):
        data.of_user("stranger", "v01", DAY)
    with pytest.raises(MissingDay, match=r"video_nodes\[day=2026-01-10\]: no video 'v99"):
        data.of_user("u01", "v99", DAY)
    with pytest.raises(MicrorecError, match="length of video 'v29' is not known"):
        data.of_user("u01", "v29", DAY)
    with pytest.raises(MissingDay, match="no video 'v29"):
        data.of_video("v29", DAY)


def test_reader_returns_pandas_and_polars_and_names_what_is_missing(
    warehouse: arrow.Warehouse,
) -> None:
    with pytest.raises(MissingDay, match="release"):
        reader.latest(warehouse.root)
    night()
    release = reader.of(DAY, warehouse.root)
    assert release.to_pandas("recommendations", user_id="u01").shape[0] == K
    assert release.to_polars("recommendations", user_id="u01").height == K
    assert release.read("recommendations", user_id="stranger").num_rows == 0
    assert not release.expired(MIDNIGHT + dt.timedelta(hours=95))
    assert release.expired(MIDNIGHT + dt.timedelta(hours=96))
    with pytest.raises(ValueError, match="time zone"):
        release.expired(dt.datetime(2026, 1, 10))
    with pytest.raises(MissingDay, match="2025-01-01"):
        reader.of(dt.date(2025, 1, 1), warehouse.root)
    with pytest.raises(MissingDay, match="watch_edges"):
        release.read("watch_edges")


def test_reader_changed_table_is_refused(warehouse: arrow.Warehouse) -> None:
    night()
    release = reader.latest(warehouse.root)
    pins = dict(release.tables)
    pin = pins["recommendations"]
    broken = reader.Pin(pin.table, pin.version, pin.rows + 1, "0" * 64)
    changed = reader.Release(**{**vars(release), "tables": {**pins, "recommendations": broken}})
    with pytest.raises(CheckFailed, match="rows"):
        changed.read("recommendations")
    with pytest.raises(CheckFailed, match="digest"):
        changed.verify()
