"""Pairs as one integer, and segments, against loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from microrec.core import pairs


def test_pack_extreme_indices_keeps_order_and_unpacks() -> None:
    wanted = [(0, 0), (0, 2**31 - 1), (1, 0), (1, 7), (70_000, 3), (2**31 - 1, 2**31 - 1)]
    users, videos = np.array(wanted, dtype=np.int32).T
    packed = pairs.pack(users, videos)
    assert packed.dtype == np.int64
    assert (np.diff(packed) > 0).all()
    first, second = pairs.unpack(packed)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == wanted


@given(st.lists(st.integers(0, 4), max_size=8))
def test_positions_any_lengths_equal_a_loop(lengths: list[int]) -> None:
    segment, place = pairs.positions(np.array(lengths, dtype=np.int64))
    right = [(number, step) for number, n in enumerate(lengths) for step in range(n)]
    assert list(zip(segment.tolist(), place.tolist(), strict=True)) == right


def test_starts_any_lengths_ends_with_the_total() -> None:
    assert pairs.starts(np.array([2, 0, 3])).tolist() == [0, 2, 2, 5]
    assert pairs.starts(np.array([], dtype=np.int64)).tolist() == [0]
