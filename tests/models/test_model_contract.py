"""What every model promises, whatever is in its file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import worlds

from microrec.models import fitted, registry
from microrec.models.data import Graph, binary_matrix, build_graph
from microrec.models.fitted import Embeddings, Fitted

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "popularity": ("popularity", {}),
    "popularity-decayed": ("popularity", {"count": "decayed_weight"}),
    "content": ("content", {}),
    "user_neighbours-pearson": ("user_neighbours", {"similarity": "pearson"}),
    "user_neighbours-cosine": ("user_neighbours", {"similarity": "cosine"}),
    "video_neighbours": ("video_neighbours", {}),
    "ease": ("ease", {}),
    "ease-most_viewed": ("ease", {"l2": 1.0, "max_videos": 30}),
    "rp3beta": ("rp3beta", {}),
    "rp3beta-held_back": ("rp3beta", {"alpha": 1.0, "beta": 0.4}),
    "preference_gcn": ("preference_gcn", {"dim": 8, "epochs": 30}),
    "preference_gcn-strict": ("preference_gcn", {"dim": 8, "epochs": 30, "strict": True}),
    "preference_gcn-video_graph": (
        "preference_gcn",
        {"dim": 8, "epochs": 30, "pref_source": "video_graph", "edge_weight": "similarity"},
    ),
}
PERSONAL = [name for name in CASES if not name.startswith("popularity")]
SIGNED = ("ease",)
"""Models that list what does not go together, below zero."""


def fit(case: str, graph: Graph, seed: int = 0) -> Fitted:
    name, config = CASES[case]
    module = registry.model(name)
    trained = module.fit(graph, module.Config.model_validate(config), np.random.default_rng(seed))
    return trained.fitted


def scores(model: Fitted, graph: Graph) -> np.ndarray:
    """Dense scores, by the definition in fitted.py; -inf for what the model does not know."""
    if isinstance(model, Embeddings):
        dense = model.user @ model.video.T
        dense[:, ~model.video_known] = -np.inf
        return dense
    watched = binary_matrix(graph.edges, n_users=graph.n_users, n_videos=graph.n_videos).toarray()
    n_nodes = len(model.indptr) - 1
    similarity = np.zeros((n_nodes, n_nodes))
    for node in range(n_nodes):
        span = slice(*model.indptr[node : node + 2])
        similarity[node, model.neighbour[span]] = model.similarity[span]
    if model.axis == "user":
        return similarity @ watched
    return watched @ similarity / np.maximum(watched.sum(axis=1, keepdims=True), 1)


def assert_same(left: Fitted, right: Fitted) -> None:
    assert type(left) is type(right)
    for name, value in vars(left).items():
        other = getattr(right, name)
        assert type(value) is type(other)
        if isinstance(value, np.ndarray):
            assert value.dtype == other.dtype
        np.testing.assert_array_equal(value, other)


@pytest.fixture(scope="module")
def world() -> Graph:
    return build_graph(worlds.clusters(3), fit="trial")


@pytest.mark.parametrize("case", CASES)
def test_shapes_and_finite_numbers(case: str, world: Graph) -> None:
    model = fit(case, world)
    if isinstance(model, Embeddings):
        assert model.user.shape == (world.n_users, model.video.shape[1])
        assert len(model.video) == len(model.video_known) == world.n_videos
        assert len(model.user_known) == world.n_users
        assert np.isfinite(model.user).all()
        assert np.isfinite(model.video).all()
        assert not model.user[~model.user_known].any()
        assert not model.video[~model.video_known].any()
        assert model.user_known.sum() > world.n_users / 2
        return
    n_nodes = {"user": world.n_users, "video": world.n_videos}[model.axis]
    assert len(model.indptr) == n_nodes + 1
    assert model.indptr[-1] == len(model.neighbour) == len(model.similarity) > 0
    if CASES[case][0] in SIGNED:
        assert (model.similarity != 0).all()
    else:
        assert (model.similarity > 0).all()
    assert np.isfinite(model.similarity).all()
    for node in range(n_nodes):
        span = slice(*model.indptr[node : node + 2])
        order = np.lexsort((model.neighbour[span], -model.similarity[span]))
        np.testing.assert_array_equal(order, np.arange(len(order)))
        assert node not in model.neighbour[span]


@pytest.mark.parametrize("case", CASES)
def test_same_generator_same_bits(case: str, world: Graph) -> None:
    assert_same(fit(case, world, seed=1), fit(case, world, seed=1))


@pytest.mark.parametrize("case", CASES)
def test_row_order_changes_no_bit(case: str) -> None:
    world = worlds.clusters(4)
    one = build_graph(world, fit="trial")
    other = build_graph(worlds.shuffled(world, 9), fit="trial")
    assert_same(fit(case, one), fit(case, other))


@pytest.mark.parametrize("case", CASES)
def test_saved_and_loaded(case: str, world: Graph, tmp_path: Path) -> None:
    model = fit(case, world)
    module = registry.model(CASES[case][0])
    for folder in (tmp_path / "one", tmp_path / "two"):
        fitted.save(model, folder, config=module.Config(), report={"epochs": 3})
        assert_same(model, fitted.load(folder))
    for name in ("arrays.safetensors", "model.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("case", PERSONAL)
def test_finds_the_withheld_video(case: str) -> None:
    graph = build_graph(worlds.checkerboard(), fit="final")
    dense = scores(fit(case, graph), graph)
    dense[graph.edges.user_idx, graph.edges.video_idx] = -np.inf
    expected = [worlds.withheld(user) for user in range(graph.n_users)]
    assert dense.argmax(axis=1).tolist() == expected


@pytest.mark.parametrize("case", PERSONAL)
def test_a_user_without_edges_is_unknown(case: str, world: Graph) -> None:
    stranger = world.n_users // 2
    assert stranger not in world.edges.user_idx
    model = fit(case, world)
    if isinstance(model, Embeddings):
        assert not model.user_known[stranger]
    elif model.axis == "user":
        assert model.indptr[stranger] == model.indptr[stranger + 1]


@pytest.mark.parametrize("case", CASES)
def test_a_night_without_edges_knows_nobody(case: str) -> None:
    nobody = worlds.tables(
        {"train": np.zeros((4, 5), dtype=bool)}, vectors=worlds.parity_vectors(5)
    )
    model = fit(case, build_graph(nobody, fit="trial"))
    if isinstance(model, Embeddings):
        assert not (model.user @ model.video.T).any()
    else:
        assert len(model.neighbour) == 0
