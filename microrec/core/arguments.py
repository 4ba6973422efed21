"""What is said from outside, checked before any of it is part of a path, a query or a log line.

Days, names of tables and models, fits, roots and ids come from command lines, DAG parameters and readers. A value that
is not one is refused in one line, in which it is shown cut and escaped.
"""

import datetime as dt
import re
from pathlib import Path

from microrec.core.fits import FITS
from microrec.core.messages import CONTROL, shown
from microrec.errors import BadArgument

FIRST, LAST = dt.date(1970, 1, 1), dt.date(2999, 12, 31)
"""Days there may be: windows reach beyond both, and every engine can count them."""
STORES = ("s3", "s3a", "gs", "abfs", "abfss", "az")
"""Schemes of object stores a root may have."""
MAX_ID = 512
"""Characters of a user_id or a video_id, at most; the rule `long_value` refuses longer ones in events."""
MAX_WORDS = 500

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_VALUE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
_RELEASE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(-[0-9a-f]{12})?")


def day(text: str) -> dt.date:
    """A day, exactly as YYYY-MM-DD: `20260101` and `2026-W01-1`, which Python reads too, are none.

    Raises:
        BadArgument: it is not one, or not between `FIRST` and `LAST`.
    """
    try:
        found = dt.date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None or not FIRST <= found <= LAST:
        raise BadArgument(f"day {shown(text)}: not a day YYYY-MM-DD from {FIRST} to {LAST}")
    return found


def instant(text: str) -> dt.datetime:
    """An instant, ISO 8601; UTC where it names no offset.

    Raises:
        BadArgument: it is not one.
    """
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise BadArgument(f"instant {shown(text)}: not ISO 8601") from error
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def is_name(text: str) -> bool:
    """Whether it can be the name of a table, a model or a column: lower-case letters, digits and `_`, at most 64."""
    return bool(_NAME.fullmatch(text))


def is_value(text: str) -> bool:
    """Whether it can be a partition value: a part of a path, the same in every engine's notation."""
    return bool(_VALUE.fullmatch(text))


def table(text: str) -> str:
    """The name of a table.

    Raises:
        BadArgument: it cannot be one.
    """
    return _name(text, "table")


def model(text: str) -> str:
    """The name of a model.

    Raises:
        BadArgument: it cannot be one.
    """
    return _name(text, "model")


def fit(text: str) -> str:
    """One of `FITS`.

    Raises:
        BadArgument: it is not.
    """
    if text not in FITS:
        raise BadArgument(f"fit {shown(text)}: not one of {', '.join(FITS)}")
    return text


def release(text: str) -> str:
    """The id of a release, or its day.

    Raises:
        BadArgument: it cannot be one.
    """
    if not _RELEASE.fullmatch(text):
        raise BadArgument(f"release {shown(text)}: neither an id (YYYY-MM-DD-<digest>) nor a day")
    return text


def identifier(text: str) -> str:
    """A user_id or a video_id: any text, since it is only compared, but not without end.

    Raises:
        BadArgument: it is empty or longer than `MAX_ID`.
    """
    if not 0 < len(text) <= MAX_ID:
        raise BadArgument(f"id {shown(text)}: 1 to {MAX_ID} characters")
    return text


def words(text: str) -> str:
    """What a person says, for a table and a log: one line.

    Raises:
        BadArgument: it has control characters, or more than `MAX_WORDS` characters.
    """
    if len(text) > MAX_WORDS or CONTROL.search(text):
        raise BadArgument(f"{shown(text)}: one line of at most {MAX_WORDS} characters")
    return text


def root(text: str) -> str:
    """Where tables lie: a folder, made absolute, or the URI of a place in an object store.

    Credentials belong into MICROREC_STORAGE_OPTIONS: a root is shown in messages and logs.

    Raises:
        BadArgument: it is empty or has control characters, or the URI has no bucket, an unknown scheme, a password,
            a query or `..`.
    """
    if not text.strip() or CONTROL.search(text):
        raise BadArgument(f"root {shown(text)}: neither a folder nor the URI of an object store")
    if "://" not in text:
        return str(Path(text).resolve())
    scheme, place = text.split("://", 1)
    bucket, *folders = place.rstrip("/").split("/")
    if scheme not in STORES:
        raise BadArgument(f"root of scheme {shown(scheme)}: not one of {', '.join(STORES)}")
    # What follows may be a secret: it is not shown.
    if (
        not bucket
        or set(text) & set("?#")
        or (":" in bucket)
        or ("@" in bucket and scheme[0] != "a")
    ):
        raise BadArgument(
            f"root {scheme}://...: bucket and folders, and nothing else; credentials go into"
            " MICROREC_STORAGE_OPTIONS"
        )
    if {"", ".", ".."} & set(folders):
        raise BadArgument(f"root {shown(text)}: empty, `.` or `..` between its slashes")
    return f"{scheme}://{'/'.join([bucket, *folders])}"


def _name(text: str, what: str) -> str:
    if not is_name(text):
        raise BadArgument(f"{what} {shown(text)}: lower-case letters, digits and _, at most 64")
    return text
