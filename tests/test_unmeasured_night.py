"""Logs without watch times and lengths, through a whole night: released, on reactions or on plays alone."""

import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from microrec.config.settings import settings
from microrec.landing import write
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
models = ["popularity", "content", "user_neighbours", "video_neighbours", "ease"]

[events]
unmeasured = "{unmeasured}"

[evaluation.gate]
better_than_popularity = -1.0
"""
DROPPED = {
    "neutral": ("watch_ms", "duration_ms"),
    "positive": (
        "watch_ms", "duration_ms", "liked", "shared", "followed", "commented", "disliked",
    ),
}  # fmt: skip
"""Columns that the log does not have, by what an unmeasured viewing counts as."""


def without(rows: pa.Table, names: tuple[str, ...]) -> pa.Table:
    return rows.drop_columns([name for name in names if name in rows.column_names])


@pytest.mark.parametrize("unmeasured", DROPPED)
def test_night_of_a_log_without_watch_times_is_released(
    place: Path, spark: object, monkeypatch: pytest.MonkeyPatch, unmeasured: str
) -> None:
    (place / "recipe.toml").write_text(RECIPE.format(unmeasured=unmeasured))
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    config = Config(
        users=100, videos=160, days=N_DAYS, first_day=FIRST, dirt_per_kind=0, formats=("parquet",)
    )
    parts = generate(config, np.random.default_rng(5)).parts
    write.write_world(
        str(place / "landing"),
        [
            dataclasses.replace(part, rows=without(part.rows, DROPPED[unmeasured]))
            for part in parts
            if part.rows is not None
        ],
    )
    run_night(LAST)
    events = Warehouse.open().read("events", day=LAST)
    assert events["watch_ms"].null_count == events["skipped"].null_count == events.num_rows > 0
    positive = sum(label == "positive" for label in events["feedback"].to_pylist())
    assert (
        positive == events.num_rows if unmeasured == "positive" else 0 < positive < events.num_rows
    )
    release = reader.of(LAST)
    assert release.read("recommendations").num_rows > 0
    assert Warehouse.open().read("clip_edges", day=LAST).num_rows == 0
