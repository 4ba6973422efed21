r"""FRAME: where in a video a user stays or leaves, from who watched which clips through.

Shang et al. 2023, "Learning fine-grained user interests for micro-video recommendation" (SIGIR). The
equations are those of its released code with the repairs of README.md, section 5.2; the evidence is ours.

A viewing of day d is predicted from the days before d alone: its own edges are never in the graph. A+ joins
users and clips they watched through, A- users and clips they left in, both with the edges' weights,
faded by age; N(.) is a mean over at most `fan_out` latest edges. A clip's row is its video's row
(`video_rows.py`, so that a video nobody watched has one), its place, and its own vector:

    z = x_video + E_place + W_c v_clip
    p = ReLU(W_1 N+(z)),   q = ReLU(W_1 N-(z))                              of users
    g = 1/2 [ReLU(W_2 N+(p)) + ReLU(W_2 N-(q))] + W_0 z                     of clips; W_0 z is left of cold ones
    s+ = MLP+ [g ; p ; e],   s- = MLP- [g ; q ; e],   a = sigmoid(w [p ; q ; g] + ln 4)
    s = a s+ - (1 - a) s- + u e

sigmoid(s) is the chance that who reaches the clip watches it through; 1 - sigmoid(s) is the hazard.
The evidence e is what was counted before d: log-odds of watching through at this place, at this clip
and in this video (each shrunk to the one before), of this user, and on how much they rest.

Loss: log loss of the clips that were reached, plus -ln sigma(s_i - s_j) of viewers j who left in a clip and i who
stayed in the same one that day, if `pairwise_weight` asks for it. The score of a video is the chance that the user
watches it to the end, or for `goal_ms`: the product over the clips.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import SimpleConv

from microrec.core.array_types import Int64s
from microrec.core.fitted import Ranker, Trained, only_label
from microrec.errors import MicrorecError
from microrec.models.clip.clip_batches import (
    N_PLACES,
    Links,
    Pairs,
    Read,
    Reader,
    Viewings,
    blocks,
    viewings,
)
from microrec.models.clip.clip_counts import N_EVIDENCE, OWN, RATIO
from microrec.models.inputs.clip_arrays import Clips
from microrec.models.inputs.graph_arrays import Graph
from microrec.models.nn.generated import without_source
from microrec.models.nn.layers import Layers, linear, normal
from microrec.models.nn.losses import half_squares
from microrec.models.sequence import exposures as logged
from microrec.models.sequence.exposures import ExposureConfig
from microrec.models.sequence.video_rows import VideoNetwork, VideoRows
from microrec.models.training.phases import Phase
from microrec.models.training.runtime import Runtime

SCORED_AT_ONCE = 8192
"""Pairs of a user and a video scored in one block: memory = this times the clips of a video."""
ROWS_AT_ONCE = 4096
"""Users or clips whose rows are made in one block."""
NO_CLIPS = -100.0
"""Score of a video of unknown length."""


class Config(ExposureConfig):
    """Shape of the network, and what is learned."""

    dim: PositiveInt = 16
    """Size of every row."""
    fan_out: tuple[PositiveInt, PositiveInt] = (25, 10)
    """Latest clips of a user, and latest users of a clip, of each sign that are read."""
    half_life_days: PositiveFloat = 7.0
    """An edge this old counts half."""
    graph: bool = True
    """Whether p, q and the users' part of g are there (ablation)."""
    fusion: Literal["gate", "fixed", "positive"] = "gate"
    """`fixed`: .8 s+ - .2 s-, `positive`: s+ alone, as in the released code."""
    neighbours: bool = False
    """Whether a clip's row also reads the clips before and after it (a convolution over the video)."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of a layer's outputs that are left out of a step."""
    pairwise_weight: NonNegativeFloat = 0.0
    """Of the pairs at one clip, of a viewer who left and one who stayed, beside the log loss."""
    goal_ms: PositiveInt = 18_000
    """Watching for so long is as good as watching to the end."""
    batch_size: PositiveInt = 1024
    """Viewings a step."""
    hidden: tuple[PositiveInt, ...] = (64,)
    """Sizes of the layers of MLP+ and MLP-."""
    learning_rate: PositiveFloat = 5e-3
    """Adam's; with less, planted tastes for what clips show are not found within the epochs."""
    max_epochs: PositiveInt = 40
    patience: PositiveInt = 4
    default_epochs: PositiveInt = 5


class ClipInterest(VideoNetwork):
    """The parameters and the equations.

    Shapes:
        forward: a batch -> logits of watching its pairs' clips through [n_pairs]
    """

    config: Config
    vector: Tensor

    def __init__(
        self, graph: Graph, viewings: Viewings, config: Config, generator: torch.Generator
    ) -> None:
        """Draw the parameters."""
        clips = clips_of(graph)
        # A viewing's edges are of one video; what it is not learned from may have others.
        shown = clips.video[viewings.edges.clip[viewings.start]]
        super().__init__(VideoRows(graph, shown, config, generator))
        self.place = normal(N_PLACES, config.dim, generator)
        self.register_buffer("vector", torch.from_numpy(clips.vector), persistent=False)
        self.own = linear(max(clips.vector.shape[1], 1), config.dim, generator, bias=False)
        dim = config.dim
        self.beside = nn.ModuleList(linear(dim, dim, generator, bias=False) for _ in range(2))
        self.to_people = linear(dim, dim, generator)
        self.to_clips = linear(dim, dim, generator)
        self.content = linear(dim, dim, generator)
        self.along = without_source(SimpleConv(aggr="sum"))
        sizes = (2 * dim + N_EVIDENCE, *config.hidden, 1)
        self.positive = Layers(sizes, config.dropout, generator)
        self.negative = Layers(sizes, config.dropout, generator)
        self.gate = linear(3 * dim, 1, generator)
        self.counted = linear(N_EVIDENCE, 1, generator)
        with torch.no_grad():
            # exp(bias) : 1 = 4 : 1, the released code's .8 and .2.
            self.gate.bias.fill_(math.log(4))
            # What was counted is the start; what the networks add is learned from nothing.
            self.counted.weight.zero_()
            self.counted.weight[0, [OWN, RATIO]] = 1.0
            for head in (self.positive, self.negative):
                nn.init.zeros_(cast(nn.Linear, head.layers[-1]).weight)

    def forward(self, batch: Pairs) -> Tensor:
        """Logits of the pairs."""
        z = self.rows(batch.read)
        p, q = self.users(batch, z)
        g = self.clips(batch, z, p, q)
        return self.logits(p[batch.user], q[batch.user], g[batch.target], batch.evidence)

    def rows(self, read: Read) -> Tensor:
        """Return the rows z of the clips that are read. [n_rows, dim]."""
        rows = functional.embedding(read.video, self.videos(read.videos, self.noise))
        rows = rows + functional.embedding(read.place, self.place)
        if self.vector.shape[1]:
            rows = rows + self.own(self.vector[read.clip])
        if self.config.neighbours:
            near = [
                layer(rows[position] * (position >= 0).unsqueeze(1))
                for layer, position in zip(self.beside, (read.before, read.after), strict=True)
            ]
            rows = rows + near[0] + near[1]
        return rows

    def users(self, batch: Pairs, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows p and q of the users.

        Args:
            batch: the pairs.
            z: rows of the clips that are read. [n_rows, dim]

        Returns:
            [n_users, dim] each.
        """
        positive, negative = batch.user_links
        p = torch.relu(self.to_people(self._mean(z, positive, batch.n_users)))
        q = torch.relu(self.to_people(self._mean(z, negative, batch.n_users)))
        return p, q

    def clips(self, batch: Pairs, z: Tensor, p: Tensor, q: Tensor) -> Tensor:
        """Return the rows g of the clips to score.

        Args:
            batch: the pairs.
            z: rows of the clips that are read. [n_rows, dim]
            p: of the users. [n_users, dim]
            q: of the users. [n_users, dim]

        Returns:
            [n_targets, dim].
        """
        n, (positive, negative) = len(batch.targets), batch.clip_links
        liked = torch.relu(self.to_clips(self._mean(p, positive, n)))
        left = torch.relu(self.to_clips(self._mean(q, negative, n)))
        joined: Tensor = 0.5 * (liked + left) + self.content(z[batch.targets])
        return joined

    def logits(self, p: Tensor, q: Tensor, g: Tensor, evidence: Tensor) -> Tensor:
        """Return the logits s of some pairs.

        Args:
            p: of their users. [n, dim]
            q: of their users. [n, dim]
            g: of their clips. [n, dim]
            evidence: counts of both. [n, n_counts]

        Returns:
            [n].
        """
        stays = self.positive(torch.cat([g, p, evidence], dim=1), self.noise).squeeze(1)
        prior: Tensor = self.counted(evidence).squeeze(1)
        if self.config.fusion == "positive":
            joined: Tensor = stays + prior
            return joined
        leaves = self.negative(torch.cat([g, q, evidence], dim=1), self.noise).squeeze(1)
        share: Any = 0.8
        if self.config.fusion == "gate":
            share = torch.sigmoid(self.gate(torch.cat([p, q, g], dim=1))).squeeze(1)
        joined = share * stays - (1 - share) * leaves + prior
        return joined

    def loss(self, batch: Pairs) -> Tensor:
        """Return log loss of the clips, pairs within viewings and L2 of the videos' rows, a scalar."""
        logits = self(batch)
        value = functional.binary_cross_entropy_with_logits(logits, batch.label)
        if self.config.pairwise_weight:
            value = value + self.config.pairwise_weight * across(logits, batch, self.noise)
        rows = functional.embedding(batch.read.videos, self.videos.video_id)
        return value + self.config.l2 * half_squares(rows)

    def _mean(self, rows: Tensor, links: Links, n: int) -> Tensor:
        """Weighted means of rows along links. [n, dim]."""
        mean: Tensor = self.along((rows, None), links.edges, links.weight, size=(len(rows), n))
        return mean


def across(logits: Tensor, batch: Pairs, generator: torch.Generator) -> Tensor:
    """Return the mean of -ln sigma(s_i - s_j) over viewers j who left in a clip and one i each who stayed there.

    Both are of the same clip and day, so that a clip where everybody is as likely to leave teaches no difference, and
    neither do the clips before and after it.

    Args:
        logits: [n_pairs]
        batch: labels and clips of the pairs.
        generator: draws who of those who stayed is compared.

    Returns:
        Scalar tensor; 0 where no clip has both.
    """
    left = torch.nonzero(batch.label == 0).squeeze(1)
    stayed = torch.nonzero(batch.label == 1).squeeze(1)
    stayed = stayed[torch.argsort(batch.target[stayed], stable=True)]
    n_stayed = torch.bincount(batch.target[stayed], minlength=len(batch.targets))
    first = torch.cumsum(n_stayed, 0) - n_stayed
    left = left[n_stayed[batch.target[left]] > 0]
    if not len(left):
        return 0.0 * logits.sum()
    clip = batch.target[left]
    drawn = torch.rand(len(left), generator=generator).to(logits.device)
    against = stayed[first[clip] + (drawn * n_stayed[clip]).long()]
    return -functional.logsigmoid(logits[against] - logits[left]).mean()


def clips_of(graph: Graph) -> Clips:
    """Return the clips of a graph.

    Raises:
        MicrorecError: the graph was made without clips.
    """
    if graph.clips is None:
        raise MicrorecError("this model reads `clip_edges` and `clip_features`; the graph has none")
    return graph.clips


def by_days(phase: Phase, config: Config, generator: torch.Generator) -> Iterator[Pairs]:
    """Yield every viewing once, in a new order; those of a step are of one day, and share what is before.

    Args:
        phase: what is learned from.
        config: the size of a step.
        generator: source of the order.

    Yields:
        This process's part of each step.
    """
    reader = Reader(clips_of(phase.graph), config)
    size = config.batch_size
    steps = []
    order = torch.randperm(len(phase.examples), generator=generator).numpy()
    if config.pairwise_weight:
        order = _videos_together(phase, order, generator)
    day = phase.examples.day[order]
    for a_day in np.unique(day):
        of_day = order[day == a_day]
        steps += np.split(of_day, range(size, len(of_day), size))
    shuffled = torch.randperm(len(steps), generator=generator).tolist()
    for kept, share in logged.of_process(steps[number] for number in shuffled):
        yield reader.viewings(phase.examples.taken(kept), share=share)


def _videos_together(phase: Phase, order: Int64s, generator: torch.Generator) -> Int64s:
    """The order with the viewings of each video beside one another, videos in an order that is drawn."""
    clips = clips_of(phase.graph)
    number = torch.randperm(phase.graph.n_videos, generator=generator).numpy()
    video = number[clips.video[phase.examples.edges.clip[phase.examples.start[order]]]]
    return order[np.argsort(video, kind="stable")]


def viewings_of(graph: Graph) -> Viewings:
    """Return all viewings that a fit sees.

    Raises:
        MicrorecError: the graph was made without clips.
    """
    clips = clips_of(graph)
    return viewings(clips.edges, clips)


build = ClipInterest
restore = partial(logged.restore, build=build, examples=viewings_of)


def fit(
    graph: Graph, config: Config, rng: np.random.Generator, *, runtime: Runtime | None = None
) -> Trained:
    """Choose the number of epochs on the validation day, then fit to all the fit's viewings; see `registry.Model`.

    Returns:
        A ranker, which proposes nothing.
    """
    everything = viewings_of(graph)
    training = logged.training(config, build=build, runtime=runtime or Runtime(), batches=by_days)
    refit = Phase(graph, everything)
    network, report = logged.in_phases(training, _search(graph, everything), refit, rng)
    report |= only_label(everything.edges.through)
    return Trained(Ranker(), report, logged.learned(network))


def _search(graph: Graph, everything: Viewings) -> Phase | None:
    """The viewings before the validation day; quality: minus the log loss of that day's clips."""
    held = clips_of(graph).validated_on
    if held is None or not (everything.day < held).any():
        return None
    validation = everything.taken(everything.day == held)

    def quality(network: Any) -> float:
        reader = Reader(clips_of(graph), network.config)
        return -log_loss(network, reader, validation)

    return Phase(graph, everything.taken(everything.day < held), quality)


@torch.no_grad()
def log_loss(network: Any, reader: Reader, examples: Viewings) -> float:
    """Return the mean log loss of the clips that some viewings reached.

    Args:
        network: of a fit.
        reader: makes the batches.
        examples: viewings that are scored [n_viewings].

    Returns:
        Nats.
    """
    network.eval()
    device = next(network.parameters()).device
    total = 0.0
    n = 0
    for block in blocks(len(examples), ROWS_AT_ONCE):
        batch = reader.viewings(examples.taken(block)).to(str(device))
        losses = functional.binary_cross_entropy_with_logits(
            network(batch), batch.label, reduction="sum"
        )
        total = total + float(losses)
        n = n + len(batch.label)
    return total / max(n, 1)


@torch.no_grad()
def logits(
    network: ClipInterest, graph: Graph, user_idx: NDArray[Any], clip: NDArray[Any]
) -> NDArray[np.float32]:
    """Return the logits of watching clips through, of users who reach them at the end of what the fit sees.

    Args:
        network: of a fit.
        graph: what it was fitted to.
        user_idx: [n_pairs].
        clip: numbers of clips. [n_pairs]

    Returns:
        [n_pairs].
    """
    network.eval()
    clips = clips_of(graph)
    reader = Reader(clips, network.config)
    device = str(network.gate.weight.device)
    values = np.zeros(len(clip), dtype=np.float32)
    for block in blocks(len(clip), SCORED_AT_ONCE):
        day = np.full(len(block), clips.today)
        pairs = reader.pairs(user_idx[block].astype(np.int64), clip[block].astype(np.int64), day)
        values[block] = network(pairs.to(device)).cpu().numpy()
    return values


@dataclass(frozen=True, eq=False)
class AllRows:
    """What a network makes of everybody and everything at the end of what the fit sees.

    Shapes:
        p, q: [n_users, dim]; g: [n_clips, dim]; of_user: [n_users, OF_USER]; of_clip: [n_clips, OF_CLIP]
    """

    clips: Clips
    p: Tensor
    q: Tensor
    g: Tensor
    of_user: Tensor
    of_clip: Tensor


@torch.no_grad()
def all_rows(network: ClipInterest, graph: Graph) -> AllRows:
    """Return the rows of all users and all clips, computed in blocks.

    Args:
        network: of a fit.
        graph: what it was fitted to.

    Returns:
        [n_users, dim] and [n_clips, dim].
    """
    network.eval()
    clips = clips_of(graph)
    device = str(network.gate.weight.device)
    reader = Reader(clips, network.config)

    def day(n: int) -> Int64s:
        return np.full(n, clips.today)

    p = []
    q = []
    g = []
    for user in blocks(graph.n_users if clips.n_clips else 0, ROWS_AT_ONCE):
        batch = reader.pairs(user, np.zeros_like(user), day(len(user))).to(device)
        rows = network.users(batch, network.rows(batch.read))
        p.append(rows[0][batch.user])
        q.append(rows[1][batch.user])
    for clip in blocks(clips.n_clips, ROWS_AT_ONCE):
        batch = reader.pairs(np.zeros_like(clip), clip, day(len(clip))).to(device)
        z = network.rows(batch.read)
        g.append(network.clips(batch, z, *network.users(batch, z))[batch.target])
    no_rows = [torch.zeros(0, network.config.dim, device=device)]
    users = np.arange(graph.n_users)
    all_clips = np.arange(clips.n_clips)
    of_user = torch.from_numpy(reader.counts.of_users(users, day(len(users))))
    of_clip = torch.from_numpy(reader.counts.of_clips(all_clips, day(len(all_clips))))
    return AllRows(
        clips,
        torch.cat(no_rows + p),
        torch.cat(no_rows + q),
        torch.cat(no_rows + g),
        of_user.to(device),
        of_clip.to(device),
    )


@torch.no_grad()
def stays(
    network: ClipInterest, rows: AllRows, user_idx: NDArray[Any], video_idx: NDArray[Any]
) -> Iterator[tuple[Int64s, Int64s, NDArray[np.float64]]]:
    """Chances that users who reach a clip of a video watch it through.

    Args:
        network: of a fit.
        rows: what `all_rows` returned of the same network.
        user_idx: [n_pairs].
        video_idx: [n_pairs].

    Yields:
        Blocks of: position of the pair, the clip, ln of the chance; all clips of a pair in one block, in
        order. A video of unknown length has none.
    """
    device = rows.p.device
    user_idx = user_idx.astype(np.int64)
    video_idx = video_idx.astype(np.int64)
    for start in range(0, len(user_idx), SCORED_AT_ONCE):
        block = slice(start, start + SCORED_AT_ONCE)
        pair, clip = rows.clips.of(video_idx[block])
        user = torch.from_numpy(user_idx[block][pair]).to(device)
        of = torch.from_numpy(clip).to(device)
        evidence = torch.cat([rows.of_clip[of], rows.of_user[user]], dim=1)
        logits = network.logits(rows.p[user], rows.q[user], rows.g[of], evidence)
        chance = functional.logsigmoid(logits.double()).cpu().numpy()
        yield start + pair, clip, chance


def retained(pair: Int64s, chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln of the chance to watch the clips up to each through: sums within a block of `stays`.

    Args:
        pair: position of the pair of each clip. [n]
        chance: ln of the chance to watch it through. [n]

    Returns:
        [n].
    """
    new = np.flatnonzero(np.diff(pair, prepend=-1))
    total = np.cumsum(chance)
    before = np.repeat(total[new] - chance[new], np.diff(np.append(new, len(pair))))
    return total - before


def audience(
    network: ClipInterest, graph: Graph, groups: Sequence[NDArray[Any]]
) -> NDArray[np.float64]:
    """Share of each group's users who would watch a clip through, of those who start its video.

    Args:
        network: of a fit.
        graph: what it was fitted to.
        groups: user_idx of each, [n_members]; one without a member has NaN.

    Returns:
        Retention at the end of every clip [n_groups, n_clips]; 1 - r_k / r_(k-1) is the hazard.
    """
    rows = all_rows(network, graph)
    videos = np.arange(graph.n_videos)
    retention = np.full((len(groups), rows.clips.n_clips), np.nan)
    for row, users in zip(retention, groups, strict=True):
        if not len(users):
            continue
        row[:] = 0.0
        user = np.tile(np.asarray(users, dtype=np.int64), len(videos))
        for pair, clip, chance in stays(network, rows, user, np.repeat(videos, len(users))):
            np.add.at(row, clip, np.exp(retained(pair, chance)) / len(users))
    return retention


def scores(
    network: ClipInterest, graph: Graph, user_idx: NDArray[Any], video_idx: NDArray[Any]
) -> NDArray[np.float32]:
    """Return ln of the chance that users watch videos to the end, or for `goal_ms`.

    A video of unknown length gets `NO_CLIPS`: it comes last.

    Args:
        network: of a fit.
        graph: what it was fitted to.
        user_idx: [n_pairs].
        video_idx: [n_pairs].

    Returns:
        [n_pairs].
    """
    rows = all_rows(network, graph)
    clips = rows.clips
    goal = network.config.goal_ms
    length = np.maximum(clips.end_ms - clips.start_ms, 1)
    part = np.clip((goal - clips.start_ms) / length, 0, 1)
    total = np.zeros(len(user_idx))
    for pair, clip, chance in stays(network, rows, user_idx, video_idx):
        np.add.at(total, pair, part[clip] * chance)
    cut = np.diff(clips.first)[video_idx] > 0
    return np.where(cut, total, NO_CLIPS).astype(np.float32)
