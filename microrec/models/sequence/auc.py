"""How well scores tell watched from skipped, within each user: the measure of models that rank."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def grouped_auc(scores: NDArray[Any], label: NDArray[np.bool_], group: NDArray[Any]) -> float:
    """Return gAUC: the AUC within each group, averaged by the group's number of rows (Zhu et al. 2017).

    Groups with one kind of label only have no AUC and do not count; ties count half.

    Args:
        scores: [n]
        label: [n]
        group: number of each row's group. [n]

    Returns:
        From 0 to 1; 0.5 where no group counts.
    """
    aucs, sizes = group_aucs(scores, label, group)
    return float(np.average(aucs, weights=sizes)) if len(aucs) else 0.5


def group_aucs(
    scores: NDArray[Any], label: NDArray[np.bool_], group: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the AUC and the number of rows of each group that has both kinds of label.

    Args:
        scores: [n]
        label: [n]
        group: number of each row's group. [n]

    Returns:
        AUC and number of rows, in the order of the groups. [n_groups] each
    """
    order = np.lexsort((scores, group))
    scores = scores[order]
    label = label[order].astype(np.float64)
    group = group[order]
    if not len(group):
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    new_group = np.concatenate([[True], group[1:] != group[:-1]])
    new_tie = new_group | np.concatenate([[True], scores[1:] != scores[:-1]])
    tie = np.cumsum(new_tie) - 1
    first = np.flatnonzero(new_tie)
    sizes_of_ties = np.diff(np.concatenate([first, [len(group)]]))
    starts = np.flatnonzero(new_group)
    position = np.arange(len(group)) - np.repeat(starts, np.diff(np.append(starts, len(group))))
    rank = position[first][tie] + (sizes_of_ties[tie] + 1) / 2  # mid-ranks, from 1
    n = np.diff(np.append(starts, len(group)))
    n_positive = np.add.reduceat(label, starts)
    ranks = np.add.reduceat(rank * label, starts)
    n_negative = n - n_positive
    both = (n_positive > 0) & (n_negative > 0)
    auc = (ranks - n_positive * (n_positive + 1) / 2)[both] / (n_positive * n_negative)[both]
    return auc, n[both]
