"""Trends in words: what each of a user's trends is about, where it is heading, how long it will hold.

A trend is the viewings it holds, each with a mass (`models/sequence/multi_trend.py`: what the user watched, and what
similar users watched next). With p_k the trend's share of the user's mass:

    weight     p_k
    change     p_k among the newer half of the user's mass - p_k among the older half
    half-life  ln 2 x mean age of the viewings: the maximum-likelihood rate of an interest that fades
               exponentially is 1 / mean age
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat

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
        members: one row per viewing that a trend holds: user_idx, trend, video_idx, mass, at.
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
    user = column(members, "user_idx")
    trend = column(members, "trend")
    pair, of = np.unique(pack(user, trend), return_inverse=True)
    n = len(pair)
    end = int(until.timestamp()) * 1_000_000
    numbers, user_number = np.unique(pair >> 32, return_inverse=True)
    at = column(members.select(["at"]).cast(pa.schema([("at", pa.int64())])), "at")
    weight, change = _course(of, user_number, at, video, mass)
    half_life = np.log(2) * _sum(of, mass * ((end - at) / HOUR), n) / _sum(of, mass, n)
    half_life = np.clip(half_life, config.min_half_life_hours, config.max_half_life_hours)
    latest = np.full(n, np.iinfo(np.int64).min)
    np.maximum.at(latest, of, at)
    direction = 1 + (change > config.change).astype(int) - (change < -config.change)
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
        "direction": pa.array(np.array(DIRECTIONS)[direction], pa.string()),
        "change": change,
        "n_viewings": np.bincount(of, minlength=n).astype(np.int32),
        "tags": _named(tags, names),
        "videos": _named(videos, catalogue.videos["video_id"].combine_chunks()),
        "latest_at": pa.array(latest, instant),
        "half_life_hours": half_life,
        "valid_until": pa.array(end + (half_life * HOUR).astype(np.int64), instant),
    }
    order = np.lexsort((pair, -weight, user_number))
    rank = np.arange(n) - np.searchsorted(user_number[order], user_number[order]) + 1
    rows = pa.table(columns).take(pa.array(order))
    return rows.add_column(1, "rank", pa.array(rank.astype(np.int32)))


def _course(
    of: Indices, user_number: Indices, at: Indices, video: Indices, mass: Floats
) -> tuple[Float64s, Float64s]:
    """Weight and change of each trend.

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

    newer = _newer(user, at, video, mass)
    change = share(mass * newer) - share(mass * ~newer)
    n_newer = np.bincount(user, newer, n)
    n_all = np.bincount(user, minlength=n)
    change[((n_newer == 0) | (n_newer == n_all))[user_number]] = 0.0
    return share(mass), change


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
