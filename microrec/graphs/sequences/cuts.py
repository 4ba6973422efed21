"""Cuts, the instants a night looks back from, and the user network as of each.

A *cut* is the first instant of a day; a row as of a cut uses nothing at or after it. The night of D has the
end of D (what the fit `final` serves from), the start of D (what `trial` serves from), and the
starts of the target days before D. The networks of the first two are the `user_edges` of D; for the
others they are built here, all at once, as the `trial` network of each of those days' nights.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from microrec.core import days
from microrec.graphs.similarity import pearson, user_edges
from microrec.graphs.similarity.blocks import WANTED, nearest
from microrec.graphs.similarity.running_topk import Edges, Lists
from microrec.graphs.similarity.user_edges import Correlation
from microrec.graphs.watch import nodes, strength, watch_edges
from microrec.graphs.watch.split import cut_off

EDGE = ["cut_at", "user_idx", "neighbour_idx", "pearson"]


def cuts(day: dt.date, *, n_days: int, timezone: str = days.UTC) -> list[dt.datetime]:
    """Return the cuts of the night of D, ascending: the start of each target day, then the end of D.

    Args:
        day: D, the night's day.
        n_days: target days, D the last of them.
        timezone: whose days they are.
    """
    earlier = [day - dt.timedelta(days=back) for back in reversed(range(n_days))]
    return [*(days.start(each, timezone) for each in earlier), days.end(day, timezone)]


def day_start(event_day: Column, timezone: str = days.UTC) -> Column:
    """Return the first instant of a day, one row per row of `event_day`.

    Args:
        event_day: a date.
        timezone: whose days they are.
    """
    midnight = event_day.cast("timestamp")  # the session's time zone is UTC
    return midnight if timezone == days.UTC else F.to_utc_timestamp(midnight, timezone)


def day_of(instant: Column, timezone: str = days.UTC) -> Column:
    """Return the day of an instant, one row per row of `instant`.

    Args:
        instant: a timestamp.
        timezone: whose days they are.
    """
    local = instant if timezone == days.UTC else F.from_utc_timestamp(instant, timezone)
    return local.cast("date")


def as_of(
    rows: DataFrame, cuts: Sequence[dt.datetime], *, at: Column, until: Column | None = None
) -> DataFrame:
    """Copy each row to every cut after `at` and, where it is not null, not after `until`.

    Args:
        rows: any rows.
        cuts: the cuts.
        at: instant from which on a row is known.
        until: instant up to which it holds.

    Returns:
        One row per (row, cut_at) that holds.
    """

    def holds(cut: Column) -> Column:
        after = cut > at
        return after if until is None else after & (until.isNull() | (cut <= until))

    cut_at = F.explode(F.filter(F.array(*map(F.lit, cuts)).cast("array<timestamp>"), holds))
    return rows.withColumn("cut_at", cut_at)


def serving_networks(user_edges: DataFrame, *, day: dt.date, timezone: str = days.UTC) -> DataFrame:
    """Return the user networks as of the last two cuts: one row per (cut_at, user_idx, neighbour_idx), pearson.

    Args:
        user_edges: `user_edges` of D.
        day: D, the night's day.
        timezone: whose days they are.
    """
    cut_at = cut_off(F.col("fit"), day=day, timezone=timezone)
    return user_edges.withColumn("cut_at", cut_at).select(*EDGE)


def pairs(
    watches: DataFrame,
    users: DataFrame,
    video_nodes: DataFrame,
    *,
    cuts: Sequence[dt.datetime],
    config: watch_edges.Config,
    timezone: str = days.UTC,
) -> DataFrame:
    """Build the `watch_edges` that the night before each cut would have, from one window of aggregates.

    Args:
        watches: `daily_watches` of the window.
        users: user_id and user_idx of D.
        video_nodes: video_id and video_idx of D.
        cuts: the cuts.
        config: duration buckets and half-life.
        timezone: whose days they are.

    Returns:
        One row per (cut_at, split, user_idx, video_idx).
    """
    viewings = strength.of_viewings(watches, edges_ms=config.duration_edges_ms)
    copies = as_of(viewings, cuts, at=day_start(F.col("day"), timezone))
    day = day_of(F.col("cut_at"), timezone)
    parts = watch_edges.parts(copies, day=day, config=config, within=["cut_at"])
    return nodes.indexed(parts, users, video_nodes).drop("first_at")


def networks(
    pairs: DataFrame, wanted: DataFrame, *, n_users: int, config: pearson.Config
) -> DataFrame:
    """Connect each wanted user to the users most correlated as of a cut.

    Args:
        pairs: result of `pairs`, one row per (cut_at, split, user_idx, video_idx).
        wanted: cut_at, user_idx: one row per list to build.
        n_users: users of D, indexed from 0.
        config: as for `user_edges`.

    Returns:
        One row per (cut_at, user_idx, neighbour_idx): pearson > 0.
    """
    if config.signal != "weight":
        pairs = pairs.drop("weight")  # Nobody reads it, and ranks cost a sort of all viewings.
    pairs = pairs.cache()  # Vectors and counts both start from it.
    rows = user_edges.vectors(pairs, fit="trial", config=config, within=["cut_at"])
    liked = pairs.where(F.col("n_positive") > 0).groupBy("cut_at")
    n_videos = liked.agg(F.count_distinct("video_idx").cast("int").alias("n_videos"))
    if config.n_videos is not None:
        n_videos = n_videos.withColumn("n_videos", F.lit(config.n_videos))
    keys = wanted.select("cut_at", F.col("user_idx").alias("idx"), F.lit(True).alias(WANTED))
    flagged = (
        rows.join(n_videos, on="cut_at", how="inner")
        .join(keys, on=["idx", "cut_at"], how="left")
        .fillna(False, subset=[WANTED])
    )
    edges = nearest(
        flagged,
        Correlations(config),
        within=["cut_at"],
        n_rows=n_users,
        block_size=config.block_size,
    )
    return edges.withColumnRenamed("idx", "user_idx").select(*EDGE)


class Block(NamedTuple):
    """Users of a cut, and N as of it.

    Shapes:
        users: [n_users]; n_videos: scalar
    """

    users: pearson.Users
    n_videos: int

    @property
    def idx(self) -> NDArray[Any]:
        """Indices of the users, int32 [n_users]."""
        return self.users.idx


@dataclass(frozen=True)
class Correlations:
    """The kernel of `user_edges`, with N from the column `n_videos` of the rows."""

    config: pearson.Config
    measures = Correlation.measures

    @property
    def k(self) -> int:
        """Neighbours per user."""
        return self.config.k

    def pack(self, rows: pa.Table) -> Block:
        """Return the rows of a block (one row per (idx, video_idx, part)) as users' vectors and their N."""
        n_videos = rows["n_videos"][0].as_py()
        return Block(self._of(n_videos).pack(rows), n_videos)

    def index(self, packed: Block) -> pearson.Block:
        """Return the block inverted: the viewers of each video."""
        return self._of(packed.n_videos).index(packed.users)

    def compare(self, packed: Block, index: pearson.Block, best: Lists) -> None:
        """Offer the users of an indexed block to the lists of a packed one.

        Args:
            packed: the users whose lists are kept.
            index: an indexed block of the same cut.
            best: lists of the packed users, changed in place.
        """
        self._of(packed.n_videos).compare(packed.users, index, best)

    def edges(self, packed: Block, best: Lists) -> Edges:
        """Return the lists as columns: idx, neighbour_idx, pearson, n_common, rank.

        Args:
            packed: the users whose lists are kept.
            best: their lists.
        """
        return self._of(packed.n_videos).edges(packed.users, best)

    def _of(self, n_videos: int) -> Correlation:
        return Correlation(self.config, n_videos)
