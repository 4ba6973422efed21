"""The AUC within groups is what its definition says, ties included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrec.models.sequence.auc import group_aucs, grouped_auc


def by_pairs(scores: np.ndarray, label: np.ndarray, group: np.ndarray) -> list[tuple[float, int]]:
    """For each group: the share of (positive, negative) pairs in the right order, ties half."""
    results = []
    for one in np.unique(group):
        positive, negative = (scores[(group == one) & (label == kind)] for kind in (True, False))
        right = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
        if right:
            results.append((sum(right) / len(right), len(positive) + len(negative)))
    return results


@given(
    st.lists(
        st.tuples(st.integers(-2, 2), st.booleans(), st.integers(0, 4)), min_size=1, max_size=60
    )
)
def test_auc_equals_its_definition(rows: list[tuple[int, bool, int]]) -> None:
    scores, label, group = map(np.array, zip(*rows, strict=True))
    expected = by_pairs(scores, label, group)
    aucs, sizes = group_aucs(scores.astype(np.float32), label, group)
    assert sizes.tolist() == [size for _, size in expected]
    assert aucs.tolist() == pytest.approx([value for value, _ in expected], abs=1e-12)
    weighed = sum(value * size for value, size in expected)
    mean = weighed / sum(size for _, size in expected) if expected else 0.5
    assert grouped_auc(scores, label, group) == pytest.approx(mean, abs=1e-12)


def test_auc_equals_hand_computed() -> None:
    # 0.9 over 0.1 and 0.5, 0.3 over 0.1 alone; a tie; a group of one kind, which does not count
    scores = np.array([0.9, 0.1, 0.5, 0.3, 0.7, 0.7, 0.2])
    label = np.array([True, False, False, True, False, True, True])
    group = np.array([7, 7, 7, 7, 2, 2, 9])
    aucs, sizes = group_aucs(scores, label, group)
    assert aucs.tolist() == [0.5, 0.75]
    assert sizes.tolist() == [2, 4]
    assert grouped_auc(scores, label, group) == pytest.approx((2 * 0.5 + 4 * 0.75) / 6)


@pytest.mark.parametrize("n", [0, 5])
def test_auc_without_counted_groups_is_one_half(n: int) -> None:
    scores, group = np.arange(n, dtype=float), np.arange(n) % 2
    for label in (np.zeros(n, dtype=bool), np.ones(n, dtype=bool), group == 0):
        assert grouped_auc(scores, label, group) == 0.5


def test_auc_perfect_inverted_and_constant_scores_are_one_zero_and_half() -> None:
    label = np.tile([True, False, False], 10)
    group = np.repeat(np.arange(5), 6)
    assert grouped_auc(label.astype(float), label, group) == 1.0
    assert grouped_auc(-label.astype(float), label, group) == 0.0
    assert grouped_auc(np.full(30, 3.5), label, group) == 0.5
    # what differs between groups says nothing within them
    assert grouped_auc(group * 10 + label, label, group) == 1.0
