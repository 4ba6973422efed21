"""Days of a time zone: which instants a day covers, and which day an instant is of.

A day runs from the first instant of its local date to the first of the next: 23 or 25 hours where clocks are changed.
Instants are stored in UTC; the recipe (`night.timezone`) says whose days the days are.
"""

import datetime as dt
import functools
import zoneinfo

UTC = "UTC"
DAY_US = 86_400_000_000
"""Microseconds of 24 hours."""


@functools.cache
def zone(timezone: str) -> dt.tzinfo:
    """Return a time zone.

    Args:
        timezone: UTC, or an IANA name such as Asia/Shanghai.

    Raises:
        ValueError: there is no such time zone; the message has names that are near.
    """
    if timezone == UTC:
        return dt.UTC
    known = zoneinfo.available_timezones()
    # Names without a region (EST, localtime) are known to one engine and not to the other, or depend on the machine.
    if timezone not in known or "/" not in timezone:
        raise ValueError(f"{timezone!r} is no time zone{_hint(timezone, known)}")
    return zoneinfo.ZoneInfo(timezone)


def start(day: dt.date, timezone: str = UTC) -> dt.datetime:
    """Return the first instant of a day, in UTC.

    Args:
        day: the local date.
        timezone: UTC, or an IANA name.
    """
    # Where clocks skip midnight, this is the instant at which they do.
    return dt.datetime.combine(day, dt.time(), tzinfo=zone(timezone)).astimezone(dt.UTC)


def end(day: dt.date, timezone: str = UTC) -> dt.datetime:
    """Return the first instant after a day, in UTC: the start of the next.

    Args:
        day: the local date.
        timezone: UTC, or an IANA name.
    """
    return start(day + dt.timedelta(days=1), timezone)


def bounds(day: dt.date, timezone: str = UTC) -> tuple[dt.datetime, dt.datetime]:
    """Return the first instant of a day and the first after it, in UTC.

    Args:
        day: the local date.
        timezone: UTC, or an IANA name.
    """
    return start(day, timezone), end(day, timezone)


def of(instant: dt.datetime, timezone: str = UTC) -> dt.date:
    """Return the day an instant is of.

    Args:
        instant: with a time zone of its own.
        timezone: UTC, or an IANA name.
    """
    return instant.astimezone(zone(timezone)).date()


def _hint(timezone: str, known: set[str]) -> str:
    words = timezone.rsplit("/", maxsplit=1)[-1].casefold().replace(" ", "_")
    near = sorted(name for name in known if "/" in name and words and words in name.casefold())
    examples = near[:3] or [UTC, "Asia/Shanghai", "America/New_York"]
    return f", write {UTC} or an IANA name such as {', '.join(examples)}"
