"""Counts."""

import numpy as np

from microrec.models.basic import popularity
from microrec.models.inputs.graph_arrays import build_graph
from tests.worlds import logs

RNG = np.random.default_rng(0)


def test_popularity_counts_viewers_or_weights() -> None:
    graph = build_graph(logs.clusters(1), fit="trial")
    viewers = popularity.fit(graph, popularity.Config(count="viewers"), RNG).fitted
    weights = popularity.fit(graph, popularity.Config(half_life_days=None), RNG).fitted
    for video in range(graph.n_videos):
        of_it = graph.edges.video_idx == video
        assert viewers.video[video, 0] == of_it.sum()
        assert weights.video[video, 0] == np.float32(graph.edges.weight[of_it].sum())
        assert viewers.video_known[video] == of_it.any()
    assert viewers.user_known.all()
    assert (viewers.user == 1).all()


def test_popularity_weights_halve_with_the_age_of_the_last_viewing() -> None:
    graph = build_graph(logs.clusters(1), fit="trial")
    edges = graph.edges
    age_days = (edges.last_at.max() - edges.last_at) / 86_400_000_000
    assert age_days.max() > 1
    fitted = popularity.fit(graph, popularity.Config(half_life_days=0.5), RNG).fitted
    expected = np.zeros(graph.n_videos)
    for video, weight, age in zip(edges.video_idx, edges.weight, age_days, strict=True):
        expected[video] += weight * 2 ** (-2 * age)
    np.testing.assert_allclose(fitted.video[:, 0], expected, rtol=1e-6)


def test_popularity_without_edges_is_0() -> None:
    none = np.zeros((3, 4), dtype=bool)
    graph = build_graph(logs.tables({"train": none}), fit="final")
    fitted = popularity.fit(graph, popularity.Config(), RNG).fitted
    assert not fitted.video.any()
    assert not fitted.video_known.any()
