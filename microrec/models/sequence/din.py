r"""DIN: attention of the candidate over the videos that a user watched.

Zhou et al. 2018, "Deep interest network for click-through rate prediction". H: rows x_j of what the
user watched, as of the start of the day (`video_rows.py`); c: the candidate's row.

    w_j = MLP_a [c ; x_j ; c - x_j ; c x_j]                 (no softmax: many alike count for more)
    h = sum_j w_j x_j
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
from microrec.models.nn.layers import Activation, Layers
from microrec.models.sequence import exposures as logged
from microrec.models.sequence.exposures import Batch, ExposureConfig
from microrec.models.sequence.video_rows import VideoNetwork, VideoRows


class Config(ExposureConfig):
    """Shape of the network."""

    unit: tuple[PositiveInt, ...] = (64, 32)
    """Sizes of the activation unit's layers."""
    hidden: tuple[PositiveInt, ...] = (256, 128)
    """Sizes of the head's layers."""
    activation: Activation = "dice"
    """Between the layers of both."""


class Din(VideoNetwork):
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
        sizes = (4 * config.dim, *config.unit, 1)
        self.unit = Layers(sizes, 0.0, generator, config.activation)
        sizes = (3 * config.dim + 1, *config.hidden, 1)
        self.head = Layers(sizes, config.dropout, generator, config.activation)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the pairs."""
        rows = self.videos(batch.videos, self.noise)  # [n_videos_of_batch, dim]
        candidate = functional.embedding(batch.video, rows)  # [n_pairs, dim]
        interest = self.interest(batch, rows, candidate)
        size = torch.log1p(batch.history.present.sum(1, keepdim=True).float())[batch.of]
        joined = torch.cat([candidate, interest, interest * candidate, size], dim=1)
        logit: Tensor = self.head(joined, self.noise).squeeze(1)
        return logit

    def interest(self, batch: Batch, rows: Tensor, candidate: Tensor) -> Tensor:
        """Return what the history holds of each pair's candidate, by the activation unit.

        Histories are of many lengths: the unit sees the viewings there are, one after the other.

        Args:
            batch: the pairs and their histories.
            rows: of the videos. [n_rows, dim]
            candidate: rows of the candidates. [n_pairs, dim]

        Returns:
            [n_pairs, dim].
        """
        present = batch.history.present[batch.of]  # [n_pairs, width]
        lengths = present.sum(1)
        pair = torch.arange(len(present), device=present.device).repeat_interleave(lengths)
        query = functional.embedding(pair, candidate)  # [n_viewings, dim]
        key = functional.embedding(batch.history.video[batch.of][present], rows)
        weight = self.unit(torch.cat([query, key, query - key, query * key], dim=1), self.noise)
        return torch.segment_reduce(weight * key, "sum", lengths=lengths, axis=0)

    def loss(self, batch: Batch) -> Tensor:
        """Return the log loss of the labels plus L2 of the videos' rows, a scalar."""
        return logged.log_loss(self(batch), batch, self.videos.video_id, l2=self.config.l2)


build = Din
# Dice takes averages over a step for those of all; and nothing is padded here.
fit = partial(logged.fit_ranker, build=build, batches=logged.at_random)
restore = partial(logged.restore, build=build, examples=logged.exposures_of)
scores = logged.scores
