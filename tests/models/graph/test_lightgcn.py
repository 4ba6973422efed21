"""The propagation equals a dense one, with and without rows of users; cold videos have no row."""

import numpy as np
import pytest
import torch

from microrec.models.graph import lightgcn
from microrec.models.graph.lightgcn import Config, LightGCN
from microrec.models.graph.propagation import Watched
from microrec.models.graph.sampling import Triples
from microrec.models.inputs.graph_arrays import Graph, build_graph
from tests.worlds import logs

CAP = 5
"""Users with more videos do not speak."""


@pytest.fixture
def graph() -> Graph:
    """Video 3 is cold, 4 is liked by users over the cap alone, user 9 likes nothing,
    11 and 12 the same."""
    likes = np.random.default_rng(8).random((16, 14)) < 0.2
    likes[0] = np.arange(14) != 3
    likes[:, 3] = likes[1:, 4] = likes[9] = False
    likes[12] = likes[11]
    return build_graph(logs.tables({"train": likes}), fit="final")


def a_model(graph: Graph, **config: object) -> LightGCN:
    made = Config.model_validate({"dim": 4, "activity_cap": CAP, **config})
    model = lightgcn.build(graph, graph.edges, made, torch.Generator().manual_seed(0))
    if made.popularity:
        model.popularity.data += torch.rand(graph.n_videos, 1)
    return model


def rows(model: LightGCN, watched: Watched | None = None) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        user, video = model(torch.arange(model.watch.n_users), watched or model.watch.whole)
    return user.numpy(), video.numpy()


def dense(graph: Graph, model: LightGCN, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The equation with matrices over all nodes at once, users first."""
    config, n_users = model.config, graph.n_users
    n = n_users + graph.n_videos
    n_liked = np.bincount(graph.edges.user_idx, minlength=n_users)
    within_cap = n_liked <= CAP
    within = within_cap[graph.edges.user_idx]
    warm = np.bincount(graph.edges.video_idx[within], minlength=graph.n_videos) > 0
    a = np.zeros((n, n))
    a[graph.edges.user_idx, n_users + graph.edges.video_idx] = present
    a[n_users:, :n_users] = (a[:n_users, n_users:] * within_cap[:, None]).T
    degree = np.maximum(a.sum(axis=1), 1)
    power = np.where(np.arange(n) < n_users, config.user_power, config.video_power)
    step = degree[:, None] ** -power[:, None] * a * degree**-power
    own = config.user_rows == "own"
    user_id = model.user_id.detach().numpy() if own else np.zeros((n_users, config.dim))
    layers = [np.vstack([user_id, model.video_id.detach().numpy() * warm[:, None]])]
    for _ in range(config.layers):
        layers.append(step @ layers[-1])
    # without rows of users, theirs are those of layers 1, 3, .. and the videos' those of 0, 2, ..
    counts = [
        config.layers + 1 if own else (config.layers + 1) // 2,
        config.layers + 1 if own else config.layers // 2 + 1,
    ]
    total = sum(layers)
    user, video = total[:n_users] / counts[0], total[n_users:] / counts[1]
    if not config.popularity:
        return user, video
    ones = np.ones((n_users, 1))
    return np.hstack([user, ones]), np.hstack([video, model.popularity.detach().numpy()])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("user_rows", ["own", "none"])
@pytest.mark.parametrize(
    "config",
    [
        {"layers": 1},
        {"layers": 2, "popularity": True},
        {"layers": 3},
        {"layers": 4, "user_power": 0.3, "video_power": 0.8},
        {"user_power": 1.0, "video_power": 0.0},
    ],
    ids=str,
)
def test_lightgcn_equals_dense(graph: Graph, config: dict, user_rows: str, masked: bool) -> None:
    model = a_model(graph, user_rows=user_rows, **config)
    assert ("user_id" in dict(model.named_parameters())) == (user_rows == "own")
    watched, present = model.watch.whole, np.ones(len(graph.edges))
    if masked:
        out = np.arange(0, len(present), 3)
        present[out] = 0
        watched = model.watch.without(watched.present, torch.from_numpy(out))
    for one, other in zip(rows(model, watched), dense(graph, model, present), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("cold", [3, 4])  # nobody's, and of those who do not speak
def test_lightgcn_cold_video_has_no_row(graph: Graph, cold: int) -> None:
    model = a_model(graph)
    before = rows(model)
    assert not before[1][cold].any()
    model.video_id.data[cold] += 100
    for one, other in zip(before, rows(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not model.known_videos()[cold]
    assert model.known_videos().sum() == graph.n_videos - 2


def test_lightgcn_without_user_rows_averages_videos(graph: Graph) -> None:
    """Two users of the same videos are the same, whoever they are; without an edge, nobody."""
    model = a_model(graph, user_rows="none")
    user, _ = rows(model)
    assert not user[9].any()
    assert user[11].any()
    np.testing.assert_allclose(user[11], user[12], atol=1e-7)
    own = rows(a_model(graph))[0]
    assert not np.allclose(own[11], own[12], atol=1e-2)


def test_lightgcn_l2_is_on_existing_rows(graph: Graph) -> None:
    idx = [torch.tensor([one]) for one in (1, 2, 5, 0)]
    triples = Triples(*idx)
    for user_rows, expected in (("own", 3), ("none", 2)):
        model = a_model(graph, user_rows=user_rows)
        actual = [rows.detach().squeeze(0) for rows in model.id_rows(triples)]
        held = [model.video_id[2], model.video_id[5]]
        if user_rows == "own":
            held = [model.user_id[1], *held]
        assert len(actual) == expected
        for one, other in zip(actual, held, strict=True):
            assert torch.equal(one, other)
