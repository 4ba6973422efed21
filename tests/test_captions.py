"""The benchmark of words on real logs: planted words find cold videos, and both fits see the same log."""

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks import captions
from tests.benchmarks.captions import Log

N_USERS, N_VIDEOS = 40, 60


@pytest.fixture
def log() -> Log:
    """Users like videos of one of three words, in an order that is drawn."""
    rng = np.random.default_rng(1)
    pairs = [
        (user, video)
        for user in range(N_USERS)
        for video in rng.permutation(np.arange(user % 3, N_VIDEOS, 3))[:12]
    ]
    rows = pd.DataFrame(pairs, columns=["user", "video"]).sample(frac=1, random_state=1)
    words = ("pasta", "football", "guitar")
    texts: list[str | None] = [f"{words[video % 3]} number{video}" for video in range(N_VIDEOS)]
    return Log(rows, texts, [[] for _ in range(N_VIDEOS)])


def test_last_videos_are_held_out_in_the_order_of_time(log: Log) -> None:
    pairs = log.world().pairs
    assert [len(pairs[name]) for name in ("test", "val", "train")] == [40, 40, 400]
    last = pd.Series(log.video).groupby(log.user).last()
    assert dict(pairs["test"].tolist()) == last.to_dict()


def test_words_find_cold_videos_that_chance_does_not(log: Log) -> None:
    vectors = captions.vectors_of(log, trained=False)
    is_cold = np.random.default_rng(2).random(N_VIDEOS) < 0.5
    assert int(is_cold.sum()) > captions.K
    by_words = captions.cold(vectors["captions by n-grams"], log, is_cold)
    by_chance = captions.cold(np.random.default_rng(3).normal(size=(N_VIDEOS, 8)), log, is_cold)
    assert np.nanmean(by_words) > 0.95 > np.nanmean(by_chance)


def test_next_video_is_measured_with_words_and_without(log: Log) -> None:
    world = log.world()
    for features in ({}, {"textual": captions.by_grams((log.captions, log.tags))}):
        hit = captions.next_video(captions.replace(world, features=features), 0)
        assert hit.shape == (N_USERS,)
        assert set(hit) <= {0.0, 1.0}
    rows = captions.told("planted", "hit", {"a": [hit], "b": [1 - hit]}, "a")
    assert [row["name"] for row in rows] == ["a", "b", "b - a"]
