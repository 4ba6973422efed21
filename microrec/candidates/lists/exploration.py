"""Exploration: new videos shown to some users with a known probability, so that their outcome can be weighted.

Of a user's new videos, n get a place. Video v is among them with the probability

    pi(u, v) = min(1, n_u x size(u, v)),   sum_v pi(u, v) = n
    size(u, v) = s / number of new videos + (1 - s) x place(u, v)^-g / sum_w place(u, w)^-g

where n_u makes the sum right, and place is 1 for the new video with the greatest affinity to the user, 2 for the next,
and so on. Affinity is the score of a source that can score videos without viewers (`content`); what has none above 0
has no place, and equal ones share the chances of theirs. So most of the chance goes to what is most like the user's
history, however little the scores of encoders differ; a share s is the floor that every new video has.

The draw is systematic (Madow, Annals of Mathematical Statistics 1949): one uniform number per user, no video twice,
exactly these probabilities. The mean outcome over all pairs of a user and a new video, shown or not, is then estimated
by weighting the shown ones with 1 / pi (Horvitz and Thompson, JASA 1952).

Where the places cost too much, only a share of the users have them: those whose number is below it. Of these the number
divided by the share is as random as the number was, and pi(u, v) is the share times what it is above.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from microrec.core.array_types import Bools, Float32s, Float64s, Floats, Indices, Int64s
from microrec.errors import MicrorecError

CERTAIN = 1.0 - 1e-9
"""A chance from here on is 1: sums of float64 cannot tell them apart for sure."""


class Config(BaseModel):
    """How many new videos are shown, where, and to whom; none unless the recipe says so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    places: NonNegativeInt = 0
    """Places of each list that are given to new videos."""
    every: PositiveInt = 10
    """They stand at ranks every, 2 x every, ..., the one with the greatest affinity first; those for which the list is
    too short at its end."""
    max_likers: NonNegativeInt = 0
    """A video is new while no more users than this have liked it ..."""
    max_viewers: NonNegativeInt = 10
    """... and no more than this have been shown it, however old it is."""
    source: str = "content"
    """The model whose score is the affinity; where the night does not have it all new videos have the same chance."""
    sharpness: PositiveFloat = 2.0
    """g: the greater, the more of the chance the likeliest videos have; at 2 the first has three fifths of it."""
    most_price: float = Field(default=0.0025, gt=0, le=1)
    """Share of the gates' metric that new videos may cost; where the trial shows that they cost more, fewer users have
    them in their lists."""
    least_users: float = Field(default=0.1, gt=0, le=1)
    """Least share of the users who have them."""
    uniform_share: float = Field(default=0.1, gt=0, le=1)
    """s, share of the chance that is the same for all new videos. Not 0: of a video without a chance nothing can be
    learned."""


class Estimate(NamedTuple):
    """Mean outcome over all pairs that had a chance."""

    horvitz_thompson: float
    """Without bias; divides by the number of pairs."""
    self_normalised: float
    """Divides by the sum of the weights: steadier, its bias goes with the number shown; NaN if none is."""


@dataclass(frozen=True, eq=False)
class Placed:
    """Lists of a block of users with explored videos in them. All are [n_block, k]."""

    video: Int64s
    """video_idx, -1 where the list has ended."""
    explored: Bools
    """Whether the row is an explored one."""
    origin: Int64s
    """Place it had in `explored` if it is one, else in the list before; -1 where the list has ended."""


def newcomers(likers: Indices, viewers: Indices, eligible: Bools, *, config: Config) -> Bools:
    """Return which eligible videos hardly anybody has been shown and nobody has liked.

    Args:
        likers: users with a positive viewing that the fit sees. [n_videos]
        viewers: users with any viewing that the fit sees. [n_videos]
        eligible: may be proposed. [n_videos]
        config: what is new.

    Returns:
        True where a video is new. [n_videos]
    """
    new: Bools = eligible & (likers <= config.max_likers) & (viewers <= config.max_viewers)
    return new


def users_share(price: float, high: float | None, value: float, *, config: Config) -> float:
    """Return which share of the users may have new videos in their lists, so that these cost no more than they may.

    Args:
        price: mean difference of a metric, lists with new videos minus the same without, all users having them.
        high: upper end of its interval; None where there is none.
        value: the metric of the lists.
        config: what they may cost.

    Returns:
        1 unless the whole interval lies beyond that.
    """
    budget = config.most_price * value
    if high is None or high >= -budget:
        return 1.0
    return max(config.least_users, budget / -price)


def affinities(user: Floats, video: Floats) -> Float32s:
    """Return the scores of new videos by a model's vectors: inner products, as float32, those below 0 as 0.

    Args:
        user: rows of the users of a block. [n_block, dim]
        video: rows of the new videos; zeros where the model knows nothing of one. [n_new, dim]

    Returns:
        At least 0. [n_block, n_new]
    """
    score = user.astype(np.float64) @ video.astype(np.float64).T
    return np.maximum(score, 0.0).astype(np.float32)


def chances(
    affinity: Floats, allowed: Bools, *, places: int, uniform_share: float, sharpness: float = 1.0
) -> Float64s:
    """Return the probability with which each new video is shown to each user of a block.

    Args:
        affinity: finite; below 0 counts as 0; a user who has none above 0 has equal probabilities. [n_block, n_new]
        allowed: whether the video may be shown to the user, and is not in the list anyway. [n_block, n_new]
        places: videos a user is shown; fewer only where fewer are allowed.
        uniform_share: 0..1. At 0 videos without affinity are shown only where those with some leave places empty.
        sharpness: power by which the chance falls with the place by affinity.

    Returns:
        Probabilities, 0 where not allowed; a row adds up to min(places, allowed videos). [n_block, n_new]
    """
    n_allowed = allowed.sum(axis=1, keepdims=True)
    even = allowed / np.maximum(n_allowed, 1)
    liked = _by_place(np.where(allowed, np.maximum(affinity, 0.0), 0.0), sharpness)
    total = liked.sum(axis=1, keepdims=True)
    by_affinity = np.divide(liked, total, out=np.zeros(even.shape), where=total > 0)
    size = uniform_share * even + (1.0 - uniform_share) * by_affinity
    return _capped(size, allowed, np.minimum(places, n_allowed))


def draw(probability: Floats, uniforms: Floats, *, places: int) -> Int64s:
    """Draw as many videos for each user as the probabilities add up to, each with its probability.

    The probabilities of a user lie end to end on a line; the videos under u, u + 1, u + 2, ... are drawn. Videos that
    are always shown are kept off the line.

    Args:
        probability: the probabilities, as of `chances`. [n_block, n_new]
        uniforms: one number of each user, 0 <= u < 1. [n_block]
        places: as given to `chances`.

    Returns:
        Columns of `probability`, ascending, -1 where there is none. [n_block, places]
    """
    certain = probability >= CERTAIN
    line = np.cumsum(np.where(certain, 0.0, probability), axis=1)
    n_drawn = np.rint(line[:, -1:])  # [n_block, 1], or [n_block, 0] without new videos
    # How many of the numbers are passed up to the end of each video: at the end of the line all.
    passed = np.where(line >= n_drawn - (1.0 - CERTAIN), n_drawn, np.ceil(line - uniforms[:, None]))
    drawn = certain | (np.diff(passed, axis=1, prepend=0.0) > 0)
    positions = np.full((len(probability), places), -1, dtype=np.int64)
    row, video = np.nonzero(drawn)
    positions[row, np.arange(len(row)) - np.searchsorted(row, row)] = video
    return positions


def likeliest_first(drawn: Int64s, affinity: Floats) -> Int64s:
    """Put what was drawn in the order of affinity; of equals the earlier column comes first.

    Args:
        drawn: columns, as of `draw`. [n_block, places]
        affinity: [n_block, n_new].

    Returns:
        The same columns of each user, -1 at the end. [n_block, places]
    """
    if not drawn.size:
        return drawn
    of_drawn = np.where(drawn >= 0, np.take_along_axis(affinity, np.maximum(drawn, 0), axis=1), -1)
    return np.take_along_axis(drawn, np.argsort(-of_drawn, axis=1, kind="stable"), axis=1)


def place(videos: Indices, explored: Indices, *, every: int) -> Placed:
    """Put explored videos into the lists, at ranks every, 2 x every, ...; the others move down.

    Where a list is too short for them they stand at its end, in their order. Videos that move beyond k are dropped.

    Args:
        videos: lists of video_idx, -1 where one has ended. [n_block, k]
        explored: video_idx, none of them in the user's list, -1 where there is none. [n_block, places]
        every: distance between two explored videos.

    Returns:
        Lists of min(k, listed + explored) distinct videos. [n_block, k]
    """
    n_block, k = videos.shape
    there = explored >= 0
    n_explored = np.minimum(there.sum(axis=1, keepdims=True), k)  # [n_block, 1]
    length = np.minimum((videos >= 0).sum(axis=1, keepdims=True) + n_explored, k)
    nth = np.arange(explored.shape[1])
    rank = np.minimum((nth + 1) * every, length - n_explored + 1 + nth)  # [n_block, places]
    row, which = np.nonzero(nth < n_explored)
    is_explored = np.zeros((n_block, k), dtype=np.bool_)
    is_explored[row, rank[row, which] - 1] = True
    n_before = np.cumsum(is_explored, axis=1)
    filled = np.arange(k) < length
    # Where the first, second, ... that there is stands among the explored. [n_block, places]
    place_of = np.argsort(~there, axis=1, kind="stable")
    origin = np.where(filled, np.arange(k) - n_before, -1)
    row, rank = np.nonzero(is_explored)
    origin[row, rank] = place_of[row, n_before[row, rank] - 1]
    video = np.full((n_block, k), -1, dtype=np.int64)
    video[row, rank] = explored[row, origin[row, rank]]
    row, rank = np.nonzero(filled & ~is_explored)
    video[row, rank] = videos[row, origin[row, rank]]
    return Placed(video=video, explored=is_explored, origin=origin)


def inverse_weighted(outcome: Floats, propensity: Floats, shown: Bools) -> Estimate:
    """Estimate the mean outcome over all pairs that could be shown from those that were shown.

    Args:
        outcome: of each pair; anything where it was not shown. [n_pairs]
        propensity: probability of each pair, 0..1. [n_pairs]
        shown: whether it was shown. [n_pairs]

    Returns:
        Both estimates, in the unit of the outcome; NaN where no pair could be shown.

    Raises:
        MicrorecError: a shown pair has a propensity of 0, or above 1.
    """
    chance = np.asarray(propensity, dtype=np.float64)[shown]
    bad = int((~((chance > 0) & (chance <= 1))).sum())
    if bad:
        raise MicrorecError(f"exploration: {bad} shown pairs have no propensity above 0, up to 1")
    n_pairs = int((propensity > 0).sum())
    total = float((outcome[shown] / chance).sum())
    weight = float((1.0 / chance).sum())
    return Estimate(
        horvitz_thompson=total / n_pairs if n_pairs else float("nan"),
        self_normalised=total / weight if weight else float("nan"),
    )


def _by_place(affinity: Floats, sharpness: float) -> Float64s:
    """place^-sharpness, the mean of it where several are equal, 0 where the affinity is. [n_block, n_new]."""
    n_block, n_new = affinity.shape
    order = np.argsort(-affinity, axis=1, kind="stable")
    falling = np.take_along_axis(affinity, order, axis=1)
    is_first = np.ones(falling.shape, dtype=np.bool_)
    is_first[:, 1:] = falling[:, 1:] < falling[:, :-1]
    group = np.cumsum(is_first.ravel()) - 1
    power = np.tile(np.arange(1.0, n_new + 1.0) ** -sharpness, n_block)
    mean = np.bincount(group, weights=power) / np.maximum(np.bincount(group), 1)
    shared = np.where(falling > 0, mean[group].reshape(falling.shape), 0.0)
    liked = np.empty(affinity.shape)
    np.put_along_axis(liked, order, shared, axis=1)
    return liked


def _capped(size: Floats, allowed: Bools, n_places: Int64s) -> Float64s:
    """Chances in proportion to size, none above 1: what would be is 1, and the others share the rest.

    Args:
        size: 0 where not allowed [n_block, n_new].
        allowed: [n_block, n_new].
        n_places: No more than are allowed [n_block, 1].
    """
    certain = np.zeros(size.shape, dtype=np.bool_)
    while True:
        left = n_places - certain.sum(axis=1, keepdims=True)
        rest = np.where(certain, 0.0, size)
        sized = (rest > 0).any(axis=1, keepdims=True)
        rest = np.where(sized, rest, allowed & ~certain)
        total = rest.sum(axis=1, keepdims=True)
        chance = left * np.divide(rest, total, out=np.zeros(size.shape), where=total > 0)
        over = chance >= CERTAIN
        if not over.any():
            return np.where(certain, 1.0, chance)
        certain |= over
