"""What a viewing says: ratio, replays, skip and the implicit label."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from microrec.events.config import Config
from microrec.events.parse import FLAGS


def viewings(judged: DataFrame, config: Config) -> DataFrame:
    """Return the rows of `events`: one row per accepted line, `day` the day it began.

    feedback: a dislike is negative whatever else happened; then like, share, follow, comment,
    completion or a long watch are positive; then one that never played (a cover that was passed by) is not_started, a
    skip is negative, and the rest is neutral. What a viewing without a watch time or length would need (ratio,
    replays, skipped) is null and decides nothing; `Config.unmeasured` says whether one without a watch time is
    positive.

    Args:
        judged: `rules.judge`, one row per line.
        config: thresholds of skip, completion and long watch.
    """
    accepted = judged.where(F.col("rule").isNull())
    ratio = F.col("watch_ms") / F.col("duration_ms")
    measured = accepted.withColumn("watch_ratio", ratio).withColumn("skipped", _skipped(config))
    return measured.select(
        F.col("event_day").alias("day"),
        "arrived_on",
        "event_id",
        "corrects",
        "user_id",
        "video_id",
        "started_at",
        "watch_ms",
        "duration_ms",
        "watch_ratio",
        _n_replays().alias("n_replays"),
        "skipped",
        *FLAGS,
        "session_id",
        "surface",
        _feedback(config).alias("feedback"),
    )


def positive_words(config: Config) -> str:
    """Return what makes a viewing positive, in words.

    Args:
        config: thresholds of completion and long watch.
    """
    return (
        "positive is a like, share, follow or comment, a watch ratio of"
        f" {config.completed_ratio:g} or a watch time of {config.long_watch_ms:,} ms"
    )


def _n_replays() -> Column:
    n_replays = F.greatest(F.floor("watch_ratio") - 1, F.lit(0))
    return F.when(F.col("watch_ratio").isNotNull(), n_replays).cast("int")


def _skipped(config: Config) -> Column:
    short = (F.col("watch_ms") < config.skip_ms) & (F.col("watch_ratio") < config.completed_ratio)
    return short & (F.col("watch_ms") > 0)  # what never played was not skipped


def _feedback(config: Config) -> Column:
    reacted = F.col("liked") | F.col("shared") | F.col("followed") | F.col("commented")
    completed = F.coalesce(F.col("watch_ratio") >= config.completed_ratio, F.lit(False))
    watched_long = F.coalesce(F.col("watch_ms") >= config.long_watch_ms, F.lit(False))
    counted = F.lit(config.unmeasured == "positive") & F.col("watch_ms").isNull()
    return (
        F.when(F.col("disliked"), F.lit("negative"))
        .when(reacted | completed | watched_long | counted, F.lit("positive"))
        .when(F.col("watch_ms") == 0, F.lit("not_started"))
        .when(F.col("skipped"), F.lit("negative"))
        .otherwise(F.lit("neutral"))
    )
