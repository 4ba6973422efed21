"""Landing files as rows of text, the same from every format; what cannot be read has its rule."""

import datetime as dt
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microrec.config.settings import HOME
from microrec.errors import LandingError
from microrec.landing import lines, verify, write
from microrec.tables import contract

DAY = dt.date(2026, 1, 5)
VIDEOS = pa.table(
    {
        "video_id": ["v1", "v,2", 'v"3', "007"],
        "published_at": pa.array([dt.datetime(2026, 1, 1, tzinfo=dt.UTC)] * 4, pa.timestamp("us", "UTC")),
        "duration_ms": [1500, None, 0, 12],
        "caption": ["a", None, "b", "c"],
        "tags": pa.array([["x", 'y"z'], [], None, ["ä"]], pa.list_(pa.string())),
        "eligible": [True, False, None, True],
    }
)  # fmt: skip


def loaded(table: str, path: Path) -> list[dict[str, Any]]:
    connection = duckdb.connect()
    promised = contract.load(HOME / "schemas", table)
    lines.create(connection, promised)
    n_rows = lines.load(connection, promised, path, verify.DEFAULT)
    rows = connection.execute(f"SELECT * FROM {table} ORDER BY number").to_arrow_table().to_pylist()
    assert len(rows) == n_rows
    return rows


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "jsonl.gz", "parquet"])
def test_load_gives_the_same_values_from_every_format(tmp_path: Path, kind: str) -> None:
    path = write.write_rows(str(tmp_path), "raw_videos", DAY, VIDEOS, kind=kind)
    rows = loaded("raw_videos", path)
    assert [row["video_id"] for row in rows] == ["v1", "v,2", 'v"3', "007"]
    assert [row["duration_ms"] for row in rows] == ["1500", None, "0", "12"]
    assert [row["tags"] for row in rows] == [["x", 'y"z'], [], None, ["ä"]]
    assert [row["eligible"] for row in rows] == ["true", "false", None, "true"]
    assert {row["published_at"] for row in rows} == {"2026-01-01T00:00:00.000000Z"}
    assert {(row["day"], row["file"], row["unread"]) for row in rows} == {
        (DAY, f"raw_videos/day=2026-01-05/part-0.{kind}", None)
    }


@pytest.mark.parametrize(
    ("line", "unread"),
    [
        ('{"video_id": "v1", "eligible": true}', None),
        ('{"video_id": "v1", "tags": "x"}', None),
        ('{"video_id": 1e5}', "inexact_id"),
        ('{"video_id": 9007199254740993.0}', "inexact_id"),
        ('{"video_id": true}', "inexact_id"),
        ('{"author_id": 1.5}', None),
        ('{"video_id": "v1", "tags": ["x", 1]}', None),
        ('[{"video_id": "v1"}]', "array_line"),
        ('{"video_id": "v1"} {"video_id": "v2"}', "malformed_line"),
        ('{"video_id": "v1", "video_id": "v2"}', "duplicate_key"),
        ('{"video_id": "v1", "duration_ms": NaN}', "not_a_number"),
        ('{"video_id": "v1", "tags": ["x", [-Infinity]]}', "not_a_number"),
        ('{"video_id": "v1", "other": {"a":Infinity}}', "not_a_number"),
        ('{"video_id": "NaN", "caption": ": NaN, \\": NaN"}', None),
        ('{"video_id": "v1", "duration_ms": INF}', "malformed_line"),
        ('[{"video_id": NaN}', "array_line"),
        ('{"video_id": "v1"', "malformed_line"),
        ("7", "malformed_line"),
        ('{"caption": "' + "x" * (1 << 20) + '"}', "line_too_long"),
    ],
)
def test_load_json_line_that_cannot_be_read_has_its_rule(
    tmp_path: Path, line: str, unread: str | None
) -> None:
    path = write.write_lines(str(tmp_path), "raw_videos", DAY, [line, "{}"], kind="jsonl")
    assert [row["unread"] for row in loaded("raw_videos", path)] == [unread, None]


def test_load_json_numbers_are_kept_as_they_are_written(tmp_path: Path) -> None:
    text = '{"video_id": 12345678901234567890123, "duration_ms": 1.50, "caption": {"a": [1, null]}}'
    path = write.write_lines(str(tmp_path), "raw_videos", DAY, [text], kind="jsonl")
    (row,) = loaded("raw_videos", path)
    assert (row["video_id"], row["duration_ms"]) == ("12345678901234567890123", "1.50")
    assert row["caption"] == '{"a":[1,null]}'


def test_load_json_half_a_character_is_no_text(tmp_path: Path) -> None:
    text = ['{"video_id": "a\\ud83d"}', '{"video_id": "a\\ud83d\\ude00"}', '{"video_id": 17.0}']
    path = write.write_lines(str(tmp_path), "raw_videos", DAY, text, kind="jsonl")
    assert [row["video_id"] for row in loaded("raw_videos", path)] == [
        "a\ufffd",
        "a\U0001f600",
        "17",
    ]


def test_load_csv_record_with_other_fields_costs_itself_alone(tmp_path: Path) -> None:
    text = ["video_id,eligible", "v1,true", "v2", "v3,true,x", '"v\n4",true']
    path = write.write_lines(str(tmp_path), "raw_videos", DAY, text, kind="csv")
    rows = loaded("raw_videos", path)
    assert [row["unread"] for row in rows] == [None, "malformed_line", "malformed_line", None]
    assert [row["number"] for row in rows] == [2, 3, 4, 5]
    assert rows[3]["video_id"] == "v\n4"


def test_load_parquet_numbers_become_ids_where_they_are_exact(tmp_path: Path) -> None:
    rows = pa.table({"video_id": [17.0, 2.0**53, None], "eligible": [1.0, float("nan"), 0.0]})
    path = tmp_path / "raw_videos" / "day=2026-01-05" / "part-0.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(rows, path)
    read = loaded("raw_videos", path)
    assert [row["unread"] for row in read] == [None, "inexact_id", None]
    assert [row["video_id"] for row in read][::2] == ["17", None]
    assert [row["eligible"] for row in read] == ["1", None, "0"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_load_missing_column_is_named_and_unknown_ones_are_listed(
    tmp_path: Path, kind: str
) -> None:
    path = write.write_rows(
        str(tmp_path),
        "raw_videos",
        DAY,
        pa.table({"video_id": ["v1"], "colour": ["red"]}),
        kind=kind,
    )
    with pytest.raises(LandingError, match=rf"part-0\.{kind}: missing column 'eligible'"):
        loaded("raw_videos", path)
    promised = contract.load(HOME / "schemas", "raw_videos")
    assert lines.unknown_columns(promised, path, verify.verify_file(path)) == ["colour"]


def test_load_parquet_nanoseconds_are_read_where_they_are_microseconds(tmp_path: Path) -> None:
    times = pa.array(
        [1_767_225_600_000_001_000, 1_767_225_600_000_000_001], pa.timestamp("ns", "UTC")
    )
    rows = pa.table({"video_id": ["v1", "v2"], "published_at": times, "eligible": [True, True]})
    path = tmp_path / "raw_videos" / "day=2026-01-05" / "part-0.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(rows, path)
    read = [row["published_at"] for row in loaded("raw_videos", path)]
    assert read == ["2026-01-01T00:00:00.000001Z", None]


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_lengths_as_floats_of_any_size_are_whole_numbers(tmp_path: Path, kind: pa.DataType) -> None:
    values = [1200.0, 0.5, None, float("nan")]
    columns = {
        "video_id": ["v1"] * 4,
        "duration_ms": pa.array(values, kind),
        "eligible": [True] * 4,
    }
    path = write.write_rows(str(tmp_path), "raw_videos", DAY, pa.table(columns), kind="parquet")
    assert [row["duration_ms"] for row in loaded("raw_videos", path)] == ["1200", "0.5", None, None]


def test_lists_as_json_text_in_parquet_are_lists(tmp_path: Path) -> None:
    texts = ["[1, 2.5]", "x", None, "", "[true]", '["1"]', "[null, NaN]"]
    columns = {
        "video_id": ["v1"] * 7, "modality": ["m"] * 7, "encoder_version": ["1"] * 7, "vector": texts,
    }  # fmt: skip
    table = "raw_video_features"
    path = write.write_rows(str(tmp_path), table, DAY, pa.table(columns), kind="parquet")
    *vectors, last = [row["vector"] for row in loaded(table, path)]
    assert vectors == [[1.0, 2.5], None, None, None, None, None]
    assert last[0] is None
    assert np.isnan(last[1])
