"""A fresh network takes over rows by place; new nodes start from their neighbours that were there."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from microrec.core.fitted import Trained
from microrec.models import registry
from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.training import warm_start
from microrec.models.training.runtime import Runtime, Yesterday
from tests.worlds import logs

CASES = ["lightgcn", "mmgcn", "preference_gcn"]


def test_rows_of_today_equal_hand_computed() -> None:
    fresh = np.arange(10, dtype=np.float32).reshape(5, 2)
    earlier = np.array([[10, 20], [30, 40], [50, 60]], dtype=np.float32)
    place = np.array([2, -1, 0, -1, -1])
    near = np.zeros((5, 5))
    near[1, [0, 2, 3]] = 0.25, 0.75, 5.0  # 3 is new itself, and has no say
    near[3, [1, 4]] = 1.0  # new ones only
    near[0, 2] = 1.0  # who was there is what it was
    actual = warm_start.rows_of_today(fresh, earlier, place, sp.csr_matrix(near))
    assert actual.tolist() == [
        [50, 60],
        [0.25 * 50 + 0.75 * 10, 0.25 * 60 + 0.75 * 20],
        [10, 20],
        [6, 7],
        [8, 9],
    ]
    assert actual.dtype == np.float32
    assert fresh.tolist() == np.arange(10).reshape(5, 2).tolist()


def two_nights() -> tuple[Graph, Graph, np.ndarray, np.ndarray]:
    """Yesterday's graph, today's, and where today's users and videos were yesterday.

    Today the last users and videos are new and all have other numbers than yesterday; the cluster
    tells what is liked, for how it looks as well.
    """
    rng = np.random.default_rng(3)
    n_users, n_videos = 42, 48
    user_cluster, video_cluster = rng.integers(3, size=n_users), rng.integers(3, size=n_videos)
    likes = rng.random((n_users, n_videos)) < np.where(
        user_cluster[:, None] == video_cluster, 0.4, 0.02
    )
    vectors = {
        name: (rng.standard_normal((3, 5))[video_cluster] + 0.2 * rng.standard_normal((48, 5)))
        for name in ("acoustic", "visual")
    }
    looks = {name: matrix.astype(np.float32) for name, matrix in vectors.items()}
    earlier = likes[:36, :42] & (rng.random((36, 42)) < 0.8)
    user_order, video_order = rng.permutation(n_users), rng.permutation(n_videos)
    worlds_of = (
        logs.tables({"train": earlier}, vectors={name: x[:42] for name, x in looks.items()}),
        logs.tables(
            {"train": likes[user_order][:, video_order]},
            vectors={name: x[video_order] for name, x in looks.items()},
        ),
    )
    yesterday, today = (build_graph(world, fit="final") for world in worlds_of)
    user = np.where(user_order < 36, user_order, -1)
    video = np.where(video_order < 42, video_order, -1)
    return yesterday, today, user, video


def fit(model: str, graph: Graph, yesterday: Yesterday | None = None, **config: Any) -> Trained:
    module: Any = registry.model(model)
    made = module.Config.model_validate({"dim": 6, "epochs": 15, "learning_rate": 0.02, **config})
    runtime = Runtime(yesterday={"refit": yesterday} if yesterday else {})
    return module.fit(graph, made, np.random.default_rng(1), runtime=runtime)


def network_of(model: str, graph: Graph, **config: Any) -> Any:
    module: Any = registry.model(model)
    made = module.Config.model_validate({"dim": 6, **config})
    return module.build(graph, graph.edges, made, torch.Generator().manual_seed(5))


@pytest.mark.parametrize("model", CASES)
def test_rows_of_a_node_follow_the_node(model: str) -> None:
    """Also where there are as many users as yesterday, who have other numbers."""
    earlier, today, user, video = two_nights()
    config = {} if model == "mmgcn" else {"popularity": True, "user_rows": "own"}
    for graph, of_user, of_video in (
        (today, user, video),
        (earlier, np.roll(np.arange(36), 5), np.roll(np.arange(42), 7)),
    ):
        before = network_of(model, earlier, **config)
        network = network_of(model, graph, **config)
        fresh = {name: p.detach().clone() for name, p in network.named_parameters()}
        parameters = {name: p.detach().numpy() + 1 for name, p in before.named_parameters()}
        warm_start.carry_over(
            network, Yesterday("2026-01-03", parameters, of_user, of_video), graph
        )
        rows = {"user_id": of_user, "preference": of_user, "video_id": of_video}
        rows["popularity"] = of_video
        followed = set()
        for name, parameter in network.named_parameters():
            last = name.split(".")[-1]
            if last not in rows:
                np.testing.assert_array_equal(parameter.detach(), parameters[name])
                assert not torch.equal(parameter, fresh[name])
                continue
            followed.add(last)
            there = rows[last] >= 0
            actual = parameter.detach().numpy()
            np.testing.assert_array_equal(actual[there], parameters[name][rows[last][there]])
            assert not np.array_equal(actual[there], fresh[name].numpy()[there])
        assert {"user_id", "video_id"} <= followed
        assert ("preference" in followed) == (model == "mmgcn")
        assert ("popularity" in followed) == (model != "mmgcn")
        assert all(parameter.requires_grad for parameter in network.parameters())


def test_new_nodes_start_from_their_neighbours() -> None:
    """Videos from those that look alike, over all modalities; users from similar users."""
    earlier, _, _, _ = two_nights()
    video = np.arange(earlier.n_videos)
    user = np.arange(earlier.n_users)
    new_video, new_user = 4, 9
    video[new_video] = user[new_user] = -1
    network, before = network_of("lightgcn", earlier), network_of("lightgcn", earlier)
    parameters = {name: p.detach().numpy() + 1 for name, p in before.named_parameters()}
    warm_start.carry_over(network, Yesterday("2026-01-03", parameters, user, video), earlier)
    for name, new, pairs in (
        ("video_id", new_video, [*earlier.modality_edges.values()]),
        ("user_id", new_user, [earlier.user_edges]),
    ):
        total, weight = np.zeros(6), 0.0
        for part in pairs:
            for node, neighbour, similarity in zip(*vars(part).values(), strict=True):
                if node == new and similarity > 0:
                    total, weight = (
                        total + similarity * parameters[name][neighbour],
                        weight + similarity,
                    )
        assert weight > 0
        actual = network.get_parameter(name).detach()[new]
        np.testing.assert_allclose(actual, total / weight, rtol=1e-5)


def test_parameter_of_another_shape_stays_fresh() -> None:
    earlier, today, user, video = two_nights()
    network = network_of("lightgcn", today, popularity=True)
    fresh = {name: p.detach().clone() for name, p in network.named_parameters()}
    wider = network_of("lightgcn", earlier, dim=7)
    parameters = {name: p.detach().numpy() for name, p in wider.named_parameters()}
    warm_start.carry_over(network, Yesterday("2026-01-03", parameters, user, video), today)
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, fresh[name])


@pytest.mark.parametrize("model", CASES)
def test_second_night_starts_with_a_lower_loss(model: str) -> None:
    earlier, today, user, video = two_nights()
    learned = fit(model, earlier).parameters
    yesterday = Yesterday("2026-01-03", learned, user, video)
    cold = fit(model, today, epochs=1).report
    warmed = fit(model, today, yesterday, epochs=1, warm_start=True).report
    assert warmed["loss"] < cold["loss"] - 0.05
    assert warmed["warm_from"] == {"refit": "2026-01-03"}
    assert "warm_from" not in cold
    # it is asked for: yesterday alone changes nothing
    assert fit(model, today, yesterday, epochs=1).report == cold
    shifted = Yesterday("2026-01-03", learned, np.roll(user, 1), np.roll(video, 1))
    lost = fit(model, today, shifted, epochs=1, warm_start=True).report
    assert warmed["loss"] < lost["loss"]


def test_search_starts_from_its_own_yesterday_only() -> None:
    """The search must not see what a fit of more than its training part has learned."""
    graph = build_graph(logs.clusters(2, n_users=24, n_videos=20), fit="trial")
    module: Any = registry.model("lightgcn")
    made = module.Config(dim=4, max_epochs=3, patience=3, warm_start=True)
    learned = {"video_id": np.full((20, 4), 0.5, np.float32)}
    place = np.arange(24), np.arange(20)

    def losses(phases: list[str]) -> tuple[list[float], float]:
        runtime = Runtime(yesterday={one: Yesterday("d", learned, *place) for one in phases})
        report = module.fit(graph, made, np.random.default_rng(0), runtime=runtime).report
        assert report["warm_from"] == dict.fromkeys(phases, "d")
        return report["losses"], report["loss"]

    neither, refit, search = losses([]), losses(["refit"]), losses(["search"])
    assert refit[0] == neither[0]
    assert search[0] != neither[0]


def test_search_reads_no_neighbours() -> None:
    """Users are alike by what they like on the day of the validation, too."""
    graph = build_graph(logs.clusters(2, n_users=24, n_videos=20), fit="trial")
    alone = replace(graph, user_edges=graph.user_edges.first(0))
    module: Any = registry.model("lightgcn")
    made = module.Config(dim=4, max_epochs=3, patience=3, warm_start=True)
    learned = {"user_id": np.random.default_rng(0).random((24, 4), np.float32)}
    place = np.where(np.arange(24) % 2, np.arange(24), -1), np.arange(20)
    yesterday = {one: Yesterday("d", learned, *place) for one in ("search", "refit")}
    with_edges, without = (
        module.fit(
            world, made, np.random.default_rng(0), runtime=Runtime(yesterday=yesterday)
        ).report
        for world in (graph, alone)
    )
    assert with_edges["losses"] == without["losses"]
    assert with_edges["loss"] != without["loss"]  # the refit does
