"""The union of all candidates in the order of a score."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests.worlds.candidates as worlds
from microrec.candidates.ranking import candidate_union
from microrec.errors import MicrorecError


def test_union_each_proposed_pair_is_there_once() -> None:
    lists = {
        "b": worlds.candidates({1: [4, 2], 0: [9]}),
        "a": worlds.candidates({1: [2, 7], 3: [70_000]}),
        "silent": worlds.candidates({}),
    }
    users, videos = candidate_union.union(lists)
    assert list(zip(users.tolist(), videos.tolist(), strict=True)) == [
        (0, 9), (1, 2), (1, 4), (1, 7), (3, 70_000),
    ]  # fmt: skip
    assert [len(one) for one in candidate_union.union({})] == [0, 0]


def test_ranked_best_first_ties_by_video_at_most_k() -> None:
    users = np.array([1, 0, 1, 1, 0, 1])
    videos = np.array([8, 5, 2, 6, 3, 4])
    scores = np.array([0.5, -1.0, 0.5, 0.9, -1.0, 0.1])
    rows = candidate_union.by_score(users, videos, scores, k=3)
    assert rows.to_pydict() == {
        "user_idx": [0, 0, 1, 1, 1],
        "rank": [1, 2, 1, 2, 3],
        "video_idx": [3, 5, 6, 2, 8],
        "score": pytest.approx([-1.0, -1.0, 0.9, 0.5, 0.5]),
    }
    assert rows.schema.types == [pa.int32(), pa.int32(), pa.int32(), pa.float32()]


@given(st.integers(0, 2**32 - 1))
def test_ranked_equal_scores_follow_the_second_then_video(seed: int) -> None:
    generator = np.random.default_rng(seed)
    at = generator.permutation(30)[: generator.integers(0, 31)]
    users, videos = at // 10, at % 10
    scores, then = generator.integers(0, 3, (2, len(at))) / 2
    found = candidate_union.by_score(users, videos, scores, k=4, then=then).to_pylist()
    right = []
    for user in range(3):
        mine = [row for row in range(len(at)) if users[row] == user]
        best = sorted(mine, key=lambda row: (-scores[row], -then[row], videos[row]))[:4]
        right += [
            {"user_idx": user, "rank": rank, "video_idx": videos[row], "score": scores[row]}
            for rank, row in enumerate(best, start=1)
        ]
    assert found == right


def test_ranked_score_not_a_number_is_refused() -> None:
    with pytest.raises(MicrorecError, match="1 scores"):
        candidate_union.by_score(np.zeros(2, int), np.arange(2), np.array([0.0, np.nan]), k=1)
