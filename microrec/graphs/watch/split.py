"""Train, validation and holdout: the one place that decides, by the day of the event.

`core.fits` says which splits there are and which of them a fit sees.
"""

import datetime as dt
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from microrec.core import days
from microrec.core.fits import FINAL, HOLDOUT, TRAIN, TRIAL, VALIDATION


def part(event_day: Column, *, day: dt.date | Column) -> Column:
    """Return the name of the part an event day falls in: train, validation or holdout.

    A day after `day` has no part: the result is null, and the contracts that require `split` refuse
    the rows. Counting it as train would leak the future.

    Args:
        event_day: day of the event, one row per event or pair-day.
        day: D, the night's day, or a column with one night per row.
    """
    age_days = F.date_diff(F.lit(day), event_day)
    return (
        F.when(age_days >= 2, F.lit(TRAIN))
        .when(age_days == 1, F.lit(VALIDATION))
        .when(age_days == 0, F.lit(HOLDOUT))
    )


def with_undone(rows: DataFrame, undone: str, at: str, *, within: Sequence[str]) -> DataFrame:
    """Add `undone_at`: the last `at` of the group's rows that undo, null where none does.

    What came before it is void. Dislikes are few: looking them up costs less than sorting all rows by
    group, as a window would.

    Args:
        rows: the columns named below, and any others.
        undone: name of the boolean column that marks rows that undo.
        at: name of the column that orders rows in time.
        within: names of the columns of the group.

    Returns:
        One row per row of `rows`, with undone_at.
    """
    undos = rows.where(F.col(undone)).groupBy(*within).agg(F.max(at).alias("undone_at"))
    return rows.join(undos, on=list(within), how="left")


def cut_off(fit: Column, *, day: dt.date, timezone: str = days.UTC) -> Column:
    """Return the first instant a fit does not see: the start of D for `trial`, its end for `final`.

    Args:
        fit: name of the fit, one row per (fit, ...); null for any other name.
        day: D, the night's day.
        timezone: whose days they are.
    """
    start, end = days.bounds(day, timezone)
    return F.when(fit == F.lit(TRIAL), F.lit(start)).when(fit == F.lit(FINAL), F.lit(end))
