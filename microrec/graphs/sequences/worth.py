"""What the futures of users are worth: how much of what was liked next is in them, against as many popular videos."""

import datetime as dt

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from microrec.graphs.similarity.measures import Measure, share

K = 20
"""Videos of a list that count."""
PAIR = ["user_idx", "video_idx"]


def measure(
    sequences: DataFrame, positive: DataFrame, *, cut: dt.datetime, end: dt.datetime
) -> list[Measure]:
    """Return recall@20 of the futures, and of the most popular videos, as of a cut.

    Asked for are the pairs of a user and a video that was positive between the cut and `end` and not before. Popular
    are the videos with most users before the cut, without those that the user had watched; ties by video_idx.

    Args:
        sequences: rows of `sequences`, as they were written.
        positive: result of `sequences.positive_viewings`.
        cut: the cut, of which `sequences` has rows.
        end: first instant after the viewings that are asked for.

    Returns:
        `future_recall@20` and `popular_recall@20`: the share of the pairs that is in the list, n of them.
    """
    known = positive.where(F.col("at") < F.lit(cut)).select(*PAIR).distinct()
    later = positive.where((F.col("at") >= F.lit(cut)) & (F.col("at") < F.lit(end)))
    pairs = later.select(*PAIR).distinct().join(known, on=PAIR, how="left_anti")
    lists = sequences.where(F.col("cut_at") == F.lit(cut)).select("user_idx", _heaviest("future"))
    counted = (
        pairs.join(lists, on="user_idx", how="left")
        .join(_popular(known), on="video_idx", how="left")
        .join(_known_ranks(known), on="user_idx", how="left")
    )
    in_future = F.coalesce(F.array_contains("heaviest", F.col("video_idx")), F.lit(False))
    n_known_above = F.size(F.filter("known_ranks", lambda rank: rank < F.col("popularity_rank")))
    rank = F.col("popularity_rank") - F.coalesce(n_known_above, F.lit(0))
    row = counted.agg(
        F.count("*").alias("n"),
        F.count_if(in_future).alias("future"),
        F.count_if(rank <= K).alias("popular"),
    ).head()
    n, *hits = (0, 0, 0) if row is None else row
    return [
        share("sequences", f"{name}_recall@{K}", n_hits / max(n, 1), n)._replace(
            slice=f"cut={cut:%Y-%m-%d}"
        )
        for name, n_hits in zip(("future", "popular"), hits, strict=True)
    ]


def _heaviest(future: str) -> Column:
    """The videos of a future with most weight, ties by video_idx."""
    weighed = F.transform(
        future, lambda video: F.struct((-video["weight"]).alias("less"), video["video_idx"])
    )
    first = F.slice(F.sort_array(weighed), 1, K)
    return F.transform(first, lambda video: video["video_idx"]).alias("heaviest")


def _popular(known: DataFrame) -> DataFrame:
    """Videos by the number of their users: popularity_rank, 1 = most."""
    users = known.groupBy("video_idx").agg(F.count("*").alias("n_users"))
    order = Window.partitionBy(F.lit(0)).orderBy(F.col("n_users").desc(), "video_idx")
    return users.select("video_idx", F.row_number().over(order).alias("popularity_rank"))


def _known_ranks(known: DataFrame) -> DataFrame:
    """Ranks of the videos that each user has watched."""
    ranked = known.join(_popular(known), on="video_idx", how="inner")
    return ranked.groupBy("user_idx").agg(F.collect_list("popularity_rank").alias("known_ranks"))
