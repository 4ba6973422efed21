r"""A factorization machine on ids: what rates are held against (Rendle, "Factorization machines", ICDM 2010).

An exposure has five fields: user, video, author, surface and duration bucket, each with a weight w and a row v.

    logit = b + sum of w + sum over pairs of fields of v v'

by the log loss of all exposures that are counted before the held-out day, with Adam. An id that was never seen has no
weight and no row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from microrec.core.fitted import Ranker, Trained
from microrec.core.rates import Shown
from microrec.models.inputs.graph_arrays import Graph
from microrec.models.rates import rates

SPREAD = 0.01
"""Standard deviation of a fresh row."""


class Config(BaseModel):
    """Size of the rows, and how they are learned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: PositiveInt = 16
    learning_rate: PositiveFloat = 3e-3
    l2: NonNegativeFloat = 1e-1
    """Weight of half the squares of an exposure's rows and weights."""
    batch_size: PositiveInt = 2048
    epochs: PositiveInt = 3


@dataclass(frozen=True, eq=False)
class Ids:
    """Numbers the values of all fields, one field after the other; 0 is any value that is not known."""

    graph: Graph

    @property
    def n(self) -> int:
        """How many there are."""
        return 1 + sum(self._sizes())

    def _sizes(self) -> list[int]:
        facts, graph = rates.rates_of(self.graph).videos, self.graph
        n_surfaces = len(rates.rates_of(graph).surfaces)
        of_videos = [int(one.max(initial=-1)) + 1 for one in (facts.author, facts.duration)]
        return [graph.n_users, graph.n_videos, of_videos[0], n_surfaces, of_videos[1]]

    def of(self, shown: Shown) -> Tensor:
        """The values of exposures. [n_exposures, 5]."""
        facts = rates.rates_of(self.graph).videos
        author, duration = facts.author[shown.video_idx], facts.duration[shown.video_idx]
        columns = [shown.user_idx, shown.video_idx, author, shown.surface, duration]
        first = 1 + np.concatenate([[0], np.cumsum(self._sizes())[:-1]])
        values = np.stack(columns, axis=1)
        return torch.from_numpy(np.where(values >= 0, values + first, 0))


class Machine(nn.Module):
    """The parameters and the equation.

    Shapes:
        forward: ids [n, 5] -> logits [n]
    """

    def __init__(self, n_ids: int, dim: int, generator: torch.Generator) -> None:
        """Draw the rows; weights start at 0."""
        super().__init__()
        rows = SPREAD * torch.randn(n_ids, dim + 1, generator=generator)
        rows[:, dim] = 0
        self.rows = nn.Parameter(rows)  # the last column is the weight
        self.bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("seen", torch.zeros(n_ids))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of exposures."""
        return self.logits(self.taken(ids))

    def taken(self, ids: Tensor) -> Tensor:
        """The rows of ids, zero for what was never seen. [n, 5, dim + 1]."""
        return functional.embedding(ids, self.rows) * self.seen[ids].unsqueeze(2)

    def logits(self, taken: Tensor) -> Tensor:
        """Logits of rows of ids. [n]."""
        rows, weights = taken[:, :, :-1], taken[:, :, -1]
        pairs = (rows.sum(1).square() - rows.square().sum(1)).sum(1) / 2
        logits: Tensor = self.bias + weights.sum(1) + pairs
        return logits


class Scorer:
    """A fitted machine that scores exposures."""

    def __init__(self, machine: Machine, ids: Ids) -> None:
        self.machine = machine
        self.ids = ids

    def of_exposures(self, shown: Shown) -> NDArray[np.float32]:
        """Chances of exposures. [n_exposures]."""
        with torch.no_grad():
            chances: NDArray[np.float32] = torch.sigmoid(self.machine(self.ids.of(shown))).numpy()
        return chances


def fit(graph: Graph, config: Config, rng: np.random.Generator) -> Trained:
    """Fit to every counted exposure of the graph, for `epochs` epochs."""
    shown, label = rates.examples(rates.rates_of(graph), first_day=0)
    ids = Ids(graph)
    values, target = ids.of(shown), torch.from_numpy(label.astype(np.float32))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    machine = Machine(ids.n, config.dim, generator)
    machine.seen[values.unique()] = 1
    machine.seen[0] = 0
    optimizer = torch.optim.Adam(machine.parameters(), lr=config.learning_rate, fused=True)
    for _ in range(config.epochs):
        for step in torch.randperm(len(target), generator=generator).split(config.batch_size):
            taken = machine.taken(values[step])
            loss = functional.binary_cross_entropy_with_logits(machine.logits(taken), target[step])
            loss = loss + config.l2 * taken.square().sum((1, 2)).mean() / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    learned = {name: tensor.numpy() for name, tensor in machine.state_dict().items()}
    return Trained(Ranker(), {"epochs": config.epochs}, learned)


def restore(graph: Graph, config: Config, parameters: Mapping[str, NDArray[Any]]) -> Scorer:
    """The machine of an earlier `fit` to the same graph."""
    ids = Ids(graph)
    machine = Machine(ids.n, config.dim, torch.Generator())
    machine.load_state_dict({name: torch.tensor(values) for name, values in parameters.items()})
    return Scorer(machine, ids)
