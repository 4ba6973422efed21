"""Pictures into vectors by counting: colours, where they are, directions of edges, and how much moves.

No weights, no download: what a picture looks like, not what is on it. Two films of one game, one kitchen or one set of
filters are near each other, two cats on different sofas are not. A network that was trained on pictures tells more.

A vector has four parts, each scaled to a length of its own, so that none drowns the others:

- shares of 64 colours (4 levels of red, green and blue), as their roots, less those of equal shares;
- the mean colour of 4 x 4 cells, less grey;
- per quarter of the picture the directions of its edges in 8 sectors, weighted by their strength;
- the mean difference from one frame to the next in 4 x 4 cells.
"""

import numpy as np

from microrec.core.array_types import Float32s, Float64s
from microrec.features.films import SIDE

FORMAT = "looks-1"
"""Changed with every change of what a picture's vector is: the version of its encoder."""
LEVELS, CELLS, QUARTERS, SECTORS = 4, 4, 2, 8
DIM = LEVELS**3 + 3 * CELLS**2 + QUARTERS**2 * SECTORS + CELLS**2
_MOTION = 4.0
"""Factor of differences: a twentieth of the range of brightness is about as long as another part."""


def of_frames(frames: Float32s) -> Float32s:
    """Return the vector of some frames of a film in their order.

    Args:
        frames: red, green and blue in 0 .. 1  # [n_frames, SIDE, SIDE, 3]

    Returns:
        [DIM]
    """
    pictures = frames.astype(np.float64)
    parts = [
        _unit(_colours(pictures)),
        _unit(_cells(pictures).mean(axis=0) - 0.5),
        _unit(_edges(pictures)),
        _MOTION * _motion(pictures),
    ]
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)


def _colours(pictures: Float64s) -> Float64s:
    level = np.minimum((pictures * LEVELS).astype(np.int64), LEVELS - 1)
    number = (level[..., 0] * LEVELS + level[..., 1]) * LEVELS + level[..., 2]
    share = np.bincount(number.ravel(), minlength=LEVELS**3) / number.size
    roots: Float64s = np.sqrt(share) - LEVELS**-1.5
    return roots


def _cells(pictures: Float64s) -> Float64s:
    """Mean of each cell, [n_frames, CELLS, CELLS, 3]."""
    width = SIDE // CELLS
    cut = pictures.reshape(len(pictures), CELLS, width, CELLS, width, 3)
    means: Float64s = cut.mean(axis=(2, 4))
    return means


def _edges(pictures: Float64s) -> Float64s:
    down, right = np.gradient(pictures.mean(axis=3), axis=(1, 2))
    strength = np.hypot(down, right)
    sector = ((np.arctan2(down, right) / np.pi % 1.0) * SECTORS).astype(np.int64) % SECTORS
    half = np.arange(SIDE) * QUARTERS // SIDE
    quarter = half[:, None] * QUARTERS + half[None, :]
    number = (quarter[None] * SECTORS + sector).ravel()
    size = QUARTERS**2 * SECTORS
    return np.bincount(number, strength.ravel(), minlength=size).astype(np.float64)


def _motion(pictures: Float64s) -> Float64s:
    """Mean difference of neighbouring frames, [CELLS, CELLS]; 0 of one frame."""
    if len(pictures) < 2:
        return np.zeros((CELLS, CELLS))
    differences = np.abs(np.diff(pictures, axis=0))
    moved: Float64s = _cells(differences).mean(axis=(0, 3))
    return moved


def _unit(part: Float64s) -> Float64s:
    length = float(np.linalg.norm(part))
    return part / length if length > 0 else part
