"""The implicit user network: each user's most correlated users.

The first stage of DMR (Lu et al. 2021, arXiv 2110.03902), exact. `pearson.py` has the formula and
computes it; here the watch graph becomes users' vectors. Of a fit, N is the number of videos that
somebody viewed positively.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from microrec.graphs import pearson
from microrec.graphs.blocks import nearest
from microrec.graphs.lists import Edges, Lists
from microrec.graphs.pearson import Block, Config, Users
from microrec.graphs.split import by_fit
from microrec.graphs.sums import exact_sum


def user_edges(watch_edges: DataFrame, *, n_users: int, config: Config) -> DataFrame:
    """Connect each user to the most correlated users, for both fits.

    Of a video with more than `hub_cap` viewers only the latest `hub_cap` (ties by user_idx) take
    part in the dot products; the sums stay full. So n_common and pearson are exact whenever no
    shared video is above the cap, and too low otherwise.

    Args:
        watch_edges: edges of all parts; those with n_positive > 0 count.
        n_users: users of the day, indexed from 0.
        config: signal, thresholds, caps.

    Returns:
        One row per (fit, user_idx, neighbour_idx): pearson > 0, n_common and rank.
    """
    positive = positive_edges(watch_edges, config=config)
    n_videos = F.count_distinct("video_idx") if config.n_videos is None else F.lit(config.n_videos)
    edges = nearest(
        capped(positive, hub_cap=config.hub_cap).withColumnRenamed("user_idx", "idx"),
        Correlation(config),
        within=["fit"],
        n_rows=n_users,
        block_size=config.block_size,
        constants=positive.groupBy("fit").agg(n_videos.cast("double").alias("n_videos")),
    )
    return edges.withColumnRenamed("idx", "user_idx")


def positive_edges(watch_edges: DataFrame, *, config: Config) -> DataFrame:
    """One row per (fit, user_idx, video_idx) with a positive viewing: signal x > 0 and last_at."""
    edges = (
        by_fit(watch_edges.where(F.col("n_positive") > 0))
        .groupBy("fit", "user_idx", "video_idx")
        .agg(exact_sum(F.col("weight")).alias("weight"), F.max("last_at").alias("last_at"))
    )
    x = F.lit(1.0) if config.signal == "binary" else F.col("weight")
    signals = edges.select("fit", "user_idx", "video_idx", x.alias("x"), "last_at")
    return signals.where(F.col("x") > 0)


def capped(positive: DataFrame, *, hub_cap: int | None) -> DataFrame:
    """The same edges without last_at; `meets` is false for all but a video's latest viewers."""
    meets = F.lit(True)
    if hub_cap is not None:
        order = Window.partitionBy("fit", "video_idx").orderBy(F.col("last_at").desc(), "user_idx")
        meets = F.row_number().over(order) <= hub_cap
    return positive.withColumn("meets", meets).drop("last_at")


@dataclass(frozen=True)
class Correlation:
    """The kernel `blocks.nearest` runs."""

    config: Config
    measures = "pearson double, n_common int"

    @property
    def k(self) -> int:
        """Neighbours per user."""
        return self.config.k

    def pack(self, rows: pa.Table) -> Users:
        """Edges of some users (idx, video_idx, x, meets) as vectors."""
        user, video, x, meets = (rows[name].to_numpy() for name in rows.column_names)
        order = np.lexsort((video, user))
        user, video, x, meets = user[order], video[order], x[order], meets[order]
        idx, start, n_positive = np.unique(user, return_index=True, return_counts=True)
        sums = np.add.reduceat(np.stack([x, x * x]), start, axis=1)
        ends = np.cumsum(np.add.reduceat(meets.astype(np.int64), start))
        binary = self.config.signal == "binary"
        everyone = Users(
            idx.astype(np.int32),
            np.concatenate([[0], ends]).astype(np.int64),
            video[meets].astype(np.int32),
            np.zeros(0) if binary else x[meets],
            n_positive.astype(np.int32),
            *sums,
        )
        return everyone.where(n_positive <= self.config.activity_cap)

    def index(self, packed: Users, constants: Mapping[str, Any]) -> tuple[Block, float]:
        """Who viewed what, and N of the fit."""
        n_videos = constants["n_videos"]
        return pearson.block(packed, n_videos), n_videos

    def compare(self, packed: Users, index: tuple[Block, float], best: Lists) -> None:
        """Correlate."""
        other, n_videos = index
        pearson.compare(packed, other, best, n_videos=n_videos, config=self.config)

    def edges(self, packed: Users, best: Lists) -> Edges:
        """Lists as columns."""
        return best.edges(packed.idx, score="pearson", note="n_common")
