"""Vectors of sound: pitch and rhythm tell recordings apart, loudness does not; silence has none."""

import numpy as np
import pytest

from microrec.features import sounds
from microrec.features.films import RATE, Refused


def tone(hertz: float, seconds: float = 1.0, loud: float = 0.1) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (loud * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    a, b = sounds.of_samples(first), sounds.of_samples(second)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_loudness_and_length_matter_less_than_pitch() -> None:
    assert similarity(tone(440), tone(440, loud=0.4, seconds=3)) > 0.8
    assert similarity(tone(440), tone(3_000)) < 0.6


def test_loudest_band_is_that_of_the_tone() -> None:
    centres = sounds.log_mel(tone(1_000)).mean(axis=0).argmax()
    mel = np.linspace(
        sounds._mel(sounds.LOWEST_HZ), sounds._mel(sounds.HIGHEST_HZ), sounds.BANDS + 2
    )
    assert centres == np.abs(mel[1:-1] - sounds._mel(1_000)).argmin()


def test_bands_computed_in_parts_equal_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(1).normal(size=20_000).astype(np.float32) / 10
    whole = sounds.log_mel(samples)
    monkeypatch.setattr(sounds, "_AT_ONCE", 7)
    np.testing.assert_allclose(sounds.log_mel(samples), whole)


def test_shortest_recording_has_a_finite_vector() -> None:
    for n in (1, 100, 513):
        vector = sounds.of_samples(tone(440)[1 : 1 + n])
        assert vector.shape == (sounds.DIM,)
        assert np.isfinite(vector).all()


@pytest.mark.parametrize("samples", [np.zeros(RATE), np.zeros(0), np.full(RATE, 1e-5)])
def test_silence_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(Refused, match=sounds.SILENT):
        sounds.of_samples(samples.astype(np.float32))
