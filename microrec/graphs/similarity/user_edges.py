"""The implicit user network: each user's most correlated users.

The first stage of DMR (Lu et al. 2021, arXiv 2110.03902), exact. `pearson.py` has the formula and
computes it; this module turns the watch graph into users' vectors. N is the number of videos that
any user viewed positively within the fit.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from microrec.core.fits import FINAL, FITS, splits_of
from microrec.graphs.similarity import pearson, reuse
from microrec.graphs.similarity.blocks import nearest
from microrec.graphs.similarity.measures import Measure, sampled, shape, share
from microrec.graphs.similarity.pearson import Block, Config, Users
from microrec.graphs.similarity.reuse import FULL, Plan
from microrec.graphs.similarity.running_topk import Edges, Lists

logger = logging.getLogger(__name__)

FORMAT = 1
"""Counts up with every change of this code, or the kernel's, that gives other rows."""
SOURCE = "final"
"""Yesterday's fit whose lists are taken. It ends where today's `trial` does and a day before
`final`, so to both of them it is nearer than yesterday's `trial`."""
SAMPLE = 1000
"""Users whose lists are compared with the exact ones where there is a cap, about."""
Plans = Mapping[str, Plan]
"""A plan per fit."""
POSITIVE, UNDONE, PART = 1, 2, 4
"""Of a mark: any positive viewing, an undo, and from here up the place of the part in time."""


class Inputs(NamedTuple):
    """Inputs of a night's networks; `n_videos` is N of each fit, see `count_videos`."""

    watch_edges: DataFrame
    users: DataFrame
    video_nodes: DataFrame
    n_users: int
    n_videos: Mapping[str, int]

    @classmethod
    def of(
        cls,
        watch_edges: DataFrame,
        users: DataFrame,
        video_nodes: DataFrame,
        *,
        n_users: int,
        config: Config,
    ) -> "Inputs":
        """Return the tables of a day with the N of each fit.

        Args:
            watch_edges: `watch_edges` of the day.
            users: `users` of the day.
            video_nodes: `video_nodes` of the day.
            n_users: users of the day, indexed from 0.
            config: N, if it is fixed.
        """
        n_videos = {fit: count_videos(watch_edges, fit=fit, config=config) for fit in FITS}
        return cls(watch_edges, users, video_nodes, n_users, n_videos)


def networks(tonight: Inputs, plans: Plans, *, config: Config) -> DataFrame:
    """Build the networks of both fits: rows of `user_edges`.

    Args:
        tonight: inputs of the night.
        plans: what to reuse of yesterday's lists, per fit.
        config: signal, thresholds, caps.

    Returns:
        One row per (fit, user_idx, neighbour_idx): pearson > 0, n_common and rank.
    """
    edges = []
    for fit, plan in plans.items():
        logger.info("table=user_edges fit=%s %s", fit, plan)
        n_users = tonight.n_users
        n_videos = tonight.n_videos[fit]
        watched = tonight.watch_edges
        edges.append(
            user_edges(
                watched, fit=fit, n_users=n_users, n_videos=n_videos, config=config, plan=plan
            )
        )
    return reduce(DataFrame.unionByName, edges)


def user_edges(
    watch_edges: DataFrame,
    *,
    fit: str,
    n_users: int,
    n_videos: int,
    config: Config,
    plan: Plan = FULL,
) -> DataFrame:
    """Connect each user to the most correlated users of a fit.

    Of a video with more than `hub_cap` viewers only the latest `hub_cap` (ties by user_idx) take
    part in the dot products; the sums stay full. So n_common and pearson are exact whenever no
    shared video is above the cap, and too low otherwise.

    Args:
        watch_edges: edges of all parts.
        fit: name of the fit.
        n_users: users of the day, indexed from 0.
        n_videos: N, see `count_videos`.
        config: signal, thresholds, caps.
        plan: what to reuse of yesterday's lists; changes no row.

    Returns:
        One row per (user_idx, neighbour_idx): fit, pearson > 0, n_common and rank.
    """
    edges = reuse.lists(
        vectors(watch_edges, fit=fit, config=config),
        plan,
        partial(_nearest, n_users=n_users, n_videos=n_videos, config=config),
        score=["pearson"],
        k=config.k,
    )
    return edges.withColumnRenamed("idx", "user_idx").withColumn("fit", F.lit(fit))


def obstacles(config: Config) -> tuple[str, ...]:
    """Return why no night can reuse yesterday's lists: scores that change although neither user did.

    `signal`: weights fade every day. `hub_cap`: a new viewer of a video displaces another.
    """
    reasons = {"signal": config.signal != "binary", "hub_cap": config.hub_cap is not None}
    return tuple(name for name, applies in reasons.items() if applies)


def plans(tonight: Inputs, before: Inputs, edges: DataFrame, *, config: Config) -> Plans:
    """Find which of yesterday's lists each fit can reuse, if nothing is in the way (`obstacles`).

    A user is touched if the set of the videos of their vector is not what it was. Every score
    depends on N, so with another N no list stands: `n_videos` of the config keeps it.

    Args:
        tonight: inputs of the night.
        before: inputs of the night before it.
        edges: `user_edges` of its fit `SOURCE`, made of these inputs with this config: one row per
            (user_idx, neighbour_idx).
        config: of both nights.

    Returns:
        What to reuse, or the reason for a full build, per fit.
    """
    users = reuse.index_map(before.users, tonight.users, "user")
    videos = reuse.index_map(before.video_nodes, tonight.video_nodes, "video")
    lists = reuse.reindexed(
        edges.select(
            F.col("user_idx").alias("idx"), "neighbour_idx", "pearson", "n_common", "rank"
        ),
        users,
    )
    # A video that is gone is null, and so none of today's.
    was = (
        _standing(_seen(before.watch_edges, SOURCE))
        .join(users.toDF("user_idx", "idx"), on="user_idx", how="inner")
        .join(videos.toDF("video_idx", "video"), on="video_idx", how="left")
        .select("idx", "video")
    )
    fit_plans = {}
    for fit, n_videos in tonight.n_videos.items():
        if n_videos != before.n_videos[SOURCE]:
            fit_plans[fit] = Plan(("n_videos",))
        else:
            marks = _marks(_seen(tonight.watch_edges, fit), was)
            fit_plans[fit] = reuse.plan(reuse.find_change(lists, marks, within=[], k=config.k))
    return fit_plans


def count_videos(watch_edges: DataFrame, *, fit: str, config: Config) -> int:
    """Return N of a fit: the config's, or the number of videos any user viewed positively, undone or not.

    Args:
        watch_edges: edges of all parts, one row per (split, user_idx, video_idx).
        fit: name of the fit.
        config: N, if it is fixed.
    """
    if config.n_videos is not None:
        return config.n_videos
    seen = _seen(watch_edges, fit).where(F.col("n_positive") > 0)
    return seen.select("video_idx").distinct().count()


def vectors(
    watch_edges: DataFrame, *, fit: str, config: Config, within: Sequence[str] = ()
) -> DataFrame:
    """Select the entries of the users' vectors of a fit.

    Args:
        watch_edges: edges of all parts.
        fit: name of the fit.
        config: signal and hub cap.
        within: columns that name the night, if edges belong to several; they are kept.

    Returns:
        One row per (within, idx, video_idx, part): mark and, if used, weight and meets.
        `Correlation.pack` joins the parts of a pair.
    """
    seen = _seen(watch_edges, fit)
    positive = F.col("n_positive") > 0
    undone = F.col("undone")
    mark = _place(F.col("split")) * PART + _bit(positive, POSITIVE) + _bit(undone, UNDONE)
    columns = [F.col("user_idx").alias("idx"), F.col("video_idx"), mark.alias("mark")]
    columns += map(F.col, within)
    if config.signal == "weight":
        columns.append(F.col("weight"))
    if config.hub_cap is not None:
        seen = _capped(seen, hub_cap=config.hub_cap, within=within)
        columns.append(F.col("meets"))
    return seen.where(positive | undone).select(*columns)


def measure(inputs: Inputs, edges: DataFrame, *, config: Config) -> list[Measure]:
    """Measure the sizes of the networks and, with a hub cap, the share of the true neighbours they keep.

    Args:
        inputs: inputs of the night.
        edges: `user_edges` of both fits, as they were written.
        config: as for the edges.

    Returns:
        Rows of `metrics`: edges, lists, largest_in_degree and, with a hub cap, kept_of_exact@k.
    """
    figures = shape(edges, name="fit")
    if config.hub_cap is None:
        return figures
    exact = config.model_copy(update={"hub_cap": None})
    n_users = inputs.n_users
    for fit, n in inputs.n_videos.items():
        wanted = sampled(F.col("idx"), min(1.0, SAMPLE / n_users))
        of_fit = vectors(inputs.watch_edges, fit=fit, config=exact).withColumn("wanted", wanted)
        true = _nearest(of_fit, n_users=n_users, n_videos=n, config=exact).select(
            F.col("idx").alias("user_idx"), "neighbour_idx"
        )
        kept_edges = edges.where(F.col("fit") == fit).select(
            "user_idx", "neighbour_idx", F.lit(1).alias("kept")
        )
        joined = true.join(kept_edges, on=["user_idx", "neighbour_idx"], how="left")
        total = joined.agg(F.count("kept"), F.count("*"), F.count_distinct("user_idx")).head()
        n_kept, n_exact, n_sampled = total if total is not None else (0, 0, 0)
        figures.append(
            share(fit, f"kept_of_exact@{config.k}", n_kept / n_exact if n_exact else 1.0, n_sampled)
        )
        logger.info(
            "table=user_edges fit=%s kept_of_exact=%.4f users=%d",
            fit,
            n_kept / max(n_exact, 1),
            n_sampled,
        )
    return figures


def _nearest(rows: DataFrame, *, n_users: int, n_videos: int, config: Config) -> DataFrame:
    return nearest(
        rows, Correlation(config, n_videos), within=[], n_rows=n_users, block_size=config.block_size
    )


def _place(split: Column) -> Column:
    """Position of a part in time, 1 for the earliest."""
    first, *others = splits_of(FINAL)
    place = F.when(split == first, 1)
    for number, name in enumerate(others, start=2):
        place = place.when(split == name, number)
    return place


def _bit(condition: Column, bit: int) -> Column:
    return F.when(condition, bit).otherwise(0)


def _seen(watch_edges: DataFrame, fit: str) -> DataFrame:
    return watch_edges.where(F.col("split").isin(*splits_of(fit)))


def _standing(seen: DataFrame, within: Sequence[str] = ()) -> DataFrame:
    """Pairs that count: liked, and not undone in a later part; one row per pair, with last_at."""
    positive = F.col("n_positive") > 0
    place = _place(F.col("split"))
    pairs = seen.groupBy(*within, "video_idx", "user_idx").agg(
        F.max(F.when(positive, F.col("last_at"))).alias("last_at"),
        F.max(F.when(positive, place)).alias("liked"),
        F.max(F.when(F.col("undone"), place)).alias("undone"),
    )
    return pairs.where(F.col("liked") >= F.coalesce("undone", F.lit(0)))


def _marks(seen: DataFrame, was: DataFrame) -> DataFrame:
    """Users with a vector: idx, touched.

    Args:
        seen: tonight's edges of a fit.
        was: the pairs that counted yesterday: idx, video, by today's indices.
    """
    now = _standing(seen).select(F.col("user_idx").alias("idx"), F.col("video_idx").alias("video"))
    both = now.withColumn("is", F.lit(True)).unionByName(was.withColumn("is", F.lit(False)))
    pairs = both.groupBy("idx", "video").agg(
        F.bool_or("is").alias("is"), (F.bool_and("is") | ~F.bool_or("is")).alias("differs")
    )
    users = pairs.groupBy("idx").agg(
        F.bool_or("is").alias("is"), F.bool_or("differs").alias("touched")
    )
    return users.where("is").drop("is")


def _capped(seen: DataFrame, *, hub_cap: int, within: Sequence[str]) -> DataFrame:
    """The same rows; `meets` is false for all but a video's latest viewers."""
    video = [*within, "video_idx"]
    pair = [*within, "video_idx", "user_idx"]
    latest = Window.partitionBy(*video).orderBy(F.col("last_at").desc(), "user_idx")
    viewers = _standing(seen, within).withColumn("meets", F.row_number().over(latest) <= hub_cap)
    return seen.join(viewers.select(*pair, "meets"), on=pair, how="left")


@dataclass(frozen=True)
class Correlation:
    """The kernel of `blocks.nearest`."""

    config: Config
    n_videos: int
    measures = "pearson double, n_common int"

    @property
    def k(self) -> int:
        """Neighbours per user."""
        return self.config.k

    def pack(self, rows: pa.Table) -> Users:
        """Return the rows of `vectors` of a block as users' vectors [n].

        Joins the parts of a pair: what came before the latest undo does not count, weights are added.
        """
        columns = {name: rows[name].to_numpy() for name in rows.column_names}
        # A number per row that no other has: sorted faster than by columns, and in one way only.
        key = columns["idx"].astype(np.uint64) << 33 | columns["video_idx"].astype(np.uint64) << 2
        order = np.argsort(key | (columns["mark"] // PART).astype(np.uint64))
        user, video, mark = (columns[name][order] for name in ("idx", "video_idx", "mark"))
        ones = np.ones(len(order))
        weight = columns["weight"][order] if "weight" in columns else ones
        meets = columns["meets"][order] == 1 if "meets" in columns else ones > 0
        is_first = np.ones(len(order), dtype=bool)
        is_first[1:] = (np.diff(user) != 0) | (np.diff(video) != 0)
        first = np.flatnonzero(is_first)
        pair = np.cumsum(is_first) - 1
        part = mark // PART
        undone = np.maximum.reduceat(np.where(mark & UNDONE, part, 0), first)
        counts = ((mark & POSITIVE) > 0) & (part >= undone[pair])
        x = np.bincount(pair, weights=weight * counts, minlength=len(first)).astype(np.float64)
        kept = (np.bincount(pair, weights=counts, minlength=len(first)) > 0) & (x > 0)
        if self.config.signal == "binary":
            x = np.ones_like(x)
        return self._users(user[first][kept], video[first][kept], x[kept], meets[first][kept])

    def index(self, packed: Users) -> Block:
        """Return the block inverted: the viewers of each video."""
        return pearson.block(packed, float(self.n_videos))

    def compare(self, packed: Users, index: Block, best: Lists) -> None:
        """Offer the users of an indexed block to the lists of a packed one.

        Args:
            packed: the users whose lists are kept.
            index: an indexed block.
            best: lists of the packed users, changed in place.
        """
        n_videos = float(self.n_videos)
        pearson.compare(packed, index, best, n_videos=n_videos, config=self.config)

    def edges(self, packed: Users, best: Lists) -> Edges:
        """Return the lists as columns: idx, neighbour_idx, pearson, n_common, rank.

        Args:
            packed: the users whose lists are kept.
            best: their lists.
        """
        return best.edges(packed.idx, score="pearson", note="n_common")

    def _users(
        self,
        user: NDArray[np.int32],
        video: NDArray[np.int32],
        x: NDArray[np.float64],
        meets: NDArray[np.bool_],
    ) -> Users:
        """Build users' vectors from distinct pairs in order, of the users within the activity cap."""
        idx, n_positive = np.unique(user, return_counts=True)
        row = np.repeat(np.arange(len(idx)), n_positive)
        ends = np.cumsum(np.bincount(row, weights=meets, minlength=len(idx)))
        users = Users(
            idx.astype(np.int32),
            np.concatenate([[0], ends]).astype(np.int64),
            video[meets].astype(np.int32),
            x[meets] if self.config.signal == "weight" else x[:0],
            n_positive.astype(np.int32),
            np.bincount(row, weights=x, minlength=len(idx)).astype(np.float64),
            np.bincount(row, weights=x * x, minlength=len(idx)).astype(np.float64),
        )
        return users.where(n_positive <= self.config.activity_cap)
