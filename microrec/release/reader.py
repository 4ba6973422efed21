"""Find a release with `latest` or `of`, then `read`, `to_pandas` or `to_polars` its tables.

`root` is the folder or object-store URI of the tables; without one, what the settings name.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from microrec.core import columns as columns_of
from microrec.core import messages
from microrec.core.request_kinds import NO_PROFILING
from microrec.errors import CheckFailed, MissingDay
from microrec.tables.arrow import Warehouse

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


RESULTS = (
    "recommendations",
    "segment_recommendations",
    "fallback_recommendations",
    "similar_videos",
    "rewatch_recommendations",
    "user_trends",
    "clip_interest",
    "exit_points",
    "blend_weights",
    "metrics",
    "gate_results",
)
"""The result tables a release pins."""

RELEASED, WITHDRAWN = "released", "withdrawn"


@dataclass(frozen=True)
class Pin:
    """One table of a release at the version it was published with."""

    table: str
    version: int
    rows: int
    digest: str


@dataclass(frozen=True)
class Release:
    """What one night published."""

    day: dt.date
    run_id: str
    code_version: str
    valid_until: dt.datetime
    tables: dict[str, Pin]
    warehouse: Warehouse
    status: str = RELEASED
    reason: str | None = None
    """Why it was withdrawn, or released though a gate held it."""
    inputs: str | None = None
    """Digest of what it was made of."""
    published: Sequence[Mapping[str, str]] | None = None
    """Table and digest of each pin as it was published, where an erasure has moved one since."""
    erasure: str | None = None
    """Id of the last erasure that moved a pin."""

    @property
    def id(self) -> str:
        """The day and a word for the content: a day that is run again to the same rows has the same id.

        It stays what it was at publication when somebody is erased from the release.
        """
        of_tables = {name: pin.digest for name, pin in self.tables.items()}
        of_tables |= {each["table"]: each["digest"] for each in self.published or ()}
        digests = "".join(of_tables[name] for name in sorted(self.tables))
        return f"{self.day}-{sha256(digests.encode()).hexdigest()[:12]}"

    def read(
        self, table: str, *, user_id: str | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Read rows of one table of the release, as published, without those of people who have withdrawn since.

        Who is suppressed on the last day that has read requests has no rows in any release, however old. Who wants no
        profiling as of now has only rows that were made without: in a release of before none, as somebody whom nobody
        knows (`fallback_recommendations`).

        Args:
            table: Name of a table the release pins.
            user_id: Only this user's rows (tables with a user_id); an unknown user has none.
            columns: Only these columns.

        Returns:
            Rows of `table` of the day, at the grain of its contract.

        Raises:
            MissingDay: The release does not pin the table.
            CheckFailed: The table does not have the rows it was published with.
        """
        at = self._whole(table)
        where = None if user_id is None else {"user_id": user_id}
        wanted, read = self._columns(table, columns)
        rows = self.warehouse.read(table, columns=read, where=where, **at)
        return _left(rows, _suppressed(self.warehouse), _unprofiled(self.warehouse)).select(wanted)

    def batches(self, table: str, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield what `read` returns a share at a time, in the order of the files; the whole is never held.

        Args:
            table: Name of a table the release pins.
            columns: Only these columns.

        Yields:
            Rows of `table` of the day, at the grain of its contract.

        Raises:
            MissingDay: The release does not pin the table.
            CheckFailed: The table does not have the rows it was published with.
        """
        at = self._whole(table)
        wanted, read = self._columns(table, columns)
        gone, unprofiled = _suppressed(self.warehouse), _unprofiled(self.warehouse)
        for rows in self.warehouse.batches(table, columns=read, **at):
            yield _left(rows, gone, unprofiled).select(wanted)

    def _whole(self, table: str) -> dict[str, Any]:
        """Where the rows of a table are, once it is seen that all are there."""
        pin = self._pin(table)
        at: dict[str, Any] = {"day": self.day, "version": pin.version}
        n_rows = self.warehouse.count(table, **at)
        if n_rows != pin.rows:
            raise CheckFailed(
                f"{table}[day={self.day}]: {n_rows} rows at version {pin.version}, the release has {pin.rows}"
            )
        return at

    def _columns(self, table: str, columns: Sequence[str] | None) -> tuple[list[str], list[str]]:
        """The columns that are wanted of a table, and those that are read: people are told by two of them."""
        names = self.warehouse.table(table).contract.schema.names
        wanted = list(columns or names)
        people = ["user_id", "source"] if "user_id" in names else []
        return wanted, list(dict.fromkeys([*wanted, *(n for n in people if n in names)]))

    def to_pandas(self, table: str, *, user_id: str | None = None) -> "pd.DataFrame":
        """Return `read` as a pandas frame: rows of `table` of the day.

        Args:
            table: Name of a table the release pins.
            user_id: Only this user's rows.
        """
        frame: pd.DataFrame = self.read(table, user_id=user_id).to_pandas()
        return frame

    def to_polars(self, table: str, *, user_id: str | None = None) -> "pl.DataFrame":
        """Return `read` as a Polars frame (the `polars` extra): rows of `table` of the day.

        Args:
            table: Name of a table the release pins.
            user_id: Only this user's rows.
        """
        import polars as pl

        return pl.DataFrame(self.read(table, user_id=user_id))

    def vectors(self, model: str) -> pa.Table:
        """Return the vectors of users and videos of a model of the release.

        Who has withdrawn, or wants no profiling, as of now has none.

        Args:
            model: one of `vector_models`.

        Returns:
            One row per (kind, id, part): kind (user or video), id, part (0, or the trend of a user), model, space (only
            vectors of equal space may be compared; their inner product is the score), norm, vector [dim].

        Raises:
            MissingDay: the release has no such model, it has no vectors, or they are gone or of another run.
        """
        # Here, as it needs safetensors: most readers ask for no vectors.
        from microrec.release import vectors

        without = pa.concat_arrays([_suppressed(self.warehouse), _unprofiled(self.warehouse)])
        made = {"day": self.day, "inputs": self.inputs}
        return vectors.vectors(self.warehouse, made, model, without=without)

    @property
    def vector_models(self) -> list[str]:
        """Names of the release's models that have vectors.

        Raises:
            MissingDay: its models are gone, or of another run.
        """
        from microrec.release import vectors

        return vectors.models(self.warehouse, {"day": self.day, "inputs": self.inputs})

    def expired(self, at: dt.datetime) -> bool:
        """Return whether the release may no longer be served at the instant `at` (with a time zone).

        Raises:
            ValueError: `at` has no time zone.
        """
        if at.tzinfo is None:
            raise ValueError(f"expired: {at} has no time zone")
        return at >= self.valid_until

    def verify(self) -> None:
        """Compare the content of every table with the release.

        Raises:
            CheckFailed: A table's content is not what was published.
        """
        for pin in self.tables.values():
            digest = self.warehouse.digest(pin.table, day=self.day, version=pin.version)
            if digest != pin.digest:
                raise CheckFailed(
                    f"{pin.table}[day={self.day}]: digest {digest} at version {pin.version},"
                    f" the release has {pin.digest}"
                )

    def _pin(self, table: str) -> Pin:
        """The pin of a table."""
        if table not in self.tables:
            raise MissingDay(
                f"{table}[day={self.day}]: not in the release, which has {sorted(self.tables)}"
            )
        return self.tables[table]


def every(root: str | None = None) -> list[Release]:
    """Return all releases by day, the withdrawn ones too."""
    warehouse = Warehouse.open(root)
    if not warehouse.partitions("releases"):
        return []
    rows = warehouse.read("releases").sort_by("day").to_pylist()
    return [
        Release(
            **{**row, "tables": {pin["table"]: Pin(**pin) for pin in row["tables"]}},
            warehouse=warehouse,
        )
        for row in rows
    ]


def days(root: str | None = None) -> list[dt.date]:
    """Return the days that have a release which is not withdrawn, in order."""
    return [release.day for release in every(root) if release.status == RELEASED]


def of(day: dt.date, root: str | None = None) -> Release:
    """Return the release of a day.

    Args:
        day: UTC day of the night.
        root: Folder or object-store URI of the tables.

    Raises:
        MissingDay: The day has no release, or it was withdrawn.
    """
    by_day = {release.day: release for release in every(root)}
    if day not in by_day:
        raise MissingDay(f"releases[day={day}]: no release in {Warehouse.open(root).root}")
    if by_day[day].status == WITHDRAWN:
        raise MissingDay(f"releases[day={day}]: withdrawn: {by_day[day].reason}")
    return by_day[day]


def named(release: str, root: str | None = None) -> Release:
    """Return the release with an id, or of a day, also a withdrawn one.

    Args:
        release: id or day.
        root: Folder or object-store URI of the tables.

    Raises:
        MissingDay: There is no such release; the message names the last ones.
    """
    releases = every(root)
    for candidate in releases:
        if release in (candidate.id, str(candidate.day)):
            return candidate
    last_ids = ", ".join(candidate.id for candidate in releases[-5:]) or "none"
    raise MissingDay(f"releases: no release {messages.shown(release)}; the last ones: {last_ids}")


def latest(root: str | None = None) -> Release:
    """Return the release of the greatest day that has one which is not withdrawn, whenever it was made.

    Raises:
        MissingDay: There is no release at all.
    """
    released = days(root)
    if not released:
        raise MissingDay(f"releases: no release in {Warehouse.open(root).root}")
    return of(released[-1], root)


def rows_of(
    table: str,
    *,
    day: dt.date | None = None,
    user_id: str | None = None,
    as_committed: bool = False,
    root: str | None = None,
) -> pa.Table:
    """Return rows of any table for a person to look at: a result table as released, another as committed.

    Args:
        table: Name of the table.
        day: The greatest day there is, if left out.
        user_id: Only this user's rows; `user_idx` is looked up in the day's users.
        as_committed: A result table as committed too, as of a night that a gate held.
        root: Folder or object-store URI of the tables.

    Returns:
        Rows of `table` of the day, with the columns of its contract.

    Raises:
        MissingDay: The table has no such day, or the day no such user.
    """
    warehouse = Warehouse.open(root)
    released = table in RESULTS and not as_committed
    readable = days(root) if released else _days_of(warehouse, table)
    day = day or (readable[-1] if readable else None)
    if day is None:
        raise MissingDay(f"{table}: no day is committed in {warehouse.root}")
    where = {} if user_id is None else _rows_of_user(warehouse, table, day, user_id)
    if released:
        return of(day, root).read(table, user_id=user_id)
    return warehouse.read(table, day=day, where=where)


def _rows_of_user(
    warehouse: Warehouse, table: str, day: dt.date, user_id: str
) -> dict[str, object]:
    """What the rows of a user have in common: `user_id`, or in a table without it the day's `user_idx`."""
    names = warehouse.table(table).contract.schema.names
    if "user_id" in names:
        return {"user_id": user_id}
    users = warehouse.read("users", day=day, columns=["user_idx"], where={"user_id": user_id})
    if not len(users) or "user_idx" not in names:
        raise MissingDay(f"{table}[day={day}]: no rows of user {messages.shown(user_id)}")
    return {"user_idx": users["user_idx"][0].as_py()}


def _left(rows: pa.Table, gone: pa.Array, unprofiled: pa.Array) -> pa.Table:
    """Rows without those of who has withdrawn, and of who wants no profiling those that were made without it."""
    if "user_id" not in rows.column_names or not len(gone) + len(unprofiled):
        return rows
    kept = pc.invert(pc.is_in(rows["user_id"], value_set=gone))
    if len(unprofiled):
        profiled = pc.invert(pc.is_in(rows["user_id"], value_set=unprofiled))
        if "source" in rows.column_names:
            profiled = pc.or_(profiled, pc.equal(rows["source"], NO_PROFILING))
        kept = pc.and_(kept, profiled)
    return columns_of.rows_where(rows, kept)


def _suppressed(warehouse: Warehouse) -> pa.Array:
    """Ids of the users who are suppressed as of now: on the greatest day that is committed."""
    last = warehouse.last_day("suppressed_users")
    if last is None:
        return pa.array([], pa.string())
    rows = warehouse.read("suppressed_users", day=last, columns=["user_id"])
    return rows["user_id"].combine_chunks()


def _unprofiled(warehouse: Warehouse) -> pa.Array:
    """Ids of the users who want no profiling as of now: on the greatest day that is committed."""
    last = warehouse.last_day("preferences")
    if last is None:
        return pa.array([], pa.string())
    rows = warehouse.read(
        "preferences", day=last, columns=["user_id"], where={"kind": NO_PROFILING}
    )
    return rows["user_id"].combine_chunks()


def _days_of(warehouse: Warehouse, table: str) -> list[dt.date]:
    """Days committed in a table, in order."""
    return sorted(
        {dt.date.fromisoformat(str(partition["day"])) for partition in warehouse.partitions(table)}
    )
