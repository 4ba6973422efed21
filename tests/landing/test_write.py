"""What is written: whole files, the same bytes twice, and worlds that do not mix."""

import csv
import dataclasses
import datetime as dt
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microrec.errors import LandingError
from microrec.landing import verify, write, zone

DAY = dt.date(2026, 1, 2)


ROWS = pa.table(
    {
        "video_id": ["007", 'a "b", c', "é\\t", "", None],
        "published_at": pa.array(
            [1, 1_767_312_000_123_456, None, 0, 0], pa.timestamp("us", tz="UTC")
        ),
        "duration_ms": pa.array([1, None, 3, 4, 5], pa.int64()),
        "tags": pa.array([['x "y"', "z"], [], None, ["é"], ["a,b"]], pa.list_(pa.string())),
        "vector": pa.array([[0.5, float("nan")], [1.0], None, [], [2.0]], pa.list_(pa.float32())),
        "eligible": [True, False, None, True, True],
    }
)


def lay(tmp_path: Path, kind: str, rows: pa.Table = ROWS) -> Path:
    return write.write_rows(str(tmp_path), "raw_videos", DAY, rows, kind=kind)


def text_of(path: Path) -> str:
    return (
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    ).decode()


@pytest.mark.parametrize("kind", zone.KINDS)
def test_write_again_is_complete_and_byte_identical(tmp_path: Path, kind: str) -> None:
    path = lay(tmp_path, kind)
    verify.verify_file(path)
    first = path.read_bytes()
    assert lay(tmp_path, kind).read_bytes() == first
    assert path == tmp_path / f"raw_videos/day=2026-01-02/part-0.{kind}"
    assert path == zone.path_of(str(tmp_path), "raw_videos", DAY, kind=kind)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz"])
def test_write_json_lines_read_back_equal(tmp_path: Path, kind: str) -> None:
    rows = [json.loads(line) for line in text_of(lay(tmp_path, kind)).splitlines()]
    assert [row.get("video_id") for row in rows] == ROWS["video_id"].to_pylist()
    assert [row.get("tags") for row in rows] == ROWS["tags"].to_pylist()
    assert [row.get("eligible") for row in rows] == ROWS["eligible"].to_pylist()
    assert [row.get("duration_ms") for row in rows] == ROWS["duration_ms"].to_pylist()
    assert rows[1]["published_at"] == "2026-01-02T00:00:00.123456Z"
    assert "published_at" not in rows[2]
    assert [row.get("vector") for row in rows] == [[0.5, None], [1.0], None, [], [2.0]]


@pytest.mark.parametrize("kind", ["csv", "csv.gz"])
def test_write_csv_reads_back_equal(tmp_path: Path, kind: str) -> None:
    lines = text_of(lay(tmp_path, kind)).splitlines()
    assert len(lines) == 1 + ROWS.num_rows  # a line is a row, whatever a value holds
    rows = list(csv.DictReader(lines))
    assert [row["video_id"] for row in rows] == ["007", 'a "b", c', "é\\t", "", ""]
    assert lines[4].startswith('"",')
    assert lines[5].startswith(",")  # absent, not empty
    assert [json.loads(row["tags"] or "null") for row in rows] == ROWS["tags"].to_pylist()
    assert [json.loads(row["vector"]) for row in (rows[0], rows[4])] == [[0.5, None], [2.0]]
    assert [row["eligible"] for row in rows] == ["true", "false", "", "true", "true"]
    assert rows[0]["published_at"] == "1970-01-01T00:00:00.000001Z"


def test_write_parquet_keeps_rows_and_microseconds(tmp_path: Path) -> None:
    nano = ROWS.set_column(1, "published_at", ROWS["published_at"].cast(pa.timestamp("ns", "UTC")))
    back = pq.read_table(lay(tmp_path, "parquet", nano), partitioning=None)
    assert back.schema.field("published_at").type == pa.timestamp("us", tz="UTC")
    assert back.drop(["vector"]).equals(ROWS.drop(["vector"]))


def test_write_naive_time_is_utc(tmp_path: Path) -> None:
    rows = pa.table({"at": pa.array([0], pa.timestamp("ms"))})
    assert "1970-01-01T00:00:00.000000Z" in text_of(lay(tmp_path, "jsonl", rows))


def test_write_csv_line_break_in_a_value_is_refused(tmp_path: Path) -> None:
    rows = pa.table({"caption": ["one\ntwo", "fine"]})
    with pytest.raises(LandingError, match=r"caption: 1 value\(s\) with a line break"):
        lay(tmp_path, "csv", rows)
    assert not list(tmp_path.rglob("*.csv"))
    verify.verify_file(lay(tmp_path, "jsonl", rows))


def test_write_invalid_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LandingError, match="'orc'"):
        lay(tmp_path, "orc")
    for name in ("", "_x", ".x", "a/b"):
        with pytest.raises(LandingError, match="is no name"):
            write.write_rows(str(tmp_path), "raw_videos", DAY, ROWS, kind="csv", name=name)
    with pytest.raises(LandingError, match="no lines"):
        lay(tmp_path, "jsonl", ROWS.slice(0, 0))
    with pytest.raises(LandingError, match="as Parquet"):
        write.write_lines(str(tmp_path), "raw_videos", DAY, ["x"], kind="parquet")


def test_write_that_fails_keeps_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = lay(tmp_path, "parquet")
    before = path.read_bytes()
    unstorable = pa.table({"month": pa.array([None], pa.month_day_nano_interval())})
    with pytest.raises(pa.ArrowException):
        lay(tmp_path, "parquet", unstorable)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_write_draft_that_cannot_be_renamed_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "raw_videos/day=2026-01-02"
    (folder / "part-0.csv/in_the_way").mkdir(parents=True)
    with pytest.raises(OSError, match=r"part-0\.csv"):
        lay(tmp_path, "csv")
    assert [path.name for path in folder.iterdir()] == ["part-0.csv"]


def test_write_raw_lines_are_unchanged(tmp_path: Path) -> None:
    lines = ['{"user_id": "u', "", "é"]
    path = write.write_lines(
        str(tmp_path), "raw_interactions", DAY, lines, kind="jsonl.gz", name="bad"
    )
    assert text_of(path) == '{"user_id": "u\n\né\n'


def test_write_gzip_carries_no_time(tmp_path: Path) -> None:
    assert lay(tmp_path, "csv.gz").read_bytes()[4:8] == bytes(4)


@dataclasses.dataclass(frozen=True)
class Part:
    table: str
    day: dt.date
    name: str
    kind: str
    rows: pa.Table | None
    lines: tuple[str, ...] = ()


def test_write_bad_lines_of_a_world_lie_between_good_ones(tmp_path: Path) -> None:
    rows = pa.table({"user_id": ["a", "b"]})
    part = Part("raw_interactions", DAY, "part-0", "csv", rows, ("bad",))
    paths = write.write_world(str(tmp_path), [part], truth={"day": "é"})
    assert text_of(paths[0]) == '"user_id"\n"a"\nbad\n"b"\n'
    assert json.loads((tmp_path / "_truth/truth.json").read_text()) == {"day": "é"}
    assert zone.days(str(tmp_path), "raw_interactions") == [DAY]


def test_write_bad_lines_into_parquet_are_refused(tmp_path: Path) -> None:
    part = Part("raw_videos", DAY, "part-0", "parquet", ROWS, ("bad",))
    with pytest.raises(LandingError, match="no text lines of kind 'parquet'"):
        write.write_world(str(tmp_path), [part])


def test_write_world_into_another_is_refused(tmp_path: Path) -> None:
    part = Part("raw_videos", DAY, "part-0", "csv", ROWS)
    write.write_world(str(tmp_path), [part])
    write.write_world(str(tmp_path), [part])  # its own files it may replace
    write.write_rows(str(tmp_path), "raw_clip_features", DAY, ROWS, kind="csv")
    before = sorted(tmp_path.rglob("*"))
    other = dataclasses.replace(part, name="part-1")
    with pytest.raises(LandingError, match=r"part-0\.csv: .* already holds 1 other file"):
        write.write_world(str(tmp_path), [other])
    assert sorted(tmp_path.rglob("*")) == before
