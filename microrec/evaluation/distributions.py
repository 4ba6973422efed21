"""Gates of distributions: lengths, hours, labels and ids of a day against bounds and the days before it."""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microrec.core.array_types import Float64s
from microrec.evaluation.arrivals import (
    CATALOGUE,
    VIEWINGS,
    Config,
    Day,
    Finding,
    History,
    judge_days,
    rule_of,
)
from microrec.evaluation.gate import Result

TENTHS = tuple(f"quantile={share / 100:.2f}" for share in range(5, 100, 10))
MEDIAN = "quantile=0.50"
FLOORS = {"watch_ms": 10.0, "duration_ms": 10.0, "watch_ratio": 0.001}
"""Smaller values are taken for these: between 1 ms and 5 ms there is no difference that matters."""
UNITS = {
    -3.0: "seconds delivered as milliseconds?",
    3.0: "microseconds delivered as milliseconds?",
    6.0: "nanoseconds delivered as milliseconds?",
    -math.log10(60_000): "minutes delivered as milliseconds?",
}
"""What is likely where lengths differ by so many decades."""
RATIOS = {
    -3.0: "watch_ms in seconds beside duration_ms in milliseconds?",
    3.0: "duration_ms in seconds beside watch_ms in milliseconds?",
}
EXPLAINED = 0.5
"""Part of the distance to the day before that may be left where a unit explains it."""
SHIFTS = tuple(range(2, 23))
"""Hours: an hour more or less is summer time."""
PARTS = (0.25, 0.5, 0.75, 1.0)
"""Parts of the viewings that may be shifted."""


def judge(figures: History, days: Sequence[dt.date], *, label: str, config: Config) -> list[Result]:
    """Judge lengths, hours, labels and ids of the days.

    Args:
        figures: of the days and of those before them.
        days: that are judged, ascending.
        label: what makes a viewing positive, in words.
        config: bounds.

    Returns:
        One result per gate; all hold.
    """
    judged = [
        judge_days(f"{prefix}{column}_{kind}", figures, days, measure, config)
        for name, column, prefix in (
            (VIEWINGS, "watch_ms", ""),
            (VIEWINGS, "duration_ms", ""),
            (VIEWINGS, "watch_ratio", ""),
            (CATALOGUE, "duration_ms", "catalogue_"),
        )
        for kind, measure in (("median", _Median(name, column)), ("shift", _Shift(name, column)))
    ]
    judged += [
        judge_days("skipped_change", figures, days, _Change("skipped_share", "skips"), config),
        judge_days(
            "zero_watch_change",
            figures,
            days,
            _Change("zero_watch_share", "viewings without watch time"),
            config,
        ),
        judge_days("positives", figures, days, _Positives(label), config),
        judge_days("hours", figures, days, _hours, config),
    ]
    for ids in ("users", "videos"):
        judged.append(judge_days(f"returning_{ids}", figures, days, _Returning(ids), config))
    return judged


@dataclass(frozen=True)
class _Median:
    """The median of a column between absolute bounds: it holds on the first night too."""

    name: str
    column: str

    def __call__(
        self, day: dt.date, of_day: Day, before: History, config: Config
    ) -> Finding | None:
        median = of_day.get((self.name, self.column, MEDIAN))
        if median is None or median.n < config.least_rows:
            return None
        low, high = getattr(config, self.column)
        bound = low if median.value <= math.sqrt(low * high) else high
        excess = max(low / median.value, median.value / high)
        guess = f": {self._guess(median.value, low, high)}" if excess > 1 else ""
        bounds = f"{_length(self.column, low)} to {_length(self.column, high)}"
        words = (
            f"{self.name}[{day}] {self.column}: median {_length(self.column, median.value)} of {median.n} rows,"
            f" {bounds} believed{guess}"
        )
        return Finding(day, median.value, bound, excess, words)

    def _guess(self, median: float, low: float, high: float) -> str:
        """The unit whose correction brings the median nearest to the middle of the bounds."""
        units = RATIOS if self.column == "watch_ratio" else UNITS
        middle = math.log10(low * high) / 2
        decades = min(units, key=lambda unit: abs(math.log10(median) - unit - middle))
        is_explained = low <= median / 10**decades <= high
        return units[decades] if is_explained else "no common unit explains it"


@dataclass(frozen=True)
class _Shift:
    """The tenths of a column against those of the most similar day before."""

    name: str
    column: str

    def __call__(
        self, day: dt.date, of_day: Day, before: History, config: Config
    ) -> Finding | None:
        tenths = self._tenths(of_day, config)
        earlier = {at: self._tenths(figures, config) for at, figures in before.items()}
        known = {at: then for at, then in earlier.items() if then is not None}
        if tenths is None or not known:
            return None
        apart = {at: float(np.abs(tenths - then).mean()) for at, then in known.items()}
        nearest = min(apart, key=lambda at: (apart[at], at))
        key = (self.name, self.column, MEDIAN)
        medians = [
            _length(self.column, figures[key].value) for figures in (of_day, before[nearest])
        ]
        failed = apart[nearest] > config.shift
        guess = f": {self._guess(tenths, known[nearest])}" if failed else ""
        words = (
            f"{self.name}[{day}] {self.column}: median {medians[0]}, {medians[1]} on {nearest},"
            f" tenths {apart[nearest]:.3f} decades apart, at most {config.shift:g} asked{guess}"
        )
        return Finding(day, apart[nearest], config.shift, apart[nearest] / config.shift, words)

    def _tenths(self, figures: Day, config: Config) -> Float64s | None:
        values = [figures.get((self.name, self.column, tenth)) for tenth in TENTHS]
        known = [value for value in values if value is not None and value.n >= config.least_rows]
        if len(known) < len(TENTHS):
            return None
        values_of_tenths = [max(value.value, FLOORS[self.column]) for value in known]
        logarithms: Float64s = np.log10(values_of_tenths)
        return logarithms

    def _guess(self, tenths: Float64s, then: Float64s) -> str:
        """The unit, and the part of the rows that has it, that explain the tenths best by those of a day before."""
        units = RATIOS if self.column == "watch_ratio" else UNITS
        floor = math.log10(FLOORS[self.column])
        left, decades, tenths_moved = min(
            (
                float(np.abs(tenths - _mixed(then, decades, moved / 10, floor)).mean()),
                decades,
                moved,
            )
            for decades in units
            for moved in range(1, 11)
        )
        if left > EXPLAINED * float(np.abs(tenths - then).mean()):
            return "no common unit explains it"
        part = "" if tenths_moved == 10 else f" in about {tenths_moved * 10} % of the rows"
        return f"a factor of {10**decades:.3g}{part}: {units[decades]}"


def _mixed(tenths: Float64s, decades: float, part: float, floor: float) -> Float64s:
    """The tenths of rows a part of which is moved by so many decades."""
    values = np.concatenate([tenths, np.maximum(tenths + decades, floor)])
    weights = np.repeat([1 - part, part], len(tenths)) / len(tenths)
    order = np.argsort(values, kind="stable")
    middles = np.cumsum(weights[order]) - weights[order] / 2
    mixed: Float64s = np.interp(np.arange(0.05, 1, 0.1), middles, values[order])
    return mixed


def _length(column: str, value: float) -> str:
    number = f"{value:,.0f}" if value >= 10 else f"{value:.3g}"
    return f"{number} ms" if column.endswith("_ms") else number


@dataclass(frozen=True)
class _Change:
    """A share against that of the most similar day before."""

    metric: str
    noun: str

    def __call__(
        self, day: dt.date, of_day: Day, before: History, config: Config
    ) -> Finding | None:
        share, earlier = _shares(of_day, before, self.metric, config)
        if share is None or not earlier:
            return None
        nearest = min(earlier, key=lambda at: (abs(share - earlier[at]), at))
        observed = abs(share - earlier[nearest])
        words = (
            f"{VIEWINGS}[{day}]: {self.noun} are {share:.1%}, {earlier[nearest]:.1%} on {nearest},"
            f" at most {config.share_change:.0%} of the viewings apart asked"
        )
        return Finding(
            day, observed, config.share_change, _over(observed, config.share_change), words
        )


@dataclass(frozen=True)
class _Positives:
    """The share of positive viewings: some, and not much less than on the days before."""

    label: str

    def __call__(
        self, day: dt.date, of_day: Day, before: History, config: Config
    ) -> Finding | None:
        positive = of_day.get((VIEWINGS, "positive_share", "all"))
        if positive is None:
            return None
        share = positive.value
        _, earlier = _shares(of_day, before, "positive_share", config)
        least = config.positives_kept * min(earlier.values(), default=0.0)
        usual = f", at least {min(earlier.values()):.2%} on the days before" if earlier else ""
        excess = 2.0 if share == 0 else least / share
        guess = f": {self.label}{_most_refused(of_day)}" if excess > 1 else ""
        words = (
            f"{VIEWINGS}[{day}]: {share:.2%} of {positive.n} viewings are positive{usual},"
            f" {least:.2%} asked{guess}"
        )
        is_judged = positive.n >= config.least_rows
        return Finding(day, share, least, excess if is_judged else 0.0, words)


@dataclass(frozen=True)
class _Returning:
    """The share of a day's users or videos that were there on one of the days before."""

    ids: str

    def __call__(
        self, day: dt.date, of_day: Day, before: History, config: Config
    ) -> Finding | None:
        share, earlier = _shares(of_day, before, f"returning_{self.ids}_share", config)
        if share is None or not earlier:
            return None
        least = config.returning_kept * min(earlier.values())
        excess = least / share if share else (2.0 if least else 0.0)
        guess = f": are the ids of {self.ids} written in another way?" if excess > 1 else ""
        words = (
            f"{VIEWINGS}[{day}]: {share:.1%} of the {self.ids} were there on the days before,"
            f" {min(earlier.values()):.1%} or more usually, {least:.1%} asked{guess}"
        )
        return Finding(day, share, least, excess, words)


def _shares(
    of_day: Day, before: History, metric: str, config: Config
) -> tuple[float | None, dict[dt.date, float]]:
    """A share of the day, and of those before; days of few rows have none."""

    def share(figures: Day) -> float | None:
        value = figures.get((VIEWINGS, metric, "all"))
        return None if value is None or value.n < config.least_rows else value.value

    shares = {at: share(figures) for at, figures in before.items()}
    return share(of_day), {at: value for at, value in shares.items() if value is not None}


def _most_refused(of_day: Day) -> str:
    """The rule that refused most lines of the day, in words."""
    refused = {
        rule: value.value
        for (table, metric, part), value in of_day.items()
        if table == VIEWINGS and (rule := rule_of(metric, part)) is not None
    }
    if not refused:
        return "; no line was refused"
    rule = min(refused, key=lambda name: (-refused[name], name))
    return f"; most lines were refused by {rule} ({refused[rule]:.0f})"


def _hours(day: dt.date, of_day: Day, before: History, config: Config) -> Finding | None:
    """The hours of the day against those of the most similar day before, as they are and shifted."""
    hours = _hour_shares(of_day, config)
    earlier = {at: _hour_shares(figures, config) for at, figures in before.items()}
    known = {at: then for at, then in earlier.items() if then is not None}
    if hours is None or not known:
        return None
    nearest = min(known, key=lambda at: (_distance(hours, known[at]), at))
    then = known[nearest]
    apart = _distance(hours, then)
    left, shift, part = min(
        (_distance(hours, (1 - part) * then + part * np.roll(then, shift)), shift, part)
        for shift in SHIFTS
        for part in PARTS
    )
    gain = apart - left
    least_n = min(
        figures[VIEWINGS, "hour_share", "hour=00"].n for figures in (of_day, before[nearest])
    )
    noise = 0.5 * math.sqrt(24 / least_n)
    bound = config.zone_gain + noise
    # A day of which some hours are missing, as the first day of a log, is nearer to others when shifted, but far away.
    is_explained = left <= max(apart / 4, 2 * noise)
    hours_moved = shift if shift <= 12 else shift - 24
    whose = "the viewings" if part == 1 else f"about {part:.0%} of the viewings"
    words = (
        f"{VIEWINGS}[{day}] started_at: hours of the day {apart:.3f} from those of {nearest},"
        f" {left:.3f} if {whose} had moved by {hours_moved:+d} hours (gain {gain:.3f}, at most {bound:.3f} asked)"
    )
    guess = (
        f": did the zone of {whose} move by {hours_moved:+d} hours?"
        if gain > bound and is_explained
        else ""
    )
    return Finding(day, gain, bound, gain / bound if is_explained else 0.0, words + guess)


def _hour_shares(figures: Day, config: Config) -> Float64s | None:
    shares = [figures.get((VIEWINGS, "hour_share", f"hour={hour:02d}")) for hour in range(24)]
    known = [share for share in shares if share is not None]
    if len(known) < 24 or known[0].n < config.least_rows:
        return None
    return np.array([share.value for share in known])


def _distance(hours: Float64s, other: Float64s) -> float:
    """Total variation."""
    return float(np.abs(hours - other).sum() / 2)


def _over(observed: float, bound: float) -> float:
    if bound == 0:
        return 2.0 if observed > 0 else 0.0
    return observed / bound
