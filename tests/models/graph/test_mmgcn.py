"""The equations of the docstring, dense; what the published program did not train is trained here."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from microrec.models.graph import fitting, mmgcn
from microrec.models.graph.mmgcn import MMGCN, Branch, Config
from microrec.models.graph.propagation import Watched
from microrec.models.inputs.graph_arrays import Graph, build_graph
from tests.worlds import logs

CAP = 5
"""Users with more videos do not speak."""


@pytest.fixture
def graph() -> Graph:
    """Two modalities of 7 and 3 numbers; video 3 is cold, 4 is liked by users over the cap alone,
    6 has no vector at all, user 9 likes nothing."""
    likes = np.random.default_rng(8).random((16, 14)) < 0.2
    likes[0] = np.arange(14) != 3
    likes[:, 3] = likes[1:, 4] = likes[9] = False
    likes[2, 6] = True
    rng = np.random.default_rng(0)
    vectors = {
        name: rng.standard_normal((14, size)).astype(np.float32)
        for name, size in (("textual", 7), ("visual", 3))
    }
    vectors["textual"][[1, 6, 10]] = vectors["visual"][[2, 6]] = np.nan
    return build_graph(logs.tables({"train": likes}, vectors=vectors), fit="final")


def a_model(graph: Graph, **config: object) -> MMGCN:
    made = Config.model_validate({"dim": 4, "activity_cap": CAP, "hidden": 5, **config})
    generator = torch.Generator().manual_seed(0)
    model = mmgcn.build(graph, graph.edges, made, generator)
    for parameter in model.parameters():  # biases away from zero
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def rows(model: MMGCN, watched: Watched | None = None) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        user, video = model(torch.arange(model.watch.n_users), watched or model.watch.whole)
    return user.numpy(), video.numpy()


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    weight = layer.weight.detach().numpy()
    return x @ weight.T + (0 if layer.bias is None else layer.bias.detach().numpy())


def branch_rows(
    branch: Branch, vectors: np.ndarray, present: np.ndarray, ids: np.ndarray, mean: np.ndarray
) -> np.ndarray:
    """x of the last layer; `mean` takes rows to the mean over each node's neighbours."""
    features = vectors
    if features.shape[1] > 5:
        features = np.where(present[:, None], linear(branch.map, features), 0)
    x = np.vstack([branch.preference.detach().numpy(), features])
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    for gather, own, join in zip(branch.gather, branch.own, branch.join, strict=True):
        h = leaky(linear(gather, mean @ x))
        xh = leaky(linear(own, x)) + ids
        x = leaky(linear(join, np.hstack([h, xh])))
    return x


def expected(
    graph: Graph, model: MMGCN, names: list[str], present: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of users and videos when the edges of `present` are in the graph."""
    n_users, edges = graph.n_users, graph.edges
    within_cap = np.bincount(edges.user_idx, minlength=n_users) <= CAP
    viewers = np.bincount(edges.video_idx[within_cap[edges.user_idx]], minlength=graph.n_videos)
    a = np.zeros((n_users + graph.n_videos,) * 2)
    a[edges.user_idx, n_users + edges.video_idx] = present
    a[n_users:, :n_users] = (a[:n_users, n_users:] * within_cap[:, None]).T
    mean = a / np.maximum(a.sum(axis=1, keepdims=True), 1)
    video_id = np.where((viewers > 0)[:, None], model.video_id.detach().numpy(), 0)
    ids = np.vstack([model.user_id.detach().numpy(), video_id])
    masks = [graph.features[name].present for name in names]
    actual = [
        branch_rows(branch, graph.features[name].vector, mask, ids, mean)
        for branch, name, mask in zip(model.branches, names, masks, strict=True)
    ]
    user = np.mean([x[:n_users] for x in actual], axis=0)
    video = np.zeros((graph.n_videos, model.config.dim))
    for v in range(graph.n_videos):
        have = [x[n_users + v] for x, mask in zip(actual, masks, strict=True) if mask[v]]
        video[v] = np.mean(have, axis=0) if have else 0
    return user, video


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({}, ["textual", "visual"]),
        ({"layers": 1}, ["textual", "visual"]),
        ({"modalities": ("visual",), "layers": 2}, ["visual"]),
    ],
    ids=str,
)
def test_mmgcn_equals_the_equations(
    graph: Graph, config: dict, names: list[str], masked: bool
) -> None:
    model = a_model(graph, **config)
    assert [branch.mapped for branch in model.branches] == [name == "textual" for name in names]
    watched, present = model.watch.whole, np.ones(len(graph.edges))
    if masked:
        out = np.arange(0, len(present), 3)
        present[out] = 0
        watched = model.watch.without(watched.present, torch.from_numpy(out))
    user, video = expected(graph, model, names, present)
    actual = rows(model, watched)
    np.testing.assert_allclose(actual[0], user, atol=2e-6)
    np.testing.assert_allclose(actual[1], video, atol=2e-6)


def test_mmgcn_missing_modality_is_left_out_of_the_mean(graph: Graph) -> None:
    model = a_model(graph)
    part = graph.features["textual"]
    before = rows(model)[1]
    model.branches[0].join[-1].bias.data += 1  # textual comes first
    changed = (rows(model)[1] != before).any(axis=1)
    assert changed.tolist() == part.present.tolist()
    np.testing.assert_array_equal(model.known_videos(), np.arange(14) != 6)
    assert not before[6].any()


def test_mmgcn_without_modalities_knows_nothing(graph: Graph) -> None:
    config = Config(dim=4, epochs=1, activity_cap=CAP)
    trained = mmgcn.fit(replace(graph, features={}), config, np.random.default_rng(0))
    assert not vars(trained.fitted)["video_known"].any()
    assert not vars(trained.fitted)["user"].any()


@pytest.mark.parametrize("cold", [3, 4])  # nobody's, and of those who do not speak
def test_mmgcn_cold_video_has_vectors_but_no_id_row(graph: Graph, cold: int) -> None:
    model = a_model(graph)
    before = rows(model)
    model.video_id.data[cold] += 100
    for one, other in zip(before, rows(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert before[1][cold].any()
    model.video_id.data[7] += 100
    assert not np.array_equal(rows(model)[1], before[1])


def test_mmgcn_ids_and_preferences_are_trained(graph: Graph) -> None:
    """They are no parameters in the published program, nor in its port (README.md of the models, section 3.3)."""
    config = Config(dim=4, activity_cap=CAP, hidden=5, batch_size=64, l2=0)
    model = mmgcn.build(graph, graph.edges, config, torch.Generator().manual_seed(0))
    names = ("user_id", "video_id", "branches.0.preference", "branches.1.preference")
    parameters = dict(model.named_parameters())
    before = {name: parameters[name].detach().clone() for name in names}
    (batch,) = fitting.batches(model, graph.edges, config, torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    fitting.batch_loss(model, batch, config).backward()
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    optimizer.step()
    for name in names:
        moved = (parameters[name] != before[name]).any(dim=1)
        assert moved.float().mean() > 0.5, name
    assert not moved[9]  # who likes nothing is not learned about
    assert {"user_id", "video_id", "branches.1.preference"} <= set(
        mmgcn.fit(graph, Config(dim=4, epochs=1), np.random.default_rng(0)).parameters
    )
