"""Which (user, watched video, unwatched video) triples a step learns from.

Users are drawn uniformly, then one of their videos: were edges drawn uniformly, 1 % of the users
would fill 70 % of the batches of the TikTok data (README.md, sections 3.2 and 7.2). Drawing edges remains as
a choice, to be compared with.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from microrec.core.array_types import Bools
from microrec.core.rows import Rows
from microrec.models.inputs.graph_arrays import Edges


@dataclass(frozen=True, eq=False)
class Triples(Rows):
    """One batch.

    Shapes:
        every tensor: [n_triples]
    """

    user: Tensor
    positive: Tensor
    negative: Tensor
    edge: Tensor
    """Position of (user, positive) among the edges."""

    def to(self, device: str) -> "Triples":
        """Return the same triples on a device."""
        return Triples(*(getattr(self, field.name).to(device) for field in fields(self)))


class Sampler:
    """Draws triples; made once per fit.

    Negatives come from the videos that somebody has liked: that nobody in the window watched a
    cold video says nothing against it.
    """

    def __init__(self, edges: Edges, *, within_cap: Bools, n_videos: int) -> None:
        """Lay out each user's videos as ranks among the warm ones.

        Args:
            edges: positive edges, sorted by user and video
            within_cap: mask of users to learn from [n_users]; a video is warm if one of them likes it
            n_videos: number of videos, cold ones included
        """
        position = np.flatnonzero(within_cap[edges.user_idx])
        edges = edges.taken(within_cap[edges.user_idx])
        warm = np.bincount(edges.video_idx, minlength=n_videos) > 0
        degree = np.bincount(edges.user_idx, minlength=1)
        start = np.cumsum(degree) - degree
        # A user who likes every warm video has no negative and teaches nothing.
        users = np.flatnonzero((degree > 0) & (degree < warm.sum()))
        self.n_edges = int(degree[users].sum())
        """Edges that can be drawn."""
        self.n_warm = int(warm.sum())
        self.video = torch.from_numpy(np.flatnonzero(warm))
        """The warm videos, ascending. [n_warm]"""
        viewers = np.bincount(edges.video_idx, minlength=n_videos)[warm]
        self.chance = torch.from_numpy(
            0.5 / max(self.n_warm, 1) + 0.5 * viewers / max(len(edges), 1)
        )
        """Of each warm video to be the next one drawn by `videos`. [n_warm]"""
        self.user = torch.from_numpy(edges.user_idx.astype(np.int64))
        self.positive = torch.from_numpy(edges.video_idx.astype(np.int64))
        self.position = torch.from_numpy(position)
        self.drawable = torch.from_numpy(np.flatnonzero(np.isin(edges.user_idx, users)))
        self.users, self.start, self.degree = map(torch.from_numpy, (users, start, degree))
        # Unwatched videos below a user's i-th watched one: ascending within the user and, by the
        # offset, over all users.
        rank = np.arange(len(edges)) - start[edges.user_idx]
        below = (np.cumsum(warm) - 1)[edges.video_idx] - rank
        self.below = torch.from_numpy(edges.user_idx.astype(np.int64) * (self.n_warm + 1) + below)

    def by_users(self, n: int, generator: torch.Generator) -> Triples:
        """Draw triples with replacement: a user, then one of the user's videos.

        Args:
            n: triples.
            generator: source of the draws.

        Returns:
            Triples of [n] users, watched and unwatched videos.
        """
        user = self.users[torch.randint(len(self.users), (n,), generator=generator)]
        return self._with_negatives(
            self.start[user] + _below(self.degree[user], generator), generator
        )

    def by_edges(self, n: int, generator: torch.Generator) -> Triples:
        """Draw triples with replacement: an edge.

        Args:
            n: triples.
            generator: source of the draws.

        Returns:
            Triples of [n] users, watched and unwatched videos.
        """
        drawn = torch.randint(len(self.drawable), (n,), generator=generator)
        return self._with_negatives(self.drawable[drawn], generator)

    def videos(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw warm videos, half of them uniformly and half by their number of viewers.

        A sum over all warm videos is estimated without bias by the sum over the drawn ones, each divided by its chance
        (Horvitz and Thompson 1952). That of the softmax is dominated by popular videos, which a uniform sample misses.

        Args:
            n: draws, with replacement; a video drawn twice is returned once.
            generator: source of the draws.

        Returns:
            video_idx, ascending, and the logarithm of the chance to be among them. [n_drawn] each.
        """
        drawn = torch.multinomial(self.chance, n, replacement=True, generator=generator)
        drawn = torch.unique(drawn)
        log_chance = torch.log(-torch.expm1(n * torch.log1p(-self.chance[drawn])))
        return self.video[drawn], log_chance.float()

    def _with_negatives(self, edge: Tensor, generator: torch.Generator) -> Triples:
        """Beside each edge a video uniform over what its user has not liked."""
        user = self.user[edge]
        positive = self.positive[edge]
        start = self.start[user]
        degree = self.degree[user]
        # The r-th unwatched video has rank r + (watched videos before it), exact, no rejection.
        r = _below(self.n_warm - degree, generator)
        before = torch.searchsorted(self.below, user * (self.n_warm + 1) + r, right=True) - start
        return Triples(user, positive, self.video[r + before], self.position[edge])


def pruned(edges: Edges, *, keep: float, generator: torch.Generator) -> Tensor:
    """A share of the edges, drawn without replacement with weights 1 / sqrt(d_u d_v).

    The degree-sensitive pruning of FREEDOM (Zhou and Shen 2023, "A tale of two graphs"): edges
    between an active user and a popular video say least.

    Args:
        edges: positive edges
        keep: share that stays, in (0, 1]
        generator: source of the draws

    Returns:
        1 where the edge stays, else 0 [n_edges]
    """
    degrees = (np.bincount(side)[side] for side in (edges.user_idx, edges.video_idx))
    weight = torch.from_numpy(1.0 / np.sqrt(np.prod([*degrees], axis=0)))
    # Efraimidis and Spirakis 2006: the largest of ln(uniform) / weight are such a draw.
    uniform = torch.rand(len(edges), generator=generator, dtype=torch.float64).clamp(min=1e-300)
    stay = (uniform.log() / weight).topk(max(1, round(keep * len(edges)))).indices
    return torch.zeros(len(edges)).index_fill(0, stay, 1.0)


def _below(limit: Tensor, generator: torch.Generator) -> Tensor:
    """One uniform integer in [0, limit) for each limit."""
    share = torch.rand(limit.shape, generator=generator, dtype=torch.float64)
    return (share * limit).long().minimum(limit - 1)
