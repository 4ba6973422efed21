"""How far back nights read, and that no recipe keeps less."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from microrec.config.recipe import Recipe
from microrec.pipeline import kept_days
from microrec.release import retention
from microrec.tables.arrow import Warehouse
from tests.worlds.small_tables import users


@pytest.mark.parametrize(
    ("values", "floors"),
    [
        ({}, {"events": 21, "graphs": 14, "candidates": 14, "measurements": 28}),
        (
            {"night": {"window_days": 40, "lateness_days": 9}},
            {"events": 49, "catalogue": 40, "landing_files": 49, "measurements": 54},
        ),
        ({"evaluation": {"gate": {"pooled_nights": 60}}}, {"measurements": 60}),
        ({"evaluation": {"arrivals": {"returning_days": 30}}}, {"events": 44}),
    ],
    ids=["defaults", "long window", "pooled nights", "returning users"],
)
def test_floors_follow_the_recipe(values: dict[str, Any], floors: dict[str, int]) -> None:
    computed = kept_days.floors(Recipe(Path("recipe.toml"), values))
    assert set(computed) == set(retention.GROUPS)
    assert computed.items() >= floors.items()


def test_recipe_that_keeps_one_day_keeps_what_the_next_nights_read(place: Path) -> None:
    warehouse, last = Warehouse.open(), dt.date(2026, 1, 31)
    days = [last - dt.timedelta(days=back) for back in range(9)]
    for day in days:
        warehouse.write("users", users(1), day=day)
    values = {"night": {"window_days": 4}}
    config = retention.Config(graphs=1, again=2)
    later = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=60)
    floors = kept_days.floors(Recipe(Path("recipe.toml"), values))
    retention.prune(warehouse, config, today=later, floors=floors)
    kept = {str(partition["day"]) for partition in warehouse.partitions("users")}
    assert kept == {str(day) for day in days[:6]}, "of the nights of 1 February and of two before"
