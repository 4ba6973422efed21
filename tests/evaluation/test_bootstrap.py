"""Intervals cover what was planted and depend on the seed alone."""

import math

import numpy as np
import pytest

from microrec.evaluation import bootstrap


def interval(values: np.ndarray, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return bootstrap.interval(values, resamples=1000, generator=np.random.default_rng(seed))


def test_interval_covers_a_planted_difference_in_95_of_100() -> None:
    generator = np.random.default_rng(7)
    inside = 0
    for _ in range(200):
        gain = 0.05 + 0.3 * generator.standard_normal((150, 1))
        low, high = bootstrap.interval(gain, resamples=400, generator=generator)
        inside += bool(low[0] <= 0.05 <= high[0])
    assert 0.90 <= inside / 200 <= 0.99


def test_interval_paired_shows_a_small_gain_that_two_unpaired_hide() -> None:
    generator = np.random.default_rng(3)
    floor = generator.random((400, 1))
    blend = floor + 0.01 + 0.01 * generator.standard_normal((400, 1))
    low, high = interval(np.concatenate([floor, blend, blend - floor], axis=1))
    assert low[1] < high[0]
    assert 0 < low[2] < 0.01 < high[2]


def test_interval_same_seed_is_equal() -> None:
    values = np.random.default_rng(0).random((50, 3))
    np.testing.assert_array_equal(interval(values), interval(values))
    assert (interval(values)[0] != interval(values, seed=2)[0]).any()


def test_interval_any_chunk_size_is_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((50, 3))
    whole = interval(values)
    monkeypatch.setattr(bootstrap, "CELLS", 170)
    np.testing.assert_allclose(interval(values), whole, rtol=1e-12)


def test_interval_no_spread_has_no_width() -> None:
    low, high = interval(np.full((9, 1), 0.25))
    assert low[0] == high[0] == 0.25


@pytest.mark.parametrize("scale", [1e-9, 1.0, 3e5])
def test_values_on_the_grid_add_up_alike_in_any_order(scale: float) -> None:
    generator = np.random.default_rng(3)
    values = generator.normal(size=(1000, 2)) * scale
    rounded = bootstrap.on_grid(values)
    assert np.abs(rounded - values).max() <= 1e-11 * scale
    drawn = rounded[generator.integers(0, 1000, 1000), 0]
    orders = [generator.permutation(drawn) for _ in range(20)]
    assert {float(np.add.accumulate(order)[-1]) for order in orders} == {math.fsum(drawn)}
    plain = values[generator.integers(0, 1000, 1000), 0]
    assert len({float(np.add.accumulate(generator.permutation(plain))[-1]) for _ in range(20)}) > 1
    assert not bootstrap.on_grid(np.zeros((3, 1))).any()


def test_interval_of_a_column_is_the_same_beside_others() -> None:
    """Beside others BLAS adds in another order, as it does with other threads."""
    values = np.random.default_rng(5).normal(size=(1000, 8)) / 8
    values[:, 0] *= 8
    for n_columns in (1, 2, 3, 8):
        ends = interval(values[:, :n_columns])
        assert [float(end[0]) for end in ends] == [float(end[0]) for end in interval(values)]
