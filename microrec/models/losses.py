"""What training minimises: free functions of scores and rows."""

import torch
from torch import Tensor
from torch.nn import functional


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of -ln sigma(s_positive - s_negative); Rendle et al. 2009, "BPR".

    Args:
        positive: scores of watched videos [n]
        negative: scores of unwatched ones [n]
    """
    return -functional.logsigmoid(positive - negative).mean()


def half_squares(*rows: Tensor) -> Tensor:
    """(1 / 2n) * sum of the squares of the rows: the L2 term of a batch of n triples.

    Args:
        rows: tensors [n, dim]
    """
    return torch.stack([part.square().sum() for part in rows]).sum() / (2 * len(rows[0]))
