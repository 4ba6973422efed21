"""What each fitted model says of every video to one user, and whether a stored list could be its list."""

from dataclasses import dataclass, replace

import numpy as np

from microrec.core.array_types import Bools, Float64s, Int64s
from microrec.core.fitted import Embeddings, Fitted, NeighbourLists, Trends
from microrec.oracle.inputs import NOTHING, Facts, ListInputs, Stored


@dataclass(frozen=True, eq=False)
class Told:
    """What a source says of every video to one user.

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
    quotas: tuple[tuple["Told", int], ...] = ()
    """What each trend says, and how many places its best videos have whatever the score."""

    def allowed(self, videos: Bools) -> "Told":
        """The same of fewer videos [n_videos]."""
        quotas = tuple((one.allowed(videos), n) for one, n in self.quotas)
        return replace(self, must=self.must & videos, may=self.may & videos, quotas=quotas)

    def best(self, n: int) -> Int64s:
        """The n best, equal ones in the order of video_idx."""
        videos = np.flatnonzero(self.must)
        return videos[np.lexsort((videos, -self.score[videos]))][:n]


def unseen(facts: Facts, user: int) -> Bools:
    """The videos that may be proposed to a user. [n_videos]."""
    videos = facts.eligible.copy()
    videos[facts.barred.of(user)] = False
    return videos


def told(night: ListInputs, source: str, user: int) -> Told:
    """What a model says of every video, seen ones included."""
    model: Fitted = night.models[source]
    tolerance = night.rules.oracle.tolerance
    if isinstance(model, NeighbourLists):
        return by_neighbours(model, night.facts, user, tolerance=tolerance)
    if isinstance(model, Embeddings):
        known = model.video_known & model.user_known[user]
        return by_vector(model.user[user], night.exact[source], known, tolerance=tolerance)
    if isinstance(model, Trends):
        return _by_trends(night, source, model, user)
    raise TypeError(f"source {source} proposes nothing")


def by_vector(user: Float64s, videos: Float64s, known: Bools, *, tolerance: float) -> Told:
    """Inner products.

    Args:
        user: [dim]
        videos: float64 [n_videos, dim]
        known: [n_videos]
        tolerance: of float32 sums.
    """
    vector = np.asarray(user, dtype=np.float64)
    score = (videos @ vector).astype(np.float32).astype(np.float64)
    slack = tolerance * (np.abs(videos) @ np.abs(vector))
    # A single product is rounded in one way only.
    slack = slack if len(vector) > 1 else np.zeros(len(videos))
    return Told(score, slack, must=known, may=known)


def by_neighbours(model: NeighbourLists, facts: Facts, user: int, *, tolerance: float) -> Told:
    """Sums over the neighbours of the user, or over those of the user's videos.

    Args:
        model: the lists.
        facts: who liked what.
        user: user_idx.
        tolerance: of float32 sums.
    """
    n_videos = len(facts.eligible)
    total, size, addends = np.zeros(n_videos), np.zeros(n_videos), np.zeros(n_videos)
    share = np.float32(1.0)
    if model.axis == "user":
        near = slice(model.indptr[user], model.indptr[user + 1])
        for other, similarity in zip(model.neighbour[near], model.similarity[near], strict=True):
            videos = facts.liked.of(int(other))
            total[videos] += similarity
            size[videos] += abs(similarity)
            addends[videos] += 1
    else:
        history = facts.liked.of(user)
        share = np.float32(1.0 / max(len(history), 1))
        for video in history:
            near = slice(model.indptr[video], model.indptr[video + 1])
            others, similarities = model.neighbour[near], model.similarity[near]
            total[others] += similarities
            size[others] += np.abs(similarities)
            addends[others] += 1
    score = (total * np.float64(share)).astype(np.float32).astype(np.float64)
    slack = np.where(addends > 1, tolerance * size * float(share), 0.0)
    return Told(score, slack, must=score > slack, may=score > -slack)


def _by_trends(night: ListInputs, source: str, model: Trends, user: int) -> Told:
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
    return Told(
        score=np.max([one.score for one in trends], axis=0),
        slack=np.max([one.slack for one in trends], axis=0),
        must=model.video_known,
        may=model.video_known,
        quotas=tuple((one, quota) for one in trends),
    )


def settle(
    said: Told, stored: Stored | None, k: int, *, searched: bool = False
) -> tuple[Stored, bool]:
    """A source's list of one user, its ties told apart as the stored one tells them.

    Args:
        said: of the videos that are allowed.
        stored: what the table holds.
        k: length of a list.
        searched: whether the source searches an index, which may miss some of the best.

    Returns:
        The list, and whether it is the stored one.
    """
    witness = stored or NOTHING
    if (is_true if searched else could_be)(said, witness, k):
        return witness, True
    videos = brute(said, k)
    return Stored(videos, said.score[videos].astype(np.float32).astype(np.float64)), False


def brute(said: Told, k: int) -> Int64s:
    """The best k as exact arithmetic has them: the quotas of the trends, then by score. video_idx in order."""
    first = [one.best(n) for one, n in said.quotas]
    proposed = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *first]))
    others = np.setdiff1d(np.flatnonzero(said.must), proposed)
    others = others[np.lexsort((others, -said.score[others]))]
    listed = np.concatenate([proposed, others])[:k]
    return listed[np.lexsort((listed, -said.score[listed]))]


def could_be(said: Told, stored: Stored, k: int) -> bool:
    """Whether exact arithmetic could have given a stored list, but for ties within the tolerance.

    Args:
        said: of the videos that are allowed.
        stored: the list.
        k: length of a list.
    """
    if not is_true(said, stored, k):
        return False
    there = np.zeros(len(said.score), dtype=np.bool_)
    there[stored.video] = True
    return _nothing_better(said, there, full=len(stored.video) == k)


def is_true(said: Told, stored: Stored, k: int) -> bool:
    """Whether a list is as long as it can be and holds no wrong video, score or order; it may leave better ones out.

    Args:
        said: of the videos that are allowed.
        stored: the list.
        k: length of a list.
    """
    listed = stored.video
    least, most = min(k, int(said.must.sum())), min(k, int(said.may.sum()))
    if not least <= len(listed) <= most or len(np.unique(listed)) < len(listed):
        return False
    if not said.may[listed].all():
        return False
    if (np.abs(stored.score - said.score[listed]) > said.slack[listed]).any():
        return False
    return _in_order(said, listed)


def recall(said: Told, stored: Stored, k: int) -> float:
    """Share of the best k that a stored list holds, or videos as good; 1 where there is none to find.

    Args:
        said: of the videos that are allowed.
        stored: the list.
        k: length of a list.
    """
    best = said.best(k)
    if not len(best):
        return 1.0
    low = (said.score - said.slack)[best[-1]]
    mine = stored.video[(said.score + said.slack)[stored.video] >= low]
    return min(len(np.unique(mine)), len(best)) / len(best)


def _in_order(said: Told, listed: Int64s) -> bool:
    """Whether nothing in a list is surely better than what stands before it."""
    score, slack = said.score[listed], said.slack[listed]
    highest = np.minimum.accumulate(score + slack)
    if (highest[:-1] < (score - slack)[1:]).any():
        return False
    exact = listed[slack == 0]
    order = np.lexsort((exact, -said.score[exact]))
    return bool((order == np.arange(len(exact))).all())


def _nothing_better(said: Told, there: Bools, *, full: bool) -> bool:
    """Whether nothing that is left out should have had a place in a list.

    Args:
        said: of the videos that are allowed.
        there: whether a video is in the list [n_videos].
        full: whether the list has no more room.
    """
    low, high = said.score - said.slack, said.score + said.slack
    left = said.must & ~there
    if not full:
        return not left.any()
    by_score = there.copy()  # who has no trend's quota to thank
    for one, n in said.quotas:
        surely, perhaps = _within(one, n)
        if (surely & ~there).any():
            return False
        by_score &= ~perhaps
    if not left.any() or not by_score.any():
        return True
    if low[left].max() > high[by_score].min():
        return False
    exact_left, exact_in = np.flatnonzero(left & (said.slack == 0)), by_score & (said.slack == 0)
    if not len(exact_left) or not exact_in.any():
        return True
    best = min((-said.score[video], video) for video in exact_left)
    last = max((-said.score[video], video) for video in np.flatnonzero(exact_in))
    return bool(last < best)


def _within(one: Told, n: int) -> tuple[Bools, Bools]:
    """Which videos are surely, and which perhaps, among the n best of a trend. Both are [n_videos]."""
    videos = np.flatnonzero(one.may)
    surely, perhaps = np.zeros(len(one.may), np.bool_), np.zeros(len(one.may), np.bool_)
    if n == 0:
        return surely, perhaps
    low = (one.score - one.slack)[videos]
    high = (one.score + one.slack)[videos]
    if n >= len(videos):
        surely[videos] = perhaps[videos] = True
        return surely, perhaps
    surely[videos] = low > np.sort(high)[::-1][n]
    perhaps[videos] = high >= np.sort(low)[::-1][n - 1]
    return surely, perhaps
