"""Profiles follow the equation; missing modalities take no part; cold videos are reached."""

from dataclasses import replace

import numpy as np

from microrec.core.fitted import Embeddings
from microrec.models.basic import content
from microrec.models.inputs.graph_arrays import Features, Graph, build_graph
from tests.worlds import logs


def fit(graph: Graph, **config: object) -> Embeddings:
    made = content.fit(
        graph, content.Config.model_validate(config), np.random.default_rng(0)
    ).fitted
    assert isinstance(made, Embeddings)
    return made


def expected_score(graph: Graph, user: int, video: int, weights: dict[str, float]) -> float:
    """The docstring's equation, one pair at a time, half-life 2 days."""
    mine = graph.edges.taken(graph.edges.user_idx == user)
    profiles, vectors = {}, {}
    for name, part in graph.features.items():
        unit = part.vector / np.maximum(np.linalg.norm(part.vector, axis=1, keepdims=True), 1e-12)
        total = np.zeros(part.vector.shape[1])
        for other, at in zip(mine.video_idx, mine.last_at, strict=True):
            total += 0.5 ** ((mine.last_at.max() - at) / content.DAY_US / 2) * unit[other]
        if total.any():
            profiles[name] = total / np.linalg.norm(total)
        if part.present[video]:
            vectors[name] = unit[video]
    score = 0.0
    for name in set(profiles) & set(vectors):
        a_user = weights[name] / sum(weights[m] for m in profiles)
        a_video = weights[name] / sum(weights[m] for m in vectors)
        score += np.sqrt(a_user * a_video) * profiles[name] @ vectors[name]
    return score


def test_content_equals_the_equation() -> None:
    graph = build_graph(logs.clusters(5, n_users=12, n_videos=25), fit="trial")
    weights = {"visual": 2.0, "textual": 0.5}
    model = fit(graph, weights=weights, half_life_days=2.0)
    dense = model.user @ model.video.T
    known = np.flatnonzero(model.user_known)
    assert len(known) > 8
    for user in known:
        for video in range(graph.n_videos):
            expected = expected_score(graph, user, video, weights)
            np.testing.assert_allclose(dense[user, video], expected, atol=2e-6)


def test_content_vectors_have_unit_length_whatever_is_missing() -> None:
    model = fit(build_graph(logs.clusters(6), fit="trial"))
    for rows, known in ((model.user, model.user_known), (model.video, model.video_known)):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), known, atol=1e-6)


def test_content_cold_video_is_reached() -> None:
    graph = build_graph(logs.checkerboard(), fit="final")
    warm = graph.edges.taken(graph.edges.video_idx != 4)
    model = fit(replace(graph, edges=warm))
    assert model.video_known[4]
    dense = model.user @ model.video.T
    assert dense[::2, 4].min() > dense[1::2, 4].max()


def test_content_video_without_vectors_is_unknown() -> None:
    graph = build_graph(logs.checkerboard(), fit="final")
    features = {
        name: Features(
            part.vector * (np.arange(20) != 5)[:, None], part.present & (np.arange(20) != 5)
        )
        for name, part in graph.features.items()
    }
    model = fit(replace(graph, features=features))
    assert not model.video_known[5]
    assert not model.video[5].any()
    assert not fit(replace(graph, features={})).video_known.any()


def test_content_recent_videos_weigh_more() -> None:
    graph = build_graph(logs.checkerboard(), fit="final")
    edges = graph.edges.taken(graph.edges.user_idx == 0)
    old = np.where(edges.video_idx == 2, 0, -365 * content.DAY_US) + edges.last_at
    profile = fit(replace(graph, edges=replace(edges, last_at=old)))
    cosine = profile.user[0] @ profile.video.T
    assert cosine.argmax() == 2
    assert cosine[2] > 0.999


def test_content_zero_weight_leaves_a_modality_out() -> None:
    graph = build_graph(logs.checkerboard(), fit="final")
    alone = fit(replace(graph, features={"visual": graph.features["visual"]}))
    np.testing.assert_array_equal(fit(graph, weights={"acoustic": 0.0}).video, alone.video)
