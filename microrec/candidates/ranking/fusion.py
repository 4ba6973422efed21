"""Fit the weights of the rank fusion to what the users of the held-out day came to like.

Forward selection (Caruana et al., ICML 2004) on NDCG@20: it starts at the recipe's weights, or at the best source
alone where that is better, and takes, step by step, the change of one source's weight that raises the mean most. A
change counts by its mean gain less `caution` standard errors over users, so that a source whose help cannot be told
from noise gets no weight. At the end sources that can go without a loss do.

Weights are cross-fitted: users are dealt into folds, and the trial orders the candidates of a fold by weights that
were fitted on the others, so that what it measures is not what it was fitted to. The final fit has the weights of all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from microrec.candidates.ranking import closed_form
from microrec.candidates.ranking.candidate_union import union
from microrec.core.array_types import Bools, Float64s, Indices, Int64s
from microrec.core.columns import column
from microrec.core.pairs import pack

ALL = 0
"""The fold of the weights that are fitted on everybody."""
DEPTH = 20
"""Places of a list that count."""
LEVELS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Weights that are tried, as parts of the largest."""
PARTS = ((True, True), (True, False), (False, True))
"""Which of a source's two weights (cold, warm) a step changes."""


class Config(BaseModel):
    """How weights are fitted (section `[candidates.fusion]` of the recipe)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folds: int = Field(default=2, ge=2)
    """Parts of the users for whom weights are fitted on the others."""
    least_liked: PositiveInt = 200
    """Liked candidates below which there is no search: the recipe's weights stand, or the one source that is better by
    twice the caution."""
    caution: float = Field(default=1.0, ge=0)
    """Standard errors by which the gain of a step must exceed 0."""
    steps: PositiveInt = 20
    """Changes of a weight, at most."""
    users: PositiveInt = 5000
    """Users, drawn, whose candidates the weights are fitted to."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Candidates of users of whom something liked was proposed, and what they liked.

    Shapes:
        start: [n_users + 1] first pair of each user.
        points: [n_pairs, n_sources], 1 / (c + rank), 0 where the source does not propose the video.
        warmth: [n_users], n / (n + kappa).
        liked: [n_liked] pairs that were liked, ascending.
        ideal: [n_users], DCG of the best order of all that the user liked, proposed or not.
    """

    sources: tuple[str, ...]
    users: Int64s
    start: Int64s
    points: Float64s
    warmth: Float64s
    liked: Int64s
    ideal: Float64s

    def only(self, members: Bools) -> "Evidence":
        """Return the evidence of some users.

        Args:
            members: whom to keep. [n_users]
        """
        counts = np.diff(self.start)
        kept = np.repeat(members, counts)
        position = np.cumsum(kept) - 1
        return Evidence(
            self.sources,
            self.users[members],
            np.concatenate([[0], np.cumsum(counts[members])]),
            self.points[kept],
            self.warmth[members],
            position[self.liked[kept[self.liked]]],
            self.ideal[members],
        )


def evidence(
    sources: Mapping[str, pa.Table],
    *,
    right: tuple[Indices, Indices],
    history: Indices,
    prior: closed_form.Config,
) -> Evidence:
    """Gather what the fit is made of.

    Args:
        sources: `candidates` rows by source, in any order; of users without a right video too.
        right: user_idx and video_idx of what was liked. [n_right] each
        history: positive edges of each user. [n_all_users]
        prior: the constants c and kappa.

    Returns:
        The evidence, users ascending.
    """
    user, video = union(sources)
    liked = np.isin(pack(user, video), pack(*right))
    kept = np.isin(user, user[liked])
    user = user[kept]
    key = pack(user, video[kept])
    points = np.zeros((len(key), len(sources)))
    for place, name in enumerate(sorted(sources)):
        rows = sources[name]
        packed = pack(column(rows, "user_idx"), column(rows, "video_idx"))
        mine = np.isin(packed, key)
        ranks = column(rows, "rank")[mine]
        points[np.searchsorted(key, packed[mine]), place] = 1.0 / (prior.c + ranks)
    users, first = np.unique(user, return_index=True)
    n_right = np.bincount(right[0], minlength=int(users[-1]) + 1 if len(users) else 0)[users]
    gains = np.cumsum(1.0 / np.log2(np.arange(2, DEPTH + 2)))
    return Evidence(
        sources=tuple(sorted(sources)),
        users=users.astype(np.int64),
        start=np.append(first, len(user)).astype(np.int64),
        points=points,
        warmth=history[users] / (history[users] + prior.kappa),
        liked=np.flatnonzero(liked[kept]),
        ideal=gains[np.minimum(n_right, DEPTH) - 1],
    )


def together(parts: Sequence[Evidence]) -> Evidence:
    """Return the evidence of several blocks of users, ascending, as that of all of them.

    Args:
        parts: at least one; all of the same sources.
    """
    n_pairs = np.cumsum([0, *(len(part.points) for part in parts)])
    starts = [part.start[:-1] + offset for part, offset in zip(parts, n_pairs, strict=False)]
    liked = [part.liked + offset for part, offset in zip(parts, n_pairs, strict=False)]
    return Evidence(
        sources=parts[0].sources,
        users=np.concatenate([part.users for part in parts]),
        start=np.append(np.concatenate(starts), n_pairs[-1]).astype(np.int64),
        points=np.concatenate([part.points for part in parts]),
        warmth=np.concatenate([part.warmth for part in parts]),
        liked=np.concatenate(liked).astype(np.int64),
        ideal=np.concatenate([part.ideal for part in parts]),
    )


def fit_folds(
    evidence: Evidence, *, prior: closed_form.Config, config: Config
) -> dict[int, closed_form.Config]:
    """Fit the weights for everybody, and for each fold those fitted on the other folds.

    Args:
        evidence: of the trial.
        prior: the recipe's weights and constants.
        config: folds, and how weights are fitted.

    Returns:
        The closed form by fold, `ALL` among them; the prior where too little was liked.
    """
    fold = closed_form.fold_of(evidence.users, config.folds)
    fitted = {ALL: fit(evidence, prior=prior, config=config)}
    for each in range(1, config.folds + 1):
        fitted[each] = fit(evidence.only(fold != each), prior=prior, config=config)
    return fitted


def fit(evidence: Evidence, *, prior: closed_form.Config, config: Config) -> closed_form.Config:
    """Fit the weights of the sources.

    Args:
        evidence: candidates and what was liked of them.
        prior: the weights where the search starts, and the constants.
        config: how weights are fitted.

    Returns:
        The closed form with a weight for each source, the largest 1; where fewer than `least_liked` candidates were
        liked, the prior or one source alone.
    """
    if not len(evidence.liked):
        return prior
    enough = len(evidence.liked) >= config.least_liked
    search = _Search(evidence, config.caution if enough else 2 * config.caution)
    weights = _start(search, prior)
    if enough:
        weights = _pruned(search, _climbed(search, weights, steps=config.steps))
    chosen = {
        name: closed_form.Weight(cold=round(float(cold), 6), warm=round(float(warm), 6))
        for name, (cold, warm) in zip(evidence.sources, weights, strict=True)
    }
    return closed_form.fitted(prior, chosen)


def worth(evidence: Evidence, folds: Sequence[closed_form.Config]) -> dict[str, Float64s]:
    """Return what each source is worth to the fused lists: their NDCG@20, less that without it, others as they are.

    Args:
        evidence: candidates and what was liked of them.
        folds: the closed form of each fold of users, fold 1 first.

    Returns:
        By source, of each user of the evidence. [n_users] each
    """
    search = _Search(evidence, caution=0.0)
    fold = closed_form.fold_of(evidence.users, len(folds)) - 1
    of_pair = np.repeat(fold, np.diff(evidence.start))
    chosen = [[config.chosen(source) for config in folds] for source in evidence.sources]
    shares = [
        search.share(
            place,
            np.array([weight.cold for weight in weights])[of_pair],
            np.array([weight.warm for weight in weights])[of_pair],
        )
        for place, weights in enumerate(chosen)
    ]
    whole = search.ndcg(np.sum(shares, axis=0))
    return {
        source: whole - search.ndcg(np.sum(shares[:place] + shares[place + 1 :], axis=0))
        for place, source in enumerate(evidence.sources)
        if len(shares) > 1
    }


class _Search:
    """Compares weights, [n_sources, 2] (cold, warm), by the NDCG of each user."""

    def __init__(self, evidence: Evidence, caution: float) -> None:
        """Lay all pairs of its user beside each liked pair."""
        self.evidence = evidence
        self.caution = caution
        counts = np.diff(evidence.start)
        user = np.repeat(np.arange(len(counts)), counts)
        self._warmth = evidence.warmth[user]
        self._owner = user[evidence.liked]
        n_beside = counts[self._owner]
        self._first = np.cumsum(n_beside) - n_beside
        within = np.arange(n_beside.sum()) - np.repeat(self._first, n_beside)
        self._beside = np.repeat(evidence.start[self._owner], n_beside) + within
        self._earlier = self._beside < np.repeat(evidence.liked, n_beside)
        self._n_beside = n_beside

    def scores(self, weights: Float64s) -> Float64s:
        """Return the score of each pair. [n_pairs]."""
        scores = np.zeros(len(self.evidence.points))
        for place, (cold, warm) in enumerate(weights):
            scores += self.share(place, cold, warm)
        return scores

    def ndcg(self, scores: Float64s) -> Float64s:
        """Return NDCG@20 of each user by the scores of the pairs; of equal ones the first stands first. [n_users]."""
        own = scores[self.evidence.liked]
        beside = scores[self._beside]
        repeated = np.repeat(own, self._n_beside)
        above = (beside > repeated) | ((beside == repeated) & self._earlier)
        rank = 1 + np.add.reduceat(above, self._first, dtype=np.int64)
        gains = np.where((rank <= DEPTH) & (own > 0), 1.0 / np.log2(1 + rank), 0.0)
        dcg = np.bincount(self._owner, gains, minlength=len(self.evidence.users))
        return np.asarray(dcg / self.evidence.ideal)

    def best(self, weights: Float64s, changes: Sequence[Float64s]) -> Float64s | None:
        """Return the weights that are better than the present ones by most, None if none are.

        Args:
            weights: the present ones. [n_sources, 2]
            changes: others, [n_sources, 2] each; quickest where few sources differ.
        """
        scores = self.scores(weights)
        now = self.ndcg(scores)
        merits = []
        for change in changes:
            changed = scores.copy()
            for place in np.flatnonzero((change != weights).any(axis=1)).tolist():
                changed += self.share(place, *(change[place] - weights[place]))
            merits.append(self._merit(self.ndcg(changed) - now))
        most = int(np.argmax(merits))
        return changes[most] if merits[most] > 0 else None

    def share(self, place: int, cold: Float64s | float, warm: Float64s | float) -> Float64s:
        """Return what a source adds to the score of each pair by its two weights. [n_pairs]."""
        return np.asarray(
            self.evidence.points[:, place] * (cold + self._warmth * (warm - cold)), dtype=np.float64
        )

    def _merit(self, gain: Float64s) -> float:
        """Mean gain less `caution` standard errors."""
        error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
        return float(gain.mean() - self.caution * error)


def _start(search: _Search, prior: closed_form.Config) -> Float64s:
    """The prior, or the source alone that is better than it by most. [n_sources, 2]."""
    names = search.evidence.sources
    given = [prior.chosen(name) for name in names]
    weights = np.array([[weight.cold, weight.warm] for weight in given])
    if not weights.any():
        weights = np.ones_like(weights)
    alone = [np.eye(len(names))[:, [place, place]] for place in range(len(names))]
    better = search.best(weights, alone)
    return weights / weights.max() if better is None else better


def _climbed(search: _Search, weights: Float64s, *, steps: int) -> Float64s:
    """The weights after the steps that are worth it. [n_sources, 2]."""
    for _ in range(steps):
        better = search.best(weights, _changes(weights))
        if better is None:
            break
        weights = better / better.max()
    return weights


def _changes(weights: Float64s) -> list[Float64s]:
    """All weights that differ in one source. [n_sources, 2] each."""
    changes = []
    for place in range(len(weights)):
        for part in PARTS:
            for level in LEVELS:
                change = weights.copy()
                change[place, list(part)] = level
                if change.any() and not np.array_equal(change, weights):
                    changes.append(change)
    return changes


def _pruned(search: _Search, weights: Float64s) -> Float64s:
    """The weights without sources that can go without a loss, the lightest first. [n_sources, 2]."""
    value = search.ndcg(search.scores(weights)).mean()
    for place in np.argsort(weights.max(axis=1), kind="stable"):
        without = weights.copy()
        without[place] = 0.0
        kept = search.ndcg(search.scores(without)).mean() if without.any() else -1.0
        if kept >= value:
            weights = without
            value = kept
    return np.asarray(weights / weights.max())
