"""Recall of futures and of popular videos, against a loop over a small world."""

import datetime as dt
from collections import Counter
from typing import Any

import numpy as np
import pytest

from microrec.graphs.sequences import cuts, sequences, worth
from microrec.graphs.sequences.sequences import Config
from tests.worlds.graph_rows import DAY, Rows, instant

pytestmark = pytest.mark.spark

CUT, END = cuts.cuts(DAY, n_days=1)
ROWS = (
    "cut_at timestamp, user_idx int, future array<struct<video_idx:int,at:timestamp,weight:double>>"
)
N_USERS, N_VIDEOS = 12, 60


def world(seed: int) -> tuple[list[dict[str, Any]], dict[int, list[tuple[int, float]]]]:
    """Positive viewings of five days, and a future of most users: videos and weights, some of them alike."""
    generator = np.random.default_rng(seed)
    share = generator.dirichlet(np.ones(N_VIDEOS))
    events = [
        {
            "user_idx": int(generator.integers(N_USERS)),
            "video_idx": int(generator.choice(N_VIDEOS, p=share)),
            "started_at": instant(1, float(generator.uniform(0, 5 * 24))),
        }
        for _ in range(300)
    ]
    futures = {
        user: [
            (int(video), float(generator.integers(1, 4)))
            for video in generator.permutation(N_VIDEOS)[:30]
        ]
        for user in range(N_USERS - 2)
    }
    return events, futures


def test_recall_equals_a_loop(rows: Rows) -> None:
    events, futures = world(4)
    viewings = rows("events", *events)
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    lists = [
        (CUT, user, [(video, at, weight) for video, weight in future])
        for user, future in futures.items()
    ]
    written = viewings.sparkSession.createDataFrame(lists, ROWS)
    positive = sequences.positive_viewings(viewings, config=Config())
    measured = worth.measure(written, positive, cut=CUT, end=END)

    before = {(e["user_idx"], e["video_idx"]) for e in events if e["started_at"] < CUT}
    after = {(e["user_idx"], e["video_idx"]) for e in events if CUT <= e["started_at"] < END}
    n_users = Counter(video for _, video in before)
    popular = sorted(n_users, key=lambda video: (-n_users[video], video))
    pairs = after - before
    hits = Counter[str]()
    for user, video in pairs:
        heaviest = sorted(futures.get(user, []), key=lambda each: (-each[1], each[0]))[: worth.K]
        hits["future"] += video in [listed for listed, _ in heaviest]
        new = [listed for listed in popular if (user, listed) not in before]
        hits["popular"] += video in new[: worth.K]
    assert 0 < hits["future"] < len(pairs)
    assert 0 < hits["popular"] < len(pairs)
    assert [(each.metric, each.slice, each.n) for each in measured] == [
        ("future_recall@20", "cut=2026-01-05", len(pairs)),
        ("popular_recall@20", "cut=2026-01-05", len(pairs)),
    ]
    expected = [hits["future"] / len(pairs), hits["popular"] / len(pairs)]
    assert [each.value for each in measured] == pytest.approx(expected)


def test_recall_of_a_day_without_viewings_is_of_no_pairs(rows: Rows) -> None:
    viewings = rows("events", {"started_at": instant(2)})
    written = viewings.sparkSession.createDataFrame([], ROWS)
    positive = sequences.positive_viewings(viewings, config=Config())
    measured = worth.measure(written, positive, cut=CUT, end=END)
    assert [(each.value, each.n) for each in measured] == [(0.0, 0), (0.0, 0)]
