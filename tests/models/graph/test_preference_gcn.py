"""The equations of README.md of the models, section 3.2 node by node, with every part switched; cold videos, masks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from microrec.models.graph import fitting, preference_gcn
from microrec.models.graph.preference_gcn import Config, ModalityAttention, PreferenceGCN
from microrec.models.graph.propagation import Watched
from microrec.models.inputs.graph_arrays import Features, Graph, Neighbours, build_graph
from tests.worlds import logs

CAP = 6
"""Users with more videos do not speak."""


@pytest.fixture
def graph() -> Graph:
    """A small world: video 3 is cold, 4 is liked by users over the cap alone, one user likes only 5."""
    likes = np.random.default_rng(6).random((18, 16)) < 0.2
    likes[[0, 1]] |= np.random.default_rng(7).random((2, 16)) < 0.7
    likes[:, 3] = likes[2:, 4] = False
    likes[0, 4] = True
    likes[5] = np.arange(16) == 5
    likes[9] = False
    vectors = {
        name: np.random.default_rng(seed).standard_normal((16, 5)).astype(np.float32)
        for name, seed in (("textual", 1), ("visual", 2))
    }
    vectors["textual"][[2, 3, 7, 11]] = vectors["visual"][[2, 5, 8]] = np.nan
    made = build_graph(logs.tables({"train": likes}, vectors=vectors), fit="final")
    heavy = likes.sum(axis=1) > CAP
    assert 0 < heavy.sum() < 4
    assert not likes[~heavy][:, 4].any()
    return made


PUBLISHED = {
    "layers": 2,
    "user_rows": "own",
    "user_power": 0.5,
    "video_power": 0.5,
    "pref_power": 1.0,
    "unit": True,
    "merge": "attention",
    "sampling": "users",
    "popularity": False,
}
"""As in README.md of the models, section 3.2; the variants below change one thing or two."""


def a_model(graph: Graph, seed: int = 0, **config: object) -> PreferenceGCN:
    made = Config.model_validate({"dim": 4, "activity_cap": CAP, **PUBLISHED, **config})
    generator = torch.Generator().manual_seed(seed)
    model = preference_gcn.build(graph, graph.edges, made, generator)
    for parameter in model.parameters():  # biases away from zero
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def rows(model: PreferenceGCN, watched: Watched | None = None) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        user, video = model(torch.arange(model.watch.n_users), watched or model.watch.whole)
    return user.numpy(), video.numpy()


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def merged(model: PreferenceGCN, which: str, parts: list[np.ndarray | None]) -> np.ndarray:
    """One node's modalities as one, the missing ones as None; at length 1 where the config says so."""
    present = [part for part in parts if part is not None]
    if not present:
        return np.zeros(model.config.dim)
    if model.config.merge == "mean":
        one = np.mean(present, axis=0)
    else:
        attention = getattr(model, which)
        weight, bias, query = (
            part.detach().numpy() for part in (attention.weight, attention.bias, attention.query)
        )
        share = np.exp([(np.tanh(part @ weight + bias) @ query).item() for part in present])
        one = sum(a * part for a, part in zip(share / share.sum(), present, strict=True))
    return unit(one) if model.config.unit else one


Parts = list[list[np.ndarray | None]]


def collaborative(
    model: PreferenceGCN, liked: np.ndarray, within_cap: np.ndarray, video_id: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """e of users and of videos, neighbour by neighbour; None stands for rows that are not there."""
    config = model.config
    n_liked, n_viewers = liked.sum(axis=1), (liked * within_cap[:, None]).sum(axis=0)
    own = config.user_rows == "own"
    layers = [(model.user_id.detach().numpy() if own else None, video_id)]
    for _ in range(config.layers):
        user, video = layers[-1]
        next_user = None if video is None else np.zeros((len(liked), config.dim))
        next_video = None if user is None else np.zeros((len(video_id), config.dim))
        for u, v in np.argwhere(liked):
            if next_user is not None:
                scale = n_liked[u] ** -config.user_power
                next_user[u] += scale * max(n_viewers[v], 1) ** -config.video_power * video[v]
            if next_video is not None and within_cap[u]:
                scale = n_liked[u] ** -config.user_power
                next_video[v] += scale * n_viewers[v] ** -config.video_power * user[u]
        layers.append((next_user, next_video))
    sides = [[layer[side] for layer in layers if layer[side] is not None] for side in (0, 1)]
    nothing = np.zeros((len(liked), config.dim))
    return np.mean(sides[0], axis=0) if sides[0] else nothing, np.mean(sides[1], axis=0)


def video_graphs(graph: Graph, model: PreferenceGCN, video_id: np.ndarray) -> Parts:
    """h of each video and modality, None where no warm video is near."""
    h: Parts = [[] for _ in range(graph.n_videos)]
    for name, pairs in graph.modality_edges.items():
        if model.config.modalities is not None and name not in model.config.modalities:
            continue
        near = np.zeros((graph.n_videos, graph.n_videos))
        for node, neighbour, cosine in zip(*vars(pairs).values(), strict=True):
            if cosine > 0 and video_id[neighbour].any():
                near[node, neighbour] = 1 if model.config.edge_weight == "one" else cosine
        scale = np.sqrt(np.outer(near.sum(axis=1), near.sum(axis=0)))
        hidden = video_id
        for _ in range(model.config.video_layers):
            hidden = np.divide(near, scale, out=np.zeros_like(near), where=scale > 0) @ hidden
        for video in range(graph.n_videos):
            h[video].append(hidden[video] if near[video].any() else None)
    return h


def projections(graph: Graph, model: PreferenceGCN) -> Parts:
    """c of each video and modality, None where there is no vector."""
    c: Parts = [[] for _ in range(graph.n_videos)]
    config = model.config
    taken = [
        (name, part)
        for name, part in graph.features.items()
        if config.modalities is None or name in config.modalities
    ]
    for (name, part), weight, bias in zip(taken, model.projections, model.biases, strict=True):
        centre = part.vector[part.present].mean(axis=0) if name in config.centre else 0
        projected = unit(part.vector - centre) @ weight.detach().numpy() + bias.detach().numpy()
        for video in range(graph.n_videos):
            c[video].append(projected[video] if part.present[video] else None)
    return c


def taste(model: PreferenceGCN, his: Parts) -> np.ndarray:
    """p of the user who likes these videos."""
    carried: list[np.ndarray | None] = []
    for of_modality in zip(*his, strict=True):
        have = [part for part in of_modality if part is not None]
        n = len(have)
        carried.append(sum(have) / n**model.config.pref_power if have else None)
    return merged(model, "merge_taste", carried)


def expected(
    graph: Graph, model: PreferenceGCN, present: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of users and videos when the edges of `present` are in the graph."""
    config = model.config
    edges = graph.edges
    whole = np.zeros((graph.n_users, graph.n_videos))
    whole[edges.user_idx, edges.video_idx] = 1
    liked = whole.copy()
    liked[edges.user_idx, edges.video_idx] = present
    within_cap = whole.sum(axis=1) <= CAP  # as is warm, a matter of the whole graph
    warm = whole[within_cap].any(axis=0)
    video_id = model.video_id.detach().numpy() * warm[:, None]
    user, video = collaborative(model, liked, within_cap, video_id)
    h, c = video_graphs(graph, model, video_id), projections(graph, model)
    if config.similar:
        video = video + [merged(model, "merge_similar", parts) for parts in h]
    if config.pref_source != "none":
        carried = c if config.pref_source == "features" else h
        user = user + [taste(model, [carried[v] for v in np.flatnonzero(one)]) for one in liked]
    if config.pref_source == "features" and not config.strict:
        video = video + [merged(model, "merge_taste", parts) for parts in c]
    if config.popularity:
        user = np.hstack([user, np.ones((graph.n_users, 1))])
        video = np.hstack([video, model.popularity.detach().numpy()])
    return user, video


VARIANTS: dict[str, dict[str, object]] = {
    "published": {},
    "decided": {name: Config.model_fields[name].default for name in PUBLISHED},
    "no user rows": {"user_rows": "none"},
    "no user rows, three layers": {"user_rows": "none", "layers": 3},
    "no layers": {"layers": 0},
    "neither layers nor user rows": {"layers": 0, "user_rows": "none"},
    "powers": {"user_power": 0.2, "video_power": 0.9},
    "powers 1 and 0": {"user_power": 1.0, "video_power": 0.0, "user_rows": "none"},
    "pref_power": {"pref_power": 0.4, "unit": False},
    "mean": {"merge": "mean"},
    "lengths as they are": {"unit": False},
    "mean of lengths as they are": {"unit": False, "merge": "mean"},
    "popularity": {"popularity": True},
    "strict": {"strict": True},
    "similarity": {"edge_weight": "similarity"},
    "video_graph": {"pref_source": "video_graph"},
    "video_graph, mean": {"pref_source": "video_graph", "merge": "mean", "pref_power": 0.5},
    "video_graph for users alone": {"pref_source": "video_graph", "similar": False},
    "strict video_graph": {"pref_source": "video_graph", "strict": True},
    "no preferences": {"pref_source": "none"},
    "not similar": {"similar": False},
    "LightGCN": {"similar": False, "pref_source": "none"},
    "two video layers": {"video_layers": 2},
    "one modality, centred": {"modalities": ("visual",), "centre": ("visual",)},
    "one hop, attention": {"user_rows": "none", "layers": 1},
    "one hop, strict": {"user_rows": "none", "layers": 1, "strict": True, "similar": False},
    "no modality": {"modalities": ()},
    "no modality, mean": {"modalities": (), "merge": "mean"},
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_preference_gcn_equals_the_equations_per_node(
    graph: Graph, variant: str, masked: bool
) -> None:
    model = a_model(graph, **VARIANTS[variant])
    watched, present = model.watch.whole, np.ones(len(graph.edges))
    if masked:  # all there is of user 5, the only viewer of 4, and some more
        edges = graph.edges
        out = np.flatnonzero(
            (edges.user_idx == 5) | (edges.video_idx == 4) | (np.arange(len(edges)) % 5 == 0)
        )
        present[out] = 0
        watched = model.watch.without(watched.present, torch.from_numpy(out))
    user, video = expected(graph, model, present)
    actual = rows(model, watched)
    np.testing.assert_allclose(actual[0], user, atol=5e-6)
    np.testing.assert_allclose(actual[1], video, atol=5e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_some_rows_and_gradients_equal_those_of_all(graph: Graph, variant: str) -> None:
    """Rows of some videos cost less than all rows where one hop makes them, and are the same ones."""
    users, videos = torch.tensor([5, 2, 7, 5, 9]), torch.tensor([1, 3, 4, 5, 11, 14])
    made = {}
    for some in (False, True):
        model = a_model(graph, **VARIANTS[variant])
        watched = model.watch.without(model.watch.whole.present, torch.arange(0, 30, 3))
        user, video = model(users, watched, videos if some else None)
        video = video if some else video[videos]
        (torch.tanh(user).sum() + torch.tanh(video).square().sum()).backward()
        gradients = {name: part.grad for name, part in model.named_parameters()}
        made[some] = {"user": user, "video": video, **gradients}
    for name, whole in made[False].items():
        if whole is None:
            assert made[True][name] is None or not made[True][name].any()
        else:
            torch.testing.assert_close(made[True][name], whole, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("variant", ["no user rows", "decided", "video_graph"])
def test_one_hop_is_told_from_further(graph: Graph, variant: str) -> None:
    assert a_model(graph, **VARIANTS[variant]).one_hop == (variant == "decided")


@pytest.mark.parametrize("variant", VARIANTS)
def test_known_videos_have_more_than_their_popularity(graph: Graph, variant: str) -> None:
    """Known: the row of the equations is something other than the popularity of a cold video."""
    model = a_model(graph, **VARIANTS[variant])
    dim = model.config.dim
    said = rows(model)[1][:, :dim].any(axis=1)
    np.testing.assert_array_equal(model.known_videos(), said)
    assert not model.warm[3]


def test_popularity_starts_at_the_log_of_training_viewers(graph: Graph) -> None:
    config = Config(dim=4, activity_cap=CAP, popularity=True)
    model = preference_gcn.build(graph, graph.edges, config, torch.Generator().manual_seed(0))
    n_liked = np.bincount(graph.edges.user_idx, minlength=graph.n_users)
    within = graph.edges.taken((n_liked <= CAP)[graph.edges.user_idx])
    n_viewers = np.bincount(within.video_idx, minlength=graph.n_videos)
    np.testing.assert_allclose(model.popularity.detach()[:, 0], np.log(1 + n_viewers), rtol=1e-6)


def test_users_requested_get_their_own_rows(graph: Graph) -> None:
    model = a_model(graph)
    asked = torch.tensor([5, 2, 5])
    with torch.no_grad():
        actual, _ = model(asked, model.watch.whole)
    np.testing.assert_allclose(actual.numpy(), rows(model)[0][[5, 2, 5]], atol=1e-6)


@pytest.mark.parametrize("cold", [3, 4])  # nobody's, and of those who do not speak
def test_cold_video_id_row_is_never_used(graph: Graph, cold: int) -> None:
    model = a_model(graph)
    before = rows(model)
    model.video_id.data[cold] += 100
    after = rows(model)
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert after[1][cold].any()  # but its neighbours and vectors are
    model.video_id.data[6] += 100
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


def test_modality_dropout_is_in_training_only_and_by_generator(graph: Graph) -> None:
    def in_a_step(model: PreferenceGCN) -> np.ndarray:
        return model(torch.arange(graph.n_users), model.watch.whole)[1].detach().numpy()

    plain, dropping, again = (
        a_model(graph, modality_dropout=share, similar=False) for share in (0.0, 0.5, 0.5)
    )
    for one, other in zip(rows(plain), rows(dropping), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(in_a_step(plain), rows(plain)[1])
    first, second = in_a_step(dropping), in_a_step(dropping)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, in_a_step(again))
    # a dropped modality is as missing as any other: what is left is the one that was not dropped
    c = projections(graph, plain)
    base = rows(a_model(graph, similar=False, pref_source="none"))[1]
    for video in range(graph.n_videos):
        options = [
            merged(
                plain,
                "merge_taste",
                [part if keep else None for part, keep in zip(c[video], k, strict=True)],
            )
            for k in ((True, True), (True, False), (False, True), (False, False))
        ]
        left = first[video] - base[video]
        assert min(np.abs(left - option).max() for option in options) < 1e-5


@pytest.mark.parametrize("strict", [False, True])  # strict: projections through users alone
@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_preference_gcn_every_parameter_is_trained(graph: Graph, loss: str, strict: bool) -> None:
    chosen = {**PUBLISHED, "popularity": True, "loss": loss, "strict": strict}
    config = Config.model_validate({"dim": 4, "activity_cap": CAP, **chosen})
    model = preference_gcn.build(graph, graph.edges, config, torch.Generator().manual_seed(0))
    (batch,) = fitting.batches(model, graph.edges, config, torch.Generator().manual_seed(1))
    fitting.batch_loss(model, batch, config).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_preference_gcn_without_content_is_trained(graph: Graph) -> None:
    bare = replace(graph, features={}, modality_edges={})
    one_graph = replace(bare, modality_edges={"visual": empty_pairs()})
    for world in (bare, one_graph):
        for config in ({}, {"merge": "mean"}, {"pref_source": "video_graph"}):
            made = Config.model_validate({"dim": 4, "epochs": 1, "activity_cap": CAP, **config})
            trained = preference_gcn.fit(world, made, np.random.default_rng(0))
            assert np.isfinite(vars(trained.fitted)["user"]).all()


def empty_pairs() -> Neighbours:
    nothing = np.zeros(0, dtype=np.int32)
    return Neighbours(nothing, nothing, np.zeros(0))
