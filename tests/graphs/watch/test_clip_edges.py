"""Clips: how a video is cut, where a viewing left it, and the sign of what is left of a day's sum."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from microrec.graphs.watch import clip_edges
from tests.worlds.graph_rows import DAY, Rows, clip_ends, exit_row, sorted_rows

SECONDS = clip_edges.Config()
EQUAL = clip_edges.Config(cut="equal")

# --- Cuts ---------------------------------------------------------------------------------------------

CUTS = [
    # duration, ends of 5 s clips, ends of 4 equal clips
    (1, [1], [0, 0, 0, 1]),
    (4_999, [4_999], [1_249, 2_499, 3_749, 4_999]),
    (5_000, [5_000], [1_250, 2_500, 3_750, 5_000]),
    (5_001, [5_000, 5_001], [1_250, 2_500, 3_750, 5_001]),
    (27_800, [5_000, 10_000, 15_000, 20_000, 25_000, 27_800], [6_950, 13_900, 20_850, 27_800]),
    (195_001, [*range(5_000, 200_000, 5_000), 195_001], [48_750, 97_500, 146_250, 195_001]),
    (200_000, [*range(5_000, 200_001, 5_000)], [50_000, 100_000, 150_000, 200_000]),
    (200_001, [*range(5_000, 200_000, 5_000), 200_001], [50_000, 100_000, 150_000, 200_001]),
    (3_600_000, [*range(5_000, 200_000, 5_000), 3_600_000], [900_000, 1_800_000, 2_700_000, 3_600_000]),
    (None, [], []),
    (0, [], []),
]  # fmt: skip


@pytest.mark.spark
@pytest.mark.parametrize("config", [SECONDS, EQUAL], ids=lambda config: config.cut)
def test_clips_cover_a_video_to_its_end(rows: Rows, config: clip_edges.Config) -> None:
    videos = rows("videos", *[{"duration_ms": duration} for duration, *_ in CUTS])
    duration = F.col("duration_ms")
    expected = [cut[1 if config is SECONDS else 2] for cut in CUTS]
    ends = clip_edges.ends_ms(duration, config=config)
    assert [row[0] for row in videos.select(ends).collect()] == expected
    counts = videos.select(clip_edges.count(duration, config=config)).collect()
    assert [row[0] for row in counts] == [len(cut) for cut in expected]


# --- Exits --------------------------------------------------------------------------------------------

VIEWINGS = [
    # watch_ms of 27 800, watched through of 6 clips of 5 s, of 4 equal clips, early
    (1, 0, 0, True),
    (4_999, 0, 0, True),
    (5_000, 1, 0, False),
    (6_949, 1, 0, False),
    (6_950, 1, 1, False),
    (10_000, 2, 1, False),
    (25_000, 5, 3, False),
    (26_409, 5, 3, False),  # 27 800 * .95 = 26 410
    (26_410, 6, 4, False),
    (27_800, 6, 4, False),
    (27_801, 6, 4, False),  # a replay
    (90_000, 6, 4, False),
]


def exits(viewings: DataFrame, config: clip_edges.Config) -> list[dict[str, Any]]:
    left = clip_edges.exit_of(F.col("watch_ms"), F.col("duration_ms"), config=config)
    return [row["left"] for row in viewings.select(left.alias("left")).toArrow().to_pylist()]


@pytest.mark.spark
@pytest.mark.parametrize("config", [SECONDS, EQUAL], ids=lambda config: config.cut)
def test_exit_clip_cases_equal_expected(rows: Rows, config: clip_edges.Config) -> None:
    viewings = rows(
        "events", *[{"watch_ms": watch, "duration_ms": 27_800} for watch, *_ in VIEWINGS]
    )
    n_clips, place = (6, 1) if config is SECONDS else (4, 2)
    assert exits(viewings, config) == [
        {"n_through": viewing[place], "n_clips": n_clips, "early": viewing[3]}
        for viewing in VIEWINGS
    ]


@pytest.mark.spark
def test_exit_last_clip_is_left_until_complete(rows: Rows) -> None:
    hour = {"duration_ms": 3_600_000}
    viewings = rows(
        "events", {**hour, "watch_ms": 194_999}, {**hour, "watch_ms": 195_000},
        {**hour, "watch_ms": 3_419_999}, {**hour, "watch_ms": 3_420_000},
        {"duration_ms": 3_000, "watch_ms": 2_849}, {"duration_ms": 3_000, "watch_ms": 2_850},
    )  # fmt: skip
    assert [tuple(left.values()) for left in exits(viewings, SECONDS)] == [
        (38, 40, False), (39, 40, False), (39, 40, False), (40, 40, False),
        (0, 1, True), (1, 1, False),
    ]  # fmt: skip


@pytest.mark.spark
def test_early_is_before_early_ms_and_not_the_end(rows: Rows) -> None:
    viewings = rows("events", *[{"watch_ms": watch} for watch in (2_999, 3_000, 9_500)])
    told = exits(viewings, clip_edges.Config(early_ms=3_000))
    assert [left["early"] for left in told] == [True, False, False]


@pytest.mark.spark
def test_clips_are_not_lost_to_rounding(rows: Rows) -> None:
    viewings = rows("events", {"watch_ms": 1, "duration_ms": 49})
    assert 1 / 49 * 49 < 1
    (told,) = exits(viewings, clip_edges.Config(cut="equal", n_clips=49))
    assert told["n_through"] == 1


@st.composite
def viewing(draw: st.DrawFn) -> tuple[int, int]:
    """watch_ms and duration_ms, often at an edge: of a clip, of the end, of what counts as the end."""
    duration = draw(st.one_of(st.integers(1, 60), st.integers(1, 300_000)))
    edges = [n * 3_000 for n in range(12)] + [n * duration // 7 for n in range(8)]
    edges += [duration * 9 // 10, duration * 95 // 100, duration]
    near = st.builds(
        lambda edge, off: max(0, edge + off), st.sampled_from(edges), st.integers(-1, 2)
    )
    return draw(st.one_of(near, st.integers(0, 2 * duration))), duration


CONFIGS = [
    SECONDS,
    clip_edges.Config(clip_ms=3_000, max_clips=6, completed_ratio=0.9, early_ms=1_000),
    EQUAL,
    clip_edges.Config(cut="equal", n_clips=7, completed_ratio=1.0),
]


@pytest.mark.spark
@settings(
    max_examples=3,  # of 60 viewings each, by four ways to cut
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(viewings=st.lists(viewing(), min_size=60, max_size=60))
def test_clips_and_exits_equal_integer_arithmetic(
    rows: Rows, interpreted: None, viewings: list[tuple[int, int]]
) -> None:
    frame = rows("events", *[{"watch_ms": w, "duration_ms": d} for w, d in viewings])
    columns: list[Column] = []
    for n, config in enumerate(CONFIGS):
        watch = F.col("watch_ms")
        duration = F.col("duration_ms")
        columns.append(clip_edges.exit_of(watch, duration, config=config).alias(f"left{n}"))
        columns.append(clip_edges.ends_ms(duration, config=config).alias(f"ends{n}"))
    told = [row.asDict(recursive=True) for row in frame.select(*columns).collect()]
    for row, (watch_ms, duration_ms) in zip(told, viewings, strict=True):
        for n, config in enumerate(CONFIGS):
            assert row[f"ends{n}"] == clip_ends(duration_ms, config), config
            assert row[f"left{n}"] == exit_row(watch_ms, duration_ms, config), config


@pytest.mark.spark
def test_exit_of_a_viewing_unmeasured_or_never_started_is_null(spark: SparkSession) -> None:
    frame = spark.createDataFrame(
        [(None, 10_000), (5_000, None), (None, None), (0, 10_000)], "watch long, of long"
    )
    left = clip_edges.exit_of(F.col("watch"), F.col("of"), config=clip_edges.Config())
    assert [row[0] for row in frame.select(left).collect()] == [None, None, None, None]


# --- Edges --------------------------------------------------------------------------------------------


def exit_at(n_through: int, n_clips: int, *, early: bool = False) -> dict[str, Any]:
    return {"n_through": n_through, "n_clips": n_clips, "early": early}


COMPLETE, EARLY, LATE = exit_at(4, 4), exit_at(0, 4, early=True), exit_at(2, 4)

DAYS = [
    # viewings of a day, (clip, sign, weight) of its edges
    ([COMPLETE], [(0, 1, 0.25), (1, 1, 0.25), (2, 1, 0.25), (3, 1, 0.25)]),
    ([EARLY], [(0, -1, 1.0)]),
    ([LATE], [(0, 1, 0.25), (1, 1, 0.25), (2, -1, 0.5)]),
    ([EARLY, COMPLETE], [(1, 1, 0.25), (2, 1, 0.25), (3, 1, 0.25)]),
    ([EARLY, EARLY, LATE], [(0, -1, 1.0), (1, 1, 0.25), (2, -1, 0.5)]),
    ([LATE, LATE, COMPLETE], [(0, 1, 0.75), (1, 1, 0.75), (3, 1, 0.25)]),
    ([LATE, COMPLETE, COMPLETE], [(0, 1, 0.75), (1, 1, 0.75), (2, 1, 0.375), (3, 1, 0.5)]),
    ([exit_at(0, 1, early=True)], [(0, -1, 1.0)]),
    ([exit_at(1, 1)], [(0, 1, 1.0)]),
    # The video was cut anew that day: of so many clips as the longest has.
    ([exit_at(2, 2), exit_at(3, 5)], [(0, 1, 0.4), (1, 1, 0.4), (2, 1, 0.2), (3, -1, 0.5)]),
    ([exit_at(1, 40)], [(0, 1, 1 / 40), (1, -1, 0.5)]),
    ([], []),  # no viewing was measured
]


@pytest.mark.spark
def test_clip_edges_of_a_day_sum_its_viewings(rows: Rows) -> None:
    pairs = [{"user_idx": n, "clip_exits": viewings} for n, (viewings, _) in enumerate(DAYS)]
    edges = clip_edges.clip_edges(rows("pair_days", *pairs), day=DAY)
    assert sorted_rows(edges, "user_idx", "clip_no", "sign", "weight") == [
        (n, *edge) for n, (_, expected) in enumerate(DAYS) for edge in expected
    ]


@pytest.mark.spark
def test_clip_edges_days_stay_apart_without_decay(rows: Rows) -> None:
    days = [DAY.replace(day=n) for n in (2, 3, 4, 5)]
    pairs = [{"day": day, "clip_exits": [exit_at(0, 2, early=True)]} for day in days]
    edges = clip_edges.clip_edges(rows("pair_days", *pairs), day=DAY)
    assert edges.columns == [
        "split", "user_idx", "video_idx", "watched_on", "clip_no", "sign", "weight",
    ]  # fmt: skip
    assert sorted_rows(edges, "watched_on", "split", "weight") == [
        (day, split, 1.0)
        for day, split in zip(days, ["train", "train", "validation", "holdout"], strict=True)
    ]


# --- Labels of people ---------------------------------------------------------------------------------

NOT_BY_THE_RULE = {(12, 122_656)}
"""user_id and video_id of the one row of SegMM with other labels: 5 000 of 27 800 ms left in clip 0."""


@pytest.mark.spark
@pytest.mark.realdata
def test_clip_labels_equal_segmm(spark: SparkSession, real_data: Path) -> None:
    source = real_data / "segmm" / "segments_a.parquet"
    if not source.is_file():
        pytest.skip(f"no labelled clips at {source}")
    logged = pq.read_table(source)
    labels = logged["segment_labels"].to_pylist()
    viewings = spark.createDataFrame(
        logged.select(["playing_time", "duration_ms"]).rename_columns(["watch_ms", "duration_ms"])
    )

    def others(completed_ratio: float) -> set[int]:
        told = exits(viewings, clip_edges.Config(completed_ratio=completed_ratio))
        return {
            n
            for n, (one, label) in enumerate(zip(told, labels, strict=True))
            if labelled(one) != label
        }

    users, videos = (logged[name].to_pylist() for name in ("user_id", "video_id"))
    outright = others(1.0)
    assert len(labels) == 5_000
    assert len(outright) == 1
    assert {(users[n], videos[n]) for n in outright} == NOT_BY_THE_RULE
    near = zip(logged["playing_time"].to_pylist(), logged["duration_ms"].to_pylist(), strict=True)
    advanced = {n for n, (watch, duration) in enumerate(near) if 0.95 <= watch / duration < 1}
    assert len(advanced) == 131
    assert others(0.95) == outright | advanced


def labelled(left: dict[str, Any]) -> list[int]:
    """Labels of SegMM: 1 watched through, 0 left here, -1 not reached."""
    through = left["n_through"]
    n_clips = left["n_clips"]
    return ([1] * through + [0] + [-1] * n_clips)[:n_clips]
