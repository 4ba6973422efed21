"""Intervals over users by the bootstrap (Efron 1979; percentile form)."""

import math

import numpy as np

from microrec.core.array_types import Float64s

CELLS = 16_000_000
"""Draws held at a time, 8 bytes each."""


def interval(
    values: Float64s, *, resamples: int, generator: np.random.Generator
) -> tuple[Float64s, Float64s]:
    """95 % percentile interval of the mean of each column; rows (users) are resampled whole.

    All columns share the resamples, so the interval of a column of differences is a paired one. Values are rounded so
    that float64 adds any n of them without rounding: the ends do not depend on the order in which threads add.

    Args:
        values: [n_users, n_columns], one row per user.
        resamples: Number of resamples.
        generator: Source of the draws.

    Returns:
        Lower and upper ends, [n_columns] each.
    """
    n = len(values)
    values = on_grid(values)
    chunk = max(1, CELLS // n)
    means = []
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = generator.integers(0, n, size=(size, n))
        flat = drawn + n * np.arange(size)[:, None]
        times = np.bincount(flat.ravel(), minlength=size * n).reshape(size, n)
        means.append(times.astype(np.float64) @ values / n)
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
    return low, high


def on_grid(values: Float64s) -> Float64s:
    """Round values to whole multiples of a power of two, so fine that any n of them add up to less than 2**53 of it.

    Args:
        values: [n, n_columns]; finite.

    Returns:
        The same to about n parts in 2**52 of the largest. [n, n_columns]
    """
    largest = float(np.abs(values).max(initial=0.0))
    if not largest:
        return values
    bits = 52 - math.ceil(math.log2(len(values)))
    step = 2.0 ** (math.frexp(largest)[1] - bits)
    rounded: Float64s = np.rint(values / step) * step
    return rounded
