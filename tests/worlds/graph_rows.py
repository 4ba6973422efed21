"""Rows of the graphs stage: one full default row, of which a test states only what it is about."""

import datetime as dt
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame

from microrec.graphs.watch import clip_edges

DAY = dt.date(2026, 1, 5)
AT = pa.timestamp("us", tz="UTC")
STARTED = pa.struct({"surface": pa.string(), "positive": pa.bool_()})
VIEWING = pa.struct({"duration_ms": pa.int64(), "watch_ms": pa.int64(), "counts": pa.bool_()})
EXIT = pa.struct({"n_through": pa.int32(), "n_clips": pa.int32(), "early": pa.bool_()})

SCHEMAS = {
    "events": {
        "day": pa.date32(), "arrived_on": pa.date32(), "event_id": pa.string(), "user_id": pa.string(),
        "video_id": pa.string(), "user_idx": pa.int32(), "video_idx": pa.int32(), "started_at": AT,
        "watch_ms": pa.int64(), "duration_ms": pa.int64(), "feedback": pa.string(),
        "disliked": pa.bool_(), "surface": pa.string(),
    },
    "daily_watches": {
        "day": pa.date32(), "user_id": pa.string(), "video_id": pa.string(), "n_views": pa.int32(),
        "n_positive": pa.int32(), "n_negative": pa.int32(), "undone": pa.bool_(), "first_at": AT, "last_at": AT,
        "clip_exits": pa.list_(EXIT), "started": pa.list_(STARTED), "viewings": pa.list_(VIEWING),
    },
    "viewings": {
        "day": pa.date32(), "user_id": pa.string(), "video_id": pa.string(), "strength": pa.float64(),
        "n_views": pa.int32(), "n_positive": pa.int32(), "n_negative": pa.int32(), "undone": pa.bool_(),
        "first_at": AT, "last_at": AT,
    },
    "pair_days": {
        "day": pa.date32(), "user_idx": pa.int32(), "video_idx": pa.int32(), "clip_exits": pa.list_(EXIT),
        "started": pa.list_(STARTED),
    },
    "parts": {
        "split": pa.string(), "user_id": pa.string(), "video_id": pa.string(), "user_idx": pa.int32(),
        "video_idx": pa.int32(), "first_at": AT,
    },
    "watch_edges": {
        "split": pa.string(), "user_idx": pa.int32(), "video_idx": pa.int32(), "weight": pa.float64(),
        "n_views": pa.int32(), "n_positive": pa.int32(), "n_negative": pa.int32(),
        "undone": pa.bool_(), "last_at": AT,
    },
    "video_features": {
        "video_id": pa.string(), "modality": pa.string(), "encoder_version": pa.string(),
        "vector": pa.list_(pa.float32()),
    },
    "videos": {
        "video_id": pa.string(), "author_id": pa.string(), "published_at": AT,
        "duration_ms": pa.int64(), "eligible": pa.bool_(),
    },
    "video_nodes": {"video_id": pa.string(), "video_idx": pa.int32()},
    "users": {"user_id": pa.string(), "user_idx": pa.int32()},
    "user_edges": {
        "fit": pa.string(), "user_idx": pa.int32(), "neighbour_idx": pa.int32(), "pearson": pa.float64(),
        "n_common": pa.int32(), "rank": pa.int32(),
    },
    "modality_edges": {
        "modality": pa.string(), "video_idx": pa.int32(), "neighbour_idx": pa.int32(),
        "similarity": pa.float32(), "rank": pa.int32(),
    },
}  # fmt: skip

DEFAULTS: dict[str, dict[str, Any]] = {
    "events": {
        "user_id": "u1", "video_id": "v1", "user_idx": 0, "video_idx": 0, "watch_ms": 10_000,
        "duration_ms": 10_000, "feedback": "positive", "disliked": False,
        "started_at": dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC),
    },
    "daily_watches": {
        "user_id": "u1", "video_id": "v1", "n_views": 1, "n_positive": 1, "n_negative": 0,
        "undone": False, "first_at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        "last_at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "clip_exits": [], "started": [],
        "viewings": [{"duration_ms": 10_000, "watch_ms": 10_000, "counts": True}],
    },
    "viewings": {
        "user_id": "u1", "video_id": "v1", "n_views": 1, "n_positive": 1, "n_negative": 0, "strength": 0.8,
        "undone": False, "first_at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        "last_at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    },
    "pair_days": {"day": dt.date(2026, 1, 2), "user_idx": 0, "video_idx": 0},
    "parts": {
        "split": "train", "user_id": "u1", "video_id": "v1", "user_idx": 0, "video_idx": 0,
        "first_at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    },
    "watch_edges": {
        "split": "train", "user_idx": 0, "video_idx": 0, "weight": 1.0, "n_views": 1, "n_positive": 1,
        "n_negative": 0, "undone": False, "last_at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    },
    "video_features": {"video_id": "v1", "modality": "visual", "encoder_version": "e1"},
    "videos": {"video_id": "v1", "author_id": "a1", "duration_ms": 10_000, "eligible": True},
    "video_nodes": {},
    "users": {},
    "user_edges": {"fit": "trial", "pearson": 0.5},
    "modality_edges": {},
}  # fmt: skip

Rows = Callable[..., DataFrame]


def table(name: str, *overrides: dict[str, Any]) -> pa.Table:
    """Default rows of a table with overrides; an event has an id, a day by its start, and arrived on it."""
    complete = [{**DEFAULTS[name], **override} for override in overrides]
    for number, row in enumerate(complete):
        if "started_at" in row:
            row.setdefault("event_id", f"e{number}")
            row.setdefault("day", row["started_at"].date())
            row.setdefault("arrived_on", row["day"])
    schema = pa.schema(list(SCHEMAS[name].items()))
    filled = [{column: row.get(column) for column in schema.names} for row in complete]
    return pa.Table.from_pylist(filled, schema=schema)


def instant(day: int, hour: float = 0.0) -> dt.datetime:
    """An instant of January 2026, UTC."""
    return dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=day - 1, hours=hour)


def sorted_rows(frame: DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """Rows of a frame as sorted tuples of plain values."""
    table = frame.select(*columns).toArrow().to_pylist()
    return sorted(tuple(row[name] for name in columns) for row in table)


def clip_ends(duration_ms: int, config: clip_edges.Config) -> list[int]:
    """Ends of a video's clips in ms, computed without Spark."""
    if config.cut == "equal":
        return [
            int(Fraction(duration_ms * n, config.n_clips)) for n in range(1, config.n_clips + 1)
        ]
    starts = list(range(0, duration_ms, config.clip_ms))[: config.max_clips]
    return [*starts[1:], duration_ms]


def exit_row(watch_ms: int, duration_ms: int, config: clip_edges.Config) -> dict[str, Any] | None:
    """Where a viewing left, computed without Spark; None where it never played."""
    if watch_ms == 0:
        return None
    ends = clip_ends(duration_ms, config)
    if Fraction(watch_ms, duration_ms) >= Fraction(str(config.completed_ratio)):
        return {"n_through": len(ends), "n_clips": len(ends), "early": False}
    if config.cut == "equal":
        ends = [Fraction(duration_ms * n, config.n_clips) for n in range(1, config.n_clips + 1)]
    through = sum(end <= watch_ms for end in ends[:-1])
    return {"n_through": through, "n_clips": len(ends), "early": watch_ms < config.early_ms}
