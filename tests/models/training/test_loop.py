"""The loop learns, starts each step from no gradient, and keeps the best epoch."""

import copy
import logging
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from microrec.models.inputs.graph_arrays import EarlyStopping, build_graph
from microrec.models.nn.losses import bpr, half_squares, softmax
from microrec.models.training import loop
from microrec.models.training.loop import History, Schedule, step, train, validation_recall
from tests.worlds import logs


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([1.0, -2.0]))

    def loss(self, batch: Tensor) -> Tensor:
        return ((batch @ self.slope) - 3).square().mean()


BATCH = torch.tensor([[1.0, 2.0], [0.5, -1.0]])


def test_loop_two_steps_equal_a_hand_written_loop() -> None:
    ours, theirs = Line(), Line()
    optimizer = torch.optim.Adam(ours.parameters(), lr=0.1)
    losses = [step(optimizer, ours.loss, BATCH) for _ in range(3)]
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.1)
    for expected in losses:
        (gradient,) = torch.autograd.grad(theirs.loss(BATCH), [theirs.slope])
        assert theirs.loss(BATCH).item() == expected
        theirs.slope.grad = gradient  # this step's alone
        optimizer.step()
    assert torch.equal(ours.slope, theirs.slope)


def test_loop_repeated_batch_lowers_the_loss() -> None:
    schedule = Schedule(learning_rate=0.05, epochs=30)
    model = Line()
    history = train(model, batches=lambda: [BATCH], loss=model.loss, schedule=schedule)
    assert len(history.losses) == 30 == history.best
    assert history.losses[-1] < history.losses[0] / 5


def test_early_stopping_keeps_the_best_epoch() -> None:
    recalls = [0.1, 0.3, 0.2, 0.3, 0.25, 0.9]
    model, seen = Line(), []

    def recall() -> float:
        seen.append(copy.deepcopy(model.slope.data))
        return recalls[len(seen) - 1]

    schedule = Schedule(learning_rate=0.1, epochs=6, patience=3)
    history = train(
        model, batches=lambda: [BATCH, BATCH], loss=model.loss, schedule=schedule, recall=recall
    )
    assert history.recalls == recalls[:5]  # three epochs without a better one: the sixth never ran
    assert history.best == 2
    assert torch.equal(model.slope.data, seen[1])
    assert not torch.equal(model.slope.data, seen[4])


def test_epoch_draws_its_batches_anew() -> None:
    asked, model = [], Line()

    def batches() -> Iterator[Tensor]:
        asked.append(len(asked))
        yield BATCH

    train(model, batches=batches, loss=model.loss, schedule=Schedule(0.1, epochs=4))
    assert asked == [0, 1, 2, 3]


def test_progress_without_terminal_is_a_line_per_epoch(caplog: pytest.LogCaptureFixture) -> None:
    model = Line()
    with caplog.at_level(logging.INFO, logger="microrec.models.training.loop"):
        train(
            model,
            batches=lambda: [BATCH],
            loss=model.loss,
            schedule=Schedule(0.1, epochs=3, patience=1),
            recall=lambda: 0.5,
        )
    lines = [record.getMessage() for record in caplog.records]
    # the last line tells of the epoch that ended training, of three there might have been
    assert [line.split()[0] for line in lines] == ["epoch=1", "epoch=2"]
    assert "of=3" in lines[0]
    assert "recall=0.5 " in lines[0]
    assert "seconds_left=" in lines[0]


def test_best_of_ties_is_the_earlier() -> None:
    assert History(losses=[3, 2, 1], recalls=[0.2, 0.4, 0.4]).best == 2


@pytest.mark.parametrize("k", [5, 12, 50])
def test_recall_equals_brute_force(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    monkeypatch.setattr(loop, "RANKED_AT_ONCE", 7)
    graph = build_graph(logs.clusters(7, n_users=200, n_videos=40), fit="trial")
    held = graph.early_stopping
    assert isinstance(held, EarlyStopping)
    rng = np.random.default_rng(0)
    user, video = rng.standard_normal((200, 4)), rng.standard_normal((40, 4))
    eligible = rng.random(40) < 0.8
    recalls = []
    for one in np.unique(held.truth.user_idx):
        scores = user[one] @ video.T
        scores[~eligible] = -np.inf
        scores[held.seen.video_idx[held.seen.user_idx == one]] = -np.inf
        truth = set(held.truth.video_idx[held.truth.user_idx == one])
        best = np.argsort(-scores)[:k]
        recalls.append(len(truth & set(best)) / len(truth))
    actual = validation_recall(
        torch.from_numpy(user), torch.from_numpy(video), held, eligible=eligible, k=k
    )
    assert actual == pytest.approx(np.mean(recalls), abs=1e-6)
    assert len(recalls) > 100


def test_losses_equal_their_equations() -> None:
    positive, negative = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])
    expected = -np.log(1 / (1 + np.exp([-0.5, 1.0]))).mean()
    assert bpr(positive, negative).item() == pytest.approx(expected, rel=1e-6)
    rows = torch.ones(4, 2), 2 * torch.ones(4, 2)
    assert half_squares(*rows).item() == (8 + 32) / (2 * 4)


@pytest.mark.parametrize("n_others", [1, 5])
def test_softmax_equals_cross_entropy(n_others: int) -> None:
    generator = torch.Generator().manual_seed(0)
    positive = torch.randn(6, generator=generator).requires_grad_()
    others = (5 * torch.randn(6, n_others, generator=generator)).requires_grad_()
    same = torch.zeros(6, n_others, dtype=torch.bool)
    same[2, 0] = same[4, -1] = True  # the watched video among its own opponents counts once
    actual = softmax(positive, others, same=same)
    rows = [torch.cat([positive[[row]], others[row][~same[row]]]).unsqueeze(0) for row in range(6)]
    target = torch.zeros(1, dtype=torch.long)
    expected = sum(nn.functional.cross_entropy(row, target) for row in rows) / 6
    torch.testing.assert_close(actual, expected)
    for one, other in zip(
        torch.autograd.grad(actual, [positive, others]),
        torch.autograd.grad(expected, [positive, others]),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_softmax_half_precision_is_summed_in_full() -> None:
    positive, others = torch.tensor([8.0]), torch.full((1, 300), 8.0)
    same = torch.zeros(1, 300, dtype=torch.bool)
    actual = softmax(positive.bfloat16(), others.bfloat16(), same=same)
    assert actual.item() == pytest.approx(np.log(301), rel=1e-6)


def test_loop_without_validation_keeps_the_last_epoch() -> None:
    one, other = Line(), Line()
    history = train(one, batches=lambda: [BATCH], loss=one.loss, schedule=Schedule(0.1, epochs=3))
    assert history.recalls == []
    assert history.best == 3
    optimizer = torch.optim.Adam(other.parameters(), lr=0.1)
    assert history.losses == [step(optimizer, other.loss, BATCH) for _ in range(3)]
    assert torch.equal(one.slope, other.slope)


def test_epoch_loss_is_the_mean_of_its_steps() -> None:
    one, other = Line(), Line()
    history = train(
        one, batches=lambda: [BATCH, 2 * BATCH], loss=one.loss, schedule=Schedule(0.1, epochs=1)
    )
    optimizer = torch.optim.Adam(other.parameters(), lr=0.1)
    losses = [step(optimizer, other.loss, batch) for batch in (BATCH, 2 * BATCH)]
    assert history.losses == [sum(losses) / 2]
