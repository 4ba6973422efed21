"""Which rows of a window count: corrections take the place of what they correct, and consent is kept.

Rows of an event day may arrive late (`arrived_on` after `day`). Of the rows of an event day with the same key the one
that arrived last is in force. Rows of users who are suppressed now (opted out, erased) are left out, and those of days
on which a user who is back had opted out.
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

EVENT_KEY = ("event_id",)
"""Key of a row of `events` within its event day."""
PAIR_KEY = ("user_id", "video_id")
"""Key of a row of `daily_watches` within its event day."""


def corrections() -> Column:
    """Return the condition on rows of `events` that holds for corrections: few, whatever the size of a day."""
    return F.col("corrects").isNotNull()


def latest(
    reopened: DataFrame,
    late: DataFrame,
    *,
    key: Sequence[str],
    superseding: Column | None = None,
) -> DataFrame:
    """Return of the rows of an event day with the same key the one that arrived last.

    The keys of the late rows are a small table that goes to every worker, so that nothing is shuffled. A day's worth
    of late rows may outgrow that, and Spark decides by their size, unless `superseding` chooses few of them.

    Args:
        reopened: all rows of the event days for which rows arrived late, one row per (day, arrived_on, *key).
        late: the rows among them that arrived late.
        key: columns that name a row within its event day.
        superseding: condition on late rows that can take the place of another row; None for all of them.

    Returns:
        Columns of `reopened`, one row per (day, *key).
    """
    if superseding is not None:
        late = F.broadcast(late.where(superseding))
    renamed = late.select(*[F.col(name).alias(f"_{name}") for name in ("day", "arrived_on", *key)])
    same = [F.col(name) == F.col(f"_{name}") for name in ("day", *key)]
    earlier = F.col("arrived_on") < F.col("_arrived_on")
    return reopened.join(renamed, on=[*same, earlier], how="left_anti")


def without_withheld(rows: DataFrame, withheld_periods: DataFrame) -> DataFrame:
    """Leave out the days of users on which they had opted out for some time, though they are back.

    Args:
        rows: any grain, with `day` and `user_id`.
        withheld_periods: rows of `withheld_periods` as of now.

    Returns:
        The other rows, columns as they are.
    """
    periods = F.broadcast(
        withheld_periods.select(
            F.col("user_id").alias("_user_id"), F.col("first_day"), F.col("last_day")
        )
    )
    has_begun = F.col("first_day").isNull() | (F.col("first_day") <= F.col("day"))
    is_withheld = (F.col("user_id") == F.col("_user_id")) & has_begun
    return rows.join(periods, on=is_withheld & (F.col("day") <= F.col("last_day")), how="left_anti")


def without_suppressed(rows: DataFrame, suppressed_users: DataFrame) -> DataFrame:
    """Leave out the rows of users who opted out or were erased, or whose wishes are given.

    Args:
        rows: any grain, with `user_id`.
        suppressed_users: rows of `suppressed_users` as of now, or of `preferences` of one kind.

    Returns:
        The other rows, columns as they are.
    """
    suppressed = F.broadcast(suppressed_users.select("user_id"))
    return rows.join(suppressed, on="user_id", how="left_anti")


def of_users(rows: DataFrame, users: DataFrame) -> DataFrame:
    """Keep the rows of some users.

    Args:
        rows: any grain, with `user_id`.
        users: any grain, with `user_id`.

    Returns:
        The rows of those users, columns as they are.
    """
    chosen = F.broadcast(users.select("user_id"))
    return rows.join(chosen, on="user_id", how="left_semi")
