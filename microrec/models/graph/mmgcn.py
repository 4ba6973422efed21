r"""MMGCN: a graph network per modality, their rows averaged.

Wei et al. 2019, "MMGCN: Multi-modal graph convolution network for personalized recommendation of
micro-video", in its concatenating form. Per modality m, with a preference row for each user and the
video's vector (longer ones first mapped to `hidden`), id: one table for all modalities,

    x^0  = unit([preference ; features])
    h    = leaky(mean_{j in N} x_j W1),   xh = leaky(W2 x + b2) + id
    x'   = leaky(W3 [h || xh] + b3)                                   three times
    e    = mean over m of x^m,            score(u, v) = <e_u, e_v>

Not the published program but the published model: there, id and preference rows were never trained,
watched videos were masked with 1e-5, and the number of layers was ignored (README.md, section 3.3). Here
they are parameters, masks are -inf and `layers` counts. A video that lacks a modality takes no part
in that modality's mean, and a cold video has no id row.
"""

from functools import partial
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from pydantic import ConfigDict, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from microrec.core.array_types import Bools
from microrec.models.graph import fitting
from microrec.models.graph.fitting import TrainingConfig, xavier
from microrec.models.graph.propagation import Adjacency, AdjacencyConv, Watched, WatchGraph
from microrec.models.graph.sampling import Triples
from microrec.models.inputs.graph_arrays import Edges, Graph
from microrec.models.nn.layers import linear


class Config(TrainingConfig):
    """Shape of the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: PositiveFloat = 5e-4
    """Adam's; the published one."""
    batch_size: PositiveInt = 1024
    """Triples a step; every step propagates the whole graph. Fewer where there are fewer edges."""
    dim: PositiveInt = 64
    """Size of every row."""
    layers: PositiveInt = 3
    """Propagations per modality."""
    hidden: PositiveInt = 256
    """Vectors longer than this are first mapped to it."""
    modalities: tuple[str, ...] | None = None
    """Modalities that take part; None: all there are."""


class MMGCN(nn.Module):
    """The id rows and one branch per modality.

    Shapes:
        forward: user_idx [n] and video_idx [m] -> rows of those users [n, dim] and videos [m, dim], of all videos
        where None are named
    """

    USER_ROWS = ("user_id", "preference")
    VIDEO_ROWS = ("video_id",)
    present: Tensor
    warm: Tensor

    def __init__(
        self, watch: WatchGraph, graph: Graph, config: Config, generator: torch.Generator
    ) -> None:
        """Draw the parameters (Xavier-uniform)."""
        super().__init__()
        self.watch = watch
        self.config = config
        names = [n for n in graph.features if config.modalities is None or n in config.modalities]
        self.user_id = xavier(watch.n_users, config.dim, generator)
        self.video_id = xavier(watch.n_videos, config.dim, generator)
        vectors = [torch.from_numpy(graph.features[name].vector) for name in names]
        self.branches = nn.ModuleList(
            Branch(part, watch.n_users, config, generator) for part in vectors
        )
        masks = [graph.features[name].present for name in names]
        stacked = np.stack(masks, axis=1) if masks else np.zeros((watch.n_videos, 0), dtype=bool)
        self.register_buffer(
            "present", torch.from_numpy(stacked), persistent=False
        )  # [n_videos, n_modalities]
        self.register_buffer("warm", watch.whole.n_viewers > 0, persistent=False)

    def forward(
        self, user_idx: Tensor, watched: Watched, video_idx: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rows whose inner products are the scores."""
        ids = torch.cat([self.user_id, self.video_id * self.warm.unsqueeze(1)])
        forth = watched.to_users(1.0, 0.0)
        back = watched.to_videos(0.0, 1.0)
        n_users = self.watch.n_users
        users = ids[:n_users] * 0
        videos = ids[n_users:] * 0
        for m, branch in enumerate(self.branches):
            rows = branch(ids, forth, back)
            users = users + rows[:n_users] / len(self.branches)
            videos = videos + rows[n_users:] * self.present[:, [m]]
        videos = videos / self.present.sum(dim=1, keepdim=True).clamp(min=1)
        return functional.embedding(user_idx, users), fitting.named(videos, video_idx)

    def id_rows(self, triples: Triples) -> tuple[Tensor, ...]:
        """Return the rows of the triples before any propagation, preferences included. [n_triples, dim] each."""
        of_videos = [(idx, self.video_id) for idx in (triples.positive, triples.negative)]
        of_users = [self.user_id, *(cast(Branch, branch).preference for branch in self.branches)]
        pairs = [*((triples.user, rows) for rows in of_users), *of_videos]
        return tuple(functional.embedding(idx, rows) for idx, rows in pairs)

    def known_videos(self) -> Bools:
        """Return which videos have at least one modality. [n_videos]."""
        has_vector: Bools = self.present.any(dim=1).cpu().numpy()
        return has_vector


class Branch(nn.Module):
    """The network of one modality.

    Shapes:
        forward: id rows [n_users + n_videos, dim] -> rows of all nodes [n_users + n_videos, dim]
    """

    vectors: Tensor

    def __init__(
        self, vectors: Tensor, n_users: int, config: Config, generator: torch.Generator
    ) -> None:
        """Draw the parameters.

        Args:
            vectors: of the videos, zero where missing [n_videos, size]
            n_users: users, each with a preference row
            config: sizes
            generator: source of the draws
        """
        super().__init__()
        self.register_buffer("vectors", vectors, persistent=False)
        size = vectors.shape[1]
        self.mapped = size > config.hidden
        width = min(size, config.hidden)
        if self.mapped:
            self.map = linear(size, width, generator)
        self.preference = xavier(n_users, width, generator)
        widths = [width, *[config.dim] * config.layers]
        pairs = list(pairwise(widths))
        self.gather = nn.ModuleList(linear(a, a, generator, bias=False) for a, _ in pairs)
        self.own = nn.ModuleList(linear(a, b, generator) for a, b in pairs)
        self.join = nn.ModuleList(linear(a + b, b, generator) for a, b in pairs)
        self.conv = AdjacencyConv()

    def forward(self, ids: Tensor, forth: Adjacency, back: Adjacency) -> Tensor:
        """The three equations, layer by layer."""
        features = self.vectors
        if self.mapped:  # the bias is not for videos without a vector
            features = self.map(features) * features.any(dim=1, keepdim=True)
        x = functional.normalize(torch.cat([self.preference, features]))
        n_users = len(self.preference)
        for gather, own, join in zip(self.gather, self.own, self.join, strict=True):
            messages = gather(x)
            near = [self.conv(messages[n_users:], forth), self.conv(messages[:n_users], back)]
            h = functional.leaky_relu(torch.cat(near))
            xh = functional.leaky_relu(own(x)) + ids
            x = functional.leaky_relu(join(torch.cat([h, xh], dim=1)))
        return x


def build(graph: Graph, edges: Edges, config: Config, generator: torch.Generator) -> MMGCN:
    """Return a fresh network that learns from these edges; see `registry.Model`."""
    return MMGCN(fitting.watch_graph(graph, edges, config), graph, config, generator)


fit = partial(fitting.fit, build=build)
