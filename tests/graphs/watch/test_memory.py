"""A user is remembered with so many videos, disliked ones first, and each for so long."""

import datetime as dt

import pytest
from pyspark.sql import SparkSession

from microrec.graphs.watch.memory import Config, remembered

pytestmark = pytest.mark.spark

DAY = dt.date(2026, 3, 1)
Memory = list[tuple[str, str, int, bool]]
"""user_id, video_id, days before `DAY`, disliked."""


def ago(days: int) -> dt.date:
    return DAY - dt.timedelta(days=days)


def after(spark: SparkSession, before: Memory, left: Memory, config: Config) -> Memory:
    frames = []
    for rows, day, flag in ((before, "last_on", "disliked"), (left, "day", "undone")):
        dated = [(user, video, ago(days), disliked) for user, video, days, disliked in rows]
        schema = f"user_id string, video_id string, {day} date, {flag} boolean"
        frames.append(spark.createDataFrame(dated, schema))
    rows = remembered(*frames, day=DAY, config=config).collect()
    return sorted((r.user_id, r.video_id, (DAY - r.last_on).days, r.disliked) for r in rows)


def test_remembered_keeps_the_last_viewing_and_any_dislike(spark: SparkSession) -> None:
    before = [("a", "v", 40, True), ("a", "w", 40, False), ("b", "v", 50, False)]
    left = [
        ("a", "v", 14, False),
        ("a", "v", 15, False),
        ("a", "w", 14, True),
        ("c", "v", 14, False),
    ]
    assert after(spark, before, left, Config()) == [
        ("a", "v", 14, True), ("a", "w", 14, True), ("b", "v", 50, False), ("c", "v", 14, False),
    ]  # fmt: skip


def test_remembered_is_bounded_by_videos_and_days(spark: SparkSession) -> None:
    """Of three places the two dislikes have theirs, however old, and the last viewing has the third."""
    before = [
        ("a", "old dislike", 89, True),
        ("a", "dislike", 40, True),
        ("a", "too old", 90, True),
    ]
    left = [("a", f"v{n}", 20 + n, False) for n in range(5)] + [("b", "v9", 20, False)]
    assert after(spark, before, left, Config(videos=3, days=90)) == [
        ("a", "dislike", 40, True), ("a", "old dislike", 89, True), ("a", "v0", 20, False),
        ("b", "v9", 20, False),
    ]  # fmt: skip
    assert len(after(spark, before, left, Config(videos=1, days=90))) == 2
