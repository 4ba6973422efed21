"""What a viewing says, case by case."""

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
) -> list[Any]:
    distinct = [change | {"user_id": f"u{n:04}"} for n, change in enumerate(changes)]
    judged = rules.judge(
        parse.interactions(lines(spark, *distinct)),
        states(spark, ("v1", later(-9), None, 10_000), ("endless", later(-9), None, None)),
        days=[later(-1), MONDAY],
        config=config,
        lateness_days=2,
    )
    rows = signals.viewings(judged, config).collect()
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


def test_signals_unmeasured_viewings_are_refused_by_default(spark: SparkSession) -> None:
    assert [row.user_id for row in viewings(spark, *[change for change, *_ in UNMEASURED])] == [
        "u0006"
    ]
