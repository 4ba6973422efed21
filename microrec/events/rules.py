"""Which lines do not become events, and why: the one place that refuses a viewing.

A line is refused by the first rule that fits, in the order of `_of_a_line`, then by the two rules
about repeats, which look at lines no other rule refused.
"""

import datetime as dt
from collections.abc import Collection

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from microrec.events.config import Config
from microrec.events.parse import FLAGS

CONFLICT, DUPLICATE = "event_id_conflict", "duplicate"


def _of_a_line(config: Config, lateness_days: int) -> list[tuple[str, Column]]:
    event_day = F.to_date("started_at")
    days_late = F.date_diff(F.col("arrived_on"), event_day)
    return [
        ("malformed_line", F.col("malformed")),
        ("missing_user", F.col("user_id").isNull()),
        ("missing_video", F.col("video_id").isNull()),
        ("bad_timestamp", F.col("started_at").isNull()),
        ("bad_watch", F.col("watch_ms").isNull()),
        ("negative_watch", F.col("watch_ms") < 0),
        ("absurd_watch", F.col("watch_ms") > config.max_watch_ms),
        ("bad_duration", F.col("bad_duration")),
        ("bad_flag", F.col("bad_flag")),
        ("future_event", days_late < 0),
        ("too_late", days_late > lateness_days),
        ("unknown_video", F.col("known").isNull()),
        ("no_duration", F.col("duration_ms").isNull()),
    ]


def judge(
    lines: DataFrame,
    states: DataFrame,
    *,
    days: Collection[dt.date],
    config: Config,
    lateness_days: int,
) -> DataFrame:
    """Say of every line of some arrival days whether it is an event.

    Args:
        lines: `parse.interactions` of the days and of the `lateness_days` before each of them.
        states: `catalogue.states`: the videos known on each day.
        days: arrival days to judge.
        config: thresholds.
        lateness_days: days after its event day on which a viewing may arrive.

    Returns:
        One row per line of the days, with `rule` (null = accepted) and `duration_ms` (the line's,
        else the catalogue's as of the arrival day).
    """
    placed = _with_duration(lines, states)
    ruled = placed.withColumn("rule", _first(_of_a_line(config, lateness_days)))
    judged = _with_repeats(ruled, lateness_days)
    return judged.where(F.col("arrived_on").isin(*days)).select(
        "arrived_on",
        "file",
        "line",
        "rule",
        "event_id",
        "user_id",
        "video_id",
        "started_at",
        "watch_ms",
        "duration_ms",
        *FLAGS,
        "session_id",
        "surface",
    )


def rejected(judged: DataFrame) -> DataFrame:
    """`rejected_events`: one row per refused line, `day` its landing day."""
    # Equal lines of a file differ in their rule at most, so this numbering does not depend on order.
    equal = Window.partitionBy("arrived_on", "file", "line").orderBy("rule")
    return judged.where(F.col("rule").isNotNull()).select(
        F.col("arrived_on").alias("day"),
        "file",
        "line",
        F.row_number().over(equal).alias("occurrence"),
        "rule",
        "user_id",
    )


def _first(rules: list[tuple[str, Column]]) -> Column:
    return F.coalesce(*[F.when(refuses, F.lit(name)) for name, refuses in rules])


def _with_duration(lines: DataFrame, states: DataFrame) -> DataFrame:
    """Join the state the catalogue had on the arrival day: at most one per video and day."""
    then = states.select(
        F.col("video_id").alias("known"),
        "since",
        "until",
        F.col("duration_ms").alias("catalogue_ms"),
    )
    in_force = (F.col("arrived_on") >= F.col("since")) & (
        F.col("until").isNull() | (F.col("arrived_on") < F.col("until"))
    )
    joined = lines.join(then, on=(F.col("video_id") == F.col("known")) & in_force, how="left")
    return joined.withColumn("duration_ms", F.coalesce("stated_ms", "catalogue_ms"))


def _with_repeats(ruled: DataFrame, lateness_days: int) -> DataFrame:
    """Refuse all but one of the lines with the same event id, within `lateness_days` of arrivals.

    Kept is the line that arrived first; of one day, the viewing that began first, was longest, and so
    on down to the content, which makes the choice independent of the order of lines.
    """
    # A refused line repeats nothing: its own key keeps it out of every group (and of one hot group).
    alone = F.concat_ws("\n", F.lit("refused"), F.xxhash64("file", "line"))
    identity = F.when(F.col("rule").isNull(), F.col("event_id")).otherwise(alone)
    keyed = ruled.withColumn("identity", identity).withColumn("arrival", F.unix_date("arrived_on"))
    within_a_day = Window.partitionBy("identity", "arrival").orderBy(
        "started_at",
        F.desc("watch_ms"),
        "content",
        F.desc_nulls_last("stated_ms"),
        "file",
        "line",
    )
    # Frames in days: what arrived on one of the days before, but not today.
    earlier = Window.partitionBy("identity").orderBy("arrival").rangeBetween(-lateness_days, -1)
    standing = F.struct("arrival", "started_at", F.negate("watch_ms"), "content")
    ranked = keyed.select(
        "*",
        F.row_number().over(within_a_day).alias("place"),
        F.first("content").over(within_a_day).alias("kept_today"),
        F.min_by("content", standing).over(earlier).alias("kept_before"),
    )
    kept = F.coalesce("kept_before", "kept_today")
    repeats = F.col("kept_before").isNotNull() | (F.col("place") > 1)
    rule = F.when(F.col("content") == kept, F.lit(DUPLICATE)).otherwise(F.lit(CONFLICT))
    return ranked.withColumn("rule", F.coalesce("rule", F.when(repeats, rule)))
