"""What a batch learns from and against what, who teaches, and the two phases of a fit."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from microrec.core.fitted import Embeddings, Trained
from microrec.models import registry
from microrec.models.graph import fitting, lightgcn
from microrec.models.graph.fitting import Batch
from microrec.models.graph.lightgcn import Config, LightGCN
from microrec.models.graph.propagation import WatchGraph
from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.training import loop, parallel, phases
from tests.worlds import logs

SMALL: dict[str, Any] = {"dim": 4, "batch_size": 64, "max_epochs": 10, "patience": 3}


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Three clusters, a validation part; users 0 and 1 like far more than the others, and
    they alone like videos 3, 22 and 23."""
    world = logs.clusters(2, n_users=30, n_videos=24)
    many = [np.arange(24), np.arange(0, 24, 2)]
    users, videos = np.repeat([0, 1], [24, 12]), np.concatenate(many)
    user, video = (world["watch_edges"][f"{node}_idx"].to_numpy() for node in ("user", "video"))
    others = (user > 1) & (video != 3)
    world["watch_edges"] = pa.concat_tables(
        [
            world["watch_edges"].filter(pa.array(others)),
            logs.watch_edges("train", users, videos),
        ]
    )
    return build_graph(world, fit="trial")


def a_network(graph: Graph, **config: Any) -> tuple[LightGCN, Config]:
    made = Config.model_validate({**SMALL, **config})
    return lightgcn.build(graph, graph.edges, made, torch.Generator().manual_seed(0)), made


def an_epoch(graph: Graph, seed: int = 1, **config: Any) -> tuple[LightGCN, Config, list[Batch]]:
    network, made = a_network(graph, **config)
    generator = torch.Generator().manual_seed(seed)
    return network, made, list(fitting.batches(network, graph.edges, made, generator))


def fit(graph: Graph, seed: int = 0, **config: Any) -> Trained:
    made = Config.model_validate({**SMALL, **config})
    return lightgcn.fit(graph, made, np.random.default_rng(seed))


def assert_same(one: Trained, other: Trained) -> None:
    assert one.report == other.report
    for left, right in ((one.parameters, other.parameters), (vars(one.fitted), vars(other.fitted))):
        assert set(left) == set(right)
        for name, value in left.items():
            np.testing.assert_array_equal(value, right[name])


# A batch


@pytest.mark.parametrize("user_rows", ["own", "none"])
def test_batch_edges_are_masked_from_their_scores(graph: Graph, user_rows: str) -> None:
    """The scores are those of a graph that never had these edges."""
    network, config, batches = an_epoch(graph, user_rows=user_rows)
    within_cap = fitting.within_activity_cap(graph.edges, n_users=graph.n_users, config=config)
    assert len(batches) > 1
    for batch in batches:
        asked = np.zeros(len(graph.edges), dtype=bool)
        asked[batch.triples.edge] = True
        assert 0 < asked.sum() < len(asked)
        other = WatchGraph(
            graph.edges.taken(~asked), within_cap=within_cap, n_videos=graph.n_videos
        )
        never = lightgcn.LightGCN(other, config, torch.Generator().manual_seed(0))
        never.warm = network.warm
        for one, two in zip(
            network(batch.triples.user, batch.watched),
            never(batch.triples.user, other.whole),
            strict=True,
        ):
            torch.testing.assert_close(one, two)
    with_them = network(batch.triples.user, network.watch.whole)[0]
    assert not torch.allclose(with_them, network(batch.triples.user, batch.watched)[0])


def test_batch_without_mask_has_all_edges(graph: Graph) -> None:
    network, _, batches = an_epoch(graph, mask_targets=False)
    for batch in batches:
        assert torch.equal(batch.watched.present, network.watch.whole.present)


def test_epoch_draws_as_many_triples_as_training_edges(graph: Graph) -> None:
    _, _, batches = an_epoch(graph, activity_cap=10)
    n = int((np.bincount(graph.edges.user_idx)[2:]).sum())
    assert [len(batch.triples) for batch in batches] == [64] * -(-n // 64)
    _, _, batches = an_epoch(graph, activity_cap=10, batch_size=10**6)
    assert [len(batch.triples) for batch in batches] == [n]


@pytest.mark.parametrize("mask", [False, True])
def test_epoch_prunes_edges_anew(graph: Graph, mask: bool) -> None:
    n = round(0.6 * len(graph.edges))
    network, config = a_network(graph, keep_edges=0.6, mask_targets=mask)
    generator = torch.Generator().manual_seed(0)
    epochs = []
    for _ in range(2):
        batches = list(fitting.batches(network, graph.edges, config, generator))
        kept = torch.stack([batch.watched.present for batch in batches])
        for present, batch in zip(kept, batches, strict=True):
            assert set(present.tolist()) == {0.0, 1.0}
            if mask:
                assert not present[batch.triples.edge].any()
                assert n - 64 <= present.sum() < n
            else:
                assert present.sum() == n
                assert torch.equal(present, kept[0])  # one draw for the epoch
        epochs.append(kept.max(dim=0).values)
    assert not torch.equal(*epochs)
    assert network.watch.whole.present.all()  # ranking has them all


@pytest.mark.parametrize("by", ["users", "edges"])
def test_sampling_by_users_or_edges_is_configured(graph: Graph, by: str) -> None:
    network, config = a_network(graph, sampling=by, activity_multiple=1e6)
    generator = torch.Generator().manual_seed(0)
    drawn: Counter[int] = Counter()
    for _ in range(60):
        for batch in fitting.batches(network, graph.edges, config, generator):
            drawn.update(batch.triples.user.tolist())
    degree = np.bincount(graph.edges.user_idx, minlength=graph.n_users)
    degree[0] = 0  # likes everything: there is no video to hold against
    share = (degree > 0) / (degree > 0).sum() if by == "users" else degree / degree.sum()
    actual = np.array([drawn[user] for user in range(graph.n_users)]) / drawn.total()
    np.testing.assert_allclose(actual, share, atol=0.01)
    assert drawn.total() > 5000


def test_softmax_uses_all_warm_videos_or_a_fresh_sample(graph: Graph) -> None:
    network, _, (batch, *_) = an_epoch(graph, loss="softmax", activity_cap=10)
    warm = np.flatnonzero(network.known_videos())
    assert 3 < len(warm) < graph.n_videos
    assert batch.opponents.tolist() == warm.tolist()
    assert batch.log_chance is None
    sizes = {"sampled_videos": 6, "sampled_batch_size": 20}
    _, _, batches = an_epoch(graph, loss="softmax", activity_cap=10, softmax_videos=6, **sizes)
    assert {len(batch.triples) for batch in batches} == {20}
    for batch in batches:
        assert 1 < len(batch.opponents) <= 6
        assert set(batch.opponents.tolist()) <= set(warm)
        assert batch.log_chance is not None
        assert len(batch.log_chance) == len(batch.opponents)
    assert len({tuple(batch.opponents.tolist()) for batch in batches}) > 1
    _, _, batches = an_epoch(graph)
    assert not any(len(batch.opponents) for batch in batches)


@pytest.mark.parametrize("model", ["lightgcn", "preference_gcn"])
def test_drawn_softmax_has_the_mean_of_the_whole(graph: Graph, model: str) -> None:
    """Over many draws the sum over the drawn videos, each divided by its chance, is that over all of them."""
    module: Any = registry.model(model)
    small = {"dim": 4, "loss": "softmax", "softmax_videos": 5, "sampled_videos": 8}
    config = module.Config.model_validate({**small, "sampled_batch_size": 5})
    generator = torch.Generator().manual_seed(0)
    network = module.build(graph, graph.edges, config, generator)
    sums = []
    for _ in range(40):
        for batch in fitting.batches(network, graph.edges, config, generator):
            with torch.no_grad():
                user, video = network(torch.tensor([3]), network.watch.whole, batch.opponents)
            sums.append(torch.exp(user @ video.T - batch.log_chance).sum().item())
    with torch.no_grad():
        user, video = network(torch.tensor([3]), network.watch.whole)
    warm = torch.from_numpy(np.bincount(graph.edges.video_idx, minlength=graph.n_videos) > 0)
    assert len(sums) > 500
    whole = torch.exp(user @ video[warm].T).sum().item()
    assert np.mean(sums) == pytest.approx(whole, abs=4 * np.std(sums) / len(sums) ** 0.5)
    assert np.std(sums) < 0.5 * whole


@pytest.mark.parametrize(("loss", "most"), [("bpr", 9), ("softmax", 100), ("softmax", 9)])
def test_loss_of_a_batch_equals_hand_computed(graph: Graph, loss: str, most: int) -> None:
    network, config, (batch, *_) = an_epoch(
        graph, loss=loss, softmax_videos=most, sampled_videos=9, l2=0.3
    )
    triples = batch.triples
    with torch.no_grad():
        user, video = network(triples.user, batch.watched)
        actual = fitting.batch_loss(network, batch, config).item()
    parts, squares = [], []
    for row, (u, p, n) in enumerate(
        zip(triples.user, triples.positive, triples.negative, strict=True)
    ):
        positive, negative = (user[row] @ video[p]).item(), (user[row] @ video[n]).item()
        if loss == "bpr":
            parts.append(np.log(1 + np.exp(negative - positive)))
        else:
            chance = np.ones(len(batch.opponents))
            if most == 9:
                chance = np.exp(batch.log_chance.numpy())
                assert (chance > 0).all()
                assert (chance < 1).all()
            others = sum(
                np.exp((user[row] @ video[v]).item()) / c
                for v, c in zip(batch.opponents, chance, strict=True)
                if v != p
            )
            parts.append(np.log(np.exp(positive) + others) - positive)
        held = network.user_id[u], network.video_id[p], network.video_id[n]
        squares.append(sum(one.square().sum().item() for one in held))
    assert actual == pytest.approx(np.mean(parts) + 0.3 * np.mean(squares) / 2, rel=1e-5)


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_shares_of_a_batch_sum_to_it(
    graph: Graph, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What three processes learn from a step is what one does: the loss and every gradient."""

    def totals(share: slice) -> tuple[float, list[torch.Tensor]]:
        monkeypatch.setattr(parallel, "share", lambda: share)
        network, config, batches = an_epoch(graph, loss=loss, l2=0.1, keep_edges=0.8)
        value = fitting.batch_loss(network, batches[0], config)
        value.backward()
        return value.item(), [one.grad for one in network.parameters() if one.grad is not None]

    whole, gradients = totals(slice(0, None, 1))
    parts = [totals(slice(rank, None, 3)) for rank in range(3)]
    assert sum(value for value, _ in parts) == pytest.approx(whole, rel=1e-5)
    for gradient, *of_parts in zip(gradients, *(part for _, part in parts), strict=True):
        torch.testing.assert_close(sum(of_parts), gradient, atol=1e-6, rtol=1e-4)


# Who teaches


def test_users_over_the_cap_do_not_train_but_are_served(graph: Graph) -> None:
    network, _, batches = an_epoch(graph, activity_cap=10)
    taught = {user for batch in batches for user in batch.triples.user.tolist()}
    assert taught
    assert not taught & {0, 1}
    # their edges make their own rows, and no other's
    everyone = torch.arange(graph.n_users)
    before = network(everyone, network.watch.whole)
    out = torch.from_numpy(np.flatnonzero(graph.edges.user_idx == 1)[:6])
    after = network(everyone, network.watch.without(network.watch.whole.present, out))
    assert torch.equal(before[1], after[1])
    changed = (before[0] != after[0]).any(dim=1)
    assert torch.nonzero(changed).ravel().tolist() == [1]
    trained = fit(graph, activity_cap=10, epochs=3)
    assert vars(trained.fitted)["user_known"][[0, 1]].all()
    assert vars(trained.fitted)["user"][[0, 1]].any(axis=1).all()


def test_users_over_the_cap_change_no_other_row(graph: Graph) -> None:
    """The whole fit again without half of user 1's edges: only that user's row is another."""
    gone = (graph.edges.user_idx == 1) & (graph.edges.video_idx % 4 == 0)
    assert gone.any()
    other = replace(graph, edges=graph.edges.taken(~gone))
    one, two = (
        vars(fit(world, activity_cap=3, epochs=4, popularity=True).fitted)
        for world in (graph, other)
    )
    assert np.bincount(other.edges.user_idx)[1] > 3  # over the cap in both
    np.testing.assert_array_equal(one["video"], two["video"])
    np.testing.assert_array_equal(np.delete(one["user"], 1, axis=0), np.delete(two["user"], 1, 0))
    assert not np.array_equal(one["user"][1], two["user"][1])


# A fit


def test_epochs_are_searched_then_refitted(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, last = [], []
    original = phases.train

    def spy(module: Any, **arguments: Any) -> loop.History:
        history = original(module, **arguments)
        edges = len(module.watch.user)
        runs.append((edges, len(history.losses), arguments["recall"] is not None))
        last.append(history.losses[-1])
        return history

    monkeypatch.setattr(phases, "train", spy)
    held = graph.early_stopping
    assert held is not None
    report = fit(graph, learning_rate=0.02).report
    assert set(report) == {"epochs", "validation_recall@20", "recalls", "losses", "loss"}
    recalls = report["recalls"]
    assert len(recalls) == len(report["losses"]) <= 10
    assert report["epochs"] == 1 + recalls.index(max(recalls))
    assert len(recalls) == min(10, report["epochs"] + 3)  # patience
    assert 0 < report["validation_recall@20"] == max(recalls) <= 1
    assert runs == [
        (len(held.edges), len(recalls), True),
        (len(graph.edges), report["epochs"], False),
    ]
    assert [report["losses"][-1], report["loss"]] == last
    told = fit(graph, epochs=4).report["loss"]
    assert told == last[-1] != fit(graph, epochs=1).report["loss"]


def test_final_fit_uses_the_given_epochs(graph: Graph) -> None:
    assert fit(graph, epochs=3).report.keys() == {"epochs", "loss"}
    assert fit(graph, epochs=3).report["epochs"] == 3
    # same stream for the refit, whether or not epochs were searched for
    searched = fit(graph)
    again = fit(graph, epochs=searched.report["epochs"])
    assert again.report["loss"] == searched.report["loss"]
    for name, value in searched.parameters.items():
        np.testing.assert_array_equal(value, again.parameters[name])


def test_fit_without_validation_takes_the_default_epochs(graph: Graph) -> None:
    held = graph.early_stopping
    assert held is not None
    nothing = np.zeros(len(held.truth), dtype=bool)
    no_part = np.zeros(len(held.edges), dtype=bool)
    for early in (
        None,
        replace(held, truth=held.truth.taken(nothing)),
        replace(held, edges=held.edges.taken(no_part)),
    ):
        report = fit(replace(graph, early_stopping=early), default_epochs=2).report
        assert report.keys() == {"epochs", "loss"}
        assert report["epochs"] == 2


def test_validation_is_on_a_sample_of_users(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[int]] = []
    held = graph.early_stopping
    assert held is not None
    everybody = set(held.truth.user_idx.tolist())

    def spy(user: Any, video: Any, part: Any, **_: Any) -> float:
        asked.append(set(part.truth.user_idx.tolist()))
        mine = np.isin(held.truth.user_idx, part.truth.user_idx)
        assert len(part.truth) == mine.sum()  # all of a user's truth or nothing
        return 0.5

    monkeypatch.setattr(fitting, "validation_recall", spy)
    fit(graph, validation_users=5)
    assert len(asked[0]) == 5
    assert all(one == asked[0] for one in asked)  # one sample for the whole search
    assert asked[0] < everybody
    asked.clear()
    fit(graph, validation_users=1000)
    assert asked[0] == everybody


def test_validation_excludes_videos_unknown_to_the_network(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the night does not: rows of zeros would stand above negative scores."""
    offered = []

    def spy(*_: Any, eligible: np.ndarray, **__: Any) -> float:
        offered.append(eligible)
        return 0.5

    monkeypatch.setattr(fitting, "validation_recall", spy)
    closed = graph.eligible & (np.arange(graph.n_videos) != 7)
    fit(replace(graph, eligible=closed), activity_cap=10)
    held = graph.early_stopping
    assert held is not None
    n_liked = np.bincount(held.edges.user_idx, minlength=graph.n_users)
    edges_within_cap = held.edges.taken((n_liked <= 10)[held.edges.user_idx])
    warm = np.bincount(edges_within_cap.video_idx, minlength=graph.n_videos) > 0
    assert not warm.all()
    np.testing.assert_array_equal(offered[0], closed & warm)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"loss": "softmax", "softmax_videos": 5, "keep_edges": 0.7},
        {"sampling": "edges", "mask_targets": False, "popularity": True},
    ],
    ids=str,
)
def test_fit_same_seed_is_bit_identical(graph: Graph, config: dict[str, Any]) -> None:
    one, other, third = (fit(graph, seed, **config) for seed in (3, 3, 4))
    assert_same(one, other)
    assert one.report != third.report


def test_rows_are_of_the_parameters_over_all_edges(graph: Graph) -> None:
    trained = fit(graph, epochs=2, activity_cap=10, keep_edges=0.5)
    network, _ = a_network(graph, activity_cap=10)
    network.load_state_dict({n: torch.from_numpy(p) for n, p in trained.parameters.items()})
    with torch.no_grad():
        rows = network(torch.arange(graph.n_users), network.watch.whole)
    actual = vars(trained.fitted)
    for expected, name in zip(rows, ("user", "video"), strict=True):
        known = actual[f"{name}_known"]
        assert not known.all()
        np.testing.assert_array_equal(actual[name], np.where(known[:, None], expected, 0))


def test_fit_without_examples_has_no_parameters(graph: Graph) -> None:
    heavy = replace(graph, edges=graph.edges.taken(graph.edges.user_idx < 2))
    everybody_over = fit(heavy, activity_cap=10)
    assert not vars(everybody_over.fitted)["user_known"].any()
    assert everybody_over.parameters == {}
    assert everybody_over.report == {"epochs": 20}


def test_ensemble_scores_are_the_mean_of_members(graph: Graph) -> None:
    config = lightgcn.Config(dim=4, epochs=2, batch_size=64, members=3)
    together = lightgcn.fit(graph, config, np.random.default_rng(5)).fitted
    assert isinstance(together, Embeddings)
    assert together.user.shape[1] == together.video.shape[1] == 12
    _, *streams = np.random.default_rng(5).spawn(4)
    training = fitting.training(config, build=lightgcn.build, runtime=fitting.Runtime())
    refit, schedule = phases.Phase(graph, graph.edges), training.schedule(2)
    alone = [
        fitting.embeddings(training.train("refit", refit, stream, schedule)[0], graph)
        for stream in streams
    ]
    expected = np.mean([one.user @ one.video.T for one in alone], axis=0)
    np.testing.assert_allclose(together.user @ together.video.T, expected, atol=1e-6)
    assert not np.allclose(alone[0].video, alone[1].video)


def test_ensemble_does_not_start_warm() -> None:
    with pytest.raises(ValueError, match="members must be 1"):
        lightgcn.Config(members=2, warm_start=True)
