"""Running top-k lists: the k best neighbours of each row, kept while blocks of candidates pass by.

Best means greatest score; ties go to the smaller neighbour index, whatever the order in which
candidates come, so blocks may pass in any order and be of any size. A list is a heap whose root is
its worst entry: what does not beat the root is refused by one comparison.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Edges = dict[str, NDArray[Any]]
"""Directed edges as columns of one length."""


class Lists(NamedTuple):
    """The k best neighbours of n rows so far, each with a note.

    Shapes:
        score: float64 [n, k]; idx, note: int32 [n, k]; size: int32 [n]
    """

    score: NDArray[np.float64]
    idx: NDArray[np.int32]
    note: NDArray[np.int32]
    size: NDArray[np.int32]

    @classmethod
    def empty(cls, n: int, k: int) -> "Lists":
        """Return n lists without entries, with room for k each: [n, k].

        Args:
            n: number of rows.
            k: entries of a list, at most.
        """
        idx = np.zeros((n, k), np.int32)
        return cls(np.zeros((n, k)), idx, idx.copy(), np.zeros(n, np.int32))

    def rows(self, start: int, stop: int) -> "Lists":
        """Return the lists from `start` up to `stop`, as views: changes go through.

        Args:
            start: first position.
            stop: position after the last.
        """
        part = slice(start, stop)
        return Lists(self.score[part], self.idx[part], self.note[part], self.size[part])

    def edges(self, rows: NDArray[np.int32], *, score: str, note: str | None = None) -> Edges:
        """Return the lists as columns idx, neighbour_idx, <score>, (<note>), rank; by row, then rank.

        Args:
            rows: index of each row [n].
            score: name of the column that ranks.
            note: name of the column of notes; None leaves it out.
        """
        k = self.score.shape[1]
        filled = np.arange(k) < self.size[:, None]  # [n, k]
        order = np.lexsort((self.idx, np.where(filled, -self.score, np.inf)))  # [n, k]
        row, rank = np.nonzero(filled)
        place = order[row, rank]
        columns: Edges = {
            "idx": rows[row],
            "neighbour_idx": self.idx[row, place],
            score: self.score[row, place],
        }
        if note is not None:
            columns[note] = self.note[row, place]
        columns["rank"] = (rank + 1).astype(np.int32)
        return columns


@njit(cache=True)
def push(best: Lists, row: int, score: float, idx: int, note: int) -> None:
    """Offer a candidate to the list of a row. Each candidate may come once.

    Args:
        best: the lists, changed in place.
        row: position of the list.
        score: what ranks.
        idx: index of the candidate.
        note: kept with it.
    """
    n_held = best.size[row]
    k = best.score.shape[1]
    if n_held < k:
        place = _rise(best, row, n_held, score, idx)
        best.size[row] = n_held + 1
    elif _worse(best.score[row, 0], best.idx[row, 0], score, idx):
        place = _sink(best, row, score, idx)
    else:
        return
    best.score[row, place], best.idx[row, place], best.note[row, place] = score, idx, note


@njit(cache=True, inline="always")
def _worse(score: float, idx: int, other_score: float, other_idx: int) -> bool:
    return score < other_score or (score == other_score and idx > other_idx)


@njit(cache=True, inline="always")
def _move(best: Lists, row: int, source: int, target: int) -> None:
    best.score[row, target] = best.score[row, source]
    best.idx[row, target] = best.idx[row, source]
    best.note[row, target] = best.note[row, source]


@njit(cache=True)
def _rise(best: Lists, row: int, place: int, score: float, idx: int) -> int:
    """Free a place for a candidate on the way from a leaf to the root."""
    while place > 0:
        parent = (place - 1) >> 1
        if not _worse(score, idx, best.score[row, parent], best.idx[row, parent]):
            break
        _move(best, row, parent, place)
        place = parent
    return place


@njit(cache=True)
def _sink(best: Lists, row: int, score: float, idx: int) -> int:
    """Free a place for a candidate on the way from the root, whose entry goes, to a leaf."""
    k = best.score.shape[1]
    place = 0
    scores = best.score[row]
    idxs = best.idx[row]
    while 2 * place + 1 < k:
        child = 2 * place + 1
        if child + 1 < k and _worse(scores[child + 1], idxs[child + 1], scores[child], idxs[child]):
            child += 1
        if not _worse(scores[child], idxs[child], score, idx):
            break
        _move(best, row, child, place)
        place = child
    return place
