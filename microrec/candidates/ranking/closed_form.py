"""Rank fusion of all sources, weighted by how much data the user has.

    score(u, v) = sum_s w_s(n_u) / (c + rank_s(u, v))
    w_s(n)      = warm_s * n / (n + kappa) + cold_s * kappa / (n + kappa)

n_u = the user's positive edges in the fit. Reciprocal rank fusion: Cormack, Clarke and Buettcher, SIGIR 2009; the
weights by history are ours, and fitted to the held-out day by `ranking.fusion`. A source that is absent adds nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from microrec.core.array_types import Float64s, Indices, Int32s, Int64s
from microrec.core.columns import column

Share = Annotated[float, Field(ge=0)]


class Weight(BaseModel):
    """Weight of a source for users with much and with no history."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warm: Share
    """Weight as history grows without bound."""
    cold: Share
    """Weight at no history."""


class Weights(Protocol):
    """What the closed form needs to know: constants, and the weight of a source for each user."""

    @property
    def c(self) -> float:
        """Flattens the difference between the first ranks."""

    @property
    def block_cells(self) -> int:
        """(user, video) cells fused at a time."""

    def weight(self, source: str, *, users: Indices, history: Indices) -> Float64s:
        """Return the weight of a source for users.

        Args:
            source: name of the source.
            users: user_idx. [n_users]
            history: positive edges of each of them. [n_users]
        """


class Config(BaseModel):
    """How sources are fused: the recipe's weights, the same for all users of a history."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: dict[str, Weight] = {
        "popularity": Weight(warm=0.3, cold=1.0),
        "content": Weight(warm=0.4, cold=0.6),
        "user_neighbours": Weight(warm=1.0, cold=0.1),
        "video_neighbours": Weight(warm=1.0, cold=0.1),
        "preference_gcn": Weight(warm=1.0, cold=0.2),
    }
    """Weight of each source."""
    other: Weight = Weight(warm=0.5, cold=0.2)
    """Weight of a source that `weights` does not name."""
    c: PositiveFloat = 60.0
    """Flattens the difference between the first ranks."""
    kappa: PositiveFloat = 5.0
    """Positive edges at which a user is half warm."""
    block_cells: PositiveInt = 4_000_000
    """(user, video) cells fused at a time, about 26 bytes each; does not change the lists."""

    def weight(self, source: str, *, users: Indices, history: Indices) -> Float64s:
        """Return the weight of a source for users by the length of their histories.

        Args:
            source: name of the source.
            users: user_idx, of no account here. [n_users]
            history: positive edges of each user. [n_users]

        Returns:
            Weights between the source's cold and its warm weight. [n_users]
        """
        chosen = self.chosen(source)
        warmth = history / (history + self.kappa)
        return np.asarray(chosen.warm * warmth + chosen.cold * (1.0 - warmth), dtype=np.float64)

    def chosen(self, source: str) -> Weight:
        """Return the two weights of a source."""
        return self.weights.get(source, self.other)


def fitted(prior: Config, weights: Mapping[str, Weight]) -> Config:
    """Return the closed form with other weights; a source that they do not name has none.

    Args:
        prior: for its constants.
        weights: by source.
    """
    nothing = Weight(warm=0.0, cold=0.0)
    return prior.model_copy(update={"weights": dict(weights), "other": nothing})


def only(source: str, prior: Config) -> Config:
    """Return the closed form that follows one source alone.

    Args:
        source: its name.
        prior: for its constants.
    """
    return fitted(prior, {source: Weight(warm=1.0, cold=1.0)})


@dataclass(frozen=True)
class CrossFitted:
    """Weights by fold of users: those of a fold are fitted on the other folds' feedback."""

    folds: tuple[Config, ...]
    """Of each fold, fold 1 first; their constants are the same."""

    @property
    def c(self) -> float:
        """Flattens the difference between the first ranks."""
        return self.folds[0].c

    @property
    def block_cells(self) -> int:
        """(user, video) cells fused at a time."""
        return self.folds[0].block_cells

    def weight(self, source: str, *, users: Indices, history: Indices) -> Float64s:
        """Return the weight of a source for users by their fold and the length of their histories.

        Args:
            source: name of the source.
            users: user_idx. [n_users]
            history: positive edges of each of them. [n_users]

        Returns:
            Weights. [n_users]
        """
        of_folds = [fold.weight(source, users=users, history=history) for fold in self.folds]
        return np.stack(of_folds)[fold_of(users, len(self.folds)) - 1, np.arange(len(users))]


def fold_of(users: Indices, n_folds: int) -> Int64s:
    """Return the fold of users, from 1 to `n_folds`.

    Args:
        users: user_idx. [n_users]
        n_folds: number of folds.

    Returns:
        Numbers of folds. [n_users]
    """
    return np.asarray(users, dtype=np.int64) % n_folds + 1


@dataclass(frozen=True)
class Ranked:
    """One source's candidates as arrays sorted by user, so that a block of users is a slice."""

    user: Indices
    video: Indices
    rank: Indices
    score: Float64s

    def of(self, users: Indices) -> tuple[Indices, Indices, Indices, Float64s]:
        """Return the candidates of some users.

        Args:
            users: user_idx, ascending, at least one. [n_block]

        Returns:
            Position of the user in `users`, video_idx, rank and score. [n_rows] each
        """
        start = np.searchsorted(self.user, users[0], side="left")
        stop = np.searchsorted(self.user, users[-1], side="right")
        user = self.user[start:stop]
        rows = np.searchsorted(users, user)
        wanted = users[rows] == user
        positions = np.arange(start, stop)[wanted]
        return rows[wanted], self.video[positions], self.rank[positions], self.score[positions]


@dataclass(frozen=True)
class Fused:
    """Fused points of a block of users.

    Shapes:
        points: [n_block, n_videos], 0 where no source proposes the video.
        strongest: [n_block, n_videos], position of the source that gave most (in name order), -1
            where none.
        rank: [n_block, n_videos], the place at which that source proposes the video, 0 where none.
    """

    points: Float64s
    strongest: NDArray[np.int16]
    rank: Int32s


def ranked(candidates: pa.Table) -> Ranked:
    """Sort the candidates of one source by user, so that they can be cut by users.

    Args:
        candidates: `candidates` rows of one source, in any order.

    Returns:
        The rows as arrays; those of a user in the order given.
    """
    user = column(candidates, "user_idx")
    order = np.argsort(user, kind="stable")
    return Ranked(
        user=user[order],
        video=column(candidates, "video_idx")[order],
        rank=column(candidates, "rank")[order],
        score=column(candidates, "score")[order].astype(np.float64),
    )


def fuse(
    sources: Mapping[str, Ranked],
    *,
    users: Indices,
    history: Indices,
    n_videos: int,
    config: Weights,
) -> Fused:
    """Fuse the sources for a block of users; the largest share names the source, ties by name.

    Args:
        sources: candidates by source.
        users: user_idx, ascending. [n_block]
        history: positive edges of each user. [n_block]
        n_videos: videos of the catalogue.
        config: weights.

    Returns:
        Points, strongest source and its rank, [n_block, n_videos] each.
    """
    shape = (len(users), n_videos)
    points = np.zeros(shape)
    largest = np.full(shape, -1.0)  # a source without weight is still the one that proposes
    strongest = np.full(shape, -1, dtype=np.int16)
    best = np.zeros(shape, dtype=np.int32)
    for position, name in enumerate(sorted(sources)):
        rows, videos, ranks, _ = sources[name].of(users)
        weight = config.weight(name, users=users, history=history)
        given = weight[rows] / (config.c + ranks)
        points[rows, videos] += given
        stronger = given > largest[rows, videos]
        rows = rows[stronger]
        videos = videos[stronger]
        largest[rows, videos] = given[stronger]
        strongest[rows, videos] = position
        best[rows, videos] = ranks[stronger]
    return Fused(points=points, strongest=strongest, rank=best)
