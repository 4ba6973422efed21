"""Instants a night looks back from, and whom a user correlates with as of each.

A *cut* is 00:00 UTC of a day; a row as of a cut knows nothing at or after it. The night of D has the
end of D (what the fit `final` serves from), the start of D (what `trial` serves from), and the
starts of the target days before D. The networks of the first two are D's `user_edges`; for the
others they are built here, all at once, as each of those days' nights builds its `trial` one.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from microrec.graphs.similarity import pearson, user_edges
from microrec.graphs.similarity.blocks import WANTED, nearest
from microrec.graphs.similarity.running_topk import Edges, Lists
from microrec.graphs.similarity.user_edges import Correlation
from microrec.graphs.watch import nodes, watch_edges
from microrec.graphs.watch.split import cut_off, end_of, start_of

EDGE = ["cut_at", "user_idx", "neighbour_idx", "pearson"]


def cuts(day: dt.date, *, n_days: int) -> list[dt.datetime]:
    """The cuts of the night of D, in order: the start of each of so many target days, the end of D."""
    earlier = [day - dt.timedelta(days=back) for back in reversed(range(n_days))]
    return [*map(start_of, earlier), end_of(day)]


def start(event_day: Column) -> Column:
    """First instant of a day, as the session's time zone is UTC."""
    return event_day.cast("timestamp")


def as_of(
    rows: DataFrame, cuts: Sequence[dt.datetime], *, at: Column, until: Column | None = None
) -> DataFrame:
    """A copy of each row as of every cut after `at` and, where it is not null, not after `until`."""

    def holds(cut: Column) -> Column:
        after = cut > at
        return after if until is None else after & (until.isNull() | (cut <= until))

    cut_at = F.explode(F.filter(F.array(*map(F.lit, cuts)).cast("array<timestamp>"), holds))
    return rows.withColumn("cut_at", cut_at)


def served(user_edges: DataFrame, *, day: dt.date) -> DataFrame:
    """`user_edges` of D as the networks as of its last two cuts."""
    return user_edges.withColumn("cut_at", cut_off(F.col("fit"), day=day)).select(*EDGE)


def pairs(
    watches: DataFrame,
    users: DataFrame,
    video_nodes: DataFrame,
    *,
    cuts: Sequence[dt.datetime],
    config: watch_edges.Config,
) -> DataFrame:
    """What the night of the day that begins at a cut has as `watch_edges` of the days before.

    Args:
        watches: `daily_watches` of the window.
        users: user_id and user_idx of D.
        video_nodes: video_id and video_idx of D.
        cuts: the cuts.
        config: the half-life.

    Returns:
        One row per (cut_at, split, user_idx, video_idx).
    """
    copies = as_of(watches, cuts, at=start(F.col("day")))
    day = F.col("cut_at").cast("date")
    parts = watch_edges.parts(copies, day=day, config=config, within=["cut_at"])
    return nodes.indexed(parts, users, video_nodes).drop("first_at")


def networks(
    pairs: DataFrame, wanted: DataFrame, *, n_users: int, config: pearson.Config
) -> DataFrame:
    """Connect each wanted user to the users most correlated as of a cut.

    Args:
        pairs: result of `pairs`.
        wanted: cut_at, user_idx.
        n_users: users of D, indexed from 0.
        config: as for `user_edges`.

    Returns:
        One row per (cut_at, user_idx, neighbour_idx): pearson > 0.
    """
    rows = user_edges.vectors(pairs, fit="trial", config=config, within=["cut_at"])
    liked = pairs.where(F.col("n_positive") > 0).groupBy("cut_at")
    n_videos = liked.agg(F.count_distinct("video_idx").cast("int").alias("n_videos"))
    if config.n_videos is not None:
        n_videos = n_videos.withColumn("n_videos", F.lit(config.n_videos))
    asked = wanted.select("cut_at", F.col("user_idx").alias("idx"), F.lit(True).alias(WANTED))
    flagged = (
        rows.join(n_videos, on="cut_at", how="inner")
        .join(asked, on=["idx", "cut_at"], how="left")
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
    """Users of a cut, and N as of it."""

    users: pearson.Users
    n_videos: int

    @property
    def idx(self) -> NDArray[Any]:
        """Their indices."""
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
        """Rows as vectors."""
        n_videos = rows["n_videos"][0].as_py()
        return Block(self._of(n_videos).pack(rows), n_videos)

    def index(self, packed: Block) -> pearson.Block:
        """Who viewed what."""
        return self._of(packed.n_videos).index(packed.users)

    def compare(self, packed: Block, index: pearson.Block, best: Lists) -> None:
        """Correlate."""
        self._of(packed.n_videos).compare(packed.users, index, best)

    def edges(self, packed: Block, best: Lists) -> Edges:
        """Lists as columns."""
        return self._of(packed.n_videos).edges(packed.users, best)

    def _of(self, n_videos: int) -> Correlation:
        return Correlation(self.config, n_videos)
