"""What each user had watched as of a cut, in order, and what similar users watched next.

The implicit user network's fragments of DMR (Lu et al. 2021, arXiv 2110.03902). Neither the rows here
nor the network behind them (`cuts.py`) use anything at or after the cut, so a model that predicts the
viewings of a day from the rows as of its start cannot see what it predicts.
"""

import datetime as dt
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from microrec.core.days import UTC
from microrec.graphs.sequences.cuts import as_of, day_start
from microrec.graphs.similarity.measures import Measure, share
from microrec.graphs.watch.sums import exact_sum

HISTORY = "array<struct<video_idx:int,at:timestamp>>"
ROW = ["user_idx", "cut_at"]
"""The key of a row. Sorts compare the first column fastest, and there are few cuts."""
FUTURE = "array<struct<video_idx:int,at:timestamp,weight:double>>"
NEIGHBOURS, SUCCESSORS, NONE = SOURCES = ("neighbours", "successors", "none")
"""Where a future comes from."""


class Config(BaseModel):
    """Days that are learned from, lengths of the lists, and how fast a fragment fades."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    example_days: PositiveInt = 7
    """Target days: D and those before it, whose viewings are examples."""
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
    activity_quantile: float = Field(default=0.995, gt=0, le=1)
    """Users with more positive viewings than this share of the users (bots) are nobody's neighbours."""
    touch_cap: PositiveInt = 500
    """Latest viewers of an anchor whose fragments are looked up."""
    n_successors: PositiveInt = 10
    """Videos taken per anchor where no neighbour has a fragment."""


def exposures(
    viewings: DataFrame, *, cuts: Sequence[dt.datetime], timezone: str = UTC
) -> DataFrame:
    """Select the viewings of the target days: what was shown, and the cut it is predicted as of.

    Args:
        viewings: `events` with user_idx and video_idx.
        cuts: cuts of the night, ascending.
        timezone: whose days they are.

    Returns:
        One row per viewing of a target day; cut_at is the start of its day.
    """
    cut_at = day_start(F.col("day"), timezone)
    return viewings.where(cut_at.isin(list(cuts[:-1]))).select(
        cut_at.alias("cut_at"),
        "event_id",
        "user_idx",
        "video_idx",
        "started_at",
        "surface",
        "feedback",
        "watch_ms",
        "duration_ms",
    )


def wanted_rows(
    exposures: DataFrame, users: DataFrame, *, cuts: Sequence[dt.datetime]
) -> DataFrame:
    """Return the keys of `sequences`: one row per (cut_at, user_idx).

    As of the start and the end of D all users, as of an earlier cut those who were shown something
    on the day it begins.

    Args:
        exposures: result of `exposures`.
        users: user_idx of the day.
        cuts: cuts of the night, ascending.
    """
    last = F.explode(F.array(*map(F.lit, cuts[-2:])))
    all_users = users.select(last.alias("cut_at"), "user_idx")
    earlier = exposures.where(F.col("cut_at") < F.lit(cuts[-2]))
    return all_users.unionByName(earlier.select("cut_at", "user_idx").distinct())


def positive_viewings(viewings: DataFrame, *, config: Config) -> DataFrame:
    """Number each user's positive viewings in time and add what followed each.

    Viewings of the same instant are ordered by video_idx. As time only adds to the end, the state as of
    any cut follows from the whole: see `as_of`.

    Args:
        viewings: `events` with user_idx and video_idx.
        config: lengths of histories and fragments.

    Returns:
        One row per positive viewing (user_idx, video_idx, at). place: 1 = the user's first; next: the
        `fragment_length` viewings that follow; again_at: when the user viewed the video again; pushed_at:
        when enough had followed that it leaves the history.
    """
    # One user, video and instant is one viewing: of two rows either could be the last one.
    distinct = (
        viewings.where(F.col("feedback") == "positive")
        .select("user_idx", "video_idx", F.col("started_at").alias("at"))
        .distinct()
    )
    in_time = Window.partitionBy("user_idx").orderBy("at", "video_idx")
    following = in_time.rowsBetween(1, config.fragment_length)
    of_video = Window.partitionBy("user_idx", "video_idx").orderBy("at")
    return distinct.select(
        "user_idx",
        "video_idx",
        "at",
        F.row_number().over(in_time).alias("place"),
        F.collect_list(F.struct("at", "video_idx")).over(following).alias("next"),
        F.lead("at").over(of_video).alias("again_at"),
        F.lead("at", config.history_length).over(in_time).alias("pushed_at"),
    )


def sequences(wanted: DataFrame, histories: DataFrame, futures: DataFrame) -> DataFrame:
    """Join histories and futures to the wanted keys; a user without one has an empty list.

    Args:
        wanted: cut_at, user_idx.
        histories: result of `histories`.
        futures: futures of both sources, one row per (cut_at, user_idx) at most.

    Returns:
        One row per (cut_at, user_idx).
    """
    return (
        wanted.join(histories, on=ROW, how="left")
        .join(futures, on=ROW, how="left")
        .select(
            *ROW,
            F.coalesce("history", F.array().cast(HISTORY)).alias("history"),
            F.coalesce("future", F.array().cast(FUTURE)).alias("future"),
            F.coalesce("future_from", F.lit(NONE)).alias("future_from"),
            F.greatest(F.array_max("history.at"), F.array_max("future.at")).alias("last_at"),
        )
    )


def histories(positive: DataFrame, wanted: DataFrame, *, cuts: Sequence[dt.datetime]) -> DataFrame:
    """List the latest positive viewings of each wanted user, repeats included, oldest first.

    Args:
        positive: result of `positive_viewings`.
        wanted: cut_at, user_idx.
        cuts: cuts of the night.

    Returns:
        One row per (cut_at, user_idx) with a viewing: history, [<= history_length].
    """
    kept = as_of(positive, cuts, at=F.col("at"), until=F.col("pushed_at")).join(
        wanted, on=ROW, how="left_semi"
    )
    lists = kept.groupBy(*ROW).agg(_by_time("at", "video_idx").alias("list"))
    history = F.transform(
        "list",
        lambda viewing: F.struct(
            viewing["video_idx"].alias("video_idx"), viewing["at"].alias("at")
        ),
    )
    return lists.select(*ROW, history.alias("history"))


def touches(positive: DataFrame, *, cuts: Sequence[dt.datetime]) -> DataFrame:
    """Find each user's last positive viewing of each video as of each cut, and what came next.

    Only the last viewing of a video counts, so one pair of users and one anchor give one fragment, and
    it never contains its own anchor. Of the viewings that follow, one at the very same instant takes a
    place but is no successor and is dropped.

    Args:
        positive: result of `positive_viewings`.
        cuts: cuts of the night.

    Returns:
        One row per (cut_at, user_idx, video_idx). next: up to `fragment_length` later viewings; recency:
        1 for the user's latest video; n_positive: number of the user's viewings.
    """
    of_user = Window.partitionBy(*ROW)
    later = F.filter(
        "next", lambda viewing: (viewing["at"] > F.col("at")) & (viewing["at"] < F.col("cut_at"))
    )
    return as_of(positive, cuts, at=F.col("at"), until=F.col("again_at")).select(
        "cut_at",
        "user_idx",
        "video_idx",
        "at",
        later.alias("next"),
        F.row_number().over(of_user.orderBy(F.col("place").desc())).alias("recency"),
        F.max("place").over(of_user).alias("n_positive"),
    )


def from_neighbours(
    touches: DataFrame, network: DataFrame, wanted: DataFrame, *, config: Config
) -> DataFrame:
    """Build the futures from what correlated users watched next.

    For each anchor and each neighbour who touched it: the neighbour's fragment, each viewing with
    weight pearson * exp(-(T - t) / tau). At most neighbours * anchors * fragment_length rows arise
    per user.

    Args:
        touches: result of `touches`.
        network: one row per (cut_at, user_idx, neighbour_idx): pearson, of viewings before the cut.
        wanted: cut_at, user_idx.
        config: lengths and decay.

    Returns:
        One row per (cut_at, user_idx) with a future: future_from, future [<= future_length].
    """
    touch = ["neighbour_idx", "video_idx", "cut_at"]
    followed = fragments(touches, config=config).withColumnRenamed("user_idx", "neighbour_idx")
    watched_next = (
        network.join(_anchors(touches, wanted, config), on=ROW, how="inner")  # several per edge
        # Nine of ten have no fragment. The keys alone may be few enough to be broadcast.
        .join(followed.select(*touch), on=touch, how="left_semi")
        .join(followed, on=touch, how="inner")
        .select(*ROW, "pearson", F.explode("next").alias("next"))
        .select(*ROW, "pearson", "next.video_idx", "next.at")
    )
    weight = F.col("pearson") * _freshness(config)
    return _futures(watched_next.withColumn("weight", weight), touches, NEIGHBOURS, config)


def from_successors(
    touches: DataFrame, neighbours: DataFrame, wanted: DataFrame, *, config: Config
) -> DataFrame:
    """Build the futures of users without one from neighbours, from what any user watched next.

    Of each anchor the `n_successors` videos with the greatest sum of exp(-(T - t) / tau) over its
    fragments (ties by video_idx).

    Args:
        touches: result of `touches`.
        neighbours: result of `from_neighbours`.
        wanted: cut_at, user_idx.
        config: lengths and decay.

    Returns:
        One row per (cut_at, user_idx) with a future: future_from, future [<= future_length].
    """
    followed = (
        fragments(touches, config=config)
        .select("cut_at", F.col("video_idx").alias("anchor"), F.explode("next").alias("next"))
        .select("cut_at", "anchor", "next.video_idx", "next.at")
    )
    successors = followed.groupBy("anchor", "cut_at", "video_idx").agg(
        exact_sum(_freshness(config)).alias("weight"), F.max("at").alias("at")
    )
    heaviest = Window.partitionBy("anchor", "cut_at").orderBy(F.col("weight").desc(), "video_idx")
    kept = successors.withColumn("place", F.row_number().over(heaviest)).where(
        F.col("place") <= config.n_successors
    )
    without = wanted.join(neighbours, on=ROW, how="left_anti")
    anchors = _anchors(touches, without, config).withColumnRenamed("video_idx", "anchor")
    candidates = anchors.join(kept, on=["anchor", "cut_at"], how="inner")  # n_successors per anchor
    return _futures(candidates, touches, SUCCESSORS, config)


def fragments(touches: DataFrame, *, config: Config) -> DataFrame:
    """Select the touches whose continuations are looked up.

    Those that something followed, without the ones of bots, and of each video the latest `touch_cap`
    (ties by user_idx). With few users nobody is a bot: the quantile is the count of an existing user.

    Args:
        touches: result of `touches`.
        config: activity quantile and touch cap.

    Returns:
        One row per (cut_at, user_idx, video_idx) that is kept: next.
    """
    quantile = F.expr(
        f"percentile_disc({config.activity_quantile}) WITHIN GROUP (ORDER BY n_positive)"
    )
    most = touches.where(F.col("recency") == 1).groupBy("cut_at").agg(quantile.alias("most"))
    followed = touches.join(most, on="cut_at", how="inner").where(
        (F.col("n_positive") <= F.col("most")) & (F.size("next") > 0)
    )
    latest = Window.partitionBy("video_idx", "cut_at").orderBy(F.col("at").desc(), "user_idx")
    kept = followed.withColumn("place", F.row_number().over(latest)).where(
        F.col("place") <= config.touch_cap
    )
    return kept.select(*ROW, "video_idx", "next")


def dislikes(viewings: DataFrame, *, cuts: Sequence[dt.datetime]) -> DataFrame:
    """List what each user had disliked as of each cut.

    Args:
        viewings: `events` with user_idx and video_idx.
        cuts: cuts of the night.

    Returns:
        One row per (cut_at, user_idx) with a dislike: dislikes, of each video the last one.
    """
    rows = viewings.where("disliked").select(
        "user_idx", "video_idx", F.col("started_at").alias("at")
    )
    last = as_of(rows, cuts, at=F.col("at")).groupBy(*ROW, "video_idx").agg(F.max("at").alias("at"))
    return last.groupBy(*ROW).agg(F.collect_list(F.struct("video_idx", "at")).alias("dislikes"))


def without_unwanted(rows: DataFrame, dislikes: DataFrame, remembered: DataFrame) -> DataFrame:
    """Leave out of histories what was disliked later, and of futures what was disliked, or seen before the window.

    Args:
        rows: result of `sequences`.
        dislikes: result of `dislikes`.
        remembered: one row per user_idx: remembered, the video_idx that were seen or disliked before the window.

    Returns:
        The rows, columns as they are; what is left out leaves its list shorter.
    """
    joined = rows.join(dislikes, on=ROW, how="left").join(remembered, on="user_idx", how="left")

    def undone(viewing: Column) -> Column:
        return F.exists(
            "dislikes",
            lambda one: (one["video_idx"] == viewing["video_idx"]) & (one["at"] > viewing["at"]),
        )

    def unwanted(video: Column) -> Column:
        disliked = F.exists("dislikes", lambda one: one["video_idx"] == video["video_idx"])
        seen = F.array_contains("remembered", video["video_idx"])
        return F.coalesce(disliked, F.lit(False)) | F.coalesce(seen, F.lit(False))

    history = F.filter("history", lambda one: ~F.coalesce(undone(one), F.lit(False)))
    future = F.filter("future", lambda video: ~unwanted(video))
    kept = joined.withColumns({"history": history, "future": future})
    return kept.select(
        *ROW,
        "history",
        "future",
        F.when(F.size("future") == 0, F.lit(NONE))
        .otherwise(F.col("future_from"))
        .alias("future_from"),
        F.greatest(F.array_max("history.at"), F.array_max("future.at")).alias("last_at"),
    )


def measure(sequences: DataFrame) -> list[Measure]:
    """Return, per cut, the share of the rows with a future from each source.

    Args:
        sequences: rows of `sequences`, as they were written.
    """
    of_source = [F.count_if(F.col("future_from") == name).alias(name) for name in SOURCES]
    cut = F.date_format("cut_at", "'cut='yyyy-MM-dd").alias("cut")
    counted = sequences.groupBy(cut).agg(F.count("*").alias("n"), *of_source)
    return [
        share("sequences", f"future_from_{name}", row[name] / row["n"], row["n"])._replace(
            slice=row["cut"]
        )
        for row in counted.orderBy("cut").collect()
        for name in SOURCES
    ]


def _anchors(touches: DataFrame, wanted: DataFrame, config: Config) -> DataFrame:
    latest = touches.where(F.col("recency") <= config.n_anchors)
    return latest.join(wanted, on=ROW, how="left_semi").select(*ROW, "video_idx")


def _freshness(config: Config) -> Column:
    age_days = (F.unix_micros("cut_at") - F.unix_micros("at")) / F.lit(86_400e6)
    return F.exp(-age_days / F.lit(config.tau_days))


def _futures(candidates: DataFrame, touches: DataFrame, source: str, config: Config) -> DataFrame:
    """Add up the weights of a video; of those new to the user keep the heaviest, ordered by time.

    `at` is the latest of those that add to a video's weight.
    """
    videos = candidates.groupBy(*ROW, "video_idx").agg(
        exact_sum(F.col("weight")).alias("weight"), F.max("at").alias("at")
    )
    new = videos.join(touches, on=[*ROW, "video_idx"], how="left_anti")
    heaviest = Window.partitionBy(*ROW).orderBy(F.col("weight").desc(), "video_idx")
    kept = new.withColumn("place", F.row_number().over(heaviest)).where(
        F.col("place") <= config.future_length
    )
    lists = kept.groupBy(*ROW).agg(_by_time("at", "video_idx", "weight").alias("list"))
    future = F.transform(
        "list",
        lambda video: F.struct(
            video["video_idx"].alias("video_idx"),
            video["at"].alias("at"),
            video["weight"].alias("weight"),
        ),
    )
    return lists.select(*ROW, F.lit(source).alias("future_from"), future.alias("future"))


def _by_time(*columns: str) -> Column:
    # Not `array_sort`: it compares by a function that is interpreted.
    return F.sort_array(F.collect_list(F.struct(*columns)))
