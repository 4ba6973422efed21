"""A person's rows of every table, and nobody else's."""

import json
from pathlib import Path
from typing import Any

import pytest

from microrec.errors import BadArgument
from microrec.privacy import export
from microrec.tables.arrow import Warehouse
from tests.worlds import people
from tests.worlds.people import DAYS, LINES, VIDEOS


def exported(warehouse: Warehouse, user_id: str, folder: Path) -> dict[str, list[dict[str, Any]]]:
    counts = export.export(warehouse, user_id, folder, authors_are_users=True)
    files = {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in folder.glob("*.jsonl")
    }
    assert {name: len(rows) for name, rows in files.items()} == counts
    about = json.loads((folder / export.ABOUT).read_text())
    assert {each["table"]: each["rows"] for each in about} == counts
    return files


def test_export_has_the_rows_of_a_person_and_no_other(place: Path) -> None:
    warehouse = Warehouse.open()
    people.make(warehouse)
    files = exported(warehouse, "u1", place / "u1")
    assert set(files) >= {
        "events", "users", "watch_edges", "recommendations", "rejected_rows", "videos", "suppressed_users",
    }  # fmt: skip
    n_days = len(DAYS)
    assert len(files["events"]) == n_days * len(VIDEOS) == len(files["watch_edges"])
    assert [row["day"] for row in files["users"]] == [str(day) for day in DAYS]
    named = {row["user_id"] for rows in files.values() for row in rows if row.get("user_id")}
    assert named == {"u1"}
    assert {row["line"] for row in files["rejected_rows"]} == {LINES[0]}
    assert {row["author_id"] for row in files["videos"]} == {"u1"}
    # A message may be about several people: it is in nobody's files.
    assert "gate_results" not in files


def test_export_of_a_number_has_no_video_of_that_number(place: Path) -> None:
    warehouse = Warehouse.open()
    people.make(warehouse)
    files = exported(warehouse, "17", place / "number")
    assert {row["user_id"] for row in files["events"]} == {"17"}
    assert {row["line"] for row in files["rejected_rows"]} == {LINES[1]}
    assert "videos" not in files


def test_export_of_a_stranger_is_empty_and_a_full_folder_is_refused(place: Path) -> None:
    warehouse = Warehouse.open()
    people.make(warehouse)
    assert exported(warehouse, "stranger", place / "out") == {}
    with pytest.raises(BadArgument, match="has files"):
        export.export(warehouse, "u1", place / "out", authors_are_users=True)
