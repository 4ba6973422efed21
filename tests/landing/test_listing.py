"""One listing of the landing zone is what a night reads; two of them say what came, went or changed between."""

import datetime as dt
import os
from pathlib import Path

import pytest

from microrec.errors import LandingError
from microrec.landing import write, zone
from microrec.landing.listing import ADDED, REMOVED, REWRITTEN, Listing, changes, named
from tests.worlds.event_lines import MONDAY, later

TABLE = "raw_interactions"


@pytest.fixture
def landing(tmp_path: Path) -> str:
    root = str(tmp_path)
    for day in (later(-1), MONDAY):
        for name in ("a", "b"):
            write.write_lines(root, TABLE, day, [f"{{{name}: 1}}"], kind="jsonl", name=name)
    write.write_lines(root, "raw_videos", MONDAY, ["{}"], kind="jsonl")
    return root


def path(landing: str, name: str, day: dt.date = MONDAY) -> Path:
    return zone.folder_of(landing, TABLE, day) / name


def test_take_lists_the_files_of_the_days_asked_for(landing: str) -> None:
    everything = Listing.take(landing, last=MONDAY)
    assert everything.days(TABLE) == [later(-1), MONDAY]
    assert everything.days("raw_videos") == [MONDAY]
    assert [file.file for file in everything.of(TABLE, MONDAY)] == ["a.jsonl", "b.jsonl"]
    assert [file.size for file in everything.of(TABLE, MONDAY)] == [7, 7]
    assert Listing.take(landing, last=later(-1)).days("raw_videos") == []
    assert Listing.take(landing, first=MONDAY, last=MONDAY).days(TABLE) == [MONDAY]
    assert Listing.take(landing, last=MONDAY, tables=["raw_videos"]).days(TABLE) == []


def test_take_landing_zone_that_is_not_there_lists_nothing(tmp_path: Path) -> None:
    assert Listing.take(str(tmp_path / "none"), last=MONDAY).files == ()


def test_take_file_of_unknown_kind_is_refused(landing: str) -> None:
    path(landing, "notes.txt").write_text("")
    with pytest.raises(LandingError, match=r"notes\.txt: unknown kind"):
        Listing.take(landing, last=MONDAY)


def test_paths_are_those_of_the_listing_whatever_arrives_later(landing: str) -> None:
    listing = Listing.take(landing, last=MONDAY)
    path(landing, "c.jsonl").write_text("{}")
    assert listing.paths(landing, TABLE, MONDAY) == [
        path(landing, "a.jsonl"),
        path(landing, "b.jsonl"),
    ]


def test_stamp_differs_with_name_size_time_and_day(landing: str) -> None:
    before = Listing.take(landing, last=MONDAY)
    stamps = {before.stamp(TABLE, [MONDAY]), before.stamp(TABLE, [later(-1)])}
    path(landing, "a.jsonl").write_text("longer than before")
    stamps.add(Listing.take(landing, last=MONDAY).stamp(TABLE, [MONDAY]))
    os.utime(path(landing, "a.jsonl"), ns=(0, 0))
    stamps.add(Listing.take(landing, last=MONDAY).stamp(TABLE, [MONDAY]))
    path(landing, "a.jsonl").rename(path(landing, "z.jsonl"))
    stamps.add(Listing.take(landing, last=MONDAY).stamp(TABLE, [MONDAY]))
    assert len(stamps) == 5


def test_changes_name_added_removed_and_rewritten_files(landing: str) -> None:
    before = Listing.take(landing, last=MONDAY)
    assert changes(before, before) == []
    path(landing, "a.jsonl").unlink()
    path(landing, "b.jsonl").write_text("rewritten")
    path(landing, "c.jsonl").write_text("new")
    found = changes(before, Listing.take(landing, last=MONDAY))
    assert [(change.kind, change.file.file) for change in found] == [
        (REMOVED, "a.jsonl"), (REWRITTEN, "b.jsonl"), (ADDED, "c.jsonl"),
    ]  # fmt: skip
    assert str(found[2]) == "raw_interactions[2026-01-05] c.jsonl (3 bytes) arrived"
    assert named(found) == ", ".join(map(str, found))
    assert named([*found, found[0], found[0]]).endswith(" and 2 more")


def test_require_same_refuses_files_that_were_rewritten_or_removed(landing: str) -> None:
    listing = Listing.take(landing, last=MONDAY)
    path(landing, "c.jsonl").write_text("arrived in mid-night: not read, no fault")
    listing.require_same(landing)
    path(landing, "b.jsonl").write_text("half of it")
    with pytest.raises(LandingError, match=r"raw_interactions\[2026-01-05\] b\.jsonl \(10 bytes\)"):
        listing.require_same(landing)
    path(landing, "b.jsonl").unlink()
    with pytest.raises(LandingError, match=r"b\.jsonl \(7 bytes\) was removed while it was read"):
        listing.require_same(landing)
