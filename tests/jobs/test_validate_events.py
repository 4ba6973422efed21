"""The job on a landing zone: any order of nights gives the same rows, and a bad day commits nothing."""

import datetime as dt
import json
import random
from pathlib import Path
from typing import Any

import pytest

from jobs import build_watch_graph, validate_events
from microrec.config.settings import settings
from microrec.errors import LandingError, RecipeError
from microrec.landing import readers, write, zone
from microrec.landing.listing import Listing
from microrec.pipeline import arrival_plan, requests
from microrec.pipeline.night import Night
from microrec.tables.arrow import Warehouse
from tests.worlds.event_lines import later

pytestmark = pytest.mark.spark

DAYS = [later(n) for n in range(-3, 1)]
TABLES = ("events", "rejected_rows", "videos", "suppressed_users", "metrics")


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
    for table in ("events", "rejected_rows"):
        assert one_by_one[table] == at_once[table]


def every_line_is_an_event_or_rejected() -> None:
    warehouse = Warehouse.open()
    for day in DAYS:
        n_events = warehouse.read("events", arrived_on=day).num_rows
        n_rejected = warehouse.read("rejected_rows", day=day, raw_table=zone.INTERACTIONS).num_rows
        assert n_events + n_rejected == 28
        assert n_rejected


def refuse(day: dt.date, message: str) -> None:
    with pytest.raises(LandingError, match=message):
        validate_events.main(day=day)
    # What people want is followed whatever becomes of the night.
    of_night = [table for table in TABLES if table not in requests.TABLES]
    assert not any(Warehouse.open().partitions(table) for table in of_night)


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


def line(user: str, video: str, started_at: str) -> str:
    viewing = {"user_id": user, "video_id": video, "started_at": started_at, "watch_ms": 8000}
    return json.dumps(viewing)


def viewers(table: str = "events", **partition: Any) -> set[str]:
    return set(Warehouse.open().read(table, **partition)["user_id"].to_pylist())


def late_metric(day: dt.date) -> dict[str, float]:
    rows = Warehouse.open().read("metrics", day=day, stage="events").to_pylist()
    return {row["name"]: row["value"] for row in rows if row["metric"] == "late_files"}


def nights(*days: dt.date) -> None:
    for day in days:
        validate_events.main(day=day)
        build_watch_graph.main(day=day)


def test_validate_file_added_after_its_night_is_read_by_the_next_and_named(
    landing_root: str, spark: object, caplog: pytest.LogCaptureFixture
) -> None:
    nights(DAYS[1], DAYS[2])
    repeated = line("late", "v1", f"{DAYS[1]}T09:00:00Z")
    arguments = {"kind": "jsonl", "name": "late"}
    write.write_lines(landing_root, "raw_interactions", DAYS[1], [repeated], **arguments)
    again = [repeated, line("other", "v1", f"{DAYS[2]}T09:00:00Z")]
    write.write_lines(landing_root, "raw_interactions", DAYS[2], again, kind="jsonl", name="more")
    assert "late" not in viewers()
    nights(DAYS[-1])
    assert "late" in viewers(arrived_on=DAYS[1])
    assert "late" not in viewers(arrived_on=DAYS[2]), "its repeat two days later is a duplicate"
    assert "other" in viewers(arrived_on=DAYS[2])
    assert "late" in viewers("daily_watches", day=DAYS[1], arrived_on=DAYS[1])
    assert "late" in viewers("users", day=DAYS[-1])
    told = [record.getMessage() for record in caplog.records if "late file" in record.message]
    size = len(repeated) + 1
    assert told[0] == (
        f"late file table=raw_interactions arrived_on={DAYS[1]} file=late.jsonl bytes={size}"
        " change=added read=yes"
    )
    assert len(told) == 2
    assert late_metric(DAYS[-1])["raw_interactions"] == 2
    assert late_metric(DAYS[2]) == dict.fromkeys(zone.TABLES, 0)
    before = content()
    validate_events.main(day=DAYS[-1])
    assert content() == before, "the night again gives the same rows"


def test_validate_late_file_gives_the_rows_of_a_night_that_had_it(
    landing_root: str, place: Path, spark: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights(*DAYS[:-1])
    (path,) = zone.files(landing_root, "raw_interactions", DAYS[2])
    path.rename(path.with_name("renamed.jsonl.gz"))
    late = [line("late", "v1", f"{DAYS[1]}T09:00:00Z"), "no line at all"]
    write.write_lines(landing_root, "raw_interactions", DAYS[2], late, kind="jsonl", name="late")
    nights(DAYS[-1])
    updated = content()
    monkeypatch.setenv("MICROREC_WAREHOUSE", str(place / "other"))
    settings.cache_clear()
    nights(DAYS[-1])
    at_once = content()
    for table in ("events", "rejected_rows"):
        assert updated[table] == at_once[table]


def test_validate_removed_and_rewritten_files_are_followed_and_named(
    landing_root: str, spark: object, caplog: pytest.LogCaptureFixture
) -> None:
    gone = line("gone", "v1", f"{DAYS[1]}T09:00:00Z")
    path = write.write_lines(
        landing_root, "raw_interactions", DAYS[1], [gone], kind="jsonl", name="x"
    )
    nights(DAYS[2])
    assert "gone" in viewers("daily_watches")
    Path(path).write_text(line("here", "v1", f"{DAYS[1]}T09:00:00Z") + "\n")
    nights(DAYS[-1])
    assert {"gone", "here"} & viewers("daily_watches") == {"here"}
    assert "change=rewritten read=yes" in caplog.text
    Path(path).unlink()
    write.write_lines(landing_root, "raw_interactions", later(1), [gone], kind="jsonl")
    nights(later(1))
    assert "here" not in viewers("daily_watches")
    assert "change=removed read=yes" in caplog.text


def test_validate_days_that_were_cleared_away_keep_their_events(
    landing_root: str, spark: object, caplog: pytest.LogCaptureFixture
) -> None:
    nights(*DAYS[:-1])
    kept = viewers(arrived_on=DAYS[0])
    remove(landing_root, DAYS[0])
    nights(DAYS[-1])
    assert viewers(arrived_on=DAYS[0]) == kept
    assert f"arrived_on={DAYS[0]} file=part-0.jsonl.gz" in caplog.text
    assert "change=removed read=no" in caplog.text


def test_validate_late_file_outside_the_window_is_named_and_not_read(
    landing_root: str, place: Path, spark: object, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    (place / "recipe.toml").write_text("[night]\nwindow_days = 2\n")
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    nights(DAYS[1], DAYS[2])
    late = [line("late", "v1", f"{DAYS[1]}T09:00:00Z")]
    write.write_lines(landing_root, "raw_interactions", DAYS[1], late, kind="jsonl", name="late")
    nights(DAYS[-1])
    assert "late" not in viewers()
    assert f"arrived_on={DAYS[1]} file=late.jsonl" in caplog.text
    assert "change=added read=no" in caplog.text


@pytest.mark.parametrize("back", [1, 3])
def test_validate_late_catalogue_and_request_are_in_the_next_nights_tables(
    landing_root: str, spark: object, back: int
) -> None:
    """A video that the catalogue learns of late has the viewings that had been refused for it."""
    nights(DAYS[2])
    assert "v3" not in Warehouse.open().read("events")["video_id"].to_pylist()
    day = later(-back)
    video = json.dumps({"video_id": "v3", "duration_ms": 9000, "eligible": 1})
    write.write_lines(landing_root, "raw_videos", day, [video], kind="jsonl", name="late")
    asked = {"user_id": "u1", "kind": "opt_out", "requested_at": f"{day}T00:00:00Z"}
    lines = [json.dumps(asked)]
    write.write_lines(landing_root, "raw_privacy_requests", day, lines, kind="jsonl")
    vector = json.dumps(
        {"video_id": "v3", "modality": "visual", "encoder_version": "1", "vector": [1, 2]}
    )
    write.write_lines(landing_root, "raw_video_features", day, [vector], kind="jsonl")
    nights(DAYS[-1])
    warehouse = Warehouse.open()
    assert "v3" in warehouse.read("videos", day=DAYS[-1])["video_id"].to_pylist()
    assert warehouse.read("video_features", day=DAYS[-1])["video_id"].to_pylist() == ["v3"]
    assert viewers("suppressed_users", day=DAYS[-1]) == {"u1"}
    assert "u1" not in viewers("users", day=DAYS[-1])
    assert "v3" in warehouse.read("events", arrived_on=DAYS[2])["video_id"].to_pylist()
    late = late_metric(DAYS[-1])
    assert (late["raw_videos"], late["raw_privacy_requests"], late["raw_video_features"]) == (
        1,
        1,
        1,
    )


def test_validate_file_that_arrives_in_mid_night_is_left_to_the_next(
    landing_root: str, spark: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in no table of the night, and no table claims to be made of it."""

    def arrives(*arguments: Any, **options: Any) -> Any:
        late = [line("late", "v1", f"{DAYS[2]}T09:00:00Z")]
        write.write_lines(
            landing_root, "raw_interactions", DAYS[2], late, kind="jsonl", name="late"
        )
        return read_days(*arguments, **options)

    read_days = readers.read_days
    with monkeypatch.context() as in_mid_night:
        in_mid_night.setattr(readers, "read_days", arrives)
        nights(DAYS[2])
    assert "late" not in viewers()
    files = Warehouse.open().read("landing_files", day=DAYS[2])["file"].to_pylist()
    assert "late.jsonl" not in files
    nights(DAYS[-1])
    assert "late" in viewers(arrived_on=DAYS[2])


def test_plan_day_of_which_the_catalogue_alone_was_kept_is_validated(landing_root: str) -> None:
    """A later night keeps the refused rows of a catalogue that landed before its own window."""
    warehouse, listing = Warehouse.open(), Listing.take(landing_root, last=DAYS[-1])
    nothing = warehouse.table("rejected_rows").contract.file_schema.empty_table()

    def validated() -> tuple[dt.date, ...]:
        return arrival_plan.current_plan(Night.open(DAYS[-1]), listing).validated

    warehouse.write("rejected_rows", nothing, day=DAYS[1], raw_table="raw_videos")
    assert DAYS[1] in validated()
    warehouse.write("rejected_rows", nothing, day=DAYS[1], raw_table=zone.INTERACTIONS)
    assert DAYS[1] not in validated()


def refused(table: str) -> set[tuple[str, str, str]]:
    rows = Warehouse.open().read("rejected_rows", raw_table=table).to_pylist()
    return {(str(row["day"]), row["rule"], row["file"].rsplit("/", 1)[1]) for row in rows}


def test_validate_refused_rows_of_every_raw_table_are_kept(
    landing_root: str, spark: object
) -> None:
    """Also those of landing days before the window, and of a file that came late."""
    bad = {
        "raw_videos": {"duration_ms": 1, "eligible": 1},
        "raw_video_features": {"video_id": "v1", "modality": "visual", "encoder_version": "1"},
        "raw_clip_features": {"video_id": "v1", "clip_no": -1, "vector": [1]},
        "raw_privacy_requests": {"user_id": "u1", "kind": "out"},
    }
    for table, row in bad.items():
        write.write_lines(landing_root, table, later(-40), [json.dumps(row)], kind="jsonl")
    nights(DAYS[2])
    early = str(later(-40))
    assert refused("raw_videos") == {(early, "missing_video", "part-0.jsonl")}
    assert refused("raw_video_features") == {(early, "missing_vector", "part-0.jsonl")}
    assert refused("raw_clip_features") == {(early, "bad_clip", "part-0.jsonl")}
    assert refused("raw_privacy_requests") == {(early, "unknown_kind", "part-0.jsonl")}
    late = [json.dumps({"video_id": "v1"})]
    write.write_lines(landing_root, "raw_videos", later(-40), late, kind="jsonl", name="late")
    nights(DAYS[-1])
    assert refused("raw_videos") == {
        (early, "missing_video", "part-0.jsonl"),
        (early, "bad_eligible", "late.jsonl"),
    }


@pytest.mark.parametrize("happens", ["rewritten", "removed"])
def test_validate_file_that_changes_while_it_is_read_is_refused_by_name(
    landing_root: str, spark: object, monkeypatch: pytest.MonkeyPatch, happens: str
) -> None:
    path = write.write_lines(
        landing_root, "raw_interactions", DAYS[-1], ["{}"], kind="jsonl", name="moving"
    )
    take = Listing.take.__func__  # type: ignore[attr-defined]

    def changes(*arguments: Any, **options: Any) -> Listing:
        taken: Listing = take(Listing, *arguments, **options)
        if "tables" in options:
            return taken  # of what people ask for
        if happens == "removed":
            Path(path).unlink()
        else:
            Path(path).write_text("{}\n{}\n")
        return taken

    monkeypatch.setattr(Listing, "take", changes)
    refuse(DAYS[-1], r"raw_interactions\[2026-01-05\].*moving\.jsonl.* while it was read")


def test_validate_days_of_another_time_zone_are_refused(
    landing_root: str, place: Path, spark: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate_events.main(day=DAYS[2])
    (place / "recipe.toml").write_text('[night]\ntimezone = "Asia/Shanghai"\n')
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    days = rf"events\[arrived_on={DAYS[0]}\.\.{DAYS[2]}\] were made with days of UTC"
    with pytest.raises(RecipeError, match=rf"timezone: the recipe says Asia/Shanghai, but {days}"):
        validate_events.main(day=DAYS[-1])


def test_validate_local_days_are_those_of_the_recipe(
    place: Path, spark: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "recipe.toml").write_text('[night]\ntimezone = "Asia/Shanghai"\n')
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    root = str(place / "landing")
    video = json.dumps({"video_id": "v1", "duration_ms": 9000, "eligible": 1})
    write.write_lines(root, "raw_videos", DAYS[0], [video], kind="jsonl")
    day = DAYS[1]
    times = {
        "first": f"{DAYS[0]}T16:00:00Z",
        "without_offset": f"{day} 00:00:00",
        "last": f"{day}T15:59:59Z",
        "tomorrow": f"{day}T16:00:00Z",
        "yesterday": f"{DAYS[0]}T15:59:59Z",
    }
    lines = [line(user, "v1", at) for user, at in times.items()]
    write.write_lines(root, "raw_interactions", day, lines, kind="jsonl")
    validate_events.main(day=day)
    assert viewers(day=day) == {"first", "without_offset", "last"}
    assert viewers(day=DAYS[0]) == {"yesterday"}
    rejected = Warehouse.open().read("rejected_rows").to_pylist()
    assert [(row["user_id"], row["rule"]) for row in rejected] == [("tomorrow", "future_event")]
