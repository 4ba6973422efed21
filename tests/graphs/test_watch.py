"""Edge weights fade by the half-life; parts add up to the whole; nothing depends on the order of rows."""

import datetime as dt

import numpy as np
import pytest
from graph_rows import DAY, Rows, found, instant
from pyspark.sql import functions as F

from microrec.graphs import watch

CONFIG = watch.Config()


@pytest.mark.spark
@pytest.mark.parametrize("half_life", [7.0, 2.5])
def test_weight_halves_after_exactly_the_half_life(rows: Rows, half_life: float) -> None:
    end = instant(6)
    events = rows(
        "events",
        {"video_idx": 0, "started_at": end - dt.timedelta(days=half_life), "strength": 0.8},
        {"video_idx": 1, "started_at": end - dt.timedelta(days=2 * half_life), "strength": 0.8},
    )
    edges = watch.watch_edges(events, day=DAY, config=watch.Config(half_life_days=half_life))
    assert found(edges, "video_idx", "weight") == [
        (0, pytest.approx(0.4, abs=1e-11)),
        (1, pytest.approx(0.2, abs=1e-11)),
    ]


@pytest.mark.spark
def test_negative_viewings_count_as_views_but_weigh_nothing(rows: Rows) -> None:
    at = instant(6) - dt.timedelta(days=7)
    events = rows(
        "events",
        {"feedback": "positive", "started_at": at, "strength": 1.0},
        {"feedback": "neutral", "started_at": at, "strength": 0.5},
        {"feedback": "negative", "started_at": at, "strength": 1.0},
    )
    edges = watch.watch_edges(events, day=DAY, config=CONFIG)
    columns = ("split", "weight", "n_views", "n_positive", "n_negative", "last_at")
    assert found(edges, *columns) == [("train", pytest.approx(0.75, abs=1e-11), 3, 1, 1, at)]


@pytest.mark.spark
def test_parts_add_up_and_rows_in_any_order_give_the_same_bits(rows: Rows) -> None:
    generator = np.random.default_rng(3)
    events = [
        {
            "user_idx": int(generator.integers(3)),
            "video_idx": int(generator.integers(3)),
            "started_at": instant(1 + int(generator.integers(5)), float(generator.uniform(0, 24))),
            "strength": float(generator.uniform()),
            "feedback": str(generator.choice(["positive", "negative", "neutral"])),
        }
        for _ in range(300)
    ]
    columns = ("split", "user_idx", "video_idx", "weight", "n_views", "n_positive", "last_at")
    parts = watch.watch_edges(rows("events", *events), day=DAY, config=CONFIG)
    again = watch.watch_edges(rows("events", *events[::-1]).repartition(5), day=DAY, config=CONFIG)
    assert found(parts, *columns) == found(again, *columns)

    faded = 0.5 ** (
        np.array([(instant(6) - one["started_at"]) / dt.timedelta(days=7) for one in events])
    )
    counted = np.array([one["feedback"] != "negative" for one in events])
    strengths = np.array([one["strength"] for one in events])
    total = parts.agg(F.sum("weight"), F.sum("n_views"), F.count_distinct("split")).first()
    assert total[0] == pytest.approx(float((faded * counted * strengths).sum()), abs=1e-9)
    assert total[1:] == (300, 3)
