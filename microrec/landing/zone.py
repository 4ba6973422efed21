"""The landing zone: where the producers' files lie, and which arrived on a day.

Layout: `<landing>/<table>/day=YYYY-MM-DD/<any name>.{parquet,jsonl,jsonl.gz,csv,csv.gz}`. The folder's day is the
day of **arrival** in the time zone of the recipe (`night.timezone`), not of what the rows describe. Names that start
with `_` or `.` are not data (a file being written, a marker, `_truth/`); a file of any other kind is an error: a
file left out in silence makes a day short in silence.

Producers are not trusted: a link that leads out of the landing zone, a pipe or a device, and a name that would end a
line of a log are refused by name (`verify` refuses files by their content).
"""

import datetime as dt
from pathlib import Path

from microrec.core import arguments, messages
from microrec.errors import BadArgument, LandingError

INTERACTIONS = "raw_interactions"
VIDEOS = "raw_videos"
TABLES = (
    INTERACTIONS,
    VIDEOS,
    "raw_video_features",
    "raw_clip_features",
    "raw_privacy_requests",
)
PREFERENCES = "raw_preferences"
MEDIA = "raw_media"
"""Names files of videos; read by the job that makes vectors alone."""
OF_PEOPLE = ("raw_privacy_requests", PREFERENCES)
"""Tables whose files count as of now, whatever day they arrive on."""
KINDS = ("parquet", "jsonl", "jsonl.gz", "csv", "csv.gz")


def is_there(landing: str) -> bool:
    """Return whether the root of a landing zone is a folder on this machine."""
    return Path(landing).is_dir()


def days(landing: str, table: str) -> list[dt.date]:
    """Return the days on which at least one data file of a table arrived, ascending.

    Args:
        landing: root of the landing zone.
        table: one of `TABLES`.

    Raises:
        LandingError: a folder beside the days, or a file of an unknown kind.
    """
    return list(arrivals(landing, table))


def arrivals(
    landing: str, table: str, *, first: dt.date = dt.date.min, last: dt.date = dt.date.max
) -> dict[dt.date, list[Path]]:
    """Return the data files of a table by the day they arrived on, ascending; days without files are left out.

    Args:
        landing: root of the landing zone.
        table: one of `TABLES`.
        first: first day of arrival that is looked at.
        last: last day of arrival that is looked at.

    Raises:
        LandingError: as `days` and `files`.
    """
    root = _table_folder(landing, table)
    if not root.is_dir():
        return {}
    arrival_days = sorted(_day_of(folder) for folder in root.iterdir() if not _is_hidden(folder))
    by_day = {day: files(landing, table, day) for day in arrival_days if first <= day <= last}
    return {day: paths for day, paths in by_day.items() if paths}


def files(landing: str, table: str, day: dt.date) -> list[Path]:
    """Return the data files that arrived on a day, sorted by name; empty if none did.

    Args:
        landing: root of the landing zone.
        table: one of `TABLES`.
        day: UTC day of arrival.

    Raises:
        LandingError: an entry is a folder, has none of the endings of `KINDS`, leads out of the landing zone, is no
            plain file, or has a name that cannot be read or logged.
    """
    folder = folder_of(landing, table, day)
    if not folder.is_dir():
        return []
    paths = sorted(path for path in folder.iterdir() if not _is_hidden(path))
    landing_root = Path(landing).resolve()
    for path in paths:
        kind_of(path)
        _refuse_strange(path, landing_root)
    return paths


def kind_of(path: Path) -> str:
    """Return the kind of a data file, by its ending.

    Raises:
        LandingError: the entry is a folder or has none of the endings of `KINDS`.
    """
    if path.is_dir():
        raise LandingError(f"{short_path(path)}: a folder inside a landing day")
    for kind in KINDS:
        if path.name.endswith("." + kind):
            return kind
    raise LandingError(
        f"{short_path(path)}: unknown kind of file, expected one of {', '.join(KINDS)}"
    )


def path_of(landing: str, table: str, day: dt.date, *, kind: str, name: str = "part-0") -> Path:
    """Return the path of a landing file.

    Args:
        landing: root of the landing zone.
        table: one of `TABLES`.
        day: UTC day of arrival.
        kind: one of `KINDS`.
        name: file name without its ending.

    Raises:
        LandingError: unknown kind or unusable name.
    """
    path = folder_of(landing, table, day) / f"{name}.{kind}"
    if kind not in KINDS:
        raise LandingError(
            f"{short_path(path)}: unknown kind {kind!r}, expected one of {', '.join(KINDS)}"
        )
    if not name or name[0] in "_." or "/" in name:
        raise LandingError(f"{short_path(path)}: {name!r} is no name for a data file")
    return path


def _table_folder(landing: str, table: str) -> Path:
    if "://" in landing:
        raise LandingError(
            f"landing {landing.split('://')[0]}://...: a landing zone is a folder; mount the bucket or copy the day"
        )
    if not landing.strip():
        raise LandingError("landing: no folder is named (MICROREC_LANDING)")
    known = dict.fromkeys([*TABLES, *OF_PEOPLE, MEDIA])
    if table not in known:
        raise LandingError(f"{messages.shown(table)}: not one of {', '.join(known)}")
    return Path(landing) / table


def folder_of(landing: str, table: str, day: dt.date) -> Path:
    """Return the folder of what arrived on a day; it need not exist.

    Args:
        landing: root of the landing zone.
        table: one of `TABLES`.
        day: day of arrival.

    Raises:
        LandingError: the landing zone is no folder, or has no such table.
    """
    return _table_folder(landing, table) / f"day={day.isoformat()}"


def _day_of(folder: Path) -> dt.date:
    try:
        # Exactly: a folder `day=20260101` would be taken for a day that is looked for under another name.
        return arguments.day(folder.name.removeprefix("day=") * folder.name.startswith("day="))
    except BadArgument as error:
        raise LandingError(f"{short_path(folder)}: not a folder day=YYYY-MM-DD") from error


def _refuse_strange(path: Path, landing_root: Path) -> None:
    """What a reader would follow out of the zone, wait for without end, misread or log as two lines."""
    name = path.name
    if messages.plain(name) != name or ":" in name:
        raise LandingError(
            f"{short_path(path)}: control characters, `:` or bytes that are no UTF-8 in its name"
        )
    if not path.resolve().is_relative_to(landing_root):
        raise LandingError(f"{short_path(path)}: a link that leads out of the landing zone")
    if not path.is_file():
        raise LandingError(f"{short_path(path)}: not a plain file")


def _is_hidden(path: Path) -> bool:
    return path.name[0] in "_."


def short_path(path: Path) -> str:
    """Return table, day and file of a path: enough to find it, whatever the landing zone is called."""
    return messages.plain("/".join(path.parts[-3:]))
