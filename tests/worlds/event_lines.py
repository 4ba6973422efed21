"""Raw frames for tests: one full default row, and what a test changes in it."""

import datetime as dt
import json
from typing import Any

from pyspark.sql import DataFrame, SparkSession

MONDAY = dt.date(2026, 1, 5)
"""The arrival day of a line that says nothing else."""

COLUMNS: dict[str, dict[str, Any]] = {
    "raw_interactions": {
        "user_id": "u1",
        "video_id": "v1",
        "started_at": "2026-01-05T10:00:00Z",
        "watch_ms": "5000",
        "duration_ms": "10000",
        **dict.fromkeys(("liked", "shared", "followed", "commented", "disliked")),
        **dict.fromkeys(("session_id", "surface", "event_id")),
    },
    "raw_videos": {
        "video_id": "v1",
        "author_id": "a1",
        "published_at": "2026-01-01T00:00:00Z",
        "duration_ms": "10000",
        "caption": None,
        "tags": None,
        "eligible": "true",
    },
    "raw_video_features": {
        "video_id": "v1",
        "modality": "visual",
        "encoder_version": "1",
        "vector": [1.0, 2.0],
    },
    "raw_clip_features": {
        "video_id": "v1",
        "clip_no": "0",
        "start_ms": "0",
        "end_ms": "2500",
        "vector": [1.0, 2.0],
    },
    "raw_privacy_requests": {
        "user_id": "u1",
        "kind": "opt_out",
        "requested_at": "2026-01-05T09:00:00Z",
    },
}
TYPES = {"tags": "array<string>", "vector": "array<float>", "unread": "array<string>"}
MARKS: dict[str, Any] = {"malformed": False, "too_long": False, "unread": []}
"""What the readers say of a line they could read."""


def later(days: int, day: dt.date = MONDAY) -> dt.date:
    return day + dt.timedelta(days=days)


def rows(spark: SparkSession, table: str, *changes: dict[str, Any]) -> DataFrame:
    """One raw row per change of the default row; `MARKS`, `day`, `line` and `file` may be set."""
    default = COLUMNS[table]
    complete = []
    for number, change in enumerate(changes):
        unknown = set(change) - {*default, "day", "line", "file", *MARKS}
        assert not unknown, unknown
        day = change.get("day", MONDAY)
        row = {
            "day": day,
            "line": json.dumps({"number": number, "change": change}, default=str),
            "file": f"{table}/day={day}/part-0.jsonl",
            **MARKS,
            **default,
            **change,
        }
        complete.append(tuple(row.values()))
    names = ["day", "line", "file", *MARKS, *default]
    types = {"day": "date", "malformed": "boolean", "too_long": "boolean", **TYPES}
    ddl = ", ".join(f"{name} {types.get(name, 'string')}" for name in names)
    return spark.createDataFrame(complete, ddl)


def lines(spark: SparkSession, *changes: dict[str, Any]) -> DataFrame:
    return rows(spark, "raw_interactions", *changes)


def states(spark: SparkSession, *known: tuple[Any, ...]) -> DataFrame:
    """`catalogue.states` from (video_id, since, until, duration_ms)."""
    return spark.createDataFrame(
        list(known), "video_id string, since date, until date, duration_ms bigint"
    )
