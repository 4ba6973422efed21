"""Which lines do not become events, and why: the one place that refuses a viewing.

A line is refused by the first rule that fits, in the order of `parse.read_rules` and `_of_a_line`, then
by the two rules about repeats, which look at lines no other rule refused. A correction is no repeat: it is accepted
beside the line it corrects, and readers see the one that arrived last.
"""

import datetime as dt
from collections.abc import Collection

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from microrec.events.config import Config
from microrec.events.parse import FLAGS, first_rule, too_long

IDS = ("user_id", "video_id")
CONFLICT, DUPLICATE = "event_id_conflict", "duplicate"


def _of_a_line(config: Config, lateness_days: int) -> list[tuple[str, Column]]:
    days_late = F.date_diff(F.col("arrived_on"), F.col("event_day"))
    refuses_unmeasured = F.lit(config.unmeasured == "refuse")
    return [
        ("long_value", too_long(*IDS)),
        ("missing_user", F.col("user_id").isNull()),
        ("missing_video", F.col("video_id").isNull()),
        ("bad_timestamp", F.col("started_at").isNull()),
        ("bad_watch", F.col("bad_watch")),
        ("missing_watch", refuses_unmeasured & F.col("watch_ms").isNull()),
        ("negative_watch", F.col("watch_ms") < 0),
        ("absurd_watch", F.col("watch_ms") > config.max_watch_ms),
        ("future_event", days_late < 0),
        ("too_late", days_late > lateness_days),
        ("unknown_video", F.col("known").isNull()),
        ("no_duration", refuses_unmeasured & F.col("duration_ms").isNull()),
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
        One row per line of the days, with `rule` (null = accepted), `nulled` (rules whose optional values were passed
        over), `duration_ms` (the line's, else the catalogue's as of the arrival day) and `corrects` (arrival day of the
        line an accepted correction stands in for, else null).
    """
    with_duration = _with_duration(lines, states)
    ruled = with_duration.withColumn(
        "rule", F.coalesce("unread_by", first_rule(_of_a_line(config, lateness_days)))
    )
    judged = _with_repeats(ruled, lateness_days)
    return judged.where(F.col("arrived_on").isin(*days)).select(
        "arrived_on",
        "file",
        "line",
        "rule",
        "nulled",
        "event_id",
        "corrects",
        "user_id",
        "video_id",
        "event_day",
        "started_at",
        "watch_ms",
        "duration_ms",
        *FLAGS,
        "session_id",
        "surface",
    )


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
    """Refuse all but one of the lines with the same event id, and find the corrections.

    The line that arrived first says which viewing the id names (user, video, event day). Other
    content about that viewing, on a later day, corrects it; content that came before, on any of the
    `lateness_days`, repeats it, so an old delivery that comes again does not undo a correction. Of
    several lines of one arrival day that stands which began first, then the longest (one without a
    watch time last), and so on down to the content, which makes the choice independent of the order of lines.
    """
    # A refused line repeats nothing: its own key keeps it out of every group (and of one hot group).
    alone = F.concat_ws("\n", F.lit("refused"), F.xxhash64("file", "line"))
    identity = F.when(F.col("rule").isNull(), F.col("event_id")).otherwise(alone)
    viewing = F.struct("user_id", "video_id", "event_day")
    keyed = ruled.select(
        "*",
        identity.alias("identity"),
        viewing.alias("viewing"),
        F.unix_date("arrived_on").alias("arrival"),
    )
    longest_first = F.negate(F.coalesce("watch_ms", F.lit(-1)))
    order = [F.col("started_at"), longest_first, F.col("content")]
    named = F.min_by(F.struct("arrived_on", "viewing"), F.struct("arrival", *order))
    compared = keyed.select(
        "*",
        named.over(_earlier(lateness_days, "identity")).alias("named"),
        F.count("*").over(_earlier(lateness_days, "identity", "content")).alias("n_before"),
    )
    same = F.coalesce(F.col("viewing") == F.col("named.viewing"), F.lit(True))
    is_new = same & (F.col("n_before") == 0)
    flagged = compared.select("*", same.alias("is_same"), is_new.alias("is_new"))
    return _with_first_of_a_day(flagged, order)


def _with_first_of_a_day(flagged: DataFrame, order: list[Column]) -> DataFrame:
    """Of the new lines of an id and an arrival day keep the first; all else is a repeat."""
    within_a_day = Window.partitionBy("identity", "arrival", "is_new").orderBy(
        *order, F.desc_nulls_last("stated_ms"), "file", "line"
    )
    ranked = flagged.select(
        "*",
        F.row_number().over(within_a_day).alias("place"),
        F.first("content").over(within_a_day).alias("kept"),
    )
    stands = F.col("is_new") & (F.col("place") == 1)
    repeats_content = (F.col("n_before") > 0) | (F.col("content") == F.col("kept"))
    duplicate = F.when(F.col("is_same") & repeats_content, F.lit(DUPLICATE))
    repeat = F.when(~stands, F.coalesce(duplicate, F.lit(CONFLICT)))
    ruled = ranked.withColumn("rule", F.coalesce("rule", repeat))
    accepted = F.col("rule").isNull()
    return ruled.withColumn("corrects", F.when(accepted, F.col("named.arrived_on")))


def _earlier(lateness_days: int, *key: str) -> WindowSpec:
    """The lines of a key that arrived on one of the days before, but not today. The frame is in days."""
    return Window.partitionBy(*key).orderBy("arrival").rangeBetween(-lateness_days, -1)
