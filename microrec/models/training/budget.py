"""The time a fit may take, and the time it is likely to take.

A fit is a search for the number of epochs and then a refit of so many. The budget is of both together, so that a
search ends while there is still time to fit what it has found. Time is that of the epochs themselves: an epoch that an
interrupted attempt left in a checkpoint counts. A fit within its budget is the same as one without; a fit that reaches
it depends on the speed of the machine, and its report says so.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, PositiveFloat


class BudgetConfig(BaseModel):
    """The part of a model's `Config` that limits its time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget_minutes: PositiveFloat | None = None
    """Minutes that the epochs of a fit may take, those of the search and of the refit together; the search then ends
    early and its best epoch so far counts. None: as long as it takes."""


@dataclass(frozen=True)
class Budget:
    """What a phase may spend, and what follows it."""

    seconds: float | None = None
    """For the epochs of this phase and what follows; None: any."""
    refit_ratio: float = 0.0
    """Epochs of the length of this phase's that are to follow for each epoch it keeps; 0 for a refit."""

    def has_room(self, spent: Sequence[float], running: float | None = None) -> bool:
        """Return whether one more epoch fits, with the refit that it would lead to if it were the best.

        Args:
            spent: seconds of each epoch so far.
            running: seconds of the epoch that is under way; None: none is, and the first one may always start.
        """
        if self.seconds is None or (running is None and not spent):
            return True
        typical = statistics.median(spent) if spent else running or 0.0
        current = typical if running is None else running
        refit = self.refit_ratio * (len(spent) + 1) * typical
        return sum(spent) + current + refit <= self.seconds

    def seconds_left(self, spent: Sequence[float], *, more: int, kept: int) -> float:
        """Return how long the fit still takes, the refit included, but no more than the budget leaves.

        Args:
            spent: seconds of each epoch so far, at least one.
            more: further epochs of this phase.
            kept: epochs that the refit will have.
        """
        left = statistics.median(spent) * (more + self.refit_ratio * kept)
        return left if self.seconds is None else max(0.0, min(left, self.seconds - sum(spent)))


UNLIMITED = Budget()
"""Of a phase that nothing follows and that may take as long as it does."""
