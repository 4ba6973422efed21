"""What similar users watched next, as of a cut: fragments of the implicit user network (Lu et al. 2021).

Of each user's anchors (the latest distinct videos) and each neighbour who has touched one: the viewings that follow the
neighbour's last touch, each with weight pearson * exp(-age / tau). Users without any get what whoever touched an anchor
watched next. A task has a cut, the positive viewings of everybody before it, and the networks of some users; looked up
in arrays, as joins would make a row of every edge and anchor, of which nine in ten have no fragment.

Weights are added on a grid of 2**-40 (`watch.sums`), so the order of rows changes no digit.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from microrec.core.pairs import positions
from microrec.graphs.watch.sums import UNIT

NEIGHBOURS, SUCCESSORS, NONE = SOURCES = ("neighbours", "successors", "none")
"""Where a future comes from."""
VIEWING, EDGE, WANTED = range(3)
"""Kinds of rows a task gets."""
USER, OTHER = pa.field("user_idx", pa.int32()), pa.field("other_idx", pa.int32())
COLUMNS = {
    VIEWING: pa.schema([USER, OTHER, pa.field("at", pa.int64())]),
    EDGE: pa.schema([USER, OTHER, pa.field("pearson", pa.float64())]),
    WANTED: pa.schema([USER]),
}
"""What is read of each."""
MICROS_PER_DAY = 86_400e6
NEVER = np.iinfo(np.int64).min

Longs = NDArray[np.int64]
Indices = NDArray[np.int32]


class Config(BaseModel):
    """How futures are looked up, and how fast they fade."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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


class Watched(NamedTuple):
    """Positive viewings before a cut, by user, then instant, then video.

    Shapes:
        start: int64 [n_users + 1]; video: int32 [n]; at: int64 [n], microseconds; fresh: float64 [n]
        touch: int64 [n_touches]; first_touch: int64 [n_users + 1]
    """

    start: Longs
    video: Indices
    at: Longs
    fresh: NDArray[np.float64]
    """exp(-age / tau) of each viewing as of the cut."""
    touch: Longs
    """Position of each user's last viewing of each video: by user, latest first."""
    first_touch: Longs


class Fragments(NamedTuple):
    """The touches whose continuations are looked up, in the order of a key: users, or videos.

    Shapes:
        start: int64 [n_keys + 1]; video: int32 [n]; touch: int64 [n], positions in `Watched`
    """

    start: Longs
    video: Indices
    touch: Longs


class Futures(NamedTuple):
    """Lists of videos, by instant, then video.

    Shapes:
        size: int64 [n_lists]; video: int32 [n]; at: int64 [n]; weight: int64 [n], in units of 2**-40
    """

    size: Longs
    video: Indices
    at: Longs
    weight: Longs


class Network(NamedTuple):
    """Neighbours of some users.

    Shapes:
        start, end: int64 [n_users]; neighbour: int32 [n_edges]; pearson: float64 [n_edges]
    """

    start: Longs
    end: Longs
    neighbour: Indices
    pearson: NDArray[np.float64]


class Successors(NamedTuple):
    """Of each video the videos that followed it, heaviest first.

    Shapes:
        size: int64 [n_videos]; video: int32 [n_videos, k]; at, weight: int64 [n_videos, k]
    """

    size: Longs
    video: Indices
    at: Longs
    weight: Longs


class Lengths(NamedTuple):
    """The lengths of a `Config`, for compiled code."""

    anchors: int
    fragment: int
    future: int
    successors: int


class Sums(NamedTuple):
    """What a list is added up in.

    Shapes:
        weight, at: int64 [n_videos]; listed: int32 [n_videos], those that have any; watcher: int64 [n_videos]
    """

    weight: Longs
    at: Longs
    """Latest instant of what was added, `NEVER` where there is nothing."""
    listed: Indices
    watcher: Longs
    """The last user that was asked for who has watched the video."""


def watched(rows: pa.Table, *, cut: int, n_users: int, config: Config) -> Watched:
    """Sort the positive viewings before a cut, and find each user's last of each video.

    Args:
        rows: user_idx, other_idx (the video) and at (microseconds), in any order, all before the cut. [n]
        cut: microseconds.
        n_users: greatest user_idx + 1.
        config: has tau.
    """
    user, video, at = (rows[name].to_numpy() for name in ("user_idx", "other_idx", "at"))
    order = np.lexsort((video, at, user))
    user, video, at = user[order], video[order], at[order]
    start = np.searchsorted(user, np.arange(n_users + 1))
    n_videos = int(video.max()) + 1 if len(video) else 0
    touch, first_touch = _touches(start, video, n_videos)
    fresh = np.exp((at - cut) / MICROS_PER_DAY / config.tau_days)
    return Watched(start, video, at, fresh, touch, first_touch)


def fragments(seen: Watched, config: Config) -> tuple[Fragments, Fragments]:
    """Select the touches whose continuations are looked up.

    Those that something followed, without the ones of bots, and of each video the latest `touch_cap` (ties by
    user_idx). With few users nobody is a bot: the quantile is the count of an existing user.

    Args:
        seen: the viewings before the cut.
        config: quantile of activity, cap and length.

    Returns:
        The same touches by user, then video, and by video.
    """
    n_users = len(seen.start) - 1
    n_positive = np.diff(seen.start)
    counts = np.sort(n_positive[n_positive > 0])
    if not len(counts):
        nothing = np.zeros(0, np.int64)
        none = Fragments(np.zeros(n_users + 1, np.int64), nothing.astype(np.int32), nothing)
        return none, none._replace(start=np.zeros(1, np.int64))
    most = counts[max(0, int(np.ceil(config.activity_quantile * len(counts))) - 1)]
    user = np.repeat(np.arange(n_users), np.diff(seen.first_touch))
    end = np.minimum(seen.touch + config.fragment_length, seen.start[user + 1] - 1)
    # A viewing of the same instant takes a place, but follows nothing.
    followed = seen.at[end] > seen.at[seen.touch]
    kept = np.flatnonzero(followed & (n_positive[user] <= most))
    video = seen.video[seen.touch[kept]]
    kept = kept[np.lexsort((user[kept], -seen.at[seen.touch[kept]], video))]
    video = seen.video[seen.touch[kept]]
    _, place = positions(np.bincount(video))
    kept = kept[place < config.touch_cap]
    video = seen.video[seen.touch[kept]]
    n_videos = int(seen.video.max()) + 1
    by_video = Fragments(np.searchsorted(video, np.arange(n_videos + 1)), video, seen.touch[kept])
    order = np.lexsort((video, user[kept]))
    start = np.searchsorted(user[kept][order], np.arange(n_users + 1))
    return Fragments(start, video[order], seen.touch[kept][order]), by_video


def of_users(
    seen: Watched, edges: pa.Table, wanted: Indices, config: Config
) -> tuple[Futures, NDArray[np.bool_]]:
    """Return the futures of some users as of a cut, and whether neighbours gave them: else successors did, or nobody.

    Args:
        seen: the viewings before the cut.
        edges: user_idx, other_idx (the neighbour) and pearson, in any order. [n_edges]
        wanted: user_idx, each once. [n_lists]
        config: lengths and cap.

    Returns:
        A list per wanted user, empty where there is nothing, and bool [n_lists].
    """
    by_user, by_video = fragments(seen, config)
    lengths = Lengths(
        config.n_anchors, config.fragment_length, config.future_length, config.n_successors
    )
    order = np.argsort(edges["user_idx"].to_numpy(), kind="stable")
    user, neighbour, pearson = (edges[name].to_numpy()[order] for name in edges.column_names)
    start, end = (np.searchsorted(user, wanted, side=side) for side in ("left", "right"))
    near, n_near = _from_neighbours(
        wanted, Network(start, end, neighbour, pearson), seen, by_user, lengths
    )
    without = near.size == 0
    heaviest = _heaviest(seen, by_video, lengths)
    far, n_far = _from_successors(wanted[without], heaviest, seen, lengths)
    return _merged(near, far, n_near=n_near, n_far=n_far), ~without


def compile_kernels() -> None:
    """Look up the futures of nobody, so that numba keeps its machine code on disk."""
    config = Config()
    seen = watched(COLUMNS[VIEWING].empty_table(), cut=0, n_users=1, config=config)
    of_users(seen, COLUMNS[EDGE].empty_table(), np.zeros(0, np.int32), config)


def of_tasks(
    batches: Iterator[pa.RecordBatch], *, config: Config, n_users: int, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Return the futures of the tasks whose rows a partition has: for `mapInArrow`.

    Args:
        batches: cut_at, kind, user_idx, other_idx, at and pearson; rows of `kind` VIEWING have a video and an instant,
            of EDGE a neighbour and a correlation, of WANTED neither.
        config: lengths and cap.
        n_users: greatest user_idx + 1.
        schema: of the result.

    Yields:
        cut_at, user_idx, future_from and future, of those who have one.
    """
    for cut, (viewings, edges, wanted) in _tasks(batches).items():
        seen = watched(viewings, cut=cut, n_users=n_users, config=config)
        users = np.array(wanted["user_idx"], np.int32)
        futures, is_near = of_users(seen, edges, users, config)
        yield _batch(cut, users, futures, is_near, schema)


def _tasks(batches: Iterator[pa.RecordBatch]) -> dict[int, list[pa.Table]]:
    """The rows of each cut by kind, with the columns that are read: there are many edges."""
    held: dict[int, list[list[pa.RecordBatch]]] = {}
    for batch in batches:
        for cut in batch.column("cut_at").unique().to_pylist():
            of_cut = batch.filter(pc.equal(batch.column("cut_at"), cut))
            kinds = held.setdefault(cut, [[] for _ in COLUMNS])
            for kind, schema in COLUMNS.items():
                rows = of_cut.filter(pc.equal(of_cut.column("kind"), kind))
                columns = [rows.column(name) for name in schema.names]
                kinds[kind].append(pa.RecordBatch.from_arrays(columns, schema=schema))
    return {
        cut: [pa.Table.from_batches(kinds[kind], schema=COLUMNS[kind]) for kind in COLUMNS]
        for cut, kinds in held.items()
    }


def _batch(
    cut: int, users: Indices, futures: Futures, is_near: NDArray[np.bool_], schema: pa.Schema
) -> pa.RecordBatch:
    is_listed = futures.size > 0
    video = pa.struct(schema.field("future").type.value_type)
    values = pa.StructArray.from_arrays(
        [
            pa.array(futures.video),
            pa.array(futures.at, video.field("at").type),
            pa.array(futures.weight / UNIT),
        ],
        fields=list(video),
    )
    offsets = np.concatenate([[0], np.cumsum(futures.size[is_listed])]).astype(np.int32)
    columns = [
        pa.array(np.full(int(is_listed.sum()), cut), pa.int64()),
        pa.array(users[is_listed], pa.int32()),
        pa.array(np.where(is_near[is_listed], NEIGHBOURS, SUCCESSORS).tolist(), pa.string()),
        pa.ListArray.from_arrays(pa.array(offsets), values, type=schema.field("future").type),
    ]
    return pa.RecordBatch.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )


def _merged(near: Futures, far: Futures, *, n_near: int, n_far: int) -> Futures:
    """The lists of both in one order: `far` has one for each empty one of `near`."""
    without = np.flatnonzero(near.size == 0)
    size = near.size.copy()
    size[without] = far.size
    owner = [np.repeat(np.arange(len(size)), near.size), np.repeat(without, far.size)]
    order = np.argsort(np.concatenate(owner), kind="stable")
    return Futures(
        size,
        np.concatenate([near.video[:n_near], far.video[:n_far]])[order],
        np.concatenate([near.at[:n_near], far.at[:n_far]])[order],
        np.concatenate([near.weight[:n_near], far.weight[:n_far]])[order],
    )


@njit(cache=True)
def _touches(start: Longs, video: Indices, n_videos: int) -> tuple[Longs, Longs]:
    """Last viewings of each video by user, latest first, and where each user's begin."""
    n_users = len(start) - 1
    seen_by = np.full(n_videos, -1, np.int64)
    touch = np.empty(len(video), np.int64)
    first = np.zeros(n_users + 1, np.int64)
    n = 0
    for user in range(n_users):
        for place in range(start[user + 1] - 1, start[user] - 1, -1):
            if seen_by[video[place]] != user:
                seen_by[video[place]] = user
                touch[n] = place
                n += 1
        first[user + 1] = n
    return touch[:n], first


@njit(cache=True)
def _from_neighbours(
    users: Indices, network: Network, seen: Watched, fragments: Fragments, config: Lengths
) -> tuple[Futures, int]:
    """The lists of users from what their neighbours watched after an anchor, and how long they are together."""
    sums = _sums(seen)
    lists = _room(len(users), config.future)
    n = 0
    for row in range(len(users)):
        first, last = seen.first_touch[users[row]], seen.first_touch[users[row] + 1]
        n_added = 0
        for anchor in range(first, min(first + config.anchors, last)):
            video = seen.video[seen.touch[anchor]]
            for edge in range(network.start[row], network.end[row]):
                touch = _find(fragments, network.neighbour[edge], video)
                if touch >= 0:
                    weight = network.pearson[edge]
                    n_added = _follow(sums, n_added, seen, touch, weight, config.fragment)
        videos = _new_to(users[row], sums, n_added, seen)
        n = _put(lists, row, n, sums, _most(sums, videos, config.future))
        _clear(sums, n_added)
    return lists, n


@njit(cache=True)
def _from_successors(
    users: Indices, heaviest: Successors, seen: Watched, config: Lengths
) -> tuple[Futures, int]:
    """The lists of users from what anybody watched after an anchor, and how long they are together."""
    sums = _sums(seen)
    lists = _room(len(users), config.future)
    n = 0
    for row in range(len(users)):
        first, last = seen.first_touch[users[row]], seen.first_touch[users[row] + 1]
        n_added = 0
        for anchor in range(first, min(first + config.anchors, last)):
            of = seen.video[seen.touch[anchor]]
            for rank in range(heaviest.size[of]):
                video, at = heaviest.video[of, rank], heaviest.at[of, rank]
                n_added += _add(sums, n_added, video, heaviest.weight[of, rank], at)
        videos = _new_to(users[row], sums, n_added, seen)
        n = _put(lists, row, n, sums, _most(sums, videos, config.future))
        _clear(sums, n_added)
    return lists, n


@njit(cache=True)
def _heaviest(seen: Watched, fragments: Fragments, config: Lengths) -> Successors:
    """Of each video the videos that followed it with most weight."""
    n_videos = len(fragments.start) - 1
    shape = (n_videos, config.successors)
    sums = _sums(seen)
    size = np.zeros(n_videos, np.int64)
    video, weight, at = (
        np.zeros(shape, np.int32),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
    )
    for anchor in range(n_videos):
        n_added = 0
        for number in range(fragments.start[anchor], fragments.start[anchor + 1]):
            touch = fragments.touch[number]
            n_added = _follow(sums, n_added, seen, touch, 1.0, config.fragment)
        kept = _most(sums, sums.listed[:n_added], config.successors)
        size[anchor] = len(kept)
        for rank in range(len(kept)):
            video[anchor, rank] = kept[rank]
            weight[anchor, rank] = sums.weight[kept[rank]]
            at[anchor, rank] = sums.at[kept[rank]]
        _clear(sums, n_added)
    return Successors(size, video, at, weight)


@njit(cache=True)
def _find(fragments: Fragments, user: int, video: int) -> int:
    """The touch of a user and a video, -1 if its continuation is not looked up."""
    first, last = fragments.start[user], fragments.start[user + 1]
    place = first + np.searchsorted(fragments.video[first:last], video)
    return fragments.touch[place] if place < last and fragments.video[place] == video else -1


@njit(cache=True)
def _follow(sums: Sums, n_added: int, seen: Watched, touch: int, weight: float, length: int) -> int:
    """Add what follows a touch to the sums; return how many videos have any now."""
    user = np.searchsorted(seen.start, touch, side="right") - 1
    for place in range(touch + 1, min(touch + length + 1, seen.start[user + 1])):
        if seen.at[place] > seen.at[touch]:
            term = np.int64(np.rint(weight * seen.fresh[place] * UNIT))
            n_added += _add(sums, n_added, seen.video[place], term, seen.at[place])
    return n_added


@njit(cache=True)
def _sums(seen: Watched) -> Sums:
    n_videos = np.int64(seen.video.max()) + 1 if len(seen.video) else np.int64(0)
    return Sums(
        np.zeros(n_videos, np.int64),
        np.full(n_videos, NEVER, np.int64),
        np.zeros(n_videos, np.int32),
        np.full(n_videos, -1, np.int64),
    )


@njit(cache=True)
def _room(n_lists: int, length: int) -> Futures:
    n = n_lists * length
    return Futures(
        np.zeros(n_lists, np.int64),
        np.empty(n, np.int32),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
    )


@njit(cache=True)
def _add(sums: Sums, n_added: int, video: int, weight: int, at: int) -> int:
    """Add a weight to a video's; return 1 if it is the video's first, else 0."""
    is_first = sums.at[video] == NEVER
    if is_first:
        sums.listed[n_added] = video
    sums.weight[video] += weight
    sums.at[video] = max(sums.at[video], at)
    return 1 if is_first else 0


@njit(cache=True)
def _clear(sums: Sums, n_added: int) -> None:
    for video in sums.listed[:n_added]:
        sums.weight[video] = 0
        sums.at[video] = NEVER


@njit(cache=True)
def _new_to(user: int, sums: Sums, n_added: int, seen: Watched) -> Indices:
    """The videos with a weight that the user has not watched."""
    for touch in seen.touch[seen.first_touch[user] : seen.first_touch[user + 1]]:
        sums.watcher[seen.video[touch]] = user
    added: Indices = sums.listed[:n_added]
    is_new: NDArray[np.bool_] = sums.watcher[added] != user
    return added[is_new]


@njit(cache=True)
def _most(sums: Sums, videos: Indices, length: int) -> Indices:
    """The videos with most weight, ties by index, heaviest first."""
    ordered = np.sort(videos)
    return ordered[np.argsort(-sums.weight[ordered], kind="mergesort")[:length]]


@njit(cache=True)
def _put(lists: Futures, row: int, n: int, sums: Sums, videos: Indices) -> int:
    """Write a list by instant, then video, at the end of the others; return the new end."""
    ordered = np.sort(videos)
    ordered = ordered[np.argsort(sums.at[ordered], kind="mergesort")]
    lists.size[row] = len(ordered)
    for video in ordered:
        lists.video[n] = video
        lists.at[n] = sums.at[video]
        lists.weight[n] = sums.weight[video]
        n += 1
    return n
