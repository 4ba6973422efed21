"""Which arrival days a night validates, and which raw days it has to read for that."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from microrec.errors import LandingError


@dataclass(frozen=True)
class Arrivals:
    """The arrival days of a night, ascending."""

    validated: tuple[dt.date, ...]
    """Days whose lines are judged tonight."""
    read: tuple[dt.date, ...]
    """The validated days and those before them in which a duplicate may have arrived."""


def plan(
    day: dt.date,
    *,
    landed: Iterable[dt.date],
    committed: Iterable[dt.date],
    window_days: int,
    lateness_days: int,
) -> Arrivals:
    """The days of the window nobody validated yet, and always `day` itself.

    Args:
        day: the night.
        landed: days with raw interactions in the landing zone.
        committed: days that are validated already.
        window_days: event days a night looks at.
        lateness_days: days after its event day on which a viewing may arrive.

    Returns:
        The plan; days before the first landing day are in neither part.

    Raises:
        LandingError: a day that is needed lies between the first landing day and `day` and has no
            raw lines: all such days are named.
    """
    there = set(landed)
    if day not in there:
        raise LandingError(f"raw_interactions[{day}]: nothing arrived on this day")
    window = _days(day, window_days - 1, since=min(there))
    validated = sorted({day, *(set(window) - set(committed))})
    needed = {
        past for arrived in validated for past in _days(arrived, lateness_days, since=min(there))
    }
    gaps = sorted(needed - there)
    if gaps:
        named = ", ".join(map(str, gaps))
        raise LandingError(f"raw_interactions[{named}]: nothing arrived, but {min(there)} did")
    return Arrivals(tuple(validated), tuple(sorted(needed)))


def _days(last: dt.date, n_before: int, *, since: dt.date) -> list[dt.date]:
    days = [last - dt.timedelta(days=age) for age in range(n_before + 1)]
    return [day for day in days if day >= since]
