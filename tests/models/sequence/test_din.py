"""DIN is its equation: a sum over the history, weighed by the candidate."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.nn.losses import half_squares
from microrec.models.sequence import din
from microrec.models.sequence import exposures as logged
from microrec.models.sequence.exposures import Batch, Viewed, sequences_of
from tests.worlds import logs

CONFIG = din.Config(dim=4, hidden=(6,), unit=(5, 3), dropout=0.0, id_dropout=0.0, l2=0.01)
ACTIVATIONS = ("relu", "dice")


@pytest.fixture(scope="module")
def graph() -> Graph:
    return build_graph(logs.viewings(3, n_users=20, n_videos=30), fit="trial")


def network_of(graph: Graph, activation: str) -> din.Din:
    """In the state to serve: of Dice the running averages are what a batch left."""
    config = CONFIG.model_copy(update={"activation": activation})
    generator = torch.Generator().manual_seed(0)
    network = din.build(graph, sequences_of(graph).exposures, config, generator)
    network(batch_of(graph))
    return network.eval()


def batch_of(graph: Graph, *users: int) -> Batch:
    sequences = sequences_of(graph)
    people = np.array(users or (10, 0, 1, 2, 3, 4))
    n = len(people)
    return logged.pairs(
        sequences, sequences.serving[people], np.arange(n), np.arange(n) > 2, CONFIG
    )


def by_hand(network: din.Din, batch: Batch) -> list[torch.Tensor]:
    """h of each pair, by loops."""
    rows = network.videos(batch.videos, network.noise)
    results = []
    for pair, row in enumerate(batch.of.tolist()):
        candidate, interest = rows[batch.video[pair]], torch.zeros(4)
        for video, there in zip(batch.history.video[row], batch.history.present[row], strict=True):
            if there:
                key = rows[video]
                seen = torch.cat([candidate, key, candidate - key, candidate * key])
                interest = interest + network.unit(seen.unsqueeze(0), network.noise)[0] * key
        results.append(interest)
    return results


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_din_logits_equal_hand_computed(graph: Graph, activation: str) -> None:
    network, batch = network_of(graph, activation), batch_of(graph)
    rows = network.videos(batch.videos, network.noise)
    actual = network(batch)
    for pair, interest in enumerate(by_hand(network, batch)):
        candidate = rows[batch.video[pair]]
        n = batch.history.present[batch.of[pair]].sum()
        size = torch.log(1.0 + n).reshape(1)
        joined = torch.cat([candidate, interest, interest * candidate, size])
        expected = network.head(joined.unsqueeze(0), network.noise)[0, 0]
        torch.testing.assert_close(actual[pair], expected, atol=1e-5, rtol=1e-5)
        assert interest.any() == (n > 0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_din_video_watched_twice_counts_twice(graph: Graph, activation: str) -> None:
    network, batch = network_of(graph, activation), batch_of(graph)
    twice = Viewed(*(torch.cat([one, one], dim=1) for one in vars(batch.history).values()))
    rows = network.videos(batch.videos, network.noise)
    candidate = rows[batch.video]
    one = network.interest(batch, rows, candidate)
    both = network.interest(replace(batch, history=twice), rows, candidate)
    torch.testing.assert_close(both, 2 * one)
    assert one.abs().max() > 0.1


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_din_empty_history_is_handled(graph: Graph, activation: str, training: bool) -> None:
    network, batch = network_of(graph, activation).train(training), batch_of(graph, 10, 10, 10)
    assert not batch.history.present.any()
    loss = network.loss(batch)
    loss.backward()
    assert loss.isfinite()
    for parameter in network.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_din_loss_equals_hand_computed(graph: Graph) -> None:
    network, batch = network_of(graph, "dice"), batch_of(graph)
    p = torch.sigmoid(network(batch))
    likelihood = torch.where(batch.label > 0, p, 1 - p)
    own = network.videos.video_id[batch.videos]
    expected = -likelihood.log().mean() + 0.01 * half_squares(own)
    torch.testing.assert_close(network.loss(batch), expected)


def test_din_attention_unit_is_trained(graph: Graph) -> None:
    network, batch = network_of(graph, "dice").train(), batch_of(graph)
    network.loss(batch).backward()
    for name, parameter in network.unit.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_din_batch_changes_no_other_score(graph: Graph) -> None:
    """Dice in use knows the averages of training, not the batch beside it."""
    network = network_of(graph, "dice")
    alone, beside = network(batch_of(graph, 3)), network(batch_of(graph, 3, 1, 2))
    first = batch_of(graph, 3, 1, 2)
    assert int(first.videos[first.video[0]]) == 0
    torch.testing.assert_close(alone[0], beside[0])
