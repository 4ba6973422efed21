"""A night as a job sees it, opened once: its day and fit, the warehouse, the recipe."""

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.config import recipe
from microrec.config.recipe import NightConfig, Recipe
from microrec.core import fits
from microrec.core.request_kinds import NO_PROFILING, NO_TEACHING
from microrec.errors import MissingDay
from microrec.tables import warehouse as tables
from microrec.tables.arrow import Rows, Warehouse


def last_consent(warehouse: tables.Warehouse[Any]) -> dt.date:
    """Return the day under which consent stands as of now.

    Args:
        warehouse: of either engine.

    Raises:
        MissingDay: no night has read privacy requests.
    """
    day = warehouse.last_day("suppressed_users")
    if day is None:
        raise MissingDay(
            f"suppressed_users: no night of {warehouse.root} has read privacy requests: run validate_events"
        )
    return day


@dataclass(frozen=True)
class Night:
    """One fit of one day, with where it is stored and how it is computed.

    A job opens it once and passes it on; the recipe is not parsed again. Spark jobs open Spark's view of the warehouse
    beside it.
    """

    day: dt.date
    """Day of the night, in the time zone of the recipe."""
    fit: str
    """trial (the day is held out) or final."""
    warehouse: Warehouse
    recipe: Recipe

    @classmethod
    def open(cls, day: dt.date, *, fit: str = "final", root: str | None = None) -> Self:
        """Open a night.

        Args:
            day: UTC day of the night.
            fit: trial or final.
            root: of the warehouse; that of the settings if left out.

        Returns:
            The night, with the recipe as it is now.

        Raises:
            RecipeError: the recipe cannot be parsed.
            BadArgument: the root is neither a folder nor the URI of an object store.
        """
        return cls(day, fit, Warehouse.open(root), recipe.current())

    def at(self, day: dt.date, *, fit: str) -> Self:
        """Return another night of the same warehouse by the same recipe.

        Args:
            day: UTC day of the other night.
            fit: trial or final.

        Returns:
            The other night.
        """
        return replace(self, day=day, fit=fit)

    @property
    def config(self) -> NightConfig:
        """The section of the recipe that all stages share.

        Raises:
            RecipeError: a value is refused, or the recipe lacks a model the run was asked for.
        """
        return self.recipe.night

    @property
    def seed(self) -> int:
        """Root of every random number of the night."""
        return self.config.seed

    @property
    def horizon(self) -> dt.datetime:
        """The first instant that the fit does not see."""
        return fits.horizon(self.day, self.fit, self.config.timezone)

    @property
    def previous_day(self) -> dt.date:
        """The day before."""
        return self.day - dt.timedelta(days=1)

    @property
    def n_users(self) -> int:
        """Number of indices of the day's users; whoever was erased since has left an index without a row.

        Raises:
            MissingDay: the day has no `users`.
        """
        indices = self.read("users", columns=["user_idx"])["user_idx"].to_numpy()
        return int(indices.max(initial=-1)) + 1

    def generator(self, purpose: str) -> np.random.Generator:
        """Return the night's random numbers for one purpose: the same for a seed, a day and a purpose."""
        return np.random.default_rng([self.seed, self.day.toordinal(), *purpose.encode()])

    def read(self, table: str, **partition: Any) -> pa.Table:
        """Read rows of the night's day.

        Args:
            table: name of the table.
            **partition: further partition values.

        Returns:
            Rows of `table`, columns and types as declared.

        Raises:
            MissingDay: nobody committed the partition.
        """
        return self.warehouse.read(table, day=self.day, **partition)

    def exists(self, table: str, **partition: Any) -> bool:
        """Return whether a partition of the night's day is committed; an empty one counts.

        Args:
            table: name of the table.
            **partition: further partition values.
        """
        return self.warehouse.exists(table, day=self.day, **partition)

    def suppressed(self) -> pa.Table:
        """Read who has opted out or asked to be erased as of now, whatever the night's day.

        Returns:
            Rows of `suppressed_users` of its greatest day.

        Raises:
            MissingDay: no night has read privacy requests.
        """
        return self.warehouse.read("suppressed_users", day=last_consent(self.warehouse))

    def preferences(self) -> pa.Table:
        """Read what users want of their lists as of now.

        Returns:
            Rows of `preferences` of its greatest day; none if nobody has ever wished for anything.
        """
        last = self.warehouse.last_day("preferences")
        if last is None:
            return self.warehouse.table("preferences").contract.schema.empty_table()
        return self.warehouse.read("preferences", day=last)

    def unprofiled(self) -> pa.Array:
        """Read who wants a list without profiling as of now, and has not withdrawn altogether.

        Returns:
            user_ids in their order, whether a log knows them or not. [n_unprofiled]

        Raises:
            MissingDay: no night has read privacy requests.
        """
        return self._wishing(NO_PROFILING)

    def private(self) -> pa.Array:
        """Read who wants to teach nobody as of now, and has not withdrawn altogether.

        Returns:
            user_ids in their order, whether a log knows them or not. [n_private]

        Raises:
            MissingDay: no night has read privacy requests.
        """
        return self._wishing(NO_TEACHING)

    def _wishing(self, kind: str) -> pa.Array:
        """The user_ids of who asks for one thing and has not withdrawn, in their order."""
        wishes = self.preferences()
        ids = pc.unique(wishes.filter(pc.equal(wishes["kind"], kind))["user_id"])
        if not len(ids):
            return ids
        gone = self.suppressed()["user_id"].combine_chunks()
        return ids.filter(pc.invert(pc.is_in(ids, value_set=gone))).sort()

    def unused(self) -> pa.Table:
        """Read whose viewings are used for nothing as of now: who has withdrawn, or wants no profiling.

        Returns:
            One row per user: user_id.

        Raises:
            MissingDay: no night has read privacy requests.
        """
        ids = [self.suppressed()["user_id"].combine_chunks(), self.unprofiled()]
        return pa.table({"user_id": pa.chunked_array(ids, pa.string())})

    def withheld(self) -> pa.Table:
        """Read on which days of the night's window users had opted out who are back, as of now.

        Returns:
            Rows of `withheld_periods` of its greatest day that touch the window; none if nobody has come back.
        """
        last = self.warehouse.last_day("withheld_periods")
        if last is None:
            return self.warehouse.table("withheld_periods").contract.schema.empty_table()
        first = self.day - dt.timedelta(days=self.config.window_days - 1)
        rows = self.warehouse.read("withheld_periods", day=last)
        has_begun = pc.fill_null(pc.less_equal(rows["first_day"], pa.scalar(self.day)), True)
        return rows.filter(pc.and_(has_begun, pc.greater_equal(rows["last_day"], pa.scalar(first))))

    def write(self, table: str, rows: Rows, **partition: Any) -> None:
        """Check rows and commit them as a partition of the night's day.

        Args:
            table: name of the table.
            rows: rows of the table, without the partition's columns.
            **partition: further partition values.

        Raises:
            ContractViolation: the rows are not those of the contract.
            CheckFailed: a rule of the contract is broken.
        """
        self.warehouse.write(table, rows, day=self.day, **partition)

    def artefact(self, model: str) -> Path:
        """Return the artefact folder of a model of the night's fit, its digest checked.

        Raises:
            MissingDay: the fit has no such model, or its folder is gone.
        """
        return self.warehouse.find_artefact(day=self.day, fit=self.fit, model=model)

    def write_empty(self, table: str, **partition: Any) -> None:
        """Commit a partition of the night's day without rows.

        Args:
            table: name of the table.
            **partition: further partition values.
        """
        self.warehouse.write_empty(table, day=self.day, **partition)
