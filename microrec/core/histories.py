"""The order of a history: how many steps back each of its videos is."""

import numpy as np

from microrec.core.array_types import Indices, Instants, Int64s


def places_of(user_idx: Indices, last_at: Instants) -> Int64s:
    """Return the place of each viewing in its user's history: 0 for the latest, 1 for the one before it.

    Args:
        user_idx: ascending. [n_pairs]
        last_at: last viewing of each pair of a user and a video, any unit; of equal ones the first pair is the
            later one. [n_pairs]

    Returns:
        Steps back from the user's latest viewing. [n_pairs]
    """
    order = np.lexsort((-np.asarray(last_at, dtype=np.int64), user_idx))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - np.searchsorted(user_idx, user_idx)
    return place
