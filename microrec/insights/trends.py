"""Trends in words: what each of a user's trends is about, where it is heading, how long it will hold.

A trend is the viewings it holds, each with a mass (`models/sequence/multi_trend.py`: what the user watched, and what
similar users watched next, which says what a trend is about and nothing else). With p_k the trend's share of the mass
of what the user watched:

    weight     p_k
    change     p_k among the newer half of the user's mass - p_k among the older half
    direction  rising or fading where the change is greater than `change` and than `certainty` standard errors of the
               difference of two such shares, sqrt(p_k (1 - p_k) (1 / n_newer + 1 / n_older)); otherwise steady
    half-life  ln 2 x mean age of the user's viewings: the maximum-likelihood rate of an interest that fades
               exponentially is 1 / mean age

A trend that only what others watched next is in has weight and change 0, and their age. A user without viewings (who
came to dislike them all) has weights and changes by what others watched next.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from microrec.core.array_types import Bools, Float64s, Floats, Indices
from microrec.core.columns import codes, column
from microrec.core.pairs import pack, unpack

HOUR = 3_600_000_000
"""Microseconds."""
DIRECTIONS = ("fading", "steady", "rising")


class Config(BaseModel):
    """What is told of a trend."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_tags: NonNegativeInt = 5
    """Tags of a trend, those with most mass."""
    n_videos: NonNegativeInt = 5
    """Videos of a trend, those with most mass."""
    change: float = Field(default=0.1, ge=0, le=1)
    """Change beyond which a trend rises or fades."""
    certainty: NonNegativeFloat = 2.0
    """Standard errors that a change must be beyond, too: halves of three viewings differ by much, and mean nothing."""
    min_half_life_hours: PositiveFloat = 6.0
    """A trend is not taken to be over sooner than this."""
    max_half_life_hours: PositiveFloat = 336.0
    """Nor to last longer than this."""


@dataclass(frozen=True)
class Catalogue:
    """What is said of videos. Both are in the order of video_idx."""

    videos: pa.Table
    """`video_nodes`."""
    tags: pa.ChunkedArray
    """Lists of strings."""


def catalogue(nodes: pa.Table, videos: pa.Table) -> Catalogue:
    """Return the day's videos with their tags.

    Args:
        nodes: `video_nodes` of the day.
        videos: `videos` of the day.

    Returns:
        Both in the order of video_idx.
    """
    nodes = nodes.sort_by("video_idx")
    row = pc.index_in(nodes["video_id"], value_set=videos["video_id"].combine_chunks())
    return Catalogue(nodes, videos["tags"].combine_chunks().take(row.combine_chunks()))


def describe(
    members: pa.Table,
    *,
    users: pa.Table,
    served: Indices,
    catalogue: Catalogue,
    until: dt.datetime,
    config: Config,
) -> pa.Table:
    """Describe the trends of all users.

    Args:
        members: one row per viewing that a trend holds: user_idx, trend, video_idx, mass, own, at.
        users: `users` of the day.
        served: user_idx of everyone who may get a row. [n_served]
        catalogue: videos and their tags.
        until: the first instant the model has not seen; nothing in `members` is later.
        config: number of tags and videos, thresholds.

    Returns:
        `user_trends` rows, sorted by user and rank.
    """
    members = members.filter(pc.is_in(members["user_idx"], value_set=pa.array(served, pa.int32())))
    video = column(members, "video_idx")
    mass = column(members, "mass")
    own = column(members, "own")
    user = column(members, "user_idx")
    trend = column(members, "trend")
    pair, of = np.unique(pack(user, trend), return_inverse=True)
    n = len(pair)
    end = int(until.timestamp()) * 1_000_000
    numbers, user_number = np.unique(pair >> 32, return_inverse=True)
    at = column(members.select(["at"]).cast(pa.schema([("at", pa.int64())])), "at")
    n_own = np.bincount(of[own], minlength=n)
    counted = own | (np.bincount(user_number, n_own) == 0)[user_number[of]]
    weight, change, error = _course(
        of[counted], user_number, at[counted], video[counted], mass[counted]
    )
    timed = own | (n_own == 0)[of]
    half_life = _half_life(of[timed], (end - at[timed]) / HOUR, mass[timed], n=n, config=config)
    latest = _latest(of[timed], at[timed], n)
    direction = _direction(change, np.maximum(config.change, config.certainty * error))
    shown = column(catalogue.videos, "eligible")[video]
    videos = _most(of[shown], video[shown], mass[shown], n=n, first=config.n_videos)
    names, tagged, label = _tags(catalogue.tags, video)
    tags = _most(of[tagged], label, mass[tagged], n=n, first=config.n_tags)
    ids = users.sort_by("user_idx")["user_id"].combine_chunks()
    instant = pa.timestamp("us", "UTC")
    columns = {
        "user_id": ids.take(pa.array(numbers[user_number])),
        "trend": (pair & 0xFFFFFFFF).astype(np.int32),
        "weight": weight,
        "direction": direction,
        "change": change,
        "n_viewings": n_own.astype(np.int32),
        "tags": _named(tags, names),
        "videos": _named(videos, catalogue.videos["video_id"].combine_chunks()),
        "latest_at": pa.array(latest, instant),
        "half_life_hours": half_life,
        "valid_until": pa.array(end + (half_life * HOUR).astype(np.int64), instant),
    }
    return _by_rank(pa.table(columns), user_number, np.lexsort((pair, -weight, user_number)))


def _by_rank(rows: pa.Table, user_number: Indices, order: Indices) -> pa.Table:
    """The rows in an order in which those of a user follow one another, with their ranks."""
    rank = np.arange(len(order)) - np.searchsorted(user_number[order], user_number[order]) + 1
    return rows.take(pa.array(order)).add_column(1, "rank", pa.array(rank.astype(np.int32)))


def _course(
    of: Indices, user_number: Indices, at: Indices, video: Indices, mass: Floats
) -> tuple[Float64s, Float64s, Float64s]:
    """Weight, change and standard error of the change of each trend, [n_trends] each.

    Args:
        of: trend of each viewing [n_viewings].
        user_number: of each trend [n_trends].
        at: [n_viewings].
        video: [n_viewings].
        mass: [n_viewings].
    """
    user = user_number[of]
    n = int(user_number.max(initial=-1)) + 1

    def share(counted: Floats) -> Float64s:
        whole = _sum(user, counted, n)[user_number]
        part = _sum(of, counted, len(user_number))
        return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)

    weight = share(mass)
    newer = _newer(user, at, video, mass)
    change = share(mass * newer) - share(mass * ~newer)
    n_newer = np.bincount(user[newer], minlength=n)
    n_older = np.bincount(user[~newer], minlength=n)
    change[((n_newer == 0) | (n_older == 0))[user_number]] = 0.0
    per_viewing = (1 / np.maximum(n_newer, 1) + 1 / np.maximum(n_older, 1))[user_number]
    return weight, change, np.sqrt(weight * (1 - weight) * per_viewing)


def _direction(change: Float64s, least: Float64s) -> pa.Array:
    """What a change greater than the least one is called. [n_trends]."""
    sign = (change > least).astype(int) - (change < -least)
    return pa.array(np.array(DIRECTIONS)[1 + sign], pa.string())


def _half_life(group: Indices, hours: Floats, mass: Floats, *, n: int, config: Config) -> Float64s:
    """Mean age times ln 2, within the bounds. [n]."""
    mean = _sum(group, mass * hours, n) / _sum(group, mass, n)
    half_life: Float64s = np.clip(
        np.log(2) * mean, config.min_half_life_hours, config.max_half_life_hours
    )
    return half_life


def _latest(group: Indices, at: Indices, n: int) -> Indices:
    """Latest instants by group. [n]."""
    latest = np.full(n, np.iinfo(np.int64).min)
    np.maximum.at(latest, group, at)
    return latest


def _sum(group: Indices, values: Floats, n: int) -> Float64s:
    """Sums by group, added in the order of the rows. [n]."""
    return np.bincount(group, weights=values, minlength=n).astype(np.float64)


def _newer(user: Indices, at: Indices, video: Indices, mass: Floats) -> Bools:
    """Whether a viewing is in the newer half of its user's mass: its middle decides. [n_viewings]."""
    order = np.lexsort((video, -at, user))
    sorted_user = user[order]
    sorted_mass = mass[order]
    before = np.cumsum(sorted_mass) - sorted_mass
    start = before[np.searchsorted(sorted_user, sorted_user)]
    whole = _sum(user, mass, int(user.max(initial=-1)) + 1)[sorted_user]
    newer = np.empty(len(user), dtype=np.bool_)
    newer[order] = before - start + sorted_mass / 2 <= whole / 2
    return newer


def _tags(tags: Any, video: Indices) -> tuple[pa.Array, Indices, Indices]:
    """Sorted names of all tags; for each tag of each viewing the viewing and the name's place."""
    of_viewing = tags.take(pa.array(video))
    of_viewing = pc.if_else(pc.is_valid(of_viewing), of_viewing, pa.scalar([], tags.type))
    lengths = np.asarray(pc.list_value_length(of_viewing), dtype=np.int64)
    flat = pc.list_flatten(of_viewing)
    names, label = codes(flat)
    viewing = np.repeat(np.arange(len(video)), lengths)
    named = label >= 0
    return names, viewing[named], label[named]


def _most(group: Indices, label: Indices, mass: Floats, *, n: int, first: int) -> Sequence[Indices]:
    """By group, the labels with most mass, best first; ties by label."""
    pair, of = np.unique(pack(group, label), return_inverse=True)
    total = _sum(of, mass, len(pair))
    group, label = unpack(pair)
    order = np.lexsort((label, -total, group))
    group = group[order]
    label = label[order]
    kept = np.arange(len(group)) - np.searchsorted(group, group) < first
    ends = np.searchsorted(group[kept], np.arange(1, n))
    return np.split(label[kept], ends) if n else []


def _named(lists: Sequence[Indices], names: pa.Array) -> pa.Array:
    """Lists of labels as lists of names."""
    offsets = np.concatenate([[0], np.cumsum([len(labels) for labels in lists])]).astype(np.int32)
    flat = np.concatenate([np.empty(0, dtype=np.int64), *lists])
    return pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(flat)))
