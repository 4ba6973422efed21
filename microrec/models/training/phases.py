"""How every network is fitted: search for the number of epochs, then refit on everything.

A *search* trains a network on the training part alone and keeps the number of epochs after which its quality on the
validation part was best. A *refit* trains a fresh network for so many epochs on all that the fit may see. Both go
through the one loop of `loop.py`, take up the state that an interrupted attempt left (`checkpoint.py`), share the time
that the fit may take (`budget.py`) and may start from the parameters of the day before (`warm_start.py`). What a family
of models does in its own way (its network, its batches, its loss) is passed in: `graph/fitting.py`,
`sequence/exposures.py`.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from microrec.models.inputs.graph_arrays import Graph
from microrec.models.training.budget import UNLIMITED, Budget
from microrec.models.training.checkpoint import Checkpoint, fingerprint
from microrec.models.training.loop import History, Resume, Schedule, train
from microrec.models.training.runtime import Runtime, Yesterday

logger = logging.getLogger(__name__)
NetworkT = TypeVar("NetworkT")
BatchT = TypeVar("BatchT")


class PhasesConfig(Protocol):
    """The part of a model's `Config` that its phases depend on."""

    @property
    def learning_rate(self) -> float:
        """Of Adam."""

    @property
    def max_epochs(self) -> int:
        """Most epochs of a search."""

    @property
    def patience(self) -> int:
        """Epochs in a row without a better quality after which a search ends."""

    @property
    def epochs(self) -> int | None:
        """Set: no search, the refit has so many epochs."""

    @property
    def default_epochs(self) -> int:
        """Epochs of the refit where `epochs` is not set and nothing can be searched."""

    @property
    def budget_minutes(self) -> float | None:
        """Minutes that the epochs of a fit may take."""

    def model_dump_json(self, *, exclude: set[str] | None = None) -> str:
        """Return all of the configuration as text, but for the fields named."""


@dataclass(frozen=True, eq=False)
class Phase:
    """What a network learns from, and what its number of epochs is chosen by."""

    graph: Graph
    examples: Any
    """Edges, exposures or viewings: whatever the batches are drawn from; has a length."""
    quality: Callable[[Any], float] | None = None
    """Of a network as it stands, the higher the better; None: train for as long as the schedule says."""
    judged_by: Any = None
    """Arrays that `quality` depends on, besides `graph`: part of a checkpoint's fingerprint."""


@dataclass(frozen=True, eq=False)
class Training(Generic[NetworkT, BatchT]):
    """How one model is fitted in one night."""

    model: str
    """Name of the model's module: part of a checkpoint's fingerprint."""
    config: PhasesConfig
    runtime: Runtime
    build: Callable[[Phase, torch.Generator], NetworkT]
    """Makes a fresh network, a torch module; its parameters are drawn from the generator."""
    epoch: Callable[[NetworkT, Phase, torch.Generator], Iterable[BatchT]]
    """This process's part of the batches of one epoch, drawn anew."""
    loss: Callable[[NetworkT, BatchT], Tensor]
    """Of this process's part of a batch; those of several processes add up to the loss of the batch."""
    carry_over: Callable[[nn.Module, Yesterday, Phase, str], None] | None = None
    """Gives a fresh network the parameters of the day before, for a phase of this name; None: start cold."""
    measure: str = "validation"
    """Name of the best quality in the report."""
    clip_norm: float | None = None
    """Longest gradient of all parameters together."""

    def fit(
        self, search: Phase | None, refit: Phase, draws: Sequence[np.random.Generator]
    ) -> tuple[list[NetworkT], dict[str, Any]]:
        """Choose the number of epochs in one phase, then fit in the other.

        Args:
            search: None or without examples where nothing can be searched.
            refit: all that the fit may see.
            draws: a generator for the search, then one for each network of the refit.

        Returns:
            The networks, and what the model's report says: epochs, loss and, after a search, its best quality, and
            qualities (`recalls`) and losses by epoch; `budget_reached`, the phases that ended for want of time, if any
            did.
        """
        report, searched = self._searched(search, draws[0], (len(draws) - 1) * len(refit.examples))
        spent = sum(searched.seconds)
        reached = ["search"] if searched.budget_reached else []
        epochs = report["epochs"] if len(refit.examples) else 0
        fitted = []
        for member, rng in enumerate(draws[1:]):
            name = f"refit-{member}" if member else "refit"
            budget = self._budget(spent, share=1 / (len(draws) - 1 - member))
            network, history = self.train(name, refit, rng, self.schedule(epochs, budget=budget))
            fitted.append((network, history))
            spent += sum(history.seconds)
            if history.budget_reached:
                reached.append(name)
                report["epochs"] = min(report["epochs"], len(history.losses))
        losses = [history.losses[-1] for _, history in fitted if history.losses]
        report["loss"] = sum(losses) / len(losses) if losses else None
        if reached:
            report["budget_reached"] = reached
            line = "budget_minutes=%s reached in %s: epochs=%d"
            logger.warning(line, self.config.budget_minutes, ", ".join(reached), report["epochs"])
        return [network for network, _ in fitted], report

    def schedule(self, epochs: int, patience: int = 0, budget: Budget = UNLIMITED) -> Schedule:
        """Return the schedule of a phase of at most so many epochs.

        Args:
            epochs: at most, or exactly where nothing is validated.
            patience: epochs in a row without a better quality after which the phase ends.
            budget: how much time the phase may take.
        """
        return Schedule(self.config.learning_rate, epochs, patience, self.clip_norm, budget)

    def train(
        self, name: str, phase: Phase, rng: np.random.Generator, schedule: Schedule
    ) -> tuple[NetworkT, History]:
        """Fit a fresh network; in a phase with a quality, until it no longer rises.

        Args:
            name: of the phase: `search`, `refit`, or `refit-1` and so on for further networks.
            phase: what is learned from.
            rng: source of every draw.
            schedule: how long.

        Returns:
            The network on the runtime's device, and its losses and qualities by epoch.
        """
        seed = int(rng.integers(2**63))
        generator = torch.Generator().manual_seed(seed)
        network = self.build(phase, generator)
        module = cast(nn.Module, network)
        if self.carry_over is not None and name in self.runtime.yesterday:
            self.carry_over(module, self.runtime.yesterday[name], phase, name)
        module.to(self.runtime.device)
        quality = phase.quality
        history = train(
            module,
            batches=lambda: self.epoch(network, phase, generator),
            loss=lambda batch: self.loss(network, batch),
            schedule=schedule,
            recall=(lambda: quality(network)) if quality else None,
            resume=self._resume(name, phase, [str(seed), repr(schedule)], generator),
        )
        return network, history

    def _searched(
        self, search: Phase | None, rng: np.random.Generator, to_refit: int
    ) -> tuple[dict[str, Any], History]:
        """The report's number of epochs, and the search it comes from; so many examples an epoch are to follow."""
        config = self.config
        if config.epochs is not None or search is None or not len(search.examples):
            return {"epochs": config.epochs or config.default_epochs}, History()
        budget = self._budget(0, refit_ratio=to_refit / len(search.examples))
        schedule = self.schedule(config.max_epochs, config.patience, budget)
        _, history = self.train("search", search, rng, schedule)
        report = {
            "epochs": history.best,
            self.measure: max(history.recalls),
            "recalls": history.recalls,
            "losses": history.losses,
        }
        return report, history

    def _budget(self, spent: float, *, share: float = 1, refit_ratio: float = 0) -> Budget:
        """A share of what is left of the fit's time."""
        minutes = self.config.budget_minutes
        left = None if minutes is None else max(0.0, 60 * minutes - spent) * share
        return Budget(left, refit_ratio)

    def _resume(
        self, name: str, phase: Phase, texts: list[str], generator: torch.Generator
    ) -> Resume | None:
        """Where a phase leaves its state after each epoch, and takes it up."""
        if self.runtime.checkpoints is None:
            return None
        # Not the time a fit may take: one that it ended goes on where there is more.
        config = self.config.model_dump_json(exclude={"budget_minutes"})
        texts = [self.model, name, config, *texts]
        arrays = [phase.graph, phase.examples, phase.judged_by, self.runtime.yesterday.get(name)]
        path = self.runtime.checkpoints / f"{name}.safetensors"
        return Resume(Checkpoint(path, fingerprint(texts, arrays)), generator)
