"""The landing zone is other people's: links, bombs, names and lines that mean harm are refused or are data."""

import datetime as dt
import gzip
import json
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs import validate_events
from microrec.config import recipe
from microrec.config.settings import settings
from microrec.errors import LandingError, RecipeError
from microrec.landing import readers, verify, write, zone
from microrec.landing.verify import Limits
from microrec.tables.arrow import Warehouse

DAY = dt.date(2026, 1, 5)
TABLE = "raw_interactions"
TIGHT = Limits(free_bytes=3 * 2**20, file_bytes=5 * 2**20, ratio=2, value_bytes=2**20)


def lay(landing_root: Path, name: str, content: bytes = b"{}\n") -> Path:
    path = landing_root / TABLE / f"day={DAY}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def refuse(landing_root: Path, message: str) -> None:
    with pytest.raises(LandingError, match=message) as refused:
        zone.files(str(landing_root), TABLE, DAY)
    assert str(refused.value).isprintable()


def test_links_leading_outside_are_refused_and_others_followed(tmp_path: Path) -> None:
    landing_root, outside = tmp_path / "zone", tmp_path / "outside"
    lay(outside, "secret.jsonl")
    folder = lay(landing_root, "a.jsonl").parent
    (folder / "b.jsonl").symlink_to(folder / "a.jsonl")
    (tmp_path / "mounted").symlink_to(landing_root)
    assert len(zone.files(str(tmp_path / "mounted"), TABLE, DAY)) == 2
    for target in (outside / TABLE / f"day={DAY}" / "secret.jsonl", "/etc/hostname", "/dev/zero"):
        link = folder / "c.jsonl"
        link.symlink_to(target)
        refuse(landing_root, r"c\.jsonl: a link that leads out of the landing zone")
        link.unlink()
    (folder / "c.jsonl").symlink_to(folder / "gone")
    refuse(landing_root, r"c\.jsonl: not a plain file")


@pytest.mark.parametrize("linked", ["", TABLE, f"{TABLE}/day={DAY}"], ids=["none", "table", "day"])
def test_folder_leading_outside_is_refused(tmp_path: Path, linked: str) -> None:
    landing_root, outside = tmp_path / "zone", tmp_path / "outside"
    lay(outside, "a.jsonl")
    (landing_root / linked).parent.mkdir(parents=True, exist_ok=True)
    (landing_root / linked).symlink_to(outside / linked)
    if linked:
        refuse(landing_root, "leads out of the landing zone")
        with pytest.raises(LandingError, match="leads out"):
            zone.days(str(landing_root), TABLE)
    else:
        assert zone.days(str(landing_root), TABLE) == [DAY], (
            "the zone itself may be a link: the operator's"
        )


def test_pipes_and_sockets_are_refused(tmp_path: Path) -> None:
    folder = lay(tmp_path, "a.jsonl").parent
    os.mkfifo(folder / "b.jsonl")
    refuse(tmp_path, r"b\.jsonl: not a plain file")
    (folder / "b.jsonl").unlink()
    with socket.socket(socket.AF_UNIX) as server, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # addresses of sockets are short
        server.bind("c.jsonl")
    refuse(tmp_path, r"c\.jsonl: not a plain file")


@pytest.mark.parametrize("name", ["a\nERROR b", "a\rb", "a\x1b[2Jb", "a\u202eb", "a:b", b"a\xffb"])
def test_names_unreadable_or_unprintable_are_refused(tmp_path: Path, name: str | bytes) -> None:
    lay(tmp_path, os.fsdecode(name if isinstance(name, bytes) else name.encode()) + ".jsonl")
    refuse(tmp_path, "in its name")


@pytest.mark.parametrize("name", ["day=20260105", "day=2026-W02-1", "2026-01-05", "day=2026-01-05 ",
                                  "day=2026-01-05\n", "day=10000-01-01", "day=../x"])  # fmt: skip
def test_folder_whose_rows_would_be_missed_is_refused(tmp_path: Path, name: str) -> None:
    """Python reads some of these as days, under whose proper name nothing would be found."""
    (tmp_path / TABLE / name).mkdir(parents=True)
    with pytest.raises(LandingError, match="not a folder day=YYYY-MM-DD") as refused:
        zone.days(str(tmp_path), TABLE)
    assert str(refused.value).isprintable()


def test_object_store_landing_is_refused() -> None:
    with pytest.raises(LandingError, match=r"landing s3://...: a landing zone is a folder"):
        zone.days("s3://bucket/landing", TABLE)
    with pytest.raises(LandingError, match="no folder is named"):
        zone.days("", TABLE)


def parquet(path: Path, rows: pa.Table, **options: Any) -> None:
    pq.write_table(rows, path, compression="zstd", **options)


BOMBS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "gzip": ("jsonl.gz", lambda p: p.write_bytes(gzip.compress(b"{}\n" * 2**21)), "grow beyond"),
    "gzip in gzip": ("csv.gz", lambda p: p.write_bytes(gzip.compress(b"\n" * 2**20) * 6), "grow beyond"),
    "a text named often": ("parquet", lambda p: parquet(p, pa.table({"a": ["x" * 4096] * 20_000})), "grow beyond"),
    "a tag named often": ("parquet", lambda p: parquet(p, pa.table({"a": [["x" * 4096] * 9] * 999})), "grow beyond"),
    "equal numbers": ("parquet", lambda p: parquet(p, pa.table({"a": [7] * 2**20})), "grow beyond"),
    "a value": ("parquet", lambda p: parquet(p, pa.table({"a": ["x" * (2**20 + 1)]})), "a value of more than"),
    "columns": ("parquet", lambda p: parquet(p, pa.table({f"c{n}": [1] for n in range(1001)})), "1001 columns"),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_decompression_bombs_are_refused_with_the_limit(tmp_path: Path, bomb: str) -> None:
    kind, write, message = BOMBS[bomb]
    path = lay(tmp_path, f"bomb.{kind}")
    write(path)
    with pytest.raises(LandingError, match=rf"day=2026-01-05/bomb\.{kind}: .*{message}") as refused:
        verify.verify_file(path, TIGHT)
    said = str(refused.value)
    assert "columns" in said or "[landing] of the recipe" in said
    if bomb != "columns":
        verify.verify_file(path)  # by the default limits it is a small file


def test_decompression_bomb_is_refused_before_held(tmp_path: Path) -> None:
    """Two millions of a text of 4 kB: 8 GB as Spark would read them, 20 kB in the file."""
    path = lay(tmp_path, "bomb.parquet")
    indices = pa.array([0], pa.int32()).take(pa.array([0] * 2_000_000))
    parquet(path, pa.table({"a": pa.DictionaryArray.from_arrays(indices, ["x" * 4096])}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LandingError, match="grow beyond 268435456 as it is read"):
        verify.verify_file(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_limits_come_from_the_recipe(tmp_path: Path, place: Path, spark: SparkSession) -> None:
    landing_root = place / "landing"
    lay(landing_root, "a.jsonl", b"{}\n" * 2**20)
    recipe_file = tmp_path / "recipe.toml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROREC_RECIPE", str(recipe_file))
        settings.cache_clear()
        recipe_file.write_text("[landing]\nfile_bytes = 1000\n")
        limits = verify.limits_of(recipe.current())
        with pytest.raises(LandingError, match=r"raw_interactions\[2026-01-05\].*beyond 1000"):
            readers.require(str(landing_root), TABLE, DAY, limits=limits)
        recipe_file.write_text("[landing]\nfile_byte = 1000\n")
        with pytest.raises(RecipeError, match="file_byte"):
            verify.limits_of(recipe.current())
    settings.cache_clear()
    readers.require(str(landing_root), TABLE, DAY)


@pytest.mark.spark
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"user_id,video_id,started_at,watch_ms,mood\nu1,v1,2026-01-05T10:00:00Z,1,2\n"),
        ("a.jsonl", b'{"user_id": "u1", "mood": 2}\n'),
    ],
)
def test_unknown_column_is_refused_where_the_limits_say_so_and_else_passed_over(
    name: str, content: bytes, place: Path, spark: SparkSession, caplog: pytest.LogCaptureFixture
) -> None:
    lay(place, name, content)
    others = Limits(refuse_unknown_columns=("raw_videos",))
    assert readers.read(spark, str(place), TABLE, DAY, limits=others).count() == 1
    assert "columns='mood': passed over" in caplog.text
    limits = Limits(refuse_unknown_columns=(TABLE,))
    with pytest.raises(LandingError, match=rf"file {name}: unknown column\(s\) 'mood'"):
        readers.read(spark, str(place), TABLE, DAY, limits=limits)


PATTERNS = (
    "a*",
    "a?b",
    "[ab]",
    "{a,b}",
    "a\\b",
    "a%2Fb",
    "a b",
    "a..b",
    "a,b",
    "a#b",
    "a+b",
    "~",
    "$(id)",
    "a'b",
    "ü",
)


@pytest.mark.spark
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_file_is_read_literally_whatever_its_name(
    place: Path, spark: SparkSession, kind: str
) -> None:
    """Spark takes a name with `*` for a pattern: the neighbours' rows would count twice."""
    landing_root = place / "{a,b}*"
    for number, name in enumerate([*PATTERNS, "axb", "a", "b"]):
        rows = pa.table(
            {n: [str(number)] for n in ("user_id", "video_id", "started_at", "watch_ms")}
        )
        write.write_rows(str(landing_root), TABLE, DAY, rows, kind=kind, name=name)
    found = readers.read(spark, str(landing_root), TABLE, DAY).select("file", "user_id").collect()
    assert sorted((row.file, row.user_id) for row in found) == sorted(
        (f"{TABLE}/day={DAY}/{name}.{kind}", str(number))
        for number, name in enumerate([*PATTERNS, "axb", "a", "b"])
    )


@pytest.mark.spark
@pytest.mark.parametrize(
    ("header", "message"),
    [
        (",".join(f"c{n}" for n in range(50_000)), "50000 columns, more than 1000"),
        (
            ",".join(f"c{n}" for n in range(900)),
            r"missing column.*columns are 'c0'.*, and 895 more",
        ),
        ("user_id," * 900 + "x", "column 'user_id' appears twice"),
        ("x" * 200_000, "missing column"),
        ("x" * 2_000_000, "header: too long"),
        ('"user_id', "line 1: a quote that opens"),
        ("user_id\x00,video_id", r"missing column.*'user_id\\x00'"),
        ("", "missing column"),
        ("\x1b[2Jx,user_id", r"missing column.*'\\x1b\[2Jx'"),
    ],
    ids=["many", "some", "the same", "long", "too long", "quote", "nul", "empty", "escape"],
)
def test_hostile_header_is_refused_in_a_short_line(
    place: Path, spark: SparkSession, header: str, message: str
) -> None:
    lay(place, "a.csv", f"{header}\nu1,v1\n".encode())
    with pytest.raises(LandingError, match=message) as refused:
        readers.read(spark, str(place), TABLE, DAY)
    assert len(str(refused.value)) < 1000
    assert str(refused.value).isprintable()


IDS = (
    "../../etc/passwd", "x'; DROP TABLE events; --", "a/b", "day=2026-01-01/..", "%2F", "\u202eabc", "😀",
    "\uffff\U0010ffff", "[/red]", "*", "u" * 512,
)  # fmt: skip
"""Ids that are data like any other."""


def line(**changes: Any) -> str:
    row = {
        "user_id": "u1", "video_id": "v1", "started_at": "2026-01-05T10:00:00Z", "watch_ms": 5000,
    }  # fmt: skip
    return json.dumps({**row, **changes})


LINES = {
    line(user_id="u" * 513): "long_value",
    line(surface="s" * 2_000_000): "line_too_long",
    "{" + ", ".join(f'"k{n}": {n}' for n in range(50_000)) + "}": "missing_user",
    '{"user_id": ' + "[" * 200 + "]" * 200 + "}": "inexact_id",
    "x" * 20_000_000: "line_too_long",
    line(user_id="u\n1"): "unreadable_id",
    line(user_id="u\x00x"): "unreadable_id",
    line(video_id="\x1b[31mred"): "unreadable_id",
    '{"user_id": ' + "[" * 100_000 + "]" * 100_000 + "}": "malformed_line",
    line(watch_ms=0).replace(": 0}", ": " + "9" * 30 + "}"): "bad_watch",
    line(watch_ms=0).replace(": 0}", ": " + "9" * 5000 + "}"): "malformed_line",
    line(watch_ms=0).replace(": 0}", ": 1e999999999}"): "bad_watch",
    line(watch_ms="-9223372036854775808"): "bad_watch",
    line(watch_ms=10**15 - 1): "absurd_watch",
    line(started_at="9999-12-31T23:59:59-14:00"): "bad_timestamp",
    line(started_at="9999-12-31T23:59:59Z"): "future_event",
    line(started_at="0001-01-01T00:00:00Z"): "too_late",
    line(video_id="../../etc/passwd"): "unknown_video",
    line()[:-1] + ', "surface": "\x00"}': "malformed_line",
}
VIDEOS = (
    {"video_id": "v1", "duration_ms": 9000, "eligible": 1},
    {
        "video_id": "../v'2",
        "duration_ms": 9000,
        "eligible": 1,
        "caption": "\x00\x1b[2J",
        "tags": ["a/b", "'"],
    },
    {"video_id": "long", "duration_ms": 2**63 - 1, "eligible": 1},
    {"video_id": "late", "published_at": "9999-12-31T23:59:59-14:00", "eligible": 1},
    {"video_id": "early", "published_at": "0000-01-01T00:00:00Z", "eligible": 1},
)
FEATURES = ("visual", "visual\n", "../visual", "v" * 300, "__hive_default_partition__")


@pytest.fixture
def landing_root(place: Path) -> Path:
    """A day with all of that in it."""
    landing_root = str(place / "landing")
    good = [line(user_id=id_) for id_ in IDS] + [line(video_id="../v'2", duration_ms=2**63 - 1)]
    write.write_lines(landing_root, TABLE, DAY, [*good, *LINES], kind="jsonl.gz")
    csv = [
        "user_id,video_id,started_at,watch_ms",
        'u1,"v1"x,2026-01-05T10:00:00Z,5',
        "u\x00,v1," + "," * 9,
    ]
    write.write_lines(landing_root, TABLE, DAY, csv, kind="csv")
    wide = pa.table(
        {**{k: [str(v)] for k, v in json.loads(line()).items()}, "surface": ["s" * 2_000_000]}
    )
    write.write_rows(landing_root, TABLE, DAY, wide, kind="parquet")
    write.write_lines(
        landing_root, "raw_videos", DAY, [json.dumps(one) for one in VIDEOS], kind="jsonl"
    )
    vectors = [
        json.dumps({"video_id": "v1", "modality": name, "encoder_version": "1", "vector": [1, 2]})
        for name in FEATURES
    ]
    write.write_lines(landing_root, "raw_video_features", DAY, vectors, kind="jsonl")
    requests = [
        {"user_id": "../u8", "kind": "opt_out", "requested_at": "9999-12-31T23:59:59-14:00"},
        {"user_id": "x'; --", "kind": "erase", "requested_at": "0000-01-01T00:00:00Z"},
    ]
    write.write_lines(landing_root, "raw_privacy_requests", DAY, map_json(requests), kind="jsonl")
    return place


def map_json(rows: list[dict[str, Any]]) -> list[str]:
    return [json.dumps(row) for row in rows]


@pytest.mark.spark
def test_hostile_day_becomes_rejected_lines(landing_root: Path, spark: SparkSession) -> None:
    validate_events.main(day=DAY)
    warehouse = Warehouse.open()
    events = warehouse.read("events", day=DAY)["user_id"].to_pylist()
    assert sorted(events) == sorted([*IDS, "u1"])
    rejected = warehouse.read("rejected_rows", day=DAY, raw_table=TABLE).to_pylist()
    found = {row["line"]: row["rule"] for row in rejected if row["file"].endswith(".jsonl.gz")}
    kept = {
        (text[: readers.KEPT] if rule == "line_too_long" else text): rule
        for text, rule in LINES.items()
    }
    assert found == kept
    others = {row["file"].rsplit(".", 1)[1]: row for row in rejected if row["line"] not in found}
    assert others["parquet"]["rule"] == "line_too_long"
    assert len(others["parquet"]["line"]) == readers.KEPT
    assert [row["rule"] for row in rejected if row["file"].endswith(".csv")] == [
        "malformed_line"
    ] * 2
    assert max(len(row["user_id"] or "") for row in rejected) <= 512
    assert {row["video_id"] for row in warehouse.read("videos", day=DAY).to_pylist()} == {
        "v1",
        "../v'2",
        *("long", "late", "early"),
    }
    assert warehouse.partitions("video_features") == [
        {"day": str(DAY), "modality": "visual"},
    ]
    suppressed = warehouse.read("suppressed_users", day=DAY).to_pylist()
    assert {row["user_id"] for row in suppressed} == {"../u8", "x'; --"}
    assert {row["requested_at"].date() for row in suppressed} == {DAY}, "not before, not after"
    for id_ in IDS:
        assert warehouse.read("events", day=DAY, where={"user_id": id_}).num_rows == 1
    folders = {path.name for path in (landing_root / "warehouse" / "events").rglob("*=*")}
    assert folders == {f"day={DAY}", f"arrived_on={DAY}"}
