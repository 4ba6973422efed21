"""How a model with rows for users and videos is fitted: the part that all graph networks share.

The search trains on the part train and is judged by the recall of the part validation; the refit trains on all the
edges of the fit (`training/phases.py`).

Decided, and measured on both data sets that this project is developed on (tests/benchmarks/README.md):
- The edges a batch is asked to predict are left out of the graph that predicts them
  (`mask_targets`): with them in it, a user of few videos is made of the very video that is asked
  for, and learning ends with copying.
- Users over the activity cap send no messages to videos and give no triples; they are served as all others.
- `loss` is BPR as published, or the softmax over the warm videos.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self, TypeVar, cast

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from microrec.core.array_types import Bools
from microrec.core.fitted import Embeddings, Trained
from microrec.models.graph import sampling
from microrec.models.graph.propagation import Watched, WatchGraph
from microrec.models.graph.sampling import Sampler, Triples
from microrec.models.inputs.graph_arrays import Edges, Graph
from microrec.models.neighbours.activity import ActivityCap, activity_cap
from microrec.models.nn import losses
from microrec.models.training import parallel
from microrec.models.training import warm_start as warm
from microrec.models.training.budget import BudgetConfig
from microrec.models.training.loop import validation_recall
from microrec.models.training.phases import Phase, Training
from microrec.models.training.runtime import Runtime, Yesterday

logger = logging.getLogger(__name__)


class TrainingConfig(ActivityCap, BudgetConfig):
    """What is learned from, and for how long: the part of a `Config` all graph networks share."""

    loss: Literal["bpr", "softmax"] = "bpr"
    """`bpr`: one unwatched video against each watched one; `softmax`: all warm videos at once."""
    softmax_videos: PositiveInt = 10_000
    """Most warm videos that all stand in the denominator of `softmax`. Where there are more, each step draws
    `sampled_videos` and weighs them for the rest. Memory: batch size times videos, 4 bytes each, some three times."""
    sampled_videos: PositiveInt = 2048
    """Videos drawn a step where there are more than `softmax_videos`, half of them by their number of viewers; doubles
    count once."""
    sampled_batch_size: PositiveInt = 4096
    """Triples a step where videos are drawn, in place of `batch_size`."""
    sampling: Literal["users", "edges"] = "users"
    """Draw a user and then one of the user's videos, or an edge."""
    mask_targets: bool = True
    """Leave the edges of the batch out of the graph."""
    keep_edges: float = Field(default=1.0, gt=0, le=1)
    """Share of the edges that stay in the graph of an epoch (FREEDOM's pruning); all when ranking."""
    l2: NonNegativeFloat = 1e-4
    """Weight of the squared id rows of a batch."""
    learning_rate: PositiveFloat = 5e-3
    """Adam's."""
    batch_size: PositiveInt = 8192
    """Triples a step; every step propagates the whole graph. Fewer where there are fewer edges."""
    max_epochs: PositiveInt = 100
    """Most epochs while looking for the best number; one epoch draws as many triples as edges."""
    patience: PositiveInt = 5
    """Epochs in a row without a better validation recall after which the search ends."""
    validation_k: PositiveInt = 20
    """Length of the lists of the validation."""
    validation_users: PositiveInt = 10_000
    """Most users validated on; a sample where there are more."""
    epochs: PositiveInt | None = None
    """Set: train for exactly so many epochs (a final fit: those its trial chose)."""
    default_epochs: PositiveInt = 20
    """Epochs where there is neither `epochs` nor anything to validate on."""
    members: PositiveInt = 1
    """Networks that are fitted with draws of their own and averaged: the mean of their
    scores. Costs as many fits, and rows as many times as long."""
    mixed_precision: bool = False
    """Dense products in bfloat16, sparse ones and sums in float32. For accelerators: on CPUs
    bfloat16 is the slower one."""
    warm_start: bool = False
    """Start from yesterday's parameters, where there are any. Rows of a night then depend on the
    nights before it, so that backfills must run in the order of days; and what an erased user
    taught lives on in rows of videos until a night starts cold."""

    @model_validator(mode="after")
    def _members_start_apart(self) -> Self:
        if self.warm_start and self.members > 1:
            raise ValueError("warm_start takes one network over: members must be 1")
        return self


class Network(Protocol):
    """What a graph network offers to be fitted (torch modules; `parameters` and the rest is theirs)."""

    watch: WatchGraph
    """The graph it propagates over, with the edges it learns from."""

    def __call__(
        self, user_idx: Tensor, watched: Watched, video_idx: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rows of those users [n, dim] and videos [m, dim], all videos where none are named: inner products score."""
        ...

    def id_rows(self, triples: Triples) -> tuple[Tensor, ...]:
        """Rows before any propagation that L2 holds down. Each [n_triples, dim]."""
        ...

    def known_videos(self) -> Bools:
        """Videos the network can say something about. [n_videos]."""
        ...


ConfigT = TypeVar("ConfigT", bound=TrainingConfig)
Build = Callable[[Graph, Edges, ConfigT, torch.Generator], Network]
"""Makes a fresh network that learns from these edges, its parameters drawn from the generator."""


@dataclass(frozen=True, eq=False)
class Batch:
    """This process's part of the triples of a step, and the graph of the step.

    Shapes:
        opponents: [n_opponents] video_idx in the denominator of `softmax`, empty for `bpr`
        log_chance: [n_opponents]
    """

    triples: Triples
    share: float
    """Of the step's triples."""
    watched: Watched
    opponents: Tensor
    log_chance: Tensor | None = None
    """Logarithm of the chance with which each opponent was drawn; None: they are all there are."""


def fit(
    graph: Graph,
    config: ConfigT,
    rng: np.random.Generator,
    *,
    build: Build[ConfigT],
    runtime: Runtime | None = None,
) -> Trained:
    """Choose the number of epochs on the validation part, then fit on all the fit's edges.

    Args:
        graph: what is learned from
        config: how
        rng: source of every draw
        build: makes the network
        runtime: where to run, and from where to go on; the CPU and nothing if left out

    Returns:
        Embeddings [n_users, dim] and [n_videos, dim], the report and the parameters of the first network.
    """
    runtime = runtime or Runtime()
    draws = rng.spawn(1 + config.members)
    if not _learnable(graph.edges, graph, config):
        epochs = config.epochs or config.default_epochs
        return Trained(_nothing_known(graph, config), {"epochs": epochs})
    phases = training(config, build=build, runtime=runtime)
    networks, report = phases.fit(
        _search(graph, config, draws[0]), Phase(graph, graph.edges), draws
    )
    if config.warm_start:
        report["warm_from"] = {
            phase: yesterday.day for phase, yesterday in sorted(runtime.yesterday.items())
        }
    first = cast(nn.Module, networks[0])
    parameters = {name: p.detach().cpu().numpy() for name, p in first.named_parameters()}
    rows = [embeddings(network, graph) for network in networks]
    return Trained(_side_by_side(rows), report, parameters)


def training(
    config: ConfigT, *, build: Build[ConfigT], runtime: Runtime
) -> Training[Network, Batch]:
    """Return how a graph network is fitted.

    Args:
        config: of the model.
        build: makes the network.
        runtime: where to run, and from where to go on.
    """

    def placed(phase: Phase, generator: torch.Generator) -> Network:
        network = build(phase.graph, phase.examples, config, generator)
        network.watch.to(runtime.device)
        return network

    return Training(
        model=build.__module__,
        config=config,
        runtime=runtime,
        build=placed,
        epoch=lambda network, phase, rng: batches(network, phase.examples, config, rng),
        loss=lambda network, batch: batch_loss(network, batch, config),
        carry_over=_carry_over if config.warm_start else None,
        measure=f"validation_recall@{config.validation_k}",
    )


def _carry_over(module: nn.Module, yesterday: Yesterday, phase: Phase, name: str) -> None:
    """Start from the parameters of the day before."""
    # The user network of a trial knows the part validation, which a search may not.
    near = phase.graph.user_edges.first(0) if name == "search" else phase.graph.user_edges
    warm.carry_over(module, yesterday, replace(phase.graph, user_edges=near))


def _search(graph: Graph, config: TrainingConfig, rng: np.random.Generator) -> Phase | None:
    """The training part, judged by the recall of a sample of the validation part's users."""
    held = graph.early_stopping
    if config.epochs is not None or held is None or not len(held.truth):
        return None
    if not _learnable(held.edges, graph, config):
        return None
    users = np.unique(held.truth.user_idx)
    if len(users) > config.validation_users:
        users = rng.choice(users, config.validation_users, replace=False)
    judged = replace(held, truth=held.truth.taken(np.isin(held.truth.user_idx, users)))

    @torch.no_grad()
    def recall(network: Network) -> float:
        whole = network.watch.whole
        everyone = torch.arange(graph.n_users, device=whole.present.device)
        user, video = network(everyone, whole)
        # As in the night: videos without a row are not candidates.
        eligible = graph.eligible & network.known_videos()
        return validation_recall(user, video, judged, eligible=eligible, k=config.validation_k)

    return Phase(graph, held.edges, recall, judged)


def within_activity_cap(edges: Edges, *, n_users: int, config: ActivityCap) -> Bools:
    """Return the mask of users within the activity cap, those without an edge included. [n_users].

    Args:
        edges: positive edges.
        n_users: number of users.
        config: has the cap.
    """
    n_liked = np.bincount(edges.user_idx, minlength=n_users)
    within: Bools = n_liked <= activity_cap(n_liked.astype(np.int32), config)
    return within


def watch_graph(graph: Graph, edges: Edges, config: ActivityCap) -> WatchGraph:
    """Return the graph that a network propagates over when it learns from `edges`.

    Args:
        graph: the night.
        edges: positive edges.
        config: has the activity cap.
    """
    within_cap = within_activity_cap(edges, n_users=graph.n_users, config=config)
    return WatchGraph(edges, within_cap=within_cap, n_videos=graph.n_videos)


def batches(
    network: Network, edges: Edges, config: TrainingConfig, generator: torch.Generator
) -> Iterator[Batch]:
    """Yield the batches of one epoch.

    Args:
        network: has the graph it propagates over.
        edges: positive edges that triples are drawn from.
        config: how triples are drawn.
        generator: source of the draws.

    Yields:
        This process's part of each step.
    """
    watch = network.watch
    device = str(watch.whole.present.device)
    sampler = _sampler(edges, watch.n_users, watch.n_videos, config)
    present = watch.whole.present
    if config.keep_edges < 1:
        present = sampling.pruned(edges, keep=config.keep_edges, generator=generator).to(device)
    fixed = watch.whole if config.keep_edges == 1 else Watched(watch, present)
    drawn = config.loss == "softmax" and sampler.n_warm > config.softmax_videos
    size = min(config.sampled_batch_size if drawn else config.batch_size, sampler.n_edges)
    draw = sampler.by_users if config.sampling == "users" else sampler.by_edges
    for _ in range(-(-sampler.n_edges // size)):
        triples = draw(size, generator).to(device)
        watched = watch.without(present, triples.edge) if config.mask_targets else fixed
        part = triples.taken(parallel.share())
        if drawn:
            opponents, log_chance = sampler.videos(config.sampled_videos, generator)
            yield Batch(
                part, len(part) / size, watched, opponents.to(device), log_chance.to(device)
            )
        else:
            opponents = sampler.video[: sampler.n_warm if config.loss == "softmax" else 0]
            yield Batch(part, len(part) / size, watched, opponents.to(device))


def batch_loss(network: Network, batch: Batch, config: TrainingConfig) -> Tensor:
    """Return the loss of the batch's scores plus L2 of its id rows, times the batch's share of the step. A scalar.

    Rows are taken with `functional.embedding`: its gradient adds them up in a fixed order, that of
    `rows[index]` on several threads does not.

    Args:
        network: makes the rows.
        batch: triples and the graph of the step.
        config: loss and weight of L2.
    """
    triples = batch.triples
    positive_at, opponent_at, videos = triples.positive, batch.opponents, None
    if batch.log_chance is not None:  # rows of the videos of the step are all that is needed
        videos, place = torch.unique(torch.cat([positive_at, opponent_at]), return_inverse=True)
        positive_at, opponent_at = place.split([len(triples), len(opponent_at)])
    with torch.autocast(triples.user.device.type, torch.bfloat16, enabled=config.mixed_precision):
        user, video = network(triples.user, batch.watched, videos)  # [n_triples, dim], [n, dim]
        if not len(triples):  # more processes than triples: a mean over none would be 0 / 0
            return 0.0 * (user.sum() + video.sum())
        positive = (user * functional.embedding(positive_at, video)).sum(dim=1)
        if config.loss == "bpr":
            negative = (user * functional.embedding(triples.negative, video)).sum(dim=1)
            value = losses.bpr(positive, negative)
        else:
            others = user @ functional.embedding(opponent_at, video).T
            if batch.log_chance is not None:
                others = others - batch.log_chance
            same = positive_at.unsqueeze(1) == opponent_at
            value = losses.softmax(positive, others, same=same)
    return batch.share * (value + config.l2 * losses.half_squares(*network.id_rows(triples)))


@torch.no_grad()
def embeddings(network: Network, graph: Graph) -> Embeddings:
    """Return the rows of a fitted network; users without a positive video are unknown.

    Args:
        network: on any device.
        graph: what it was fitted to.

    Returns:
        User rows [n_users, dim] and video rows [n_videos, dim], zeros where not known.
    """
    device = network.watch.whole.present.device
    everyone = torch.arange(graph.n_users, device=device)
    user, video = network(everyone, network.watch.whole)
    has_edges = np.bincount(graph.edges.user_idx, minlength=graph.n_users) > 0
    known_videos = network.known_videos()
    return Embeddings(
        user=np.where(has_edges[:, None], user.float().cpu().numpy(), np.float32(0)),
        video=np.where(known_videos[:, None], video.float().cpu().numpy(), np.float32(0)),
        user_known=has_edges,
        video_known=known_videos,
    )


def _side_by_side(members: list[Embeddings]) -> Embeddings:
    """One model whose score is the mean of the members' scores: an inner product of longer rows."""
    if len(members) == 1:
        return members[0]
    video = np.concatenate([member.video for member in members], axis=1) / len(members)
    return Embeddings(
        user=np.concatenate([member.user for member in members], axis=1),
        video=video.astype(np.float32),
        user_known=members[0].user_known,
        video_known=members[0].video_known,
    )


def popularity_column(watch: WatchGraph) -> nn.Parameter:
    """Return ln(1 + viewers): where the learned popularity of each video starts. [n_videos, 1]."""
    return nn.Parameter(torch.log1p(watch.whole.n_viewers).unsqueeze(1))


def with_column(user: Tensor, video: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows one longer: by 1 for users, by `column` for videos.

    A score per video is so added for everybody, and the score is still an inner product.

    Args:
        user: [n, dim].
        video: [n_videos, dim].
        column: [n_videos, 1].
    """
    return functional.pad(user, (0, 1), value=1.0), torch.cat([video, column], dim=1)


def named(video: Tensor, video_idx: Tensor | None) -> Tensor:
    """Return the rows of the videos that are named, of all where None are.

    Args:
        video: [n_videos, dim].
        video_idx: [m] or None.

    Returns:
        [m, dim].
    """
    return video if video_idx is None else functional.embedding(video_idx, video)


def rows_of(triples: Triples, *, user_id: Tensor | None, video_id: Tensor) -> tuple[Tensor, ...]:
    """Return the id rows of triples: of users, where they have any, of watched and of unwatched videos.

    Args:
        triples: of a step.
        user_id: [n_users, dim]; None: users have no rows of their own.
        video_id: [n_videos, dim].

    Returns:
        [n_triples, dim] each.
    """
    rows = [(idx, video_id) for idx in (triples.positive, triples.negative)]
    if user_id is not None:
        rows.insert(0, (triples.user, user_id))
    return tuple(functional.embedding(idx, table) for idx, table in rows)


def xavier(n_rows: int, n_columns: int, generator: torch.Generator) -> nn.Parameter:
    """Return a Xavier-uniform matrix [n_rows, n_columns].

    Args:
        n_rows: number of rows.
        n_columns: size of a row.
        generator: source of the draws.
    """
    return nn.Parameter(
        nn.init.xavier_uniform_(torch.empty(n_rows, n_columns), generator=generator)
    )


def _sampler(edges: Edges, n_users: int, n_videos: int, config: ActivityCap) -> Sampler:
    """Triples of the users within the activity cap."""
    return Sampler(
        edges,
        within_cap=within_activity_cap(edges, n_users=n_users, config=config),
        n_videos=n_videos,
    )


def _learnable(edges: Edges, graph: Graph, config: ActivityCap) -> bool:
    """Whether some user within the cap likes one video and not another."""
    return _sampler(edges, graph.n_users, graph.n_videos, config).n_edges > 0


def _nothing_known(graph: Graph, config: Any) -> Embeddings:
    """For a night in which no user likes one video and not another."""
    return Embeddings(
        user=np.zeros((graph.n_users, config.dim), dtype=np.float32),
        video=np.zeros((graph.n_videos, config.dim), dtype=np.float32),
        user_known=np.zeros(graph.n_users, dtype=np.bool_),
        video_known=np.zeros(graph.n_videos, dtype=np.bool_),
    )
