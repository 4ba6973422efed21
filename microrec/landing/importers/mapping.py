r"""The mapping of somebody's table onto a landing table: a small TOML file, and what the command line adds to it.

Every key but `table` may be left out:

    table = "raw_interactions"
    where = "action = 'play'"              # rows that are imported; all if left out
    day = "event"                          # arrival day: of the time column, a date, or an expression
    time_zone = "America/New_York"         # of times without a zone; UTC if left out
    time_format = "%m/%d/%Y %I:%M:%S %p"   # of times as text; ISO 8601 if left out

    [columns]                              # a landing column, and the SQL expression (DuckDB's dialect) it is made of
    user_id = "uid"
    liked = "reaction = 'like'"

    [units]                                # what a length or an epoch time is counted in: us, ms, s, min or h
    watch_ms = "s"

    [constants]                            # a text that all rows have
    surface = "feed"

    [csv]                                  # how a CSV file is written
    delimiter = "\t"
    header = ["uid", "item", "seconds"]    # names of the columns of a file that has none

A mapping is code: its expressions run with the rights of whoever imports, though they reach no file and no network.
"""

import tomllib
from collections.abc import Mapping as Values
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from microrec.core import messages
from microrec.errors import LandingError
from microrec.landing import zone

Unit = Literal["us", "ms", "s", "min", "h"]
MILLISECONDS: dict[Unit, float] = {"us": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4, "h": 3.6e6}
"""Milliseconds of a unit."""
EVENT = "event"
"""The arrival day is that of the time column."""


class Csv(BaseModel):
    """How a CSV file is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """Between two fields."""
    quote: str = Field(default='"', min_length=1, max_length=1)
    """Around a field; within one it is doubled."""
    encoding: Literal["utf-8", "latin-1", "utf-16"] = "utf-8"
    """Of the text."""
    header: tuple[str, ...] = ()
    """Names of the columns, for a file without a header line."""


class Mapping(BaseModel):
    """What becomes of the columns of somebody's table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    """Landing table."""
    columns: dict[str, str] = {}
    """Expression of each landing column; a source column of the same name needs none."""
    constants: dict[str, str] = {}
    """Landing columns with one text in every row."""
    units: dict[str, Unit] = {}
    """Unit in which a landing column of milliseconds, or an epoch time, is delivered."""
    where: str = ""
    """Condition on the rows that are imported; all if empty."""
    day: str = EVENT
    """Arrival day: `event`, a date, or an expression."""
    time_zone: str = "UTC"
    """Of times without a zone."""
    time_format: str = ""
    """Format (of `strptime`) of times that are text; ISO 8601 if empty."""
    csv: Csv = Csv()

    @field_validator("table")
    @classmethod
    def _is_a_landing_table(cls, table: str) -> str:
        if table not in zone.TABLES:
            raise ValueError(f"not one of {', '.join(zone.TABLES)}")
        return table

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"no time zone {name!r}, such as Europe/Berlin") from error
        return name

    @classmethod
    def load(cls, path: Path | None, changes: Values[str, Any]) -> Self:
        """Read a mapping file and put the command line's words above it.

        Args:
            path: the TOML file; None for none.
            changes: keys as in the file; tables are merged, None and "" change nothing.

        Raises:
            LandingError: the file cannot be read, or a key or value is wrong; the message names it.
        """
        name = f"mapping {path}" if path else "mapping"
        try:
            values: dict[str, Any] = tomllib.loads(path.read_text()) if path else {}
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise LandingError(f"{name}: {error}") from error
        for key, value in changes.items():
            if isinstance(value, dict):
                values[key] = {**values.get(key, {}), **value}
            elif value:
                values[key] = value
        if "table" not in values:
            raise LandingError(f"{name}: no table; say --as with one of {', '.join(zone.TABLES)}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            faults = [
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
            ]
            raise LandingError(messages.one_line(f"{name}: {'; '.join(faults)}")) from error
