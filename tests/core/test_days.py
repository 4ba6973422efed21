"""Days of a time zone, on the days on which clocks are changed among others."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrec.core import days

ZONES = [
    "UTC",
    "Asia/Shanghai",
    "Europe/Berlin",
    "America/New_York",
    "Pacific/Auckland",
    "Africa/Cairo",
]


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("day", "timezone", "start", "hours"),
    [
        (dt.date(2026, 1, 4), "UTC", utc(2026, 1, 4), 24),
        (dt.date(2026, 1, 4), "Asia/Shanghai", utc(2026, 1, 3, 16), 24),
        (dt.date(2026, 3, 29), "Europe/Berlin", utc(2026, 3, 28, 23), 23),
        (dt.date(2026, 10, 25), "Europe/Berlin", utc(2026, 10, 24, 22), 25),
        (dt.date(2026, 3, 8), "America/New_York", utc(2026, 3, 8, 5), 23),
        (dt.date(2026, 11, 1), "America/New_York", utc(2026, 11, 1, 4), 25),
        (dt.date(2026, 4, 24), "Africa/Cairo", utc(2026, 4, 23, 22), 23),
    ],
)
def test_bounds_are_local_midnights_in_utc(
    day: dt.date, timezone: str, start: dt.datetime, hours: int
) -> None:
    assert days.bounds(day, timezone) == (start, start + dt.timedelta(hours=hours))
    assert days.start(day, timezone).tzinfo is dt.UTC


@given(
    st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2040, 1, 1), timezones=st.just(dt.UTC)),
    st.sampled_from(ZONES),
)
def test_of_is_the_day_whose_bounds_hold_the_instant(instant: dt.datetime, timezone: str) -> None:
    start, end = days.bounds(days.of(instant, timezone), timezone)
    assert start <= instant < end


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Asia/Beijing", "IANA name such as UTC, Asia/Shanghai"),
        ("shanghai", "Asia/Shanghai"),
        ("New York", "America/New_York"),
        ("EST", "no time zone"),
        ("localtime", "no time zone"),
        ("+08:00", "no time zone"),
        ("", "no time zone"),
        ("../../etc/passwd", "no time zone"),
    ],
)
def test_zone_that_is_none_is_refused_with_names_that_are_near(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        days.zone(name)
