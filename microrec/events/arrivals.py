"""Which arrival days a night validates, and which raw days it has to read for that."""

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Self

from microrec.errors import LandingError


@dataclass(frozen=True)
class Arrivals:
    """The arrival days of a night, ascending."""

    validated: tuple[dt.date, ...]
    """Days whose lines are judged tonight."""
    read: tuple[dt.date, ...]
    """The validated days and those before them in which a duplicate may have arrived."""


@dataclass(frozen=True)
class MadeOf:
    """What the events of an arrival day were made of, or would be made of now."""

    timezone: str
    """Time zone of the days."""
    videos: str
    """Stamp of the catalogue's files that had arrived by the day."""
    lines: Mapping[str, str]
    """Stamp of the day's files and of those in which a duplicate may lie, by day; days without files are left out."""

    def word(self) -> str:
        """Return it as one word, as the commit of the events keeps it."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @classmethod
    def of_word(cls, word: str | None) -> Self | None:
        """Return what a commit kept; None if it kept nothing, or what an earlier microrec kept."""
        try:
            return cls(**json.loads(word or ""))
        except (TypeError, ValueError):
            return None

    def outdates(self, made: Self | None) -> bool:
        """Return whether events made of something else are to be made again of this.

        A day that had files and has none by now was cleared away: its lines are not judged again, and neither are
        those of days whose duplicates it may hold. Events of an earlier microrec, which kept no word, stay too.

        Args:
            made: what they were made of; None if that is not known.
        """
        if made is None or made.lines.keys() - self.lines.keys():
            return False
        return self != made


def plan(
    day: dt.date,
    *,
    landed: Iterable[dt.date],
    committed: Iterable[dt.date],
    window_days: int,
    lateness_days: int,
) -> Arrivals:
    """The days of the window whose events are not what they would be now, and always `day` itself.

    Args:
        day: the night.
        landed: days with raw interactions in the landing zone.
        committed: days that are validated already, and would come out the same.
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
    window = days_back(day, window_days - 1, since=min(there))
    validated = sorted({day, *(set(window) - set(committed))})
    needed = {
        past
        for arrived in validated
        for past in days_back(arrived, lateness_days, since=min(there))
    }
    gaps = sorted(needed - there)
    if gaps:
        named = ", ".join(map(str, gaps))
        raise LandingError(f"raw_interactions[{named}]: nothing arrived, but {min(there)} did")
    return Arrivals(tuple(validated), tuple(sorted(needed)))


def days_back(last: dt.date, n_before: int, *, since: dt.date = dt.date.min) -> list[dt.date]:
    """Return a day and those before it, descending.

    Args:
        last: the day.
        n_before: number of days before it.
        since: days before this one are left out.
    """
    days = [last - dt.timedelta(days=age) for age in range(n_before + 1)]
    return [day for day in days if day >= since]
