"""What training minimises: free functions of scores and rows."""

import torch
from torch import Tensor
from torch.nn import functional


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Return the mean of -ln sigma(s_positive - s_negative); Rendle et al. 2009, "BPR".

    Args:
        positive: scores of watched videos [n]
        negative: scores of unwatched ones [n]

    Returns:
        Scalar tensor.
    """
    return -functional.logsigmoid(positive - negative).mean()


def softmax(positive: Tensor, others: Tensor, *, same: Tensor) -> Tensor:
    """Return the mean of -ln (e^s_positive / sum of e^s over the positive and the others).

    The softmax loss over all videos, or over a uniform sample of them (Wu et al. 2024, "On the
    effectiveness of sampled softmax loss for item recommendation").

    Args:
        positive: scores of watched videos [n]
        others: scores of the videos they are held against [n, n_others]
        same: where one of the others is the watched video itself, and does not count twice
            [n, n_others]

    Returns:
        Scalar tensor.
    """
    others = others.masked_fill(same, -torch.inf)
    logits = torch.cat([positive.unsqueeze(1), others], dim=1)  # [n, 1 + n_others]
    return (torch.logsumexp(logits.float(), dim=1) - positive.float()).mean()


def half_squares(*rows: Tensor) -> Tensor:
    """Return (1 / 2n) * the sum of the squares of the rows: the L2 term of a batch of n triples.

    Args:
        rows: tensors [n, dim]

    Returns:
        Scalar tensor.
    """
    return torch.stack([part.square().sum() for part in rows]).sum() / (2 * len(rows[0]))
