"""W equals brute force; users who watch everything are left out of it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from microrec.core.fitted import NeighbourLists
from microrec.models.inputs.graph_arrays import build_graph
from microrec.models.neighbours import video_neighbours
from tests.worlds import logs

RNG = np.random.default_rng(0)


def fit(likes: np.ndarray, **config: object) -> tuple[NeighbourLists, dict]:
    graph = build_graph(logs.tables({"train": likes}), fit="final")
    made = video_neighbours.fit(graph, video_neighbours.Config.model_validate(config), RNG)
    assert isinstance(made.fitted, NeighbourLists)
    return made.fitted, dict(made.report)


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
    for video in range(7):
        span = slice(*lists.indptr[video : video + 2])
        order = sorted(range(7), key=lambda other: (-expected[video, other], other))[:k]
        order = [other for other in order if expected[video, other] > 0]
        assert lists.neighbour[span].tolist() == order
        np.testing.assert_allclose(lists.similarity[span], expected[video, order], rtol=1e-6)


def test_video_neighbours_user_of_everything_changes_nothing() -> None:
    likes = np.random.default_rng(1).random((300, 30)) < 0.1
    with_bots = np.vstack([likes, np.ones((2, 30), dtype=bool)])
    cap = int(likes.sum(axis=1).max())
    one, _ = fit(likes, activity_cap=cap)
    other, report = fit(with_bots, activity_multiple=5.0)
    assert report["users_over_cap"] >= 2
    capped, _ = fit(with_bots, activity_cap=cap)
    np.testing.assert_array_equal(one.neighbour, capped.neighbour)
    np.testing.assert_array_equal(one.similarity, capped.similarity)
    assert len(other.neighbour) < 30 * 29
