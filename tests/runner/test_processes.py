"""Two processes that Spark starts find the model that one finds."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from microrec.config.settings import settings
from microrec.core.fitted import Trained
from microrec.models import registry
from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.training.runtime import Runtime
from microrec.runner import processes
from tests.worlds import logs

CASES: dict[str, dict[str, Any]] = {
    "lightgcn": {"keep_edges": 0.8},
    "preference_gcn": {"keep_edges": 0.8, "modality_dropout": 0.3},
}
SIZES: dict[str, Any] = {"dim": 8, "epochs": 12, "batch_size": 101}


@pytest.fixture
def two(place: Path, spark: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROREC_TRAIN_PROCESSES", "2")
    settings.cache_clear()


def fit(name: str, **config: Any) -> Trained:
    graph: Graph = build_graph(logs.clusters(3), fit="trial")
    made: BaseModel = registry.model(name).Config.model_validate({**SIZES, **config})
    return processes.fit(name, graph, made, np.random.default_rng(0), Runtime())


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_run_two_processes_equals_one(
    name: str, two: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shared = fit(name, **CASES[name])
    assert capfd.readouterr().err.count("epoch=12 of=12") == 1, "the first process tells"
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    monkeypatch.setenv("MICROREC_TRAIN_PROCESSES", "1")
    settings.cache_clear()
    alone = fit(name, **CASES[name])
    assert shared.report["loss"] == pytest.approx(alone.report["loss"], rel=1e-4)
    for rows in ("user", "video"):
        there, here = getattr(shared.fitted, rows), getattr(alone.fitted, rows)
        np.testing.assert_allclose(there, here, atol=1e-4)
    assert shared.parameters.keys() == alone.parameters.keys()


@pytest.mark.spark
@pytest.mark.slow
def test_run_failed_process_fails_all(two: None, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="failed during training"):
        processes.run(registry.model, "no_such_model", processes=2, gpu=False)
    assert "model 'no_such_model' is not one of" in capfd.readouterr().err
