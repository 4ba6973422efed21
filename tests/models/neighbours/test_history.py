"""A history fades where the validation day says so, in every neighbour model, and nowhere else."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from microrec.core.fitted import NeighbourLists
from microrec.models.inputs.graph_arrays import EarlyStopping, Edges, Graph, build_graph
from microrec.models.neighbours import ease, history, rp3beta, user_neighbours, video_neighbours
from tests.worlds import logs

N_USERS, N_VIDEOS, LENGTH = 400, 60, 8
COSINE = {"similarity": "cosine"}
MODELS = [(video_neighbours, {}), (rp3beta, {}), (ease, {"l2": 20.0})]


def edges(sequences: np.ndarray, first: int, last: int) -> Edges:
    """The viewings of some places of the sequences, one an hour."""
    user = np.repeat(np.arange(len(sequences)), last - first)
    video = sequences[:, first:last].ravel()
    at = np.tile(np.arange(first, last), len(sequences)) * 3_600_000_000
    order = np.lexsort((video, user))
    ones = np.ones(len(user), np.int64)
    return Edges(
        user[order].astype(np.int32),
        video[order].astype(np.int32),
        ones.astype(float),
        ones,
        ones,
        at[order],
    )


def world(rng: np.random.Generator, *, in_order: bool) -> Graph:
    """Walks on a ring of videos that jump at every third step, or the same viewings in any order."""
    sequences = np.empty((N_USERS, LENGTH), np.int64)
    for walk in sequences:
        seen: list[int] = []
        while len(seen) < LENGTH:
            following = (seen[-1] + 1) % N_VIDEOS if len(seen) % 3 else int(rng.integers(N_VIDEOS))
            seen += [] if following in seen else [following]
            if len(seen) % 3 and following in seen[:-1]:
                seen = []
        walk[:] = seen if in_order else rng.permutation(seen)
    before, everything = edges(sequences, 0, LENGTH - 1), edges(sequences, 0, LENGTH)
    graph = build_graph(logs.tables({"train": np.zeros((N_USERS, N_VIDEOS), bool)}), fit="final")
    held = EarlyStopping(edges=before, seen=before, truth=edges(sequences, LENGTH - 1, LENGTH))
    everyone = np.ones(N_VIDEOS, dtype=bool)
    return replace(graph, edges=everything, early_stopping=held, eligible=everyone)


def fit(model: Any, graph: Graph, **config: Any) -> tuple[NeighbourLists, dict[str, Any]]:
    made = model.fit(graph, model.Config.model_validate(config), np.random.default_rng(0))
    return made.fitted, dict(made.report)


@pytest.mark.parametrize(("model", "config"), MODELS)
def test_decay_is_chosen_where_the_last_video_leads_to_the_next(model: Any, config: Any) -> None:
    lists, report = fit(model, world(np.random.default_rng(5), in_order=True), **config)
    assert report["history_decay"] == lists.history_decay < 1
    by_decay = report["ndcg_by_decay"]
    assert by_decay[str(lists.history_decay)] == max(by_decay.values()) > by_decay["1.0"]


@pytest.mark.parametrize(("model", "config"), [*MODELS, (user_neighbours, COSINE)])
def test_decay_is_1_where_order_says_nothing(model: Any, config: Any) -> None:
    lists, report = fit(model, world(np.random.default_rng(5), in_order=False), **config)
    assert report["history_decay"] == lists.history_decay == 1
    assert set(report["ndcg_by_decay"]) == {"1.0", *map(str, history.DECAYS)}


@pytest.mark.parametrize(("model", "config"), [*MODELS, (user_neighbours, COSINE)])
def test_decay_of_the_recipe_stands_and_changes_no_similarity(model: Any, config: Any) -> None:
    graph = world(np.random.default_rng(5), in_order=True)
    lists, report = fit(model, graph, **config, history_decay=0.6)
    assert report["history_decay"] == lists.history_decay == 0.6
    assert "ndcg_by_decay" not in report
    others, _ = fit(model, replace(graph, early_stopping=None), **config)
    assert others.history_decay == 1
    np.testing.assert_array_equal(lists.similarity, others.similarity)


def test_decay_pearson_chooses_none_as_the_network_knows_the_validation_day() -> None:
    graph = world(np.random.default_rng(5), in_order=True)
    assert fit(user_neighbours, graph, similarity="pearson")[1]["history_decay"] == 1


def test_decay_few_users_choose_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "FEWEST", N_USERS + 1)
    graph = world(np.random.default_rng(5), in_order=True)
    assert fit(video_neighbours, graph)[1]["history_decay"] == 1
