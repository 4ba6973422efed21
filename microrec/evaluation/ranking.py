"""All-item ranking metrics of ranked lists, by torch_geometric.metrics.

    recall@k     share of the right videos in the first k
    ndcg@k       discounted gain over the best possible with min(|truth|, k) right videos
    mrr@k        1 / rank of the first right video, 0 if none in the first k
    hit_ratio@k  1 if a right video is in the first k
    coverage@k   share of the eligible videos that are in anybody's first k
    average_popularity@k
                 mean positive viewers before D of the places 1..k
    gini@k       Gini index of how many first k each eligible video is in: 0 all alike, towards 1
                 few videos for everybody
    new_share@k  share of the places 1..k that videos nobody liked before D have
    new_listed@k share of the eligible videos nobody liked before D that are in anybody's first k
    popularity_lift@k
                 average_popularity@k over the mean positive viewers before D of the right videos:
                 above 1, lists are more popular than what the same users went on to like

The lift of Abdollahpouri et al. (2019) divides by the users' past videos instead. With histories of
one to four videos that yardstick is bent, since each of them counts the user among its viewers, and
a user without a history has none; the right videos have neither fault.

A list shorter than k is filled with a video that does not exist: the user counts, with what the
list has.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch_geometric.metrics import (
    LinkPredAveragePopularity,
    LinkPredCoverage,
    LinkPredHitRatio,
    LinkPredMRR,
    LinkPredNDCG,
    LinkPredRecall,
)
from torch_geometric.metrics.link_pred import LinkPredMetricData

from microrec.core.array_types import Bools, Float64s, Int64s
from microrec.evaluation.bootstrap import interval
from microrec.evaluation.report import (
    BLEND,
    DIFFERENCE,
    FLOOR,
    Figure,
)
from microrec.evaluation.truth import BUCKETS, Truth

ACCURACY = {
    "recall": LinkPredRecall,
    "ndcg": LinkPredNDCG,
    "mrr": LinkPredMRR,
    "hit_ratio": LinkPredHitRatio,
}
"""Metrics that have a value per user."""

Values = Float64s


class Config(BaseModel):
    """What is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ks: tuple[PositiveInt, ...] = (10, 20, 50)
    """Lengths at which lists are cut."""
    resamples: PositiveInt = 1000
    """Resamples of users behind each interval."""


def measure(
    lists: Mapping[str, pa.Table], truth: Truth, *, config: Config, generator: np.random.Generator
) -> list[Figure]:
    """Measure every source overall, by history and for cold videos.

    Args:
        lists: one row per (user, rank): user_idx, rank, video_idx, by name; with `blend` and `popularity` their
            paired difference is measured too.
        truth: what is right.
        config: cuts and resamples.
        generator: source of the bootstrap draws.

    Returns:
        One figure per name, metric and slice that has users.
    """
    ranked = {name: matrix(rows, truth, k=max(config.ks)) for name, rows in lists.items()}
    names, metrics, values = per_user(ranked, truth, config.ks)
    tables = [(name, values[members]) for name, members in _slices(truth)]
    cold = truth.cold()
    if len(cold.users):
        rows = np.searchsorted(truth.users, cold.users)
        reduced = {name: listed[rows] for name, listed in ranked.items()}
        tables.append(("cold_videos", per_user(reduced, cold, config.ks)[2]))
    figures = []
    for name, table in tables:
        if len(table):
            figures += _accuracy(table, (names, metrics, name), config.resamples, generator)
    for name, listed in ranked.items():
        for k in config.ks:
            figures += [
                Figure(name, metric, "all", value, len(truth.users))
                for metric, value in beyond_accuracy(listed, truth, k=k).items()
            ]
    return figures


def means(
    lists: Mapping[str, pa.Table], truth: Truth, *, metric: str, config: Config
) -> dict[str, float]:
    """Return the mean of one metric over all evaluated users, by list.

    Args:
        lists: one row per (user, rank) by name, at least one.
        truth: what is right.
        metric: such as ndcg@20.
        config: cuts.

    Returns:
        Means by name.
    """
    ranked = {name: matrix(rows, truth, k=max(config.ks)) for name, rows in lists.items()}
    names, metrics, values = per_user(ranked, truth, config.ks)
    of_lists = values[:, :, metrics.index(metric)].mean(axis=0)
    return dict(zip(names, of_lists.tolist(), strict=True))


def gain(
    lists: Mapping[str, pa.Table],
    truth: Truth,
    metric: str,
    *,
    config: Config,
    generator: np.random.Generator,
) -> list[Figure]:
    """Measure the paired difference of two lists, overall and by history.

    Args:
        lists: two of them by name, one row per (user, rank); the second is subtracted from the first.
        truth: what is right.
        metric: such as ndcg@20.
        config: cuts and resamples.
        generator: source of the bootstrap draws.

    Returns:
        One figure per slice that has users; none where there are no users at all.
    """
    if not len(truth.users):
        return []
    difference = differences(lists, truth, metric, config=config)
    figures = []
    name = "-minus-".join(lists)
    for part, members in _slices(truth):
        members_gain = difference[members, None]
        if len(members_gain):
            (low,), (high,) = interval(
                members_gain, resamples=config.resamples, generator=generator
            )
            fields = (
                name,
                metric,
                part,
                float(members_gain.mean()),
                len(members_gain),
                float(low),
                float(high),
            )
            figures.append(Figure(*fields))
    return figures


def differences(
    lists: Mapping[str, pa.Table], truth: Truth, metric: str, *, config: Config
) -> Float64s:
    """Return by how much one metric of every user differs between two lists.

    Args:
        lists: two of them by name, one row per (user, rank); the second is subtracted from the first.
        truth: what is right.
        metric: such as ndcg@20.
        config: cuts.

    Returns:
        [n_evaluated], in the order of `truth.users`.
    """
    ranked = {name: matrix(rows, truth, k=max(config.ks)) for name, rows in lists.items()}
    _, metrics, values = per_user(ranked, truth, config.ks)
    difference: Float64s = (values[:, 0] - values[:, 1])[:, metrics.index(metric)]
    return difference


def _slices(truth: Truth) -> list[tuple[str, Bools]]:
    """All users, then those with so much history each, [n_evaluated]."""
    parts = [("all", np.ones(len(truth.users), dtype=np.bool_))]
    return parts + [(name, truth.bucket(least, most)) for name, least, most in BUCKETS]


def matrix(rows: pa.Table, truth: Truth, *, k: int) -> Int64s:
    """Return the first `k` videos of each evaluated user.

    Args:
        rows: one row per (user, rank): user_idx, rank, video_idx.
        truth: who is evaluated.
        k: length of a list.

    Returns:
        video_idx [n_evaluated, k]; n_videos (no video) where the list is shorter.
    """
    user, rank, video = (
        rows[name].combine_chunks().to_numpy(zero_copy_only=False).astype(np.int64)
        for name in ("user_idx", "rank", "video_idx")
    )
    evaluated = np.isin(user, truth.users) & (rank >= 1) & (rank <= k)
    row = np.searchsorted(truth.users, user[evaluated])
    listed = np.full((len(truth.users), k), len(truth.eligible), dtype=np.int64)
    listed[row, rank[evaluated] - 1] = video[evaluated]
    return listed


def per_user(
    ranked: Mapping[str, Int64s], truth: Truth, ks: tuple[int, ...]
) -> tuple[list[str], list[str], Values]:
    """Return the accuracy of every list for every user.

    Args:
        ranked: lists by name, as `matrix` returns them. [n_evaluated, k]
        truth: what is right.
        ks: lengths at which lists are cut.

    Returns:
        Names (the difference to the floor last, where both lists are there), metrics, and the values
        [n_evaluated, n_names, n_metrics].
    """
    names = list(ranked)
    metrics = [f"{metric}@{k}" for metric in ACCURACY for k in ks]
    stacked = np.stack([_of_list(ranked[name], truth, ks) for name in names], axis=1)
    if BLEND in ranked and FLOOR in ranked:
        gain = stacked[:, names.index(BLEND)] - stacked[:, names.index(FLOOR)]
        stacked = np.concatenate([stacked, gain[:, None]], axis=1)
        names.append(DIFFERENCE)
    return names, metrics, stacked


def _of_list(listed: Int64s, truth: Truth, ks: tuple[int, ...]) -> Values:
    """Values of one list, [n_evaluated, n_metrics], metrics in the order of `per_user`."""
    right = torch.from_numpy(np.stack([truth.row, truth.video]))  # [2, n_pairs]
    data = LinkPredMetricData(torch.from_numpy(listed), right)
    columns = [kind(k)._compute(data).numpy() for kind in ACCURACY.values() for k in ks]
    return np.stack(columns, axis=1).astype(np.float64)


def _accuracy(
    values: Values,
    labels: tuple[list[str], list[str], str],
    resamples: int,
    generator: np.random.Generator,
) -> list[Figure]:
    """Means and intervals of one slice; values [n, n_names, n_metrics]."""
    names, metrics, part = labels
    flat = values.reshape(len(values), -1)
    low, high = interval(flat, resamples=resamples, generator=generator)
    at = [(name, metric) for name in names for metric in metrics]
    return [
        Figure(name, metric, part, float(mean), len(values), float(lower), float(upper))
        for (name, metric), mean, lower, upper in zip(at, flat.mean(axis=0), low, high, strict=True)
    ]


def beyond_accuracy(listed: Int64s, truth: Truth, *, k: int) -> dict[str, float]:
    """Measure coverage and popularity of one list over all evaluated users; empty places do not count.

    Args:
        listed: as `matrix` returns it. [n_evaluated, k]
        truth: who is evaluated, and what is popular and eligible.
        k: first places that count.

    Returns:
        Figures by metric; no lift where nobody had liked any right video before, no share of the new videos where
        there are none.
    """
    n_videos = len(truth.eligible)
    first = listed[:, :k]
    places = first[first < n_videos]
    shown = torch.from_numpy(places[:, None])  # [n_places, 1]
    coverage = LinkPredCoverage(1, num_dst_nodes=n_videos)
    popularity = LinkPredAveragePopularity(1, torch.from_numpy(truth.viewers))
    for metric in (coverage, popularity):
        metric.update(shown, shown.T)
    mean = float(popularity.compute())
    times = np.bincount(places, minlength=n_videos)[truth.eligible]
    liked = float(truth.viewers[truth.video].mean())
    new = truth.viewers == 0
    n_new = int((new & truth.eligible).sum())
    optional = {f"popularity_lift@{k}": mean / liked} if liked else {}
    if n_new:
        optional[f"new_listed@{k}"] = len(np.unique(places[new[places]])) / n_new
    return {
        f"coverage@{k}": float(coverage.compute()) * n_videos / max(1, len(times)),
        f"average_popularity@{k}": mean,
        f"gini@{k}": _gini(times),
        f"new_share@{k}": float(new[places].sum()) / max(1, len(places)),
        **optional,
    }


def _gini(times: Int64s) -> float:
    """Mean absolute difference of two counts over twice their mean; 0 where there is nothing."""
    n = len(times)
    total = int(times.sum())
    if not total:
        return 0.0
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float(weights @ np.sort(times)) / (n * total)
