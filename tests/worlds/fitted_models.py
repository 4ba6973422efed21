"""Fits of neighbour models to who liked what, and what tests ask of fitted models of any kind."""

from typing import Any

import numpy as np

from microrec.core.fitted import NeighbourLists, Trained
from microrec.models.inputs.graph_arrays import build_graph
from tests.worlds import logs

PUBLISHED: dict[str, Any] = {
    "loss": "bpr",
    "layers": 2,
    "user_rows": "own",
    "video_power": 0.5,
    "pref_power": 1.0,
    "unit": True,
    "popularity": False,
}
"""Config of `preference_gcn` as in README.md of the models, section 3.2: the defaults are other ones."""


def neighbour_lists(
    model: Any, likes: np.ndarray, **config: object
) -> tuple[NeighbourLists, dict[str, Any]]:
    """Lists and report of a model of neighbours (its module) fitted to a matrix of likes."""
    graph = build_graph(logs.tables({"train": likes}), fit="final")
    made = model.fit(graph, model.Config.model_validate(config), np.random.default_rng(0))
    assert isinstance(made.fitted, NeighbourLists)
    return made.fitted, dict(made.report)


def assert_lists_are_the_best(lists: NeighbourLists, similarity: np.ndarray, k: int) -> None:
    """Each list holds the k largest positive similarities of its row, ties by index."""
    for node, row in enumerate(similarity):
        span = slice(*lists.indptr[node : node + 2])
        order = sorted(range(len(row)), key=lambda other: (-row[other], other))[:k]
        order = [other for other in order if row[other] > 0]
        assert lists.neighbour[span].tolist() == order
        np.testing.assert_allclose(lists.similarity[span], row[order], rtol=1e-6)


def assert_same_lists(left: NeighbourLists, right: NeighbourLists) -> None:
    np.testing.assert_array_equal(left.indptr, right.indptr)
    np.testing.assert_array_equal(left.neighbour, right.neighbour)
    np.testing.assert_array_equal(left.similarity, right.similarity)


def with_users_of_everything(likes: np.ndarray) -> tuple[np.ndarray, int]:
    """The likes with two more users who like every video, and the length of the longest other history."""
    bots = np.ones((2, likes.shape[1]), dtype=bool)
    return np.vstack([likes, bots]), int(likes.sum(axis=1).max())


def assert_same_bits(left: Trained, right: Trained) -> None:
    """Reports, parameters and arrays are equal to the last bit."""
    assert left.report == right.report
    for ours, theirs in (
        (left.parameters, right.parameters),
        (vars(left.fitted), vars(right.fitted)),
    ):
        assert set(ours) == set(theirs)
        for name, value in ours.items():
            assert value.tobytes() == theirs[name].tobytes(), name
