"""Exceptions of Spark that are about a landing file, as `LandingError`: they name table, day and file.

Spark reads a file when rows are asked for, which may be any later statement, and its exception may say nothing of the
file. What is not about a file (a lost executor, a full disk) is left as it is: it may pass.
"""

import datetime as dt
import re
from urllib.parse import unquote

from microrec.core import messages
from microrec.errors import LandingError
from microrec.landing.zone import TABLES

_OURS = re.compile(r"microrec\.errors\.LandingError: (.*)")
_FILE = re.compile(
    rf"({'|'.join(TABLES)})/day=([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})/([^/'\"\n]*?\.(?:parquet|jsonl|csv)(?:\.gz)?)"
)
_READING = (
    "FAILED_READ_FILE",
    "FileNotFoundException",
    "PATH_NOT_FOUND",
    "CANNOT_READ_FILE_FOOTER",
)
_PASSING = (
    "OutOfMemoryError",
    "ExecutorLostFailure",
    "No space left on device",
    "heap space",
    "Shutdown",
)
"""What a second try may not meet."""


def of_spark(error: Exception) -> LandingError | None:
    """Return what an exception says of a landing file; None if it names none.

    Args:
        error: raised by Spark.
    """
    text = str(error)
    ours = _OURS.search(text)
    if ours:
        return LandingError(messages.one_line(ours[1]))
    named = _FILE.search(text)
    if named and any(word in text for word in _READING) and not may_pass(error):
        table, day, name = named.groups()
        return unreadable(table, dt.date.fromisoformat(day), unquote(name), error)
    return None


def may_pass(error: Exception) -> bool:
    """Return whether an exception is about the machines, so that the same statement may succeed later.

    Args:
        error: raised by Spark.
    """
    return any(word in str(error) for word in _PASSING)


def unreadable(table: str, day: dt.date, name: str, error: Exception) -> LandingError:
    """Return the error that names a file Spark cannot read.

    Args:
        table: landing table.
        day: UTC day of arrival.
        name: of the file.
        error: raised by Spark as it read the file.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith("Caused by: ")]
    reason = messages.one_line(
        (causes or lines or [type(error).__name__])[-1 if causes else 0], 400
    )
    return LandingError(
        f"{table}[{day}]: file {messages.plain(name)}: Spark cannot read it ({reason}); take it out of the landing"
        " folder or have it delivered again in another format"
    )
