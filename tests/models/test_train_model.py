"""The job: rows and artefacts in a warehouse, trial before final, again the same."""

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import worlds

from jobs import train_model
from microrec.errors import MissingDay, RecipeError
from microrec.models import fitted
from microrec.settings import settings
from microrec.tables import arrow, contract

DAY = dt.date(2026, 1, 4)


@pytest.fixture
def house(place: Path, monkeypatch: pytest.MonkeyPatch) -> arrow.Warehouse:
    """The clusters in a warehouse, and a recipe that trains little."""
    recipe = place / "recipe.toml"
    recipe.write_text("[models.preference_gcn]\ndim = 4\nmax_epochs = 4\nbatch_size = 128\n")
    monkeypatch.setenv("MICROREC_RECIPE", str(recipe))
    settings.cache_clear()
    opened = arrow.Warehouse.open()
    for name, rows in worlds.clusters(3).items():
        if name == "user_edges":
            for fit in ("trial", "final"):
                opened.write(name, complete(name, rows, without=("day", "fit")), day=DAY, fit=fit)
        else:
            opened.write(name, complete(name, rows, without=("day",)), day=DAY)
    return opened


def complete(table: str, rows: pa.Table, *, without: tuple[str, ...]) -> pa.Table:
    """The rows with every column of the contract: what models do not read is filled in."""
    columns = {}
    for field in contract.load(settings().schemas, table).schema:
        if field.name in without:
            continue
        if field.name in rows.column_names:
            columns[field.name] = rows[field.name].cast(field.type)
        else:
            ones = pa.array(np.ones(rows.num_rows, dtype=np.int64))
            columns[field.name] = ones.cast(field.type)
    return pa.table(columns)


def row_of(house: arrow.Warehouse, fit: str, model: str) -> dict:
    (row,) = house.read("models", day=DAY, fit=fit, model=model).to_pylist()
    return row


def test_a_trial_leaves_a_row_and_an_artefact(house: arrow.Warehouse) -> None:
    train_model.main(day=DAY, fit="trial", model="content")
    row = row_of(house, "trial", "content")
    assert row["first_day"] == dt.date(2025, 12, 22)
    assert row["last_day"] == dt.date(2026, 1, 3)
    assert (row["n_users"], row["n_videos"]) == (60, 90)
    assert json.loads(row["metrics"])["modalities"] == ["textual", "visual"]
    model = fitted.load(house.open_artefact(row["path"], row["digest"]))
    assert isinstance(model, fitted.Embeddings)
    assert len(model.user) == 60


def test_the_same_job_again_leaves_the_same(house: arrow.Warehouse) -> None:
    train_model.main(day=DAY, fit="trial", model="preference_gcn")
    first = row_of(house, "trial", "preference_gcn")
    train_model.main(day=DAY, fit="trial", model="preference_gcn")
    assert row_of(house, "trial", "preference_gcn") == first


def test_final_trains_for_the_epochs_of_its_trial(house: arrow.Warehouse) -> None:
    with pytest.raises(MissingDay):
        train_model.main(day=DAY, fit="final", model="preference_gcn")
    train_model.main(day=DAY, fit="trial", model="preference_gcn")
    train_model.main(day=DAY, fit="final", model="preference_gcn")
    trial = json.loads(row_of(house, "trial", "preference_gcn")["metrics"])
    final = row_of(house, "final", "preference_gcn")
    assert final["last_day"] == DAY
    assert json.loads(final["config"])["epochs"] == trial["epochs"]
    assert "validation_recall@20" not in json.loads(final["metrics"])


def test_refuses_an_unknown_model(house: arrow.Warehouse) -> None:
    with pytest.raises(RecipeError, match="no_such"):
        train_model.main(day=DAY, fit="trial", model="no_such")
