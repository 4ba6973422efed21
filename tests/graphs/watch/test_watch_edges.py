"""Days add up to parts: they fade by the half-life, a dislike voids what came before, no order matters."""

import datetime as dt

import numpy as np
import pytest
from pydantic import ValidationError
from pyspark.sql import functions as F

from microrec.graphs.watch import watch_edges
from tests.worlds.graph_rows import DAY, Rows, instant, sorted_rows

CONFIG = watch_edges.Config()
COUNTS = ("weight", "n_views", "n_positive", "n_negative", "undone")


def ago(days: int) -> dt.date:
    return DAY - dt.timedelta(days=days)


def parts(watches, config=CONFIG):
    return watch_edges.parts(watches, day=DAY, config=config)


@pytest.mark.spark
@pytest.mark.parametrize("half_life", [7.0, 2.5])
def test_weight_halves_after_the_half_life(rows: Rows, half_life: float) -> None:
    days = [{"day": ago(n), "video_id": f"v{n:02}"} for n in (0, 5, 10)]
    edges = parts(rows("viewings", *days), watch_edges.Config(half_life_days=half_life))
    assert sorted_rows(edges, "video_id", "weight") == [
        (f"v{n:02}", pytest.approx(0.8 * 0.5 ** (n / half_life), abs=1e-11)) for n in (0, 5, 10)
    ]


@pytest.mark.spark
def test_dislike_voids_earlier_days_but_keeps_their_views(rows: Rows) -> None:
    days = [
        {"day": ago(9), "n_positive": 2, "n_views": 2},
        {"day": ago(9), "n_positive": 2, "n_views": 2, "undone": True, "strength": 0.5},
        {"day": ago(2), "n_views": 4, "n_negative": 1, "strength": 0.4},
    ]
    plain, undone = (
        sorted_rows(parts(rows("viewings", *d)), *COUNTS) for d in (days[::2], days[1:])
    )
    week = 0.5 ** (9 / 7)
    two = 0.5 ** (2 / 7)
    assert plain == [(pytest.approx(0.8 * week + 0.4 * two, abs=1e-11), 6, 3, 1, False)]
    assert undone == [(pytest.approx(0.5 * week + 0.4 * two, abs=1e-11), 6, 3, 1, True)]

    later = [{**days[0], "undone": False}, {**days[2], "undone": True, "n_positive": 0}]
    assert sorted_rows(parts(rows("viewings", *later)), *COUNTS) == [
        (pytest.approx(0.4 * two, abs=1e-11), 6, 0, 1, True)
    ]


@pytest.mark.spark
def test_dislike_stays_within_its_part(rows: Rows) -> None:
    days = rows("viewings", {"day": ago(2)}, {"day": ago(1)}, {"day": DAY, "undone": True})
    assert sorted_rows(parts(days), "split", "n_positive", "undone") == [
        ("holdout", 1, True),
        ("train", 1, False),
        ("validation", 1, False),
    ]


@pytest.mark.spark
def test_parts_sum_and_row_order_is_bit_identical(rows: Rows) -> None:
    generator = np.random.default_rng(3)
    pairs = [(user, video, age) for user in range(3) for video in range(3) for age in range(5)]
    days = [
        {
            "user_id": f"u{user}",
            "video_id": f"v{video}",
            "day": ago(age),
            "strength": float(generator.uniform()),
            "n_views": int(generator.integers(1, 9)),
            "last_at": instant(5 - age, float(generator.uniform(0, 24))),
        }
        for user, video, age in pairs
    ]
    columns = ("split", "user_id", "video_id", "weight", "n_views", "n_positive", "last_at")
    one = parts(rows("viewings", *days))
    again = parts(rows("viewings", *days[::-1]).repartition(5))
    assert sorted_rows(one, *columns) == sorted_rows(again, *columns)

    faded = sum(row["strength"] * 0.5 ** ((DAY - row["day"]).days / 7) for row in days)
    total = one.agg(F.sum("weight"), F.sum("n_views"), F.count_distinct("split")).first()
    assert total[0] == pytest.approx(faded, abs=1e-9)
    assert total[1:] == (sum(row["n_views"] for row in days), 3)


@pytest.mark.parametrize("edges", [[7000, 7000], [9000, 7000], [0]])
def test_duration_edges_that_do_not_ascend_are_refused(edges: list[int]) -> None:
    with pytest.raises(ValidationError):
        watch_edges.Config.model_validate({"duration_edges_ms": edges})
