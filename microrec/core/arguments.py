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
NAMES = "lower-case letters, digits and _, at most 64"
"""What a name may be, as a message says it."""

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
        date = dt.date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        date = None
    if date is None or not FIRST <= date <= LAST:
        raise BadArgument(f"day {shown(text)}: not a day YYYY-MM-DD from {FIRST} to {LAST}")
    return date


def instant(text: str) -> dt.datetime:
    """Parse an instant in ISO 8601.

    Returns:
        The instant with its offset; UTC where the text names none.

    Raises:
        BadArgument: it is not ISO 8601.
    """
    try:
        read = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise BadArgument(f"instant {shown(text)}: not ISO 8601") from error
    return read if read.tzinfo else read.replace(tzinfo=dt.UTC)


def is_name(text: str) -> bool:
    """Return whether a text can name a table, a model or a column: lower-case letters, digits and `_`, at most 64."""
    return bool(_NAME.fullmatch(text))


def is_value(text: str) -> bool:
    """Return whether a text can be a partition value: part of a path, written alike by every engine."""
    return bool(_VALUE.fullmatch(text))


def table(text: str) -> str:
    """Return the name of a table as given; BadArgument if it cannot be one."""
    return _checked(text, is_name(text), f"table {shown(text)}: {NAMES}")


def model(text: str) -> str:
    """Return the name of a model as given; BadArgument if it cannot be one."""
    return _checked(text, is_name(text), f"model {shown(text)}: {NAMES}")


def fit(text: str) -> str:
    """Return the name of a fit as given; BadArgument if it is not one of `FITS`."""
    return _checked(text, text in FITS, f"fit {shown(text)}: not one of {', '.join(FITS)}")


def release(text: str) -> str:
    """Return the id of a release, or its day, as given; BadArgument if it is neither."""
    rule = "neither an id (YYYY-MM-DD-<digest>) nor a day"
    return _checked(text, bool(_RELEASE.fullmatch(text)), f"release {shown(text)}: {rule}")


def identifier(text: str) -> str:
    """Return a user_id or a video_id as given; BadArgument if it is empty or longer than `MAX_ID`.

    Any text is an id, since it is only compared.
    """
    return _checked(text, 0 < len(text) <= MAX_ID, f"id {shown(text)}: 1 to {MAX_ID} characters")


def words(text: str) -> str:
    """Return a person's remark as given; BadArgument if it has control characters or is longer than `MAX_WORDS`.

    A remark goes into a table and a log: it is one line.
    """
    fits = len(text) <= MAX_WORDS and not CONTROL.search(text)
    return _checked(text, fits, f"{shown(text)}: one line of at most {MAX_WORDS} characters")


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
    scheme, location = text.split("://", 1)
    bucket, *folders = location.rstrip("/").split("/")
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


def _checked(text: str, holds: bool, problem: str) -> str:
    if not holds:
        raise BadArgument(problem)
    return text
