"""A planted service of order only: one positive a viewing, five to ten a user, each video leading to the next.

A user starts anywhere, by popularity. With the chance `follow` the next video is one of a few successors of the last
one, else again anywhere. Nothing else is known: no times (the instants written are places in the order), no reactions,
every viewing complete and of one length, no vectors. The last viewing of each user is on the last day, the one before
it on the day before, and so on, so that holding out the last day holds out the next video of everybody.
"""

import datetime as dt
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microrec.synth import world
from microrec.synth.population import epoch_ms
from microrec.synth.viewings import SCHEMA
from microrec.synth.world import Part

LENGTH_MS = 10_000
WITHOUT = ("raw_interactions", "raw_video_features", "raw_clip_features")


@dataclass(frozen=True)
class Config:
    """Sizes of the service, and how much the order says."""

    users: int = 3000
    videos: int = 1200
    days: int = 8
    first_day: dt.date = dt.date(2026, 1, 1)
    follow: float = 0.6
    """Chance that a video is a successor of the one before it."""
    successors: int = 8
    """Of each video; the n-th is followed in proportion to 1 / n."""


def histories(config: Config, rng: np.random.Generator) -> list[list[int]]:
    """Draw what every user watched, in order; nobody watches a video twice.

    Args:
        config: sizes.
        rng: source of every draw.
    """
    popularity = rng.permutation(1.0 / (np.arange(config.videos) + 5.0))
    popularity /= popularity.sum()
    size = (config.videos, config.successors)
    following = np.stack(
        [rng.choice(size[0], size[1], replace=False, p=popularity) for _ in range(size[0])]
    )
    shares = 1.0 / np.arange(1, config.successors + 1)
    shares /= shares.sum()
    results = []
    for _ in range(config.users):
        n_videos = int(rng.integers(5, 11))
        watched = [int(rng.choice(config.videos, p=popularity))]
        while len(watched) < n_videos:
            if rng.random() < config.follow:
                video = int(rng.choice(following[watched[-1]], p=shares))
            else:
                video = int(rng.choice(config.videos, p=popularity))
            if video not in watched:
                watched.append(video)
        results.append(watched)
    return results


def parts(config: Config, rng: np.random.Generator) -> list[Part]:
    """Return the files of the service's landing zone.

    Args:
        config: sizes.
        rng: source of every draw.
    """
    drawn = world.Config(
        users=config.users,
        videos=config.videos,
        days=config.days,
        first_day=config.first_day,
        formats=("parquet",),
        fresh_share=0.0,
        ineligible_share=0.0,
        joining_share=0.0,
        dirt_per_kind=0,
    )
    files = world.generate(drawn, rng).parts
    lines = log(config, histories(config, rng))
    kept = [part for part in files if part.table not in WITHOUT]
    of_day = {part.day: part for part in files if part.table == "raw_interactions" and part.rows}
    return [*kept, *(replace(part, rows=lines[day], lines=()) for day, part in of_day.items())]


def log(config: Config, watched: list[list[int]]) -> dict[dt.date, pa.Table]:
    """Return the log lines of each day.

    Args:
        config: days.
        watched: videos of each user, in order.
    """
    user = np.repeat(np.arange(len(watched)), [len(history) for history in watched])
    place = np.concatenate([np.arange(len(history)) for history in watched])
    back = np.concatenate([np.arange(len(history))[::-1] for history in watched])
    video = np.concatenate(watched)
    offset = np.maximum(config.days - 1 - back, 0)
    start = epoch_ms(config.first_day) + offset * 86_400_000
    started = start + 2 * LENGTH_MS * (place + 1)
    rows = _lines(user, video, started)
    return {
        config.first_day + dt.timedelta(days=day): rows.filter(pa.array(offset == day))
        for day in range(config.days)
    }


def _lines(
    user: NDArray[np.int64], video: NDArray[np.int64], started_ms: NDArray[np.int64]
) -> pa.Table:
    n = len(user)
    columns = {
        "user_id": [f"u{number:06d}" for number in user],
        "video_id": [f"v{number:06d}" for number in video],
        "started_at": pa.array(started_ms * 1_000, SCHEMA.field("started_at").type),
        "watch_ms": np.full(n, LENGTH_MS),
        "duration_ms": np.full(n, LENGTH_MS),
        "event_id": [f"e{number:07d}" for number in range(n)],
    }
    nothing = {
        field.name: np.zeros(n, dtype=np.bool_)
        if field.type == pa.bool_()
        else pa.nulls(n, field.type)
        for field in SCHEMA
        if field.name not in columns
    }
    return pa.table(columns | nothing).select(SCHEMA.names).cast(SCHEMA)
