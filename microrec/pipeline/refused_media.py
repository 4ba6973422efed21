"""The rows of `raw_media` that a rule refused, kept with their reason beside those of the other raw tables."""

import datetime as dt
import logging
import re
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from microrec.landing import zone
from microrec.landing.listing import Listing
from microrec.pipeline import requests
from microrec.pipeline.night import Night
from microrec.privacy.subjects import Subjects

TABLE = "rejected_rows"
_QUOTED = re.compile(r'"([^"]*)"')
_APART = re.compile(r"""[\s,"'{}\[\]:/\\.]+""")
_WORDS = re.compile(r"\w+")

logger = logging.getLogger(__name__)


def write(night: Night, landing: str, rows: pa.Table) -> None:
    """Keep the refused rows of the landing days that no night has kept, or whose files have changed since.

    A day whose rows retention or an erasure has taken out since stays as it is.

    Args:
        night: its warehouse has what earlier nights kept.
        landing: root of the landing zone.
        rows: of `raw_media` with their verdicts, see `landing.media.read`.
    """
    listing = Listing.take(landing, last=night.day, tables=(zone.MEDIA,))
    due = _due(night, listing)
    if not due:
        return
    refused = pc.and_(pc.is_valid(rows["rule"]), pc.is_in(rows["day"], pa.array([*due])))
    kept = _without_erased(night, rows.filter(refused))
    scopes = [{"day": day, "raw_table": zone.MEDIA} for day in due]
    night.warehouse.write(TABLE, _kept(kept), replace=scopes, made_with=[*due.values()])
    logger.info("keep table=%s days=%d refused=%d", zone.MEDIA, len(due), len(kept))


def _due(night: Night, listing: Listing) -> Mapping[dt.date, str]:
    """The landing days whose rows are to be kept, with the stamp of their files."""
    stamps = {day: listing.stamp(zone.MEDIA, [day]) for day in listing.days(zone.MEDIA)}
    partitions = night.warehouse.partitions(TABLE)
    marked = {str(each["day"]) for each in partitions if each["raw_table"] == zone.MEDIA}
    scopes = [{"day": day, "raw_table": zone.MEDIA} for day in stamps]
    made_with = night.warehouse.made_with_each(TABLE, scopes) if marked else [None] * len(stamps)
    return {
        day: stamp
        for (day, stamp), before in zip(stamps.items(), made_with, strict=True)
        if str(day) not in marked or before not in (None, stamp)
    }


def _without_erased(night: Night, refused: pa.Table) -> pa.Table:
    """The rows without those that name somebody who was erased: a path may."""
    nameless = requests.subjects_without_name(night) if len(refused) else {}
    if not nameless:
        return refused
    subjects = Subjects.open(night.warehouse.root)
    names = [
        any(subjects.of(text) in nameless for text in _texts(line))
        for line in refused["line"].to_pylist()
    ]
    return refused.filter(pa.array([not each for each in names], pa.bool_()))


def _texts(line: str) -> set[str]:
    """All that may be an id in a line."""
    return {*_QUOTED.findall(line), *_APART.split(line), *_WORDS.findall(line)}


def _kept(refused: pa.Table) -> pa.Table:
    """Rows of `rejected_rows`; equal lines of a file are numbered."""
    n = len(refused)
    counts: dict[tuple[str, str], int] = {}
    occurrences = []
    for row in refused.select(["file", "line"]).to_pylist():
        key = (row["file"], row["line"])
        counts[key] = counts.get(key, 0) + 1
        occurrences.append(counts[key])
    return pa.table(
        {
            "day": refused["day"],
            "raw_table": pa.repeat(zone.MEDIA, n),
            "file": refused["file"],
            "line": refused["line"],
            "occurrence": pa.array(occurrences, pa.int32()),
            "rule": refused["rule"],
            "in_doubt": pa.repeat(pa.scalar(False), n),
            "user_id": pa.nulls(n, pa.string()),
        }
    )
