"""The one training loop: zero_grad, forward, loss, backward, step exist here and nowhere else.

It runs in one process or in several that share each batch (`parallel.py`), and may be interrupted
between epochs (`checkpoint.py`).
"""

import copy
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from microrec.core.array_types import Bools
from microrec.models.inputs.graph_arrays import EarlyStopping
from microrec.models.training import parallel
from microrec.models.training.budget import UNLIMITED, Budget
from microrec.models.training.checkpoint import Checkpoint, restore_optimizer

logger = logging.getLogger(__name__)
BatchT = TypeVar("BatchT")
RANKED_AT_ONCE = 512
"""Users scored in one block when validating: memory = this times the videos, not users."""


@dataclass(frozen=True)
class Schedule:
    """How long, and how fast."""

    learning_rate: float
    epochs: int
    """At most, or exactly where nothing is validated."""
    patience: int = 0
    """Epochs in a row without a better recall after which training ends."""
    clip_norm: float | None = None
    """Longest gradient of all parameters together."""
    budget: Budget = field(default=UNLIMITED, repr=False)
    """How much time it may take: no part of what is learned, as long as it is not reached."""


@dataclass
class History:
    """What happened, epoch by epoch."""

    losses: list[float] = field(default_factory=list)
    """Mean loss of each epoch."""
    recalls: list[float] = field(default_factory=list)
    """Recall after each epoch; empty where nothing is validated."""
    seconds: list[float] = field(default_factory=list, compare=False)
    """How long each epoch took, with its validation."""
    budget_reached: bool = False
    """Whether training ended, or its last epoch was cut short, for want of time."""

    @property
    def best(self) -> int:
        """Number of epochs behind the parameters that were kept, from 1; ties to the earlier."""
        return 1 + self.recalls.index(max(self.recalls)) if self.recalls else len(self.losses)


@dataclass(frozen=True)
class Resume:
    """What a training needs to be interrupted: where its state is left, and its generator's."""

    checkpoint: Checkpoint
    generator: torch.Generator


def train(
    model: nn.Module,
    *,
    batches: Callable[[], Iterable[BatchT]],
    loss: Callable[[BatchT], Tensor],
    schedule: Schedule,
    recall: Callable[[], float] | None = None,
    resume: Resume | None = None,
) -> History:
    """Fit `model` in place, for all epochs, until `recall` no longer rises, or as long as the budget has room.

    Args:
        model: what is fitted; ends with the parameters of its best epoch
        batches: the batches of one epoch, called once per epoch
        loss: forward pass and loss of a batch, a scalar; of several processes, their losses add up to it
        schedule: how long
        recall: quality of the model as it stands; None trains for exactly `schedule.epochs`
        resume: state is left after each epoch, and taken up where there is one; None: neither

    Returns:
        Losses and recalls by epoch, and the best one.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=schedule.learning_rate)
    kept = copy.deepcopy(model.state_dict())
    history = _take_up(resume, model, optimizer, kept) if resume else History()
    # A budget that has grown since gives room again.
    history.budget_reached &= not schedule.budget.has_room(history.seconds)
    with _progress(schedule, done=len(history.losses)) as tell:
        while not _over(history, schedule):
            began = time.monotonic()
            losses = _epoch(optimizer, batches(), loss, schedule, history)
            history.losses.append(sum(losses) / len(losses))
            history.recalls.extend([parallel.agreed(recall())] if recall else [])
            history.seconds.append(parallel.agreed(time.monotonic() - began))
            tell(history)
            if recall and history.best == len(history.losses):
                kept = copy.deepcopy(model.state_dict())
            if resume and parallel.rank() == 0:
                states = {"model": model.state_dict(), "kept": kept}
                drawn = {"": resume.generator.get_state()}
                resume.checkpoint.save({**states, "generator": drawn}, optimizer, history)
    if recall:
        model.load_state_dict(kept)
    return history


def step(
    optimizer: torch.optim.Optimizer,
    loss: Callable[[BatchT], Tensor],
    batch: BatchT,
    clip_norm: float | None = None,
) -> float:
    """Update the parameters once.

    Args:
        optimizer: of the parameters.
        loss: of a batch, a scalar.
        batch: this process's part of the step.
        clip_norm: longest gradient; None: any.

    Returns:
        The loss before the update, of all processes.
    """
    optimizer.zero_grad(set_to_none=True)
    value = loss(batch)
    value.backward()  # type: ignore[no-untyped-call]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parallel.add_up_gradients(parameters)
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimizer.step()
    total = value.detach()
    parallel.add_up([total])
    return total.item()


def _epoch(
    optimizer: torch.optim.Optimizer,
    batches: Iterable[BatchT],
    loss: Callable[[BatchT], Tensor],
    schedule: Schedule,
    history: History,
) -> list[float]:
    """The loss of each step of an epoch, which ends early where the budget does."""
    began = time.monotonic()
    losses = []
    for batch in batches:
        losses.append(step(optimizer, loss, batch, schedule.clip_norm))
        if schedule.budget.seconds is None:
            continue
        running = parallel.agreed(time.monotonic() - began)
        if not schedule.budget.has_room(history.seconds, running):
            history.budget_reached = True
            break
    return losses


def _over(history: History, schedule: Schedule) -> bool:
    """Whether training is at its end: all epochs, no better recall for long, or no time for one more."""
    done = len(history.losses)
    if done >= schedule.epochs or (history.recalls and done - history.best >= schedule.patience):
        return True
    if not schedule.budget.has_room(history.seconds):
        history.budget_reached = True
    return history.budget_reached


def _take_up(
    resume: Resume,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    kept: dict[str, Tensor],
) -> History:
    """Bring a model, its optimizer, generator and best parameters to where they were left."""
    checkpoint = resume.checkpoint.load()
    if checkpoint is None:
        return History()
    tensors, history = checkpoint
    model.load_state_dict(tensors["model"])
    kept.update(tensors["kept"])
    restore_optimizer(optimizer, tensors.get("optimizer", {}))
    resume.generator.set_state(tensors["generator"][""])
    return History(**history)


@torch.no_grad()
def validation_recall(
    user: Tensor, video: Tensor, held: EarlyStopping, *, eligible: Bools, k: int
) -> float:
    """Return Recall@k of inner products over all eligible videos not yet seen, as PyG defines it.

    Args:
        user: [n_users, dim], or [n_users, n_trends, dim]: the best of a user's trends counts
        video: [n_videos, dim]
        held: whose truth is looked for, and what is left out
        eligible: may be recommended [n_videos]
        k: length of the list

    Returns:
        Mean over the users who have a right video.
    """
    # Here, not above: it brings all of PyG, 3 CPU seconds that only graphs and searches need.
    from torch_geometric.metrics import LinkPredRecall

    metric = LinkPredRecall(k)
    users, where = map(torch.from_numpy, np.unique(held.truth.user_idx, return_inverse=True))
    users = users.long()
    truth = torch.stack([where, torch.from_numpy(held.truth.video_idx).long()])
    seen_user = torch.from_numpy(held.seen.user_idx).long()
    seen_video = torch.from_numpy(held.seen.video_idx).long()
    position = torch.full((len(user),), -1).index_copy(0, users, torch.arange(len(users)))
    seen = torch.stack([position[seen_user], seen_video])
    barred = torch.from_numpy(~eligible)
    for start in range(0, len(users), RANKED_AT_ONCE):
        block = users[start : start + RANKED_AT_ONCE]
        scores = (user[block] @ video.T).float().cpu()
        scores = scores if scores.ndim == 2 else scores.amax(dim=1)  # [n_block, n_videos]
        scores[:, barred] = -torch.inf
        rows, columns = _within(seen, start, len(block))
        scores[rows, columns] = -torch.inf
        best = scores.topk(min(k, len(video))).indices
        metric.update(best, _within(truth, start, len(block)))
    return float(metric.compute())


def _within(pairs: Tensor, start: int, n: int) -> Tensor:
    """The (row, column) pairs of rows start..start + n - 1, rows counted from 0. [2, n_pairs]."""
    inside = (pairs[0] >= start) & (pairs[0] < start + n)
    return torch.stack([pairs[0, inside] - start, pairs[1, inside]])


@contextmanager
def _progress(schedule: Schedule, *, done: int) -> Iterator[Callable[[History], None]]:
    """Tell how far training is: a bar in a terminal, a line per epoch in a log."""
    in_terminal = sys.stderr.isatty()
    with tqdm(total=schedule.epochs, initial=done, desc="epochs", disable=not in_terminal) as bar:

        def tell(history: History) -> None:
            epoch = len(history.losses)
            loss = history.losses[-1]
            recall = history.recalls[-1] if history.recalls else None
            bar.set_postfix(loss=loss, recall=recall)
            bar.update()
            if not in_terminal:
                line = "epoch=%d of=%d loss=%.4f recall=%s seconds_left=%.0f at_most=%.0f"
                logger.info(line, epoch, schedule.epochs, loss, recall, *_left(history, schedule))

        yield tell


def _left(history: History, schedule: Schedule) -> tuple[float, float]:
    """Seconds until the fit ends, its refit included: if no epoch is better than the best so far, and at most."""
    more = schedule.epochs - len(history.losses)
    soonest, kept = more, len(history.losses)
    if history.recalls:
        soonest = min(more, max(0, schedule.patience - (len(history.losses) - history.best)))
        kept = history.best
    left = schedule.budget.seconds_left
    return (
        left(history.seconds, more=soonest, kept=kept),
        left(history.seconds, more=more, kept=schedule.epochs),
    )
