"""Trial nights of the public KuaiRand-Pure files without Spark: tables, fits, candidates.

What a night's trial sees of the log, made of `kuairand.World` in a few steps of numpy: the watch graph in its three
parts, neighbours of videos by tags (exact cosine, ties by chance), counts of exposures. Models are fitted and asked by
the recipe. Where the pipeline's rules differ, they differ in this: strengths are compared within the UTC day of the
viewing, not the day of arrival, and ties among neighbours go by another hash.
"""

import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import rankdata

from microrec.candidates.lists import ladder
from microrec.config import recipe
from microrec.core import fits, knowledge
from microrec.core.directions import directions
from microrec.core.rates import duration_bucket
from microrec.evaluation import truth
from microrec.graphs.similarity.modality_edges import Config as ModalityGraph
from microrec.graphs.watch.watch_edges import Config as WatchGraph
from microrec.models.inputs.graph_arrays import build_graph
from tests.benchmarks import kuairand, nights
from tests.benchmarks.kuairand import EPOCH, INSTANT, POSITIVE, World
from tests.benchmarks.nights import Night
from tests.benchmarks.quality import Case

PAIR = ["split", "user_idx", "video_idx"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Trial:
    """One day held out: tables, and what the sources propose."""

    night: Night
    edges: pa.Table
    """`watch_edges`."""
    lists: Mapping[str, pa.Table]
    """`candidates` by source."""


def trial(world: World, day: dt.date, models: Sequence[str]) -> Trial:
    """Return a day's trial: every model fitted to the days before and asked.

    Args:
        world: the files.
        day: held out.
        models: names of the sources.
    """
    edges = watch_edges(world.log, day)
    night = read(world, edges, day)
    lists = {}
    for name in models:
        fitted = nights.fit(night, nights.released(name), 0)
        logger.info("%s %s: %.0f s", day, name, fitted.seconds)
        lists[name] = nights.candidates(night, fitted.fitted)
    return Trial(night, edges, lists)


def read(world: World, edges: pa.Table, day: dt.date) -> Night:
    """Return a day's trial as `nights.read` does.

    Args:
        world: the files.
        edges: `watch_edges` of the day.
        day: held out.
    """
    users = pa.table({"user_idx": np.arange(world.n_users)})
    before = world.labelled[POSITIVE]
    before = before.taken(before.day < day.toordinal() - EPOCH)
    tables = {
        **kuairand.no_edges(),
        "watch_edges": edges,
        "users": users,
        "video_nodes": world.videos,
        "videos": world.videos,
        "video_features": world.features,
        "modality_edges": modality_edges(world),
        "exposure_counts": kuairand.counts(before, day),
    }
    horizon = fits.horizon(day, "trial")
    known = knowledge.knowledge(
        edges, world.videos, n_users=world.n_users, fit="trial", until=horizon
    )
    right = truth.truth(edges, world.videos)
    steps = recipe.current().section("candidates.ladder", ladder.Config)
    rungs = ladder.rungs(edges, world.videos, known=known, fit="trial", until=horizon, config=steps)
    graph = build_graph(tables, fit="trial")
    names = np.arange(world.n_users).astype(str)
    case = Case(day.isoformat(), right, known)
    return Night(day, graph, case, right.users, names, ladder.climb(rungs))


def watch_edges(log: pd.DataFrame, day: dt.date) -> pa.Table:
    """Return the table `watch_edges` of a day: train, validation and holdout.

    Args:
        log: lines of the logs, as `World.log`.
        day: held out.
    """
    shown = strengths(log)
    age = day.toordinal() - EPOCH - shown["day"]
    shown = shown[age >= 0].assign(age=age)
    shown["split"] = np.select([shown["age"] == 0, shown["age"] == 1], fits.SPLITS[:0:-1], "train")
    disliked = shown[shown["disliked"]].groupby(PAIR)["at"].max().rename("undone_at")
    shown = shown.join(disliked, on=PAIR)
    counts = shown["undone_at"].isna() | (shown["at"] > shown["undone_at"])
    faded = 0.5 ** (shown["age"] / WatchGraph().half_life_days)
    shown["weight"] = np.where(counts & ~shown["negative"], shown["strength"] * faded, 0.0)
    shown["positive"] &= counts
    edges = shown.groupby(PAIR).agg(
        weight=("weight", "sum"),
        n_views=("at", "size"),
        n_positive=("positive", "sum"),
        n_negative=("negative", "sum"),
        undone=("disliked", "any"),
        last_at=("at", "max"),
    )
    table = pa.Table.from_pandas(edges.reset_index(), preserve_index=False)
    for name in ("user_idx", "video_idx"):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table[name].cast(pa.int32()))
    at = table.schema.get_field_index("last_at")
    return table.set_column(at, "last_at", table["last_at"].cast(INSTANT))


def strengths(log: pd.DataFrame) -> pd.DataFrame:
    """Return day, instant, feedback and strength of every line of a log.

    Args:
        log: as `World.log`.
    """
    at = log["time_ms"].to_numpy() * 1000
    watched = log["play_time_ms"].to_numpy()
    positive = kuairand.positive_lines(log).to_numpy()
    disliked = (log["is_hate"] > 0).to_numpy()
    config = kuairand.Events()
    short = (watched < config.skip_ms) & (watched > 0)
    rows = pd.DataFrame(
        {
            "user_idx": log["user_idx"].to_numpy(),
            "video_idx": log["video_idx"].to_numpy(),
            "at": at,
            "day": at // kuairand.DAY_US,
            "positive": positive,
            "disliked": disliked,
            "negative": disliked | (short & ~positive),
        }
    )
    bucket = duration_bucket(log["duration_ms"].to_numpy())
    rows["strength"] = 0.5
    for _, members in rows[watched > 0].groupby(["day", bucket[watched > 0]]).groups.items():
        ranks = rankdata(watched[members])
        rows.loc[members, "strength"] = (ranks - 0.5) / len(members)
    return rows


def modality_edges(world: World) -> pa.Table:
    """Return the table `modality_edges` of the tags; ties in a random order, another one for each video."""
    ids = pd.Index(world.videos["video_id"].to_pylist())
    at = ids.get_indexer(world.features["video_id"].to_pylist())
    vector = directions(np.stack(world.features["vector"].to_numpy())).astype(np.float32)
    cosine = np.round(vector @ vector.T, 5)
    np.fill_diagonal(cosine, -1.0)
    cosine += np.random.default_rng(1).random(cosine.shape, dtype=np.float32) * 5e-6
    k = ModalityGraph().k
    best = np.argpartition(-cosine, k, axis=1)[:, :k]
    similarity = np.take_along_axis(cosine, best, axis=1)
    row, place = np.nonzero(similarity > 1e-5)
    columns: dict[str, NDArray[np.generic]] = {
        "video_idx": at[row].astype(np.int32),
        "neighbour_idx": at[best[row, place]].astype(np.int32),
        "similarity": np.minimum(similarity[row, place], 1.0).astype(np.float32),
    }
    return pa.table({"modality": ["tags"] * len(row), **columns})
