"""Pearson neighbours equal numpy's on the dense matrix; the hub cap is exact below the cap."""

import csv
import datetime as dt
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from scipy.sparse import csr_matrix

from microrec.graphs.similarity import pearson, user_edges
from microrec.graphs.similarity.pearson import Config
from microrec.graphs.similarity.running_topk import Lists
from tests.worlds.graph_rows import Rows, instant, sorted_rows

COLUMNS = ("user_idx", "neighbour_idx", "pearson", "n_common", "rank")
Edge = tuple[int, int, float, int, int]


def brute(x: NDArray[np.float64], config: Config) -> list[Edge]:
    """Top-k by `np.corrcoef` over the videos somebody viewed. Shape of x: users, videos."""
    x = x[:, (x > 0).any(axis=0)]
    if x.shape[1] < 2:
        return []
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.round(np.corrcoef(x), 9) if len(x) > 1 else np.zeros((1, 1))
    n_positive = (x > 0).sum(axis=1)
    common = (x > 0).astype(float) @ (x > 0).T.astype(float)
    light = np.minimum.outer(n_positive, n_positive) < config.light_positives
    kept = (
        (rho > 0) & (common >= np.where(light, 1, config.min_common)) & ~np.eye(len(x), dtype=bool)
    )
    edges: list[Edge] = []
    for u in range(len(x)):
        best = sorted((-rho[u, v], int(v)) for v in np.nonzero(kept[u])[0])[: config.k]
        edges += [(u, v, -r, int(common[u, v]), n + 1) for n, (r, v) in enumerate(best)]
    return edges


def assert_same(found: list[Edge], expected: list[Edge]) -> None:
    """The same neighbours in the same places, and the same correlations up to rounding."""
    found = sorted(found)
    expected = sorted(expected)
    assert [row[:2] + row[3:] for row in found] == [row[:2] + row[3:] for row in expected]
    assert [row[2] for row in found] == pytest.approx([row[2] for row in expected], abs=1e-8)


def by_blocks(x: NDArray[np.float64], block_size: int, config: Config) -> list[Edge]:
    """What Spark does, without Spark."""
    n_videos = int((x > 0).any(axis=0).sum())
    if not n_videos:
        return []
    update = {"n_videos": n_videos, "block_size": block_size}
    edges = pearson.lists(csr_matrix(x), config=config.model_copy(update=update))
    return list(zip(*(column.tolist() for column in edges.values()), strict=True))


@st.composite
def worlds(draw: st.DrawFn) -> NDArray[np.float64]:
    """Small random worlds, sparse to full: users without videos and without variance included."""
    n_users = draw(st.integers(1, 14))
    n_videos = draw(st.integers(1, 10))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.1, 0.3, 0.6, 1.0]))
    return (generator.uniform(size=(n_users, n_videos)) < density).astype(np.float64)


@given(worlds(), st.integers(1, 5))
def test_pearson_binary_any_block_size_equals_brute_force(x: NDArray[np.float64], k: int) -> None:
    config = Config(k=k)
    whole = by_blocks(x, 1000, config)
    assert_same(whole, brute(x, config))
    assert by_blocks(x, 1, config) == by_blocks(x, 3, config) == whole


@given(worlds(), st.integers(0, 2**32 - 1))
def test_pearson_graded_equals_brute_force(x: NDArray[np.float64], seed: int) -> None:
    graded = x * np.round(np.random.default_rng(seed).uniform(0.1, 2, size=x.shape), 2)
    config = Config(k=4, signal="weight")
    whole = by_blocks(graded, 1000, config)
    expected = {
        (u, v): (r, c) for u, v, r, c, _ in brute(graded, config.model_copy(update={"k": 99}))
    }
    for u, v, r, c, _ in whole:
        if r > 1e-9:
            assert expected[u, v] == (pytest.approx(r, abs=1e-8), c)
    assert by_blocks(graded, 1, config) == by_blocks(graded, 3, config) == whole


def test_pearson_is_bitwise_symmetric() -> None:
    generator = np.random.default_rng(2)
    x = (generator.uniform(size=(30, 20)) < 0.4) * generator.uniform(0.1, 1, size=(30, 20))
    config = Config(k=30, signal="weight")
    rho = {(u, v): r for u, v, r, _, _ in by_blocks(x, 7, config)}
    assert rho
    assert all(rho[v, u] == r for (u, v), r in rho.items())


def world(seed: int, n_users: int = 40, n_videos: int = 25) -> list[dict[str, Any]]:
    """Watch edges of all three parts: positive and not, popular videos and rare ones."""
    generator = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, n_videos + 1) ** 0.7
    edges = []
    for split, share in [("train", 0.35), ("validation", 0.1), ("holdout", 0.2)]:
        seen = generator.uniform(size=(n_users, n_videos)) < share * popularity[None, :] * 2
        for user, video in zip(*np.nonzero(seen), strict=True):
            edges.append(
                {
                    "split": split,
                    "user_idx": int(user),
                    "video_idx": int(video),
                    "weight": float(generator.uniform(0.1, 1)),
                    "n_positive": int(generator.integers(3)),
                    "undone": bool(generator.uniform() < 0.15),
                    "last_at": instant(1, float(generator.integers(96))),
                }
            )
    return edges


def matrix(
    edges: list[dict[str, Any]], fit: str, signal: str, shape: tuple[int, int]
) -> NDArray[Any]:
    """Weights of the parts from the last undone one on; the edges are in the order of time."""
    x = np.zeros(shape)
    for edge in edges:
        if fit == "final" or edge["split"] != "holdout":
            if edge["undone"]:
                x[edge["user_idx"], edge["video_idx"]] = 0
            if edge["n_positive"]:
                x[edge["user_idx"], edge["video_idx"]] += edge["weight"]
    return (x > 0).astype(float) if signal == "binary" else x


def network(edges: DataFrame, config: Config, *, fit: str, n_users: int) -> DataFrame:
    """As the job builds it."""
    n_videos = user_edges.count_videos(edges, fit=fit, config=config)
    return user_edges.user_edges(edges, fit=fit, n_users=n_users, n_videos=n_videos, config=config)


@pytest.mark.spark
@pytest.mark.parametrize("signal", ["binary", "weight"])
def test_user_edges_both_fits_equal_brute_force(rows: Rows, signal: str) -> None:
    edges = world(seed=17)
    frame = rows("watch_edges", *edges).repartition(3)
    for fit in ("trial", "final"):
        x = matrix(edges, fit, signal, (40, 25))
        # Videos whose every positive viewing was undone count among the N all the same.
        seen = user_edges.count_videos(frame, fit=fit, config=Config())
        assert seen >= (x > 0).any(axis=0).sum()
        config = Config(k=5, signal=signal, block_size=9, n_videos=int((x > 0).any(axis=0).sum()))
        edges_of_fit = network(frame, config, fit=fit, n_users=40)
        assert {fit} == {row[0] for row in sorted_rows(edges_of_fit, "fit")}
        expected = brute(x, config)
        assert len(expected) > 50
        assert_same(sorted_rows(edges_of_fit, *COLUMNS), expected)


@pytest.mark.spark
def test_population_counts_videos_viewed_positively(rows: Rows) -> None:
    frame = rows(
        "watch_edges",
        {"video_idx": 1},
        {"video_idx": 1, "user_idx": 5},
        {"video_idx": 2, "undone": True},
        {"video_idx": 3, "n_positive": 0},
        {"video_idx": 4, "split": "holdout"},
    )
    assert user_edges.count_videos(frame, fit="trial", config=Config()) == 2
    assert user_edges.count_videos(frame, fit="final", config=Config()) == 3
    assert user_edges.count_videos(frame, fit="final", config=Config(n_videos=99)) == 99


@pytest.mark.spark
def test_undo_removes_only_what_came_before(rows: Rows) -> None:
    mine = [{"video_idx": v} for v in range(3)]
    undone = {"video_idx": 0, "split": "validation", "n_positive": 0, "undone": True}
    again = {"video_idx": 1, "split": "validation", "undone": True}
    frame = rows(
        "watch_edges",
        *mine,
        *[{**edge, "user_idx": 1} for edge in mine],
        *[{**edge, "user_idx": 2} for edge in [*mine, undone, again]],
    )
    config = Config(n_videos=20)
    edges = sorted_rows(
        network(frame, config, fit="trial", n_users=3), "user_idx", "neighbour_idx", "n_common"
    )
    assert edges == [(0, 1, 3), (0, 2, 2), (1, 0, 3), (1, 2, 2), (2, 0, 2), (2, 1, 2)]


@pytest.mark.spark
def test_hub_cap_is_exact_below_and_keeps_latest_viewers_above(rows: Rows) -> None:
    hub = [{"user_idx": u, "video_idx": 0, "last_at": instant(2, 20 - u // 2)} for u in range(10)]
    rest = [{"user_idx": u, "video_idx": 1 + u % 3} for u in range(10)]
    # A stranger's videos make N large: whoever shares one video correlates.
    stranger = [{"user_idx": 10, "video_idx": 20 + n} for n in range(9)]
    frame = rows("watch_edges", *hub, *rest, *stranger)

    def common(hub_cap: int | None) -> dict[tuple[int, int], int]:
        config = Config(hub_cap=hub_cap, light_positives=9)
        edges = network(frame, config, fit="trial", n_users=11)
        return {
            (u, v): n for u, v, n in sorted_rows(edges, "user_idx", "neighbour_idx", "n_common")
        }

    exact = common(None)
    assert exact == common(10)
    assert exact[0, 3] == exact[6, 9] == 2
    # Viewers 0..4 are the latest five: of the pair 4, 5 with one instant the lower index stays.
    capped = common(5)
    assert {pair: capped[pair] for pair in [(0, 3), (1, 4), (3, 6), (6, 9)]} == {
        (0, 3): 2,
        (1, 4): 2,
        (3, 6): 1,
        (6, 9): 1,
    }


@pytest.mark.spark
def test_hub_cap_keeps_full_sums(rows: Rows) -> None:
    frame = rows("watch_edges", *world(seed=3))
    vectors = {}
    for cap in (None, 1):
        config = Config(hub_cap=cap)
        table = user_edges.vectors(frame, fit="trial", config=config).toArrow()
        vectors[cap] = user_edges.Correlation(config, 25).pack(table)
    full = vectors[None]
    capped = vectors[1]
    for name in ("idx", "n_positive", "total", "squares"):
        assert np.array_equal(getattr(full, name), getattr(capped, name))
    assert len(full.video_idx) > len(capped.video_idx) > 0
    assert len(set(capped.video_idx.tolist())) == len(capped.video_idx)


@pytest.mark.spark
def test_hub_cap_network_reports_what_it_keeps(rows: Rows) -> None:
    frame = rows("watch_edges", *world(seed=5))
    n_videos = {"trial": 25, "final": 25}
    exact = {fit: network(frame, Config(k=5, n_videos=25), fit=fit, n_users=40) for fit in n_videos}
    for cap, least, most in ((1, 0.0, 0.9), (40, 1.0, 1.0)):
        config = Config(k=5, n_videos=25, hub_cap=cap)
        capped = {fit: network(frame, config, fit=fit, n_users=40) for fit in n_videos}
        both = capped["trial"].unionByName(capped["final"])
        night = user_edges.Inputs(frame, rows("users"), rows("video_nodes"), 40, n_videos)
        told = user_edges.measure(night, both, config=config)
        kept = {one.name: one for one in told if one.metric == "kept_of_exact@5"}
        for fit in n_videos:
            true, mine = (
                set(sorted_rows(edges[fit], "user_idx", "neighbour_idx"))
                for edges in (exact, capped)
            )
            assert kept[fit].value == pytest.approx(len(true & mine) / len(true))
            assert least <= kept[fit].value <= most
            assert kept[fit].n == len({user for user, _ in true})


@pytest.mark.spark
def test_hub_cap_exact_network_is_not_compared(rows: Rows) -> None:
    frame = rows("watch_edges", *world(seed=5))
    config = Config(k=5)
    edges = network(frame, config, fit="trial", n_users=40)
    night = user_edges.Inputs(frame, rows("users"), rows("video_nodes"), 40, {"trial": 9})
    told = user_edges.measure(night, edges, config=config)
    assert {one.metric for one in told} == {"edges", "lists", "largest_in_degree"}


@given(worlds(), st.integers(0, 2**32 - 1))
def test_hub_cap_creates_no_edge_beyond_exact_ranks(x: NDArray[np.float64], seed: int) -> None:
    """Capping takes common videos away: every edge it leaves is one of the exact graph, no nearer."""
    everything = Config(k=99, min_common=1)
    exact = {(u, v): r for u, v, r, _, _ in by_blocks(x, 1000, everything)}
    generator = np.random.default_rng(seed)
    meets = generator.uniform(size=x.shape) < 0.6
    n_videos = float(max((x > 0).any(axis=0).sum(), 1))
    full = pearson.users_of(csr_matrix(x))
    some = pearson.users_of(csr_matrix(x * meets))
    capped = pearson.Users(
        full.idx, some.indptr, some.video_idx, some.x, full.n_positive, full.total, full.squares
    )
    best = Lists.empty(len(x), 99)
    pearson.compare(
        capped, pearson.block(capped, n_videos), best, n_videos=n_videos, config=everything
    )
    edges = best.edges(full.idx, score="pearson")
    for u, v, r in zip(edges["idx"], edges["neighbour_idx"], edges["pearson"], strict=True):
        assert exact[int(u), int(v)] >= r


@given(worlds(), st.sampled_from([0.5, 3.0, 50.0]))
def test_shrinkage_is_by_common_videos(x: NDArray[np.float64], shrinkage: float) -> None:
    plain = by_blocks(x, 1000, Config(k=99))
    shrunk = by_blocks(x, 4, Config(k=99, shrinkage=shrinkage))
    expected = {(u, v): r * c / (c + shrinkage) for u, v, r, c, _ in plain}
    assert {(u, v): pytest.approx(r, abs=1e-11) for u, v, r, _, _ in shrunk} == expected


def test_videos_with_many_viewers_counted_by_bits_equal_lists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(8)
    popularity = np.minimum(1, 3 / np.arange(1, 301) ** 0.8)
    x = (generator.uniform(size=(700, 300)) < popularity).astype(np.float64)
    config = Config(k=10)
    block = pearson.block(pearson.users_of(csr_matrix(x)), 300.0)
    assert block.bits.shape[0] >= 4
    assert len(block.viewers) > 1_000
    found = by_blocks(x, 500, config)
    assert_same(found, brute(x, config))
    monkeypatch.setattr(pearson, "DENSE", 2.0)
    assert found == by_blocks(x, 500, config)


def test_fixed_n_is_the_n_of_the_formula() -> None:
    x = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [0, 0, 0, 1, 1]], dtype=np.float64)
    wide = np.concatenate([x, np.zeros((3, 15))], axis=1)
    edges = pearson.lists(csr_matrix(x), config=Config(n_videos=20))
    assert edges["pearson"][0] == pytest.approx(np.corrcoef(wide)[0, 1])
    assert edges["pearson"][0] != pytest.approx(np.corrcoef(x)[0, 1])


@pytest.mark.spark
def test_activity_cap_removes_bots(rows: Rows) -> None:
    edges = [{"user_idx": u, "video_idx": v} for u in range(3) for v in range(3)]
    edges += [{"user_idx": 3, "video_idx": v} for v in range(6)] + [{"user_idx": 4, "video_idx": 9}]
    edges = network(rows("watch_edges", *edges), Config(activity_cap=5), fit="trial", n_users=5)
    assert {u for u, _ in sorted_rows(edges, "user_idx", "neighbour_idx")} == {0, 1, 2}


@pytest.mark.realdata
@pytest.mark.spark
def test_pearson_real_users_equal_brute_force(rows: Rows, real_data: Path) -> None:
    viewed: dict[tuple[str, str], dt.datetime] = {}
    for path in sorted(real_data.glob("kuairand_pure/log_standard_*.csv.gz")):
        with gzip.open(path, "rt", newline="") as lines:
            for row in csv.DictReader(lines):
                if row["long_view"] == "1" and int(row["user_id"]) < 2_250:
                    at = dt.datetime.fromtimestamp(int(row["time_ms"]) / 1000, tz=dt.UTC)
                    viewed[row["user_id"], row["video_id"]] = at
    users, videos = (
        {one: n for n, one in enumerate(sorted({key[part] for key in viewed}))} for part in (0, 1)
    )
    assert 1_000 < len(users) < 2_000
    placed = [(users[user], videos[video], at) for (user, video), at in viewed.items()]
    frame = rows(
        "watch_edges", *[{"user_idx": u, "video_idx": v, "last_at": at} for u, v, at in placed]
    )
    config = Config(k=20, block_size=400)
    edges = network(frame, config, fit="final", n_users=len(users))

    x = np.zeros((len(users), len(videos)))
    for user, video, _ in placed:
        x[user, video] = 1
    expected = brute(x, config)
    assert len(expected) > 5_000
    assert_same(sorted_rows(edges, *COLUMNS), expected)
