"""How good the lists of fitted models are: the one harness of the benchmarks of quality.

A `Case` says who is asked, what is right and what is masked (set to -inf). Lists come from
`microrec.candidates.retrieval`, per-user figures from `microrec.evaluation.ranking` (PyG's), so a
benchmark measures what the pipeline would publish. All eligible videos are ranked, none is sampled.

* Several seeds: the value is the mean over the seeds, `recall@20 sd` (of all users together) their
  standard deviation.
* Interval: 95 % percentile bootstrap over users of the seed-averaged figures of each user. All
  models of a table share the resamples, so differences (`a - b`) are paired. Over several nights
  the mean is over all (night, user) pairs, and a user is resampled with all nights.
* Ties: retrieval gives equal scores in the order of video_idx. A benchmark therefore numbers its
  videos `in_hash_order` of their ids: the order of ties is the order of the hashes, which says
  nothing about popularity, age or the order of a file (microrec/models/README.md, section 2.1).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeFloat
from scipy import sparse

from microrec.candidates.retrieval import exact
from microrec.core.fitted import Embeddings, Fitted, Trained
from microrec.core.knowledge import Knowledge
from microrec.evaluation import ranking
from microrec.evaluation.truth import BUCKETS, Truth
from microrec.models.basic import content, popularity
from microrec.models.inputs.graph_arrays import Graph
from microrec.models.neighbours import video_neighbours
from tests.benchmarks.report import Row, row

K = 50
"""Length of the lists."""
CUTS = (10, 20, 50)
ACCURACY = (
    *(f"recall@{k}" for k in CUTS),
    *(f"ndcg@{k}" for k in CUTS),
    "hit_ratio@20",
    "mrr@20",
)
PAIRED = ("recall@20", "ndcg@20")
"""Metrics of which differences are told."""
BEYOND = {"coverage@20": "share", "gini@20": "", "popularity_lift@20": "x"}
"""Metrics of all lists together, with their units."""
SOME_HISTORY = "history>0"
GROUPS = ((SOME_HISTORY, 1, None), *BUCKETS)
"""Users by positive edges before: name, least, most."""
PARTS = ("", *(f" {name}" for name, *_ in GROUPS), " cold_videos")
"""What `parts` may name, in its order."""
RESAMPLES = 1000
CELLS = 8_000_000

Listed = NDArray[np.int64]
"""The first K videos of each evaluated user, n_videos where there is none. [n_evaluated, K]."""
Lists = Mapping[str, Sequence[Listed]]
"""By model, one per seed."""


@dataclass(frozen=True, eq=False)
class Case:
    """Who is asked, what is right, and what the fit knows and is therefore masked."""

    split: str
    truth: Truth
    known: Knowledge


def in_hash_order(ids: Sequence[Any]) -> list[Any]:
    """The ids in the order of the MD5 of their text: video_idx = place in this list."""
    return sorted(ids, key=lambda one: hashlib.md5(str(one).encode()).digest())


def truth(
    pairs: NDArray[np.int64], *, history: NDArray[np.int64], viewers: NDArray[np.int64],
    eligible: NDArray[np.bool_],
) -> Truth:  # fmt: skip
    """What is right.

    Args:
        pairs: distinct (user_idx, video_idx) [n_pairs, 2]; users beyond `history` have none.
        history: positive edges of the fit by user.
        viewers: positive edges of the fit by video.
        eligible: may be recommended [n_videos].
    """
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    users, row_ = np.unique(pairs[:, 0], return_inverse=True)
    padded = np.concatenate([history, np.zeros(int(users[-1]) + 1, dtype=np.int64)])
    return Truth(users, row_, pairs[:, 1], padded[users], viewers, eligible)


def lists_of(fitted: Any, case: Case, *, k: int = K) -> Listed:
    """The best k videos of each evaluated user, filled up with the most viewed."""
    asked = case.truth.users[case.truth.users < case.known.positives.shape[0]]
    given = {"users": asked, "known": case.known, "k": k, "config": exact.Config()}
    if isinstance(fitted, Fitted):
        rows = exact.best(fitted, **given)
        return filled(ranking.matrix(rows, case.truth, k=k), case)
    return filled(_by_scores(fitted, asked, case, k), case)


def filled(listed: Listed, case: Case) -> Listed:
    """Empty places taken by the most viewed videos that are left, as the night's ladder fills them."""
    known, n_videos = case.known, case.known.n_videos
    viewers = np.asarray(known.positives.sum(axis=0), dtype=np.float32)  # [1, n_videos]
    short = np.flatnonzero((listed == n_videos).any(axis=1))
    for block in exact.blocks(short, n_videos=n_videos, block_cells=CELLS):
        mine, users = listed[block], case.truth.users[block]
        scores = np.tile(viewers, (len(block), 1))
        scores[:, ~known.eligible] = -np.inf
        numbered = users < known.positives.shape[0]
        masked = scores[numbered]
        known.mask(masked, users[numbered])
        scores[numbered] = masked
        rows, places = np.nonzero(mine < n_videos)
        scores[rows, mine[rows, places]] = -np.inf
        rows, videos, ranks = exact.top(scores, mine.shape[1])
        places = (mine < n_videos).sum(axis=1)[rows] + ranks - 1
        inside = places < mine.shape[1]
        mine[rows[inside], places[inside]] = videos[inside]
        listed[block] = mine
    return listed


def _by_scores(fitted: Any, asked: NDArray[np.int64], case: Case, k: int) -> Listed:
    """The same for a model that only scores whole rows, as `Blend` does."""
    n_videos = case.known.n_videos
    listed = np.full((len(case.truth.users), k), n_videos, dtype=np.int64)
    for block in exact.blocks(asked, n_videos=n_videos, block_cells=CELLS):
        scores = fitted.scores(block, case.known)
        case.known.mask(scores, block)
        rows, videos, ranks = exact.top(scores, k)
        listed[np.searchsorted(case.truth.users, block)[rows], ranks - 1] = videos
    return listed


def recall(listed: Listed, right: Truth, *, k: int = 20) -> float:
    """Mean recall@k: what configurations are chosen by."""
    _, metrics, values = ranking.per_user({"": listed}, right, (k,))
    return float(values[:, 0, metrics.index(f"recall@{k}")].mean())


@dataclass(frozen=True, eq=False)
class Figures:
    """What the users of one part got from each model.

    Shapes:
        who: [n_rows] the user of each row; over several nights a user may have several rows.
        values: by model [n_seeds, n_rows, n_metrics], metrics in the order of ACCURACY.
    """

    who: NDArray[Any]
    values: Mapping[str, NDArray[np.float64]]


def rows(benchmark: str, split: str, lists: Lists, right: Truth) -> list[Row]:
    """All figures of all models on one part: overall, by history, for cold videos, and paired.

    Args:
        benchmark: name of the benchmark.
        split: `val`, `test`, a day.
        lists: by model, one per seed.
        right: what is right.
    """
    rows: list[Row] = []
    for part, figures in measured(lists, right).items():
        pairs = [*combinations(_best_first(figures), 2)] if part == "" else []
        rows += told(benchmark, f"{split}{part}", figures, pairs=pairs, spread=part == "")
        rows += beyond(benchmark, split, lists, right) if part == "" else []
    return rows


def measured(lists: Lists, right: Truth, *, ids: NDArray[Any] | None = None) -> dict[str, Figures]:
    """The figures of each user by part, as `parts` names them.

    Args:
        lists: by model, one per seed.
        right: what is right.
        ids: what users are called, by user_idx, where figures of several nights are to be pooled.
    """
    results = {}
    for part, some in parts(right):
        place = np.searchsorted(right.users, some.users)
        values = {
            name: _per_user([one[place] for one in seeds], some) for name, seeds in lists.items()
        }
        results[part] = Figures(some.users if ids is None else ids[some.users], values)
    return results


def pooled(nights: Sequence[Mapping[str, Figures]]) -> dict[str, Figures]:
    """The rows of several nights one below the other, by part.

    All nights have the same models. One fit stands for every seed where nothing was random.
    """
    results = {}
    for part in [part for part in PARTS if any(part in night for night in nights)]:
        some = [night[part] for night in nights if part in night]
        values = {}
        for name in some[0].values:
            n_seeds = max(len(one.values[name]) for one in some)
            shapes = [(n_seeds, *one.values[name].shape[1:]) for one in some]
            seeds = [
                np.broadcast_to(one.values[name], shape)
                for one, shape in zip(some, shapes, strict=True)
            ]
            values[name] = np.concatenate(seeds, axis=1)
        results[part] = Figures(np.concatenate([one.who for one in some]), values)
    return results


def sizes(right: Truth) -> str:
    """How many users each part has, in words."""
    return ", ".join(f"{part.strip() or 'all'} {len(some.users):,}" for part, some in parts(right))


def parts(right: Truth) -> Iterator[tuple[str, Truth]]:
    """The whole truth, then its users by length of history, then its cold videos.

    Where some have no history and others do, all who do are a part too: a model that has nothing
    to say to strangers is compared there with one that has.
    """
    yield "", right
    for name, least, most in GROUPS:
        members = right.bucket(least, most)
        if members.any() and (name != SOME_HISTORY or not members.all()):
            yield f" {name}", right.only(members)
    if len((cold := right.cold()).users):
        yield " cold_videos", cold


def told(
    benchmark: str, split: str, figures: Figures, *, pairs: Sequence[tuple[str, str]], spread: bool
) -> list[Row]:
    """Means and intervals of the metrics with a value per user.

    Args:
        benchmark: name of the benchmark.
        split: name of the part.
        figures: of the part.
        pairs: models whose difference (first minus second) is told too.
        spread: whether the deviation over seeds is told too.
    """
    users = {name: values.mean(axis=0) for name, values in figures.values.items()}
    labels = [(benchmark, name, metric, "share") for name in users for metric in ACCURACY]
    columns = [*users.values()]  # [n_rows, n_metrics] each
    seeds = {name: len(values) for name, values in figures.values.items()}
    for a, b in pairs:
        group, gain = f"{benchmark}: paired differences", f"{a} - {b}"
        labels += [(group, gain, metric, "") for metric in PAIRED]
        columns.append((users[a] - users[b])[:, [ACCURACY.index(metric) for metric in PAIRED]])
        seeds[gain] = min(seeds[a], seeds[b])
    flat = np.concatenate(columns, axis=1)
    low, high = interval(flat, figures.who, generator=np.random.default_rng(len(flat)))
    result_rows = [
        row(group, name, metric, split, float(mean), unit=unit, low=float(lower), high=float(upper), seeds=seeds[name])
        for (group, name, metric, unit), mean, lower, upper in zip(labels, flat.mean(axis=0), low, high, strict=True)
    ]  # fmt: skip
    for name, values in figures.values.items() if spread else ():
        by_metric = dict(zip(ACCURACY, values.mean(axis=1).T, strict=True))
        result_rows += _deviations(benchmark, name, split, by_metric)
    return result_rows


def interval(
    values: NDArray[np.float64], who: NDArray[Any], *, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % percentile interval of the mean of each column; users are resampled with all their rows.

    Where every user has one row it is `microrec.evaluation.bootstrap.interval`. A user of several
    nights is as uncertain as one: rows drawn singly would take a user's nights for independent.

    Args:
        values: [n_rows, n_columns].
        who: the user of each row.
        generator: source of the draws.

    Returns:
        Lower and upper ends, [n_columns] each.
    """
    _, place = np.unique(who, return_inverse=True)
    of_user = sparse.csr_matrix((np.ones(len(who)), (place, np.arange(len(who)))))
    sums = np.column_stack([of_user @ values, np.bincount(place)])
    drawn = resampled(sums, generator=generator)
    low, high = np.percentile(drawn[:, :-1] / drawn[:, -1:], [2.5, 97.5], axis=0)
    return low, high


def resampled(sums: NDArray[np.float64], *, generator: np.random.Generator) -> NDArray[np.float64]:
    """Totals of each column over users who are drawn with replacement, once for each resample.

    Args:
        sums: of each user. [n_users, n_columns]
        generator: source of the draws.

    Returns:
        [RESAMPLES, n_columns]
    """
    n, chunk = len(sums), max(1, CELLS // len(sums))
    totals = []
    for start in range(0, RESAMPLES, chunk):
        size = min(chunk, RESAMPLES - start)
        drawn = generator.integers(0, n, size=(size, n))
        flat = drawn + n * np.arange(size)[:, None]
        times = np.bincount(flat.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        totals.append(times @ sums)
    return np.concatenate(totals)


def _per_user(seeds: Sequence[Listed], right: Truth) -> NDArray[np.float64]:
    """[n_seeds, n_users, n_metrics], metrics in the order of ACCURACY."""
    results = []
    for listed in seeds:
        _, metrics, values = ranking.per_user({"": listed}, right, CUTS)
        results.append(values[:, 0, [metrics.index(metric) for metric in ACCURACY]])
    return np.stack(results)


def _best_first(figures: Figures) -> list[str]:
    """Names by falling recall@20, so that a difference is better minus worse."""
    at = ACCURACY.index(PAIRED[0])
    return sorted(figures.values, key=lambda name: -figures.values[name][:, :, at].mean())


def _deviations(
    benchmark: str, name: str, split: str, by_metric: Mapping[str, NDArray[np.float64]]
) -> list[Row]:
    """Standard deviation over seeds of each metric; nothing for one seed."""
    return [
        row(benchmark, name, f"{metric} sd", split, float(np.std(values, ddof=1)), unit="", seeds=len(values))
        for metric, values in by_metric.items()
        if len(values) > 1
    ]  # fmt: skip


def beyond(benchmark: str, split: str, lists: Lists, right: Truth) -> list[Row]:
    """Coverage, concentration and popularity, averaged over the seeds."""
    results = []
    for name, seeds in lists.items():
        measured = [ranking.beyond_accuracy(listed, right, k=20) for listed in seeds]
        by_metric = {
            metric: np.array([one[metric] for one in measured])
            for metric in BEYOND
            if metric in measured[0]
        }
        for metric, values in by_metric.items():
            told = {"unit": BEYOND[metric], "seeds": len(values)}
            results.append(row(benchmark, name, metric, split, float(values.mean()), **told))
        results += _deviations(benchmark, name, split, by_metric)
    return results


@dataclass(frozen=True, eq=False)
class Blend:
    """Weighted sum of other models' scores, each divided by the user's largest allowed one."""

    parts: Sequence[tuple[Any, float]]
    """Fitted model and weight."""

    def scores(self, users: NDArray[np.int64], known: Knowledge) -> NDArray[np.float32]:
        """[n_block, n_videos]."""
        total = np.zeros((len(users), known.n_videos), dtype=np.float32)
        for fitted, weight in self.parts:
            mine = dense(fitted, users, known)
            allowed = mine.copy()
            known.mask(allowed, users)
            most = allowed.max(axis=1, keepdims=True)
            total += weight * np.divide(mine, most, out=np.zeros_like(mine), where=most > 0)
        return total


def dense(fitted: Any, users: NDArray[np.int64], known: Knowledge) -> NDArray[np.float32]:
    """Every score of some users, before masking; 0 where the model knows nothing."""
    if isinstance(fitted, Embeddings):
        scores = fitted.user[users] @ fitted.video.T
        scores[~fitted.user_known[users]] = 0
        scores[:, ~fitted.video_known] = 0
        return scores
    n = len(fitted.indptr) - 1
    near = sparse.csr_matrix((fitted.similarity, fitted.neighbour, fitted.indptr), shape=(n, n))
    history = known.recent(fitted.history_decay)
    product = near[users] @ history if fitted.axis == "user" else history[users] @ near
    return product.toarray().astype(np.float32)


class Config(BaseModel):
    """Weights of the hybrid of microrec/models/README.md, section 7.3; its video_neighbours has weight 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbours: video_neighbours.Config = video_neighbours.Config(activity_cap=20)
    by_modality: dict[str, NonNegativeFloat] = {"visual": 0.1, "acoustic": 0.05}
    """Weight of `content` of one modality; 0 where nothing is said."""
    log_popularity: NonNegativeFloat = 0.1
    centre: tuple[str, ...] = ("visual",)
    """Modalities whose mean vector is taken off first."""


class hybrid:  # noqa: N801 # stands where a module of microrec.models would
    """The simple hybrid of microrec/models/README.md, section 7.3, in the form of a model's module."""

    Config = Config

    @staticmethod
    def fit(graph: Graph, config: Config, rng: np.random.Generator) -> Trained:
        """Fit the parts; nothing is random."""
        parts = [(video_neighbours.fit(graph, config.neighbours, rng).fitted, 1.0)]
        for modality, weight in config.by_modality.items():
            if weight and modality in graph.features:
                alone = {name: float(name == modality) for name in graph.features}
                given = content.Config(weights=alone, centre=config.centre)
                parts.append((content.fit(graph, given, rng).fitted, weight))
        liked = popularity.fit(graph, popularity.Config(count="viewers"), rng).fitted
        parts.append((replace(liked, video=np.log1p(liked.video)), config.log_popularity))
        return Trained(Blend(parts), {})  # type: ignore[arg-type]
