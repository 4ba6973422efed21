"""Requests and takedowns of ids that no log knows are counted and told."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from jobs import validate_events
from microrec.landing import write
from microrec.tables.arrow import Warehouse
from tests.worlds.event_lines import MONDAY, later

pytestmark = pytest.mark.spark


def deliver(place: Path, table: str, day: dt.date, *rows: dict[str, Any]) -> None:
    lines = [json.dumps(row) for row in rows]
    write.write_lines(str(place / "landing"), table, day, lines, kind="jsonl")


def viewing(user: str, video: str, day: dt.date) -> dict[str, Any]:
    return {"user_id": user, "video_id": video, "started_at": f"{day}T10:00:00Z", "watch_ms": 9000}


def unmet(day: dt.date) -> dict[str, tuple[float, int]]:
    rows = Warehouse.open().read("metrics", day=day, stage="arrivals").to_pylist()
    return {r["name"]: (r["value"], r["n"]) for r in rows if r["metric"] == "unmet_ids"}


def test_unmet_ids_of_requests_and_takedowns_are_counted(
    place: Path, spark: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Met are who was viewed tonight, on an earlier night or by somebody who has left; and videos that were there."""
    ready = {"duration_ms": 10_000, "eligible": 1}
    videos = [{"video_id": video} | ready for video in ("v1", "v2", "v3")]
    videos.append({"video_id": "v0", "eligible": 0})
    deliver(place, "raw_videos", later(-1), *videos)
    deliver(place, "raw_interactions", later(-1), viewing("u1", "v1", later(-1)))
    deliver(place, "raw_privacy_requests", later(-1), {"user_id": "u1", "kind": "opt_out"})
    validate_events.main(day=later(-1))
    assert unmet(later(-1)) == {}

    lines = [viewing(user, "v2", MONDAY) for user in ("u2", "u3")]
    deliver(place, "raw_interactions", MONDAY, *lines)
    asked = [{"user_id": user, "kind": "erase"} for user in ("u1", "u2", "U2", "u9", "u9")]
    deliver(place, "raw_privacy_requests", MONDAY, *asked)
    gone = [{"video_id": video, "eligible": 0} for video in ("v2", "v3", "V3")]
    doubtful = {"video_id": "V2", "eligible": "no"}
    draft = {"video_id": "v4", "eligible": 0, "published_at": f"{later(3)}T10:00:00Z"}
    deliver(place, "raw_videos", MONDAY, *gone, doubtful, draft)
    with caplog.at_level("WARNING"):
        validate_events.main(day=MONDAY)
    assert unmet(MONDAY) == {"raw_privacy_requests": (2.0, 4), "raw_videos": (2.0, 4)}
    assert (
        f"raw_privacy_requests[{MONDAY}]: 2 of 4 users of requests are in no viewing of the window"
        in caplog.text
    )
    assert f"raw_videos[{MONDAY}]: 2 of 4 videos of takedowns are in no viewing" in caplog.text
    of_gate = [
        row
        for row in Warehouse.open().read("gate_results", day=MONDAY, fit="arrivals").to_pylist()
        if row["gate"] == "unmet_ids"
    ]
    assert [(row["severity"], row["status"], row["observed"]) for row in of_gate] == [
        ("warn", "fail", 4.0)
    ]
