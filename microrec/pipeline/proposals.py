"""The candidates of a fit, for all users or for some consecutive ones."""

import logging
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from microrec.candidates.ranking import learned_blend
from microrec.core.array_types import Indices
from microrec.pipeline.night import Night

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Proposals:
    """What the sources of a night propose: which have candidates is looked up once, rows are read when needed."""

    night: Night
    sources: tuple[str, ...]
    """Sources of the recipe that have candidates, in the order of their names."""

    @classmethod
    def open(cls, night: Night) -> Self:
        """Look up which sources of the recipe have candidates of the night's fit.

        A source without any is named in the log.

        Returns:
            The proposals, no rows read yet.
        """
        present = []
        for source in sorted(night.config.sources):
            if night.exists("candidates", fit=night.fit, source=source):
                present.append(source)
                continue
            logger.warning("blend day=%s fit=%s missing_source=%s", night.day, night.fit, source)
        return cls(night, tuple(present))

    @property
    def complete(self) -> bool:
        """Whether every source of the recipe has candidates."""
        return len(self.sources) == len(self.night.config.sources)

    def lists(self, users: Indices | None = None) -> dict[str, pa.Table]:
        """Read what the sources propose.

        Args:
            users: user_idx [n_users], ascending; all between the first and the last are read. All users if left out.

        Returns:
            Rows of `candidates` by source, in the order of the names.
        """
        return {source: read(self.night, source, users) for source in self.sources}

    def has_learned_order(self) -> bool:
        """Return whether a learned blend has ordered the candidates of the fit."""
        where: dict[str, Any] = {"fit": self.night.fit, "source": learned_blend.SOURCE}
        if not self.night.exists("candidates", **where):
            return False
        return self.night.warehouse.count("candidates", day=self.night.day, **where) > 0

    def learned_order(self, users: Indices | None = None) -> pa.Table:
        """Read the order of the learned blend.

        Args:
            users: user_idx [n_users], ascending; all between the first and the last are read. All users if left out.

        Returns:
            Rows of `candidates`.

        Raises:
            MissingDay: the fit has none.
        """
        return read(self.night, learned_blend.SOURCE, users)


def read(night: Night, source: str, users: Indices | None = None) -> pa.Table:
    """Read the candidates of one source.

    Args:
        night: of the fit.
        source: name of the source.
        users: user_idx [n_users], ascending; all between the first and the last are read. All users if left out.

    Returns:
        Rows of `candidates`.

    Raises:
        MissingDay: the source has no candidates of the fit.
    """
    where = None if users is None else {"user_idx": _span(users)}
    return night.warehouse.read(
        "candidates", where=where, day=night.day, fit=night.fit, source=source
    )


def _span(users: Indices) -> range:
    """From the first of ascending numbers to the last."""
    return range(int(users[0]), int(users[-1]) + 1) if len(users) else range(0)
