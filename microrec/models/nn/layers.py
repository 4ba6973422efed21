"""Dense parts of networks; every draw comes from a generator that is passed in."""

from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["relu", "dice"]
N_BUCKETS = 24
"""Of log2(1 + seconds): the last begins at 97 days."""


def buckets(seconds: Any) -> Tensor:
    """Return the buckets of durations: floor(log2(1 + seconds)), at most N_BUCKETS - 1.

    Args:
        seconds: tensor or array of any shape; negative ones count as 0.

    Returns:
        int64 of the same shape [n, ...].
    """
    value = torch.as_tensor(np.asarray(seconds)) if not torch.is_tensor(seconds) else seconds
    return torch.log2(1 + value.clamp(min=0)).floor().long().clamp(max=N_BUCKETS - 1)


class Layers(nn.Module):
    """Dense layers with an activation and dropout between them; nothing follows the last one.

    Shapes:
        forward: [..., sizes[0]] -> [..., sizes[-1]]
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        dropout: float,
        generator: torch.Generator,
        activation: Activation = "relu",
    ) -> None:
        """Draw the parameters."""
        super().__init__()
        self.layers = nn.ModuleList(linear(a, b, generator) for a, b in pairwise(sizes))
        self.between = nn.ModuleList(
            Dice(size) if activation == "dice" else nn.ReLU() for size in sizes[1:-1]
        )
        self.dropout = Dropout(dropout)

    def forward(self, rows: Tensor, noise: torch.Generator) -> Tensor:
        """One after the other."""
        for layer, activation in zip(self.layers[:-1], self.between, strict=True):
            rows = self.dropout(activation(layer(rows)), noise)
        out: Tensor = self.layers[-1](rows)
        return out


class Dice(nn.Module):
    """A rectifier whose bend is where the data are (Zhou et al. 2018, DIN).

        s p(s) + alpha s (1 - p(s)),   p(s) = sigmoid((s - mean) / deviation)

    mean and deviation are those of the rows in training, and running averages of them afterwards;
    alpha is learned, from 0.

    Shapes:
        forward: [n, size] -> [n, size]
    """

    MOMENTUM = 0.1
    mean: Tensor
    variance: Tensor

    def __init__(self, size: int) -> None:
        """Start as a standard normal layer would."""
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))

    def forward(self, rows: Tensor) -> Tensor:
        """Bend the rows."""
        standard = functional.batch_norm(
            rows, self.mean, self.variance, training=self._learns(rows), momentum=self.MOMENTUM
        )
        share = torch.sigmoid(standard)
        return rows * (share + self.alpha * (1 - share))

    def _learns(self, rows: Tensor) -> bool:
        """One row alone has no deviation."""
        return self.training and len(rows) > 1


class Dropout(nn.Module):
    """Inverted dropout whose draws come from a generator, as torch's own do not."""

    def __init__(self, share: float) -> None:
        """Share of what is left out."""
        super().__init__()
        self.share = share

    def forward(self, rows: Tensor, noise: torch.Generator) -> Tensor:
        """In training leave some out."""
        if not (self.training and self.share):
            return rows
        return rows * dropped(rows, self.share, noise)


def dropped(like: Tensor, share: float, noise: torch.Generator) -> Tensor:
    """Draw a mask of inverted dropout: 0, or 1 / (1 - share).

    Args:
        like: tensor whose shape and device the mask has.
        share: chance of 0.
        noise: source of the draws, on the CPU.

    Returns:
        Of the shape of `like`, [n, ...].
    """
    kept = torch.rand(like.shape, generator=noise) >= share
    return kept.to(like.device) / (1 - share)


def on(device: str, part: Any) -> Any:
    """Return the same on a device: tensors, and dataclasses and tuples of them at any depth.

    Args:
        device: as torch names it.
        part: tensor, dataclass, tuple, or anything else, which is returned as it is.
    """
    if is_dataclass(part):
        values = {element.name: on(device, getattr(part, element.name)) for element in fields(part)}
        return type(part)(**values)  # type: ignore[misc] # a dataclass, not its type
    if isinstance(part, tuple):
        return tuple(on(device, element) for element in part)
    return part.to(device) if torch.is_tensor(part) else part


def normal(n_rows: int, n_columns: int, generator: torch.Generator) -> nn.Parameter:
    """Return small random rows.

    Args:
        n_rows: rows.
        n_columns: columns.
        generator: source of the draws.

    Returns:
        Normal with standard deviation 0.05. [n_rows, n_columns]
    """
    return nn.Parameter(0.05 * torch.randn(n_rows, n_columns, generator=generator))


def linear(n_in: int, n_out: int, generator: torch.Generator, *, bias: bool = True) -> nn.Linear:
    """Return a linear map, Xavier-uniform, its bias 0.

    Args:
        n_in: columns that come in.
        n_out: columns that go out.
        generator: source of the draws.
        bias: whether it has one.
    """
    layer = nn.Linear(n_in, n_out, bias=bias)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
