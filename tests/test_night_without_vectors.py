"""A producer without vectors has a night without content; one whose vectors are all refused has none."""

import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from microrec.config.settings import settings
from microrec.errors import GateHeld
from microrec.landing import write
from microrec.pipeline import absence
from microrec.pipeline.night import Night
from microrec.release import reader
from microrec.synth.world import Config, generate
from microrec.tables.arrow import Warehouse
from tests.worlds.nights import run_night

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.long]

FIRST = dt.date(2026, 1, 1)
N_DAYS = 5
LAST = FIRST + dt.timedelta(days=N_DAYS - 1)
RECIPE = """
[night]
window_days = 5
k = 10
models = ["popularity", "content", "video_neighbours"]

[evaluation.gate]
better_than_popularity = -1.0
"""
VECTORS = "raw_video_features"


def lay_world(place: Path, *, vectors: str) -> None:
    """Landing files of a world, `vectors` none or broken."""
    config = Config(
        users=100, videos=160, days=N_DAYS, first_day=FIRST, dirt_per_kind=0, formats=("parquet",)
    )
    parts = []
    for part in generate(config, np.random.default_rng(5)).parts:
        if part.table == VECTORS and vectors == "none":
            continue
        if part.table == VECTORS and part.rows is not None:
            nothing = pa.nulls(part.rows.num_rows, part.rows["vector"].type)
            at = part.rows.schema.get_field_index("vector")
            part = dataclasses.replace(part, rows=part.rows.set_column(at, "vector", nothing))
        parts.append(part)
    write.write_world(str(place / "landing"), parts)


@pytest.fixture
def recipe(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "recipe.toml").write_text(RECIPE)
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()


@pytest.mark.usefixtures("recipe", "spark")
def test_night_without_vectors_goes_without_content_and_is_released(place: Path) -> None:
    lay_world(place, vectors="none")
    run_night(LAST)
    assert reader.of(LAST).read("recommendations").num_rows > 0
    gates = {
        row["gate"]: row
        for row in Warehouse.open().read("gate_results", day=LAST, fit="trial").to_pylist()
    }
    assert gates["dead_sources"]["status"] == "pass"
    assert "content (needs video_features)" in gates["absent_models"]["detail"]


@pytest.mark.usefixtures("recipe", "spark")
def test_night_whose_vectors_are_all_refused_is_held(place: Path) -> None:
    lay_world(place, vectors="broken")
    with pytest.raises(GateHeld, match=r"dead_sources .*content|refused"):
        run_night(LAST)
    night = Night.open(LAST, fit="trial")
    if night.exists("metrics", stage="events"):
        assert absence.absent_models(night) == {}
