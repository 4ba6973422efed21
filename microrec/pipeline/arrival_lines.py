"""What has arrived of catalogue, vectors and requests, line by line, with the verdict on each."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from pyspark.sql import DataFrame, SparkSession

from microrec.config.settings import settings
from microrec.events import catalogue, consent, parse, rules
from microrec.events.config import Config
from microrec.landing import readers, verify, zone
from microrec.landing.listing import Listing
from microrec.pipeline import landing_files
from microrec.pipeline.arrival_gate import Lines
from microrec.pipeline.night import Night
from microrec.pipeline.withheld import Withheld


def judged(
    session: SparkSession, listing: Listing, *, night: Night, kept: ExitStack
) -> dict[str, Lines]:
    """Read and judge all lines of catalogue, vectors and requests that arrived through the night's day.

    Args:
        session: the Spark session.
        listing: the files to read.
        night: says the last day of arrival, and whose days the days are.
        kept: frees what is cached when it closes.

    Returns:
        Lines by raw table, the judged ones cached.

    Raises:
        LandingError: there is no catalogue, or a file is at fault.
    """
    lines = {}
    landing, day = settings().landing, night.day
    limits = verify.limits_of(night.recipe)
    for name, judge in _judges(night.config.timezone).items():
        delivered = readers.read_through(
            session, landing, name, day, limits=limits, listing=listing
        )
        lines[name] = Lines(delivered, judge(delivered).persist())
        kept.callback(lines[name].judged.unpersist)
    return lines


def _judges(timezone: str) -> dict[str, Callable[[DataFrame], DataFrame]]:
    """Who judges which raw table, where times and days are those of a time zone."""
    return {
        **catalogue.JUDGES,
        "raw_videos": partial(catalogue.judge_videos, timezone=timezone),
        **{table: partial(judge, timezone=timezone) for table, judge in consent.JUDGES.items()},
    }


def interactions(
    lines: DataFrame,
    states: DataFrame,
    *,
    night: Night,
    days: Sequence[dt.date],
    withheld: Withheld,
    kept: ExitStack,
) -> Lines:
    """Judge the viewings that arrived on some days.

    Args:
        lines: `readers.read_days` of the days and of those before in which a duplicate may have arrived.
        states: `catalogue.states`: the videos known on each day.
        night: for the recipe.
        days: days of arrival to judge.
        withheld: whose viewings may not be stored.
        kept: frees what is cached when it closes.

    Returns:
        The lines, the judged ones cached.
    """
    judged = rules.judge(
        parse.interactions(lines, night.config.timezone),
        states,
        days=days,
        config=night.recipe.section("events", Config),
        lateness_days=night.config.lateness_days,
    )
    judged = withheld.mark(judged).persist()
    kept.callback(judged.unpersist)
    return Lines(lines, judged)


def kept_scopes(
    night: Night, listing: Listing, days: Sequence[dt.date]
) -> list[Mapping[str, object]]:
    """Return the raw tables and landing days whose refused rows the night keeps.

    Args:
        night: its warehouse has what earlier nights kept.
        listing: the files that have landed.
        days: arrival days that are validated.

    Returns:
        One scope of `rejected_rows` per pair: the validated days of every raw table, and of all but the interactions
        the landing days up to the night that no night has kept or whose files have changed since.
    """
    kept = {
        (str(each["raw_table"]), dt.date.fromisoformat(str(each["day"])))
        for each in night.warehouse.partitions("rejected_rows")
    }
    late = {
        (change.file.raw_table, change.file.arrived_on)
        for change in landing_files.changed(night, listing)
    }
    scopes = {(table, day) for table in zone.TABLES for day in days}
    for table in zone.TABLES:
        if table != zone.INTERACTIONS:
            landed = {(table, day) for day in listing.days(table) if day <= night.day}
            scopes |= landed & ((landed - kept) | late)
    return [{"day": day, "raw_table": table} for table, day in sorted(scopes)]
