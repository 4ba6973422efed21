"""The union of all candidates in the order of a score."""

import candidate_worlds as worlds
import numpy as np
import pyarrow as pa
import pytest

from microrec.candidates import reranking
from microrec.errors import MicrorecError


def test_each_proposed_pair_is_there_once() -> None:
    lists = {
        "b": worlds.candidates({1: [4, 2], 0: [9]}),
        "a": worlds.candidates({1: [2, 7], 3: [70_000]}),
        "silent": worlds.candidates({}),
    }
    users, videos = reranking.union(lists)
    assert list(zip(users.tolist(), videos.tolist(), strict=True)) == [
        (0, 9), (1, 2), (1, 4), (1, 7), (3, 70_000),
    ]  # fmt: skip
    assert [len(one) for one in reranking.union({})] == [0, 0]


def test_best_first_ties_by_video_and_no_more_than_k() -> None:
    users = np.array([1, 0, 1, 1, 0, 1])
    videos = np.array([8, 5, 2, 6, 3, 4])
    scores = np.array([0.5, -1.0, 0.5, 0.9, -1.0, 0.1])
    rows = reranking.by_score(users, videos, scores, k=3)
    assert rows.to_pydict() == {
        "user_idx": [0, 0, 1, 1, 1],
        "rank": [1, 2, 1, 2, 3],
        "video_idx": [3, 5, 6, 2, 8],
        "score": pytest.approx([-1.0, -1.0, 0.9, 0.5, 0.5]),
    }
    assert rows.schema.types == [pa.int32(), pa.int32(), pa.int32(), pa.float32()]


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(MicrorecError, match="1 scores"):
        reranking.by_score(np.zeros(2, int), np.arange(2), np.array([0.0, np.nan]), k=1)
