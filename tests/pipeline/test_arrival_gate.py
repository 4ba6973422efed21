"""Bad input ends the night's first job with rule and examples; a gate holds what is unlike the days before."""

import datetime as dt
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame

from jobs import validate_events
from microrec.config.settings import settings
from microrec.errors import CheckFailed, GateHeld, LandingError
from microrec.evaluation import gate
from microrec.events import catalogue
from microrec.landing import write, zone
from microrec.pipeline import requests
from microrec.tables.arrow import Warehouse
from tests.worlds.event_lines import MONDAY, later

pytestmark = pytest.mark.spark

N = 300
Line = dict[str, Any]
Change = Callable[[int, Line], Line]


def viewings(day: dt.date, change: Change = lambda number, line: line) -> list[str]:
    """Lines of a day: eighty users, thirty videos of 20 s, watched 8 s in the median, in the evening."""
    pick = random.Random(day.toordinal())
    lines = []
    for number in range(N):
        line = {
            "user_id": f"u{pick.randint(0, 79)}",
            "video_id": str(pick.randint(0, 29)),
            "started_at": f"{day}T{pick.choice([18, 19, 19, 20, 20, 21, 22]):02d}:{number % 60:02d}:00Z",
            "watch_ms": int(pick.lognormvariate(9, 1)),
            "liked": number % 5 == 0,
        }
        lines.append(json.dumps(change(number, line)))
    return lines


def deliver(landing_root: str, day: dt.date, change: Change = lambda number, line: line) -> None:
    for path in zone.files(landing_root, "raw_interactions", day):
        path.unlink()
    write.write_lines(landing_root, "raw_interactions", day, viewings(day, change), kind="jsonl")


def deliver_videos(landing_root: str, **values: Any) -> None:
    videos = [
        json.dumps({"video_id": str(n), "duration_ms": 20_000, "eligible": 1} | values)
        for n in range(30)
    ]
    write.write_lines(landing_root, "raw_videos", later(-9), videos, kind="jsonl")


@pytest.fixture
def landing_root(place: Path, spark: object) -> str:
    return str(place / "landing")


def committed() -> set[str]:
    """Tables with rows of the night: what people want counts whatever becomes of it."""
    warehouse = Warehouse.open()
    of_people = requests.TABLES
    tables = [table for table in warehouse.tables() if table not in of_people]
    return {table for table in tables if warehouse.partitions(table)}


def us_date(number: int, line: Line) -> Line:
    return line | {"started_at": "01/05/2026 18:30"}


REFUSED_WHOLE: dict[str, tuple[Change, str, str]] = {
    "epoch seconds": (
        lambda number, line: line | {"started_at": 1767636000 + number},
        "bad_timestamp",
        "started_at '1767636",
    ),
    "US dates": (us_date, "bad_timestamp", "started_at '01/05/2026 18:30': a date in local order?"),
    "ids as decimals": (
        lambda number, line: line | {"video_id": f"{line['video_id']}.0"},
        "unknown_video",
        "an id written as a decimal? deliver ids as text; raw_videos has '0', '1'",
    ),
    "units in values": (
        lambda number, line: line | {"watch_ms": f"{line['watch_ms']} ms"},
        "bad_watch",
        "a unit in the value?",
    ),
}


@pytest.mark.parametrize("name", REFUSED_WHOLE)
def test_require_no_line_accepted_names_rule_column_value_and_remedy(
    name: str, landing_root: str
) -> None:
    change, rule, words = REFUSED_WHOLE[name]
    deliver_videos(landing_root)
    deliver(landing_root, MONDAY, change)
    with pytest.raises(LandingError) as error:
        validate_events.main(day=MONDAY)
    message = str(error.value)
    assert message.startswith(
        f"raw_interactions[{MONDAY}]: none of {N} lines is accepted, {rule} refused {N}, "
    )
    assert words in message
    assert message.endswith(
        f"e.g. in raw_interactions/day={MONDAY}/part-0.jsonl (`microrec inspect --day {MONDAY}` shows lines)"
    )
    assert "{" not in message, "no line is quoted"
    assert committed() == set()


def test_require_optional_values_that_cannot_be_read_are_held_like_refused_lines(
    landing_root: str,
) -> None:
    deliver_videos(landing_root)
    deliver(
        landing_root, MONDAY, lambda number, line: line | {"liked": "yes" if number % 2 else "no"}
    )
    message = held(MONDAY)
    words = "raw_interactions[2026-01-05] bad_flag, values passed over: 100.00% of 300 lines (300)"
    assert words in message
    assert "liked 'no': deliver 1 or 0, or true or false" in message


def test_require_withdrawals_in_doubt_are_told_and_hold_no_night(landing_root: str) -> None:
    deliver_videos(landing_root)
    deliver(landing_root, MONDAY)
    doubtful = [json.dumps({"video_id": "0", "eligible": "no"})]
    write.write_lines(landing_root, "raw_videos", MONDAY, doubtful, kind="jsonl")
    request = [json.dumps({"user_id": "u1", "kind": "out", "requested_at": f"{MONDAY}T09:00:00Z"})]
    write.write_lines(landing_root, "raw_privacy_requests", MONDAY, request, kind="jsonl")
    validate_events.main(day=MONDAY)
    warehouse = Warehouse.open()
    (told,) = [
        row
        for row in warehouse.read("gate_results", day=MONDAY, fit="arrivals").to_pylist()
        if row["gate"] == "in_doubt"
    ]
    assert (told["severity"], told["status"], told["observed"]) == ("warn", "fail", 2.0)
    assert (
        "raw_privacy_requests[2026-01-05] unknown_kind: 100.00% of 1 lines (1), kind 'out'"
        in told["detail"]
    )
    assert (
        "raw_videos[2026-01-05] bad_eligible: 100.00% of 1 lines (1), eligible 'no'"
        in told["detail"]
    )
    rows = warehouse.read("metrics", day=MONDAY, stage="events").to_pylist()
    in_doubt = {
        (row["name"], row["slice"]): row["value"] for row in rows if row["metric"] == "in_doubt"
    }
    assert in_doubt == {
        ("raw_videos", "all"): 1.0,
        ("raw_videos", "rule=bad_eligible"): 1.0,
        ("raw_privacy_requests", "all"): 1.0,
        ("raw_privacy_requests", "rule=unknown_kind"): 1.0,
    }
    assert [
        row["user_id"] for row in warehouse.read("suppressed_users", day=MONDAY).to_pylist()
    ] == ["u1"]
    videos = {
        row["video_id"]: row["eligible"] for row in warehouse.read("videos", day=MONDAY).to_pylist()
    }
    assert [video for video, is_eligible in videos.items() if not is_eligible] == ["0"]


def test_require_no_line_with_a_duration_names_both_places(landing_root: str) -> None:
    deliver_videos(landing_root, duration_ms=None)
    deliver(landing_root, MONDAY)
    words = "no_duration refused 300, duration_ms is absent: neither the line nor raw_videos has"
    with pytest.raises(LandingError, match=words):
        validate_events.main(day=MONDAY)


def test_require_no_video_accepted_names_the_catalogues_rule(landing_root: str) -> None:
    deliver_videos(landing_root, eligible="yes")
    deliver(landing_root, MONDAY)
    with pytest.raises(LandingError) as error:
        validate_events.main(day=MONDAY)
    assert str(error.value).startswith(
        f"raw_videos[{MONDAY}]: none of 30 lines is accepted, bad_eligible refused 30, eligible 'yes': deliver 1 or 0"
    )
    assert f"raw_videos/day={later(-9)}/part-0.jsonl" in str(error.value)
    assert committed() == set()


def test_require_row_of_any_table_that_is_lost_stops_the_night(
    landing_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver_videos(landing_root)
    deliver(landing_root, MONDAY)
    judge = catalogue.judge_videos

    def careless(delivered: DataFrame, timezone: str) -> DataFrame:
        return judge(delivered, timezone).where("video_id <> '7'")

    monkeypatch.setattr(catalogue, "judge_videos", careless)
    message = rf"raw_videos\[{later(-9)}\] rows_accounted_for: 30 rows in, 29 judged"
    with pytest.raises(CheckFailed, match=message):
        validate_events.main(day=MONDAY)
    assert committed() == set()


def held(day: dt.date) -> str:
    with pytest.raises(GateHeld) as error:
        validate_events.main(day=day)
    return str(error.value)


def test_require_third_of_a_day_with_units_is_held_until_somebody_overrules(
    landing_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver_videos(landing_root)
    for n in range(-3, 0):
        deliver(landing_root, later(n))
    validate_events.main(day=later(-1))
    deliver(
        landing_root,
        MONDAY,
        lambda number, line: line | ({"watch_ms": "1200 ms"} if number % 10 < 3 else {}),
    )
    message = held(MONDAY)
    assert "2 failed: refused (" in message
    assert (
        "raw_interactions[2026-01-05] bad_watch: 30.00% of 300 lines (90), at most 0.00%" in message
    )
    assert (
        "watch_ms '1200 ms': a unit in the value? deliver the number of milliseconds alone"
        in message
    )
    assert message.count("e.g. in raw_interactions/day=2026-01-05/part-0.jsonl (") == 2, (
        "both gates"
    )
    assert "{" not in message, "no line is quoted"

    warehouse = Warehouse.open()
    assert not warehouse.exists("rejected_rows", day=MONDAY)
    assert not warehouse.exists("events", arrived_on=MONDAY)
    assert not warehouse.exists("metrics", day=MONDAY, stage="arrivals")
    results = warehouse.read("gate_results", day=MONDAY, fit="arrivals").to_pylist()
    assert {row["gate"] for row in results if row["severity"] == "hold"} == set(gate.ARRIVALS)
    failed = {row["gate"]: row["observed"] for row in results if row["status"] == "fail"}
    assert failed == dict.fromkeys(["refused", "refused_rise", "refused_warned"], 0.3)

    deliver(landing_root, later(1))
    assert "raw_interactions[2026-01-05] bad_watch" in held(later(1)), "the next night sees it too"

    monkeypatch.setenv("MICROREC_PROMOTE", "the app's new version, known")
    settings.cache_clear()
    validate_events.main(day=MONDAY)
    assert warehouse.exists("events", arrived_on=MONDAY)
    monkeypatch.delenv("MICROREC_PROMOTE")
    settings.cache_clear()
    validate_events.main(day=later(1))
    assert warehouse.exists("events", arrived_on=later(1))


def test_require_lengths_in_seconds_are_held_on_first_and_later_nights(landing_root: str) -> None:
    def in_seconds(number: int, line: Line) -> Line:
        return line | {"watch_ms": line["watch_ms"] // 1000 + 1, "duration_ms": 20}

    deliver_videos(landing_root)
    deliver(landing_root, later(-1), in_seconds)
    message = held(later(-1))
    assert "watch_ms_median (raw_interactions[2026-01-04] watch_ms: median" in message
    assert "duration_ms_median (raw_interactions[2026-01-04] duration_ms: median 20 ms" in message
    assert "seconds delivered as milliseconds?" in message
    deliver(landing_root, later(-1))
    validate_events.main(day=later(-1))
    deliver(landing_root, MONDAY, in_seconds)
    message = held(MONDAY)
    assert "watch_ms_shift (raw_interactions[2026-01-05] watch_ms: median" in message
    assert "on 2026-01-04, tenths" in message
    assert "a factor of 0.001: seconds delivered as milliseconds?" in message
    deliver(landing_root, MONDAY)
    validate_events.main(day=MONDAY)
    rows = Warehouse.open().read("metrics", day=MONDAY, stage="arrivals").to_pylist()
    figures = {(row["name"], row["metric"], row["slice"]): row["value"] for row in rows}
    assert 4000 < figures["raw_interactions", "watch_ms", "quantile=0.50"] < 16_000
    assert figures["raw_interactions", "rows_in", "all"] == N
    assert figures["raw_interactions", "returning_users_share", "all"] > 0.8
