"""W equals brute force; users who watch everything are left out of it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from microrec.core.fitted import NeighbourLists
from microrec.models.neighbours import video_neighbours
from tests.worlds import fitted_models


def fit(likes: np.ndarray, **config: object) -> tuple[NeighbourLists, dict]:
    return fitted_models.neighbour_lists(video_neighbours, likes, **config)


def brute_force(likes: np.ndarray, cap: int, config: dict[str, float]) -> np.ndarray:
    """W of the docstring in float32, summed over users in order."""
    ordinary = [row for row in likes if 0 < row.sum() <= cap]
    n_videos = likes.shape[1]
    viewers = np.array([sum(float(row[v]) for row in ordinary) for v in range(n_videos)])
    similarity = np.zeros((n_videos, n_videos), dtype=np.float32)
    for i in range(n_videos):
        for j in range(n_videos):
            common = sum(1 / row.sum() for row in ordinary if row[i] and row[j])
            if i != j and common > 0:
                size = viewers[i] ** (1 - config["alpha"]) * viewers[j] ** config["alpha"]
                similarity[i, j] = (
                    common / (size + config["shrinkage"])
                    + config["tie_break"] * viewers[j] / viewers.max()
                )
    return similarity


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.3, 0.5]),
    st.sampled_from([0.0, 20.0]),
    st.integers(2, 5),
)
def test_video_neighbours_equals_brute_force(
    seed: int, k: int, alpha: float, shrinkage: float, cap: int
) -> None:
    likes = np.random.default_rng(seed).random((9, 7)) < 0.4
    config = {"alpha": alpha, "shrinkage": shrinkage, "tie_break": 1e-4}
    lists, _ = fit(likes, top_k=k, activity_cap=cap, **config)
    expected = brute_force(likes, cap, config)
    fitted_models.assert_lists_are_the_best(lists, expected, k)


def test_video_neighbours_user_of_everything_changes_nothing() -> None:
    likes = np.random.default_rng(1).random((300, 30)) < 0.1
    with_bots, cap = fitted_models.with_users_of_everything(likes)
    without, _ = fit(likes, activity_cap=cap)
    by_default, report = fit(with_bots, activity_multiple=5.0)
    assert report["users_over_cap"] >= 2
    capped, _ = fit(with_bots, activity_cap=cap)
    fitted_models.assert_same_lists(without, capped)
    assert len(by_default.neighbour) < 30 * 29
