"""What has arrived of catalogue, vectors and requests, line by line, with the verdict on each."""

import datetime as dt
from contextlib import ExitStack

from pyspark.sql import SparkSession

from microrec.config.settings import settings
from microrec.events import catalogue, consent
from microrec.landing import readers
from microrec.landing.listing import Listing
from microrec.pipeline.arrival_gate import Lines


def judged(
    session: SparkSession, listing: Listing, *, day: dt.date, kept: ExitStack
) -> dict[str, Lines]:
    """Read and judge all lines of catalogue, vectors and requests that arrived through a day.

    Args:
        session: the Spark session.
        listing: the files to read.
        day: last day of arrival.
        kept: frees what is cached when it closes.

    Returns:
        Lines by raw table, the judged ones cached.

    Raises:
        LandingError: there is no catalogue, or a file is at fault.
    """
    lines = {}
    landing = settings().landing
    for name, judge in {**catalogue.JUDGES, **consent.JUDGES}.items():
        delivered = readers.read_through(session, landing, name, day, listing=listing)
        lines[name] = Lines(delivered, judge(delivered).persist())
        kept.callback(lines[name].judged.unpersist)
    return lines
