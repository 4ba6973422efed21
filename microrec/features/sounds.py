"""Sound into vectors: what its spectrum is like over time, on the scale of hearing.

The logarithm of the power in 40 bands of equal width on the mel scale, 62 times a second. A vector has, band by band,
its mean less the mean of all bands (how loud a recording is says nothing), its standard deviation, and its mean
change from one moment to the next, each of the three scaled to length 1.
"""

import numpy as np

from microrec.core.array_types import Float32s, Float64s
from microrec.features.films import RATE, Refused

FORMAT = "sounds-1"
"""Changed with every change of what a sound's vector is: the version of its encoder."""
BANDS = 40
DIM = 3 * BANDS
WINDOW, HOP = 512, 256
LOWEST_HZ, HIGHEST_HZ = 50.0, 7_600.0
SILENT = "silent"
LEAST_LOUD = 1e-4
"""Root mean square of samples in -1 .. 1; of less, all is noise of the coding."""
_AT_ONCE = 4_096


def of_samples(samples: Float32s) -> Float32s:
    """Return the vector of a recording.

    Args:
        samples: in -1 .. 1, RATE a second  # [n_samples]

    Returns:
        [DIM]

    Raises:
        Refused: it is silent.
    """
    if (
        len(samples) == 0
        or float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) < LEAST_LOUD
    ):
        raise Refused(SILENT)
    bands = log_mel(samples)
    mean = bands.mean(axis=0)
    change = np.abs(np.diff(bands, axis=0)).mean(axis=0) if len(bands) > 1 else np.zeros(BANDS)
    parts = (mean - mean.mean(), bands.std(axis=0), change)
    return np.concatenate([_unit(part) for part in parts]).astype(np.float32)


def log_mel(samples: Float32s) -> Float64s:
    """Return the logarithm of the power in each band, [n_moments, BANDS]; at least one moment.

    Args:
        samples: in -1 .. 1, RATE a second  # [n_samples]
    """
    padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    shape, filters = np.hanning(WINDOW), _filters()
    parts = []
    for start in range(0, len(windows), _AT_ONCE):
        spectrum = np.fft.rfft(windows[start : start + _AT_ONCE] * shape, axis=1)
        parts.append(np.log(np.abs(spectrum) ** 2 @ filters.T + 1e-6))
    return np.concatenate(parts)


def _filters() -> Float64s:
    """Triangles over the frequencies of a window, [BANDS, WINDOW // 2 + 1]."""
    ends = np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), BANDS + 2)
    corner = 700.0 * (10.0 ** (ends / 2_595.0) - 1.0)
    hertz = np.fft.rfftfreq(WINDOW, 1.0 / RATE)
    rising = (hertz - corner[:-2, None]) / (corner[1:-1] - corner[:-2])[:, None]
    falling = (corner[2:, None] - hertz) / (corner[2:] - corner[1:-1])[:, None]
    filters: Float64s = np.clip(np.minimum(rising, falling), 0.0, None)
    return filters


def _mel(hertz: float) -> float:
    return float(2_595.0 * np.log10(1.0 + hertz / 700.0))


def _unit(part: Float64s) -> Float64s:
    length = float(np.linalg.norm(part))
    return part / length if length > 0 else part
