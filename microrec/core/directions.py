"""Directions of vectors: what encoders deliver is compared by direction, whatever its length.

Rows are divided by their largest component first: squares of components of 1e200 or 1e-30 leave the range of
float64, and of float32 long before.
"""

import numpy as np

from microrec.core.array_types import Float32s, Float64s, Floats, Int64s

BLOCK = 65_536
"""Rows that are held as float64 at a time."""


def directions(vectors: Floats) -> Float64s:
    """Scale rows to length 1.

    Args:
        vectors: finite; rows of zeros stay as they are. [n, n_dims]

    Returns:
        float64 [n, n_dims]; no row depends on another.
    """
    precise = vectors.astype(np.float64)
    largest = np.abs(precise).max(axis=1, keepdims=True, initial=0.0)
    precise /= np.where(largest > 0, largest, 1.0)
    length = np.sqrt((precise * precise).sum(axis=1, keepdims=True))
    precise /= np.where(length > 0, length, 1.0)
    return precise


def in_place(vectors: Float32s) -> None:
    """Scale the rows of a float32 matrix to length 1, block by block.

    Args:
        vectors: finite; rows of zeros stay as they are; changed in place. [n, n_dims]
    """
    for start in range(0, len(vectors), BLOCK):
        rows = vectors[start : start + BLOCK]
        rows[:] = directions(rows)


def shorten(vectors: Float32s, *, times: float) -> None:
    """Cut vectors that are far longer than most down to a multiple of the median length, in place.

    For networks that read lengths too: one giant vector would fill the weights' gradients. No other row changes.

    Args:
        vectors: finite; rows of zeros do not count. [n, n_dims]
        times: the multiple.
    """
    # The square root of a sum of squares up to 1e77 x n_dims: float64 holds all of float32.
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    if not length.any():
        return
    most = times * float(np.median(length[length > 0]))
    long = np.flatnonzero(length > most)
    vectors[long] = directions(vectors[long]) * most


def of_lists(values: Floats, lengths: Int64s) -> Float64s:
    """Scale vectors of any lengths, one after the other, to length 1.

    Args:
        values: components of all vectors; finite, no vector is zero. [sum of lengths]
        lengths: numbers of components, each at least 1. [n]

    Returns:
        float64 [sum of lengths]; no vector depends on another.
    """
    precise = values.astype(np.float64)
    if not len(lengths):
        return precise
    start = np.cumsum(lengths) - lengths
    precise /= np.repeat(np.maximum.reduceat(np.abs(precise), start), lengths)
    precise /= np.repeat(np.sqrt(np.add.reduceat(precise * precise, start)), lengths)
    return precise
