"""A listing of the landing zone: which files there were at one moment, so that all parts of a night mean the same ones.

A night lists the landing zone once, reads exactly those files and keeps the listing. What is there later and was not
then (a file that arrived in mid-night, or for a day whose night is over) is the difference of two listings.
"""

import datetime as dt
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

from microrec.core.digests import digest
from microrec.errors import LandingError
from microrec.landing import zone

ADDED, REMOVED, REWRITTEN = "added", "removed", "rewritten"
_SAID = {ADDED: "arrived", REMOVED: "was removed", REWRITTEN: "was rewritten"}
NAMED = 3
"""Changes that a message names one by one."""


class LandingFile(NamedTuple):
    """A data file as the file system knows it."""

    raw_table: str
    arrived_on: dt.date
    """Landing day."""
    file: str
    """Name in the folder of the day."""
    size: int
    """Bytes."""
    modified_ns: int
    """When it was last modified, nanoseconds since 1970."""

    def __str__(self) -> str:
        """Return table, day, name and size."""
        return f"{self.raw_table}[{self.arrived_on}] {self.file} ({self.size} bytes)"


class Change(NamedTuple):
    """A file that is not what it was."""

    kind: str
    """added, removed or rewritten."""
    file: LandingFile
    """As it is; as it was, where it was removed."""

    def __str__(self) -> str:
        """Return the file and what happened to it."""
        return f"{self.file} {_SAID[self.kind]}"


@dataclass(frozen=True)
class Listing:
    """The data files of some landing days at one moment."""

    files: tuple[LandingFile, ...]

    @classmethod
    def take(
        cls,
        landing: str,
        *,
        last: dt.date,
        first: dt.date = dt.date.min,
        tables: Collection[str] = zone.TABLES,
    ) -> Self:
        """List the files that arrived from one day to another.

        Args:
            landing: root of the landing zone.
            last: last day of arrival.
            first: first day of arrival; that of the landing zone if left out.
            tables: of `zone.TABLES`.

        Returns:
            The files there are now.

        Raises:
            LandingError: a landing folder holds what is no data file, or a file vanishes while it is listed.
        """
        return cls(
            tuple(
                _stated(table, day, path)
                for table in tables
                for day, paths in zone.arrivals(landing, table, first=first, last=last).items()
                for path in paths
            )
        )

    def days(self, table: str) -> list[dt.date]:
        """Return the days with files of a table, ascending."""
        return sorted({day for name, day in self._by_day if name == table})

    def of(self, table: str, day: dt.date) -> list[LandingFile]:
        """Return the files of a table and a day, by name; none if there are none."""
        return self._by_day.get((table, day), [])

    def paths(self, landing: str, table: str, day: dt.date) -> list[Path]:
        """Return the paths of the files of a table and a day, by name.

        Args:
            landing: root of the landing zone.
            table: one of `zone.TABLES`.
            day: day of arrival.
        """
        folder = zone.folder_of(landing, table, day)
        return [folder / file.file for file in self.of(table, day)]

    def stamp(self, table: str, days: Iterable[dt.date]) -> str:
        """Return one digest of names, sizes and times of a table's files of some days.

        Args:
            table: one of `zone.TABLES`.
            days: days of arrival.
        """
        files = [file for day in days for file in self.of(table, day)]
        return digest(
            f"{file.arrived_on} {file.file} {file.size} {file.modified_ns}" for file in files
        )

    def require_same(self, landing: str) -> None:
        """Refuse files that are no longer what they were when they were listed: rows of two states were read.

        Args:
            landing: root of the landing zone.

        Raises:
            LandingError: naming what changed.
        """
        differing = [change for file in self.files if (change := _change(landing, file))]
        if differing:
            raise LandingError(
                f"{named(differing)} while it was read: deliver whole files (written under a name that starts with"
                " `.` and renamed at the end), and run the task again"
            )

    @cached_property
    def _by_day(self) -> dict[tuple[str, dt.date], list[LandingFile]]:
        by_day: dict[tuple[str, dt.date], list[LandingFile]] = {}
        for file in sorted(self.files):
            by_day.setdefault((file.raw_table, file.arrived_on), []).append(file)
        return by_day


def changes(before: Listing, now: Listing) -> list[Change]:
    """Return how the files of two listings differ, by table, day and name.

    Args:
        before: the earlier listing.
        now: the later one, of the same tables and days.

    Returns:
        One entry per file that is in one of them only, or differs in size or time.
    """
    was = {file[:3]: file for file in before.files}
    is_now = {file[:3]: file for file in now.files}
    differing = [
        Change(REWRITTEN if key in was else ADDED, file)
        for key, file in is_now.items()
        if was.get(key) != file
    ]
    removed = [Change(REMOVED, file) for key, file in was.items() if key not in is_now]
    return sorted([*differing, *removed], key=lambda change: change.file[:3])


def named(differing: Collection[Change]) -> str:
    """Return changes as a message names them: the first few, and how many more there are."""
    shown = ", ".join(map(str, list(differing)[:NAMED]))
    more = len(differing) - NAMED
    return shown + (f" and {more} more" if more > 0 else "")


def _stated(table: str, day: dt.date, path: Path) -> LandingFile:
    try:
        stat = path.stat()
    except OSError as error:
        raise LandingError(f"{table}[{day}]: {path.name}: vanished while it was listed") from error
    return LandingFile(table, day, path.name, stat.st_size, stat.st_mtime_ns)


def _change(landing: str, file: LandingFile) -> Change | None:
    path = zone.folder_of(landing, file.raw_table, file.arrived_on) / file.file
    if not path.is_file():
        return Change(REMOVED, file)
    now = _stated(file.raw_table, file.arrived_on, path)
    return None if now == file else Change(REWRITTEN, now)
