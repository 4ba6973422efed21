"""Dense parts do what their equations say, and draw from the generator they are given."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.nn import functional

from microrec.models.nn.layers import (
    N_BUCKETS,
    Dice,
    Dropout,
    Layers,
    buckets,
    dropped,
    linear,
    normal,
    on,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_buckets_double() -> None:
    day = 86_400
    seconds = [-5, 0, 0.9, 1, 2, 3, 6.9, 7, 97 * day, 98 * day, 1e12]
    expected = [0, 0, 0, 1, 1, 2, 2, 3, 22, 23, 23]
    assert buckets(np.array(seconds)).tolist() == expected
    assert buckets(torch.tensor(seconds)).tolist() == expected
    assert buckets(np.array([0, 1, 3], dtype=np.int64)).tolist() == [0, 1, 2]
    assert N_BUCKETS == 24


def test_layers_equal_their_equation() -> None:
    layers, rows = (
        Layers((5, 4, 3, 2), 0.5, seeded()).eval(),
        torch.randn(7, 5, generator=seeded(1)),
    )
    assert [tuple(one.weight.shape) for one in layers.layers] == [(4, 5), (3, 4), (2, 3)]
    expected = rows
    for place, layer in enumerate(layers.layers):
        expected = expected @ layer.weight.T + layer.bias
        expected = expected.clamp(min=0) if place < 2 else expected
    torch.testing.assert_close(layers(rows, seeded()), expected)


def test_layers_drop_out_in_training_only() -> None:
    layers, rows = Layers((5, 400, 2), 0.5, seeded()), torch.randn(3, 5, generator=seeded(1))
    hidden = functional.relu(layers.layers[0](rows))
    mask = dropped(hidden, 0.5, seeded(9))
    torch.testing.assert_close(layers(rows, seeded(9)), layers.layers[1](hidden * mask))
    assert torch.equal(layers(rows, seeded(9)), layers(rows, seeded(9)))
    assert not torch.equal(layers(rows, seeded(9)), layers(rows, seeded(8)))
    state = (noise := seeded(9)).get_state()
    layers.eval()(rows, noise)
    assert torch.equal(noise.get_state(), state)


def test_dropout_keeps_the_mean() -> None:
    rows = torch.ones(200, 50)
    actual = Dropout(0.2)(rows, seeded())
    assert set(actual.unique().tolist()) == {0.0, 1.25}
    assert actual.mean().item() == pytest.approx(1, abs=0.02)
    assert Dropout(0.0)(rows, seeded()) is rows


def test_dice_bends_at_the_rows() -> None:
    dice, rows = Dice(3), 5 + 2 * torch.randn(50, 3, generator=seeded())
    dice.alpha.data[:] = torch.tensor([0.0, 0.25, 1.0])
    mean, deviation = rows.mean(dim=0), rows.std(dim=0, unbiased=False)
    share = torch.sigmoid((rows - mean) / deviation)
    expected = share * rows + (1 - share) * dice.alpha * rows
    torch.testing.assert_close(dice(rows), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(dice(rows)[:, 2], rows[:, 2])  # alpha 1 bends nothing


def test_dice_remembers_training_rows() -> None:
    dice = Dice(2)
    batches = [3 + 2 * torch.randn(40, 2, generator=seeded(seed)) for seed in range(60)]
    for one in batches:
        dice(one)
    whole = torch.cat(batches)
    torch.testing.assert_close(dice.mean, whole.mean(dim=0), atol=0.3, rtol=0)
    torch.testing.assert_close(dice.variance, whole.var(dim=0), atol=0.9, rtol=0)
    kept = dice.mean.clone()
    one = dice.eval()(whole)
    assert torch.equal(dice.mean, kept)
    share = torch.sigmoid((whole - dice.mean) / (dice.variance + 1e-5).sqrt())
    torch.testing.assert_close(one, share * whole)
    # what a row becomes no longer depends on the rows beside it
    torch.testing.assert_close(dice(whole[:1]), one[:1])


@pytest.mark.parametrize("n", [0, 1])
def test_dice_of_few_rows_is_finite_without_gradient(n: int) -> None:
    dice = Dice(2)
    assert torch.isfinite(dice(torch.full((n, 2), 9.0))).all()
    assert dice.mean.tolist() == [0, 0]


def test_layers_with_dice_equal_their_equation() -> None:
    layers, rows = Layers((5, 4, 1), 0.0, seeded(), "dice"), torch.randn(9, 5, generator=seeded(1))
    hidden = Dice(4)(layers.layers[0](rows))
    torch.testing.assert_close(layers(rows, seeded()), layers.layers[1](hidden))
    names = {name for name, _ in layers.named_parameters()}
    assert {"between.0.alpha", "layers.0.weight"} <= names


def test_draws_come_from_the_generator() -> None:
    for draw in (
        lambda g: linear(6, 4, g).weight,
        lambda g: normal(6, 4, g),
        lambda g: dropped(torch.ones(6, 4), 0.3, g),
    ):
        torch.manual_seed(0)
        one = draw(seeded())
        torch.manual_seed(1)
        assert torch.equal(one, draw(seeded()))
        assert not torch.equal(one, draw(seeded(1)))


def test_linear_starts_xavier() -> None:
    layer = linear(300, 100, seeded())
    bound = np.sqrt(6 / 400)
    assert layer.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert layer.weight.std().item() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    assert not layer.bias.any()
    assert linear(3, 2, seeded(), bias=False).bias is None


def test_to_device_moves_any_depth() -> None:
    @dataclass(frozen=True)
    class Part:
        rows: torch.Tensor
        share: float

    @dataclass(frozen=True)
    class Whole:
        parts: tuple[Part, ...]
        name: str

    there = on("meta", Whole((Part(torch.ones(2), 0.5), Part(torch.ones(3), 1.0)), "two"))
    assert [one.rows.device.type for one in there.parts] == ["meta", "meta"]
    assert [one.rows.shape[0] for one in there.parts] == [2, 3]
    assert [one.share for one in there.parts] == [0.5, 1.0]
    assert there.name == "two"
