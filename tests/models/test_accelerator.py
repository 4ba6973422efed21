"""The law of devices: a fit on a GPU is the fit on the CPU, up to rounding. Skipped where there is no GPU."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

from microrec.core import fitted
from microrec.core.fitted import Trained
from microrec.models import registry
from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.sequence import exposures
from microrec.models.training import checkpoint
from microrec.models.training.runtime import Runtime
from tests.worlds import clips as clip_worlds
from tests.worlds import logs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="no GPU that torch can use (a CPU build, or none there)",
    ),
]

TOLERANCE = 1e-3
"""Rounding, after some epochs of Adam: sums are added up in another order."""
NO_DROPOUT = {"dropout": 0.0, "id_dropout": 0.0}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lightgcn": ("lightgcn", {}),
    "lightgcn-softmax": ("lightgcn", {"loss": "softmax", "softmax_videos": 40}),
    "lightgcn-pruned": ("lightgcn", {"keep_edges": 0.8}),
    "preference_gcn": ("preference_gcn", {}),
    "mmgcn": ("mmgcn", {}),
    "sasrec": ("sasrec", NO_DROPOUT),
    "din": ("din", {}),
    "dnn": ("dnn", {}),
    "multi_trend": ("multi_trend", {}),
    "clip_interest": ("clip_interest", {}),
}
logger = logging.getLogger(__name__)
RANKERS = ("din", "multi_trend", "clip_interest")


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    """By what a model reads."""
    tables = {"clips": clip_worlds.world(1).tables, "viewings": logs.viewings(3)}
    return {name: build_graph(some, fit="trial") for name, some in tables.items()}


@pytest.fixture
def graph(graphs: dict[str, Graph], request: pytest.FixtureRequest) -> Graph:
    """What the test's model reads."""
    values = getattr(request.node, "callspec", None)
    clips = values is not None and "clip_interest" in values.params.values()
    return graphs["clips" if clips else "viewings"]


def fit(case: str, graph: Graph, device: str, checkpoints: Path | None = None) -> Trained:
    name, chosen = CASES[case]
    module: Any = registry.model(name)
    config = configured(module, chosen)
    return module.fit(graph, config, np.random.default_rng(0), runtime=Runtime(device, checkpoints))


def configured(module: Any, chosen: dict[str, Any]) -> Any:
    """A small model; of what is chosen only what it knows."""
    known = {name: value for name, value in chosen.items() if name in module.Config.model_fields}
    return module.Config.model_validate({"dim": 8, "epochs": 4, **known})


def assert_close(one: Trained, other: Trained) -> None:
    assert set(one.parameters) == set(other.parameters)
    for name, value in one.parameters.items():
        size = max(1.0, float(np.abs(value).max()))
        np.testing.assert_allclose(
            other.parameters[name], value, rtol=0, atol=TOLERANCE * size, err_msg=name
        )


@pytest.mark.parametrize("case", CASES)
def test_fit_on_gpu_is_close_to_cpu(case: str, graph: Graph) -> None:
    cpu, gpu = fit(case, graph, "cpu"), fit(case, graph, "cuda")
    assert_close(cpu, gpu)
    again = fit(case, graph, "cuda")
    same = all(
        again.parameters[name].tobytes() == one.tobytes() for name, one in gpu.parameters.items()
    )
    logger.info("%s: the same bits twice on the GPU: %s", case, same)
    assert_close(gpu, again)


@pytest.mark.parametrize("case", ["preference_gcn", "multi_trend"])
def test_fit_on_gpu_killed_resumes(
    case: str, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, saved = fit(case, graph, "cuda"), checkpoint.Checkpoint.save
    n = 0

    def save(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal n
        saved(self, *arguments, **named)
        n += 1
        if n == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "save", save)
        with pytest.raises(KeyboardInterrupt):
            fit(case, graph, "cuda", tmp_path)
    assert_close(whole, fit(case, graph, "cuda", tmp_path))


@pytest.mark.parametrize("name", RANKERS)
def test_scores_on_gpu_are_close_to_cpu(name: str, graph: Graph, tmp_path: Path) -> None:
    module: Any = registry.model(name)
    config = configured(module, CASES[name][1])
    fitted.save(fit(name, graph, "cuda"), tmp_path, config=config)
    users, videos = np.arange(30), np.arange(30) + 1
    scores = [
        module.scores(
            exposures.load(name, tmp_path, graph, device=device).eval(), graph, users, videos
        )
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(scores[1], scores[0], rtol=0, atol=1e-4)


def test_processes_on_gpu_communicate_by_nccl(graph: Graph, tmp_path: Path) -> None:
    """Of one here, as there is one GPU: every step goes through the group."""
    alone = fit("preference_gcn", graph, "cuda")
    torch.cuda.set_device("cuda:0")
    distributed.init_process_group("nccl", f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        assert_close(alone, fit("preference_gcn", graph, "cuda:0"))
    finally:
        distributed.destroy_process_group()
