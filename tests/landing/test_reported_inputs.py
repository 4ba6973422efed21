"""Small inputs that users of comparable systems reported: what is right of each, from the file to the verdict."""

import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from microrec.errors import LandingError
from microrec.events import catalogue, consent, parse
from microrec.landing import readers, requests, verify, zone
from microrec.privacy import ledger
from microrec.privacy.subjects import Subjects

pytestmark = pytest.mark.spark

DAY = dt.date(2026, 1, 5)
AT = "2026-01-05T10:00:00Z"


def lay(place: Path, table: str, kind: str, content: bytes = b"", *, day: dt.date = DAY) -> Path:
    path = zone.path_of(str(place), table, day, kind=kind)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def viewings(spark: SparkSession, place: Path) -> list[tuple[str | None, str | None]]:
    """User and reading fault of each delivered viewing, sorted."""
    lines = readers.read_days(spark, str(place), "raw_interactions", [DAY], limits=verify.DEFAULT)
    rows = parse.interactions(lines).select("user_id", "unread_by").collect()
    return sorted(((row.user_id, row.unread_by) for row in rows), key=str)


def test_caption_with_line_breaks_withdraws_no_other_video(
    spark: SparkSession, place: Path
) -> None:
    caption = "hello\nv2,9000,1,0\nworld"
    text = f'video_id,caption,duration_ms,eligible\nv1,"{caption}",9000,1\nv2,fine,9000,1\nv3,x,9000,1\n'
    lay(place, "raw_videos", "csv", text.encode())
    delivered = readers.read_through(spark, str(place), "raw_videos", DAY, limits=verify.DEFAULT)
    videos = catalogue.videos(catalogue.judge_videos(delivered)).collect()
    assert {row.video_id: (row.caption, row.eligible) for row in videos} == {
        "v1": (caption, True),
        "v2": ("fine", True),
        "v3": ("x", True),
    }


def json_lines(*rows: dict[str, object]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def eligible(spark: SparkSession, place: Path) -> dict[str, bool]:
    delivered = readers.read_through(spark, str(place), "raw_videos", DAY, limits=verify.DEFAULT)
    videos = catalogue.videos(catalogue.judge_videos(delivered)).collect()
    return {row.video_id: row.eligible for row in videos}


TAKEDOWNS = (
    b'{"video_id": "v1", "eligible": false}\n'
    b'{"video_id": "v2", "eligible": false, "duration_ms": -1, "published_at": "soon", "tags": "a", "author_id": 1.5}\n'
    b'{"video_id": "v3", "eligible": "no"}\n'
    b'{"video_id": "v4", "tags": []}\n'
    b'{"video_id": "v5", "eligible": false, "eligible": true}\n'
    b'{"video_id": "v6", "caption": "\xff", "eligible": 0}\n'
    b'{"video_id": "v7", "eligible": true, "dur\n'
    b'{"caption": "\\"video_id\\": \\"v8\\"", "eligible": false, "tags": ["video_id", "v8"], "dur\n'
    b'{"video_id": "v9", "eligi\n'
)


def test_takedown_with_another_fault_still_withdraws_and_no_other_video(
    spark: SparkSession, place: Path
) -> None:
    before = [
        {"video_id": f"v{n}", "duration_ms": 9000, "eligible": True, "published_at": "2026-01-01"}
        for n in range(1, 11)
    ]
    lay(place, "raw_videos", "jsonl", json_lines(*before), day=DAY - dt.timedelta(days=1))
    lay(place, "raw_videos", "jsonl", TAKEDOWNS)
    assert {video for video, is_eligible in eligible(spark, place).items() if is_eligible} == {
        "v7",
        "v8",
        "v10",
    }
    delivered = readers.read_through(spark, str(place), "raw_videos", DAY, limits=verify.DEFAULT)
    lengths = catalogue.states(catalogue.judge_videos(delivered)).where("until IS NULL")
    assert {row.duration_ms for row in lengths.collect()} == {9000}


def test_takedown_in_doubt_ends_with_a_row_that_can_be_read(
    spark: SparkSession, place: Path
) -> None:
    before = DAY - dt.timedelta(days=1)
    doubtful = [{"video_id": "v1", "eligible": "no"}, {"video_id": "v2", "eligible": "no"}]
    again = [{"video_id": "v2", "eligible": True}]
    lay(place, "raw_videos", "jsonl", json_lines(*doubtful, *again), day=before)
    assert eligible(spark, place) == {"v2": False}, "of one day the withdrawal stands"
    lay(place, "raw_videos", "jsonl", json_lines({"video_id": "v1", "eligible": True}, *again))
    assert eligible(spark, place) == {"v1": True, "v2": True}


def test_optional_values_of_a_video_take_no_row_along(spark: SparkSession, place: Path) -> None:
    whole = {"author_id": "a", "published_at": "2026-01-01", "duration_ms": 9, "tags": ["t"]}
    broken = {"author_id": 1.5, "published_at": "soon", "duration_ms": "9 s", "tags": "t"}
    rows = [
        {"video_id": f"v{n}", "caption": "c", "eligible": True, **whole, name: value}
        for n, (name, value) in enumerate(broken.items())
    ]
    lay(place, "raw_videos", "jsonl", json_lines(*rows))
    judged = catalogue.judge_videos(
        readers.read_through(spark, str(place), "raw_videos", DAY, limits=verify.DEFAULT)
    )
    videos = {row.video_id: row for row in catalogue.videos(judged).collect()}
    for n, name in enumerate(broken):
        absent = {column for column in (*whole, "caption") if videos[f"v{n}"][column] is None}
        assert absent == {name}
    assert sorted((row.video_id, *row.nulled) for row in judged.collect()) == [
        ("v0", "bad_author"),
        ("v1", "bad_published_at"),
        ("v2", "bad_duration"),
        ("v3", "bad_tags"),
    ]


def test_misspelt_privacy_requests_count_for_the_user(spark: SparkSession, place: Path) -> None:
    text = (
        '{"user_id": "u1", "kind": "opt_out", "requested_at": "2026-01-05T10:00:00Z"}\n'
        '{"user_id": "u2", "kind": "opt-out", "requested_at": "2026-01-05T10:00:00Z"}\n'
        '{"user_id": "u3", "requested_at": "2026-01-05T10:00:00Z"}\n'
        '{"user_id": "u4", "kind": "delete", "requested_at": "now"}\n'
        '{"user_id": "u5", "kind": "opt_in", "requested_at": "now"}\n'
        '{"user_id": "u6", "kind": "opt_in", "kind": "erase"}\n'
        '{"user_id": "u7", "kind": "opt_in", "requ\n'
        '{"user_id": "u8", "kind": "withdraw", "requested_at": "2026-01-05T10:00:00Z"}\n'
        '{"user_id": "u8", "kind": "opt_in", "requested_at": "2026-01-05T11:00:00Z"}\n'
        '{"user_id": "u10", "kind": "erase", "requ\n'
    )
    lay(place, "raw_privacy_requests", "jsonl", text.encode())
    delivered = readers.read_through(
        spark, str(place), "raw_privacy_requests", DAY, limits=verify.DEFAULT
    )
    judged = consent.judge_requests(delivered).collect()
    (path,) = place.glob("raw_privacy_requests/*/*")
    read = requests.read([path], verify.DEFAULT, timezone="UTC").to_pylist()
    ours = [(row["rule"] or row["user_id"] + row["kind"], row["withdrawn"]) for row in read]
    theirs = [(row.rule or row.user_id + row.kind, row.withdrawn) for row in judged]
    assert sorted(ours) == sorted(theirs)
    subjects = Subjects(b"a key that tests share")
    stamps = {row["file"]: "s" for row in read}
    rows = ledger.rows(
        pa.Table.from_pylist(read, schema=requests.SCHEMA),
        stamps,
        subjects,
        lateness_days=3,
        timezone="UTC",
    )
    of_subjects = ledger.periods(rows, {})
    periods = {of: each[-1] for of, each in of_subjects.items() if each[-1].until is None}
    names = {subjects.of(f"u{n}"): f"u{n}" for n in range(1, 11)}
    assert {names[subject]: period.kind for subject, period in periods.items()} == {
        **dict.fromkeys(["u1", "u2", "u3", "u6", "u10"], "opt_out"),
        "u4": "erase",  # delete, it says
    }


def test_half_characters_are_refused_and_join_no_users(spark: SparkSession, place: Path) -> None:
    ids = (r"a\ud83d", r"a\ud83c", "a?")
    lines = [
        f'{{"user_id":"{user}","video_id":"v1","started_at":"{AT}","watch_ms":{n}}}\n'
        for n, user in enumerate(ids)
    ]
    lay(place, "raw_interactions", "jsonl", "".join(lines).encode())
    assert viewings(spark, place) == [
        ("a?", None),
        (None, "unreadable_id"),
        (None, "unreadable_id"),
    ]


def test_array_of_viewings_is_refused_by_name(spark: SparkSession, place: Path) -> None:
    rows = [
        {"user_id": f"u{n}", "video_id": "v1", "started_at": AT, "watch_ms": n} for n in range(5)
    ]
    lay(place, "raw_interactions", "jsonl", (json.dumps(rows) + "\n").encode())
    with pytest.raises(LandingError, match=r"raw_interactions.*2026-01-05.*part-0\.jsonl.*array"):
        viewings(spark, place)


def test_line_of_many_commas_costs_that_line(spark: SparkSession, place: Path) -> None:
    header = "user_id,video_id,started_at,watch_ms"
    text = f"{header}\nu1,v1,{AT},5000\n{',' * 30_000}\n"
    lay(place, "raw_interactions", "csv", text.encode())
    assert viewings(spark, place) == [("u1", None), (None, "malformed_line")]


def columns(users: pa.Array) -> pa.Table:
    at = pa.array([dt.datetime.fromisoformat(AT)] * len(users), pa.timestamp("us", "UTC"))
    watch = pa.array([5000] * len(users), pa.int64())
    names = ["user_id", "video_id", "started_at", "watch_ms"]
    return pa.table([users, pa.array(["v1"] * len(users)), at, watch], names=names)


@pytest.mark.parametrize(
    "options", [{"compression": "brotli"}, {"use_deprecated_int96_timestamps": True}]
)
def test_parquet_as_other_writers_leave_it_is_read(
    spark: SparkSession, place: Path, options: dict[str, object]
) -> None:
    path = lay(place, "raw_interactions", "parquet")
    pq.write_table(columns(pa.array(["u1", "u2"])), path, **options)
    assert viewings(spark, place) == [("u1", None), ("u2", None)]
    lines = readers.read_days(spark, str(place), "raw_interactions", [DAY], limits=verify.DEFAULT)
    assert {row.started_at for row in parse.interactions(lines).collect()} == {
        dt.datetime(2026, 1, 5, 10)
    }


def test_ids_that_are_inexact_numbers_join_no_users(spark: SparkSession, place: Path) -> None:
    users = pa.array([1234567890123456768.0, 1234567890123456896.0, 17.0, 100000.0])
    pq.write_table(columns(users), lay(place, "raw_interactions", "parquet"))
    assert viewings(spark, place) == [
        ("100000", None),
        ("17", None),
        (None, "inexact_id"),
        (None, "inexact_id"),
    ]
