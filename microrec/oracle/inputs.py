"""What the oracle reads, as plain arrays: what was watched, what sources stored, what the recipe asks for."""

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from microrec.candidates.lists import diversity, exploration, ladder
from microrec.candidates.ranking import closed_form
from microrec.core import fitted
from microrec.core.array_types import Bools, Float64s, Int64s
from microrec.core.directions import directions

Scorer = Callable[[Int64s, Int64s], Float64s]
"""Scores [n_pairs] of pairs of user_idx and video_idx."""
DAY_US = 86_400_000_000
GRID = float(2**24)
"""Unit vectors are rounded to multiples of 1 / GRID ..."""
LEVELS = float(2**18)
"""... and similarities to multiples of 1 / LEVELS."""
NOISE = 1e-6
"""What centring leaves of a unit vector is nothing up to this length."""
PARTS = ("train", "validation", "holdout")
"""Of the window, in the order of time: the final fit sees all, the last one is the last day's."""


class Config(BaseModel):
    """How many users and videos are checked, and what counts as equal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: PositiveInt = 1000
    """Users, drawn from the published ones each night."""
    videos: PositiveInt = 200
    """Videos whose similar ones are checked, likewise."""
    tolerance: PositiveFloat = 1e-5
    """By how much a sum of float32 numbers may be off, as a share of the sum of their absolute values.
    At worst it is off by half of 1.2e-7 for each addend, so this holds up to 170 of them. On
    KuaiRand-Pure no stored score of 1,000 users was off by more than 3.5e-7."""
    network_tolerance: PositiveFloat = 1e-4
    """By how much a ranking network's score s may be off, as a share of 1 + |s|: by no more than 1.8e-7 in the
    same night, but a device may add in yet another order."""


class Learned(NamedTuple):
    """The learned blend: log odds = offset + slope x log(points of the closed form) + trees."""

    trees: lightgbm.Booster
    slope: float
    offset: float


class Rows(NamedTuple):
    """Values by a whole number.

    Shapes:
        start: [n + 1], where the values of each number start; value: [n_values]
    """

    start: Int64s
    value: Int64s

    def of(self, number: int) -> Int64s:
        """Return the values of one number, ascending. [n_values of the number]."""
        return self.value[self.start[number] : self.start[number + 1]]


class Stored(NamedTuple):
    """A source's stored list of one user, in the order of the ranks. Both are [n_listed]."""

    video: Int64s
    score: Float64s


NOTHING = Stored(np.empty(0, dtype=np.int64), np.empty(0))


class Vectors(NamedTuple):
    """Unit vectors of the videos, all modalities side by side, on the grid.

    Shapes:
        unit: [n_videos, sum of the modalities' dimensions], 0 where missing
    """

    unit: Float64s
    n_modalities: int

    def similarity(self, videos: Int64s | slice, others: Int64s | slice) -> NDArray[np.float32]:
        """Return how similar videos are to others. [n_videos, n_others]."""
        cosines = self.unit[videos] @ self.unit[others].T
        levels = np.rint(cosines * (LEVELS / max(self.n_modalities, 1)))
        return (np.maximum(levels, 0.0) / LEVELS).astype(np.float32)


class Alike(NamedTuple):
    """Similarity of videos, both directions, by the first and then the second of a pair.

    Shapes:
        start: [n_videos + 1]; video, similarity: [n_pairs]
    """

    start: Int64s
    video: Int64s
    similarity: NDArray[np.float32]

    def of(self, video: int) -> tuple[Int64s, NDArray[np.float32]]:
        """Return the videos that are like one, ascending, and their similarity. [n_alike] each."""
        here = slice(self.start[video], self.start[video + 1])
        return self.video[here], self.similarity[here]


@dataclass(frozen=True, eq=False)
class Facts:
    """What the final fit knows of who watched what.

    Shapes:
        eligible, viewers, likers, last_likers, age_days: [n_videos]
    """

    barred: Rows
    """Videos each user has seen, in the window or before it, or uploaded where authors are users."""
    liked: Rows
    """Those with a positive viewing."""
    steps_back: Rows
    """Of each of those, in the same order, how many of them the user watched later."""
    eligible: Bools
    viewers: Int64s
    likers: Int64s
    last_likers: Int64s
    """On the last day."""
    age_days: Float64s
    """Since publication; NaN where that is not known or ahead."""
    n_teachers: int
    """Users from this index on are counted nowhere."""

    @cached_property
    def video_features(self) -> dict[str, Float64s]:
        """What the trees read of every video, by name. [n_videos] each."""
        return {
            "place": _place(self.likers),
            "place_last_day": _place(self.last_likers),
            "age_days": self.age_days,
        }


@dataclass(frozen=True, eq=False)
class Rules:
    """The recipe of the list."""

    k: int
    depth: int
    """Length of a source's list."""
    trend_share: float
    exact_up_to: int
    blend: closed_form.Config
    ladder: ladder.Config
    diversity: diversity.Config
    exploration: exploration.Config
    oracle: Config
    least_people: int
    """Fewer viewers are no evidence."""


@dataclass(frozen=True, eq=False)
class ListInputs:
    """All that a night's lists are made of."""

    rules: Rules
    user_idx: dict[str, int]
    """By user_id, of everyone who has a list of their own."""
    unprofiled: dict[str, set[int]]
    """By user_id of who wants no profiling, the video_idx that are not shown to them."""
    video_id: list[str]
    """By video_idx."""
    author: list[str | None]
    """By video_idx."""
    facts: Facts
    models: dict[str, fitted.Fitted]
    """By source; those whose candidates the night has."""
    searched: frozenset[str]
    """Sources that may search an index instead of comparing all videos."""
    exact: dict[str, Float64s]
    """Vectors of the videos in float64, of the models that have some."""
    rankers: dict[str, Scorer]
    """By source, likewise."""
    stored: Mapping[str, Mapping[int, Stored]]
    """What the sources' tables hold, by user_idx."""
    learned: Learned | None
    """The learned blend, where it is trusted."""
    vectors: Vectors
    """Over all modalities, where the recipe asks for variety."""
    cluster: list[int]
    """By video_idx, as of `oracle.lists.clusters`."""
    by_modality: dict[str, Alike]
    new: Int64s
    """New videos in the order in which they are drawn."""
    uniform: Float64s
    """By user_idx."""
    explored_share: float
    """Users whose number is below it have new videos in their lists."""


def uploads(users: pa.Table, videos: pa.Table) -> list[tuple[int, int]]:
    """Return the videos whose author is a user.

    Args:
        users: rows of `users`.
        videos: rows of `video_nodes`.

    Returns:
        user_idx and video_idx of each.
    """
    user_idx = dict(zip(users["user_id"].to_pylist(), users["user_idx"].to_pylist(), strict=True))
    authors = zip(videos["author_id"].to_pylist(), videos["video_idx"].to_pylist(), strict=True)
    return [(user_idx[author], video) for author, video in authors if author in user_idx]


def blocked(
    wishes: pa.Table, users: pa.Table, videos: pa.Table, tagged: pa.Table
) -> list[tuple[int, int]]:
    """Return the videos that a user does not want to see.

    Args:
        wishes: rows of `preferences`.
        users: rows of `users`.
        videos: rows of `video_nodes`.
        tagged: rows of `videos`, for their tags.

    Returns:
        user_idx and video_idx of each.
    """
    user_idx = dict(zip(users["user_id"].to_pylist(), users["user_idx"].to_pylist(), strict=True))
    tags = dict(zip(tagged["video_id"].to_pylist(), tagged["tags"].to_pylist(), strict=True))
    unwanted: dict[tuple[str, str], set[int]] = {}
    for wish in wishes.to_pylist():
        if wish["user_id"] in user_idx:
            at = wish["kind"], wish["value"]
            unwanted.setdefault(at, set()).add(user_idx[wish["user_id"]])
    pairs = []
    for video in videos.to_pylist():
        named = [("block_video", video["video_id"]), ("block_author", video["author_id"])]
        named += [("block_tag", tag) for tag in tags.get(video["video_id"]) or ()]
        for user in set[int]().union(*(unwanted.get(at, set()) for at in named)):
            pairs.append((user, video["video_idx"]))
    return pairs


def remembered(
    rows: pa.Table, withheld: pa.Table, users: pa.Table, videos: pa.Table
) -> list[tuple[int, int]]:
    """Return the videos that a user has watched or disliked before the window.

    Args:
        rows: of `remembered_videos`.
        withheld: rows of `withheld_periods`, as of now.
        users: rows of `users`.
        videos: rows of `video_nodes`.

    Returns:
        user_idx and video_idx of each.
    """
    user_idx = dict(zip(users["user_id"].to_pylist(), users["user_idx"].to_pylist(), strict=True))
    video_idx = dict(
        zip(videos["video_id"].to_pylist(), videos["video_idx"].to_pylist(), strict=True)
    )
    periods: dict[str, list[tuple[dt.date, dt.date]]] = {}
    for row in withheld.to_pylist():
        period = row["first_day"] or dt.date.min, row["last_day"]
        periods.setdefault(row["user_id"], []).append(period)
    return [
        (user_idx[row["user_id"]], video_idx[row["video_id"]])
        for row in rows.to_pylist()
        if row["user_id"] in user_idx
        and row["video_id"] in video_idx
        and not any(a <= row["last_on"] <= b for a, b in periods.get(row["user_id"], ()))
    ]


def count(
    edges: pa.Table,
    videos: pa.Table,
    n_users: int,
    until: dt.datetime,
    never: Collection[tuple[int, int]] = (),
    n_teachers: int | None = None,
) -> Facts:
    """Count what the final fit knows, edge by edge.

    Args:
        edges: `watch_edges` of the day, and `private_edges`.
        videos: `video_nodes` of the day, in the order of video_idx.
        n_users: users of the day.
        until: end of the day, UTC.
        never: user_idx and video_idx of what is barred though it was not seen.
        n_teachers: users from this index on are not counted by video; None: all are.

    Returns:
        Counts by user and by video.
    """
    n_videos = videos.num_rows
    pairs = integers(edges["user_idx"]) << 32 | integers(edges["video_idx"])
    positive = integers(edges["n_positive"]) > 0
    part = np.array([PARTS.index(split) for split in edges["split"].to_pylist()], dtype=np.int64)
    last = part == len(PARTS) - 1
    seen = np.unique(pairs)
    not_seen = np.array([user << 32 | video for user, video in never], dtype=np.int64)
    barred = np.unique(np.concatenate([seen, not_seen]))
    undone = np.array(edges["undone"].to_pylist(), dtype=np.bool_)
    liked = _standing(pairs, part, positive, undone)
    last_viewing = dict[int, int]()
    instants = integers(edges["last_at"].cast(pa.int64()))
    for pair, at in zip(pairs.tolist(), instants.tolist(), strict=True):
        last_viewing[pair] = max(at, last_viewing.get(pair, at))
    published = integers(pc.fill_null(videos["published_at"].cast(pa.int64()), 1 << 62))
    age = int(until.timestamp()) * 1_000_000 - published
    is_published = (age > 0) | np.array(
        videos["published_at"].is_null().to_pylist(), dtype=np.bool_
    )
    counted_users = n_users if n_teachers is None else n_teachers

    def per_video(of_users: Int64s) -> Int64s:
        counted = of_users[of_users >> 32 < counted_users]
        return np.bincount(counted & 0xFFFFFFFF, minlength=n_videos)

    return Facts(
        barred=_by(barred >> 32, barred & 0xFFFFFFFF, n_users),
        liked=_by(liked >> 32, liked & 0xFFFFFFFF, n_users),
        steps_back=_steps_back(liked.tolist(), last_viewing, n_users),
        eligible=np.array(videos["eligible"].to_pylist(), dtype=np.bool_) & is_published,
        viewers=per_video(seen),
        likers=per_video(liked),
        last_likers=per_video(pairs[last & positive]),
        age_days=np.where(age > 0, age / DAY_US, np.nan),
        n_teachers=counted_users,
    )


def _standing(pairs: Int64s, part: Int64s, positive: Bools, undone: Bools) -> Int64s:
    """Pairs with a positive viewing in no earlier part than their last dislike, ascending."""
    disliked = dict[int, int]()  # the last part that undoes, by pair
    for pair, then in zip(pairs[undone].tolist(), part[undone].tolist(), strict=True):
        disliked[pair] = max(then, disliked.get(pair, 0))
    likes = zip(pairs[positive].tolist(), part[positive].tolist(), strict=True)
    stands = {pair for pair, then in likes if then >= disliked.get(pair, 0)}
    return np.array(sorted(stands), dtype=np.int64)


def vectors(features: pa.Table, video_ids: Sequence[str], centred: Collection[str] = ()) -> Vectors:
    """Return the vectors of the videos.

    Args:
        features: rows of `video_features` of the day, in any order.
        video_ids: by video_idx.
        centred: modalities whose mean direction is taken off first.

    Returns:
        Vectors of the modalities that have any, by name.
    """
    units = []
    for name in sorted(pc.unique(features["modality"]).to_pylist()):
        of_it = features.filter(pc.equal(features["modality"], name)).to_pylist()
        vector_of = {row["video_id"]: row["vector"] for row in of_it}
        nothing = [0.0] * len(of_it[0]["vector"])
        rows = np.array([vector_of.get(video_id, nothing) for video_id in video_ids], np.float64)
        rows[~np.isfinite(rows).all(axis=1)] = 0.0
        unit = directions(rows.reshape(len(video_ids), -1))
        known = unit.any(axis=1)
        if name in centred and known.any():
            unit[known] -= unit[known].mean(axis=0)
            unit[np.sqrt((unit * unit).sum(axis=1)) <= NOISE] = 0.0
            unit = directions(unit)
        if unit.any():
            units.append(np.rint(unit * GRID) / GRID)
    return Vectors(np.concatenate([np.empty((len(video_ids), 0)), *units], axis=1), len(units))


def alike(edges: pa.Table, n_videos: int) -> Alike:
    """Return the similarity of neighbours; of the two directions of a pair the greater counts.

    Args:
        edges: rows of `modality_edges` of one modality, in any order.
        n_videos: in the catalogue.

    Returns:
        Similar videos of every video.
    """
    video, other = integers(edges["video_idx"]), integers(edges["neighbour_idx"])
    similarity = np.asarray(edges["similarity"], dtype=np.float64)
    kept = (similarity > 0) & (video != other)
    pair = np.minimum(video, other)[kept] << 32 | np.maximum(video, other)[kept]
    similarity = np.minimum(similarity[kept], 1.0)
    order = np.lexsort((similarity, pair))
    greatest = np.append(np.diff(pair[order]) > 0, True)[: len(pair)]
    pairs, best = pair[order][greatest], similarity[order][greatest].astype(np.float32)
    video, other = pairs >> 32, pairs & 0xFFFFFFFF
    video, other = np.concatenate([video, other]), np.concatenate([other, video])
    order = np.lexsort((other, video))
    start = np.searchsorted(video[order], np.arange(n_videos + 1))
    return Alike(start, other[order], np.tile(best, 2)[order])


def alike_in_each(edges: pa.Table, n_videos: int) -> dict[str, Alike]:
    """Return the similarity in each modality by itself.

    Args:
        edges: `modality_edges` of the day, in any order.
        n_videos: in the catalogue.

    Returns:
        Similar videos of every video, by modality.
    """
    names = sorted(pc.unique(edges["modality"]).to_pylist())
    of_each = {name: edges.filter(pc.equal(edges["modality"], name)) for name in names}
    return {name: alike(rows, n_videos) for name, rows in of_each.items()}


def _place(likers: Int64s) -> Float64s:
    """Minus ln of 1 + the videos that more users like. [n_videos]."""
    more = {n: int((likers > n).sum()) for n in set(likers.tolist())}
    return -np.log1p(np.array([more[n] for n in likers.tolist()], dtype=np.float64))


def _steps_back(liked: list[int], last_viewing: dict[int, int], n_users: int) -> Rows:
    """Place of each liked pair among those of its user, the latest first, of equal ones the first video."""
    histories = dict[int, list[int]]()
    for pair in liked:
        histories.setdefault(pair >> 32, []).append(pair)
    place = dict[int, int]()
    for history in histories.values():
        latest_first = sorted(history, key=lambda pair: (-last_viewing[pair], pair))
        place |= {pair: steps for steps, pair in enumerate(latest_first)}
    user = np.array(liked, dtype=np.int64) >> 32
    return _by(user, np.array([place[pair] for pair in liked], dtype=np.int64), n_users)


def _by(number: Int64s, value: Int64s, n: int) -> Rows:
    """Values by ascending numbers 0..n-1."""
    return Rows(np.searchsorted(number, np.arange(n + 1)), value)


def integers(column: pa.ChunkedArray) -> Int64s:
    """Return a column without nulls as int64, [n_rows]."""
    return np.asarray(column, dtype=np.int64)
