"""DNN is its equation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.nn.losses import half_squares
from microrec.models.sequence import dnn
from microrec.models.sequence import exposures as logged
from microrec.models.sequence.exposures import Batch, Viewed, sequences_of
from tests.worlds import logs

CONFIG = dnn.Config(dim=4, hidden=(6,), dropout=0.0, id_dropout=0.0, l2=0.01)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return build_graph(logs.viewings(3, n_users=20, n_videos=30), fit="trial")


@pytest.fixture
def network(graph: Graph) -> dnn.Dnn:
    generator = torch.Generator().manual_seed(0)
    return dnn.build(graph, sequences_of(graph).exposures, CONFIG, generator)


@pytest.fixture
def batch(graph: Graph) -> Batch:
    sequences = sequences_of(graph)
    stranger = sequences.serving[10]
    pairs = logged.pairs(
        sequences,
        np.array([stranger, *sequences.serving[:4]]),
        np.arange(5),
        np.arange(5) > 2,
        CONFIG,
    )
    assert not pairs.history.present[pairs.of[0]].any()
    return pairs


def test_dnn_logits_equal_hand_computed(network: dnn.Dnn, batch: Batch, graph: Graph) -> None:
    rows = network.videos(torch.arange(graph.n_videos), network.noise)
    actual = network(batch)
    for pair in range(5):
        row = int(batch.of[pair])
        watched = batch.videos[batch.history.video[row]][batch.history.present[row]]
        n = len(watched)
        mean = rows[watched].sum(0) / n if n else torch.zeros(4)
        candidate = rows[batch.videos[batch.video[pair]]]
        size = torch.log(torch.tensor([1.0 + n]))
        joined = torch.cat([candidate, mean, mean * candidate, size])
        expected = network.head(joined, network.noise)[0]
        torch.testing.assert_close(actual[pair], expected)


def test_dnn_loss_equals_hand_computed(network: dnn.Dnn, batch: Batch) -> None:
    p = torch.sigmoid(network(batch))
    likelihood = torch.where(batch.label > 0, p, 1 - p)
    own = network.videos.video_id[batch.videos]
    expected = -likelihood.log().mean() + 0.01 * half_squares(own)
    torch.testing.assert_close(network.loss(batch), expected)


def test_dnn_history_length_is_read(network: dnn.Dnn, batch: Batch) -> None:
    """The same videos twice have the same mean, and are twice as many."""
    twice = Viewed(*(torch.cat([one, one], dim=1) for one in vars(batch.history).values()))
    doubled = replace(batch, history=twice)
    changed = (network(doubled) - network(batch)).abs() > 1e-6
    assert changed.tolist() == [False, True, True, True, True]
    network.head.layers[0].weight.data[:, -1] = 0
    torch.testing.assert_close(network(doubled), network(batch))


def test_dnn_drops_out_in_training_only(graph: Graph, batch: Batch) -> None:
    config = CONFIG.model_copy(update={"dropout": 0.5})
    generator = torch.Generator().manual_seed(0)
    network = dnn.build(graph, sequences_of(graph).exposures, config, generator)
    assert not torch.equal(network(batch), network(batch))
    network.eval()
    assert torch.equal(network(batch), network(batch))
    assert functional.relu(network(batch)).isfinite().all()
