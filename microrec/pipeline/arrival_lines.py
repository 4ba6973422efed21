"""What has arrived of catalogue, vectors and requests, line by line, with the verdict on each."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from pyspark.sql import DataFrame, SparkSession

from microrec.config.settings import settings
from microrec.events import catalogue, consent
from microrec.landing import readers
from microrec.landing.listing import Listing
from microrec.pipeline.arrival_gate import Lines
from microrec.pipeline.night import Night


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
    landing = settings().landing
    for name, judge in _judges(night.config.timezone).items():
        delivered = readers.read_through(session, landing, name, night.day, listing=listing)
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
