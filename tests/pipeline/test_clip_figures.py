"""How well stays were foretold: an AUC within clips, log loss and calibration, by brute force."""

import itertools
import math

import numpy as np
import pytest

from microrec.pipeline import clip_figures


def test_figures_equal_loops() -> None:
    rng = np.random.default_rng(0)
    clip, logits = rng.integers(6, size=200), np.round(rng.standard_normal(200), 1)
    through = rng.random(200) < 1 / (1 + np.exp(-logits))
    figures = {each.metric: each for each in clip_figures.figures(logits, through, clip)}
    assert {each.name for each in figures.values()} == {"clip_interest"}
    assert {each.n for each in figures.values()} == {200}
    aucs = []
    for of in range(6):
        rows = np.flatnonzero(clip == of)
        pairs = itertools.product(rows[through[rows]], rows[~through[rows]])
        wins = [(logits[a] > logits[b]) + (logits[a] == logits[b]) / 2 for a, b in pairs]
        aucs.append((float(np.mean(wins)), len(rows)))
    within = sum(auc * n for auc, n in aucs) / sum(n for _, n in aucs)
    assert figures["within_clips"].value == pytest.approx(within)
    chance = [1 / (1 + math.exp(-logit)) for logit in logits.tolist()]
    losses = [
        -math.log(p if is_true else 1 - p) for p, is_true in zip(chance, through, strict=True)
    ]
    assert figures["log_loss"].value == pytest.approx(np.mean(losses))
    order = sorted(range(200), key=lambda row: chance[row])
    away = []
    for start in range(0, 200, 20):
        rows = order[start : start + 20]
        away.append(abs(np.mean([chance[row] for row in rows]) - np.mean(through[rows])))
    assert figures["ece"].value == pytest.approx(np.mean(away))


def test_figures_what_is_the_same_for_all_viewers_of_a_clip_tells_nothing_within() -> None:
    rng = np.random.default_rng(1)
    clip = rng.integers(4, size=500)
    hazard = np.array([0.1, 0.3, 0.5, 0.7])[clip]
    through = rng.random(500) > hazard
    figures = clip_figures.figures(np.log((1 - hazard) / hazard), through, clip)
    values = {each.metric: each.value for each in figures}
    assert values["within_clips"] == 0.5
    assert values["ece"] < 0.08
