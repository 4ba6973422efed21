"""Metrics equal a loop written by hand, and PyG's own public figures."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.metrics import LinkPredAveragePopularity

from microrec.evaluation import ranking, report
from microrec.evaluation.bootstrap import interval
from microrec.evaluation.truth import BUCKETS, Truth

KS = (1, 2, 4)
N_VIDEOS = 7


def world(seed: int) -> tuple[pa.Table, Truth]:
    """Random truth of a few users, and random lists of some of them (and of strangers)."""
    generator = np.random.default_rng(seed)
    users = np.sort(generator.choice(10, generator.integers(1, 5), replace=False))
    pairs = [
        (row, video)
        for row in range(len(users))
        for video in generator.choice(N_VIDEOS, generator.integers(1, 6), replace=False)
    ]
    right = Truth(
        users=users.astype(np.int64),
        row=np.array([row for row, _ in pairs], dtype=np.int64),
        video=np.array([video for _, video in pairs], dtype=np.int64),
        history=generator.integers(0, 25, len(users)),
        viewers=generator.integers(0, 3, N_VIDEOS),
        eligible=np.ones(N_VIDEOS, dtype=np.bool_),
    )
    rows = [
        {"user_idx": user, "rank": rank, "video_idx": int(video)}
        for user in range(10)
        if generator.random() < 0.8
        for rank, video in enumerate(
            generator.permutation(N_VIDEOS)[: generator.integers(1, N_VIDEOS)], start=1
        )
    ]
    rows = rows or [{"user_idx": 0, "rank": 1, "video_idx": 0}]
    return pa.Table.from_pylist(rows).take(generator.permutation(len(rows))), right


def by_hand(listed: list[int], right: set[int], k: int) -> dict[str, float]:
    """The formulae of the four metrics for one user."""
    hits = [rank for rank, video in enumerate(listed[:k], start=1) if video in right]
    ideal = sum(1 / math.log2(1 + rank) for rank in range(1, min(k, len(right)) + 1))
    return {
        "recall": len(hits) / len(right),
        "ndcg": sum(1 / math.log2(1 + rank) for rank in hits) / ideal,
        "mrr": 1 / hits[0] if hits else 0.0,
        "hit_ratio": float(bool(hits)),
    }


def lists_of(rows: pa.Table, right: Truth) -> list[tuple[list[int], set[int]]]:
    found = []
    for at, user in enumerate(right.users):
        mine = sorted(
            (row["rank"], row["video_idx"]) for row in rows.to_pylist() if row["user_idx"] == user
        )
        found.append(([video for _, video in mine], set(right.video[right.row == at].tolist())))
    return found


@given(st.integers(0, 2**32 - 1))
def test_per_user_equals_brute_force(seed: int) -> None:
    rows, right = world(seed)
    listed = ranking.matrix(rows, right, k=max(KS))
    names, metrics, values = ranking.per_user({"one": listed}, right, KS)
    assert names == ["one"]
    for at, (mine, wanted) in enumerate(lists_of(rows, right)):
        for column, metric in enumerate(metrics):
            kind, k = metric.split("@")
            assert values[at, 0, column] == pytest.approx(
                by_hand(mine, wanted, int(k))[kind], rel=1e-5
            )


@given(st.integers(0, 2**32 - 1))
def test_mean_equals_pyg(seed: int) -> None:
    """Pins the per-user values, which come from a private method, to the public one."""
    rows, right = world(seed)
    listed = ranking.matrix(rows, right, k=max(KS))
    _, metrics, values = ranking.per_user({"one": listed}, right, KS)
    for column, metric in enumerate(metrics):
        kind, k = metric.split("@")
        public = ranking.ACCURACY[kind](int(k))
        public.update(
            torch.from_numpy(listed), torch.from_numpy(np.stack([right.row, right.video]))
        )
        assert values[:, 0, column].mean() == pytest.approx(float(public.compute()), rel=1e-5)


@given(st.integers(0, 2**32 - 1))
def test_ranking_metrics_obey_their_laws(seed: int) -> None:
    rows, right = world(seed)
    listed = ranking.matrix(rows, right, k=max(KS))
    _, metrics, values = ranking.per_user({"one": listed}, right, KS)
    assert (values >= 0).all()
    assert (values <= 1 + 1e-6).all()
    recall = [values[:, 0, metrics.index(f"recall@{k}")] for k in KS]
    assert all((b >= a).all() for a, b in pairwise(recall))


def test_ranking_perfect_list_is_one_and_no_list_is_zero() -> None:
    right = Truth(
        users=np.array([3, 8]),
        row=np.array([0, 0, 0, 1]),
        video=np.array([1, 2, 4, 0]),
        history=np.array([0, 0]),
        viewers=np.zeros(5, dtype=np.int64),
        eligible=np.ones(5, dtype=np.bool_),
    )
    rows = pa.table({"user_idx": [3, 3, 3], "rank": [1, 2, 3], "video_idx": [4, 1, 2]})
    listed = ranking.matrix(rows, right, k=4)
    assert listed.tolist() == [[4, 1, 2, 5], [5, 5, 5, 5]]
    _, metrics, values = ranking.per_user({"one": listed}, right, (2, 4))
    assert values[1].max() == 0
    for metric in ("ndcg@2", "ndcg@4", "recall@4", "mrr@2", "hit_ratio@2"):
        assert values[0, 0, metrics.index(metric)] == pytest.approx(1)
    assert values[0, 0, metrics.index("recall@2")] == pytest.approx(2 / 3)


def test_ranking_partial_hits_are_divided_by_the_best_possible() -> None:
    """The ideal has min(|truth|, k) right videos, not as many as were found; ranks count from 1."""
    right = Truth(
        users=np.array([3, 8]),
        row=np.array([0, 0, 0, 1]),
        video=np.array([1, 2, 4, 0]),
        history=np.array([0, 0]),
        viewers=np.zeros(6, dtype=np.int64),
        eligible=np.ones(6, dtype=np.bool_),
    )
    listed = np.array([[5, 4, 0, 1], [3, 5, 0, 2]])
    _, metrics, values = ranking.per_user({"one": listed}, right, (2, 4))
    found = [dict(zip(metrics, values[user, 0], strict=True)) for user in (0, 1)]
    second, third, fourth = 1 / math.log2(3), 1 / math.log2(4), 1 / math.log2(5)
    assert found[0]["ndcg@2"] == pytest.approx(second / (1 + second))
    assert found[0]["ndcg@4"] == pytest.approx((second + fourth) / (1 + second + third))
    assert found[1]["ndcg@4"] == pytest.approx(third)
    assert [one["mrr@4"] for one in found] == pytest.approx([1 / 2, 1 / 3])
    assert [one["mrr@2"] for one in found] == pytest.approx([1 / 2, 0])
    assert [one["hit_ratio@2"] for one in found] == [1, 0]
    assert [one["hit_ratio@4"] for one in found] == [1, 1]
    assert [one["recall@4"] for one in found] == pytest.approx([2 / 3, 1])


def figures(seed: int = 20, **lists: pa.Table) -> dict[tuple[str, str, str], report.Figure]:
    rows, right = world(seed)
    found = ranking.measure(
        lists or {"blend": rows, "popularity": rows.slice(0, 1)},
        right,
        config=ranking.Config(ks=KS, resamples=50),
        generator=np.random.default_rng(0),
    )
    return {(one.name, one.metric, one.slice): one for one in found}


def test_measure_has_slices_difference_and_intervals() -> None:
    rows, right = world(20)
    found = figures()
    whole = found["blend", "recall@4", "all"]
    assert whole.n == len(right.users)
    assert whole.low is not None
    assert whole.low <= whole.value <= whole.high
    gain = found[report.DIFFERENCE, "recall@4", "all"].value
    assert gain == pytest.approx(whole.value - found["popularity", "recall@4", "all"].value)
    buckets = [one for key, one in found.items() if key[:2] == ("blend", "recall@4")]
    assert sum(one.n for one in buckets if one.slice.startswith("history=")) == whole.n
    mean = sum(one.n * one.value for one in buckets if one.slice.startswith("history="))
    assert mean / whole.n == pytest.approx(whole.value)
    expected = [
        by_hand(mine, {v for v in wanted if right.viewers[v] == 0}, 4)["recall"]
        for mine, wanted in lists_of(rows, right)
        if any(right.viewers[v] == 0 for v in wanted)
    ]
    assert expected
    assert found["blend", "recall@4", "cold_videos"].n == len(expected)
    assert found["blend", "recall@4", "cold_videos"].value == pytest.approx(np.mean(expected))


@given(st.integers(0, 2**32 - 1), st.sampled_from(["ndcg@2", "recall@4", "mrr@1"]))
def test_gain_is_the_mean_surplus_of_the_first(seed: int, metric: str) -> None:
    (first, right), (second, _) = world(seed), world(seed + 1)
    config, (kind, k) = ranking.Config(ks=KS, resamples=20), metric.split("@")
    lists = {"learned": first, "closed_form": second}
    found = ranking.gain(lists, right, metric, config=config, generator=np.random.default_rng(4))
    of_users = np.array(
        [
            by_hand(mine, wanted, int(k))[kind] - by_hand(theirs, wanted, int(k))[kind]
            for (mine, wanted), (theirs, _) in zip(
                lists_of(first, right), lists_of(second, right), strict=True
            )
        ]
    )
    listed = {name: ranking.matrix(rows, right, k=4) for name, rows in lists.items()}
    _, metrics, values = ranking.per_user(listed, right, KS)
    column = values[:, :, metrics.index(metric)]
    assert found[0].value == pytest.approx(column[:, 0].mean() - column[:, 1].mean(), abs=1e-12)
    members = {"all": right.history >= 0}
    members |= {name: right.bucket(least, most) for name, least, most in BUCKETS}
    assert [one.slice for one in found] == [name for name, some in members.items() if some.any()]
    generator = np.random.default_rng(4)
    for one in found:
        some = of_users[members[one.slice]]
        (low,), (high,) = interval(some[:, None], resamples=20, generator=generator)
        assert (one.name, one.metric) == ("learned-minus-closed_form", metric)
        assert one.n == len(some)
        expected = pytest.approx((some.mean(), low, high), abs=1e-6)
        assert (one.value, one.low, one.high) == expected


def test_gain_without_users_is_empty() -> None:
    rows, right = world(20)
    nobody = right.only(np.zeros(len(right.users), dtype=np.bool_))
    lists = {"one": rows, "other": rows}
    config, generator = ranking.Config(ks=KS, resamples=5), np.random.default_rng(0)
    assert ranking.gain(lists, nobody, "mrr@4", config=config, generator=generator) == []
    same = ranking.gain(lists, right, "mrr@4", config=config, generator=generator)
    assert {(one.value, one.low, one.high) for one in same} == {(0, 0, 0)}


def test_coverage_and_popularity_are_of_the_first_ranks() -> None:
    rows, right = world(20)
    found = figures(blend=rows)
    shown = [mine[:2] for mine, _ in lists_of(rows, right)]
    flat = [video for mine in shown for video in mine]
    coverage = found["blend", "coverage@2", "all"].value
    assert coverage == pytest.approx(len(set(flat)) / N_VIDEOS)
    popularity = found["blend", "average_popularity@2", "all"].value
    assert popularity == pytest.approx(np.mean(right.viewers[flat]))
    public = LinkPredAveragePopularity(2, torch.from_numpy(right.viewers))
    public.update(torch.tensor(shown), torch.empty(2, 0, dtype=torch.long))
    assert popularity == pytest.approx(float(public.compute()))


@given(st.integers(0, 2**32 - 1), st.integers(1, N_VIDEOS))
def test_gini_and_lift_equal_loops(seed: int, n_eligible: int) -> None:
    rows, right = world(seed)
    right = dataclasses.replace(right, eligible=np.arange(N_VIDEOS) < n_eligible)
    rows = rows.filter(pc.less(rows["video_idx"], n_eligible))
    found = ranking.beyond_accuracy(ranking.matrix(rows, right, k=4), right, k=2)
    flat = [
        row["video_idx"]
        for row in rows.to_pylist()
        if row["user_idx"] in right.users and row["rank"] <= 2
    ]
    times = [flat.count(video) for video in range(n_eligible)]
    apart = sum(abs(a - b) for a in times for b in times)
    gini = apart / (2 * n_eligible * sum(times)) if flat else 0
    assert found["gini@2"] == pytest.approx(gini)
    assert 0 <= found["gini@2"] < 1
    liked = [int(right.viewers[video]) for video in right.video]
    if sum(liked):
        shown = sum(int(right.viewers[video]) for video in flat) / max(1, len(flat))
        assert found["popularity_lift@2"] == pytest.approx(shown * len(liked) / sum(liked))
    else:
        assert "popularity_lift@2" not in found


def test_gini_of_one_video_and_of_every_video_once() -> None:
    _, right = world(20)
    n = len(right.users)
    same, each = np.zeros((n, 1), dtype=np.int64), np.arange(N_VIDEOS).reshape(1, -1)
    assert ranking.beyond_accuracy(same, right, k=1)["gini@1"] == pytest.approx(1 - 1 / N_VIDEOS)
    assert ranking.beyond_accuracy(each, right, k=N_VIDEOS)[f"gini@{N_VIDEOS}"] == 0
    assert figures()["blend", "gini@4", "all"].n == n


def test_difference_without_the_floor_is_absent() -> None:
    rows, _ = world(20)
    assert not [key for key in figures(blend=rows) if key[0] == report.DIFFERENCE]


def test_ranking_rows_have_the_types_of_the_contract() -> None:
    table = report.table(list(figures().values()))
    kinds = [pa.string()] * 3 + [pa.float64()] * 3 + [pa.int64()]
    assert table.schema.types == kinds
    assert table.schema.names == ["name", "metric", "slice", "value", "low", "high", "n"]
    keys = {tuple(row[name] for name in ("name", "metric", "slice")) for row in table.to_pylist()}
    assert len(keys) == table.num_rows


@given(st.integers(0, 2**32 - 1))
def test_beyond_accuracy_counts_new_videos(seed: int) -> None:
    rows, right = world(seed)
    found = ranking.beyond_accuracy(ranking.matrix(rows, right, k=max(KS)), right, k=2)
    places = [video for mine, _ in lists_of(rows, right) for video in mine[:2]]
    new = {v for v, viewers in enumerate(right.viewers) if viewers == 0}
    eligible = new & set(np.flatnonzero(right.eligible).tolist())
    assert found["new_share@2"] == sum(v in new for v in places) / max(1, len(places))
    if eligible:
        assert found["new_listed@2"] == len(new & set(places)) / len(eligible)
    else:
        assert "new_listed@2" not in found
