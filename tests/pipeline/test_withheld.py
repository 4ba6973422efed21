"""Lines of people who have withdrawn are stored nowhere, also where only a pseudonym of theirs is left."""

import datetime as dt
import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from microrec.config.settings import settings
from microrec.pipeline import withheld as withheld_lines
from microrec.pipeline.night import Night
from microrec.pipeline.withheld import Withheld
from microrec.tables.spark import Warehouse

pytestmark = pytest.mark.spark

DAY = dt.date(2026, 1, 5)


def noon(day: int) -> dt.datetime:
    return dt.datetime(2026, 1, day, 12, tzinfo=dt.UTC)


def ask(place: Path, user: str, kind: str, day: int) -> None:
    folder = place / "landing" / "raw_privacy_requests" / f"day=2026-01-{day:02}"
    folder.mkdir(parents=True, exist_ok=True)
    line = {"user_id": user, "kind": kind, "requested_at": noon(day).isoformat()}
    (folder / f"{user}-{kind}.jsonl").write_text(json.dumps(line) + "\n")


def test_mark_viewings_by_id_and_by_pseudonym(place: Path, spark: SparkSession) -> None:
    """Who was erased is named nowhere, and is known when the producer delivers their lines again."""
    for user, kind, day in (("out", "opt_out", 3), ("back", "opt_out", 3), ("back", "opt_in", 4)):
        ask(place, user, kind, day)
    ask(place, "7", "erase", 3)
    night, warehouse = Night.open(DAY), Warehouse.open()
    Withheld.as_of_now(night, warehouse)
    kept = night.suppressed().filter(_not(night, "7")).drop_columns(["day"])
    night.write("suppressed_users", kept)
    withheld = Withheld.as_of_now(night, warehouse)
    lines = [
        (user, noon(day) + dt.timedelta(hours=1), None)
        for user in ("out", "back", "7", "77", "other")
        for day in (2, 3, 4)
    ]
    judged = spark.createDataFrame(lines, "user_id string, started_at timestamp, rule string")
    marked = withheld.mark(judged).where("rule = 'withheld'").collect()
    assert sorted((row.user_id, row.started_at.day) for row in marked) == [
        ("7", 2), ("7", 3), ("7", 4), ("back", 3), ("out", 3), ("out", 4),
    ]  # fmt: skip
    texts = [
        '{"user_id": "7", "video_id": "v", "star', "7,v,,", '{"user_id": 7', "77,v,,", '{"user_id": "u7"', "x,v7,,",
    ]  # fmt: skip
    lines = [(text, None) for text in texts]
    refused = [*lines, ("read, and short of a time", "7"), ("of somebody else", "u7")]
    rejected = spark.createDataFrame(refused, "line string, user_id string")
    left = {row.line for row in withheld.without_erased(rejected).collect()}
    assert left == {*texts[3:], "of somebody else"}


@pytest.mark.parametrize("authors_are_users", [True, False])
def test_without_authors_takes_down_what_the_erased_have_uploaded(
    place: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, authors_are_users: bool
) -> None:
    """The producer's catalogue names them each night anew; who has only opted out stays an author."""
    (place / "recipe.toml").write_text(
        f"[night]\nauthors_are_users = {str(authors_are_users).lower()}\n"
    )
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    ask(place, "gone", "erase", 3)
    ask(place, "out", "opt_out", 3)
    night, warehouse = Night.open(DAY), Warehouse.open()
    Withheld.as_of_now(night, warehouse)
    night.write_empty("suppressed_users")
    withheld = Withheld(night, warehouse)
    schema = (
        "video_id string, author_id string, caption string, tags array<string>, eligible boolean"
    )
    uploads = [
        (f"v{n}", author, "words", ["t"], True)
        for n, author in enumerate(("gone", "out", "u", None))
    ]
    videos = spark.createDataFrame(uploads, schema)
    rows = withheld.without_authors(videos)
    assert rows.columns == videos.columns
    shown = {row.video_id: tuple(row)[1:] for row in rows.collect()}
    taken_down = {"v0": (None, None, None, False)} if authors_are_users else {}
    assert shown == {video: tuple(rest) for video, *rest in uploads} | taken_down
    vectors = spark.createDataFrame([("v0",)], "video_id string")
    assert withheld.without_authors(vectors) is vectors


def test_texts_of_a_line_have_ids_with_blanks_and_colons() -> None:
    assert "user: 7 a" in withheld_lines.texts('{"user_id": "user: 7 a", "vid')
    assert "user: 7 a" in withheld_lines.texts("v1, user: 7 a ,,")
    assert "7" in withheld_lines.texts('{"user_id": 7')


def _not(night: Night, user: str) -> list[bool]:
    return [row["user_id"] != user for row in night.suppressed().to_pylist()]


def test_nobody_withdrawn_leaves_the_lines_alone(place: Path, spark: SparkSession) -> None:
    withheld = Withheld.as_of_now(Night.open(DAY), Warehouse.open())
    judged = spark.createDataFrame(
        [("u", noon(3), None)], "user_id string, started_at timestamp, rule string"
    )
    assert withheld.mark(judged) is judged
    assert withheld.without_erased(judged) is judged
