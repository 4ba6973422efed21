"""Which (user, watched video, unwatched video) triples a step learns from.

Users are drawn uniformly, then one of their videos: were edges drawn uniformly, 1 % of the users
would fill 70 % of the batches of the TikTok data (models.md 3.2 and 7.2).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from microrec.models.data import Edges


@dataclass(frozen=True, eq=False)
class Triples:
    """One batch.

    Shapes:
        every tensor: [n_triples]
    """

    user: Tensor
    positive: Tensor
    negative: Tensor


class Sampler:
    """Draws triples; made once per fit.

    Negatives come from the videos that somebody has liked: that nobody in the window watched a
    cold video says nothing against it.
    """

    def __init__(self, edges: Edges, *, n_videos: int) -> None:
        """Lay out each user's videos as ranks among the warm ones.

        Args:
            edges: positive edges, sorted by user and video
            n_videos: number of videos, cold ones included
        """
        warm = np.bincount(edges.video_idx, minlength=n_videos) > 0
        degree = np.bincount(edges.user_idx, minlength=1)
        start = np.cumsum(degree) - degree
        # A user who likes every warm video has no negative and teaches nothing.
        users = np.flatnonzero((degree > 0) & (degree < warm.sum()))
        self.n_edges = int(degree[users].sum())
        """Edges that can be drawn."""
        self.n_warm = int(warm.sum())
        self.video = torch.from_numpy(np.flatnonzero(warm))
        self.positive = torch.from_numpy(edges.video_idx.astype(np.int64))
        self.users, self.start, self.degree = map(torch.from_numpy, (users, start, degree))
        # Unwatched videos below a user's i-th watched one: ascending within the user and, by the
        # offset, over all users.
        place = np.arange(len(edges)) - start[edges.user_idx]
        below = (np.cumsum(warm) - 1)[edges.video_idx] - place
        self.below = torch.from_numpy(edges.user_idx.astype(np.int64) * (self.n_warm + 1) + below)

    def draw(self, n: int, generator: torch.Generator) -> Triples:
        """Draw n triples with replacement; negatives uniform over what the user has not liked."""
        user = self.users[torch.randint(len(self.users), (n,), generator=generator)]
        start, degree = self.start[user], self.degree[user]
        positive = self.positive[start + _below(degree, generator)]
        # The r-th unwatched video has rank r + (watched videos before it), exact, no rejection.
        r = _below(self.n_warm - degree, generator)
        before = torch.searchsorted(self.below, user * (self.n_warm + 1) + r, right=True) - start
        return Triples(user, positive, self.video[r + before])


def _below(limit: Tensor, generator: torch.Generator) -> Tensor:
    """One uniform integer in [0, limit) for each limit."""
    share = torch.rand(limit.shape, generator=generator, dtype=torch.float64)
    return (share * limit).long().minimum(limit - 1)
