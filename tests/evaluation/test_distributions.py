"""A wrong unit, zone, label or id is held with the right guess; honest days, weekends and first days are not."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from microrec.evaluation import distributions
from microrec.evaluation.arrivals import Config, Value
from microrec.evaluation.gate import ARRIVALS, Result

MONDAY = dt.date(2026, 1, 5)
DAYS = [MONDAY + dt.timedelta(days=n) for n in range(8)]
TODAY = DAYS[-1]
QUANTILES = (0.05, 0.15, 0.25, 0.35, 0.45, 0.5, 0.55, 0.65, 0.75, 0.85, 0.95)
LABEL = "positive is a like"
Floats = NDArray[np.float64]
Figures = dict[tuple[str, str, str], Value]


@dataclass(frozen=True)
class Viewings:
    """Viewings of a day, [n] each."""

    watch_ms: Floats
    duration_ms: Floats
    hour: Floats
    returning: float = 0.8

    def figures(self) -> Figures:
        watched = self.watch_ms > 0
        ratio = self.watch_ms / self.duration_ms
        n = len(self.hour)
        lengths = {
            "watch_ms": self.watch_ms[watched],
            "duration_ms": self.duration_ms,
            "watch_ratio": ratio[watched],
        }
        shares = {
            "zero_watch_share": np.mean(~watched),
            "skipped_share": np.mean((self.watch_ms < 3000) & (ratio < 0.95)),
            "positive_share": np.mean((self.watch_ms >= 18_000) | (ratio >= 0.95)),
            "returning_users_share": self.returning,
            "returning_videos_share": self.returning,
        }
        figures = {
            ("raw_interactions", name, f"quantile={share:.2f}"): Value(
                float(np.quantile(values, share)), len(values)
            )
            for name, values in lengths.items()
            if len(values)
            for share in QUANTILES
        }
        hours = np.bincount(self.hour.astype(int) % 24, minlength=24) / n
        figures |= {
            ("raw_interactions", "hour_share", f"hour={hour:02d}"): Value(float(share), n)
            for hour, share in enumerate(hours)
        }
        return figures | {
            ("raw_interactions", name, "all"): Value(float(share), n)
            for name, share in shares.items()
        }


def honest(seed: int, *, n: int = 4000, busier: float = 1.0) -> Viewings:
    """Watched 8 s of 20 s in the median, a tenth not at all; three of four viewings around 20:00."""
    rng = np.random.default_rng(seed)
    watch = np.floor(np.exp(rng.normal(np.log(8000 * busier), 1.2, n))) * (rng.random(n) > 0.1)
    duration = np.ceil(np.exp(rng.normal(np.log(20_000), 0.7, n)))
    evening = np.floor(rng.normal(20, 3, n)) % 24
    hour = np.where(rng.random(n) < 0.75, evening, rng.integers(0, 24, n))
    return Viewings(watch, duration, hour)


def week(**options: float) -> dict[dt.date, Figures]:
    """Seven days, the last two a weekend on which people watch half as long again."""
    return {
        day: honest(seed, busier=1.5 if day.weekday() > 4 else 1.0, **options).figures()
        for seed, day in enumerate(DAYS[:7])
    }


def judged(today: Figures, before: dict[dt.date, Figures] | None = None) -> dict[str, Result]:
    figures = {**(week() if before is None else before), TODAY: today}
    results = distributions.judge(figures, [TODAY], label=LABEL, config=Config())
    return {result.gate: result for result in results}


def failed(results: dict[str, Result]) -> dict[str, str]:
    return {name: result.detail for name, result in results.items() if result.status == "fail"}


def in_units(column: str, factor: float, part: float = 1.0) -> Callable[[Viewings], Viewings]:
    """A part of the viewings has a column in another unit."""

    def changed(viewings: Viewings) -> Viewings:
        values = getattr(viewings, column)
        is_changed = np.arange(len(values)) < part * len(values)
        scaled = np.where(is_changed, np.floor(values * factor), values)
        return replace(
            viewings, **{column: scaled if column == "watch_ms" else np.maximum(scaled, 1)}
        )

    return changed


def moved(hours: int, part: float = 1.0) -> Callable[[Viewings], Viewings]:
    def changed(viewings: Viewings) -> Viewings:
        is_moved = np.arange(len(viewings.hour)) < part * len(viewings.hour)
        return replace(viewings, hour=viewings.hour + np.where(is_moved, hours, 0))

    return changed


SECONDS = "seconds delivered as milliseconds?"
MICROSECONDS = "microseconds delivered as milliseconds?"
UNITS = {
    "watch in seconds": (in_units("watch_ms", 1e-3), "watch_ms", SECONDS),
    "watch in minutes": (in_units("watch_ms", 1 / 60_000), "watch_ms", "minutes delivered"),
    "watch in microseconds": (in_units("watch_ms", 1e3), "watch_ms", MICROSECONDS),
    "duration in seconds": (in_units("duration_ms", 1e-3), "duration_ms", SECONDS),
    "duration in microseconds": (in_units("duration_ms", 1e3), "duration_ms", MICROSECONDS),
}


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("first_night", [True, False])
def test_lengths_in_another_unit_are_held_with_the_unit(name: str, first_night: bool) -> None:
    change, column, unit = UNITS[name]
    results = judged(change(honest(9)).figures(), {} if first_night else None)
    details = failed(results)
    assert unit in details[f"{column}_median"]
    if not first_night and name != "watch in minutes":
        assert unit in details[f"{column}_shift"]
    assert f"raw_interactions[{TODAY}] {column}: median" in details[f"{column}_median"]


def test_watch_and_duration_in_seconds_are_held_and_tell_the_medians() -> None:
    both = in_units("duration_ms", 1e-3)(in_units("watch_ms", 1e-3)(honest(9)))
    details = failed(judged(both.figures()))
    assert {"watch_ms_median", "duration_ms_median", "watch_ms_shift", "duration_ms_shift"} <= set(
        details
    )
    assert "watch_ratio_median" not in details
    assert "median 8" in details["watch_ms_shift"]
    assert SECONDS in details["watch_ms_shift"]


def test_watch_alone_in_seconds_is_told_by_the_ratio_too() -> None:
    details = failed(judged(in_units("watch_ms", 1e-3)(honest(9)).figures()))
    assert (
        "watch_ms in seconds beside duration_ms in milliseconds?" in details["watch_ratio_median"]
    )


@pytest.mark.parametrize("part", [0.3, 0.6])
def test_watch_of_some_viewings_in_seconds_is_held(part: float) -> None:
    details = failed(judged(in_units("watch_ms", 1e-3, part)(honest(9)).figures()))
    assert "watch_ms_shift" in details
    assert f"in about {part:.0%}".replace("%", " % of the rows") in details["watch_ms_shift"]
    assert SECONDS in details["watch_ms_shift"]


@pytest.mark.parametrize(("hours", "part"), [(8, 1.0), (-8, 1.0), (8, 0.5), (12, 0.5), (3, 1.0)])
def test_hours_of_a_moved_zone_are_held_with_the_shift(hours: int, part: float) -> None:
    details = failed(judged(moved(hours, part)(honest(9)).figures()))
    assert set(details) == {"hours"}
    assert f"move by {hours:+d} hours?" in details["hours"]
    assert ("about 50%" in details["hours"]) == (part == 0.5)


@pytest.mark.parametrize("hours", [-1, 1])
def test_hours_of_summer_time_are_not_held(hours: int) -> None:
    assert not failed(judged(moved(hours)(honest(9)).figures()))


def test_hours_beside_a_day_of_which_hours_are_missing_are_not_held() -> None:
    """The first day of a log in another zone: its last eight hours."""
    first = honest(1)
    is_there = (first.hour % 24 >= 16) & (first.hour % 24 < 20)
    part = Viewings(
        *(values[is_there] for values in (first.watch_ms, first.duration_ms, first.hour))
    )
    results = judged(moved(9)(honest(9)).figures(), {MONDAY: part.figures()})
    assert not failed(results)
    assert results["hours"].observed > results["hours"].threshold, (
        "a shift makes it more alike, not alike"
    )


def test_skips_that_become_many_are_held() -> None:
    today = honest(9)
    brief = np.where(np.arange(4000) % 2, np.minimum(today.watch_ms, 2500), today.watch_ms)
    assert "skipped_change" in failed(judged(replace(today, watch_ms=brief).figures()))


def test_watch_times_that_become_zero_are_held() -> None:
    today = honest(9)
    zeros = np.where(np.arange(4000) % 2, 0.0, today.watch_ms)
    details = failed(judged(replace(today, watch_ms=zeros).figures()))
    assert "viewings without watch time are 5" in details["zero_watch_change"]


@pytest.mark.parametrize("before", [None, {}])
def test_positives_none_is_held_and_names_label_and_rule(
    before: dict[dt.date, Figures] | None,
) -> None:
    today = honest(9)
    none = replace(today, watch_ms=np.minimum(today.watch_ms, 0.5 * today.duration_ms).clip(0, 9e3))
    figures = none.figures()
    figures["raw_interactions", "rejected", "rule=bad_flag"] = Value(321.0, 9000)
    figures["raw_interactions", "rejected", "rule=too_late"] = Value(20.0, 9000)
    detail = failed(judged(figures, before))["positives"]
    assert f"{LABEL}; most lines were refused by bad_flag (321)" in detail


def test_positives_none_of_few_viewings_is_told_and_not_held() -> None:
    today = honest(9, n=40)
    results = judged(replace(today, watch_ms=np.ones(40)).figures(), {})
    assert results["positives"].status == "pass"
    assert f"0.00% of 40 viewings are positive, 0.00% asked: {LABEL}" in results["positives"].detail


def test_ids_written_in_another_way_are_held() -> None:
    details = failed(judged(replace(honest(9), returning=0.0).figures()))
    assert set(details) == {"returning_users", "returning_videos"}
    assert "are the ids of users written in another way?" in details["returning_users"]


def test_catalogue_durations_in_seconds_are_held() -> None:
    def catalogue(seed: int, factor: float) -> Figures:
        values = np.ceil(honest(seed).duration_ms * factor)
        return {
            ("raw_videos", "duration_ms", f"quantile={share:.2f}"): Value(
                float(np.quantile(values, share)), len(values)
            )
            for share in QUANTILES
        }

    before = {day: catalogue(seed, 1.0) for seed, day in enumerate(DAYS[:7])}
    details = failed(judged(catalogue(9, 1e-3), before))
    assert set(details) == {"catalogue_duration_ms_median", "catalogue_duration_ms_shift"}
    assert all(SECONDS in words for words in details.values())
    assert not failed(judged(catalogue(9, 1.0), before))


@pytest.mark.parametrize("n", [100, 1000, 20_000])
def test_honest_days_and_weekends_are_far_from_every_bound(n: int) -> None:
    before = week(n=n)
    for seed in range(20, 40):
        busier = 1.5 if seed % 3 else 1.0
        assert not failed(judged(honest(seed, n=n, busier=busier).figures(), before))


def test_first_day_and_small_days_are_not_held() -> None:
    assert not failed(judged(honest(9).figures(), {}))
    few = in_units("watch_ms", 1e-3)(honest(9, n=50))
    assert not failed(judged(few.figures()))
    assert not failed(judged({}, {}))


def test_changed_day_that_was_accepted_is_not_held_again() -> None:
    longer = {
        day: in_units("watch_ms", 8.0)(honest(30 + n)).figures() for n, day in enumerate(DAYS)
    }
    assert "watch_ms_shift" in failed(judged(longer[TODAY]))
    assert "watch_ms_shift" not in failed(
        judged(longer[TODAY], week() | {DAYS[6]: longer[DAYS[6]]})
    )


def test_judged_gates_are_those_that_can_be_overruled() -> None:
    results = judged(honest(9).figures())
    assert set(results) | {"refused", "refused_rise", "encoders"} == set(ARRIVALS)
    assert {result.severity for result in results.values()} == {"hold"}
    told = {name: result.observed for name, result in results.items() if "catalogue" not in name}
    assert all(observed is not None for observed in told.values()), "figures also when silent"
