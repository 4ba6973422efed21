"""The learned blend: the probability that a user likes a proposed video, from the scores of all sources.

It starts from the closed form and corrects it:

    log odds(u, v) = offset + slope x log(closed_form(u, v)) + trees(u, v)

Slope and offset are a logistic regression on the examples; the trees are boosted on top of it (LightGBM; Ke et al.,
NeurIPS 2017). So with few trees the order is nearly that of the closed form, which is as accurate where there is little
to learn from, and lists as many different videos. The trees read the rank and score of a pair in every source, and
facts of the user and the video:

    points_<source>     1 / (c + rank), 0 where the source does not propose the video
    score_<source>      the source's score as a z-score within the user's list; a video it does not
                        propose has the least of the list
    closed_form         the points of `ranking.closed_form`
    history             the user's positive edges (capped)
    place, place_last_day
                        -log(1 + videos with more positive viewers), all days and the last one: a
                        place, not a count, as days and windows are not equally busy
    age_days            since publication; missing where that is not known

More points or a better score of a source never make a video less likely (monotone constraints), so that the effect of
each source can be read off.

Examples are whole earlier nights: their trial candidates, and what their held-out day came to like. What a held-out day
likes is for a good part a matter of which videos that day is about: a blend that is taught by one day and tested on
other users of the same day looks much better than it is. With fewer than `least_nights` nights the closed form stands.
"""

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from microrec.candidates.ranking import closed_form
from microrec.candidates.ranking.candidate_union import by_score, union
from microrec.core.array_types import Bools, Float32s, Float64s, Floats, Indices, Int64s
from microrec.core.columns import column
from microrec.core.fits import splits_of
from microrec.core.knowledge import Knowledge, age_days, positive_viewers
from microrec.core.pairs import pack
from microrec.core.trees import REPRODUCIBLE
from microrec.errors import MicrorecError

Matrix = Float32s

SOURCE = "hybrid"
"""The source of `candidates` that holds the learned order, and the name of the artefact."""
FILE = "blend.txt"
START = "start.json"
OF_SOURCES = ("points_", "score_")
CLOSED_FORM = "closed_form"
OF_PAIRS = ("history", "place", "place_last_day", "age_days")
MOST_HISTORY = 50.0
LEAST = 1e-6
"""A chance is at least this, so that every scored video counts as personal."""
LEAST_POINTS = 1e-4
"""Points of the closed form are at least this: a source without weight gives none, and none has no logarithm."""
STEPS = 25
"""Steps of Newton's method, at most, that fit slope and offset."""


class Config(BaseModel):
    """How the blend is learned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nights: int = Field(default=7, ge=0)
    """Held-out days learned from, at most, the newest first; 0 = always the closed form."""
    least_nights: PositiveInt = 2
    """Held-out days below which the closed form stands."""
    least_positives: PositiveInt = 300
    """Liked candidates below which the closed form stands."""
    negatives: float = Field(default=0.25, gt=0, le=1)
    """Share of the candidates nobody liked that is learned from."""
    trees: PositiveInt = 25
    """Number of trees."""
    leaves: int = Field(default=4, ge=2)
    """Leaves of a tree."""
    learning_rate: PositiveFloat = 0.05
    """Shrinkage of each tree."""
    least_in_leaf: PositiveInt = 200
    """Candidates a leaf must hold."""
    l2: float = Field(default=10.0, ge=0)
    """Ridge penalty on the leaves."""
    block_users: PositiveInt = 4096
    """Users whose candidates are held at a time, about 100 bytes a candidate; does not change the lists."""
    explained: PositiveInt = 2000
    """Users, drawn, of whose candidates the weights are told."""


@dataclass(frozen=True, eq=False)
class Blend:
    """The learned blend: the closed form, and the trees that correct it."""

    trees: lightgbm.Booster
    slope: float
    """Log odds for each step of the logarithm of the closed form's points; at least 0."""
    offset: float
    """Log odds where that logarithm is 0, corrected for the share of candidates that was learned from."""

    @property
    def names(self) -> list[str]:
        """Names of the features that it reads, in order."""
        return list(self.trees.feature_name())

    def log_odds(self, values: Matrix) -> Float64s:
        """Return the log odds that pairs are liked, among users who like something.

        Args:
            values: features of the pairs. [n_pairs, n_features]

        Returns:
            [n_pairs]
        """
        if not len(values):  # LightGBM judges no empty array
            return np.zeros(0)
        raised: Float64s = np.asarray(self.trees.predict(values, raw_score=True))
        return self.start(values) + raised

    def chances(self, values: Matrix) -> Float64s:
        """Return the chances that pairs are liked, in (0, 1), likewise. [n_pairs]."""
        return np.asarray(1.0 / (1.0 + np.exp(-self.log_odds(values))))

    def start(self, values: Matrix) -> Float64s:
        """Return the log odds by the closed form alone. [n_pairs].

        Args:
            values: features of the pairs. [n_pairs, n_features]
        """
        points = log_points(values[:, self.names.index(CLOSED_FORM)])
        return np.asarray(self.offset + self.slope * points, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Facts:
    """What a fit knows of users and videos.

    Shapes:
        history: [n_users] positive edges.
        video: [n_videos, 3], the columns of `OF_PAIRS` after the first.
    """

    history: Int64s
    video: Matrix


@dataclass(frozen=True, eq=False)
class Pairs:
    """Candidates of users, ready to be scored.

    Shapes:
        user, video: [n_pairs], sorted by both.
        values: [n_pairs, n_features], in the order of `names(sources)`.
    """

    user: Indices
    video: Indices
    values: Matrix
    sources: tuple[str, ...]
    """In name order."""

    @property
    def names(self) -> list[str]:
        """Names of the features, in order."""
        return names(self.sources)


@dataclass(frozen=True, eq=False)
class Examples:
    """Candidates with known outcome.

    Shapes:
        values: [n_examples, n_features].
        liked: [n_examples].
    """

    values: Matrix
    liked: Bools


def facts(
    edges: pa.Table, videos: pa.Table, *, known: Knowledge, fit: str, until: dt.datetime
) -> Facts:
    """Return the features of users and videos that do not depend on a source.

    Args:
        edges: `watch_edges` of the day; splits the fit may not see are ignored.
        videos: `video_nodes` of the day.
        known: what the fit has seen.
        fit: trial or final.
        until: the first instant that the fit does not see.

    Returns:
        Histories [n_users] and features of videos [n_videos, 3].
    """
    last = positive_viewers(edges, splits_of(fit)[-1], n_videos=videos.num_rows)
    columns = [_place(known.likers), _place(last), age_days(videos, until)]
    return Facts(known.history, np.stack(columns, axis=1).astype(np.float32))


def _place(viewers: Indices) -> Float64s:
    """0 for the most viewed video, the less the more videos have more viewers. [n_videos]."""
    return -np.log1p(len(viewers) - np.searchsorted(np.sort(viewers), viewers, side="right"))


def names(sources: Sequence[str]) -> list[str]:
    """Return the names of the features, in order, for sources in any order."""
    of_sources = [kind + source for source in sorted(sources) for kind in OF_SOURCES]
    return [*of_sources, CLOSED_FORM, *OF_PAIRS]


def in_blocks(sources: Mapping[str, pa.Table], *, size: int) -> Iterator[dict[str, pa.Table]]:
    """Cut candidates into blocks of `size` users, in the order of user_idx.

    The features of a pair depend on its user's lists alone, so the pairs of all blocks are those of all candidates.

    Args:
        sources: `candidates` rows by source, in any order.
        size: users of a block, at most.

    Yields:
        The rows of a block by source; once, empty, if there are no candidates.
    """
    ordered = {name: rows.sort_by("user_idx") for name, rows in sources.items()}
    user = {name: column(rows, "user_idx") for name, rows in ordered.items()}
    users = np.unique(np.concatenate([np.empty(0, dtype=np.int32), *user.values()]))
    if not len(users):
        yield ordered
    for start in range(0, len(users), size):
        low = users[start]
        high = users[min(start + size, len(users)) - 1]
        block = {}
        for name, rows in ordered.items():
            first = np.searchsorted(user[name], low, side="left")
            last = np.searchsorted(user[name], high, side="right")
            block[name] = rows.slice(first, last - first)
        yield block


def pairs(sources: Mapping[str, pa.Table], *, facts: Facts, closed: closed_form.Weights) -> Pairs:
    """Return every pair that some source proposes, with its features.

    Args:
        sources: `candidates` rows by source, in any order.
        facts: features of users and videos.
        closed: the closed form.

    Returns:
        Pairs sorted by user and video, features [n_pairs, n_features].
    """
    user, video = union(sources)
    key = pack(user, video)
    start = np.searchsorted(user, user)  # of each pair's user
    columns = []
    points = np.zeros(len(key))
    for name in sorted(sources):
        rows = sources[name]
        at = np.searchsorted(key, pack(column(rows, "user_idx"), column(rows, "video_idx")))
        given = np.zeros(len(key))
        given[at] = 1.0 / (closed.c + column(rows, "rank"))
        points += closed.weight(name, users=user, history=facts.history[user]) * given
        columns += [given, _standard(at, column(rows, "score").astype(np.float64), start)]
    columns += [points, np.minimum(facts.history[user], MOST_HISTORY), *facts.video[video].T]
    values = np.stack(columns, axis=1).astype(np.float32)
    return Pairs(user, video, values, tuple(sorted(sources)))


def _standard(at: Indices, scores: Float64s, start: Indices) -> Float64s:
    """A source's scores as z-scores within each user's list; who is not in it gets its least.

    Args:
        at: [n_rows] pair of each row of the source.
        scores: [n_rows].
        start: [n_pairs] first pair of each pair's user.
    """
    n = len(start)
    first = start[at]
    count = np.maximum(np.bincount(first, minlength=n), 1)
    mean = np.bincount(first, scores, minlength=n) / count
    spread = np.sqrt(np.bincount(first, (scores - mean[first]) ** 2, minlength=n) / count)
    standard = (scores - mean[first]) / np.where(spread > 0, spread, 1.0)[first]
    least = np.zeros(n)
    np.minimum.at(least, first, standard)
    all_of = least[start]
    all_of[at] = standard
    return all_of


def liked(candidates: Pairs, users: Indices, videos: Indices) -> Bools:
    """Return which pairs came to be liked.

    Args:
        candidates: with their features.
        users: user_idx of the pairs that were liked. [n_right]
        videos: video_idx of these. [n_right]

    Returns:
        True where a candidate is one of these pairs. [n_pairs]
    """
    return np.isin(pack(candidates.user, candidates.video), pack(users, videos))


def examples(
    candidates: Pairs, right: Bools, *, config: Config, rng: np.random.Generator
) -> Examples:
    """Draw the examples of one night: every liked candidate, and a share of the rest of the same users.

    Users who came to like none of their candidates say nothing about the order of a list.

    Args:
        candidates: the trial's candidates.
        right: which of them the held-out day liked. [n_pairs]
        config: the share.
        rng: draws the others.

    Returns:
        Features and outcomes, [n_examples, n_features] and [n_examples], in the order of the candidates.
    """
    of_likers = np.isin(candidates.user, candidates.user[right])
    kept = of_likers & (right | (rng.random(len(right)) < config.negatives))
    return Examples(candidates.values[kept], right[kept])


def together(parts: Sequence[Examples]) -> Examples:
    """Return the examples of several blocks of users as those of one night, in their order."""
    values = [part.values for part in parts]
    outcomes = [part.liked for part in parts]
    return Examples(np.concatenate(values), np.concatenate(outcomes))


def fit(nights: Sequence[Examples], sources: Sequence[str], *, config: Config) -> Blend | None:
    """Learn the blend from the examples of earlier nights.

    Args:
        nights: examples of each night.
        sources: names of the sources.
        config: size and number of the trees, and the least number of nights and of liked candidates.

    Returns:
        The blend; None where nights or liked candidates are too few, or everything was liked.
    """
    if len(nights) < config.least_nights:
        return None
    outcomes = np.concatenate([night.liked for night in nights])
    if outcomes.sum() < config.least_positives or outcomes.all():
        return None
    features = names(sources)
    rising = [int(name.startswith(OF_SOURCES) or name == CLOSED_FORM) for name in features]
    options = {
        "objective": "binary",
        "boost_from_average": False,
        "num_leaves": config.leaves,
        "learning_rate": config.learning_rate,
        "min_data_in_leaf": config.least_in_leaf,
        "lambda_l2": config.l2,
        "monotone_constraints": rising,
        **REPRODUCIBLE,
    }
    values = np.concatenate([night.values for night in nights])
    points = log_points(values[:, features.index(CLOSED_FORM)])
    slope, offset = logistic(points, outcomes)
    data = lightgbm.Dataset(
        values,
        outcomes.astype(np.int8),
        feature_name=features,
        init_score=offset + slope * points,
    )
    trees = lightgbm.train(options, data, num_boost_round=config.trees)
    return Blend(trees, slope, offset + float(np.log(config.negatives)))


def log_points(points: Floats) -> Float64s:
    """Return the logarithm of the closed form's points. [n_pairs]."""
    return np.log(np.maximum(points.astype(np.float64), LEAST_POINTS))


def logistic(values: Float64s, outcomes: Bools) -> tuple[float, float]:
    """Fit a logistic regression on one value, by Newton's method with a ridge of 1: equal values have no slope.

    Args:
        values: [n]
        outcomes: of both kinds there are some. [n]

    Returns:
        Slope, at least 0, and offset.
    """
    rate = outcomes.mean()
    level = float(np.log(rate / (1.0 - rate)))
    middle = float(values.mean())
    centred = values - middle
    theta = np.array([level, 0.0])
    for _ in range(STEPS):
        chance = 1.0 / (1.0 + np.exp(-(theta[0] + theta[1] * centred)))
        miss = outcomes - chance
        weight = chance * (1.0 - chance)
        gradient = np.array([miss.sum(), miss @ centred - theta[1]])
        curvature = np.array(
            [
                [weight.sum(), weight @ centred],
                [weight @ centred, weight @ (centred * centred) + 1.0],
            ]
        )
        step = np.linalg.solve(curvature, gradient)
        theta += step
        if np.abs(step).max() < 1e-10:
            break
    if not np.isfinite(theta).all() or theta[1] <= 0:
        return 0.0, level
    return float(theta[1]), float(theta[0] - theta[1] * middle)


def order(blend: Blend, candidates: Pairs, *, k: int) -> pa.Table:
    """Return the best `k` candidates of each user by the learned probability, of equal ones by the closed form.

    Args:
        blend: the learned blend.
        candidates: with their features.
        k: length of a list.

    Returns:
        `candidates` rows; the score is the probability, in (0, 1].
    """
    chance = np.maximum(blend.chances(candidates.values), LEAST)
    closed = candidates.values[:, blend.names.index(CLOSED_FORM)]
    return by_score(candidates.user, candidates.video, chance, k=k, then=closed)


def effects(blend: Blend, candidates: Pairs) -> dict[str, Float64s]:
    """Return what each source adds to the log odds of each pair (SHAP values of trees; Lundberg et al. 2020).

    The effect of the closed form, which the blend starts from, counts under its own name, that of the facts of user
    and video under `known`.

    Args:
        blend: the learned blend.
        candidates: with their features.

    Returns:
        Log odds by name. [n_pairs] each
    """
    contributions = np.zeros(candidates.values.shape)
    if len(contributions):  # LightGBM explains no empty array
        contributions = np.asarray(blend.trees.predict(candidates.values, pred_contrib=True))[
            :, :-1
        ]
    groups = {CLOSED_FORM: blend.start(candidates.values)}
    for feature, name in enumerate(blend.names):
        group = name.split("_", 1)[1] if name.startswith(OF_SOURCES) else name
        group = "known" if name in OF_PAIRS else group
        groups[group] = groups.get(group, 0.0) + contributions[:, feature]
    return groups


def closed_effects(
    candidates: Pairs, closed: closed_form.Weights, *, history: Indices
) -> dict[str, Float64s]:
    """Return the points each source adds to each pair in the closed form.

    Args:
        candidates: with their features.
        closed: the closed form.
        history: positive edges of each user. [n_users]

    Returns:
        Points by source. [n_pairs] each
    """
    users = candidates.user
    effects = {}
    for name in candidates.sources:
        points = candidates.values[:, candidates.names.index(f"points_{name}")]
        effects[name] = closed.weight(name, users=users, history=history[users]) * points
    return effects


def weights(
    effects: Mapping[str, Float64s],
    user: Indices,
    *,
    history: Indices,
    buckets: Sequence[tuple[str, int, int | None]],
) -> pa.Table:
    """Return how far each source spreads a user's candidates apart, as a share, by history.

    Args:
        effects: what a source adds to each pair. [n_pairs] by name.
        user: user_idx of each pair, ascending. [n_pairs]
        history: positive edges of each user. [n_users]
        buckets: name, least and most positive edges.

    Returns:
        One row per (bucket, source): bucket, source, weight (shares of a bucket add up to 1) and users; buckets without
        users are absent.
    """
    users, start, count = np.unique(user, return_index=True, return_counts=True)
    spread = np.zeros((len(users), len(effects)))
    for feature, name in enumerate(sorted(effects)):
        mean = np.add.reduceat(effects[name], start) / count
        square = np.add.reduceat((effects[name] - np.repeat(mean, count)) ** 2, start)
        spread[:, feature] = np.sqrt(square / count)
    parts = []
    for bucket, least, most in buckets:
        n = history[users]
        members = (n >= least) & (n <= (np.inf if most is None else most))
        total = spread[members].sum(axis=0)
        if not members.any() or not total.sum():
            continue
        columns = {
            "bucket": pa.array([bucket] * len(effects), pa.string()),
            "source": pa.array(sorted(effects), pa.string()),
            "weight": pa.array(total / total.sum(), pa.float64()),
            "users": pa.array([int(members.sum())] * len(effects), pa.int64()),
        }
        parts.append(pa.table(columns))
    return pa.concat_tables(parts) if parts else _no_weights()


def save(blend: Blend, folder: Path) -> None:
    """Write the blend into an artefact folder: the trees as LightGBM's own text, slope and offset as JSON.

    Args:
        blend: the blend.
        folder: of the artefact; it exists.
    """
    (folder / FILE).write_text(blend.trees.model_to_string())
    (folder / START).write_text(json.dumps({"slope": blend.slope, "offset": blend.offset}))


def load(folder: Path, sources: Sequence[str]) -> Blend:
    """Read the blend of an artefact folder.

    Args:
        folder: of the artefact.
        sources: names of the sources whose candidates will be scored.

    Returns:
        The blend; one of an older night, which did not start from the closed form, has the slope 0.

    Raises:
        MicrorecError: it was learned from other sources.
    """
    trees = lightgbm.Booster(model_str=(folder / FILE).read_text())
    if trees.feature_name() != names(sources):
        raise MicrorecError(
            f"artefact {folder}: learned from {trees.feature_name()}, asked for {names(sources)}"
        )
    start = folder / START
    numbers = json.loads(start.read_text()) if start.exists() else {"slope": 0.0, "offset": 0.0}
    return Blend(trees, **numbers)


def _no_weights() -> pa.Table:
    kinds = {"bucket": pa.string(), "source": pa.string(), "weight": pa.float64()}
    return pa.schema({**kinds, "users": pa.int64()}.items()).empty_table()
