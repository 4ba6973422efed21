"""A model of an installed package, its name in the recipe, and nothing else: a whole night ends with its release."""

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from microrec.config.settings import settings
from microrec.core import fitted
from microrec.landing import write
from microrec.release import reader
from microrec.synth.world import Config, generate
from microrec.tables.arrow import Warehouse
from tests.worlds import models
from tests.worlds.nights import run_night

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.long]

DAY = dt.date(2026, 1, 4)
RECIPE = """
[night]
window_days = 4
k = 10
models = ["popularity", "newest"]

[candidates.fusion] # the weights of the recipe stand
least_liked = 1_000_000
caution = 100.0

[candidates.blend.weights]
newest = { warm = 1.0, cold = 1.0 }

[evaluation.gate]
better_than_popularity = -1.0
source_kept = 0.0
"""


@pytest.fixture
def warehouse(
    tmp_path: Path, spark: object, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Warehouse]:
    """A landing zone, an empty warehouse, a recipe that names the package's model, and the package."""
    places = {"LANDING": "landing", "WAREHOUSE": "warehouse", "RECIPE": "recipe.toml"}
    for name, path in places.items():
        monkeypatch.setenv(f"MICROREC_{name}", str(tmp_path / path))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    settings.cache_clear()
    world = generate(
        Config(users=80, videos=120, days=6, formats=("parquet",)), np.random.default_rng(2)
    )
    write.write_world(str(tmp_path / "landing"), world.parts)
    models.install(tmp_path / "packages", monkeypatch)
    yield Warehouse.open()
    models.forget()
    settings.cache_clear()


def test_night_with_a_model_of_another_package_ends_with_its_release(warehouse: Warehouse) -> None:
    run_night(DAY)
    for fit in ("trial", "final"):
        (row,) = warehouse.read("models", day=DAY, fit=fit, model=models.NAME).to_pylist()
        assert json.loads(row["metrics"]) == {"videos": row["n_videos"]}
        model = fitted.load(warehouse.open_artefact(row["path"], row["digest"]))
        assert isinstance(model, fitted.Embeddings)
        assert warehouse.count("candidates", day=DAY, fit=fit, source=models.NAME) > 0
    release = reader.latest()
    assert release.day == DAY
    # The final lists may leave it out: they follow one source where that was better than the blend.
    blended = warehouse.read("blend_weights", day=DAY, fit="trial").to_pylist()
    assert any(row["source"] == models.NAME and row["weight"] > 0 for row in blended)
    (made_of,) = warehouse.read("nights", day=DAY).to_pylist()[-1:]
    assert json.loads(made_of["packages"])["newest"] == "1.5"
