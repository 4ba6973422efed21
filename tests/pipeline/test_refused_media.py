"""Refused rows of `raw_media` stand in `rejected_rows` with their rule, and nobody erased comes back by a path."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from microrec.landing import media, verify
from microrec.pipeline import refused_media
from microrec.pipeline.night import Night
from microrec.privacy.subjects import Subjects
from microrec.tables.arrow import Warehouse

DAY = dt.date(2026, 1, 5)
NEXT = DAY + dt.timedelta(days=1)
POSTER = {"video_id": "v1", "kind": "poster", "path": "media/u7/v1.png"}


def deliver(place: Path, *rows: dict[str, Any] | str, day: dt.date = DAY, name: str = "a") -> None:
    folder = place / "landing" / "raw_media" / f"day={day}"
    folder.mkdir(parents=True, exist_ok=True)
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / f"{name}.jsonl").write_text("".join(f"{text}\n" for text in texts))


def keep(place: Path, day: dt.date = DAY) -> None:
    landing = str(place / "landing")
    rows = media.read(landing, last=day, limits=verify.DEFAULT, timezone="UTC")
    refused_media.write(Night.open(day), landing, rows)


def rejected(day: dt.date = DAY) -> list[tuple[str, str, int]]:
    rows = Warehouse.open().read("rejected_rows", day=day, raw_table="raw_media").to_pylist()
    return [(row["line"], row["rule"], row["occurrence"]) for row in rows]


def test_refused_rows_are_kept_with_rule_file_and_occurrence(place: Path) -> None:
    stands = {"video_id": "v1", "kind": "cover", "path": "media/v1.png"}
    deliver(place, POSTER, stands, "{broken", POSTER)
    keep(place)
    line = json.dumps(POSTER)
    assert sorted(rejected()) == [
        (line, "unknown_kind", 1),
        (line, "unknown_kind", 2),
        ("{broken", "malformed_line", 1),
    ]
    (file,) = {row["file"] for row in Warehouse.open().read("rejected_rows").to_pylist()}
    assert file == f"raw_media/day={DAY}/a.jsonl"


def test_kept_day_is_written_again_only_when_its_files_change(place: Path) -> None:
    deliver(place, POSTER)
    deliver(place, "{later", day=NEXT)
    keep(place)
    version = Warehouse.open().version("rejected_rows")
    keep(place)
    assert Warehouse.open().version("rejected_rows") == version
    keep(place, NEXT)
    assert rejected(NEXT) == [("{later", "malformed_line", 1)]
    deliver(place, "{added", name="b")
    keep(place, NEXT)
    assert {rule for _, rule, _ in rejected()} == {"unknown_kind", "malformed_line"}


def test_rows_that_retention_took_out_do_not_come_back(place: Path) -> None:
    deliver(place, POSTER)
    keep(place)
    opened = Warehouse.open()
    nothing = opened.table("rejected_rows").contract.schema.empty_table()
    opened.write("rejected_rows", nothing, replace=[{"day": DAY, "raw_table": "raw_media"}])
    keep(place, NEXT)
    assert rejected() == []


def test_row_whose_path_names_somebody_erased_is_not_kept(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(place, POSTER, {**POSTER, "path": "media/u8/v1.png"})
    subject = Subjects.open(Night.open(DAY).warehouse.root).of("u7")
    monkeypatch.setattr(
        refused_media.requests, "subjects_without_name", lambda night: {subject: []}
    )
    keep(place)
    assert [line for line, _, _ in rejected()] == [
        json.dumps({**POSTER, "path": "media/u8/v1.png"})
    ]


def test_landing_zone_without_media_writes_nothing(place: Path) -> None:
    keep(place)
    assert not Warehouse.open().partitions("rejected_rows")
