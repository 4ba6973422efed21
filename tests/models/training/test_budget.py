"""A fit within its time is the fit without a limit; one that reaches it serves the best it has, and says so."""

import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from microrec.core.fitted import Trained
from microrec.models import registry
from microrec.models.graph import fitting
from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.training import loop
from microrec.models.training.budget import Budget
from microrec.models.training.runtime import Runtime
from tests.worlds import fitted_models, logs

BATCH = 10
"""Edges a step: 4 steps an epoch of the search, 5 of the refit."""


@pytest.fixture(scope="module")
def graph() -> Graph:
    return build_graph(logs.clusters(2, n_users=24, n_videos=20), fit="trial")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes every step of training take so many seconds."""
    seconds = itertools.repeat(0.0)
    now, original = 0.0, loop.step

    def timed(*arguments: Any) -> float:
        nonlocal now
        now += next(seconds)
        return original(*arguments)

    def set_clock(a_step: float) -> None:
        nonlocal seconds
        seconds = itertools.repeat(a_step)

    monkeypatch.setattr(loop, "step", timed)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now))
    return set_clock


@pytest.fixture
def rising(monkeypatch: pytest.MonkeyPatch) -> None:
    """A validation that is better after every epoch."""
    recalls: Iterator[int] = itertools.count(1)
    monkeypatch.setattr(fitting, "validation_recall", lambda *_, **__: next(recalls) / 100)


def fit(
    graph: Graph, minutes: float | None, *, folder: Path | None = None, **chosen: Any
) -> Trained:
    """Fit a small network, within so many minutes."""
    module: Any = registry.model("lightgcn")
    small = {"dim": 3, "batch_size": BATCH, "max_epochs": 12, "patience": 3, "validation_k": 4}
    config = module.Config(**small, budget_minutes=minutes, **chosen)
    return module.fit(graph, config, np.random.default_rng(0), runtime=Runtime(checkpoints=folder))


def steps_of(graph: Graph) -> tuple[int, int]:
    """Steps of an epoch of the search and of the refit."""
    held = graph.early_stopping
    assert held is not None
    return -(-len(held.edges) // BATCH), -(-len(graph.edges) // BATCH)


def test_budget_that_is_not_reached_changes_no_bit(graph: Graph) -> None:
    limited, free = fit(graph, 1e6), fit(graph, None)
    fitted_models.assert_same_bits(limited, free)
    assert limited.report == free.report
    assert "budget_reached" not in free.report


@pytest.mark.usefixtures("rising")
def test_budget_search_ends_while_its_best_epoch_can_be_refitted(
    graph: Graph, clock: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    clock(60.0)
    in_search, in_refit = steps_of(graph)
    # Five epochs of both phases, and all but a step of a sixth.
    minutes = 6 * (in_search + in_refit) - 1
    with caplog.at_level(logging.WARNING, logger="microrec.models.training"):
        limited = fit(graph, minutes)
    assert limited.report["recalls"] == [0.01, 0.02, 0.03, 0.04, 0.05]
    assert limited.report["epochs"] == 5
    assert limited.report["budget_reached"] == ["search"]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"budget_minutes={minutes:.1f} reached in search: epochs=5"
    chosen = fit(graph, None, epochs=5)
    fitted_models.assert_same_bits(replace(limited, report={}), replace(chosen, report={}))


@pytest.mark.usefixtures("rising")
def test_budget_refit_that_takes_longer_than_the_search_is_cut(
    graph: Graph, clock: Callable[[float], None]
) -> None:
    _, in_refit = steps_of(graph)
    clock(60.0)
    trained = fit(graph, 2.5 * in_refit, epochs=8, members=1)
    assert trained.report["budget_reached"] == ["refit"]
    assert trained.report["epochs"] == 2, "a third would not end in time"
    members = fit(graph, 7.5 * in_refit, epochs=8, members=3)
    assert members.report["budget_reached"] == ["refit", "refit-1", "refit-2"]
    assert members.report["epochs"] == 2, "each has a third of the time, or what the others leave"


@pytest.mark.usefixtures("rising")
def test_budget_shorter_than_an_epoch_cuts_it_short(
    graph: Graph, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    original = loop.step
    monkeypatch.setattr(loop, "step", lambda *given: done.append(1) or original(*given))  # type: ignore[func-returns-value]
    clock(60.0)
    trained = fit(graph, 3)
    assert trained.report["epochs"] == 1
    assert trained.report["budget_reached"] == ["search", "refit"]
    assert len(done) <= 5, "one step more than fits in each phase"


@pytest.mark.usefixtures("rising")
def test_budget_that_grows_goes_on_from_the_checkpoint(
    graph: Graph, clock: Callable[[float], None], tmp_path: Path
) -> None:
    clock(60.0)
    recalls = [n / 100 for n in range(1, 13)]
    assert fit(graph, 3, folder=tmp_path).report["recalls"] == recalls[:1], "part of an epoch"
    minutes = 4 * sum(steps_of(graph))
    assert fit(graph, minutes, folder=tmp_path).report["recalls"] == recalls[:4]
    grown = fit(graph, 4 * minutes, folder=tmp_path)
    assert grown.report["recalls"] == recalls
    assert "budget_reached" not in grown.report
    again = fit(graph, minutes, folder=tmp_path)
    assert again.report["epochs"] == 12, "what is trained is not thrown away"


@pytest.mark.usefixtures("rising")
def test_time_left_counts_the_refit_and_is_no_more_than_the_budget(
    graph: Graph, clock: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    clock(1.0)
    in_search, in_refit = steps_of(graph)
    with caplog.at_level(logging.INFO, logger="microrec.models.training.loop"):
        fit(graph, 6 * (in_search + in_refit) / 60)
    lines = [record.getMessage().split() for record in caplog.records if record.levelname == "INFO"]
    first = dict(word.split("=") for word in lines[0])
    # Three more epochs without a better one, and the refit of the first.
    ratio = len(graph.edges) / len(graph.early_stopping.edges)  # type: ignore[union-attr]
    assert float(first["seconds_left"]) == round(in_search * (3 + ratio))
    assert float(first["at_most"]) == 6 * (in_search + in_refit) - in_search
    last = dict(word.split("=") for word in lines[-1])
    assert (last["seconds_left"], last["at_most"]) == ("0", "0")


def test_budget_first_epoch_may_start_and_later_ones_must_fit() -> None:
    assert Budget(1.0).has_room([])
    assert not Budget(1.0).has_room([], 1.5)
    assert Budget(10.0).has_room([4.0])
    assert not Budget(10.0).has_room([4.0, 4.0])
    assert not Budget(10.0, refit_ratio=1.0).has_room([4.0])
    assert Budget(None, refit_ratio=1.0).has_room([4.0] * 100)
