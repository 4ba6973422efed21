"""Counts of exposures add up, are the same however Spark lays the rows out, and read no day before the window."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from jobs import count_exposures
from microrec.config.settings import settings
from microrec.graphs.watch.exposure_counts import exposure_counts
from microrec.tables import spark
from microrec.tables.arrow import Warehouse
from tests.worlds.graph_rows import Rows, sorted_rows

COLUMNS = ("user_idx", "video_idx", "surface", "shown_on", "n_shown", "n_positive")
DAY = dt.date(2026, 1, 2)


def started(*viewings: tuple[str, bool]) -> list[dict[str, Any]]:
    return [{"surface": surface, "positive": positive} for surface, positive in viewings]


@pytest.mark.spark
def test_counts_are_by_surface_and_day(rows: Rows) -> None:
    both = started(("", True), ("", False), ("feed", True))
    watches = rows(
        "pair_days",
        {"day": DAY, "started": both},
        {"day": DAY + dt.timedelta(1), "started": started(("feed", False))},
        {"day": DAY, "video_idx": 1, "started": started(("feed", True), ("feed", True))},
        {"day": DAY, "user_idx": 1, "started": []},
    )
    expected = [
        (0, 0, "", DAY, 2, 1),
        (0, 0, "feed", DAY, 1, 1),
        (0, 0, "feed", DAY + dt.timedelta(1), 1, 0),
        (0, 1, "feed", DAY, 2, 2),
    ]
    assert sorted_rows(exposure_counts(watches), *COLUMNS) == expected
    for n in (1, 5):
        assert sorted_rows(exposure_counts(watches.repartition(n)), *COLUMNS) == expected


def test_night_without_a_reader_has_no_counts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Spark session is opened for it; lists of surfaces would read them."""
    (place / "recipe.toml").write_text("[candidates.segments]\nsurfaces = 0\n")
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    monkeypatch.setattr(spark.Warehouse, "open", lambda: pytest.fail("Spark was started"))
    count_exposures.main(day=DAY)
    warehouse = Warehouse.open()
    assert warehouse.exists("exposure_counts", day=DAY)
    assert warehouse.count("exposure_counts", day=DAY) == 0
