"""Pairs of two indices as one integer, and segments of an array."""

import numpy as np

from microrec.core.array_types import Indices, Int64s

_LOW = 0xFFFFFFFF


def pack(first: Indices, second: Indices) -> Int64s:
    """Return one integer for each pair, in the order of the first and then the second index.

    Args:
        first: from 0, below 2^31. [n_pairs]
        second: likewise, in the low half. [n_pairs]

    Returns:
        Distinct for distinct pairs. [n_pairs]
    """
    return first.astype(np.int64) << 32 | second.astype(np.int64)


def unpack(pairs: Int64s) -> tuple[Int64s, Int64s]:
    """Return the first and the second index of what `pack` made, [n_pairs] each."""
    return pairs >> 32, pairs & _LOW


def starts(lengths: Indices) -> Int64s:
    """Return where consecutive segments start, and where the last one ends.

    Args:
        lengths: of the segments. [n_segments]

    Returns:
        Offsets from 0. [n_segments + 1]
    """
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def positions(lengths: Indices) -> tuple[Int64s, Int64s]:
    """Return for each element of consecutive segments its segment, and its offset in it.

    Args:
        lengths: of the segments. [n_segments]

    Returns:
        Number of the segment and offset within it, both from 0. [n_elements] each
    """
    segment = np.repeat(np.arange(len(lengths)), lengths)
    offset = np.arange(len(segment)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return segment, offset
