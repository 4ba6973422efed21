"""A video's row from its id, author and vectors, for networks that read sequences."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from microrec.models.inputs.graph_arrays import Graph
from microrec.models.nn.layers import N_BUCKETS, buckets, linear, normal
from microrec.models.sequence.exposures import ExposureConfig


class VideoRows(nn.Module):
    """x = E_id + sum over modalities of W_m f_m + E_author + E_duration (README.md, section 4.2).

    A video nobody was shown in training has no id row, a missing modality adds nothing, and an
    author of one video is nobody in particular.

    Shapes:
        forward: video_idx [n] -> [n, dim]
    """

    warm: Tensor
    author: Tensor
    duration: Tensor

    def __init__(
        self,
        graph: Graph,
        shown: NDArray[Any],
        config: ExposureConfig,
        generator: torch.Generator,
    ) -> None:
        """Draw the parameters.

        Args:
            graph: the videos.
            shown: video_idx of those that were shown in what is learned from, as often as you like.
            config: their size, and how often they go without.
            generator: source of the draws.
        """
        super().__init__()
        self.config = config
        self.video_id = normal(graph.n_videos, config.dim, generator)
        warm = np.bincount(shown, minlength=graph.n_videos) > 0
        self.register_buffer("warm", torch.from_numpy(warm), persistent=False)
        author = graph.author.astype(np.int64)
        self.register_buffer("author", torch.from_numpy(author), persistent=False)
        self.author_id = normal(int(author.max(initial=0)) + 1, config.dim, generator)
        self.register_buffer("duration", buckets(graph.duration_ms / 1e3), persistent=False)
        self.duration_id = normal(N_BUCKETS, config.dim, generator)
        self.names = tuple(graph.features)
        self.project = nn.ModuleList()
        for name in self.names:
            vector = torch.from_numpy(graph.features[name].vector)
            vector = functional.normalize(vector)
            self.register_buffer(f"vector_{name}", vector, persistent=False)
            self.project.append(linear(vector.shape[1], config.dim, generator, bias=False))

    def forward(self, video_idx: Tensor, noise: torch.Generator) -> Tensor:
        """Rows of some videos, each once."""
        own = self.warm[video_idx].unsqueeze(1).float()
        if self.training and self.config.id_dropout:
            kept = torch.rand(len(video_idx), 1, generator=noise) >= self.config.id_dropout
            own = own * kept.to(own.device)
        rows = own * functional.embedding(video_idx, self.video_id)
        has_author = (self.author[video_idx] > 0).unsqueeze(1)
        rows = rows + has_author * functional.embedding(self.author[video_idx], self.author_id)
        rows = rows + functional.embedding(self.duration[video_idx], self.duration_id)
        for name, project in zip(self.names, self.project, strict=True):
            rows = rows + project(getattr(self, f"vector_{name}")[video_idx])
        return rows

    def known(self, graph: Graph) -> NDArray[np.bool_]:
        """Return which videos were shown in training, or have a vector or an author with other videos. [n_videos]."""
        has_row: NDArray[np.bool_] = self.warm.cpu().numpy() | (self.author.cpu().numpy() > 0)
        for features in graph.features.values():
            has_row = has_row | features.present
        return has_row


class VideoNetwork(nn.Module):
    """What networks that read viewings have in common: rows of the videos, and draws of their own."""

    def __init__(self, videos: VideoRows) -> None:
        """Take the rows of the videos, drawn before what a network adds, and their config."""
        super().__init__()
        self.config = videos.config
        self.noise = torch.Generator()
        self.videos = videos
