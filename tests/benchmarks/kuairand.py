"""The public KuaiRand-Pure files as the graph of a night's trial fit, without Spark.

The same as the pipeline makes of the same log, in two steps of numpy: lines that are equal in all that is read count
once, a line without a length has that of the catalogue, and a day is a UTC day. Two labels: `positive` is the
pipeline's (thresholds of `microrec.events.config`), of exposures that started; `long_view` is the platform's own, of
all exposures.

The past is `train_exposures_last50.parquet`: up to 50 exposures a user before the first day of the log, in order,
without times or surfaces, with `long_view` alone. All of them stand on the day before the log's first, so that they
count in rates and histories of every later day and are nobody's examples of a day.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from microrec.core.pairs import pack, starts
from microrec.core.rows import Rows
from microrec.events.config import Config as Events
from microrec.landing.importers.kuairand import tag_vectors
from microrec.models.inputs.graph_arrays import Graph, build_graph

LONG_VIEW, POSITIVE = "long_view", "positive"
SHANGHAI = "Asia/Shanghai"
EPOCH = dt.date(1970, 1, 1).toordinal()
DAY_US = 86_400_000_000
PAST = "train_exposures_last50.parquet"
REACTIONS = ["is_like", "is_follow", "is_comment", "is_forward"]
NUMBERS = ["time_ms", "play_time_ms", "duration_ms", "is_hate", "long_view", "tab"]
LINE = ["user_id", "video_id", *NUMBERS, *REACTIONS]
CATALOGUE = ["video_id", "author_id", "video_duration", "upload_dt", "tag"]
HISTORY = 100
"""Latest viewings of a user that a row of `sequences` holds."""
INSTANT = pa.timestamp("us", tz="UTC")
STEP = pa.struct([("video_idx", pa.int32()), ("at", INSTANT)])


@dataclass(frozen=True, eq=False)
class Labelled(Rows):
    """Exposures with one label, by time (ties by user_idx, then video_idx).

    Shapes:
        every array: [n_exposures]
    """

    user_idx: NDArray[np.int64]
    video_idx: NDArray[np.int64]
    surface: NDArray[np.int64]
    """Number of the tab, -1 where it is not known."""
    day: NDArray[np.int64]
    """Days since 1970."""
    at: NDArray[np.int64]
    """Microseconds since 1970 UTC."""
    label: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class World:
    """The files, users and videos numbered in the order of their ids."""

    n_users: int
    videos: pa.Table
    """Columns of `video_nodes` and `videos`, by video_idx."""
    features: pa.Table
    """Tag vectors, as `video_features` has them."""
    labelled: dict[str, Labelled]
    """Of the logs, by label."""
    past: Labelled
    """Of the days before; label `long_view`."""
    log: pd.DataFrame
    """The lines of the logs by time, with user_idx and video_idx."""

    @property
    def first_day(self) -> int:
        """First day of the logs, in days since 1970."""
        return int(self.labelled[LONG_VIEW].day.min())

    def rows(self, label: str, *, with_past: bool) -> Labelled:
        """Return the exposures of the logs, those of the past before them if asked.

        Args:
            label: `long_view` or `positive`.
            with_past: for `long_view` alone, the only label the past has.

        Raises:
            ValueError: the past has no such label.
        """
        rows = self.labelled[label]
        if not with_past:
            return rows
        if label != LONG_VIEW:
            raise ValueError(f"{PAST} has no label {label!r}")
        parts = zip(vars(self.past).values(), vars(rows).values(), strict=True)
        return Labelled(*(np.concatenate(pair) for pair in parts))


def read(folder: Path) -> World:
    """Read the logs, the catalogue and the past.

    Args:
        folder: of the public files.
    """
    paths = sorted(folder.glob("log_standard_*.csv.gz"))
    log = pd.concat([pd.read_csv(path, usecols=LINE) for path in paths]).drop_duplicates()
    (catalogue,) = folder.glob("video_features_basic_*.csv.gz")
    videos = pd.read_csv(catalogue, usecols=CATALOGUE, dtype={"tag": str}).drop_duplicates(
        "video_id"
    )
    past = pd.read_parquet(folder / PAST)
    past = past[past["video_id"].isin(videos["video_id"])]
    log = log.merge(videos[["video_id", "video_duration"]], on="video_id", how="inner")
    log["duration_ms"] = log["duration_ms"].where(log["duration_ms"] > 0, log["video_duration"])
    log = log[log["duration_ms"] > 0]
    users = np.unique(np.concatenate([log["user_id"], past["user_id"]]))
    videos = videos.sort_values("video_id").reset_index(drop=True)
    nodes = _nodes(videos, log)
    for frame in (log, past):
        frame["user_idx"] = np.searchsorted(users, frame["user_id"])
        frame["video_idx"] = np.searchsorted(videos["video_id"], frame["video_id"])
    log = log.sort_values(["time_ms", "user_idx", "video_idx"], kind="stable")
    labelled = _labelled(log)
    before = int(labelled[LONG_VIEW].day.min()) - 1
    return World(len(users), nodes, _vectors(nodes), labelled, _past(past, before), log)


def positive_lines(log: pd.DataFrame) -> pd.Series:
    """Return which lines of a log are positive feedback, as `events.signals` has it."""
    config = Events()
    watched = (log["play_time_ms"] >= config.completed_ratio * log["duration_ms"]) | (
        log["play_time_ms"] >= config.long_watch_ms
    )
    return (log["is_hate"] == 0) & ((log[REACTIONS] > 0).any(axis=1) | watched)


def _labelled(log: pd.DataFrame) -> dict[str, Labelled]:
    """The exposures with each label."""
    at = log["time_ms"].to_numpy() * 1000
    disliked = log["is_hate"] > 0
    positive = positive_lines(log)
    started = (positive | disliked | (log["play_time_ms"] > 0)).to_numpy()
    columns = [log[name].to_numpy(np.int64) for name in ("user_idx", "video_idx", "tab")]
    whole = Labelled(*columns, at // DAY_US, at, (log["long_view"] > 0).to_numpy())
    feedback = Labelled(*columns, at // DAY_US, at, positive.to_numpy()).taken(started)
    return {LONG_VIEW: whole, POSITIVE: feedback}


def _past(rows: pd.DataFrame, day: int) -> Labelled:
    """The past, all on one day, in each user's order."""
    rows = rows.sort_values(["pos", "user_idx", "video_idx"], kind="stable")
    n = len(rows)
    return Labelled(
        rows["user_idx"].to_numpy(np.int64),
        rows["video_idx"].to_numpy(np.int64),
        np.full(n, -1),
        np.full(n, day),
        day * DAY_US + rows["pos"].to_numpy(np.int64),
        (rows["long_view"] > 0).to_numpy(),
    )


def _nodes(videos: pd.DataFrame, log: pd.DataFrame) -> pa.Table:
    """Ids, authors, lengths and tags; a video whose length the catalogue lacks has the longest of its lines."""
    of_lines = videos["video_id"].map(log.groupby("video_id")["duration_ms"].max())
    length = videos["video_duration"].where(videos["video_duration"] > 0, of_lines).fillna(0)
    tags = [str(tag).split(",") if pd.notna(tag) else [] for tag in videos["tag"]]
    uploaded = pd.to_datetime(videos["upload_dt"]).dt.tz_localize(SHANGHAI)
    return pa.table(
        {
            "video_idx": pa.array(np.arange(len(videos)), pa.int32()),
            "video_id": videos["video_id"].astype(str).to_list(),
            "author_id": videos["author_id"].astype(str).to_list(),
            "duration_ms": length.to_numpy(np.int64),
            "eligible": np.ones(len(videos), dtype=np.bool_),
            "published_at": pa.array(uploaded, INSTANT),
            "tags": pa.array(tags, pa.list_(pa.string())),
        }
    )


def _vectors(nodes: pa.Table) -> pa.Table:
    vectors, _ = tag_vectors(nodes["tags"].to_pylist())
    rows = pa.table({"video_id": nodes["video_id"], "vector": pa.array(vectors)})
    rows = rows.append_column("modality", pa.array(["tags"] * rows.num_rows))
    return rows.filter(rows["vector"].is_valid())


def graph(world: World, rows: Labelled, day: dt.date, *, example_days: int) -> Graph:
    """Return the graph of a day's trial fit: counts, histories and examples of the days before.

    Args:
        world: the videos.
        rows: with one label; those of the day and later are not read.
        day: held out.
        example_days: days before it whose exposures are the examples of networks.
    """
    number = day.toordinal() - EPOCH
    before = rows.taken(rows.day < number)
    first = max(world.first_day, number - example_days)
    tables = {
        **no_edges(),
        "users": pa.table({"user_idx": np.arange(world.n_users)}),
        "video_nodes": world.videos,
        "videos": world.videos,
        "video_features": world.features,
        "exposure_counts": counts(before, day),
        "exposures": _exposures(before.taken(before.day >= first)),
        "sequences": _sequences(before, np.arange(first, number + 1), world.n_users),
    }
    return build_graph(tables, fit="trial")


def surfaces(numbers: NDArray[np.int64]) -> pa.Array:
    """Return the names of surfaces, null for -1. [n]."""
    return pa.array(
        [f"tab={number}" if number >= 0 else None for number in numbers.tolist()], pa.string()
    )


def no_edges() -> dict[str, pa.Table]:
    """The tables of edges without rows."""
    pairs = {"user_idx": pa.int32(), "video_idx": pa.int32(), "neighbour_idx": pa.int32()}
    sums = {"weight": pa.float64(), "n_views": pa.int64(), "n_positive": pa.int64()}
    types: dict[str, Any] = {**pairs, **sums, "pearson": pa.float64(), "similarity": pa.float64()}
    types |= {"split": pa.string(), "modality": pa.string(), "last_at": INSTANT}
    types["undone"] = pa.bool_()
    empty = pa.schema(list(types.items())).empty_table()
    return dict.fromkeys(("watch_edges", "modality_edges", "user_edges"), empty)


def counts(before: Labelled, day: dt.date) -> pa.Table:
    keys = ["user_idx", "video_idx", "surface", "shown_on"]
    frame = pd.DataFrame(
        dict(
            zip(keys, (before.user_idx, before.video_idx, before.surface, before.day), strict=True)
        )
    )
    counts = (
        frame.assign(label=before.label).groupby(keys)["label"].agg(["size", "sum"]).reset_index()
    )
    return pa.table(
        {
            "day": pa.array([day] * len(counts), pa.date32()),
            "user_idx": pa.array(counts["user_idx"], pa.int32()),
            "video_idx": pa.array(counts["video_idx"], pa.int32()),
            "surface": surfaces(counts["surface"].to_numpy()),
            "shown_on": pa.array(counts["shown_on"].to_numpy(np.int32)).cast(pa.date32()),
            "n_shown": pa.array(counts["size"], pa.int32()),
            "n_positive": pa.array(counts["sum"], pa.int32()),
        }
    )


def _exposures(shown: Labelled) -> pa.Table:
    feedback = np.where(shown.label, "positive", "neutral")
    return pa.table(
        {
            "cut_at": pa.array(shown.day * DAY_US).cast(INSTANT),
            "user_idx": pa.array(shown.user_idx, pa.int32()),
            "video_idx": pa.array(shown.video_idx, pa.int32()),
            "started_at": pa.array(shown.at).cast(INSTANT),
            "feedback": feedback.astype(object),
        }
    )


def _sequences(before: Labelled, cuts: NDArray[np.int64], n_users: int) -> pa.Table:
    """Histories of those who were shown something on a cut's day, of everybody as of the last cut."""
    keys = [pack(before.day, before.user_idx)[before.day >= cuts[0]]]
    keys.append(pack(np.full(n_users, cuts[-1]), np.arange(n_users)))
    keys.append(pack(np.array([cuts[-1] + 1]), np.array([0])))  # the cut that a trial does not see
    key = np.unique(np.concatenate(keys))
    cut, user = key >> 32, key & 0xFFFFFFFF
    liked = before.taken(before.label)
    liked = liked.taken(np.lexsort((liked.video_idx, liked.at, liked.user_idx)))
    end = np.searchsorted(pack(liked.user_idx, liked.day), pack(user, cut))
    begin = np.maximum(np.searchsorted(liked.user_idx, user), end - HISTORY)
    indptr = starts(end - begin)
    step = np.repeat(begin - indptr[:-1], end - begin) + np.arange(indptr[-1])
    arrays = [pa.array(liked.video_idx[step], pa.int32()), pa.array(liked.at[step]).cast(INSTANT)]
    history = pa.ListArray.from_arrays(
        indptr.astype(np.int32), pa.StructArray.from_arrays(arrays, fields=list(STEP))
    )
    nobody = pa.array([[]] * len(key), pa.list_(STEP))
    return pa.table(
        {
            "cut_at": pa.array(cut * DAY_US).cast(INSTANT),
            "user_idx": pa.array(user, pa.int32()),
            "history": history,
            "future": nobody,
        }
    )
