"""What a viewing says, case by case; strength against brute force and a planted duration bias."""

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from pyspark.sql import SparkSession

from microrec.events import parse, rules, signals
from microrec.events.config import Config
from tests.worlds.event_lines import MONDAY, later, lines, states

pytestmark = pytest.mark.spark

DEFAULTS = Config()

CASES: list[tuple[dict[str, str], str, bool, int]] = [
    # watched and reacted, feedback, skipped, replays
    ({"watch_ms": "5000"}, "neutral", False, 0),
    ({"watch_ms": "3000"}, "neutral", False, 0),
    ({"watch_ms": "2999"}, "negative", True, 0),
    ({"watch_ms": "1"}, "negative", True, 0),
    # What never played was not skipped: it says that the video was shown, or what the reaction says.
    ({"watch_ms": "0"}, "not_started", False, 0),
    ({"watch_ms": "0", "liked": "1"}, "positive", False, 0),
    ({"watch_ms": "0", "disliked": "1"}, "negative", False, 0),
    ({"watch_ms": "9499"}, "neutral", False, 0),
    ({"watch_ms": "9500"}, "positive", False, 0),
    ({"watch_ms": "19999"}, "positive", False, 0),
    ({"watch_ms": "20000"}, "positive", False, 1),
    ({"watch_ms": "39999"}, "positive", False, 2),
    ({"watch_ms": "18000", "duration_ms": "60000"}, "positive", False, 0),
    ({"watch_ms": "17999", "duration_ms": "60000"}, "neutral", False, 0),
    # A short video watched to its end in less than the skip threshold was not skipped.
    ({"watch_ms": "1900", "duration_ms": "2000"}, "positive", False, 0),
    ({"watch_ms": "1000", "liked": "1"}, "positive", True, 0),
    ({"watch_ms": "5000", "shared": "1"}, "positive", False, 0),
    ({"watch_ms": "5000", "followed": "1"}, "positive", False, 0),
    ({"watch_ms": "5000", "commented": "1"}, "positive", False, 0),
    ({"watch_ms": "10000", "liked": "1", "disliked": "1"}, "negative", False, 0),
]


def viewings(
    spark: SparkSession,
    *changes: dict[str, Any],
    config: Config = DEFAULTS,
    apart: Sequence[str] = (),
) -> list[Any]:
    distinct = [change | {"user_id": f"u{n:04}"} for n, change in enumerate(changes)]
    judged = rules.judge(
        parse.interactions(lines(spark, *distinct)),
        states(spark, ("v1", later(-9), None, 10_000), ("endless", later(-9), None, None)),
        days=[later(-1), MONDAY],
        config=config,
        lateness_days=2,
    )
    named = spark.createDataFrame([(user,) for user in apart], "user_id string") if apart else None
    rows = signals.viewings(judged, config, apart=named).collect()
    return sorted(rows, key=lambda row: row.user_id)


def test_signals_cases_equal_expected(spark: SparkSession) -> None:
    found = viewings(spark, *[change for change, *_ in CASES])
    assert [(row.feedback, row.skipped, row.n_replays) for row in found] == [
        tuple(rest) for _, *rest in CASES
    ]
    assert found[0].watch_ratio == 0.5
    assert found[0].day == MONDAY


def test_signals_thresholds_come_from_the_recipe(spark: SparkSession) -> None:
    config = Config(completed_ratio=0.5, long_watch_ms=4000, skip_ms=4500)
    changes = [{"watch_ms": watch} for watch in ("5000", "4400", "3000")]
    found = viewings(spark, *changes, config=config)
    assert [(row.feedback, row.skipped) for row in found] == [
        ("positive", False),
        ("positive", True),
        ("negative", True),
    ]


UNMEASURED: list[tuple[dict[str, str | None], str, bool | None]] = [
    # watched and reacted, feedback, skipped
    ({"watch_ms": None}, "neutral", None),
    ({"watch_ms": None, "liked": "1"}, "positive", None),
    ({"watch_ms": None, "disliked": "1", "liked": "1"}, "negative", None),
    ({"watch_ms": "5000", "video_id": "endless", "duration_ms": None}, "neutral", False),
    ({"watch_ms": "18000", "video_id": "endless", "duration_ms": None}, "positive", False),
    ({"watch_ms": "100", "video_id": "endless", "duration_ms": None}, "neutral", None),
    ({"watch_ms": "100"}, "negative", True),
]


@pytest.mark.parametrize("unmeasured", ["neutral", "positive"])
def test_signals_of_unmeasured_viewings_equal_expected(
    spark: SparkSession, unmeasured: Any
) -> None:
    config = Config(unmeasured=unmeasured)
    found = viewings(spark, *[change for change, *_ in UNMEASURED], config=config)
    plain = found[0]
    assert (plain.watch_ms, plain.watch_ratio, plain.n_replays) == (None, None, None)
    assert [(row.feedback, row.skipped) for row in found] == [
        (unmeasured, None),
        *[(feedback, skipped) for _, feedback, skipped in UNMEASURED[1:]],
    ]
    # Of the viewings of unknown length 100 < 5000 < 18000; those without a watch time say 1/2.
    strengths = [0.5, 0.5, 0.5, 3 / 6, 5 / 6, 1 / 6, 0.5]
    assert [row.strength for row in found] == pytest.approx(strengths)


def test_signals_unmeasured_viewings_are_refused_by_default(spark: SparkSession) -> None:
    assert [row.user_id for row in viewings(spark, *[change for change, *_ in UNMEASURED])] == [
        "u0006"
    ]


def test_strength_never_started_viewings_have_no_rank(spark: SparkSession) -> None:
    changes = [{"watch_ms": watch} for watch in ("0", "1000", "0", "3000")]
    found = viewings(spark, *changes)
    assert [(row.watch_ms, row.strength) for row in found] == [
        (0, 0.5),
        (1000, 0.25),
        (0, 0.5),
        (3000, 0.75),
    ]


def test_strength_rejected_lines_have_no_rank(spark: SparkSession) -> None:
    changes = [{"watch_ms": "1000"}, {"watch_ms": "-5"}, {"watch_ms": "3000"}]
    found = viewings(spark, *changes)
    assert [(row.watch_ms, row.strength) for row in found] == [(1000, 0.25), (3000, 0.75)]


def test_strength_is_the_mid_rank_of_viewings_of_like_length(
    spark: SparkSession,
) -> None:
    pick = random.Random(4)
    changes = [
        {
            "watch_ms": str(pick.randint(1, 15) * 1000),
            "duration_ms": str(pick.choice([6999, 7000, 11999, 12000, 400_000])),
            "day": pick.choice([later(-1), MONDAY]),
            "started_at": "2026-01-04T10:00:00Z",
        }
        for _ in range(300)
    ]
    found = viewings(spark, *changes)
    peers = defaultdict(list)
    for row in found:
        peers[bucket(row)].append(row.watch_ms)
    assert len(peers) == 8
    for row in found:
        group = peers[bucket(row)]
        less = sum(watch < row.watch_ms for watch in group)
        equal = sum(watch == row.watch_ms for watch in group)
        assert row.strength == pytest.approx((less + equal / 2) / len(group))


def test_strength_of_who_teaches_nobody_is_among_others_and_changes_none(
    spark: SparkSession,
) -> None:
    """Named twice, as somebody who has two wishes; of a length that nobody else watched there is no rank."""
    pick = random.Random(6)
    watches = [{"watch_ms": str(pick.randint(1, 9) * 1000)} for _ in range(40)]
    extreme = [{"watch_ms": str(watch)} for watch in (1, 9_999, 5_000, 5_000)]
    alone = {"watch_ms": "5000", "duration_ms": "400000"}
    apart = [f"u{number:04}" for number in range(40, 45)]
    found = viewings(spark, *watches, *extreme, alone, apart=[*apart, *apart])
    others = viewings(spark, *watches)
    assert [row.strength for row in found[:40]] == [row.strength for row in others]
    times = [row.watch_ms for row in others]
    for row in found[40:44]:
        less = sum(watch < row.watch_ms for watch in times)
        equal = sum(watch == row.watch_ms for watch in times)
        assert row.strength == pytest.approx((less + equal / 2) / len(times))
    assert found[44].strength == 0.5


def bucket(row: Any) -> tuple[Any, int]:
    return row.arrived_on, sum(row.duration_ms >= edge for edge in (7000, 12_000, 400_000))


def test_strength_is_fair_to_long_videos(spark: SparkSession) -> None:
    """Interest is drawn independently of length, but is shown as a share of a long or a short video."""
    pick = random.Random(5)
    changes = [
        {"watch_ms": str(int(duration * pick.random())), "duration_ms": str(duration)}
        for duration in (6_000, 100_000)
        for _ in range(200)
    ]
    found = viewings(spark, *changes)
    assert all(0 < row.strength < 1 for row in found)
    means = [
        sum(row.strength for row in found if row.duration_ms == duration) / 200
        for duration in (6_000, 100_000)
    ]
    assert means == pytest.approx([0.5, 0.5])
