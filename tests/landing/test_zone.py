"""Which files arrived on a day, and what does not belong into a landing zone."""

import datetime as dt
from pathlib import Path

import pytest

from microrec.errors import LandingError
from microrec.landing import zone
from tests.landing.test_write import DAY, lay


def test_days_are_those_with_data_ascending(tmp_path: Path) -> None:
    for day in (3, 1, 2):
        (tmp_path / f"raw_videos/day=2026-01-0{day}").mkdir(parents=True)
    for day in (3, 1):
        (tmp_path / f"raw_videos/day=2026-01-0{day}/x.csv").write_text("a\n")
    (tmp_path / "raw_videos/day=2026-01-02/_SUCCESS").touch()
    (tmp_path / "raw_videos/day=2026-01-02/.x.crc").touch()
    (tmp_path / "raw_videos/_staging").mkdir()
    assert zone.days(str(tmp_path), "raw_videos") == [dt.date(2026, 1, 1), dt.date(2026, 1, 3)]
    assert zone.days(str(tmp_path), "raw_clip_features") == []


def test_files_are_sorted_without_hidden_ones(tmp_path: Path) -> None:
    folder = tmp_path / "raw_videos/day=2026-01-02"
    folder.mkdir(parents=True)
    for name in ("b.csv", "a.jsonl.gz", "_c.csv", ".d.csv", "c.parquet"):
        (folder / name).touch()
    found = zone.files(str(tmp_path), "raw_videos", DAY)
    assert [path.name for path in found] == ["a.jsonl.gz", "b.csv", "c.parquet"]
    assert [zone.kind_of(path) for path in found] == ["jsonl.gz", "csv", "parquet"]
    assert zone.files(str(tmp_path), "raw_videos", dt.date(2026, 1, 3)) == []


@pytest.mark.parametrize("name", ["rows.txt", "rows.csv.zst", "rows.parquet.gz", "rows"])
def test_files_of_an_unknown_kind_are_named(tmp_path: Path, name: str) -> None:
    lay(tmp_path, "csv")
    (tmp_path / "raw_videos/day=2026-01-02" / name).touch()
    with pytest.raises(LandingError, match=f"raw_videos/day=2026-01-02/{name}: unknown kind"):
        zone.files(str(tmp_path), "raw_videos", DAY)
    with pytest.raises(LandingError, match=name):
        zone.days(str(tmp_path), "raw_videos")


def test_days_folders_that_are_no_days_are_named(tmp_path: Path) -> None:
    (tmp_path / "raw_videos/day=2026-01-02/nested.csv").mkdir(parents=True)
    with pytest.raises(LandingError, match=r"nested\.csv: a folder inside"):
        zone.files(str(tmp_path), "raw_videos", DAY)
    (tmp_path / "raw_clip_features/day=yesterday").mkdir(parents=True)
    with pytest.raises(LandingError, match="day=yesterday"):
        zone.days(str(tmp_path), "raw_clip_features")
