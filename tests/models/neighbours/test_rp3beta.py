"""W counts every walk; users who watch everything carry none."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from microrec.core.fitted import NeighbourLists
from microrec.models.neighbours import rp3beta
from tests.worlds import fitted_models

EVERYBODY = 10**6


def fit(likes: np.ndarray, **config: object) -> tuple[NeighbourLists, dict]:
    return fitted_models.neighbour_lists(rp3beta, likes, **{"activity_cap": EVERYBODY, **config})


def walks(likes: np.ndarray, cap: int, config: dict[str, float]) -> np.ndarray:
    """W of the docstring in float32, one walk at a time."""
    carriers = [set(np.flatnonzero(row)) for row in likes if 0 < row.sum() <= cap]
    n_videos = likes.shape[1]
    viewers = [sum(video in carrier for carrier in carriers) for video in range(n_videos)]
    similarity = np.zeros((n_videos, n_videos))
    for carrier in carriers:
        for start in carrier:
            for end in carrier - {start}:
                steps = (1 / viewers[start]) * (1 / len(carrier))
                similarity[start, end] += steps ** config["alpha"]
    for end in range(n_videos):
        if viewers[end]:
            similarity[:, end] /= viewers[end] ** config["beta"]
            similarity[:, end] *= 1 + config["tie_break"] * viewers[end] / max(viewers)
    return similarity.astype(np.float32)


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.sampled_from([0.0, 0.6]),
    st.integers(2, 5),
)
def test_rp3beta_equals_the_sum_of_all_walks(
    seed: int, k: int, alpha: float, beta: float, cap: int
) -> None:
    likes = np.random.default_rng(seed).random((9, 7)) < 0.4
    config = {"alpha": alpha, "beta": beta, "tie_break": 0.07}
    lists, _ = fit(likes, top_k=k, activity_cap=cap, **config)
    expected = walks(likes, cap, config)
    fitted_models.assert_lists_are_the_best(lists, expected, k)


def test_rp3beta_plain_walk_probabilities_sum_to_one() -> None:
    likes = np.random.default_rng(4).random((50, 20)) < 0.2
    lists, _ = fit(likes, alpha=1.0, beta=0.0, tie_break=0.0)
    for video in range(20):
        span = slice(*lists.indptr[video : video + 2])
        lengths = likes[likes[:, video]].sum(axis=1)
        returns = np.mean(1 / lengths)
        np.testing.assert_allclose(lists.similarity[span].sum() + returns, 1, rtol=1e-6)


def test_rp3beta_equal_walks_prefer_the_popular_then_the_index() -> None:
    # video 0 goes once with each of 1, 2 and 3; 2 has one more viewer, and beta 0 does not care
    likes = np.array([[1, 0, 0, 1], [1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0]], dtype=bool)
    plain, _ = fit(likes, beta=0.0, tie_break=0.0, top_k=2)
    popular, _ = fit(likes, beta=0.0, tie_break=0.01, top_k=2)
    assert plain.neighbour[:2].tolist() == [1, 2]
    assert popular.neighbour[:2].tolist() == [2, 1]


def test_rp3beta_user_of_everything_changes_nothing() -> None:
    likes = np.random.default_rng(1).random((300, 30)) < 0.1
    with_bots, cap = fitted_models.with_users_of_everything(likes)
    without, _ = fit(likes)
    capped, report = fit(with_bots, activity_cap=cap)
    fitted_models.assert_same_lists(without, capped)
    assert report == {"activity_cap": cap, "users_over_cap": 2, "history_decay": 1.0}
    _, by_default = fit(with_bots, activity_cap=None, activity_multiple=5.0)
    assert cap <= by_default["activity_cap"] < 30
    assert by_default["users_over_cap"] == 2


def test_rp3beta_without_edges_is_an_empty_list() -> None:
    likes = np.random.default_rng(2).random((30, 8)) < 0.4
    likes[:, [3, 7]] = False
    likes[:, 5] = False
    likes[0] = np.arange(8) == 5  # one viewer, who goes nowhere else
    lists, _ = fit(likes)
    assert np.flatnonzero(np.diff(lists.indptr) == 0).tolist() == [3, 5, 7]
    assert not {3, 5, 7} & set(lists.neighbour.tolist())
