"""What each user had watched as of a cut, in order, and what similar users watched next.

The implicit user network's fragments of DMR (Lu et al. 2021, arXiv 2110.03902). Neither the rows here
nor the network behind them (`cuts.py`) use anything at or after the cut, so a model that predicts the
viewings of a day from the rows as of its start cannot see what it predicts.
"""

import datetime as dt
import functools
from collections.abc import Sequence
from functools import partial
from typing import cast

from pydantic import PositiveInt
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from microrec.core.days import UTC
from microrec.graphs.sequences import futures as futures_
from microrec.graphs.sequences.cuts import as_of, day_start
from microrec.graphs.similarity.measures import Measure, share

HISTORY = "array<struct<video_idx:int,at:timestamp>>"
ROW = ["user_idx", "cut_at"]
"""The key of a row. Sorts compare the first column fastest, and there are few cuts."""
FUTURE = "array<struct<video_idx:int,at:timestamp,weight:double>>"
KEY = "cut_at timestamp, user_idx int"
USERS_AT_ONCE = 250_000
"""Users whose futures a task looks up; more of them at a cut are several tasks."""


class Config(futures_.Config):
    """Days that are learned from, lengths of the lists, and how fast a fragment fades."""

    example_days: PositiveInt = 7
    """Target days: D and those before it, whose viewings are examples."""
    history_length: PositiveInt = 100
    """Latest positive viewings kept per user."""


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
    """Number each user's positive viewings in time.

    Viewings of the same instant are ordered by video_idx. As time only adds to the end, the state as of
    any cut follows from the whole: see `as_of`.

    Args:
        viewings: `events` with user_idx and video_idx.
        config: length of histories.

    Returns:
        One row per positive viewing (user_idx, video_idx, at). place: 1 = the user's first; pushed_at: when enough had
        followed that it leaves the history.
    """
    # One user, video and instant is one viewing: of two rows either could be the last one.
    distinct = (
        viewings.where(F.col("feedback") == "positive")
        .select("user_idx", "video_idx", F.col("started_at").alias("at"))
        .distinct()
    )
    in_time = Window.partitionBy("user_idx").orderBy("at", "video_idx")
    return distinct.select(
        "user_idx",
        "video_idx",
        "at",
        F.row_number().over(in_time).alias("place"),
        F.lead("at", config.history_length).over(in_time).alias("pushed_at"),
    )


def sequences(wanted: DataFrame, histories: DataFrame, futures: DataFrame) -> DataFrame:
    """Join histories and futures to the wanted keys; a user without one has an empty list.

    Args:
        wanted: cut_at, user_idx.
        histories: result of `histories`.
        futures: result of `futures`.

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
            F.coalesce("future_from", F.lit(futures_.NONE)).alias("future_from"),
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
    # Not `array_sort`: it compares by a function that is interpreted.
    in_time = F.sort_array(F.collect_list(F.struct("at", "video_idx")))
    lists = kept.groupBy(*ROW).agg(in_time.alias("list"))
    history = F.transform(
        "list",
        lambda viewing: F.struct(
            viewing["video_idx"].alias("video_idx"), viewing["at"].alias("at")
        ),
    )
    return lists.select(*ROW, history.alias("history"))


def futures(
    positive: DataFrame,
    network: DataFrame,
    wanted: DataFrame,
    *,
    cuts: Sequence[dt.datetime],
    n_users: int,
    config: Config,
) -> DataFrame:
    """Look up what others watched after the latest videos of each user; see the module `futures`.

    Dealt by cut, and by `USERS_AT_ONCE` users: everybody's positive viewings before the cut go to each of its tasks.

    Args:
        positive: result of `positive_viewings`.
        network: one row per (cut_at, user_idx, neighbour_idx): pearson, of viewings before the cut.
        wanted: cut_at, user_idx.
        cuts: cuts of the night.
        n_users: users of D, indexed from 0.
        config: lengths, cap and decay.

    Returns:
        One row per (cut_at, user_idx) with a future: future_from, future [<= future_length].
    """
    n_blocks = -(-n_users // USERS_AT_ONCE)
    block = F.floor(F.col("user_idx") / USERS_AT_ONCE).cast("int")
    every_block = F.explode(F.sequence(F.lit(0), F.lit(n_blocks - 1)))
    viewings = as_of(positive.select("user_idx", "video_idx", "at"), cuts, at=F.col("at"))
    rows = [
        _of_kind(
            viewings, futures_.VIEWING, every_block, other="video_idx", at=F.unix_micros("at")
        ),
        _of_kind(network, futures_.EDGE, block, other="neighbour_idx", pearson=F.col("pearson")),
        _of_kind(wanted, futures_.WANTED, block),
    ]
    cut_no = F.array_position(F.array(*map(F.lit, cuts)).cast("array<timestamp>"), F.col("cut_at"))
    task = ((cut_no - 1) * n_blocks + F.col("block")).cast("int")
    together = functools.reduce(DataFrame.unionByName, rows).withColumn("task", task)
    dealt = together.repartitionById(len(cuts) * n_blocks, "task").select(
        F.unix_micros("cut_at").alias("cut_at"), "kind", "user_idx", "other_idx", "at", "pearson"
    )
    schema = cast(StructType, StructType.fromDDL(f"{KEY}, future_from string, future {FUTURE}"))
    look_up = partial(
        futures_.of_tasks, config=config, n_users=n_users, schema=to_arrow_schema(schema)
    )
    return dealt.mapInArrow(look_up, schema)


def _of_kind(
    rows: DataFrame,
    kind: int,
    block: Column,
    *,
    other: str | None = None,
    at: Column | None = None,
    pearson: Column | None = None,
) -> DataFrame:
    """Rows that a task of `futures` gets, by kind."""
    nothing = F.lit(None)
    return rows.select(
        "cut_at",
        F.lit(kind).cast("tinyint").alias("kind"),
        "user_idx",
        (nothing if other is None else F.col(other)).cast("int").alias("other_idx"),
        (nothing if at is None else at).cast("bigint").alias("at"),
        (nothing if pearson is None else pearson).cast("double").alias("pearson"),
        block.alias("block"),
    )


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
        F.when(F.size("future") == 0, F.lit(futures_.NONE))
        .otherwise(F.col("future_from"))
        .alias("future_from"),
        F.greatest(F.array_max("history.at"), F.array_max("future.at")).alias("last_at"),
    )


def measure(sequences: DataFrame) -> list[Measure]:
    """Return, per cut, the share of the rows with a future from each source.

    Args:
        sequences: rows of `sequences`, as they were written.
    """
    of_source = [F.count_if(F.col("future_from") == name).alias(name) for name in futures_.SOURCES]
    cut = F.date_format("cut_at", "'cut='yyyy-MM-dd").alias("cut")
    counted = sequences.groupBy(cut).agg(F.count("*").alias("n"), *of_source)
    return [
        share("sequences", f"future_from_{name}", row[name] / row["n"], row["n"])._replace(
            slice=row["cut"]
        )
        for row in counted.orderBy("cut").collect()
        for name in futures_.SOURCES
    ]
