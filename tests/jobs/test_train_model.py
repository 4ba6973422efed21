"""The job: rows and artefacts in a warehouse, trial before final, again the same."""

import datetime as dt
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs import train_model
from microrec.cli import airflow_server
from microrec.config.settings import HOME, settings
from microrec.core import fitted
from microrec.errors import MissingDay, RecipeError
from microrec.models.training.checkpoint import Checkpoint
from microrec.models.training.runtime import Runtime
from microrec.runner import processes
from microrec.tables import arrow
from tests.worlds import logs, small_tables

DAY = dt.date(2026, 1, 4)
BEFORE = dt.date(2026, 1, 3)
NEW_USER, NEW_VIDEO = 7, 11
"""Index of the user and of the video that the day before does not have."""
FITS = ("trial", "final")
STARTS = (("search", "trial"), ("refit", "final"))
"""Phase of a fit, and the fit of the day before that it starts from."""


@pytest.fixture
def warehouse(place: Path, monkeypatch: pytest.MonkeyPatch) -> arrow.Warehouse:
    """The clusters in a warehouse, and a recipe that trains little."""
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    recipe()
    opened = arrow.Warehouse.open()
    write(opened, DAY, logs.clusters(3))
    return opened


def recipe(more: str = "") -> None:
    """Write the recipe: little training of preference_gcn, and whatever else the test is about."""
    small = "dim = 4\nmax_epochs = 4\nbatch_size = 128\nuser_rows = 'own'\nsampling = 'users'\n"
    settings().recipe.write_text(f"[models.preference_gcn]\n{small}{more}")


def write(warehouse: arrow.Warehouse, day: dt.date, world: Mapping[str, pa.Table]) -> None:
    """The world's tables as those of a day."""
    for name, rows in world.items():
        if name == "user_edges":
            for fit in FITS:
                warehouse.write(
                    name,
                    small_tables.complete(name, rows, without=("day", "fit")),
                    day=day,
                    fit=fit,
                )
        else:
            warehouse.write(name, small_tables.complete(name, rows, without=("day",)), day=day)


def world_before() -> dict[str, pa.Table]:
    """The clusters a day earlier: today's validation part was the holdout then, and the new user and
    the new video were not there, so that who comes after them has an index one lower."""
    nodes = {"user_idx": NEW_USER, "video_idx": NEW_VIDEO}
    found = {}
    for name, rows in logs.clusters(3).items():
        of_users = {**nodes, "neighbour_idx": NEW_USER if name == "user_edges" else NEW_VIDEO}
        for column in set(rows.column_names) & set(of_users):
            rows = rows.filter(pc.not_equal(rows[column], of_users[column]))
            index = rows[column].to_numpy()
            lower = pa.array(index - (index > of_users[column]), pa.int32())
            rows = rows.set_column(rows.schema.get_field_index(column), column, lower)
        found[name] = rows
    edges = found["watch_edges"]
    train = pc.equal(edges["split"], "train")
    later = pc.equal(pc.bit_wise_and(edges["video_idx"], 3), 0)
    parts = pc.if_else(train, pc.if_else(later, "validation", "train"), "holdout")
    place = edges.schema.get_field_index("split")
    return {**found, "watch_edges": edges.set_column(place, "split", parts)}


def row_of(warehouse: arrow.Warehouse, fit: str, model: str, day: dt.date = DAY) -> dict:
    (row,) = warehouse.read("models", day=day, fit=fit, model=model).to_pylist()
    return row


def learned(warehouse: arrow.Warehouse, fit: str, day: dt.date = DAY) -> dict[str, np.ndarray]:
    folder = warehouse.find_artefact(day=day, fit=fit, model="preference_gcn")
    return fitted.load_parameters(folder)


def train(day: dt.date, *fits: str) -> None:
    for fit in fits:
        train_model.main(day=day, fit=fit, model="preference_gcn")


def end_after(monkeypatch: pytest.MonkeyPatch, phase: str, epoch: int) -> None:
    """Have the next training end once this phase has left the state of this epoch."""
    save = Checkpoint.save

    def save_and_end(self: Checkpoint, tensors: Any, optimizer: Any, history: Any) -> None:
        save(self, tensors, optimizer, history)
        if self.path.stem == phase and len(history.losses) == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save_and_end)


def test_train_trial_writes_a_row_and_an_artefact(warehouse: arrow.Warehouse) -> None:
    train_model.main(day=DAY, fit="trial", model="content")
    row = row_of(warehouse, "trial", "content")
    assert row["first_day"] == dt.date(2025, 12, 22)
    assert row["last_day"] == dt.date(2026, 1, 3)
    assert (row["n_users"], row["n_videos"]) == (60, 90)
    assert json.loads(row["metrics"])["modalities"] == ["textual", "visual"]
    model = fitted.load(warehouse.open_artefact(row["path"], row["digest"]))
    assert isinstance(model, fitted.Embeddings)
    assert len(model.user) == 60


def test_train_repeated_is_equal(warehouse: arrow.Warehouse) -> None:
    train_model.main(day=DAY, fit="trial", model="preference_gcn")
    first = row_of(warehouse, "trial", "preference_gcn")
    train_model.main(day=DAY, fit="trial", model="preference_gcn")
    assert row_of(warehouse, "trial", "preference_gcn") == first


def test_train_final_uses_the_epochs_of_its_trial(warehouse: arrow.Warehouse) -> None:
    with pytest.raises(MissingDay):
        train_model.main(day=DAY, fit="final", model="preference_gcn")
    train_model.main(day=DAY, fit="trial", model="preference_gcn")
    train_model.main(day=DAY, fit="final", model="preference_gcn")
    trial = json.loads(row_of(warehouse, "trial", "preference_gcn")["metrics"])
    final = row_of(warehouse, "final", "preference_gcn")
    assert final["last_day"] == DAY
    assert json.loads(final["config"])["epochs"] == trial["epochs"]
    assert "validation_recall@20" not in json.loads(final["metrics"])


def test_train_final_uses_the_decay_of_its_trial(warehouse: arrow.Warehouse) -> None:
    recipe("[models.rp3beta]\nhistory_decay = 0.6\n")
    train_model.main(day=DAY, fit="trial", model="rp3beta")
    recipe()
    train_model.main(day=DAY, fit="final", model="rp3beta")
    final = row_of(warehouse, "final", "rp3beta")
    assert json.loads(final["config"])["history_decay"] == 0.6
    lists = fitted.load(warehouse.open_artefact(final["path"], final["digest"]))
    assert isinstance(lists, fitted.NeighbourLists)
    assert lists.history_decay == 0.6


@pytest.mark.parametrize("model", ["din", "dnn", "multi_trend", "sasrec"])
def test_train_sequence_models_read_sequences(warehouse: arrow.Warehouse, model: str) -> None:
    write(warehouse, DAY, logs.viewings(3))
    settings().recipe.write_text(f"[models.{model}]\ndim = 4\nmax_epochs = 3\nbatch_size = 256\n")
    for fit in FITS:
        train_model.main(day=DAY, fit=fit, model=model)
    trial, final = (row_of(warehouse, fit, model) for fit in FITS)
    found = json.loads(trial["metrics"])
    assert set(found) == {"epochs", "validation", "recalls", "losses", "loss"}
    assert json.loads(final["config"])["epochs"] == found["epochs"]
    assert set(json.loads(final["metrics"])) == {"epochs", "loss"}
    folder = warehouse.open_artefact(final["path"], final["digest"])
    kind = {"multi_trend": "Trends", "sasrec": "Embeddings"}.get(model, "Ranker")
    assert type(fitted.load(folder)).__name__ == kind
    assert len(fitted.load_parameters(folder)["videos.video_id"]) == final["n_videos"]


def test_train_unknown_model_is_refused(warehouse: arrow.Warehouse) -> None:
    with pytest.raises(RecipeError, match="no_such"):
        train_model.main(day=DAY, fit="trial", model="no_such")


@pytest.mark.parametrize(("phase", "epoch"), [("search", 2), ("refit", 1)])
def test_train_retry_resumes_with_the_same_result(
    phase: str,
    epoch: int,
    warehouse: arrow.Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    train(DAY, "trial")
    undisturbed = row_of(warehouse, "trial", "preference_gcn")
    assert json.loads(undisturbed["metrics"])["epochs"] > 1, "so that there is more to the refit"
    checkpoints = warehouse.checkpoint_folder(day=DAY, fit="trial", model="preference_gcn")
    assert not checkpoints.exists()
    with monkeypatch.context() as patch:
        end_after(patch, phase, epoch)
        with pytest.raises(KeyboardInterrupt):
            train(DAY, "trial")
    assert (checkpoints / f"{phase}.safetensors").exists()
    caplog.set_level(logging.INFO)
    train(DAY, "trial")
    assert f"{phase}.safetensors epoch={epoch}" in caplog.text
    assert row_of(warehouse, "trial", "preference_gcn") == undisturbed
    (only,) = checkpoints.parent.iterdir()
    assert only.name == undisturbed["digest"][:16]


def test_train_warm_start_takes_over_the_day_before(warehouse: arrow.Warehouse) -> None:
    write(warehouse, BEFORE, world_before())
    train(BEFORE, "trial", "final")
    # At this rate nothing is learned any more: what a fit ends with is what it started from.
    recipe("warm_start = true\nlearning_rate = 1e-12\n")
    train(DAY, "trial", "final")
    metrics = {fit: json.loads(row_of(warehouse, fit, "preference_gcn")["metrics"]) for fit in FITS}
    assert metrics["trial"]["warm_from"] == {"search": str(BEFORE), "refit": str(BEFORE)}
    assert metrics["final"]["warm_from"] == {"refit": str(BEFORE)}
    earlier = learned(warehouse, "final", BEFORE)
    assert not np.allclose(earlier["video_id"], learned(warehouse, "trial", BEFORE)["video_id"])
    for fit in FITS:
        now = learned(warehouse, fit)
        for rows, new in (("user_id", NEW_USER), ("video_id", NEW_VIDEO)):
            assert len(now[rows]) == len(earlier[rows]) + 1
            np.testing.assert_allclose(np.delete(now[rows], new, axis=0), earlier[rows], atol=1e-9)
            assert np.isfinite(now[rows][new]).all()
    again = row_of(warehouse, "final", "preference_gcn")
    train(DAY, "final")
    assert row_of(warehouse, "final", "preference_gcn") == again


def test_train_search_starts_from_the_fit_without_its_validation(
    warehouse: arrow.Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Runtime] = []
    fit = processes.fit
    monkeypatch.setattr(processes, "fit", lambda *args: given.append(args[-1]) or fit(*args))
    write(warehouse, BEFORE, world_before())
    train(BEFORE, "trial", "final")
    assert not given[-1].yesterday
    recipe("warm_start = true\n")
    train(DAY, "trial")
    starts = given[-1].yesterday
    seen = {
        phase: row_of(warehouse, of, "preference_gcn", BEFORE)["last_day"] for phase, of in STARTS
    }
    assert seen == {"search": DAY - dt.timedelta(days=2), "refit": DAY - dt.timedelta(days=1)}
    for phase, of in STARTS:
        expected = learned(warehouse, of, BEFORE)
        assert starts[phase].parameters.keys() == expected.keys()
        np.testing.assert_array_equal(starts[phase].parameters["video_id"], expected["video_id"])
    assert starts["search"].user.tolist() == [*range(7), -1, *range(7, 59)]


def test_train_without_a_day_before_starts_cold(
    warehouse: arrow.Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    train(DAY, "trial")
    cold = learned(warehouse, "trial")
    recipe("warm_start = true\n")
    caplog.set_level(logging.INFO)
    train(DAY, "trial")
    assert "warm_start phase=search cold: models[day=2026-01-03" in caplog.text
    assert json.loads(row_of(warehouse, "trial", "preference_gcn")["metrics"])["warm_from"] == {}
    np.testing.assert_array_equal(learned(warehouse, "trial")["video_id"], cold["video_id"])


def test_train_uses_the_device_of_the_settings(
    warehouse: arrow.Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROREC_DEVICE", "no_such_device")
    settings.cache_clear()
    with pytest.raises(RuntimeError, match="no_such_device"):
        train(DAY, "trial")
    train_model.main(day=DAY, fit="trial", model="content")


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.long
def test_train_in_two_processes_ends_at_sigterm_and_resumes(
    warehouse: arrow.Warehouse,
    spark: object,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As Airflow ends a task: SIGTERM to the group of the job, of which torchrun's processes are no members."""
    monkeypatch.setenv("MICROREC_TRAIN_PROCESSES", "2")
    settings.cache_clear()
    recipe("epochs = 150\n")
    checkpoints = warehouse.checkpoint_folder(day=DAY, fit="trial", model="preference_gcn")
    words = ["-m", "jobs.train_model", "--day", str(DAY), "--fit", "trial"]
    command = [sys.executable, *words, "--model", "preference_gcn"]
    job = psutil.Popen(command, cwd=HOME, start_new_session=True)
    try:
        while not (checkpoints / "refit.safetensors").exists():
            assert job.poll() is None, "it ended before it could be interrupted"
            time.sleep(0.02)
        family = [job, *job.children(recursive=True)]
        began = time.monotonic()
        os.killpg(job.pid, signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=30)
        seconds = time.monotonic() - began
    finally:
        airflow_server.end([job])
    assert len(family) >= 6, "the job, its JVM, Spark's wrapper, torchrun and two processes"
    assert not alive, f"still there after {seconds:.0f} s"
    assert (checkpoints / "refit.safetensors").exists()
    caplog.set_level(logging.INFO)
    train(DAY, "trial")
    resumed = row_of(warehouse, "trial", "preference_gcn")
    assert not checkpoints.exists()
    train(DAY, "trial")
    assert row_of(warehouse, "trial", "preference_gcn") == resumed
