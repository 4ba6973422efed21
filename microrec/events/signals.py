"""What a viewing says: ratio, replays, skip, the implicit label, and a strength fair to long videos."""

import functools
import operator

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from microrec.events.config import Config
from microrec.events.parse import FLAGS


def viewings(judged: DataFrame, config: Config, apart: DataFrame | None = None) -> DataFrame:
    """Return the rows of `events`: one row per accepted line, `day` the day it began.

    feedback: a dislike is negative whatever else happened; then like, share, follow, comment,
    completion or a long watch are positive; then one that never played (a cover that was passed by) is not_started, a
    skip is negative, and the rest is neutral. What a viewing without a watch time or length would need (ratio,
    replays, skipped) is null and decides nothing; `Config.unmeasured` says whether one without a watch time is
    positive.

    Args:
        judged: `rules.judge`, one row per line.
        config: thresholds of skip, completion and long watch, and the duration buckets.
        apart: user_id of those who teach nobody: their viewings have a strength among those of others, and change none.
    """
    accepted = judged.where(F.col("rule").isNull())
    teaches = F.lit(1)
    if apart is not None:
        marked = apart.select("user_id").distinct().withColumn("_apart", F.lit(1))
        accepted = accepted.join(F.broadcast(marked), on="user_id", how="left")
        teaches = F.when(F.col("_apart").isNull(), 1).otherwise(0)
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
        _strength(config, teaches).alias("strength"),
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


def _strength(config: Config, teaches: Column) -> Column:
    """Mid-rank quantile, (less + equal / 2) / all, of `watch_ms` in its duration bucket that day.

    Counted are the viewings of those who teach. Ties share the middle of their ranks, so a bucket's mean is 1/2,
    whatever the ties. Viewings of unknown length are a bucket; one that never played or without a watch time is
    compared with itself alone, which gives 1/2, as does a bucket in which nobody teaches.

    Args:
        config: has the duration buckets.
        teaches: 1 where the viewing counts for others, else 0.
    """
    edges = [
        F.when(F.col("duration_ms") >= edge, 1).otherwise(0) for edge in config.duration_edges_ms
    ]
    length = functools.reduce(operator.add, edges, F.lit(0))
    bucket = F.when(F.col("duration_ms").isNotNull(), length)
    played = F.coalesce(F.col("watch_ms") > 0, F.lit(False))
    alone = F.when(~played, F.xxhash64("event_id"))
    everyone = Window.partitionBy("arrived_on", bucket, alone)
    peers = everyone.orderBy("watch_ms")
    shorter = peers.rangeBetween(Window.unboundedPreceding, -1)
    n_viewings = F.sum(teaches).over(everyone)
    # A frame that ends before null is that of null itself.
    measured = F.col("watch_ms").isNotNull()
    n_shorter = F.when(measured, F.sum(teaches).over(shorter))
    less = F.coalesce(n_shorter, F.lit(0)) / n_viewings
    up_to = F.sum(teaches).over(peers) / n_viewings
    return F.when(n_viewings > 0, (less + up_to) / 2).otherwise(0.5)
