r"""LightGCN: rows of users and videos, smoothed over the watch graph.

He et al. 2020, "LightGCN: simplifying and powering graph convolution network for recommendation".
E: id rows of users and videos,

    e = mean_{l = 0..L} sym(R)^l E,        score(u, v) = <e_u, e_v>

A cold video (no user within the activity cap has liked it) has no row.

The powers of the degrees in sym (1/2 and 1/2) and whether users have rows of their own are choices
of the config; without rows a user is what the videos say, and new users cost nothing.
"""

from functools import partial
from typing import Literal

import torch
from pydantic import ConfigDict, Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from microrec.core.array_types import Bools
from microrec.models.graph import fitting
from microrec.models.graph.fitting import TrainingConfig, xavier
from microrec.models.graph.propagation import Watched, WatchGraph, light_gcn
from microrec.models.graph.sampling import Triples
from microrec.models.inputs.graph_arrays import Edges, Graph


class Config(TrainingConfig):
    """Shape of the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: PositiveInt = 64
    """Size of every row."""
    layers: PositiveInt = 3
    """L, propagations over the watch graph."""
    user_rows: Literal["own", "none"] = "own"
    """Whether a user has a row of its own."""
    user_power: float = Field(default=0.5, ge=0, le=1)
    """Power of 1 / n_u in a propagation."""
    video_power: float = Field(default=0.5, ge=0, le=1)
    """Power of 1 / n_v in a propagation."""
    popularity: bool = False
    """Add a learned score per video that is the same for everybody."""


class LightGCN(nn.Module):
    """The parameters and the equation.

    Shapes:
        forward: user_idx [n] and video_idx [m] -> rows of those users [n, dim] and videos [m, dim], of all videos
        where None are named; dim is one more with `popularity`
    """

    USER_ROWS = ("user_id",)
    VIDEO_ROWS = ("video_id", "popularity")
    warm: Tensor

    def __init__(self, watch: WatchGraph, config: Config, generator: torch.Generator) -> None:
        """Draw the parameters (Xavier-uniform)."""
        super().__init__()
        self.watch = watch
        self.config = config
        if config.user_rows == "own":
            self.user_id = xavier(watch.n_users, config.dim, generator)
        self.video_id = xavier(watch.n_videos, config.dim, generator)
        if config.popularity:
            self.popularity = fitting.popularity_column(watch)
        self.register_buffer("warm", watch.whole.n_viewers > 0, persistent=False)  # [n_videos]

    def forward(
        self, user_idx: Tensor, watched: Watched, video_idx: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rows whose inner products are the scores."""
        config = self.config
        user, video = light_gcn(
            self.user_id if config.user_rows == "own" else None,
            self.video_id * self.warm.unsqueeze(1),
            forth=watched.to_users(config.user_power, config.video_power),
            back=watched.to_videos(config.user_power, config.video_power),
            layers=config.layers,
        )
        user = functional.embedding(user_idx, user)
        if config.popularity:
            user, video = fitting.with_column(user, video, self.popularity)
        return user, fitting.named(video, video_idx)

    def id_rows(self, triples: Triples) -> tuple[Tensor, ...]:
        """Return the rows of the triples before any propagation. [n_triples, dim] each."""
        own = self.user_id if self.config.user_rows == "own" else None
        return fitting.rows_of(triples, user_id=own, video_id=self.video_id)

    def known_videos(self) -> Bools:
        """Return which videos a user within the activity cap has liked. [n_videos]."""
        warm: Bools = self.warm.cpu().numpy()
        return warm


def build(graph: Graph, edges: Edges, config: Config, generator: torch.Generator) -> LightGCN:
    """Return a fresh network that learns from these edges; see `registry.Model`."""
    return LightGCN(fitting.watch_graph(graph, edges, config), config, generator)


fit = partial(fitting.fit, build=build)
