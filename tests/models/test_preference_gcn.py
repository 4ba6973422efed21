"""The equations of models.md 3.2, cold videos, masked modalities, epochs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import worlds

from microrec.models import preference_gcn
from microrec.models.data import Features, Graph, build_graph
from microrec.models.preference_gcn import Config, ModalityAttention, PreferenceGCN, prepare
from microrec.models.sampling import Sampler
from microrec.models.training import Schedule, train


@pytest.fixture
def graph() -> Graph:
    """A small world in which video 3 is cold."""
    whole = build_graph(worlds.clusters(2, n_users=30, n_videos=24), fit="trial")
    return replace(whole, edges=whole.edges.where(whole.edges.video_idx != 3))


def a_model(graph: Graph, seed: int = 0, **config: object) -> PreferenceGCN:
    made = Config.model_validate({"dim": 4, **config})
    generator = torch.Generator().manual_seed(seed)
    model = PreferenceGCN(prepare(graph, graph.edges, made), made, generator)
    for parameter in model.parameters():  # biases away from zero
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def rows(model: PreferenceGCN) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        user, video = model(torch.arange(model.inputs.n_users))
    return user.numpy(), video.numpy()


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def merged(attention: ModalityAttention, parts: list[np.ndarray | None]) -> np.ndarray:
    """One node's attention, its missing modalities as None."""
    weight, bias, query = (
        part.detach().numpy() for part in (attention.weight, attention.bias, attention.query)
    )
    present = [part for part in parts if part is not None]
    if not present:
        return np.zeros(len(bias))
    share = np.exp([(np.tanh(part @ weight + bias) @ query).item() for part in present])
    return sum(a * part for a, part in zip(share / share.sum(), present, strict=True))


Parts = list[list[np.ndarray | None]]


def light_gcn(liked: np.ndarray, user_id: np.ndarray, video_id: np.ndarray) -> list[np.ndarray]:
    """e of users and of videos, two layers."""
    degrees = np.outer(liked.sum(axis=1), liked.sum(axis=0))
    norm = liked / np.sqrt(np.maximum(degrees, 1))
    layers = [(user_id, video_id)]
    for _ in range(2):
        layers.append((norm @ layers[-1][1], norm.T @ layers[-1][0]))
    return [np.mean([layer[side] for layer in layers], axis=0) for side in (0, 1)]


def video_graphs(graph: Graph, video_id: np.ndarray, warm: np.ndarray, weigh: str) -> Parts:
    """h of each video and modality, None where no warm video is near."""
    h: Parts = [[] for _ in range(graph.n_videos)]
    for pairs in graph.modality_edges.values():
        near = np.zeros((graph.n_videos, graph.n_videos))
        for node, neighbour, cosine in zip(*vars(pairs).values(), strict=True):
            if cosine > 0 and warm[neighbour]:
                near[node, neighbour] = 1 if weigh == "one" else cosine
        scale = np.sqrt(np.outer(near.sum(axis=1), near.sum(axis=0)))
        hidden = np.divide(near, scale, out=np.zeros_like(near), where=scale > 0) @ video_id
        for video in range(graph.n_videos):
            h[video].append(hidden[video] if near[video].any() else None)
    return h


def projections(graph: Graph, model: PreferenceGCN) -> Parts:
    """c of each video and modality, None where there is no vector."""
    c: Parts = [[] for _ in range(graph.n_videos)]
    for part, weight, bias in zip(
        graph.features.values(), model.projections, model.biases, strict=True
    ):
        projected = unit(part.vector) @ weight.detach().numpy() + bias.detach().numpy()
        for video in range(graph.n_videos):
            c[video].append(projected[video] if part.present[video] else None)
    return c


@pytest.mark.parametrize("source", ["features", "video_graph"])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("weigh", ["one", "similarity"])
def test_equals_the_equations_node_by_node(
    graph: Graph, source: str, strict: bool, weigh: str
) -> None:
    model = a_model(graph, pref_source=source, strict=strict, edge_weight=weigh)
    liked = np.zeros((graph.n_users, graph.n_videos))
    liked[graph.edges.user_idx, graph.edges.video_idx] = 1
    warm = liked.any(axis=0)
    video_id = model.video_id.detach().numpy() * warm[:, None]
    user, video = light_gcn(liked, model.user_id.detach().numpy(), video_id)
    h, c = video_graphs(graph, video_id, warm, weigh), projections(graph, model)
    carried = c if source == "features" else h
    for u in range(graph.n_users):
        his = [carried[v] for v in np.flatnonzero(liked[u])]
        means = []
        for m in range(2):
            have = [parts[m] for parts in his if parts[m] is not None]
            means.append(np.mean(have, axis=0) if have else None)
        user[u] += unit(merged(model.merge_taste, means))
    for v in range(graph.n_videos):
        video[v] += unit(merged(model.merge_similar, h[v]))
        if source == "features" and not strict:
            video[v] += unit(merged(model.merge_taste, c[v]))
    found = rows(model)
    np.testing.assert_allclose(found[0], user, atol=2e-6)
    np.testing.assert_allclose(found[1], video, atol=2e-6)


def test_asked_users_get_their_own_rows(graph: Graph) -> None:
    model = a_model(graph)
    asked = torch.tensor([5, 2, 5])
    with torch.no_grad():
        found, _ = model(asked)
    np.testing.assert_allclose(found.numpy(), rows(model)[0][[5, 2, 5]], atol=1e-6)


def test_id_row_of_a_cold_video_is_never_used(graph: Graph) -> None:
    model = a_model(graph)
    before = rows(model)
    model.video_id.data[3] += 100
    after = rows(model)
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert after[1][3].any()  # but its neighbours and vectors are
    model.video_id.data[4] += 100
    assert not np.array_equal(rows(model)[1], after[1])


def test_missing_modality_is_masked(graph: Graph) -> None:
    part = graph.features["textual"]
    absent = np.flatnonzero(~part.present)
    assert len(absent) > 2
    vector = part.vector.copy()
    vector[absent] = 7.0
    noisy = replace(graph, features={**graph.features, "textual": Features(vector, part.present)})
    for one, other in zip(rows(a_model(graph)), rows(a_model(noisy)), strict=True):
        np.testing.assert_array_equal(one, other)
    model = a_model(noisy)
    before = rows(model)[1]
    model.projections[0].data += 1  # textual comes first
    changed = (rows(model)[1] != before).any(axis=1)
    assert changed.tolist() == part.present.tolist()


def test_attention_over_one_modality_is_that_modality() -> None:
    attention = ModalityAttention(3, torch.Generator().manual_seed(0))
    part, present = torch.randn(4, 3), torch.tensor([[True], [False], [True], [True]])
    twice = attention(
        [part, torch.randn(4, 3)], torch.cat([present, ~present.logical_or(~present)], 1)
    )
    torch.testing.assert_close(attention([part], present), twice)
    assert attention([], torch.zeros(4, 0, dtype=torch.bool)).shape == (4, 3)


def test_loss_falls_on_one_repeated_batch(graph: Graph) -> None:
    model = a_model(graph)
    batch = Sampler(graph.edges, n_videos=graph.n_videos).draw(
        200, torch.Generator().manual_seed(1)
    )
    history = train(
        model,
        batches=lambda: [batch],
        loss=lambda triples: preference_gcn.batch_loss(model, triples),
        schedule=Schedule(learning_rate=0.02, epochs=30),
    )
    assert history.losses[-1] < history.losses[0] / 2
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_trial_chooses_epochs_and_final_takes_them(graph: Graph) -> None:
    config = Config(dim=4, batch_size=64, max_epochs=12, patience=2)
    report = preference_gcn.fit(graph, config, np.random.default_rng(0)).report
    assert set(report) == {"epochs", "validation_recall@20", "loss"}
    assert 1 <= report["epochs"] <= 12
    assert 0 < report["validation_recall@20"] <= 1
    fixed = Config(dim=4, batch_size=64, epochs=3)
    assert preference_gcn.fit(graph, fixed, np.random.default_rng(0)).report["epochs"] == 3
    # same stream for the refit, whether or not epochs were searched for
    again = config.model_copy(update={"epochs": report["epochs"]})
    one = preference_gcn.fit(graph, config, np.random.default_rng(0)).fitted
    other = preference_gcn.fit(graph, again, np.random.default_rng(0)).fitted
    np.testing.assert_array_equal(vars(one)["user"], vars(other)["user"])


def test_nothing_to_validate_on_takes_the_default(graph: Graph) -> None:
    config = Config(dim=4, default_epochs=2)
    final = replace(graph, early_stopping=None)
    held = graph.early_stopping
    assert held is not None
    quiet = replace(held, truth=held.truth.where(np.zeros(len(held.truth), dtype=bool)))
    for one in (final, replace(graph, early_stopping=quiet)):
        report = preference_gcn.fit(one, config, np.random.default_rng(0)).report
        assert set(report) == {"epochs", "loss"}
        assert report["epochs"] == 2


def test_beats_popularity_on_clusters() -> None:
    world = build_graph(worlds.clusters(11, n_users=120, n_videos=120), fit="trial")
    config = Config(dim=16, batch_size=256, max_epochs=30)
    report = preference_gcn.fit(world, config, np.random.default_rng(0)).report
    held = world.early_stopping
    assert held is not None
    popularity = np.bincount(held.edges.video_idx, minlength=120).astype(np.float32)
    floor = preference_gcn.validation_recall(
        torch.ones(120, 1),
        torch.from_numpy(popularity)[:, None],
        held,
        eligible=world.eligible,
        k=20,
    )
    assert report["validation_recall@20"] > 1.3 * floor
