"""The law of data-parallel training, without Spark: two processes take the steps that one takes."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

from microrec.core.fitted import Trained
from microrec.models import registry
from microrec.models.inputs.graph_arrays import build_graph
from microrec.models.training import parallel
from microrec.models.training.checkpoint import Checkpoint
from microrec.models.training.runtime import Runtime
from tests.worlds import logs

TOLERANCE = 2e-5
"""Rounding: sums of a batch are added up in another order. Measured: 7e-7 (mmgcn)."""
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lightgcn": ("lightgcn", {"keep_edges": 0.8, "epochs": 12}),
    "lightgcn-softmax": ("lightgcn", {"loss": "softmax", "softmax_videos": 40, "epochs": 12}),
    "lightgcn-search": ("lightgcn", {"popularity": True, "max_epochs": 6}),
    "preference_gcn": (
        "preference_gcn",
        {"keep_edges": 0.8, "modality_dropout": 0.3, "epochs": 12},
    ),
    "mmgcn": ("mmgcn", {"epochs": 12}),
    # Dropout is drawn by each process for itself, and L2 is of the videos of its part.
    "sasrec": ("sasrec", {"dropout": 0.0, "id_dropout": 0.0, "l2": 0.0, "max_epochs": 4}),
}


def fit(case: str, checkpoints: Path | None = None) -> Trained:
    name, config = CASES[case]
    world = logs.viewings(3) if name == "sasrec" else logs.clusters(3)
    graph, module = build_graph(world, fit="trial"), registry.model(name)
    made = module.Config.model_validate({"dim": 8, "batch_size": 101, **config})
    return module.fit(graph, made, np.random.default_rng(0), runtime=Runtime("cpu", checkpoints))


def member(rank: int, case: str, meeting: Path, checkpoints: Path | None) -> Trained:
    """What each of two processes does."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
    try:
        return fit(case, checkpoints)
    finally:
        distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two() -> Iterator[ProcessPoolExecutor]:
    """Two processes that live as long as the tests of this file: importing torch is what costs."""
    patch = pytest.MonkeyPatch()
    patch.setenv("GLOO_SOCKET_IFNAME", "lo")
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool
    patch.undo()


def shared(
    pool: ProcessPoolExecutor, case: str, place: Path, checkpoints: Path | None = None
) -> tuple[Trained, Trained]:
    both = [pool.submit(member, rank, case, place / "meeting", checkpoints) for rank in (0, 1)]
    first, second = (one.result(timeout=120) for one in both)
    return first, second


@pytest.mark.parametrize("case", CASES)
def test_parallel_two_processes_equal_one(
    case: str, two: ProcessPoolExecutor, tmp_path: Path
) -> None:
    first, second = shared(two, case, tmp_path)
    alone = fit(case)
    assert first.report["epochs"] == alone.report["epochs"]
    assert first.report["loss"] == pytest.approx(alone.report["loss"], rel=1e-4)
    for rows in ("user", "video"):
        actual = getattr(first.fitted, rows)
        np.testing.assert_array_equal(actual, getattr(second.fitted, rows))
        np.testing.assert_allclose(actual, getattr(alone.fitted, rows), atol=TOLERANCE)


def test_parallel_processes_divide_a_batch_without_remainder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = torch.arange(11)
    assert torch.equal(batch[parallel.share()], batch)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(parallel, "_in_group", lambda: True)
        monkeypatch.setattr(parallel.group, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(parallel.group, "get_world_size", lambda: 3)
        parts.append(batch[parallel.share()])
    assert torch.equal(torch.cat(parts).sort().values, batch)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_parallel_two_processes_resume_what_one_began(
    two: ProcessPoolExecutor, tmp_path: Path
) -> None:
    checkpoints = tmp_path / "checkpoints"
    save = Checkpoint.save

    def save_and_end(self: Checkpoint, tensors: Any, optimizer: Any, history: Any) -> None:
        save(self, tensors, optimizer, history)
        if len(history.losses) == 5:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_end)
        with pytest.raises(KeyboardInterrupt):
            fit("lightgcn", checkpoints)
    ended = (checkpoints / "refit.safetensors").stat().st_ino
    first, _ = shared(two, "lightgcn", tmp_path, checkpoints)
    assert (checkpoints / "refit.safetensors").stat().st_ino != ended
    np.testing.assert_allclose(first.fitted.video, fit("lightgcn").fitted.video, atol=TOLERANCE)
