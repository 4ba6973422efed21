"""Faults of the releases, from the tables alone: nothing of the run that should have made one is read."""

import datetime as dt
from collections.abc import Collection, Sequence
from statistics import median

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt

from microrec.core import days as local_days
from microrec.release.reader import RELEASED, WITHDRAWN, Release

LISTS = ("recommendations", "fallback_recommendations")
"""Tables whose size says whether a release is whole."""


class Config(BaseModel):
    """Thresholds from which a fault is reported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    late_hours: NonNegativeFloat = 12.0
    """Hours after the end of a day by which its release is expected."""
    share: float = Field(default=0.8, gt=0, le=1)
    """Rows of a list table, as a share of the median of the releases before, below which it has shrunk; above
    the inverse it has swollen."""
    releases: PositiveInt = 7
    """Releases before that the latest is compared with, and days that are looked through for gaps."""


def findings(
    releases: Sequence[Release],
    begun: Collection[dt.date],
    *,
    now: dt.datetime,
    config: Config,
    timezone: str = local_days.UTC,
) -> list[str]:
    """Return the faults of the releases, a sentence each; nothing if all is well.

    Args:
        releases: all of them by day, withdrawn ones too.
        begun: days whose night has written tables.
        now: the instant, with a time zone.
        config: thresholds from which a fault is reported.
        timezone: whose days the releases are of.
    """
    in_force = [release for release in releases if release.status == RELEASED]
    if not in_force:
        return ["releases: none is in force"]
    latest = in_force[-1]
    faults = []
    due = now - dt.timedelta(hours=config.late_hours)
    expected = local_days.of(due, timezone) - dt.timedelta(days=1)
    if latest.day < expected:
        faults.append(f"releases: the latest is of {latest.day}, that of {expected} is overdue")
    if latest.expired(now):
        faults.append(f"releases: {latest.id} expired at {latest.valid_until:%Y-%m-%d %H:%M} UTC")
    faults += _sizes(in_force[-1 - config.releases :], config)
    days = [expected - dt.timedelta(days=back) for back in range(config.releases)][::-1]
    first = in_force[0].day
    of_day = {release.day: release for release in releases}
    for day in days:
        release = of_day.get(day)
        if release is not None and release.status == WITHDRAWN:
            faults.append(f"releases[day={day}]: withdrawn: {release.reason}")
        elif release is None and day > first and day != expected:
            state = "begun and not finished" if day in begun else "never begun"
            faults.append(f"releases[day={day}]: no release, the night was {state}")
    return faults


def _sizes(releases: Sequence[Release], config: Config) -> list[str]:
    """Tables of the last release that are much smaller or larger than those before."""
    *before, latest = releases
    faults = []
    for table in LISTS if before else ():
        usual = median(release.tables[table].rows for release in before if table in release.tables)
        rows = latest.tables[table].rows
        if not config.share * usual <= rows <= usual / config.share:
            faults.append(f"{table}[day={latest.day}]: {rows} rows, usually {usual:.0f}")
    return faults
