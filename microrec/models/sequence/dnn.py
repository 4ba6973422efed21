r"""A plain network on a user's mean: the floor that models of sequences are held against.

H: rows of what the user watched, as of the start of the day (`video_rows.py`); c: the candidate's row.

    h = mean of H, 0 where it is empty
    logit = MLP [c ; h ; h c ; ln(1 + |H|)]

trained on logged exposures (log loss). It scores pairs and proposes nothing.
"""

from functools import partial

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional

from microrec.models.inputs.graph_arrays import Graph
from microrec.models.inputs.sequence_arrays import Exposures
from microrec.models.nn.layers import Layers
from microrec.models.sequence import exposures as logged
from microrec.models.sequence.exposures import Batch, ExposureConfig
from microrec.models.sequence.video_rows import VideoNetwork, VideoRows


class Config(ExposureConfig):
    """Shape of the network."""

    hidden: tuple[PositiveInt, ...] = (256, 128)
    """Sizes of the layers."""


class Dnn(VideoNetwork):
    """The parameters and the equations.

    Shapes:
        forward: a batch -> logits of its pairs [n_pairs]
    """

    config: Config

    def __init__(
        self, graph: Graph, exposures: Exposures, config: Config, generator: torch.Generator
    ) -> None:
        """Draw the parameters."""
        super().__init__(VideoRows(graph, exposures.video_idx, config, generator))
        sizes = (3 * config.dim + 1, *config.hidden, 1)
        self.head = Layers(sizes, config.dropout, generator)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the pairs."""
        rows = self.videos(batch.videos, self.noise)  # [n_videos_of_batch, dim]
        candidate = functional.embedding(batch.video, rows)  # [n_pairs, dim]
        present = batch.history.present.unsqueeze(2)  # [n_rows, width, 1]
        n = present.sum(1).float()  # [n_rows, 1]
        watched = functional.embedding(batch.history.video, rows) * present
        mean = functional.embedding(batch.of, watched.sum(1) / n.clamp(min=1))  # [n_pairs, dim]
        joined = torch.cat([candidate, mean, mean * candidate, torch.log1p(n)[batch.of]], dim=1)
        logit: Tensor = self.head(joined, self.noise).squeeze(1)
        return logit

    def loss(self, batch: Batch) -> Tensor:
        """Return the log loss of the labels plus L2 of the videos' rows, a scalar."""
        return logged.log_loss(self(batch), batch, self.videos.video_id, l2=self.config.l2)


build = Dnn
fit = partial(logged.fit_ranker, build=build)
restore = partial(logged.restore, build=build, examples=logged.exposures_of)
scores = logged.scores
