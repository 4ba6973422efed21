"""Shares of refused lines: each bound fires on a planted day, and is silent beside it."""

import datetime as dt

import pytest

from microrec.evaluation import refusals
from microrec.evaluation.arrivals import Config, Value
from microrec.evaluation.gate import JUDGEMENTS, Result

MONDAY = dt.date(2026, 1, 5)
DAYS = [MONDAY + dt.timedelta(days=n) for n in range(4)]
Figures = dict[tuple[str, str, str], Value]


def lines(n: int, *, table: str = "raw_interactions", **refused: int) -> Figures:
    """Figures of a day of `n` lines, by rule those that it refused."""
    figures = {(table, "rows_in", "all"): Value(float(n), n)}
    for rule, count in refused.items():
        metric = "nulled" if rule in ("bad_flag", "bad_tags") else "rejected"
        key = ("duplicates", "all") if rule == "duplicate" else (metric, f"rule={rule}")
        figures[table, *key] = Value(float(count), n)
    return figures


def judged(figures: dict[dt.date, Figures], *days: dt.date) -> dict[str, Result]:
    refused = refusals.refusals(figures, days, config=Config())
    examples = dict.fromkeys(refusals.notable(refused, config=Config()), ", e.g. part-0")
    return {result.gate: result for result in refusals.judge(refused, examples, config=Config())}


def failed(figures: dict[dt.date, Figures], *days: dt.date) -> set[str]:
    return {name for name, result in judged(figures, *days).items() if result.status == "fail"}


@pytest.mark.parametrize(
    ("today", "expected"),
    [
        (lines(1000), set()),
        (lines(1000, bad_watch=20), set()),
        (lines(1000, bad_watch=21), {"refused_warned"}),
        (lines(1000, bad_watch=200), {"refused_warned"}),
        (lines(1000, bad_watch=201), {"refused_warned", "refused"}),
        (lines(1000, bad_watch=150, bad_flag=150), {"refused_warned"}),
        (lines(99, bad_watch=99), set()),
        (lines(1000, duplicate=900), {"refused_warned"}),
        (lines(1000, table="raw_videos", bad_tags=201), {"refused_warned", "refused"}),
        (lines(1000, table="raw_videos", bad_eligible=900), {"refused_warned", "refused"}),
    ],
)
def test_refused_share_of_a_first_day_warns_and_holds_above_its_bounds(
    today: Figures, expected: set[str]
) -> None:
    assert failed({MONDAY: today}, MONDAY) == expected


@pytest.mark.parametrize(
    ("usual", "today", "expected"),
    [
        (1, 300, {"refused", "refused_rise", "refused_warned"}),
        (1, 60, {"refused_rise", "refused_warned"}),
        (1, 50, {"refused_warned"}),
        (20, 199, {"refused_warned"}),
        (15, 180, {"refused_rise", "refused_warned"}),
        (500, 590, {"refused_warned"}),
        (500, 650, {"refused", "refused_warned"}),
    ],
)
def test_refused_share_beside_the_days_before_holds_where_it_rises(
    usual: int, today: int, expected: set[str]
) -> None:
    figures = {day: lines(1000, bad_watch=usual) for day in DAYS[:3]}
    figures[DAYS[3]] = lines(1000, bad_watch=today)
    assert failed(figures, DAYS[3]) == expected


def test_refused_share_of_a_day_that_failed_is_not_usual_for_the_next() -> None:
    figures = {day: lines(1000, bad_watch=0 if day == MONDAY else 600) for day in DAYS}
    result = judged(figures, *DAYS)["refused"]
    assert [str(day) in result.detail for day in DAYS] == [False, True, True, True]


def test_refused_message_names_table_day_rule_share_count_and_examples() -> None:
    figures = {MONDAY: lines(1000, bad_watch=1), DAYS[1]: lines(1000, bad_watch=300)}
    result = judged(figures, DAYS[1])["refused"]
    assert result.detail == (
        "at most 20% of a day's lines: raw_interactions[2026-01-06] bad_watch: 30.00% of 1000 lines (300),"
        " at most 0.10% on the days before, e.g. part-0"
    )
    assert (result.severity, result.observed, result.threshold) == ("hold", 0.3, 0.2)


def test_doubts_of_few_lines_are_told_and_only_warn() -> None:
    figures: Figures = {
        ("raw_videos", "rows_in", "all"): Value(3.0, 3),
        ("raw_videos", "in_doubt", "all"): Value(2.0, 3),
        ("raw_videos", "in_doubt", "rule=bad_eligible"): Value(2.0, 3),
    }
    doubtful = refusals.doubts({MONDAY: figures}, [MONDAY])
    result = refusals.judge_doubts(doubtful, {doubtful[0]: ", eligible 'no'"})
    assert (result.severity, result.status, result.observed) == ("warn", "fail", 2.0)
    assert (
        "raw_videos[2026-01-05] bad_eligible: 66.67% of 3 lines (2), eligible 'no'" in result.detail
    )
    assert refusals.judge_doubts(refusals.doubts({MONDAY: {}}, [MONDAY]), {}).status == "pass"


def test_refused_silent_day_tells_its_greatest_share() -> None:
    result = judged({MONDAY: lines(1000, bad_watch=3, bad_flag=2)}, MONDAY)["refused"]
    assert (result.status, result.observed) == ("pass", 0.003)
    assert "bad_watch: 0.30% of 1000 lines (3)" in result.detail
    assert judged({MONDAY: lines(1000)}, MONDAY)["refused"].observed == 0.0


def test_refused_gates_that_hold_can_be_overruled() -> None:
    results = judged({MONDAY: lines(1000)}, MONDAY).values()
    assert {result.gate for result in results if result.severity == "hold"} <= set(JUDGEMENTS)
