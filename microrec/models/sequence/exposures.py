"""How a model that reads sequences is fitted to logged exposures: the part all of them share.

What was shown is what is learned from: the label of an exposure is whether its viewing was positive,
and what is known about the user is the row of `sequences` as of the start of the exposure's day.
The search trains on all days but the last and is judged by the last: by the AUC within users of what
was shown (`by_gauc`), or by the recall of a network that proposes (`by_recall`). The refit trains on all days
(`training/phases.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from microrec.core.fitted import (
    Embeddings,
    Ranker,
    Trained,
    Trends,
    load_config,
    load_parameters,
    only_label,
)
from microrec.errors import MicrorecError
from microrec.models import registry
from microrec.models.inputs.graph_arrays import Graph
from microrec.models.inputs.sequence_arrays import Exposures, Padded, Sequences
from microrec.models.nn.layers import on
from microrec.models.nn.losses import half_squares
from microrec.models.sequence.auc import grouped_auc
from microrec.models.training import parallel
from microrec.models.training.budget import BudgetConfig
from microrec.models.training.loop import validation_recall
from microrec.models.training.phases import Phase, Training
from microrec.models.training.runtime import Runtime

SORTED_AT_ONCE = 32
"""Steps whose exposures are sorted by how much is behind them."""
SCORED_AT_ONCE = 4096
"""Exposures scored in one block: memory = this times the longest history."""


class ExposureConfig(BudgetConfig):
    """What is learned from, and for how long: the part of a `Config` all models of sequences share."""

    dim: PositiveInt = 64
    """Size of every row."""
    history_length: PositiveInt = 100
    """Latest viewings of a user that are read."""
    id_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the videos of a step that go without their id row, so that a video without one can do."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of a layer's outputs that are left out of a step."""
    l2: NonNegativeFloat = 5e-5
    """Weight of the squared rows of a step's videos."""
    learning_rate: PositiveFloat = 1e-3
    """Adam's."""
    clip_norm: PositiveFloat = 5.0
    """Longest gradient of all parameters together."""
    batch_size: PositiveInt = 2048
    """Exposures a step."""
    max_epochs: PositiveInt = 20
    """Most epochs while looking for the best number."""
    patience: PositiveInt = 2
    """Epochs in a row without a better validation after which the search ends."""
    epochs: PositiveInt | None = None
    """Set: train for exactly so many epochs (a final fit: those its trial chose)."""
    default_epochs: PositiveInt = 3
    """Epochs where there is neither `epochs` nor anything to validate on."""


@dataclass(frozen=True, eq=False)
class Viewed:
    """Padded steps of the rows of a batch. Shapes: every tensor [n_rows, width]."""

    present: Tensor
    video: Tensor
    """Position among the batch's videos, 0 where there is none."""
    age: Tensor
    """Seconds from the viewing to the cut."""
    weight: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Pairs of a user's row and a video, each row and each video once.

    Shapes:
        of, video, label: [n_pairs]; user: [n_rows]; videos: [n_videos_of_batch]
    """

    of: Tensor
    """Position of the pair's row among the batch's rows."""
    video: Tensor
    """Position of the pair's video among the batch's videos."""
    label: Tensor
    history: Viewed
    future: Viewed
    user: Tensor
    """user_idx of each row."""
    videos: Tensor
    """video_idx of each video of the batch."""
    share: float = 1.0
    """Of the step's pairs."""

    def to(self, device: str) -> "Batch":
        """Return the same batch on a device."""
        moved: Batch = on(device, self)
        return moved


class Network(Protocol):
    """What a network that scores pairs offers (torch modules; `parameters` and the rest is theirs)."""

    noise: torch.Generator
    """Source of its dropout."""

    @property
    def config(self) -> Any:
        """The `Config` it was built with."""

    def __call__(self, batch: Any) -> Tensor:
        """Logits of the pairs [n_pairs]."""
        ...

    def loss(self, batch: Any) -> Tensor:
        """What a step makes smaller."""
        ...


NetworkT = TypeVar("NetworkT", bound=Network)
ConfigT = TypeVar("ConfigT", bound=ExposureConfig)
Build = Callable[[Graph, Any, ConfigT, torch.Generator], Network]
"""Makes a fresh network that learns from these exposures, its parameters drawn from the generator."""


def sequences_of(graph: Graph) -> Sequences:
    """Return the sequences of a graph.

    Raises:
        MicrorecError: it was made without.
    """
    if graph.sequences is None:
        raise MicrorecError("this model reads `sequences` and `exposures`; the graph has none")
    return graph.sequences


def exposures_of(graph: Graph) -> Exposures:
    """Return all exposures that a fit sees.

    Raises:
        MicrorecError: the graph was made without sequences.
    """
    return sequences_of(graph).exposures


Batches = Callable[[Phase, ConfigT, torch.Generator], Iterator[Any]]
"""This process's part of the batches of one epoch, drawn anew."""


def by_exposures(
    phase: Phase, config: ExposureConfig, generator: torch.Generator
) -> Iterator[Batch]:
    """Yield every exposure once, in a new order; those of a step have histories of about the same length.

    What is padded to the longest of a step costs as much as what is there: of each `SORTED_AT_ONCE`
    steps in a row, drawn at random, the exposures are sorted by length, and the steps then shuffled.

    Args:
        phase: has the exposures.
        config: size of a step.
        generator: source of the order.

    Yields:
        This process's part of each step.
    """
    order = torch.randperm(len(phase.examples), generator=generator).numpy()
    size = config.batch_size
    behind = widths(sequences_of(phase.graph), phase.examples.row, config)
    steps = []
    for chunk in np.split(order, range(SORTED_AT_ONCE * size, len(order), SORTED_AT_ONCE * size)):
        by_width = chunk[np.argsort(behind[chunk], kind="stable")]
        steps += np.split(by_width, range(size, len(by_width), size))
    steps = [steps[number] for number in torch.randperm(len(steps), generator=generator).tolist()]
    yield from _batches(phase, steps, config)


def at_random(phase: Phase, config: ExposureConfig, generator: torch.Generator) -> Iterator[Batch]:
    """Yield every exposure once, in a new order: for a network that learns averages from its steps.

    Args:
        phase: has the exposures.
        config: size of a step.
        generator: source of the order.

    Yields:
        This process's part of each step.
    """
    order = torch.randperm(len(phase.examples), generator=generator).numpy()
    steps = np.split(order, range(config.batch_size, len(order), config.batch_size))
    yield from _batches(phase, steps, config)


def _batches(
    phase: Phase, steps: list[NDArray[np.int64]], config: ExposureConfig
) -> Iterator[Batch]:
    """This process's part of each step."""
    for kept, share in of_process(steps):
        yield batch(sequences_of(phase.graph), phase.examples, kept, config, share=share)


def of_process(
    steps: Iterable[NDArray[np.int64]], weight: NDArray[np.int64] | None = None
) -> Iterator[tuple[NDArray[np.int64], float]]:
    """Yield this process's part of each step.

    Args:
        steps: positions of what a step learns from. [n_step] each
        weight: how much each position counts; all the same if left out. [n]

    Yields:
        The part [n_part], and its share of the step.
    """
    for step in steps:
        part = step[parallel.share()]
        counted = (
            (len(part), len(step)) if weight is None else (weight[part].sum(), weight[step].sum())
        )
        # Fewer positions than processes: one without a part computes the first, with a share of 0.
        yield (part if len(part) else step[:1]), float(counted[0] / counted[1])


def fit(
    graph: Graph,
    config: Any,
    rng: np.random.Generator,
    *,
    build: Build[Any],
    runtime: Runtime,
    batches: Batches[Any] = by_exposures,
) -> tuple[Network, dict[str, Any]]:
    """Choose the number of epochs on the validation day, then fit to all the fit's exposures.

    Args:
        graph: what is learned from
        config: how
        rng: source of every draw
        build: makes the network
        runtime: where to run, and from where to go on
        batches: what a step learns from

    Returns:
        The network, and the model's report.
    """
    phases = training(config, build=build, runtime=runtime, batches=batches)
    examples = exposures_of(graph)
    network, report = in_phases(phases, by_gauc(graph, config), Phase(graph, examples), rng)
    return network, report | only_label(examples.label)


def by_gauc(graph: Graph, config: Any) -> Phase | None:
    """Return the search of a network that ranks: what was before the validation day, and that day's AUC within users.

    Args:
        graph: of a trial.
        config: how much of a history is read.

    Returns:
        The phase; None where there is nothing to validate on.
    """
    sequences = sequences_of(graph)
    held = sequences.validation
    if held is None or not len(held):
        return None

    def gauc(network: Network) -> float:
        return grouped_auc(logits(network, graph, held, config), held.label, held.user_idx)

    return Phase(graph, sequences.training, gauc)


def by_recall(
    graph: Graph,
    examples: Callable[[Graph], Any],
    fitted: Callable[[Any, Graph], Embeddings | Trends],
    *,
    k: int,
) -> Phase | None:
    """Return the search of a network that proposes: what was before the validation day, and that day's recall.

    Args:
        graph: of a trial.
        examples: gives what is learned from of a graph that knows nothing of the validation day.
        fitted: makes the vectors of everybody, as of that day's start.
        k: length of the lists.

    Returns:
        The phase; None where there is nothing to validate on.
    """
    sequences = sequences_of(graph)
    held = graph.early_stopping
    if held is None or not len(held.truth) or sequences.validated_from is None:
        return None
    earlier = replace(graph, sequences=sequences.before(sequences.validated_from))

    def recall(network: Network) -> float:
        rows = fitted(network, earlier)
        user, video = torch.from_numpy(_of_each(rows)), torch.from_numpy(rows.video)
        eligible = graph.eligible & rows.video_known
        return validation_recall(user, video, held, eligible=eligible, k=k)

    return Phase(earlier, examples(earlier), recall)


def _of_each(rows: Embeddings | Trends) -> NDArray[np.float32]:
    """The users' vectors; in the place of a trend that is not there, the first that is. [n_users, (n_trends,) dim]."""
    if isinstance(rows, Embeddings):
        return rows.user
    first = rows.trend_known.argmax(axis=1)
    known: NDArray[np.float32] = rows.user[np.arange(len(first)), first]
    return np.where(rows.trend_known[:, :, None], rows.user, known[:, None])


def fit_ranker(
    graph: Graph,
    config: Any,
    rng: np.random.Generator,
    *,
    build: Build[Any],
    batches: Batches[Any] = by_exposures,
    runtime: Runtime | None = None,
) -> Trained:
    """Fit a network that scores pairs and proposes nothing; see `fit` and `registry.Model`."""
    network, report = fit(
        graph, config, rng, build=build, runtime=runtime or Runtime(), batches=batches
    )
    return Trained(Ranker(), report, learned(network))


def training(
    config: Any, *, build: Build[Any], runtime: Runtime, batches: Batches[Any] = by_exposures
) -> Training[Network, Batch]:
    """Return how a network that scores pairs is fitted.

    Args:
        config: of the model.
        build: makes the network.
        runtime: where to run, and from where to go on.
        batches: what a step learns from.
    """

    def epoch(network: Network, phase: Phase, generator: torch.Generator) -> Iterator[Batch]:
        cast(nn.Module, network).train()
        draw = int(torch.randint(2**62, (), generator=generator))
        network.noise.manual_seed(draw + parallel.rank())
        for drawn in batches(phase, config, generator):
            yield drawn.to(runtime.device)

    return Training(
        model=build.__module__,
        config=config,
        runtime=runtime,
        build=lambda phase, generator: build(phase.graph, phase.examples, config, generator),
        epoch=epoch,
        loss=lambda network, batch: batch.share * network.loss(batch),
        clip_norm=config.clip_norm,
    )


def in_phases(
    training: Training[Network, Batch],
    search: Phase | None,
    refit: Phase,
    rng: np.random.Generator,
) -> tuple[Network, dict[str, Any]]:
    """Choose the number of epochs in one phase, if there is validation data, then fit in the other.

    Args:
        training: how.
        search: what the number of epochs is chosen on; None: nothing.
        refit: all that the fit may see.
        rng: source of every draw.

    Returns:
        The network, and the model's report.
    """
    (network,), report = training.fit(search, refit, rng.spawn(2))
    return network, report


def learned(network: Network) -> dict[str, NDArray[np.float32]]:
    """Return what a network has to keep, by name: parameters such as [n_rows, dim], and running averages."""
    state = cast(nn.Module, network).state_dict()
    return {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}


def with_learned(network: NetworkT, kept: Mapping[str, NDArray[np.float32]]) -> NetworkT:
    """Return the network with what `learned` kept of an earlier one, in place.

    Args:
        network: of the same shape.
        kept: by name, in shapes such as [n_rows, dim].
    """
    state = {name: torch.from_numpy(np.array(values)) for name, values in kept.items()}
    cast(nn.Module, network).load_state_dict(state, strict=True)
    return network


def restore(
    graph: Graph,
    config: Any,
    parameters: Mapping[str, NDArray[np.float32]],
    *,
    build: Callable[[Graph, Any, Any, torch.Generator], NetworkT],
    examples: Callable[[Graph], Any],
) -> NetworkT:
    """Return the network of an earlier `fit` to the same graph; see `registry.Model`.

    Args:
        graph: what it was fitted to.
        config: how it was fitted.
        parameters: by name, as `learned` returned them, in shapes such as [n_rows, dim].
        build: makes the network.
        examples: gives what it was fitted to of the graph.
    """
    fresh = build(graph, examples(graph), config, torch.Generator())
    return with_learned(fresh, parameters)


def load(name: str, folder: Path, graph: Graph, *, device: str) -> Any:
    """Return the network that `fitted.save` kept, on a device.

    Args:
        name: of the model
        folder: the artefact
        graph: what it was fitted to
        device: of torch
    """
    module: Any = registry.model(name)
    config = module.Config.model_validate(load_config(folder))
    return module.restore(graph, config, load_parameters(folder)).to(device)


def log_loss(logits: Tensor, batch: Batch, video_id: Tensor, *, l2: float) -> Tensor:
    """Return the log loss of the labels, and L2 of the id rows of the batch's videos. A scalar.

    Args:
        logits: of the pairs [n_pairs].
        batch: the pairs.
        video_id: id rows of all videos [n_videos, dim].
        l2: weight of the squares.
    """
    value = functional.binary_cross_entropy_with_logits(logits, batch.label)
    return value + l2 * half_squares(functional.embedding(batch.videos, video_id))


def batch(
    sequences: Sequences,
    exposures: Exposures,
    chosen: NDArray[np.int64],
    config: ExposureConfig,
    *,
    share: float = 1.0,
) -> Batch:
    """Return some exposures as a batch.

    Args:
        sequences: rows of users as of their cuts.
        exposures: what is chosen from.
        chosen: positions of exposures [n_pairs].
        config: how much of a history is read.
        share: of the step's pairs.
    """
    return pairs(
        sequences,
        exposures.row[chosen],
        exposures.video_idx[chosen],
        exposures.label[chosen],
        config,
        share=share,
    )


def pairs(
    sequences: Sequences,
    row: NDArray[np.int64],
    video_idx: NDArray[Any],
    label: NDArray[np.bool_],
    config: ExposureConfig,
    *,
    share: float = 1.0,
) -> Batch:
    """Return pairs of a row of `sequences` and a video as a batch.

    Args:
        sequences: the rows
        row: of each pair [n_pairs]
        video_idx: of each pair [n_pairs]
        label: of each pair [n_pairs]
        config: how much of a history is read
        share: of the step's pairs
    """
    rows, of = np.unique(row, return_inverse=True)
    history = sequences.history.padded(rows, config.history_length)
    future = sequences.future.padded(rows, config.history_length)
    used = (video_idx, history.video_idx[history.present], future.video_idx[future.present])
    videos = np.unique(np.concatenate([ids.astype(np.int64) for ids in used]))
    cut_at = sequences.cut_at[rows]

    def viewed(steps: Padded) -> Viewed:
        video = np.where(steps.present, np.searchsorted(videos, steps.video_idx), 0)
        age = np.where(steps.present, (cut_at[:, None] - steps.at) / 1e6, 0).astype(np.float32)
        weight = steps.weight.astype(np.float32)
        return Viewed(*(torch.from_numpy(array) for array in (steps.present, video, age, weight)))

    return Batch(
        of=torch.from_numpy(of),
        video=torch.from_numpy(np.searchsorted(videos, video_idx)),
        label=torch.from_numpy(label.astype(np.float32)),
        history=viewed(history),
        future=viewed(future),
        user=torch.from_numpy(sequences.user_idx[rows].astype(np.int64)),
        videos=torch.from_numpy(videos),
        share=share,
    )


@torch.no_grad()
def logits(
    network: Network, graph: Graph, exposures: Exposures, config: ExposureConfig
) -> NDArray[np.float32]:
    """Return the logits of exposures, scored in blocks. [n_exposures].

    Args:
        network: scores pairs.
        graph: has the sequences.
        exposures: what is scored.
        config: how much of a history is read.
    """
    cast(nn.Module, network).eval()
    device = next(cast(nn.Module, network).parameters()).device
    values = np.zeros(len(exposures), dtype=np.float32)
    order = np.argsort(widths(sequences_of(graph), exposures.row, config), kind="stable")
    for start in range(0, len(order), SCORED_AT_ONCE):
        chosen = order[start : start + SCORED_AT_ONCE]
        step = batch(sequences_of(graph), exposures, chosen, config).to(str(device))
        values[chosen] = network(step).float().cpu().numpy()
    return values


def scores(
    network: Network, graph: Graph, user_idx: NDArray[Any], video_idx: NDArray[Any]
) -> NDArray[np.float32]:
    """Return the logits of pairs of a user and a video as of the end of what the fit sees.

    Args:
        network: scores pairs
        graph: what it was fitted to
        user_idx: [n_pairs]
        video_idx: [n_pairs]

    Returns:
        [n_pairs].
    """
    row = sequences_of(graph).serving[user_idx]
    zeros = np.zeros(len(user_idx), dtype=np.int64)
    exposures = Exposures(row, user_idx, video_idx, at=zeros, label=zeros > 0)
    return logits(network, graph, exposures, network.config)


def widths(
    sequences: Sequences, row: NDArray[np.int64], config: ExposureConfig
) -> NDArray[np.int64]:
    """Return the number of steps that are read of some rows, history and future together. [n].

    Args:
        sequences: has the rows.
        row: positions of rows [n].
        config: how much of a history is read.
    """
    halves = (sequences.history, sequences.future)
    counts = [np.diff(half.indptr)[row] for half in halves]
    n_read: NDArray[np.int64] = np.minimum(counts, config.history_length).sum(axis=0)
    return n_read
