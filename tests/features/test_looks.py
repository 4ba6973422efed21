"""Vectors of pictures: near for equal colours, places, edges and motion, apart for others."""

import numpy as np
import pytest

from microrec.features import looks
from microrec.features.films import SIDE


def plain(red: float, green: float, blue: float, n: int = 2) -> np.ndarray:
    return np.broadcast_to(np.float32([red, green, blue]), (n, SIDE, SIDE, 3)).copy()


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    a, b = looks.of_frames(first), looks.of_frames(second)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_vector_is_finite_and_of_one_length_for_any_frames() -> None:
    rng = np.random.default_rng(1)
    for frames in (plain(0, 0, 0, n=1), plain(1, 1, 1), rng.random((5, SIDE, SIDE, 3), np.float32)):
        vector = looks.of_frames(frames)
        assert vector.shape == (looks.DIM,)
        assert np.isfinite(vector).all()


def test_equal_colours_are_nearer_than_others() -> None:
    rng = np.random.default_rng(1)
    red = np.clip(plain(0.8, 0.1, 0.1) + rng.normal(0, 0.02, (2, SIDE, SIDE, 3)), 0, 1)
    assert similarity(red, plain(0.8, 0.1, 0.1)) > similarity(red, plain(0.1, 0.1, 0.8)) + 0.3


def test_directions_of_edges_tell_stripes_apart() -> None:
    stripes = np.sin(np.arange(SIDE) / 2)[:, None, None] * 0.5 + 0.5
    flat = np.broadcast_to(stripes, (SIDE, SIDE, 3))[None].astype(np.float32)
    upright = flat.transpose(0, 2, 1, 3)
    at = slice(looks.LEVELS**3 + 3 * looks.CELLS**2, -(looks.CELLS**2))
    across, along = (looks.of_frames(frames)[at] for frames in (flat, upright))
    assert across @ across == pytest.approx(1.0, abs=1e-3)
    assert across @ along < 0.2


def test_motion_is_where_and_how_much_changes() -> None:
    frames = plain(0, 0, 0)
    frames[1, : SIDE // 4, : SIDE // 4] = 0.5
    motion = looks.of_frames(frames)[-(looks.CELLS**2) :]
    assert motion[0] == pytest.approx(4.0 * 0.5)
    assert not motion[1:].any()
    assert not looks.of_frames(frames[:1])[-(looks.CELLS**2) :].any()


def test_shares_of_colours_are_those_of_a_count() -> None:
    frames = plain(0, 0, 0, n=1)
    frames[0, : SIDE // 2] = 1.0
    colours = looks.of_frames(frames)[: looks.LEVELS**3]
    expected = np.full(looks.LEVELS**3, -0.125)
    expected[[0, -1]] = np.sqrt(0.5) - 0.125
    np.testing.assert_allclose(colours, expected / np.linalg.norm(expected), atol=1e-6)
