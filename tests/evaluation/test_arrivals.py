"""Days are compared with accepted days before them, and the bounds of the recipe make sense together."""

import datetime as dt

import pytest
from pydantic import ValidationError

from microrec.evaluation import arrivals
from microrec.evaluation.arrivals import Config, Day, Finding, History, Value

MONDAY = dt.date(2026, 1, 5)
DAYS = [MONDAY + dt.timedelta(days=n) for n in range(5)]
SIZE = ("t", "size", "all")


def of_size(size: float) -> dict[tuple[str, str, str], Value]:
    return {SIZE: Value(size, 1)}


def grows(day: dt.date, of_day: Day, before: History, config: Config) -> Finding | None:
    """At most twice the greatest of the days before."""
    if not before:
        return None
    most = 2 * max(figures[SIZE].value for figures in before.values())
    size = of_day[SIZE].value
    return Finding(day, size, most, size / most, f"{day}: {size:g}, at most {most:g}")


def test_judge_days_failed_day_is_no_measure_for_the_next() -> None:
    sizes = [1.0, 2.0, 5.0, 5.0, 3.0]
    figures = {day: of_size(size) for day, size in zip(DAYS, sizes, strict=True)}
    result = arrivals.judge_days("size", figures, DAYS[1:], grows, Config())
    assert (result.severity, result.status) == ("hold", "fail")
    assert result.detail == f"{DAYS[2]}: 5, at most 4; {DAYS[3]}: 5, at most 4"
    accepted = arrivals.judge_days("size", figures, DAYS[3:], grows, Config())
    assert accepted.status == "pass", "a day that an operator let pass is a measure"
    assert (accepted.observed, accepted.threshold) == (5.0, 10.0)


def test_judge_days_names_three_days_and_counts_the_others() -> None:
    figures = {day: of_size(9.0 if day > MONDAY else 1.0) for day in DAYS}
    result = arrivals.judge_days("size", figures, DAYS[1:], grows, Config())
    assert result.detail.count("at most 2") == 3
    assert result.detail.endswith("and 1 more days")


def test_judge_days_first_day_passes_without_a_figure() -> None:
    result = arrivals.judge_days("size", {MONDAY: of_size(1.0)}, [MONDAY], grows, Config())
    assert (result.status, result.observed, result.detail) == ("pass", None, "nothing to compare")


def test_trailing_days_end_with_the_configured_number() -> None:
    figures = {day: of_size(1.0) for day in DAYS}
    assert list(arrivals.trailing(figures, DAYS[3], Config(trailing_days=2))) == DAYS[1:3]


def test_history_rows_of_a_day_become_its_figures() -> None:
    row = {"day": MONDAY, "name": "t", "metric": "size", "slice": "all", "value": 4.0, "n": 7}
    assert arrivals.history([row]) == {MONDAY: {SIZE: Value(4.0, 7)}}


@pytest.mark.parametrize(
    "values",
    [
        {"watch_ms": (10.0, 10.0)},
        {"duration_ms": (0.0, 10.0)},
        {"refused_warns": 0.3},
        {"refused_holds": 1.5},
        {"refused_rise": 1.0},
        {"typo": 1},
    ],
)
def test_config_bounds_that_make_no_sense_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate(values)
