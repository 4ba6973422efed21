"""Rows that are held as arrays, one a column."""

from typing import Any, Self

from microrec.core.array_types import Bools, Indices


class Rows:
    """Base of frozen dataclasses all of whose fields are arrays or tensors with an entry a row. [n_rows] each."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(vars(self).values())))

    def taken(self, chosen: Bools | Indices | slice) -> Self:
        """Return some of the rows.

        Args:
            chosen: a mask [n_rows], positions in the order they are wanted in [n_taken], or a slice.
        """
        kept: dict[str, Any] = {name: array[chosen] for name, array in vars(self).items()}
        return type(self)(**kept)
