"""What every model promises, whatever is in its file."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microrec.core import fitted
from microrec.core.fitted import Embeddings, Fitted, Trained
from microrec.models import registry
from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.neighbours.history import weighted_histories
from tests.worlds import logs
from tests.worlds.fitted_models import PUBLISHED

TRAINED = {"dim": 8, "epochs": 4, "learning_rate": 0.01}
LEARNED = {"epochs": 30}
"""For what has to be learned, instead of just trained."""
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
    "lightgcn": ("lightgcn", TRAINED),
    "lightgcn-softmax": ("lightgcn", {**TRAINED, "loss": "softmax", "user_rows": "none"}),
    "lightgcn-pruned": ("lightgcn", {**TRAINED, "keep_edges": 0.8, "popularity": True}),
    "mmgcn": ("mmgcn", TRAINED),
    "preference_gcn": ("preference_gcn", TRAINED),
    "preference_gcn-published": ("preference_gcn", {**TRAINED, **PUBLISHED}),
    "preference_gcn-softmax": ("preference_gcn", {**TRAINED, **PUBLISHED, "loss": "softmax"}),
    "preference_gcn-no_rows": ("preference_gcn", {**TRAINED, **PUBLISHED, "user_rows": "none"}),
    "preference_gcn-popularity": ("preference_gcn", {**TRAINED, **PUBLISHED, "popularity": True}),
    "preference_gcn-lengths": ("preference_gcn", {**TRAINED, **PUBLISHED, "unit": False}),
    "preference_gcn-strict": ("preference_gcn", {**TRAINED, **PUBLISHED, "strict": True}),
    "preference_gcn-video_graph": (
        "preference_gcn",
        {**TRAINED, **PUBLISHED, "pref_source": "video_graph", "edge_weight": "similarity"},
    ),
}
PERSONAL = [name for name in CASES if not name.startswith("popularity")]
NETWORKS = ("lightgcn", "mmgcn", "preference_gcn")
SIGNED = ("ease",)
"""Models that list what does not go together, below zero."""


def train(case: str, graph: Graph, **changed: Any) -> Trained:
    name, config = CASES[case]
    module = registry.model(name)
    chosen = module.Config.model_validate({**config, **changed})
    return module.fit(graph, chosen, np.random.default_rng(0))


def fit(case: str, graph: Graph, **changed: Any) -> Fitted:
    return train(case, graph, **changed).fitted


def scores(model: Fitted, graph: Graph) -> np.ndarray:
    """Dense scores, by the definition in fitted.py; -inf for what the model does not know."""
    if isinstance(model, Embeddings):
        dense = model.user @ model.video.T
        dense[:, ~model.video_known] = -np.inf
        return dense
    size = {"n_users": graph.n_users, "n_videos": graph.n_videos}
    watched = weighted_histories(graph.edges, model.history_decay, **size).toarray()
    n_nodes = len(model.indptr) - 1
    similarity = np.zeros((n_nodes, n_nodes))
    for node in range(n_nodes):
        span = slice(*model.indptr[node : node + 2])
        similarity[node, model.neighbour[span]] = model.similarity[span]
    if model.axis == "user":
        return similarity @ watched
    total = watched.sum(axis=1, keepdims=True)
    return watched @ similarity / np.where(total > 0, total, 1)


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
    return build_graph(logs.clusters(3), fit="trial")


@pytest.fixture(scope="module")
def trained_on(world: Graph) -> Callable[[str], Trained]:
    """Models of the world, each trained once."""
    return functools.cache(lambda case: train(case, world))


def test_contract_covers_every_model() -> None:
    """Models of sequences and of clips not here: these worlds have no clock, and some propose nothing.
    What they promise is in `test_sequence_contract.py`, `test_multi_trend.py`, `test_clip_interest.py`."""
    here = {name for name, _ in CASES.values()}
    plain = {
        name
        for name, card in registry.CARDS.items()
        if card.family not in ("sequence", "clip", "rates")
    }
    assert here == plain


@pytest.mark.parametrize("case", CASES)
def test_model_shapes_and_numbers_are_valid(
    case: str, world: Graph, trained_on: Callable[[str], Trained]
) -> None:
    model = trained_on(case).fitted
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
def test_model_same_generator_is_bit_identical(
    case: str, world: Graph, trained_on: Callable[[str], Trained]
) -> None:
    one, other = trained_on(case), train(case, world)
    assert_same(one.fitted, other.fitted)
    assert one.report == other.report
    assert one.parameters.keys() == other.parameters.keys()
    for name, value in one.parameters.items():
        np.testing.assert_array_equal(value, other.parameters[name])


@pytest.mark.parametrize("case", CASES)
def test_model_row_order_is_bit_identical(case: str, trained_on: Callable[[str], Trained]) -> None:
    other = build_graph(logs.shuffled(logs.clusters(3), 9), fit="trial")
    assert_same(trained_on(case).fitted, fit(case, other))


@pytest.mark.parametrize("case", CASES)
def test_model_saved_and_loaded_is_equal(
    case: str, trained_on: Callable[[str], Trained], tmp_path: Path
) -> None:
    trained = trained_on(case)
    module = registry.model(CASES[case][0])
    for folder in (tmp_path / "one", tmp_path / "two"):
        fitted.save(trained, folder, config=module.Config())
        assert_same(trained.fitted, fitted.load(folder))
        actual = fitted.load_parameters(folder)
        assert actual.keys() == trained.parameters.keys()
        for name, value in actual.items():
            np.testing.assert_array_equal(value, trained.parameters[name])
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    learned = [fitted.PARAMETERS] if trained.parameters else []
    assert files == ["arrays.safetensors", "model.json", *learned]
    assert bool(learned) == (CASES[case][0] in NETWORKS)
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("case", PERSONAL)
def test_model_withheld_video_is_recommended(case: str) -> None:
    graph = build_graph(logs.checkerboard(), fit="final")
    learned = LEARNED if CASES[case][0] in NETWORKS else {}
    dense = scores(fit(case, graph, **learned), graph)
    dense[graph.edges.user_idx, graph.edges.video_idx] = -np.inf
    expected = [logs.withheld(user) for user in range(graph.n_users)]
    assert dense.argmax(axis=1).tolist() == expected


@pytest.mark.parametrize("case", PERSONAL)
def test_model_user_without_edges_is_unknown(
    case: str, world: Graph, trained_on: Callable[[str], Trained]
) -> None:
    stranger = world.n_users // 2
    assert stranger not in world.edges.user_idx
    model = trained_on(case).fitted
    if isinstance(model, Embeddings):
        assert not model.user_known[stranger]
    elif model.axis == "user":
        assert model.indptr[stranger] == model.indptr[stranger + 1]


@pytest.mark.parametrize("case", CASES)
def test_model_night_without_edges_has_no_users(case: str) -> None:
    nobody = logs.tables({"train": np.zeros((4, 5), dtype=bool)}, vectors=logs.parity_vectors(5))
    model = fit(case, build_graph(nobody, fit="trial"))
    if isinstance(model, Embeddings):
        assert not (model.user @ model.video.T).any()
    else:
        assert len(model.neighbour) == 0
