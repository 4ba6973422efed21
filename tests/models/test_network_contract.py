"""What every graph network promises: that it learns, and learns what was planted."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from microrec.models import registry
from microrec.models.graph import fitting
from microrec.models.graph.fitting import Batch, Network
from microrec.models.graph.sampling import Triples
from microrec.models.inputs.graph_arrays import Graph, build_graph, pair_keys
from microrec.models.training.loop import Schedule, step, train, validation_recall
from tests.worlds import logs
from tests.worlds.fitted_models import PUBLISHED

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lightgcn": ("lightgcn", {}),
    "lightgcn-softmax": ("lightgcn", {"loss": "softmax", "user_rows": "none", "popularity": True}),
    "mmgcn": ("mmgcn", {}),
    "mmgcn-softmax": ("mmgcn", {"loss": "softmax", "layers": 2}),
    "preference_gcn": ("preference_gcn", {}),
    "preference_gcn-published": ("preference_gcn", PUBLISHED),
}
SMALL = {"dim": 8, "batch_size": 96, "learning_rate": 0.02}


def config_of(case: str, **config: Any) -> Any:
    name, chosen = CASES[case]
    return registry.model(name).Config.model_validate({**SMALL, **chosen, **config})


def build(case: str, graph: Graph, config: Any, seed: int = 0) -> Any:
    module: Any = registry.model(CASES[case][0])
    return module.build(graph, graph.edges, config, torch.Generator().manual_seed(seed))


def first_batch(network: Network, graph: Graph, config: Any) -> Batch:
    return next(fitting.batches(network, graph.edges, config, torch.Generator().manual_seed(1)))


def loss_of(network: Any, config: Any) -> Callable[[Batch], torch.Tensor]:
    return lambda batch: fitting.batch_loss(network, batch, config)


def scores(network: Any, graph: Graph) -> np.ndarray:
    rows = fitting.embeddings(network, graph)
    return rows.user @ rows.video.T


@pytest.fixture(scope="module")
def graph() -> Graph:
    return build_graph(logs.clusters(3, n_users=40, n_videos=40), fit="trial")


@pytest.mark.parametrize("case", CASES)
def test_network_repeated_batch_lowers_the_loss(case: str, graph: Graph) -> None:
    config = config_of(case)
    network = build(case, graph, config)
    batch = first_batch(network, graph, config)
    history = train(
        network,
        batches=lambda: [batch],
        loss=loss_of(network, config),
        schedule=Schedule(learning_rate=0.02, epochs=40),
    )
    # of a softmax over n videos what is left is the entropy of the users' several positives
    assert history.losses[-1] < history.losses[0] * (0.8 if config.loss == "softmax" else 0.5)
    late = history.losses[20:]
    assert max(late) < history.losses[5]


@pytest.mark.parametrize("case", CASES)
def test_network_two_steps_equal_a_hand_written_loop(case: str, graph: Graph) -> None:
    """Each step's gradient is of that step alone."""
    config = config_of(case)
    ours, theirs = (build(case, graph, config) for _ in range(2))
    batch = first_batch(ours, graph, config)
    optimizer = torch.optim.Adam(ours.parameters(), lr=0.02)
    losses = [step(optimizer, loss_of(ours, config), batch) for _ in range(2)]
    parameters = list(theirs.parameters())
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    for expected in losses:
        loss = fitting.batch_loss(theirs, batch, config)
        assert loss.item() == expected
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    for one, other in zip(ours.parameters(), parameters, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("case", CASES)
def test_network_planted_clusters_are_recovered(case: str) -> None:
    """What was held out is found far better than by popularity."""
    world = build_graph(logs.clusters(11, n_users=100, n_videos=100), fit="trial")
    module: Any = registry.model(CASES[case][0])
    config = config_of(case, dim=16, batch_size=256, max_epochs=12, learning_rate=0.02)
    report = module.fit(world, config, np.random.default_rng(0)).report
    held = world.early_stopping
    assert held is not None
    popularity = np.bincount(held.edges.video_idx, minlength=100).astype(np.float32)
    floor = validation_recall(
        torch.ones(100, 1),
        torch.from_numpy(popularity)[:, None],
        held,
        eligible=world.eligible,
        k=20,
    )
    assert report["validation_recall@20"] > 1.3 * floor


def renumbered(world: dict[str, pa.Table], place: np.ndarray) -> dict[str, pa.Table]:
    """The same world, video i now being number place[i]."""
    changed = dict(world)
    for table, columns in (
        ("watch_edges", ["video_idx"]),
        ("video_nodes", ["video_idx"]),
        ("modality_edges", ["video_idx", "neighbour_idx"]),
    ):
        for column in columns:
            at = changed[table].schema.get_field_index(column)
            moved = pa.array(place[changed[table][column].to_numpy()], pa.int32())
            changed[table] = changed[table].set_column(at, column, moved)
    return changed


@pytest.mark.parametrize("case", CASES)
def test_network_video_numbering_changes_nothing(case: str) -> None:
    """The videos are numbered anew in all tables, the drawn rows and triples are those of the same
    videos: three epochs later the scores are the same, up to the order of sums."""
    tables = logs.clusters(5, n_users=30, n_videos=30)
    position = np.random.default_rng(0).permutation(30)
    one, other = (build_graph(t, fit="final") for t in (tables, renumbered(tables, position)))
    config = config_of(case)
    network, moved = (build(case, graph, config) for graph in (one, other))
    for name, parameter in moved.named_parameters():
        drawn = network.get_parameter(name).data
        if name.split(".")[-1] in network.VIDEO_ROWS:
            parameter.data[position] = drawn
        else:
            parameter.data[:] = drawn
    np.testing.assert_allclose(scores(network, one), scores(moved, other)[:, position], atol=1e-5)
    before = scores(network, one)
    batches = [first_batch(network, one, config) for _ in range(2)]
    keys = pair_keys(other.edges, n_videos=30)
    where = torch.from_numpy(position)
    theirs = []
    for batch in batches:
        triples = batch.triples
        positive, negative = where[triples.positive], where[triples.negative]
        edge = torch.from_numpy(np.searchsorted(keys, (triples.user * 30 + positive).numpy()))
        watched = moved.watch.without(moved.watch.whole.present, edge)
        theirs.append(
            Batch(
                Triples(triples.user, positive, negative, edge),
                batch.share,
                watched,
                where[batch.opponents],
            )
        )
    for model, of_it in ((network, batches), (moved, theirs)):
        train(
            model,
            batches=lambda of_it=of_it: of_it,
            loss=loss_of(model, config),
            schedule=Schedule(learning_rate=0.01, epochs=3),
        )
    after = scores(network, one)
    assert np.abs(after - before).max() > 0.05
    np.testing.assert_allclose(after, scores(moved, other)[:, position], atol=1e-3)


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("lightgcn")])
def test_network_cold_video_is_ranked_by_its_cluster(case: str) -> None:
    """Nobody has liked the last third of the videos: their vectors alone tell where they belong."""
    rng = np.random.default_rng(1)
    n_users, n_videos = 45, 60
    user_cluster, video_cluster = np.arange(n_users) % 3, np.arange(n_videos) % 3
    own = user_cluster[:, None] == video_cluster
    likes = rng.random(own.shape) < np.where(own, 0.4, 0.03)
    likes[:, 40:] = False
    vectors = {
        name: (rng.standard_normal((3, 6))[video_cluster] + 0.3 * rng.standard_normal((60, 6)))
        for name in ("acoustic", "visual")
    }
    tables = logs.tables({"train": likes}, vectors={n: v.astype("f4") for n, v in vectors.items()})
    world = build_graph(tables, fit="final")
    module: Any = registry.model(CASES[case][0])
    fitted = module.fit(world, config_of(case, epochs=20), np.random.default_rng(0)).fitted
    assert fitted.video_known[40:].all()
    dense = fitted.user @ fitted.video.T
    mine, others = own[:, 40:], ~own[:, 40:]
    above = [
        (row[own_cold][:, None] > row[other_cold]).mean()
        for row, own_cold, other_cold in zip(dense[:, 40:], mine, others, strict=True)
    ]
    assert np.mean(above) > 0.85  # 0.5 at random


@pytest.mark.parametrize("case", CASES)
def test_network_mixed_precision_stays_close_with_full_parameters(case: str, graph: Graph) -> None:
    module: Any = registry.model(CASES[case][0])
    quiet = replace(graph, early_stopping=None)
    plain, half = (
        module.fit(quiet, config_of(case, epochs=4, mixed_precision=on), np.random.default_rng(0))
        for on in (False, True)
    )
    assert half.report["loss"] == pytest.approx(plain.report["loss"], rel=0.02)
    if case != "lightgcn":  # its scores of triples are sums, there is no dense product
        assert half.report != plain.report
    for value in half.parameters.values():
        assert value.dtype == np.float32
    one, other = (trained.fitted.user @ trained.fitted.video.T for trained in (plain, half))
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.99
    assert half.fitted.user.dtype == half.fitted.video.dtype == np.float32
