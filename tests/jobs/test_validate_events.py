"""The job on a landing zone: any order of nights gives the same rows, and a bad day commits nothing."""

import datetime as dt
import json
import random
from pathlib import Path
from typing import Any

import pytest

from jobs import validate_events
from microrec.config.settings import settings
from microrec.errors import LandingError
from microrec.landing import write, zone
from microrec.tables.arrow import Warehouse
from tests.worlds.event_lines import later

pytestmark = pytest.mark.spark

DAYS = [later(n) for n in range(-3, 1)]
TABLES = ("events", "rejected_events", "videos", "suppressed_users", "metrics")


@pytest.fixture
def landing_root(place: Path) -> str:
    """Four days of interactions, some late, some twice, some bad; one day of videos."""
    landing_root, pick = str(place / "landing"), random.Random(6)
    videos = [
        json.dumps({"video_id": f"v{n}", "duration_ms": 9000, "eligible": 1}) for n in range(3)
    ]
    write.write_lines(landing_root, "raw_videos", later(-9), videos, kind="jsonl")
    sent: list[str] = []
    for day in DAYS:
        fresh = [
            json.dumps(
                {
                    "user_id": f"u{pick.randint(0, 5)}",
                    "video_id": f"v{pick.randint(0, 3)}",
                    "started_at": f"{later(-pick.randint(0, 4), day)}T10:00:00Z",
                    "watch_ms": pick.randint(-1000, 9000),
                }
            )
            for _ in range(20)
        ]
        lines = fresh + pick.sample([*sent, *fresh], 8)
        sent += fresh
        write.write_lines(landing_root, "raw_interactions", day, lines, kind="jsonl.gz")
    return landing_root


def content() -> dict[str, list[Any]]:
    warehouse = Warehouse.open()
    tables = {name: warehouse.read(name).to_pylist() for name in TABLES}
    return {name: sorted(map(str, rows)) for name, rows in tables.items()}


def test_validate_nights_in_any_order_and_again_give_the_same_rows(
    landing_root: str, place: Path, spark: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate_events.main(day=DAYS[-1])
    at_once = content()
    every_line_is_an_event_or_rejected()
    validate_events.main(day=DAYS[-1])
    assert content() == at_once

    monkeypatch.setenv("MICROREC_WAREHOUSE", str(place / "other"))
    settings.cache_clear()
    validate_events.main(day=DAYS[2])
    validate_events.main(day=DAYS[-1])
    validate_events.main(day=DAYS[1])
    one_by_one = content()
    for table in ("events", "rejected_events"):
        assert one_by_one[table] == at_once[table]


def every_line_is_an_event_or_rejected() -> None:
    warehouse = Warehouse.open()
    for day in DAYS:
        n_events = warehouse.read("events", arrived_on=day).num_rows
        n_rejected = warehouse.read("rejected_events", day=day).num_rows
        assert n_events + n_rejected == 28
        assert n_rejected


def refuse(day: dt.date, message: str) -> None:
    with pytest.raises(LandingError, match=message):
        validate_events.main(day=day)
    assert not any(Warehouse.open().partitions(table) for table in TABLES)


def remove(landing_root: str, day: dt.date) -> None:
    for path in zone.files(landing_root, "raw_interactions", day):
        path.unlink()


def test_validate_without_raw_rows_is_refused(landing_root: str, spark: object) -> None:
    refuse(later(1), r"raw_interactions\[2026-01-06\]: nothing arrived")
    header = "user_id,video_id,started_at,watch_ms"
    write.write_lines(landing_root, "raw_interactions", later(1), [header], kind="csv")
    refuse(later(1), r"raw_interactions\[2026-01-06\].*no line")


def test_validate_gap_in_the_window_is_refused(landing_root: str, spark: object) -> None:
    remove(landing_root, DAYS[1])
    refuse(DAYS[-1], r"raw_interactions\[2026-01-03\]")


def test_validate_truncated_file_is_refused(landing_root: str, spark: object) -> None:
    (path,) = zone.files(landing_root, "raw_interactions", DAYS[1])
    path.write_bytes(path.read_bytes()[:-12])
    refuse(DAYS[-1], r"raw_interactions\[2026-01-03\].*part-0.jsonl.gz")


def test_validate_without_a_catalogue_is_refused(landing_root: str, spark: object) -> None:
    (path,) = zone.files(landing_root, "raw_videos", later(-9))
    path.unlink()
    refuse(DAYS[-1], r"raw_videos\[2026-01-05\]: nothing arrived")
