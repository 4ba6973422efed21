"""A producer without vectors and captions has a night without content; one whose vectors are all refused has none.

Of captions the night makes vectors: content and similar videos reach what nobody has watched.
"""

import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from microrec.config.settings import settings
from microrec.errors import GateHeld
from microrec.landing import write
from microrec.pipeline import absence
from microrec.pipeline.night import Night
from microrec.release import reader
from microrec.synth.world import Config, Truth, generate
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
NO_WORDS = """
[features.words]
made = false
"""
VECTORS = "raw_video_features"
COLD = [f"v{number:06}" for number in range(0, 160, 8)]


def lay_world(place: Path, *, vectors: str, words: bool = False) -> Truth:
    """Landing files of a world, `vectors` none or broken; with `words` nobody watches a video of `COLD`."""
    sizes = {"users": 100, "videos": 160, "days": N_DAYS, "first_day": FIRST}
    config = Config(**sizes, dirt_per_kind=0, formats=("parquet",), words=words)
    planted = generate(config, np.random.default_rng(5))
    parts = []
    for part in planted.parts:
        if part.table == VECTORS and vectors == "none":
            continue
        if part.table == "raw_interactions" and words and part.rows is not None:
            is_cold = pc.is_in(part.rows["video_id"], value_set=pa.array(COLD))
            part = dataclasses.replace(part, rows=part.rows.filter(pc.invert(is_cold)))
        if part.table == VECTORS and part.rows is not None:
            nothing = pa.nulls(part.rows.num_rows, part.rows["vector"].type)
            at = part.rows.schema.get_field_index("vector")
            part = dataclasses.replace(part, rows=part.rows.set_column(at, "vector", nothing))
        parts.append(part)
    write.write_world(str(place / "landing"), parts)
    return planted.truth


@pytest.fixture
def recipe(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "recipe.toml").write_text(RECIPE + NO_WORDS)
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


@pytest.mark.usefixtures("recipe", "spark")
def test_night_without_vectors_makes_those_of_words_and_reaches_unwatched_videos(
    place: Path,
) -> None:
    (place / "recipe.toml").write_text(RECIPE)
    truth = lay_world(place, vectors="none", words=True)
    run_night(LAST)
    warehouse = Warehouse.open()
    similar = warehouse.read("similar_videos", day=LAST).to_pylist()
    textual = [row for row in similar if row["kind"] == "textual" and row["rank"] <= 5]
    cluster = truth.video_cluster
    assert len({row["video_id"] for row in textual}) > 100
    assert (
        np.mean([cluster[row["video_id"]] == cluster[row["similar_video_id"]] for row in textual])
        > 0.7
    )
    nodes = warehouse.read("video_nodes", day=LAST).to_pylist()
    cold = {row["video_idx"] for row in nodes if row["video_id"] in COLD and row["eligible"]}
    proposed = warehouse.read("candidates", day=LAST, fit="final", source="content")
    assert len(cold) > 15
    assert cold <= set(proposed["video_idx"].to_pylist())
    assert {row["video_id"] for row in textual} >= set(COLD) - set(truth.ineligible[LAST])
    assert warehouse.count("video_features", day=LAST) == warehouse.count("video_nodes", day=LAST)
