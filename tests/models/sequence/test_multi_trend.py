"""Trends: routed together, read by the clock, found where they spread from leaders to followers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microrec.core import fitted
from microrec.models.inputs.graph_arrays import Graph
from microrec.models.inputs.sequence_arrays import Sequences
from microrec.models.sequence import exposures as logged
from microrec.models.sequence import multi_trend
from microrec.models.sequence.multi_trend import Config, Half, MultiTrend
from microrec.models.training.loop import step
from tests.worlds import trends as trend_worlds

SMALL = {"dim": 16, "batch_size": 256, "learning_rate": 0.01}
WORLD = trend_worlds.world(1)


def sequences(graph: Graph) -> Sequences:
    assert graph.sequences is not None
    return graph.sequences


@pytest.fixture(scope="module")
def graph() -> Graph:
    return trend_worlds.graph(WORLD)


def network(graph: Graph, **config: Any) -> MultiTrend:
    made = multi_trend.build(
        graph,
        sequences(graph).exposures,
        Config(**{**SMALL, **config}),
        torch.Generator().manual_seed(1),
    )
    return made.eval()


def some(graph: Graph, chosen: list[int], config: Config) -> logged.Batch:
    user_sequences = sequences(graph)
    return logged.batch(user_sequences, user_sequences.exposures, np.array(chosen), config)


def with_steps(graph: Graph, **changed: Any) -> Graph:
    user_sequences = sequences(graph)
    return replace(graph, sequences=replace(user_sequences, **changed))


def test_multi_trend_loss_falls_and_gradients_start_from_zero(graph: Graph) -> None:
    one = network(graph, dropout=0.0, id_dropout=0.0).train()
    batch = some(graph, list(range(0, 2500, 25)), one.config)
    optimizer = torch.optim.Adam(one.parameters(), lr=0.01)
    losses = [step(optimizer, one.loss, batch) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    one.zero_grad()
    one.noise.manual_seed(0)
    one.loss(batch).backward()
    fresh = [p.grad.clone() for p in one.parameters() if p.grad is not None]
    for parameter in one.parameters():
        parameter.grad = torch.ones_like(parameter)
    one.noise.manual_seed(0)
    step(torch.optim.SGD(one.parameters(), lr=0.0), one.loss, batch)
    for before, parameter in zip(
        fresh, [p for p in one.parameters() if p.grad is not None], strict=True
    ):
        torch.testing.assert_close(parameter.grad, before)


def test_multi_trend_pair_scores_the_same_in_any_batch(graph: Graph) -> None:
    one = network(graph)
    lengths = np.diff(sequences(graph).history.indptr)[sequences(graph).exposures.row]
    short, long = int(lengths.argmin()), int(lengths.argmax())
    assert lengths[short] < lengths[long]
    with torch.no_grad():
        together = one(some(graph, [short, long, 7], one.config))
        for place, chosen in enumerate([short, long, 7]):
            alone = one(some(graph, [chosen], one.config))
            torch.testing.assert_close(alone[0], together[place])


def test_multi_trend_future_is_read_unless_ablated(graph: Graph) -> None:
    user_sequences = sequences(graph)
    there = int(
        np.flatnonzero(np.diff(user_sequences.future.indptr)[user_sequences.exposures.row] > 1)[0]
    )
    other = (user_sequences.future.video_idx + 1) % graph.n_videos
    moved = with_steps(
        graph, future=replace(user_sequences.future, video_idx=other.astype(np.int32))
    )
    with torch.no_grad():
        for future, same in ((True, False), (False, True)):
            one = network(graph, future=future)
            a, b = (one(some(g, [there], one.config)) for g in (graph, moved))
            assert torch.equal(a, b) == same


def test_multi_trend_ages_are_read_unless_ablated(graph: Graph) -> None:
    user_sequences = sequences(graph)
    there = int(
        np.flatnonzero(np.diff(user_sequences.history.indptr)[user_sequences.exposures.row] > 3)[-1]
    )
    at = user_sequences.history.at.copy()
    at[::2] -= 50 * trend_worlds.DAY_US
    aged = with_steps(graph, history=replace(user_sequences.history, at=at))
    with torch.no_grad():
        for time, same in ((True, False), (False, True)):
            one = network(graph, time=time)
            with torch.no_grad():
                one.age += torch.randn(one.age.shape, generator=torch.Generator().manual_seed(2))
            a, b = (one(some(g, [there], one.config)) for g in (graph, aged))
            assert torch.allclose(a, b, atol=1e-7) == same


def half(x: torch.Tensor, seed: int, n_trends: int) -> Half:
    n, width, _ = x.shape
    start = torch.randn(n, width, n_trends, generator=torch.Generator().manual_seed(seed))
    there = torch.ones(n, width, dtype=torch.bool)
    return Half(
        x, there.float(), there, torch.zeros(n, width), start, torch.zeros(n, n_trends), x[:, :0]
    )


def test_routing_planted_clusters_become_shared_trends(graph: Graph) -> None:
    generator = torch.Generator().manual_seed(3)
    centres = 3 * torch.eye(16)[:2]
    own = torch.arange(10) % 2
    x = centres[own] + 0.3 * torch.randn(50, 10, 16, generator=generator)
    joint, separate = network(graph, n_trends=2), network(graph, n_trends=2, routing="separate")
    first, second = joint._route([half(x, 1, 2), half(x, 2, 2)])
    agree = {}
    for name, (a, b) in {
        "joint": (first, second),
        "separate": (separate._route([half(x, 1, 2)])[0], separate._route([half(x, 2, 2)])[0]),
    }.items():
        history, future = a.share.argmax(2), b.share.argmax(2)
        together = history[:, :, None] == history[:, None, :]
        planted = own[:, None] == own[None, :]
        assert (together == planted).all(dim=(1, 2)).float().mean() > 0.7  # of the users
        agree[name] = (history == future).float().mean().item()
    assert agree["joint"] > 0.9 > 0.75 > agree["separate"]  # apart, slots are named by chance


def test_routing_depends_on_direction_not_length(graph: Graph) -> None:
    x = torch.randn(20, 8, 16, generator=torch.Generator().manual_seed(4))
    one = network(graph, n_trends=2)
    (long,), (short,) = (one._route([half(rows, 1, 2)]) for rows in (x, 0.01 * x))
    torch.testing.assert_close(long.share, short.share, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(0.01 * long.trends, short.trends, rtol=1e-4, atol=1e-6)


def test_routing_shared_future_moves_trends_of_the_past(graph: Graph) -> None:
    batch = some(graph, [0, 1200, 2400], Config(**SMALL))
    elsewhere = replace(batch.future, video=(batch.future.video + 1) % len(batch.videos))
    moved = replace(batch, future=elsewhere)
    assert batch.future.present.any()
    with torch.no_grad():
        for routing, same in (("joint", False), ("separate", True)):
            one = network(graph, routing=routing)
            rows = 20 * one.videos(batch.videos, one.noise)  # so long that routing decides
            was, now = (one._halves(given, rows)[0] for given in (batch, moved))
            assert torch.equal(was.share, now.share) == same
            first, second, *_ = was.trends[batch.history.present.sum(1) > 1].unbind(1)
            assert not torch.isclose(first, second, rtol=0.05).all()


def test_routing_shares_of_a_step_sum_to_one_or_zero(graph: Graph) -> None:
    one = network(graph)
    batch = some(graph, [0, 1200, 2400], one.config)
    with torch.no_grad():
        halves = one._halves(batch, one.videos(batch.videos, one.noise))
        for viewed, routed in zip((batch.history, batch.future), halves, strict=True):
            torch.testing.assert_close(routed.share.sum(2), viewed.present.float())


def test_user_has_a_trend_for_every_few_viewings(graph: Graph) -> None:
    one = network(graph, viewings_per_trend=5)
    user_sequences = sequences(graph)
    batch = some(graph, list(range(0, 2500, 50)), one.config)
    n_own = batch.history.present.sum(1)
    with torch.no_grad():
        halves = one._halves(batch, one.videos(batch.videos, one.noise))
        n_trends = (halves[0].mass + halves[1].mass > 0).sum(1)
        loss = one.loss(batch)
    expected = (n_own // 5).clamp(1, 4)
    assert len(expected.unique()) > 2
    assert torch.equal(n_trends, torch.where(n_own > 0, expected, n_trends))
    assert torch.isfinite(loss)
    trends = multi_trend.retrieval(one, graph)
    served = np.diff(user_sequences.history.indptr)[user_sequences.serving]
    assert (trends.trend_known.sum(axis=1) == np.clip(served // 5, 1, 4)).all()


def recall(trained: fitted.Trained) -> float:
    """Share of what followers watch next that is their best three among the new videos of the day."""
    trends, fresh = trained.fitted, np.flatnonzero(WORLD.born == trend_worlds.N_DAYS - 2)
    assert isinstance(trends, fitted.Trends)
    hits = []
    for user in np.flatnonzero(~WORLD.leads):
        scores = (trends.user[user] @ trends.video[fresh].T).max(axis=0)
        best = fresh[np.argsort(-scores, kind="stable")[: trend_worlds.FRESH]]
        hits.append(np.isin(WORLD.coming(user), best).mean())
    return float(np.mean(hits))


def test_multi_trend_spread_from_leaders_is_learned_from_the_future_only(graph: Graph) -> None:
    """Leaders' new videos were shown to no follower: whose they are is known from the network only."""
    config = Config(
        **SMALL,
        epochs=6,
        n_trends=2,
        retrieval_weight=1.0,
        retrieval_videos=300,
        id_dropout=0.95,  # looks alone: what is new has hardly an id row yet
    )
    strangers = trend_worlds.graph(WORLD, network="random")
    actual = {
        name: recall(multi_trend.fit(g, c, np.random.default_rng(1)))
        for name, g, c in (
            ("whole", graph, config),
            ("no future", graph, config.model_copy(update={"future": False})),
            ("random users", strangers, config),
        )
    }
    chance = trend_worlds.FRESH / np.count_nonzero(WORLD.born == trend_worlds.N_DAYS - 2)
    assert actual["whole"] > 4 * chance, actual
    assert actual["whole"] > 2 * max(actual["no future"], actual["random users"]), actual


def test_multi_trend_same_seed_is_bit_identical_and_restores(graph: Graph, tmp_path: Path) -> None:
    config = Config(**SMALL, epochs=1)
    first, second = (multi_trend.fit(graph, config, np.random.default_rng(7)) for _ in range(2))
    assert isinstance(first.fitted, fitted.Trends)
    for name, array in vars(first.fitted).items():
        np.testing.assert_array_equal(array, getattr(second.fitted, name))
    fitted.save(first, tmp_path, config=config)
    loaded = fitted.load(tmp_path)
    for name, array in vars(first.fitted).items():
        np.testing.assert_array_equal(array, getattr(loaded, name))
    restored = multi_trend.restore(graph, config, fitted.load_parameters(tmp_path))
    for name, array in vars(multi_trend.retrieval(restored, graph)).items():
        np.testing.assert_array_equal(array, getattr(first.fitted, name))


def test_multi_trend_empty_history_has_no_trend_and_unknown_video_is_left_out(
    graph: Graph,
) -> None:
    user_sequences = sequences(graph)
    nobody = user_sequences.serving[3]
    lengths = np.diff(user_sequences.history.indptr)
    kept = np.repeat(np.arange(len(lengths)) != nobody, lengths)
    lengths[nobody] = 0
    history = replace(
        user_sequences.history,
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        **{
            name: getattr(user_sequences.history, name)[kept]
            for name in ("video_idx", "at", "weight")
        },
    )
    changed = with_steps(graph, history=history)
    trends = multi_trend.retrieval(network(changed, future=False), changed)
    assert not trends.trend_known[3].any()
    assert trends.trend_known[[0, 1, 2, 4]].any(axis=1).all()
    assert not trends.user[3].any()
    assert trends.video_known.all()  # all have looks
    blind = replace(changed, features={})
    trends = multi_trend.retrieval(network(blind), blind)
    shown = np.zeros(graph.n_videos, dtype=bool)
    shown[user_sequences.exposures.video_idx] = True
    assert not shown.all()
    np.testing.assert_array_equal(trends.video_known, shown)


def test_multi_trend_viewing_belongs_to_its_strongest_trend(graph: Graph) -> None:
    """`members` against the routing itself, a user at a time."""
    one = network(graph)
    rows = multi_trend.members(one, graph)
    assert rows.column_names == ["user_idx", "trend", "video_idx", "mass", "own", "at"]
    user_sequences = sequences(graph)
    n_steps = [
        np.diff(half.indptr)[user_sequences.serving].sum()
        for half in (user_sequences.history, user_sequences.future)
    ]
    assert rows.num_rows == sum(n_steps) > 0
    told = rows.to_pandas()
    for user in (0, 7, graph.n_users - 1):
        row = user_sequences.serving[[user]]
        alone = logged.pairs(
            user_sequences, row, np.zeros(1, dtype=np.int64), np.zeros(1) > 0, one.config
        )
        with torch.no_grad():
            halves = one._halves(alone, one.videos(alone.videos, one.noise))
        expected = []
        for half, steps in zip(
            halves, (user_sequences.history, user_sequences.future), strict=True
        ):
            there = half.present[0]
            place = slice(steps.indptr[row[0]], steps.indptr[row[0] + 1])
            trend = half.share[0][there].argmax(dim=1).tolist()
            mass = half.m[0][there].tolist()
            expected += zip(
                steps.video_idx[place].tolist(),
                steps.at[place].tolist(),
                trend,
                mass,
                strict=True,
            )
        mine = told[told["user_idx"] == user]
        at = mine["at"].astype("int64") // (1000 if mine["at"].dt.unit == "ns" else 1)
        got = sorted(zip(mine["video_idx"], at, mine["trend"], mine["mass"], strict=True))
        assert len(got) == len(expected)
        for (video, instant, trend, mass), right in zip(got, sorted(expected), strict=True):
            assert (video, trend) == (right[0], right[2])
            assert mass == pytest.approx(right[3], abs=1e-6)
            assert abs(instant - right[1]) < 1e6, "ages are floats of seconds"


def test_multi_trend_saved_scores_equal_the_fit(graph: Graph, tmp_path: Path) -> None:
    config = Config(**SMALL, epochs=1)
    trained = multi_trend.fit(graph, config, np.random.default_rng(3))
    fitted.save(trained, tmp_path / "kept", config=config)
    kept = logged.load("multi_trend", tmp_path / "kept", graph, device="cpu")
    user, video = np.array([3, 0, 3, 9]), np.array([1, 5, 2, 1])
    scores = logged.scores(kept, graph, user, video)
    before = multi_trend.restore(graph, config, trained.parameters)
    row = sequences(graph).serving[user]
    with torch.no_grad():
        pairs = logged.pairs(sequences(graph), row, video, video > 0, config)
        np.testing.assert_allclose(scores, before.eval()(pairs).numpy(), rtol=1e-4, atol=1e-5)
    assert len(np.unique(scores)) == 4


def adjusted_rand(one: np.ndarray, other: np.ndarray) -> float:
    """Agreement of two partitions, 0 by chance and 1 at best (Hubert and Arabie 1985)."""
    _, a = np.unique(one, return_inverse=True)
    _, b = np.unique(other, return_inverse=True)
    counts = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(counts, (a, b), 1)

    def pairs(sizes: np.ndarray) -> float:
        return float((sizes * (sizes - 1) / 2).sum())

    rows, columns = pairs(counts.sum(axis=1)), pairs(counts.sum(axis=0))
    expected = rows * columns / pairs(np.array([len(a)]))
    most = (rows + columns) / 2
    return 1.0 if most == expected else (pairs(counts) - expected) / (most - expected)


def test_multi_trend_fitted_trends_are_the_users_tastes() -> None:
    """Users of two tastes each, whose videos look alike; ARI is .88 (.18 where only noise routes)."""
    assert adjusted_rand(np.array([0, 0, 1, 1]), np.array([5, 5, 3, 3])) == 1
    assert adjusted_rand(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == pytest.approx(-0.5)
    world = trend_worlds.world(2, n_groups=12, n_tastes=2)
    graph = trend_worlds.graph(world, alike=True)
    config = Config(**SMALL, epochs=8, n_trends=2, retrieval_weight=1.0, retrieval_videos=300)
    results = {}
    for agreement in (config.agreement, 0.01):
        chosen = config.model_copy(update={"agreement": agreement})
        trained = multi_trend.fit(graph, chosen, np.random.default_rng(1))
        network = multi_trend.restore(graph, chosen, trained.parameters)
        rows = multi_trend.members(network, graph).to_pandas()
        rows["taste"] = world.taste[rows["video_idx"]]
        own = [
            taste in world.groups[u]
            for u, taste in zip(rows["user_idx"], rows["taste"], strict=True)
        ]
        users = rows[own].groupby("user_idx")
        assert (users["taste"].nunique() == 2).all()
        aris = [adjusted_rand(one["trend"].to_numpy(), one["taste"].to_numpy()) for _, one in users]
        results[agreement] = float(np.mean(aris))
    assert results[config.agreement] > 0.7 > 0.1 > results[0.01], results
