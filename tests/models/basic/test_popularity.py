"""Counts."""

import numpy as np

from microrec.models.basic import popularity
from microrec.models.inputs.graph_arrays import build_graph
from tests.worlds import logs

RNG = np.random.default_rng(0)


def test_popularity_counts_viewers_or_weights() -> None:
    graph = build_graph(logs.clusters(1), fit="trial")
    viewers = popularity.fit(graph, popularity.Config(count="viewers"), RNG).fitted
    weights = popularity.fit(graph, popularity.Config(count="decayed_weight"), RNG).fitted
    for video in range(graph.n_videos):
        of_it = graph.edges.video_idx == video
        assert viewers.video[video, 0] == of_it.sum()
        assert weights.video[video, 0] == np.float32(graph.edges.weight[of_it].sum())
        assert viewers.video_known[video] == of_it.any()
    assert viewers.user_known.all()
    assert (viewers.user == 1).all()
