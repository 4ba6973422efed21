"""Somebody's table becomes landing files: values, days, counts, errors by name, the same bytes."""

import csv
import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microrec.errors import LandingError
from microrec.landing import verify, zone
from microrec.landing.importers import table
from microrec.landing.importers.mapping import Mapping

MARCH_4, MARCH_5 = dt.date(2026, 3, 4), dt.date(2026, 3, 5)
PLAYS = """uid,clip,when,seconds,len,reaction,country
007,v1,3/4/2026 5:00:05 PM,4.35,10,like,DE
7,v2,3/4/2026 11:30:00 PM,n/a,12,,DE
8,"v,3
(""x"")",3/5/2026 1:00:00 AM,12,,dislike,FR
9,v2,13/45/2026 1:00:00 AM,3,12,,FR
10,v2,3/5/2026 2:00:00 AM,3,12,,US
"""
STRANGER: dict[str, Any] = {
    "table": "raw_interactions",
    "where": "country <> 'US'",
    "time_zone": "America/New_York",
    "time_format": "%m/%d/%Y %I:%M:%S %p",
    "columns": {
        "user_id": "uid",
        "video_id": "clip",
        "started_at": "when",
        "watch_ms": "seconds * 1000",
        "duration_ms": "len",
        "liked": "reaction = 'like'",
    },
    "units": {"duration_ms": "s"},
    "constants": {"surface": "feed"},
}


@pytest.fixture
def landing(tmp_path: Path) -> str:
    return str(tmp_path / "landing")


def written(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def delivered(landing: str, name: str = "raw_interactions") -> dict[dt.date, list[dict[str, Any]]]:
    rows = {}
    for day in zone.days(landing, name):
        rows[day] = []
        for path in zone.files(landing, name, day):
            verify.verify_file(path)
            rows[day] += pq.read_table(path, partitioning=None).to_pylist()
    return rows


def values(landing: str, column: str) -> list[Any]:
    return [row[column] for rows in delivered(landing).values() for row in rows]


def minimal(**columns: str) -> Mapping:
    required = {"user_id": "u", "video_id": "v", "started_at": "at"}
    return Mapping(table="raw_interactions", columns=required | columns)


def test_import_files_rows_equal_expected(tmp_path: Path, landing: str) -> None:
    path = written(tmp_path / "plays.csv", PLAYS)
    table.import_files([str(path)], Mapping.model_validate(STRANGER), landing)
    days = delivered(landing)
    assert [len(rows) for rows in days.values()] == [1, 3]
    assert days[MARCH_4] == [
        {
            "user_id": "007",
            "video_id": "v1",
            "started_at": "2026-03-04T22:00:05.000000Z",
            "watch_ms": "4350",
            "duration_ms": "10000",
            "liked": "true",
            "surface": "feed",
        }
    ]
    second, third, fourth = days[MARCH_5]
    assert (second["watch_ms"], second["liked"]) == ("not computed from 'n/a'", None)
    assert (third["video_id"], third["duration_ms"]) == ('v,3\n("x")', None)
    assert fourth["started_at"] == "not computed from '13/45/2026 1:00:00 AM'"


def test_import_files_report_accounts_for_every_row(tmp_path: Path, landing: str) -> None:
    path = written(tmp_path / "plays.csv", PLAYS.replace("country", "country,more", 1).replace(
        "DE\n", "DE,1\n").replace("FR\n", "FR,2\n").replace("US\n", "US,3\n"))  # fmt: skip
    report = table.import_files([str(path)], Mapping.model_validate(STRANGER), landing)
    assert (report.read, report.filtered) == ({str(path): 5}, {str(path): 1})
    assert report.written == {MARCH_4: 1, MARCH_5: 3}
    assert report.undated == 1
    assert report.unused == {str(path): ("more",)}
    assert (report.empty["duration_ms"], report.empty["liked"], report.empty["user_id"]) == (
        1,
        2,
        0,
    )
    assert report.uncomputed == {
        "started_at": (1, "row 4: not computed from '13/45/2026 1:00:00 AM'"),
        "watch_ms": (1, "row 2: not computed from 'n/a'"),
    }


def test_import_files_dry_run_counts_and_writes_nothing(tmp_path: Path, landing: str) -> None:
    path = written(tmp_path / "plays.csv", PLAYS)
    mapping = Mapping.model_validate(STRANGER)
    counted = table.import_files([str(path)], mapping, landing, dry_run=True)
    assert not Path(landing).exists()
    assert counted == table.import_files([str(path)], mapping, landing)


def test_import_files_repeated_is_byte_identical(tmp_path: Path, landing: str) -> None:
    lines = [f"{n % 97},v{n % 13},{1772600000 + n * 977}" for n in range(20_000)]
    path = written(tmp_path / "log.csv.gz", gzip.compress("\n".join(["u,v,at", *lines]).encode()))
    mapping = Mapping(**minimal().model_dump(exclude={"units"}), units={"started_at": "s"})
    report = table.import_files([str(path)], mapping, landing)
    files = {p: p.read_bytes() for p in Path(landing).rglob("*") if p.is_file()}
    again = table.import_files([str(path)], mapping, landing)
    assert files == {p: p.read_bytes() for p in Path(landing).rglob("*") if p.is_file()}
    assert (report.unchanged, again.unchanged) == (0, len(files))
    assert sum(report.written.values()) == 20_000
    rows = [row for day in delivered(landing).values() for row in day]
    assert [row["user_id"] for row in rows] == [line.split(",")[0] for line in lines]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "jsonl.gz", "parquet"])
def test_import_files_formats_give_the_same_values(
    tmp_path: Path, landing: str, ending: str
) -> None:
    rows = [
        {"u": "007", "v": "v\n1", "at": "2026-03-04T10:00:00Z", "w": 1500},
        {"u": "12345678901234567890123", "v": 'a "b"', "at": "2026-03-04T10:00:01Z", "w": None},
    ]
    path = tmp_path / f"log.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with (gzip.open if ending.endswith("gz") else open)(path, "wt", newline="") as stream:
            if "json" in ending:
                stream.writelines(json.dumps(row) + "\n" for row in rows)
            else:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
    table.import_files([str(path)], minimal(watch_ms="w / 1000 * 1000"), landing)
    found = delivered(landing)[MARCH_4]
    assert [row["user_id"] for row in found] == [row["u"] for row in rows]
    assert [row["video_id"] for row in found] == [row["v"] for row in rows]
    assert [row["watch_ms"] for row in found] == ["1500", None]


def test_import_files_parquet_types_become_text_of_the_landing_zone(
    tmp_path: Path, landing: str
) -> None:
    rows = pa.table(
        {
            "u": pa.array([17.0, 2.0**53, None]),
            "v": pa.array([1, 2, 3], pa.uint64()),
            "at": pa.array([dt.datetime(2026, 3, 4, 10)] * 3, pa.timestamp("ns")),
            "w": pa.array([1200.0, float("nan"), 3.0]),
            "liked": pa.array([1.0, float("nan"), 0.0]),
        }
    )
    pq.write_table(rows, tmp_path / "log.parquet")
    mapping = Mapping(
        **minimal(watch_ms="w").model_dump(exclude={"time_zone"}), time_zone="Asia/Shanghai"
    )
    report = table.import_files([str(tmp_path / "log.parquet")], mapping, landing)
    first, second, third = delivered(landing)[MARCH_4]
    assert first == {
        "user_id": "17", "video_id": "1", "started_at": "2026-03-04T02:00:00.000000Z",
        "watch_ms": "1200", "liked": "1.0",
    }  # fmt: skip
    # A float above 2^53 is no id, and NaN is a missing number.
    assert (second["user_id"], second["watch_ms"], second["liked"]) == (None, None, None)
    assert report.uncomputed["user_id"][0] == 1
    assert third["user_id"] is None


@pytest.mark.parametrize(
    ("zone_name", "local", "utc"),
    [
        ("America/New_York", "2026-03-08 01:59:59", "2026-03-08T06:59:59.000000Z"),
        ("America/New_York", "2026-03-08 03:00:00", "2026-03-08T07:00:00.000000Z"),
        ("Asia/Shanghai", "2026-03-08 03:00:00+00", "2026-03-08T03:00:00.000000Z"),
        ("UTC", "1772618405000", "1772618405000"),
        ("UTC", "2026-03-08t03:00z", "2026-03-08T03:00:00.000000Z"),
    ],
)
def test_import_files_times_without_a_zone_are_of_the_mapping(
    tmp_path: Path, landing: str, zone_name: str, local: str, utc: str
) -> None:
    path = written(tmp_path / "log.csv", f"u,v,at\n1,2,{local}\n")
    mapping = Mapping(**minimal().model_dump(exclude={"time_zone"}), time_zone=zone_name)
    table.import_files([str(path)], mapping, landing)
    assert values(landing, "started_at") == [utc]


def test_import_files_order_of_pairs_becomes_time(tmp_path: Path, landing: str) -> None:
    path = written(tmp_path / "pairs.tsv", "a\tx\na\ty\nb\tx\na\tz\n")
    mapping = Mapping.model_validate(
        {
            "table": "raw_interactions",
            "csv": {"delimiter": "\t", "header": ["u", "v"]},
            "columns": {
                "user_id": "u",
                "video_id": "v",
                "started_at": "TIMESTAMP '2026-03-04' + to_days(CAST(row_number() OVER"
                " (PARTITION BY u ORDER BY row_no) AS INTEGER))",
            },
        }
    )
    table.import_files([str(path)], mapping, landing)
    found = {
        day: [(row["user_id"], row["video_id"]) for row in rows]
        for day, rows in delivered(landing).items()
    }
    assert found == {
        dt.date(2026, 3, 5): [("a", "x"), ("b", "x")],
        dt.date(2026, 3, 6): [("a", "y")],
        dt.date(2026, 3, 7): [("a", "z")],
    }


def test_import_files_lists_are_made_of_expressions_and_kept_as_json(
    tmp_path: Path, landing: str
) -> None:
    path = written(tmp_path / "videos.csv", 'video_id,tag,vec\nv1,"3, 39","[0.5, 1]"\n')
    videos = Mapping(
        table="raw_videos",
        columns={"tags": "list_transform(string_split(tag, ','), lambda t: trim(t))"},
        constants={"eligible": "true"},
        day="2026-03-04",
    )
    table.import_files([str(path)], videos, landing)
    features = Mapping(
        table="raw_video_features",
        columns={"vector": "vec"},
        constants={"modality": "visual", "encoder_version": "1"},
        day="DATE '2026-03-05'",
    )
    table.import_files([str(path)], features, landing)
    assert delivered(landing, "raw_videos") == {
        MARCH_4: [{"video_id": "v1", "tags": ["3", "39"], "eligible": "true"}]
    }
    assert delivered(landing, "raw_video_features")[MARCH_5][0]["vector"] == "[0.5, 1]"


def test_import_files_other_rows_of_the_same_name_need_replace(
    tmp_path: Path, landing: str
) -> None:
    path = written(tmp_path / "log.csv", "u,v,at\n1,2,2026-03-04T10:00:00Z\n")
    table.import_files([str(path)], minimal(), landing)
    before = delivered(landing)
    path.write_text("u,v,at\n1,2,2026-03-05T10:00:00Z\n")
    with pytest.raises(LandingError, match=r"day=2026-03-04/log\.parquet: an earlier delivery"):
        table.import_files([str(path)], minimal(), landing)
    assert delivered(landing) == before
    assert not list(Path(landing).rglob("_*"))
    report = table.import_files([str(path)], minimal(), landing, replace=True)
    assert list(delivered(landing)) == [MARCH_5]
    assert [zone.short_path(p) for p in report.removed] == [
        "raw_interactions/day=2026-03-04/log.parquet"
    ]


def test_import_files_of_one_name_in_folders_stay_apart(tmp_path: Path, landing: str) -> None:
    for hour in ("01", "02"):
        written(tmp_path / f"h={hour}" / "part.csv", f"u,v,at\n{hour},2,2026-03-04T{hour}:00:00Z\n")
    table.import_files([str(tmp_path / "*" / "part.csv")], minimal(), landing)
    names = [path.name for path in zone.files(landing, "raw_interactions", MARCH_4)]
    assert names == ["h=01-part.parquet", "h=02-part.parquet"]
    assert values(landing, "user_id") == ["01", "02"]


def test_import_files_leave_other_deliveries_alone(tmp_path: Path, landing: str) -> None:
    first = written(tmp_path / "monday.csv", "u,v,at\n1,2,2026-03-04T10:00:00Z\n")
    second = written(tmp_path / "tuesday.csv", "u,v,at\n2,2,2026-03-04T11:00:00Z\n")
    for path in (first, second):
        table.import_files([str(path)], minimal(), landing, replace=True)
    assert values(landing, "user_id") == ["1", "2"]


LOG = "u,v,at,w\n1,2,2026-03-04T10:00:00Z,3\n"


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        (LOG, {"user_id": "uu"}, r"log\.csv: user_id = 'uu': no column 'uu'; did you mean 'u'"),
        (LOG, {"watch_ms": "w +"}, r"log\.csv: watch_ms = 'w \+': syntax error"),
        (LOG, {"watch_ms": "u, w"}, r"log\.csv: watch_ms = 'u, w': gives a TUPLE"),
        (LOG, {"watch_ms": "w FROM secrets"}, r"watch_ms = 'w FROM secrets': syntax error"),
        (LOG, {"watch_ms": "max(w)"}, r"watch_ms = 'max\(w\)': an aggregate"),
        (LOG, {"watch_ms": "*"}, r"watch_ms = '\*': not one expression"),
        (LOG, {"watchms": "w"}, r"raw_interactions: no column 'watchms'; did you mean 'watch_ms'"),
        (LOG, {"watch_ms": "(SELECT count(*) FROM read_text('{here}'))"}, "disabled by configuration"),
        (LOG, {"started_at": "w"}, r"log\.csv: 1 row\(s\), and none has a readable day; started_at is '3'"),
        ("u,at\n1,2026-03-04T10:00:00Z\n", {"video_id": "u || missing"}, "no column 'missing'"),
        ("u,v,at\n1,2\n", {}, r"log\.csv: .*Line: 2"),
        ('u,v,at\n1,2,3\n"1,2,3\n', {}, r"log\.csv: .*[Ll]ine: 3"),
        (b"u,v,at\n\xff,2,3\n", {}, r"log\.csv: .*not utf-8"),
        ("u,v,U\n1,2,3\n", {}, r"log\.csv: two columns are called 'u'"),
        ("", {}, r"log\.csv: no header line"),
        ("u,v,at\n", {}, "the files hold no row"),
    ],
)  # fmt: skip
def test_import_files_faults_are_named(
    tmp_path: Path, landing: str, text: str | bytes, columns: dict[str, str], message: str
) -> None:
    path = written(tmp_path / "log.csv", text)
    here = str(written(tmp_path / "secret", "x"))
    columns = {column: wanted.replace("{here}", here) for column, wanted in columns.items()}
    with pytest.raises(LandingError, match=message):
        table.import_files([str(path)], minimal(**columns), landing)
    assert not zone.days(landing, "raw_interactions")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"u": 1}\n[{"u": 2}]\n', "a line holds a JSON array"),
        ('{"u": 1} {"u": 2}\n', "Malformed JSON"),
        ('{"u": 1}\n{"u":\n', r"line [23]"),
        ("7\n", "a line holds a JSON"),
    ],
)
def test_import_files_broken_json_is_named(
    tmp_path: Path, landing: str, lines: str, message: str
) -> None:
    path = written(tmp_path / "log.jsonl", lines)
    with pytest.raises(LandingError, match=rf"log\.jsonl: .*{message}"):
        table.import_files([str(path)], minimal(), landing)


def test_import_files_truncated_source_writes_nothing(tmp_path: Path, landing: str) -> None:
    whole = written(tmp_path / "a.csv", LOG)
    cut = gzip.compress((LOG + "1,2,2026-03-04T10:00:00Z,3\n" * 9999).encode())[:-20]
    broken = written(tmp_path / "b.csv.gz", cut)
    with pytest.raises(LandingError, match=r"b\.csv\.gz: .*GZIP"):
        table.import_files([str(whole), str(broken)], minimal(), landing)
    assert not [path for path in Path(landing).rglob("*") if path.is_file()]


def test_import_files_unknown_file_and_required_column_are_named(
    tmp_path: Path, landing: str
) -> None:
    with pytest.raises(LandingError, match=r"none\*\.csv': no such file"):
        table.import_files([str(tmp_path / "none*.csv")], minimal(), landing)
    with pytest.raises(
        LandingError, match=r"log\.xlsx: unknown kind of file, expected one of \.csv"
    ):
        table.import_files([str(written(tmp_path / "log.xlsx", "x"))], minimal(), landing)
    path = written(tmp_path / "log.csv", LOG)
    with pytest.raises(LandingError, match=r"nothing gives raw_interactions\.user_id; map it"):
        table.import_files([str(path)], Mapping(table="raw_interactions"), landing)
    mapping = Mapping(table="raw_videos", columns={"video_id": "v", "eligible": "true"})
    with pytest.raises(LandingError, match="say --day-of"):
        table.import_files([str(path)], mapping, landing)
