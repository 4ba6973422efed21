r"""SASRec: the next video from self-attention over the ones before it.

Kang and McAuley 2018, "Self-attentive sequential recommendation". x_1..x_n: rows of what a user
watched, oldest first (`video_rows.py`), p_i a learned row for the i-th from the end. Through blocks
of causal attention and a two-layer network, each with layer norm before and a residual around,

    s_1..s_n = Blocks(x_1 + p_n, .., x_n + p_1)
    score(j after i) = <s_i, x_j> / sqrt(d) + popularity_j

A step predicts every viewing of some users from those before it: softmax over a sample of the videos
somebody watched, where the paper has one negative each (Klenitskiy and Vasilev 2023, "Turning
dross into gold loss", find that this is what SASRec lacked). Served are the states after the latest
viewings.

What a phase learns from are the viewings of the histories as of the end of what it sees: a search
learns from those before the validation day, and is judged by the recall of what was new to the users
on it (`Graph.early_stopping`), as the graph networks are.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from microrec.core.fitted import Embeddings, Trained
from microrec.models.inputs.graph_arrays import Graph
from microrec.models.inputs.sequence_arrays import Exposures
from microrec.models.nn.layers import Dropout, Layers, linear
from microrec.models.nn.losses import half_squares, softmax
from microrec.models.sequence import exposures as logged
from microrec.models.sequence.exposures import Batch, ExposureConfig, Viewed, sequences_of
from microrec.models.sequence.video_rows import VideoNetwork, VideoRows
from microrec.models.training.phases import Phase
from microrec.models.training.runtime import Runtime

ROWS_AT_ONCE = 512
"""Users whose states are computed in one block: memory = this times the squared longest history."""


class Config(ExposureConfig):
    """Shape of the network."""

    history_length: int = Field(default=100, ge=2)
    """Latest viewings of a user that are read; all but the first are predicted."""
    batch_size: PositiveInt = 2048
    """Viewings a step predicts, give or take a history."""
    n_blocks: PositiveInt = 2
    """Of attention and network."""
    n_heads: PositiveInt = 1
    """Of an attention; each has dim / n_heads columns."""
    softmax_videos: PositiveInt = 2000
    """Watched videos in the denominator of a step's softmax; all where there are no more."""
    validation_k: PositiveInt = 20
    """Length of the lists of the validation."""

    @model_validator(mode="after")
    def _heads_share_the_columns(self) -> Self:
        if self.dim % self.n_heads:
            raise ValueError(f"dim {self.dim} is not a multiple of n_heads {self.n_heads}")
        return self


class SasRec(VideoNetwork):
    """The parameters and the equations.

    Shapes:
        forward: a batch -> scores of its pairs [n_pairs]
    """

    config: Config
    watched: Tensor

    def __init__(
        self, graph: Graph, exposures: Exposures, config: Config, generator: torch.Generator
    ) -> None:
        """Draw the parameters."""
        super().__init__(VideoRows(graph, exposures.video_idx, config, generator))
        # Zeros: positions beyond the longest history in training add nothing.
        self.position = nn.Parameter(torch.zeros(config.history_length, config.dim))
        self.blocks = nn.ModuleList(Block(config, generator) for _ in range(config.n_blocks))
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)
        n_viewed = np.bincount(exposures.video_idx, minlength=graph.n_videos).astype(np.float32)
        self.popularity = nn.Parameter(torch.from_numpy(np.log1p(n_viewed)).unsqueeze(1))
        watched = torch.from_numpy(np.flatnonzero(n_viewed))
        self.register_buffer("watched", watched, persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Scores of the pairs, after the latest viewing."""
        rows = self.candidates(batch.videos)
        state = functional.embedding(batch.of, self.latest(batch.history, rows))
        return (state * functional.embedding(batch.video, rows)).sum(1)

    def candidates(self, video_idx: Tensor) -> Tensor:
        """Return the rows of some videos, popularity as a last column. [n, dim + 1]."""
        popularity = functional.embedding(video_idx, self.popularity)
        return torch.cat([self.videos(video_idx, self.noise), popularity], dim=1)

    def latest(self, history: Viewed, rows: Tensor) -> Tensor:
        """Return the state after the latest viewing, 0 where there is none.

        Args:
            history: padded in front. [n_rows, width]
            rows: of videos, as `candidates` makes them.

        Returns:
            [n_rows, dim + 1].
        """
        state = self.states(history.present, history.video, rows)[:, -1]
        return state * history.present[:, -1:]

    def states(self, present: Tensor, video: Tensor, rows: Tensor) -> Tensor:
        """Return the state after each viewing, over sqrt(d), with a last column of 1.

        Args:
            present: mask of the steps that hold a viewing [n_rows, width]
            video: position of each in `rows` [n_rows, width]
            rows: of videos, as `candidates` makes them

        Returns:
            [n_rows, width, dim + 1].
        """
        step = torch.arange(present.shape[1], device=rows.device)
        position = functional.embedding(step.flip(0), self.position)  # [width, dim]
        x = functional.embedding(video, rows[:, :-1]) + position
        x = self.dropout(x, self.noise)
        earlier = step.unsqueeze(1) > step
        itself = step.unsqueeze(1) == step  # so that no row of the mask is empty, padding included
        sees = earlier & present.unsqueeze(1) | itself  # [n_rows, width, width]
        for block in self.blocks:
            x = block(x, sees, self.noise)
        return functional.pad(self.norm(x) / math.sqrt(self.config.dim), (0, 1), value=1.0)

    def loss(self, batch: Batch) -> Tensor:
        """Return the softmax of each viewing after the ones before it plus L2 of the videos' rows, a scalar."""
        rows = self.candidates(batch.videos)
        present = batch.history.present[:, :-1]
        video = batch.history.video
        # Empty places are in front: where there is a viewing, there is one after it.
        state = self.states(present, video[:, :-1], rows)[present]  # [n_viewings, dim + 1]
        after = video[:, 1:][present]  # [n_viewings]
        score = (state * functional.embedding(after, rows)).sum(1)
        others = self._others()
        same = batch.videos[after].unsqueeze(1) == others
        value = softmax(score, state @ self.candidates(others).T, same=same)
        own = functional.embedding(batch.videos, self.videos.video_id)
        return value + self.config.l2 * half_squares(own)

    def _others(self) -> Tensor:
        """The videos in the denominator of a step's softmax. [n_others]."""
        n = self.config.softmax_videos
        if len(self.watched) <= n:
            return self.watched
        drawn = torch.randint(len(self.watched), (n,), generator=self.noise)
        others: Tensor = torch.unique(self.watched[drawn.to(self.watched.device)])
        return others


class Block(nn.Module):
    """Attention to what is seen, then a network on each place.

    Shapes:
        forward: x [n_rows, width, dim], sees [n_rows, width, width] -> [n_rows, width, dim]
    """

    def __init__(self, config: Config, generator: torch.Generator) -> None:
        """Draw the parameters."""
        super().__init__()
        dim = config.dim
        self.n_heads = config.n_heads
        self.before_attention = nn.LayerNorm(dim)
        self.before_network = nn.LayerNorm(dim)
        self.query, self.key, self.value, self.joined = (
            linear(dim, dim, generator, bias=False) for _ in range(4)
        )
        self.network = Layers((dim, dim, dim), config.dropout, generator)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, sees: Tensor, noise: torch.Generator) -> Tensor:
        """Attention and dense layers, each with a residual connection."""
        x = x + self.dropout(self._attend(self.before_attention(x), sees), noise)
        update = self.dropout(self.network(self.before_network(x), noise), noise)
        joined: Tensor = x + update
        return joined

    def _attend(self, x: Tensor, sees: Tensor) -> Tensor:
        """Multi-head attention of each step to the steps in its mask."""
        query, key, value = (
            part(x).unflatten(2, (self.n_heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )  # [n_rows, n_heads, width, dim / n_heads]
        mask = sees.unsqueeze(1)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        joined: Tensor = self.joined(attended.transpose(1, 2).flatten(2))
        return joined


def viewings(graph: Graph) -> Exposures:
    """Return the histories of two viewings or more, as of the end of what the fit sees.

    In the order of users, then time; all of them positive.
    """
    sequences = sequences_of(graph)
    history = sequences.history
    lengths = np.diff(sequences.history.indptr)
    row = sequences.serving[lengths[sequences.serving] > 1]
    start = np.cumsum(lengths[row]) - lengths[row]
    step = np.repeat(history.indptr[row] - start, lengths[row])
    step += np.arange(len(step))
    row = np.repeat(row, lengths[row])
    return Exposures(
        row=row,
        user_idx=sequences.user_idx[row],
        video_idx=history.video_idx[step],
        at=history.at[step],
        label=np.ones(len(row), dtype=np.bool_),
    )


def by_users(phase: Phase, config: Config, generator: torch.Generator) -> Iterator[Batch]:
    """Yield every history once, in a new order; about `batch_size` viewings to predict a step.

    As in `exposures.by_exposures`, those of a step are about as long.

    Args:
        phase: what is learned from.
        config: the size of a step.
        generator: source of the order.

    Yields:
        This process's part of each step.
    """
    sequences = sequences_of(phase.graph)
    size = config.batch_size
    rows, lengths = np.unique(phase.examples.row, return_counts=True)
    n_predicted = np.minimum(lengths, config.history_length) - 1
    order = torch.randperm(len(rows), generator=generator).numpy()
    together = np.cumsum(n_predicted[order]) // (logged.SORTED_AT_ONCE * size)
    order = order[np.lexsort((n_predicted[order], together))]
    steps = np.split(order, 1 + np.flatnonzero(np.diff(np.cumsum(n_predicted[order]) // size)))
    shuffled = torch.randperm(len(steps), generator=generator).tolist()
    for part, share in logged.of_process((steps[number] for number in shuffled), n_predicted):
        kept = rows[part]
        latest = sequences.history.video_idx[sequences.history.indptr[kept + 1] - 1]
        label = np.ones(len(kept), dtype=np.bool_)
        yield logged.pairs(sequences, kept, latest, label, config, share=share)


build = SasRec
restore = partial(logged.restore, build=build, examples=viewings)


def fit(
    graph: Graph, config: Config, rng: np.random.Generator, *, runtime: Runtime | None = None
) -> Trained:
    """Choose the number of epochs on the validation part, then fit to all the fit's viewings; see `registry.Model`.

    Returns:
        Embeddings [n_users, dim + 1] and [n_videos, dim + 1].
    """
    training = logged.training(config, build=build, runtime=runtime or Runtime(), batches=by_users)
    refit = Phase(graph, viewings(graph))
    search = logged.by_recall(graph, viewings, embeddings, k=config.validation_k)
    network, report = logged.in_phases(training, search, refit, rng)
    return Trained(embeddings(network, graph), report, logged.learned(network))


@torch.no_grad()
def embeddings(network: Any, graph: Graph) -> Embeddings:
    """Return the states after the latest viewings, and candidates; a user without a viewing is unknown.

    Args:
        network: of a fit.
        graph: what it was fitted to.

    Returns:
        Embeddings [n_users, dim + 1] and [n_videos, dim + 1].
    """
    network.eval()
    sequences = sequences_of(graph)
    device = network.popularity.device
    has_history = np.diff(sequences.history.indptr)[sequences.serving] > 0
    user = np.zeros((graph.n_users, network.config.dim + 1), dtype=np.float32)
    user_idx = np.flatnonzero(has_history)
    for start in range(0, len(user_idx), ROWS_AT_ONCE):
        block = user_idx[start : start + ROWS_AT_ONCE]
        zeros = np.zeros(len(block), dtype=np.int64)
        # A batch has its rows in order and once; so are those of users.
        users = logged.pairs(
            sequences, sequences.serving[block], zeros, zeros > 0, network.config
        ).to(str(device))
        state = network.latest(users.history, network.candidates(users.videos))
        user[block] = state.float().cpu().numpy()
    known_videos = network.videos.known(graph)
    everything = network.candidates(torch.arange(graph.n_videos, device=device))
    return Embeddings(
        user=user,
        video=np.where(known_videos[:, None], everything.float().cpu().numpy(), np.float32(0)),
        user_known=has_history,
        video_known=known_videos,
    )
