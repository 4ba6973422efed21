"""Which files of a video there are: rows of `raw_media`, read and judged without Spark, and the files they name.

A row names a file by its path from the root of the landing zone. A path that leads out of the zone, or to what is no
plain file, is no file: uploads are not trusted, and neither is who names them.
"""

import datetime as dt
import json
import logging
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from microrec.core.digests import digest
from microrec.landing import lines, verdicts, zone
from microrec.landing.verify import Limits

TABLE = zone.MEDIA
COLUMNS = ("day", "file", "number", "line", "video_id", "kind", "path", "rule")

logger = logging.getLogger(__name__)


class MediaFile(NamedTuple):
    """A file that a row names, as it lies there."""

    path: str
    """Absolute."""
    stamp: str
    """Digest of its path, size and time: equal stamps are not read again."""


def read(landing: str, *, last: dt.date, limits: Limits, timezone: str) -> pa.Table:
    """Read and judge the rows that arrived up to a day.

    Args:
        landing: root of the landing zone.
        last: the day, the last one of arrival.
        limits: what a file of rows may hold.
        timezone: of the recipe.

    Returns:
        One row per delivered line, in the order of arrival: columns `COLUMNS`; `line` is its beginning, `rule` null
        where it stands.

    Raises:
        LandingError: a file of rows cannot be read, or lacks a column.
    """
    arrivals = zone.arrivals(landing, TABLE, last=last)
    paths = [path for several in arrivals.values() for path in several]
    sql = [verdicts.macros(timezone), verdicts.media()]
    rows = lines.judged(TABLE, paths, limits, sql=sql, columns=COLUMNS)
    refused = Counter(rule for rule in rows["rule"].to_pylist() if rule)
    if refused:
        logger.warning("table=%s refused=%s", TABLE, json.dumps(refused, sort_keys=True))
    return rows


def files(landing: str, rows: pa.Table) -> dict[str, dict[str, MediaFile | None]]:
    """Return the files of each video: of each kind the one that was named last.

    Args:
        landing: root of the landing zone.
        rows: as `read` returns them.

    Returns:
        By video and kind (video, cover, sound) the file, None if there is none at the path; of a path that is empty, no
        entry.
    """
    stands = rows.filter(pc.is_null(rows["rule"]))
    named: dict[str, dict[str, str | None]] = {}
    for row in stands.select(["video_id", "kind", "path"]).to_pylist():
        named.setdefault(row["video_id"], {})[row["kind"]] = row["path"]
    root = Path(landing).resolve()
    return {
        video: {kind: _file(root, path) for kind, path in kinds.items() if path}
        for video, kinds in named.items()
    }


def _file(root: Path, named: str) -> MediaFile | None:
    """The file at a path, if it is a plain one inside the landing zone."""
    try:
        path = (root / named).resolve()
        if not (path.is_relative_to(root) and path.is_file()):
            return None
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return MediaFile(str(path), digest([json.dumps([named, stat.st_size, stat.st_mtime_ns])]))
