"""Judge what arrived: bounds, the figures of a day, and each day beside the days before it that were accepted.

A day is compared with the most similar of the days before that were accepted, so that a weekend is compared with a
weekend, and a change that an operator has accepted once is not held again. Days that fail are in no later comparison.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from microrec.evaluation.gate import Result, Share

VIEWINGS, CATALOGUE = "raw_interactions", "raw_videos"
NAMED = 3
"""Days or rules a message names."""

Key = tuple[str, str, str]
"""Name, metric and slice of a row of `metrics`."""
Bounds = tuple[PositiveFloat, PositiveFloat]


@dataclass(frozen=True)
class Value:
    """A figure, and the number of rows behind it."""

    value: float
    n: int


Day = Mapping[Key, Value]
History = Mapping[dt.date, Day]
"""Figures of each arrival day: those that are judged, and those before that were accepted."""


class Config(BaseModel):
    """Bounds of the gates. Wide: an honest day is far from each, a wrong unit far beyond it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trailing_days: PositiveInt = 14
    """Days before a day that it is compared with."""
    least_rows: PositiveInt = 100
    """Fewest rows (lines of a table; viewings) of a day that are judged: shares of fewer are chance."""
    refused_warns: Share = 0.02
    """Share of a day's lines of a raw table that one rule refuses, above which it warns."""
    refused_holds: Share = 0.2
    """Share above which it holds, of the lines that it lets pass on the days before."""
    refused_rise: float = Field(default=10.0, gt=1)
    """Times the greatest share of the days before, above which it holds, from `refused_rise_least` on."""
    refused_rise_least: Share = 0.05
    """Share from which a rise holds."""
    encoder_warns: Share = 0.98
    """Share of a modality's videos with a vector of the night's encoder version, below which it warns."""
    encoder_holds: Share = 0.6
    """Share below which it holds: the other videos have no vector."""
    watch_ms: Bounds = (100.0, 1_200_000.0)
    """Least and greatest median watch time that is believed, of viewings that were watched at all."""
    duration_ms: Bounds = (500.0, 3_600_000.0)
    """Least and greatest median length of a viewed video, and of a day's rows of the catalogue."""
    watch_ratio: Bounds = (0.005, 20.0)
    """Least and greatest median watch ratio, of viewings that were watched at all."""
    shift: PositiveFloat = 0.4
    """Decades by which the tenths of watch time, length or ratio may differ in the mean from those of the most similar
    day before: 0.3 is a factor of 2, and a wrong unit in a fifth of the viewings is beyond 0.4."""
    share_change: Share = 0.3
    """Most that the share of skips, or of viewings without watch time, may differ."""
    positives_kept: Share = 0.2
    """Least share of positive viewings, as a part of the least of the days before."""
    returning_days: PositiveInt = 7
    """Days before a day of which a user (video) counts as one that was there before."""
    returning_kept: Share = 0.25
    """Least share of users (videos) that were there before, as a part of the least of the days before."""
    zone_gain: PositiveFloat = 0.06
    """How much nearer (in total variation) a shift of a quarter or more of the viewings by two hours or more may bring
    the hours of the day to those of the days before; beside the noise of small days."""

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        for name in ("watch_ms", "duration_ms", "watch_ratio"):
            low, high = getattr(self, name)
            if low >= high:
                raise ValueError(
                    f"{name}: the least median {low:g} is not below the greatest {high:g}"
                )
        if self.refused_warns > self.refused_holds:
            raise ValueError("refused_warns is above refused_holds")
        if self.encoder_warns < self.encoder_holds:
            raise ValueError("encoder_warns is below encoder_holds")
        return self


@dataclass(frozen=True)
class Finding:
    """A day's figure beside its bound."""

    day: dt.date
    observed: float
    threshold: float
    excess: float
    """Above 1 where the bound is broken."""
    words: str


def history(rows: Sequence[Mapping[str, Any]]) -> dict[dt.date, dict[Key, Value]]:
    """Return rows of `metrics`, stage arrivals, by day.

    Args:
        rows: with day, name, metric, slice, value and n.
    """
    by_day: dict[dt.date, dict[Key, Value]] = {}
    for row in rows:
        key = (row["name"], row["metric"], row["slice"])
        by_day.setdefault(row["day"], {})[key] = Value(row["value"], row["n"])
    return by_day


Measure = Callable[[dt.date, Day, History, Config], Finding | None]
"""Compares a day with the accepted days before it; None where there is nothing to compare."""


def judge_days(
    name: str, figures: History, days: Sequence[dt.date], measure: Measure, config: Config
) -> Result:
    """Judge each day against the accepted ones before it.

    Args:
        name: of the gate.
        figures: of the days and of those before them.
        days: that are judged, ascending.
        measure: the day's figure and its bound.
        config: how many days before a day it is compared with.

    Returns:
        A result that holds; it tells the days that fail, else the one that is nearest to its bound.
    """
    accepted = {day: figures[day] for day in figures if day not in days}
    findings = []
    for day in days:
        of_day = figures.get(day, {})
        finding = measure(day, of_day, trailing(accepted, day, config), config)
        if finding is not None:
            findings.append(finding)
        if finding is None or finding.excess <= 1:
            accepted[day] = of_day
    if not findings:
        return Result(name, "hold", "pass", None, 0.0, "nothing to compare")
    ordered = sorted(findings, key=lambda finding: (-finding.excess, finding.day))
    failed = [finding for finding in ordered if finding.excess > 1]
    rest = [f"and {len(failed) - NAMED} more days"] if len(failed) > NAMED else []
    details = [finding.words for finding in (failed or ordered)[: NAMED if failed else 1]]
    status = "fail" if failed else "pass"
    worst = ordered[0]
    return Result(
        name, "hold", status, worst.observed, worst.threshold, "; ".join([*details, *rest])
    )


def trailing(accepted: History, day: dt.date, config: Config) -> dict[dt.date, Day]:
    """Return the days that a day is compared with.

    Args:
        accepted: figures of accepted days.
        day: that is compared.
        config: how many days before it count.
    """
    return {
        before: accepted[before]
        for before in sorted(accepted)
        if 0 < (day - before).days <= config.trailing_days
    }


def rule_of(metric: str, part: str) -> str | None:
    """Return the rule whose lines a row of `metrics` counts, if it counts those of one.

    Args:
        metric: of the row.
        part: its slice.
    """
    if metric == "duplicates":
        return "duplicate"
    return part.removeprefix("rule=") if metric == "rejected" and part.startswith("rule=") else None
