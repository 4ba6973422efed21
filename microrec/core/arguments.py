"""Values from outside, checked before any of them is part of a path, a query or a log line.

Days, names of tables and models, fits, roots and ids come from command lines, DAG parameters and readers. An invalid
value is refused with a message of one line that shows it cut and escaped.
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
    """Parse a day, exactly as YYYY-MM-DD: `20260101` and `2026-W01-1`, which Python reads too, are refused.

    Returns:
        The date, from `FIRST` to `LAST`.

    Raises:
        BadArgument: it is not a day, or not between `FIRST` and `LAST`.
    """
    try:
        found = dt.date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None or not FIRST <= found <= LAST:
        raise BadArgument(f"day {shown(text)}: not a day YYYY-MM-DD from {FIRST} to {LAST}")
    return found


def instant(text: str) -> dt.datetime:
    """Parse an instant in ISO 8601.

    Returns:
        The instant with its offset; UTC where the text names none.

    Raises:
        BadArgument: it is not ISO 8601.
    """
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise BadArgument(f"instant {shown(text)}: not ISO 8601") from error
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def is_name(text: str) -> bool:
    """Return whether a text can name a table, a model or a column: lower-case letters, digits and `_`, at most 64."""
    return bool(_NAME.fullmatch(text))


def is_value(text: str) -> bool:
    """Return whether a text can be a partition value: part of a path, written alike by every engine."""
    return bool(_VALUE.fullmatch(text))


def table(text: str) -> str:
    """Check the name of a table.

    Returns:
        The name as given.

    Raises:
        BadArgument: it cannot be the name of a table.
    """
    return _name(text, "table")


def model(text: str) -> str:
    """Check the name of a model.

    Returns:
        The name as given.

    Raises:
        BadArgument: it cannot be the name of a model.
    """
    return _name(text, "model")


def fit(text: str) -> str:
    """Check the name of a fit.

    Returns:
        The name as given, one of `FITS`.

    Raises:
        BadArgument: it is not one of `FITS`.
    """
    if text not in FITS:
        raise BadArgument(f"fit {shown(text)}: not one of {', '.join(FITS)}")
    return text


def release(text: str) -> str:
    """Check the id of a release, or its day.

    Returns:
        The text as given.

    Raises:
        BadArgument: it is neither an id nor a day.
    """
    if not _RELEASE.fullmatch(text):
        raise BadArgument(f"release {shown(text)}: neither an id (YYYY-MM-DD-<digest>) nor a day")
    return text


def identifier(text: str) -> str:
    """Check a user_id or a video_id: any text, since it is only compared, of bounded length.

    Returns:
        The id as given.

    Raises:
        BadArgument: it is empty or longer than `MAX_ID`.
    """
    if not 0 < len(text) <= MAX_ID:
        raise BadArgument(f"id {shown(text)}: 1 to {MAX_ID} characters")
    return text


def words(text: str) -> str:
    """Check a remark of a person, which goes into a table and a log: one line.

    Returns:
        The remark as given.

    Raises:
        BadArgument: it has control characters, or more than `MAX_WORDS` characters.
    """
    if len(text) > MAX_WORDS or CONTROL.search(text):
        raise BadArgument(f"{shown(text)}: one line of at most {MAX_WORDS} characters")
    return text


def root(text: str) -> str:
    """Check a warehouse or landing root: a folder or the URI of a location in an object store.

    Credentials belong into MICROREC_STORAGE_OPTIONS: a root is shown in messages and logs.

    Returns:
        The absolute path of the folder, or the URI without a slash at its end.

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
