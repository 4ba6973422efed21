"""Both similarities equal brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microrec.core.fitted import NeighbourLists
from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.neighbours import user_neighbours
from tests.worlds import logs

RNG = np.random.default_rng(0)


def fit(graph: Graph, **config: object) -> NeighbourLists:
    made = user_neighbours.fit(graph, user_neighbours.Config.model_validate(config), RNG).fitted
    assert isinstance(made, NeighbourLists)
    return made


def rows(lists: NeighbourLists) -> list[list[tuple[int, float]]]:
    pairs = list(zip(lists.neighbour.tolist(), lists.similarity.tolist(), strict=True))
    return [pairs[a:b] for a, b in zip(lists.indptr[:-1], lists.indptr[1:], strict=True)]


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 5.0]), st.integers(1, 6))
def test_user_neighbours_cosine_equals_brute_force(seed: int, shrinkage: float, k: int) -> None:
    rng = np.random.default_rng(seed)
    likes = rng.random((9, 7)) < 0.4
    graph = build_graph(logs.tables({"train": likes}), fit="final")
    actual = rows(fit(graph, similarity="cosine", shrinkage=shrinkage, top_k=k))
    sets = [set(np.flatnonzero(row)) for row in likes]
    for user, mine in enumerate(sets):
        expected = [
            (
                other,
                float(
                    np.float32(len(mine & his) / (np.sqrt(float(len(mine) * len(his))) + shrinkage))
                ),
            )
            for other, his in enumerate(sets)
            if other != user and mine & his
        ]
        expected.sort(key=lambda pair: (-pair[1], pair[0]))
        assert actual[user] == expected[:k]


@pytest.mark.parametrize("k", [3, 1000])
def test_user_neighbours_pearson_is_the_network_nearest_first(k: int) -> None:
    world = logs.clusters(8)
    graph = rows(fit(build_graph(world, fit="trial"), similarity="pearson", top_k=k))
    network = world["user_edges"].to_pylist()
    for user in range(60):
        expected = sorted(
            (-np.float32(row["pearson"]), row["neighbour_idx"])
            for row in network
            if row["user_idx"] == user
        )
        assert graph[user] == [(other, -minus) for minus, other in expected[:k]]
