"""The lane to watch again is what a slow account of every user's edges gives."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from microrec.candidates.lists import rewatch
from microrec.candidates.lists.rewatch import Config
from microrec.core import knowledge
from microrec.core.fits import horizon
from tests.worlds.candidates import DAY, SPLITS, users, videos

N_USERS, N_VIDEOS = 6, 9
UNTIL = dt.datetime(2026, 1, 11, tzinfo=dt.UTC)
Row = dict


def edges(rows: list[Row]) -> pa.Table:
    kinds = {
        "split": pa.string(), "user_idx": pa.int32(), "video_idx": pa.int32(), "n_positive": pa.int32(),
        "weight": pa.float64(), "undone": pa.bool_(), "last_at": pa.timestamp("us", "UTC"),
    }  # fmt: skip
    return pa.Table.from_pylist(rows, pa.schema(kinds.items()))


def edge(split: str, video: int, days_ago: float, **other: object) -> Row:
    at = UNTIL - dt.timedelta(days=days_ago)
    base = {"split": split, "user_idx": 0, "video_idx": video, "last_at": at}
    return {**base, "n_positive": 1, "weight": 1.0, "undone": False, **other}


def lanes(rows: list[Row], eligible: list[bool], config: Config, **own: object) -> list[Row]:
    catalogue = videos(eligible)
    catalogue = catalogue.append_column(
        "author_id", pa.array(own.get("author", [None] * len(eligible)), pa.string())
    )
    given = {"n_users": N_USERS, "fit": "final", "until": horizon(DAY, "final")}
    never = knowledge.uploads(users(N_USERS), catalogue)
    known = knowledge.knowledge(edges(rows), catalogue, **given, never=never)
    served = np.array([0, 1, 2, 4, 5])
    found = rewatch.lanes(edges(rows), users=served, known=known, until=UNTIL, config=config)
    return found.to_pylist()


def test_rewatch_equals_hand_computed() -> None:
    """What was watched within three days rests; what was disliked later, is own or ineligible stays away."""
    rows = [
        edge("train", 0, 9, weight=0.5), edge("validation", 0, 4, weight=0.25),
        edge("train", 1, 8, weight=0.75), edge("holdout", 1, 0.5, n_positive=0, weight=0.1),
        edge("train", 2, 8), edge("validation", 2, 5, n_positive=0, undone=True),
        edge("train", 3, 8, weight=2.0), edge("train", 4, 8, weight=3.0),
        edge("train", 5, 3, weight=0.75), edge("train", 6, 8, n_positive=0),
        edge("train", 0, 9, user_idx=3),
    ]  # fmt: skip
    eligible = [True, True, True, False, True, True, True]
    author = [None, None, None, None, "u0", "u1", None]
    found = lanes(rows, eligible, Config(length=5), author=author)
    told = [(one["rank"], one["video_idx"], one["score"], one["n_positive"]) for one in found]
    assert told == [(1, 0, 0.75, 2), (2, 5, 0.75, 1)]
    assert found[0]["last_at"] == UNTIL - dt.timedelta(days=4)
    assert lanes(rows, eligible, Config(length=1), author=author) == found[:1]
    assert lanes(rows, eligible, Config()) == []
    again = lanes(rows, eligible, Config(length=5, rest_days=0), author=author)
    assert [one["video_idx"] for one in again] == [1, 0, 5]


@pytest.mark.parametrize("seed", range(3))
def test_rewatch_equals_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        edge(split, video, float(rng.uniform(0, 9)), user_idx=user, undone=bool(rng.random() < 0.2),
             n_positive=int(rng.integers(0, 3)), weight=float(rng.integers(1, 4)))
        for user in range(N_USERS) for video in range(N_VIDEOS) for split in SPLITS
        if rng.random() < 0.5
    ]  # fmt: skip
    eligible = (rng.random(N_VIDEOS) < 0.8).tolist()
    right = []
    for user in (0, 1, 2, 4, 5):
        mine = []
        for video in np.flatnonzero(eligible).tolist():
            some = [one for one in rows if (one["user_idx"], one["video_idx"]) == (user, video)]
            last = max((SPLITS.index(o["split"]) for o in some if o["undone"]), default=0)
            left = [one for one in some if SPLITS.index(one["split"]) >= last]
            liked = sum(one["n_positive"] for one in left)
            at = max((one["last_at"] for one in some), default=UNTIL)
            if liked and at <= UNTIL - dt.timedelta(days=3):
                mine.append((-sum(one["weight"] for one in left), video, liked, at))
        for rank, (score, video, liked, at) in enumerate(sorted(mine)[:4], start=1):
            told = (user, rank, video, -score, liked, at)
            right.append(told)
    found = lanes(rows, eligible, Config(length=4))
    assert [tuple(one.values()) for one in found] == right
    assert len(right) > 8
