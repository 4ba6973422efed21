r"""DMR: what a user watched and what similar users watched next, as a few trends with a clock.

Lu et al. 2021, "Multi-trends enhanced dynamic micro-video recommendation" (arXiv 2110.03902). The
paper publishes neither code nor all equations; what stands here is README.md, section 4.2. A user as of the
start of a day has a history H and a future F: what correlated users watched after the user's latest
videos, always before that day (`graphs/sequences/sequences.py`).

Joint routing, x the videos' rows, one shared S, K trends, three rounds:

    xh_j = S x_j,   u_j = c xh_j / |xh_j|,   a_j = softmax_k(b_j),   z_k = sum_j a_jk m_j u_j,
    g_k = squash(z_k),   b_jk += <g_k, u_j>

m_j is 1 in H; in F the weights of the fragments, so scaled that their mean is 1/2. b starts from
N(0, 1), fixed by user and video: from zeros a shared S would leave all trends alike. Unit length and
c = 8 are ours: rows are short, and what they agree on would drown in that start (planted tastes:
adjusted Rand index .18 without, .88 with). A user has as many of the K trends as `viewings_per_trend`
allows, so that six viewings are no four trends; b of the others is -1e9. The trends are shared by
both halves: H_k and F_k are the weighted means of xh over the halves.

Time-aware attention, for a candidate c. Within a trend, item j weighs
a_jk m_j exp(<W_q x_c, W_k x_j> / sqrt(d) + phi(age_j)); over the trends, h weighs its parts by
<x_c, H_k> + bias(age of the trend's latest video), and so does f. Then

    u = g h + (1 - g) f,   g = sigmoid(w [h ; f ; ln(1 + |H|) ; ln(1 + |F|)])
    logit = MLP [x_c ; h ; f ; h x_c ; f x_c ; <u, x_c> ; ln(1 + |H|) ; ln(1 + |F|)]

is trained on logged exposures (log loss), and the score of retrieval, max_k <H_k + F_k, x_c> plus a
learned popularity, on their positives (softmax over a sample of the shown videos).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, cast

import numpy as np
import pyarrow as pa
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from microrec.core.fitted import Trained, Trends, only_label
from microrec.models.inputs.graph_arrays import Graph
from microrec.models.inputs.sequence_arrays import Exposures
from microrec.models.nn.layers import N_BUCKETS, Layers, buckets, linear, normal
from microrec.models.nn.losses import softmax
from microrec.models.sequence import exposures as logged
from microrec.models.sequence.exposures import Batch, ExposureConfig, Viewed, sequences_of
from microrec.models.sequence.video_rows import VideoNetwork, VideoRows
from microrec.models.training.phases import Phase
from microrec.models.training.runtime import Runtime

scores = logged.scores
N_NOISE = 65_536
"""Rows of the fixed table that the routing starts from."""


class Config(ExposureConfig):
    """Shape of the network."""

    n_trends: PositiveInt = 4
    """K."""
    viewings_per_trend: PositiveInt = 3
    """Own viewings that a trend takes: a user of six has two trends at most, one of fewer than six a single one."""
    n_rounds: PositiveInt = 3
    """Of the routing; gradients flow through the last."""
    agreement: PositiveFloat = 8.0
    """c, the length of the rows that are routed: how much likeness weighs against the start."""
    future: bool = True
    """Whether the future is read (ablation)."""
    time: bool = True
    """Whether attention knows ages (ablation)."""
    routing: Literal["joint", "separate"] = "joint"
    """`separate`: each half is routed on its own, and trends of the same number are put together."""
    retrieval_weight: NonNegativeFloat = 1.0
    """Of the retrieval loss beside the log loss."""
    retrieval_videos: PositiveInt = 2000
    """Shown videos in the denominator of a step's softmax."""
    hidden: tuple[PositiveInt, ...] = (256, 128)
    """Sizes of the head's layers."""
    stopped_by: Literal["recall", "gauc"] = "recall"
    """What the epochs are chosen by: the lists it proposes, or, where it ranks alone, the order of what was shown."""
    validation_k: PositiveInt = 20
    """Length of the lists of the validation."""


@dataclass(frozen=True, eq=False)
class Half:
    """History or future of the rows of a batch.

    Shapes:
        x: [n_rows, width, dim]; m, present, age: [n_rows, width]; share: [n_rows, width, K], the
        logits it starts from before routing; mass: [n_rows, K]; trends: [n_rows, K, dim]
    """

    x: Tensor
    m: Tensor
    present: Tensor
    age: Tensor
    share: Tensor
    mass: Tensor
    trends: Tensor

    def latest(self) -> Tensor:
        """Return seconds since the latest step that is mostly of the trend, very many if none is. [n_rows, K]."""
        of = self.share.argmax(dim=2).unsqueeze(2) == torch.arange(
            self.share.shape[2], device=self.share.device
        )
        of = of & self.present.unsqueeze(2)
        return self.age.unsqueeze(2).masked_fill(~of, 1e9).amin(dim=1)


class MultiTrend(VideoNetwork):
    """The parameters and the equations.

    Shapes:
        forward: a batch -> logits of its pairs [n_pairs]
    """

    config: Config
    noise_table: Tensor
    warm: Tensor

    def __init__(
        self, graph: Graph, exposures: Exposures, config: Config, generator: torch.Generator
    ) -> None:
        """Draw the parameters."""
        super().__init__(VideoRows(graph, exposures.video_idx, config, generator))
        dim = config.dim
        self.routing = linear(dim, dim, generator, bias=False)
        self.query = linear(dim, dim, generator, bias=False)
        self.key = linear(dim, dim, generator, bias=False)
        self.age = normal(N_BUCKETS, 2, generator)
        self.trend_age = normal(N_BUCKETS, 2, generator)
        self.gate = linear(2 * dim + 2, 1, generator)
        self.head = Layers((5 * dim + 3, *config.hidden, 1), config.dropout, generator)
        fixed = torch.Generator().manual_seed(0)
        noise = torch.randn(N_NOISE, config.n_trends, generator=fixed)
        self.register_buffer("noise_table", noise, persistent=False)
        liked = exposures.video_idx[exposures.label]
        n_liked = np.bincount(liked, minlength=graph.n_videos).astype(np.float32)
        self.popularity = nn.Parameter(torch.from_numpy(np.log1p(n_liked)))
        shown = np.bincount(exposures.video_idx, minlength=graph.n_videos) > 0
        self.register_buffer("warm", torch.from_numpy(np.flatnonzero(shown)), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """The head of click-through."""
        rows = self.videos(batch.videos, self.noise)
        return self._logits(batch, rows, self._halves(batch, rows))

    def loss(self, batch: Batch) -> Tensor:
        """Return log loss of the labels, softmax of the positives and L2 of the videos' rows, a scalar."""
        rows = self.videos(batch.videos, self.noise)
        halves = self._halves(batch, rows)
        logits = self._logits(batch, rows, halves)
        value = logged.log_loss(logits, batch, self.videos.video_id, l2=self.config.l2)
        if self.config.retrieval_weight:
            value = value + self.config.retrieval_weight * self._retrieval(batch, rows, halves)
        return value

    def trends(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return H_k + F_k of each row [n_rows, K, dim], and which of them have anything [n_rows, K]."""
        rows = self.videos(batch.videos, self.noise)
        halves = self._halves(batch, rows)
        mass = halves[0].mass + halves[1].mass
        return halves[0].trends + halves[1].trends, mass > 0

    def members(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Return of history and future the mass of each step [n_rows, width], 0 where there is none, and its trend."""
        rows = self.videos(batch.videos, self.noise)
        halves = self._halves(batch, rows)
        return [(half.m * half.present, half.share.argmax(dim=2)) for half in halves]

    def _halves(self, batch: Batch, rows: Tensor) -> tuple[Half, Half]:
        """Route both halves."""
        mapped = self.routing(rows)
        history = self._half(batch, batch.history, mapped)
        future = self._half(batch, batch.future, mapped)
        mean = future.m.sum(1, keepdim=True) / future.present.sum(1, keepdim=True).clamp(min=1)
        scaled = 0.5 * future.m / mean.clamp(min=1e-12)
        if not self.config.future:
            scaled = torch.zeros_like(scaled)
            future = replace(future, present=torch.zeros_like(future.present))
        future = replace(future, m=scaled)
        if self.config.routing == "separate":
            return self._route([history])[0], self._route([future])[0]
        first, second = self._route([history, future])
        return first, second

    def _half(self, batch: Batch, viewed: Viewed, mapped: Tensor) -> Half:
        """A half before routing."""
        x = functional.embedding(viewed.video, mapped)
        key = batch.user.unsqueeze(1) * 1_000_003 + batch.videos[viewed.video] * 7_919
        start = self.noise_table[key % N_NOISE]
        n_own = batch.history.present.sum(1)
        n_trends = (n_own // self.config.viewings_per_trend).clamp(min=1)
        number = torch.arange(self.config.n_trends, device=start.device)
        too_many = number >= n_trends.unsqueeze(1)  # [n_rows, K]
        start = start.masked_fill(too_many.unsqueeze(1), -1e9)
        m = viewed.weight * viewed.present
        return Half(x, m, viewed.present, viewed.age, start, torch.zeros_like(start), x[:, :0])

    def _route(self, halves: list[Half]) -> list[Half]:
        """Assign the steps of the halves to shared trends."""
        x = torch.cat([half.x for half in halves], dim=1)
        m = torch.cat([half.m for half in halves], dim=1)
        b = torch.cat([half.share for half in halves], dim=1)
        u = self.config.agreement * functional.normalize(x, dim=2)
        fixed = u.detach()
        with torch.no_grad():
            for _ in range(self.config.n_rounds - 1):
                a = b.softmax(dim=2) * m.unsqueeze(2)
                g = squash(a.transpose(1, 2) @ fixed)
                b = b + fixed @ g.transpose(1, 2)
        a = b.softmax(dim=2)
        g = squash((a * m.unsqueeze(2)).transpose(1, 2) @ u)
        a = (b + u @ g.transpose(1, 2)).softmax(dim=2)
        routed = []
        start = 0
        for half in halves:
            share = a[:, start : start + half.x.shape[1]] * half.present.unsqueeze(2)
            start += half.x.shape[1]
            weight = share * half.m.unsqueeze(2)
            mass = weight.sum(1)
            trends = weight.transpose(1, 2) @ half.x / mass.clamp(min=1e-6).unsqueeze(2)
            routed.append(replace(half, share=share, mass=mass, trends=trends))
        return routed

    def _logits(self, batch: Batch, rows: Tensor, halves: tuple[Half, Half]) -> Tensor:
        """The head's logits of the pairs."""
        candidate = functional.embedding(batch.video, rows)
        h, f = (self._attend(batch, candidate, half, n) for n, half in enumerate(halves))
        sizes = torch.stack([torch.log1p(half.present.sum(1).float()) for half in halves], dim=1)
        sizes = sizes.index_select(0, batch.of)
        gate = torch.sigmoid(self.gate(torch.cat([h, f, sizes], dim=1)))
        u = gate * h + (1 - gate) * f
        inner = (u * candidate).sum(1, keepdim=True)
        joined = [candidate, h, f, h * candidate, f * candidate, inner, sizes]
        logit: Tensor = self.head(torch.cat(joined, dim=1), self.noise).squeeze(1)
        return logit

    def _attend(self, batch: Batch, candidate: Tensor, half: Half, number: int) -> Tensor:
        """The attention of each pair's candidate over a half, 0 where it is empty. [n_pairs, dim]."""

        def of_pairs(rows: Tensor) -> Tensor:
            # index_select: its gradient adds rows up in a fixed order, that of rows[of] may not.
            return rows.index_select(0, batch.of)

        query = self.query(candidate)
        present = of_pairs(half.present).unsqueeze(2)
        keys = of_pairs(self.key(half.x))  # [n_pairs, width, dim]
        fit = (keys @ query.unsqueeze(2)).squeeze(2) / math.sqrt(query.shape[1])
        over = (of_pairs(half.trends) @ candidate.unsqueeze(2)).squeeze(2)  # [n_pairs, K]
        if self.config.time:
            age = buckets(half.age)
            latest = buckets(half.latest())
            fit = fit + of_pairs(functional.embedding(age, self.age)[..., number])
            over = over + of_pairs(functional.embedding(latest, self.trend_age)[..., number])
        weight = of_pairs(half.share * half.m.unsqueeze(2))  # [n_pairs, width, K]
        logit = fit.unsqueeze(2) + torch.log(weight.clamp(min=1e-12))
        near = logit.masked_fill(~present, -1e9).softmax(dim=1) * present
        values = near.transpose(1, 2) @ of_pairs(half.x)  # [n_pairs, K, dim]
        has_mass = of_pairs(half.mass > 0)
        beta = over.masked_fill(~has_mass, -1e9).softmax(dim=1) * has_mass
        joined: Tensor = (beta.unsqueeze(1) @ values).squeeze(1)
        return joined

    def _retrieval(self, batch: Batch, rows: Tensor, halves: tuple[Half, Half]) -> Tensor:
        """Softmax of the positives over a sample of the shown videos."""
        positive = batch.label > 0
        trends = halves[0].trends + halves[1].trends
        has_mass = (halves[0].mass + halves[1].mass > 0).unsqueeze(2)
        trends = torch.where(has_mass, trends, trends[:, :1]).index_select(0, batch.of[positive])
        if not len(trends) or not len(self.warm):
            return 0.0 * trends.sum()
        n = min(self.config.retrieval_videos, len(self.warm))
        drawn = torch.randint(len(self.warm), (n,), generator=self.noise).to(self.warm.device)
        others = torch.unique(self.warm[drawn])
        against = self.videos(others, self.noise)
        scores = (trends @ against.T).amax(dim=1)  # [n_positive, n]
        scores = scores + self.popularity.index_select(0, others)
        watched = batch.video[positive]
        target = functional.embedding(watched, rows)
        score = (trends @ target.unsqueeze(2)).squeeze(2).amax(dim=1)
        score = score + self.popularity.index_select(0, batch.videos[watched])
        same = batch.videos[watched].unsqueeze(1) == others
        return softmax(score, scores, same=same)


def squash(z: Tensor) -> Tensor:
    """Return |z|^2 / (1 + |z|^2) z / |z|: a capsule, shorter than 1 (Sabour et al. 2017). [n, ..., dim]."""
    square = z.square().sum(dim=-1, keepdim=True)
    return square / (1 + square) * z / torch.sqrt(square + 1e-9)


build = MultiTrend
restore = partial(logged.restore, build=build, examples=logged.exposures_of)


def fit(
    graph: Graph, config: Config, rng: np.random.Generator, *, runtime: Runtime | None = None
) -> Trained:
    """Choose the number of epochs on the validation day, then fit to all the fit's exposures; see `registry.Model`.

    Returns:
        Trends of the users [n_users, K, dim] and rows of the videos [n_videos, dim].
    """
    training = logged.training(config, build=build, runtime=runtime or Runtime())
    examples = logged.exposures_of(graph)
    refit = Phase(graph, examples)
    if config.stopped_by == "recall":
        search = logged.by_recall(graph, _before_validation, retrieval, k=config.validation_k)
    else:
        search = logged.by_gauc(graph, config)
    network, report = logged.in_phases(training, search, refit, rng)
    report |= only_label(examples.label)
    return Trained(retrieval(cast(MultiTrend, network), graph), report, logged.learned(network))


def _before_validation(graph: Graph) -> Exposures:
    return sequences_of(graph).training


@torch.no_grad()
def retrieval(network: MultiTrend, graph: Graph) -> Trends:
    """Return the trends of all users as of the end of what the fit sees; a last column adds popularity.

    Args:
        network: of a fit.
        graph: what it was fitted to.

    Returns:
        Trends [n_users, K, dim + 1] and videos [n_videos, dim + 1].
    """
    network.eval()
    device = network.noise_table.device
    parts = []
    masks = []
    for users in _everyone(network, graph):
        trends, mask = network.trends(users)
        parts.append(functional.pad(trends, (0, 1), value=1.0).float().cpu().numpy())
        masks.append(mask.cpu().numpy())
    everyone = torch.arange(graph.n_videos, device=device)
    popularity = (network.popularity - network.popularity.min()).unsqueeze(1)
    videos = torch.cat([network.videos(everyone, network.noise), popularity], dim=1)
    trend_known = np.concatenate(masks)
    return Trends(
        user=np.where(trend_known[:, :, None], np.concatenate(parts), np.float32(0)),
        video=videos.float().cpu().numpy(),
        trend_known=trend_known,
        video_known=network.videos.known(graph),
    )


@torch.no_grad()
def members(network: MultiTrend, graph: Graph) -> pa.Table:
    """Return what the trends of all users hold as of the end of what the fit sees.

    Args:
        network: of a fit.
        graph: what it was fitted to.

    Returns:
        One row per viewing in a history or a future: user_idx, trend (0..K-1: the one that has most
        of it), video_idx, mass (1 in a history), own (whether in a history), at; sorted by user_idx, then time
        within a half.
    """
    network.eval()
    sequences = sequences_of(graph)
    parts = []
    for users in _everyone(network, graph):
        cut_at = sequences.cut_at[sequences.serving[users.user.cpu().numpy()]]
        halves = zip((users.history, users.future), network.members(users), strict=True)
        for own, (viewed, (mass, trend)) in zip((True, False), halves, strict=True):
            row, step = torch.nonzero(mass > 0, as_tuple=True)
            ago = (viewed.age[row, step].double() * 1e6).long().cpu().numpy()
            parts.append(
                {
                    "user_idx": users.user[row].int().cpu().numpy(),
                    "trend": trend[row, step].int().cpu().numpy(),
                    "video_idx": users.videos[viewed.video[row, step]].int().cpu().numpy(),
                    "mass": mass[row, step].double().cpu().numpy(),
                    "own": np.full(len(row), own),
                    "at": pa.array(cut_at[row.cpu().numpy()] - ago, pa.timestamp("us", "UTC")),
                }
            )
    rows: pa.Table = pa.concat_tables([pa.table(columns) for columns in parts])
    return rows.sort_by([("user_idx", "ascending")])


def _everyone(network: MultiTrend, graph: Graph) -> Iterator[Batch]:
    """All users as of the end of what the fit sees, in order, without a video to score.

    A batch has its rows once and in order; so have users, whose rows are sorted by user.
    """
    sequences = sequences_of(graph)
    device = str(network.noise_table.device)
    for rows in np.array_split(sequences.serving, -(-graph.n_users // logged.SCORED_AT_ONCE) or 1):
        zeros = np.zeros(len(rows), dtype=np.int64)
        yield logged.pairs(sequences, rows, zeros, zeros > 0, network.config).to(device)
