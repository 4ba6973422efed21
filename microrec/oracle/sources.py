"""Each fitted model's score of every video for one user, and whether a stored list could be its list."""

from dataclasses import dataclass, replace

import numpy as np

from microrec.core.array_types import Bools, Float64s, Int64s
from microrec.core.fitted import Embeddings, Fitted, NeighbourLists, Trends
from microrec.oracle.inputs import NOTHING, Facts, ListInputs, Stored


@dataclass(frozen=True, eq=False)
class SourceScores:
    """Score of every video for one user by one source.

    Shapes:
        score, slack, must, may: [n_videos]
    """

    score: Float64s
    slack: Float64s
    """By how much the stored score may differ; 0 where it is not a sum."""
    must: Bools
    """Whether the video is proposed if there is room."""
    may: Bools
    """Whether it can be: a sum of about 0 need not be above 0."""
    quotas: tuple[tuple["SourceScores", int], ...] = ()
    """Scores by each trend, and how many places its best videos have whatever the score."""

    def allowed(self, videos: Bools) -> "SourceScores":
        """Return the same of fewer videos.

        Args:
            videos: [n_videos], which to keep.
        """
        quotas = tuple((trend.allowed(videos), n) for trend, n in self.quotas)
        return replace(self, must=self.must & videos, may=self.may & videos, quotas=quotas)

    def best(self, n: int) -> Int64s:
        """Return the n best, equal ones in the order of video_idx. [n]."""
        videos = np.flatnonzero(self.must)
        return videos[np.lexsort((videos, -self.score[videos]))][:n]


def unseen(facts: Facts, user: int) -> Bools:
    """Return the videos that may be proposed to a user.

    Args:
        facts: who has seen what.
        user: user_idx.

    Returns:
        Whether a video may be proposed [n_videos].
    """
    videos = facts.eligible.copy()
    videos[facts.barred.of(user)] = False
    return videos


def score_videos(night: ListInputs, source: str, user: int) -> SourceScores:
    """Return a model's score of every video for a user, seen ones included.

    Args:
        night: has the models.
        source: name of the model.
        user: user_idx.

    Returns:
        Scores and how far a stored one may be off.

    Raises:
        TypeError: the model is a ranking network.
    """
    model: Fitted = night.models[source]
    tolerance = night.rules.oracle.tolerance
    if isinstance(model, NeighbourLists):
        return by_neighbours(model, night.facts, user, tolerance=tolerance)
    if isinstance(model, Embeddings):
        has_row = model.video_known & model.user_known[user]
        return by_vector(model.user[user], night.exact[source], has_row, tolerance=tolerance)
    if isinstance(model, Trends):
        return _by_trends(night, source, model, user)
    raise TypeError(f"source {source} proposes nothing")


def by_vector(
    user: Float64s, videos: Float64s, has_row: Bools, *, tolerance: float
) -> SourceScores:
    """Return inner products.

    Args:
        user: [dim]
        videos: float64 [n_videos, dim]
        has_row: whether the model has a row of the video. [n_videos]
        tolerance: of float32 sums.

    Returns:
        Scores of every video.
    """
    vector = np.asarray(user, dtype=np.float64)
    score = (videos @ vector).astype(np.float32).astype(np.float64)
    slack = tolerance * (np.abs(videos) @ np.abs(vector))
    # A single product is rounded in one way only.
    slack = slack if len(vector) > 1 else np.zeros(len(videos))
    return SourceScores(score, slack, must=has_row, may=has_row)


def by_neighbours(
    model: NeighbourLists, facts: Facts, user: int, *, tolerance: float
) -> SourceScores:
    """Return sums over the neighbours of the user, or over those of the user's videos.

    Args:
        model: the lists.
        facts: who liked what.
        user: user_idx.
        tolerance: of float32 sums.

    Returns:
        Scores of every video.
    """
    n_videos = len(facts.eligible)
    total, size, addends = np.zeros(n_videos), np.zeros(n_videos), np.zeros(n_videos)
    share = np.float32(1.0)
    if model.axis == "user":
        near = slice(model.indptr[user], model.indptr[user + 1])
        for other, similarity in zip(model.neighbour[near], model.similarity[near], strict=True):
            videos = facts.liked.of(int(other))
            weights = _recency(model, facts, int(other))
            total[videos] += similarity * weights
            size[videos] += abs(similarity) * weights
            addends[videos] += 1
    else:
        history, weights = facts.liked.of(user), _recency(model, facts, user)
        share = np.float32(1.0 / (weights.sum() if len(history) else 1.0))
        for video, weight in zip(history, weights, strict=True):
            near = slice(model.indptr[video], model.indptr[video + 1])
            others, similarities = model.neighbour[near], model.similarity[near] * weight
            total[others] += similarities
            size[others] += np.abs(similarities)
            addends[others] += 1
    # A product with a weight is rounded even where nothing is added to it.
    addends += model.history_decay < 1
    score = (total * np.float64(share)).astype(np.float32).astype(np.float64)
    slack = np.where(addends > 1, tolerance * size * float(share), 0.0)
    return SourceScores(score, slack, must=score > slack, may=score > -slack)


def _recency(model: NeighbourLists, facts: Facts, user: int) -> Float64s:
    """Weight of each video a user likes: the decay, once for each liked video watched after it. [n_liked]."""
    return np.array([model.history_decay ** int(s) for s in facts.steps_back.of(user)], np.float64)


def _by_trends(night: ListInputs, source: str, model: Trends, user: int) -> SourceScores:
    """The largest of the inner products with the user's trends, each of which has a quota."""
    tolerance, videos = night.rules.oracle.tolerance, night.exact[source]
    trends = [
        by_vector(vector, videos, model.video_known, tolerance=tolerance)
        for vector in model.user[user][model.trend_known[user]]
    ]
    if not trends:
        nobody = np.zeros(len(videos), dtype=np.bool_)
        return by_vector(model.user[user][0], videos, nobody, tolerance=tolerance)
    quota = int(night.rules.trend_share * night.rules.depth / len(trends))
    return SourceScores(
        score=np.max([trend.score for trend in trends], axis=0),
        slack=np.max([trend.slack for trend in trends], axis=0),
        must=model.video_known,
        may=model.video_known,
        quotas=tuple((trend, quota) for trend in trends),
    )


def settle(
    scored: SourceScores, stored: Stored | None, k: int, *, searched: bool = False
) -> tuple[Stored, bool]:
    """Return a source's list of one user, its ties told apart as the stored one tells them.

    Args:
        scored: scores of the videos that are allowed.
        stored: what the table holds; None: nothing.
        k: length of a list.
        searched: whether the source searches an index, which may miss some of the best.

    Returns:
        The list, and whether it is the stored one.
    """
    witness = stored or NOTHING
    if (is_true if searched else could_be)(scored, witness, k):
        return witness, True
    videos = brute(scored, k)
    return Stored(videos, scored.score[videos].astype(np.float32).astype(np.float64)), False


def brute(scored: SourceScores, k: int) -> Int64s:
    """Return the best k as exact arithmetic has them: the quotas of the trends, then by score.

    Args:
        scored: scores of the videos that are allowed.
        k: length of a list.

    Returns:
        video_idx in the order of the ranks [k or fewer].
    """
    first = [trend.best(n) for trend, n in scored.quotas]
    proposed = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *first]))
    others = np.setdiff1d(np.flatnonzero(scored.must), proposed)
    others = others[np.lexsort((others, -scored.score[others]))]
    listed = np.concatenate([proposed, others])[:k]
    return listed[np.lexsort((listed, -scored.score[listed]))]


def could_be(scored: SourceScores, stored: Stored, k: int) -> bool:
    """Return whether exact arithmetic could have given a stored list, but for ties within the tolerance.

    Args:
        scored: scores of the videos that are allowed.
        stored: the list.
        k: length of a list.
    """
    if not is_true(scored, stored, k):
        return False
    listed = np.zeros(len(scored.score), dtype=np.bool_)
    listed[stored.video] = True
    return _nothing_better(scored, listed, full=len(stored.video) == k)


def is_true(scored: SourceScores, stored: Stored, k: int) -> bool:
    """Return whether a list is as long as it can be and holds no wrong video, score or order.

    It may leave better videos out.

    Args:
        scored: scores of the videos that are allowed.
        stored: the list.
        k: length of a list.
    """
    listed = stored.video
    least, most = min(k, int(scored.must.sum())), min(k, int(scored.may.sum()))
    if not least <= len(listed) <= most or len(np.unique(listed)) < len(listed):
        return False
    if not scored.may[listed].all():
        return False
    if (np.abs(stored.score - scored.score[listed]) > scored.slack[listed]).any():
        return False
    return _in_order(scored, listed)


def recall(scored: SourceScores, stored: Stored, k: int) -> float:
    """Return the share of the best k that a stored list holds, or videos as good; 1 where there is none to find.

    Args:
        scored: scores of the videos that are allowed.
        stored: the list.
        k: length of a list.
    """
    best = scored.best(k)
    if not len(best):
        return 1.0
    low = (scored.score - scored.slack)[best[-1]]
    as_good = stored.video[(scored.score + scored.slack)[stored.video] >= low]
    return min(len(np.unique(as_good)), len(best)) / len(best)


def _in_order(scored: SourceScores, listed: Int64s) -> bool:
    """Whether nothing in a list is surely better than what stands before it."""
    score, slack = scored.score[listed], scored.slack[listed]
    highest = np.minimum.accumulate(score + slack)
    if (highest[:-1] < (score - slack)[1:]).any():
        return False
    exact = listed[slack == 0]
    order = np.lexsort((exact, -scored.score[exact]))
    return bool((order == np.arange(len(exact))).all())


def _nothing_better(scored: SourceScores, listed: Bools, *, full: bool) -> bool:
    """Whether nothing that is left out should have had a place in a list.

    Args:
        scored: of the videos that are allowed.
        listed: whether a video is in the list [n_videos].
        full: whether the list has no more room.
    """
    low, high = scored.score - scored.slack, scored.score + scored.slack
    left = scored.must & ~listed
    if not full:
        return not left.any()
    by_score = listed.copy()  # videos that no quota of a trend has put listed
    for trend, n in scored.quotas:
        surely, perhaps = _within(trend, n)
        if (surely & ~listed).any():
            return False
        by_score &= ~perhaps
    if not left.any() or not by_score.any():
        return True
    if low[left].max() > high[by_score].min():
        return False
    exact_left, exact_in = (
        np.flatnonzero(left & (scored.slack == 0)),
        by_score & (scored.slack == 0),
    )
    if not len(exact_left) or not exact_in.any():
        return True
    best = min((-scored.score[video], video) for video in exact_left)
    last = max((-scored.score[video], video) for video in np.flatnonzero(exact_in))
    return bool(last < best)


def _within(trend: SourceScores, n: int) -> tuple[Bools, Bools]:
    """Which videos are surely, and which perhaps, among the n best of a trend. Both are [n_videos]."""
    videos = np.flatnonzero(trend.may)
    surely = np.zeros(len(trend.may), np.bool_)
    perhaps = np.zeros(len(trend.may), np.bool_)
    if n == 0:
        return surely, perhaps
    low = (trend.score - trend.slack)[videos]
    high = (trend.score + trend.slack)[videos]
    if n >= len(videos):
        surely[videos] = perhaps[videos] = True
        return surely, perhaps
    surely[videos] = low > np.sort(high)[::-1][n]
    perhaps[videos] = high >= np.sort(low)[::-1][n - 1]
    return surely, perhaps
