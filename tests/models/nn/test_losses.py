"""Losses against the formulae written out."""

import math

import pytest
import torch

from microrec.models.nn import losses


def test_bpr_equals_formula() -> None:
    loss = losses.bpr(torch.tensor([1.0, 0.5]), torch.tensor([0.0, 2.0]))
    expected = (math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(1.5))) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_softmax_equals_formula_and_leaves_out_the_same_video() -> None:
    same = torch.tensor([[False, True]])
    loss = losses.softmax(torch.tensor([1.0]), torch.tensor([[2.0, 50.0]]), same=same)
    expected = math.log(math.exp(1.0) + math.exp(2.0)) - 1.0
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_softmax_large_scores_stay_finite() -> None:
    same = torch.zeros((1, 1), dtype=torch.bool)
    loss = losses.softmax(torch.tensor([1e4]), torch.tensor([[1e4]]), same=same)
    assert loss.item() == pytest.approx(math.log(2), rel=1e-3)


def test_half_squares_is_divided_by_twice_the_triples() -> None:
    users = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    videos = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    assert losses.half_squares(users, videos).item() == (6 + 9) / 4
