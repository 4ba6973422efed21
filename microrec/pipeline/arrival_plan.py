"""Which arrival days a night validates, by what has landed and what earlier nights have committed."""

import datetime as dt
from collections.abc import Mapping, Sequence

from microrec.core.days import UTC
from microrec.errors import RecipeError
from microrec.events import arrivals
from microrec.events.arrivals import MadeOf
from microrec.landing import zone
from microrec.landing.listing import Listing
from microrec.pipeline.night import Night


def current_plan(night: Night, listing: Listing) -> arrivals.Arrivals:
    """Return the arrival days to validate tonight, and those to read for it, see `arrivals.plan`.

    A day of the window is validated again if files were added to it, rewritten or removed since.

    Args:
        night: says how long the window is and how late rows may be; its warehouse has what is validated.
        listing: the files that have landed.

    Returns:
        The plan, as of the listing.
    """
    validated = {
        dt.date.fromisoformat(str(partition["day"]))
        for partition in night.warehouse.partitions("rejected_rows")
        if partition["raw_table"] == zone.INTERACTIONS
    }
    outdated = {
        day for day, (made, now) in _made_and_now(night, listing).items() if now.outdates(made)
    }
    return arrivals.plan(
        night.day,
        landed=listing.days(zone.INTERACTIONS),
        committed=validated - outdated,
        window_days=night.config.window_days,
        lateness_days=night.config.lateness_days,
    )


def words(night: Night, listing: Listing, days: Sequence[dt.date]) -> list[str]:
    """Return what the events of arrival days are made of if they are made of a listing, one word per day.

    Args:
        night: says how late rows may be.
        listing: the files that have landed.
        days: arrival days.
    """
    return [_now(night, listing, day).word() for day in days]


def window_words(night: Night, listing: Listing) -> list[str]:
    """Return what the events of the night's window would be made of if the night was made now.

    Args:
        night: says how long the window is; its warehouse has what earlier nights made.
        listing: the files that have landed.

    Returns:
        One word per day: what they are made of already, unless they would be made again.
    """
    return [
        (now if made is None or now.outdates(made) else made).word()
        for made, now in _made_and_now(night, listing).values()
    ]


def _made_and_now(night: Night, listing: Listing) -> Mapping[dt.date, tuple[MadeOf | None, MadeOf]]:
    """By arrival day of the window: what its events were made of, and what they would be made of."""
    days = arrivals.days_back(night.day, night.config.window_days - 1)
    kept = night.warehouse.made_with_each("events", [{"arrived_on": each} for each in days])
    made = {day: MadeOf.of_word(word) for day, word in zip(days, kept, strict=True)}
    zones = {day: was.timezone for day, was in made.items() if was is not None}
    # Words of an earlier microrec, whose days were all of UTC, cannot be read.
    unread = [day for day, word in zip(days, kept, strict=True) if word and made[day] is None]
    _refuse_other_zones({**dict.fromkeys(unread, UTC), **zones}, night.config.timezone)
    return {day: (made[day], _now(night, listing, day)) for day in days}


def _refuse_other_zones(zones: Mapping[dt.date, str], timezone: str) -> None:
    others = {day: zone for day, zone in zones.items() if zone != timezone}
    if others:
        first, last = min(others), max(others)
        raise RecipeError(
            f"[night] timezone: the recipe says {timezone}, but events[arrived_on={first}..{last}] were made with days"
            f" of {others[last]}, and days of two time zones are no window: set it back, or name another warehouse"
            " (MICROREC_WAREHOUSE), deliver the landing folders by local day, and make the days again"
        )


def _now(night: Night, listing: Listing, day: dt.date) -> MadeOf:
    of_lines = arrivals.days_back(day, night.config.lateness_days)
    of_videos = [each for each in listing.days(zone.VIDEOS) if each <= day]
    return MadeOf(
        timezone=night.config.timezone,
        videos=listing.stamp(zone.VIDEOS, of_videos),
        lines={
            str(each): listing.stamp(zone.INTERACTIONS, [each])
            for each in of_lines
            if listing.of(zone.INTERACTIONS, each)
        },
    )
