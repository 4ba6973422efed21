"""Whether the published evidence of a row is true: each fact counted or computed anew."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from microrec.core.array_types import Float64s
from microrec.core.fitted import Embeddings, Fitted, NeighbourLists, Trends
from microrec.oracle.inputs import ListInputs


class Claim(Protocol):
    """The evidence of a published row; see the contract of `recommendations`."""

    @property
    def source(self) -> str:
        """Whose row it is."""

    @property
    def evidence_video_id(self) -> str | None:
        """The liked video that is most similar."""

    @property
    def evidence_viewers(self) -> int | None:
        """How many users like the video."""

    @property
    def evidence_trend(self) -> int | None:
        """The user's trend."""

    @property
    def evidence_modality(self) -> str | None:
        """Where the two videos are most alike."""


def false_evidence(night: ListInputs, user: int, video: int, claim: Claim) -> str | None:
    """Describe what is not true of a row's evidence.

    Args:
        night: what the list is made of.
        user: user_idx.
        video: video_idx of the row.
        claim: the row.

    Returns:
        The column, its value and the right ones; None if all evidence is true.
    """
    model = night.models.get(claim.source)
    near = similar(night, model, user, video)
    slack = 0.0 if isinstance(model, NeighbourLists) else night.rules.oracle.tolerance
    near = {liked: value for liked, value in near.items() if value > -slack}
    videos = greatest(near, slack)
    if max(near.values(), default=0.0) <= slack:
        videos.add(None)  # what is not similar speaks for nothing
    trends = scores(model, user, video) if isinstance(model, Trends) else {}
    viewers = likers(night, model, user, video)
    viewers = None if viewers is None or viewers < night.rules.least_people else viewers
    ids = {None if liked is None else night.video_id[liked]: liked for liked in videos}
    right: dict[str, set[str | None] | set[int | None]] = {
        "evidence_video_id": set(ids),
        "evidence_viewers": {viewers},
        "evidence_trend": greatest(trends, slack),
        "evidence_modality": {modality(night, ids.get(claim.evidence_video_id), video)},
    }
    for name, values in right.items():
        published = getattr(claim, name)
        if published not in values:
            return f"{name} {published}, recomputed {' or '.join(sorted(map(str, values)))}"
    return None


def similar(night: ListInputs, model: Fitted | None, user: int, video: int) -> dict[int, float]:
    """Return how similar a source finds the videos that a user likes to another video.

    Args:
        night: has what the user likes.
        model: of the source; None: it has no model.
        user: user_idx.
        video: video_idx.

    Returns:
        Similarity by video_idx of the liked video; empty for models that compare no videos.
    """
    liked = night.facts.liked.of(user).tolist()
    if isinstance(model, NeighbourLists) and model.axis == "video":
        rows = {j: slice(model.indptr[j], model.indptr[j + 1]) for j in liked}
        return {
            j: float(model.similarity[at][model.neighbour[at] == video].sum())
            for j, at in rows.items()
        }
    if isinstance(model, Embeddings) and model.video.shape[1] > 1:
        with_row = [j for j in liked if model.video_known[j]]
        return {j: cosine(model.video[j], model.video[video]) for j in with_row}
    return {}


def likers(night: ListInputs, model: Fitted | None, user: int, video: int) -> int | None:
    """Count the users whose liking speaks for a video in a source's eyes.

    Args:
        night: has who likes what.
        model: of the source; None: it has no model.
        user: user_idx.
        video: video_idx.

    Returns:
        Neighbours of the user that like it, or all users if the list is everyone's; None for other models.
    """
    if isinstance(model, NeighbourLists) and model.axis == "user":
        near = slice(model.indptr[user], model.indptr[user + 1])
        others = model.neighbour[near][model.similarity[near] > 0].tolist()
        return sum(video in night.facts.liked.of(other) for other in others)
    if isinstance(model, Embeddings) and model.video.shape[1] == 1:
        return int(night.facts.likers[video])
    return None


def scores(model: Trends, user: int, video: int) -> dict[int, float]:
    """Return the score of a video by each trend of a user.

    Args:
        model: of trends.
        user: user_idx.
        video: video_idx.

    Returns:
        Inner products by number of the trend; known trends only.
    """
    vector = model.video[video].astype(np.float64)
    trends = np.flatnonzero(model.trend_known[user]).tolist()
    return {trend: float(model.user[user, trend].astype(np.float64) @ vector) for trend in trends}


def modality(night: ListInputs, video: int | None, other: int) -> str | None:
    """Return the modality in which two videos are most alike.

    Args:
        night: has the similarities.
        video: video_idx; None: there is no such video.
        other: video_idx.

    Returns:
        Its name, the first by name of equals; None where they are alike in none.
    """
    if video is None:
        return None
    similarity_in = {}
    for name, alike in night.by_modality.items():
        videos, similarity = alike.of(video)
        similarity_in[name] = float(similarity[videos == other].sum())
    alike_in = [(-value, name) for name, value in similarity_in.items() if value > 0]
    return min(alike_in)[1] if alike_in else None


def greatest(values: Mapping[int, float], slack: float) -> set[int | None]:
    """Return the keys whose value may be the greatest, given values that may be off.

    Args:
        values: by key.
        slack: share of 1 + the greatest value by which a value may be off; 0: they are exact.

    Returns:
        All keys within the slack; of exact values the first key by number. None alone if there are no values.
    """
    if not values:
        return {None}
    most = max(values.values())
    least = most - slack * (1.0 + abs(most))
    near = sorted(key for key, value in values.items() if value >= least)
    return {*near} if slack else {near[0]}


def cosine(vector: Float64s, other: Float64s) -> float:
    """Return the cosine of two vectors in float64; 0 where one has no length.

    Args:
        vector: [dim]
        other: [dim]
    """
    first, second = vector.astype(np.float64), other.astype(np.float64)
    # By the largest component first: squares of components of 1e200 or 1e-200 leave the range of float64.
    largest = np.abs(first).max(initial=0.0), np.abs(second).max(initial=0.0)
    if not all(largest):
        return 0.0
    first, second = first / largest[0], second / largest[1]
    return float(first @ second) / float(np.linalg.norm(first) * np.linalg.norm(second))
