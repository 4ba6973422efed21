"""What each user watched in order, and what users like them watched next.

The implicit user network's fragments of DMR (Lu et al. 2021, arXiv 2110.03902).

Both halves end at the fit's cut-off T: the start of D for `trial`, the end of D for `final`.
Nothing at or after T is looked at, so no model trained on a fit can see its own evaluation.
"""

import datetime as dt

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from microrec.graphs.split import FITS, by_fit, cut_off, part
from microrec.graphs.sums import exact_sum

HISTORY = "array<struct<video_idx:int,at:timestamp>>"
FUTURE = "array<struct<video_idx:int,at:timestamp,weight:double>>"


class Config(BaseModel):
    """Lengths of the lists, and how fast a fragment fades."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    history_length: PositiveInt = 100
    """Latest positive viewings kept per user."""
    n_anchors: PositiveInt = 5
    """The user's latest distinct videos that are looked up in the neighbours' sequences."""
    fragment_length: PositiveInt = 5
    """Positive viewings of the neighbour taken after an anchor."""
    future_length: PositiveInt = 50
    """Videos kept per user, by weight."""
    tau_days: PositiveFloat = 7.0
    """A neighbour's viewing weighs pearson * exp(-age / tau)."""


def positive_viewings(viewings: DataFrame, *, day: dt.date) -> DataFrame:
    """One row per (fit, positive viewing the fit sees): user_idx, video_idx, at.

    Args:
        viewings: events with user_idx and video_idx.
        day: D, the night's day.
    """
    positive = viewings.where(F.col("feedback") == "positive").select(
        part(F.col("day"), day=day).alias("split"),
        "user_idx",
        "video_idx",
        F.col("started_at").alias("at"),
    )
    return by_fit(positive).select("fit", "user_idx", "video_idx", "at")


def sequences(
    positive: DataFrame, user_edges: DataFrame, users: DataFrame, *, day: dt.date, config: Config
) -> DataFrame:
    """History and future of every user.

    Args:
        positive: result of `positive_viewings`.
        user_edges: edges of the same fits.
        users: user_idx of the day.
        day: D, the night's day.
        config: lengths and decay.

    Returns:
        One row per (fit, user_idx), a user without positive viewings included, with empty lists.
    """
    everyone = users.select("user_idx", F.explode(F.array(*map(F.lit, FITS))).alias("fit"))
    return (
        everyone.join(histories(positive, config=config), on=["fit", "user_idx"], how="left")
        .join(
            futures(positive, user_edges, day=day, config=config),
            on=["fit", "user_idx"],
            how="left",
        )
        .select(
            "fit",
            "user_idx",
            F.coalesce("history", F.array().cast(HISTORY)).alias("history"),
            F.coalesce("future", F.array().cast(FUTURE)).alias("future"),
        )
    )


def histories(positive: DataFrame, *, config: Config) -> DataFrame:
    """One row per (fit, user_idx): the latest positive viewings, repeats included, oldest first."""
    latest = Window.partitionBy("fit", "user_idx").orderBy(
        F.col("at").desc(), F.col("video_idx").desc()
    )
    kept = positive.withColumn("place", F.row_number().over(latest)).where(
        F.col("place") <= config.history_length
    )
    lists = kept.groupBy("fit", "user_idx").agg(
        F.array_sort(F.collect_list(F.struct("at", "video_idx"))).alias("list")
    )
    history = F.transform(
        "list", lambda one: F.struct(one["video_idx"].alias("video_idx"), one["at"].alias("at"))
    )
    return lists.select("fit", "user_idx", history.alias("history"))


def futures(
    positive: DataFrame, user_edges: DataFrame, *, day: dt.date, config: Config
) -> DataFrame:
    """One row per (fit, user_idx): what correlated neighbours watched after the user's anchors.

    For each anchor and each neighbour who viewed it positively: the neighbour's next
    `fragment_length` positive viewings, each with weight pearson * exp(-(T - t) / tau). Weights are
    summed per video; videos the user viewed positively before T are left out; the heaviest are kept
    and ordered by time, where `at` is the latest of the contributors. At most neighbours * anchors
    * fragment_length rows arise per user.
    """
    touches = last_touches(positive, config=config)
    anchors = touches.where(F.col("recency") <= config.n_anchors).select(
        "fit", "user_idx", "video_idx"
    )
    fragments = touches.where(F.size("next") > 0).select(
        "fit", F.col("user_idx").alias("neighbour_idx"), "video_idx", "next"
    )
    followed = (
        user_edges.select("fit", "user_idx", "neighbour_idx", "pearson")
        .join(anchors, on=["fit", "user_idx"], how="inner")  # up to n_anchors rows per edge
        .join(fragments, on=["fit", "neighbour_idx", "video_idx"], how="inner")
        .select("fit", "user_idx", "pearson", F.explode("next").alias("next"))
        .select("fit", "user_idx", "pearson", "next.video_idx", "next.at")
    )
    weight = exact_sum(F.col("pearson") * _freshness(day=day, tau_days=config.tau_days))
    summed = followed.groupBy("fit", "user_idx", "video_idx").agg(
        weight.alias("weight"), F.max("at").alias("at")
    )
    known = positive.select("fit", "user_idx", "video_idx").distinct()
    return _heaviest(
        summed.join(known, on=["fit", "user_idx", "video_idx"], how="left_anti"), config=config
    )


def last_touches(positive: DataFrame, *, config: Config) -> DataFrame:
    """One row per (fit, user_idx, video_idx): the last positive viewing, and what came next.

    `recency` is 1 for the user's latest video. `next` holds up to `fragment_length` later viewings;
    one of the very same instant takes a place but is no successor and is dropped. Only the last
    viewing of a video counts, so one pair of users and one anchor give one fragment, and it never
    contains its own anchor.
    """
    in_time = Window.partitionBy("fit", "user_idx").orderBy("at", "video_idx")
    following = in_time.rowsBetween(1, config.fragment_length)
    of_video = Window.partitionBy("fit", "user_idx", "video_idx").orderBy(F.col("at").desc())
    by_recency = Window.partitionBy("fit", "user_idx").orderBy(
        F.col("at").desc(), F.col("video_idx").desc()
    )
    last = (
        positive.withColumn("next", F.collect_list(F.struct("at", "video_idx")).over(following))
        .withColumn("place", F.row_number().over(of_video))
        .where(F.col("place") == 1)
    )
    later = F.filter("next", lambda one: one["at"] > F.col("at"))
    return last.select(
        "fit",
        "user_idx",
        "video_idx",
        later.alias("next"),
        F.row_number().over(by_recency).alias("recency"),
    )


def _freshness(*, day: dt.date, tau_days: float) -> Column:
    age_days = (F.unix_micros(cut_off(F.col("fit"), day=day)) - F.unix_micros("at")) / F.lit(
        86_400e6
    )
    return F.exp(-age_days / F.lit(tau_days))


def _heaviest(videos: DataFrame, *, config: Config) -> DataFrame:
    heaviest = Window.partitionBy("fit", "user_idx").orderBy(F.col("weight").desc(), "video_idx")
    kept = videos.withColumn("place", F.row_number().over(heaviest)).where(
        F.col("place") <= config.future_length
    )
    lists = kept.groupBy("fit", "user_idx").agg(
        F.array_sort(F.collect_list(F.struct("at", "video_idx", "weight"))).alias("list")
    )
    future = F.transform(
        "list",
        lambda one: F.struct(
            one["video_idx"].alias("video_idx"),
            one["at"].alias("at"),
            one["weight"].alias("weight"),
        ),
    )
    return lists.select("fit", "user_idx", future.alias("future"))
