"""Which nights teach the blend; what it makes of them is tried by `test_oracle.py`."""

import datetime as dt
from pathlib import Path

import pytest

from microrec.config.settings import settings
from microrec.pipeline import blending
from microrec.pipeline.night import Night
from microrec.tables.arrow import Warehouse
from tests.benchmarks.delta_log import commit

DAY = dt.date(2026, 1, 20)
RECIPE = """
[night]
window_days = 5
models = ["popularity", "content"]
"""


@pytest.fixture
def warehouse(place: Path, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    (place / "recipe.toml").write_text(RECIPE)
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    return Warehouse.open()


def plant(
    warehouse: Warehouse,
    back: int,
    sources: tuple[str, ...] = ("popularity", "content"),
    *,
    fit: str = "trial",
    stage: str = "evaluation",
) -> None:
    """Commit candidates and metrics of a night so many days before the last."""
    day = DAY - dt.timedelta(days=back)
    for source in sources:
        commit(warehouse, "candidates", day, fit=fit, source=source)
    commit(warehouse, "metrics", day, stage=stage)


def test_teaching_days_are_measured_have_all_sources_and_lie_in_the_window(
    warehouse: Warehouse,
) -> None:
    plant(warehouse, 0)
    plant(warehouse, 1, ("popularity",))
    plant(warehouse, 2, stage="events")
    plant(warehouse, 3, fit="final")
    plant(warehouse, 4)
    plant(warehouse, 5)
    four_back = DAY - dt.timedelta(days=4)
    assert blending.teaching_days(Night.open(DAY, fit="trial")) == [four_back]
    assert blending.teaching_days(Night.open(DAY, fit="final")) == [DAY, four_back]


def test_teaching_days_of_an_empty_warehouse_are_none(warehouse: Warehouse) -> None:
    assert blending.teaching_days(Night.open(DAY, fit="final")) == []
