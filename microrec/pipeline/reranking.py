"""The candidates of all models in the order of one ranking model's score."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from microrec.candidates.ranking import candidate_union
from microrec.core.array_types import Floats, Indices
from microrec.pipeline import proposals
from microrec.pipeline.night import Night

Score = Callable[[Indices, Indices], Floats]
"""Scores [n_pairs] of pairs: user_idx [n_pairs] and video_idx [n_pairs]."""


@dataclass(frozen=True, eq=False)
class ScoredOrder:
    """Orders what the night's models propose by a score, part by part."""

    night: Night
    score: Score

    def __call__(self, *, users: Indices) -> pa.Table:
        """Order all that the models propose to some users.

        Args:
            users: user_idx [n_users] of consecutive users, ascending.

        Returns:
            Rows of `candidates`, at most k * overfetch a user.

        Raises:
            MissingDay: a model of the night has no candidates.
            MicrorecError: a score is not finite.
        """
        config = self.night.config
        lists = {model: proposals.read(self.night, model, users) for model in config.models}
        user, video = candidate_union.union(lists)
        score = self.score(user, video)
        return candidate_union.by_score(user, video, score, k=config.k * config.overfetch)
