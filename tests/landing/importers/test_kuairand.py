"""The importer of KuaiRand: a folder written by hand, and the real one."""

import csv
import datetime as dt
import gzip
import math
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microrec.config.settings import HOME
from microrec.errors import LandingError
from microrec.landing import verify, write, zone
from microrec.landing.importers import kuairand, table
from microrec.landing.importers.mapping import Mapping
from microrec.tables import contract

LOG = (
    "user_id,video_id,date,time_ms,is_like,is_follow,is_comment,is_forward,is_hate,"
    "play_time_ms,duration_ms,tab,is_rand"
)
# The first line is of the 25th in Shanghai and of the 24th in UTC (1650816000000 = 16:00 UTC).
FIRST = f"""{LOG}
07,1,20220425,1650816000999,1,0,0,0,0,61802,49866,1,0
8,2,20220425,1650844800000,0,1,1,0,0,1184,0,0,0
8,2,20220425,1650844800000,0,1,1,0,0,1184,0,0,0
8,3,20220425,1650844800001,0,0,0,1,1,0,5000,4,0
"""
SECOND = f"""{LOG}
9,4,20220426,1650931200000,0,0,0,0,0,100,2000,1,0
9,,20220426,1650844900000,0,0,0,0,0,100,2000,,0
"""
VIDEOS = """video_id,author_id,upload_dt,visible_status,video_duration,tag,music_id
1,10,2022-04-01,0.0,49866.0,"39,3",77
2,11,2022-04-25,1.0,,3,
3,12,2022-04-26,0.0,5000.4,,
4,13,2022-04-26,,0,"3,5,5",
5,14,2022-04-30,0,2000.0,5,
"""
APRIL_24, APRIL_25 = dt.date(2022, 4, 24), dt.date(2022, 4, 25)
APRIL_26, APRIL_30 = dt.date(2022, 4, 26), dt.date(2022, 4, 30)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "log_standard_20220425.csv.gz").write_bytes(gzip.compress(FIRST.encode()))
    (folder / "log_standard_4_22_to_5_08_pure.csv").write_text(SECOND)
    (folder / "log_random_4_22_to_5_08_pure.csv").write_text("not read\n")
    (folder / "video_features_basic_pure.csv").write_text(VIDEOS)
    return folder


@pytest.fixture
def landing_root(tmp_path: Path) -> str:
    return str(tmp_path / "landing")


def interactions(landing_root: str, day: dt.date) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for path in zone.files(landing_root, "raw_interactions", day):
        verify.verify_file(path)
        with gzip.open(path, "rt", newline="") as stream:
            rows += csv.DictReader(stream)
    return rows


def delivered(landing_root: str, table: str) -> dict[dt.date, list[dict[str, object]]]:
    found = {}
    for day in zone.days(landing_root, table):
        (path,) = zone.files(landing_root, table, day)
        verify.verify_file(path)
        rows = pq.read_table(path, partitioning=None)
        contract.load(HOME / "schemas", table).check_schema(rows.schema, without=frozenset({"day"}))
        found[day] = rows.to_pylist()
    return found


def test_import_counts_by_table_and_day(source: Path, landing_root: str) -> None:
    assert kuairand.import_files(source, landing_root) == {
        "raw_interactions/day=2022-04-24": 1,
        "raw_interactions/day=2022-04-25": 4,
        "raw_interactions/day=2022-04-26": 1,
        "raw_video_features/day=2022-04-24": 1,
        "raw_video_features/day=2022-04-25": 1,
        "raw_video_features/day=2022-04-26": 1,
        "raw_video_features/day=2022-04-30": 1,
        "raw_videos/day=2022-04-24": 1,
        "raw_videos/day=2022-04-25": 2,
        "raw_videos/day=2022-04-26": 1,
        "raw_videos/day=2022-04-30": 1,
    }


def test_import_line_becomes_a_row_of_its_utc_day(source: Path, landing_root: str) -> None:
    kuairand.import_files(source, landing_root)
    (row,) = interactions(landing_root, APRIL_24)
    assert row == {
        "user_id": "07",
        "video_id": "1",
        "started_at": "2022-04-24T16:00:00.999000Z",
        "watch_ms": "61802",
        "duration_ms": "49866",
        "liked": "true",
        "shared": "false",
        "followed": "false",
        "commented": "false",
        "disliked": "false",
        "session_id": "",
        "surface": "tab=1",
        "event_id": "",
    }
    assert list(row) == [
        column.name
        for column in contract.load(HOME / "schemas", "raw_interactions").columns
        if column.name != "day"
    ]


def test_import_by_days_of_shanghai_has_the_days_of_the_source(
    source: Path, landing_root: str
) -> None:
    kuairand.import_files(source, landing_root, "Asia/Shanghai")
    assert zone.days(landing_root, "raw_interactions") == [APRIL_25, APRIL_26]
    assert APRIL_24 not in zone.days(landing_root, "raw_videos")


def test_import_dirt_of_the_source_is_kept(source: Path, landing_root: str) -> None:
    kuairand.import_files(source, landing_root)
    rows = interactions(landing_root, APRIL_25)
    assert rows[0] == rows[1]  # an exact duplicate with a length of 0
    assert rows[0]["duration_ms"] == "0"
    assert (rows[0]["followed"], rows[0]["commented"], rows[0]["liked"]) == (
        "true",
        "true",
        "false",
    )
    assert (rows[2]["shared"], rows[2]["disliked"], rows[2]["watch_ms"]) == ("true", "true", "0")
    assert (rows[3]["video_id"], rows[3]["surface"]) == ("", "")  # of the second file


def test_import_videos_date_from_upload_but_no_later_than_first_view(
    source: Path, landing_root: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="microrec.landing.importers.kuairand")
    kuairand.import_files(source, landing_root)
    days = {
        day: [row["video_id"] for row in rows]
        for day, rows in delivered(landing_root, "raw_videos").items()
    }
    # 3 is uploaded on the 26th and watched on the 25th; 1 is older than the logs; 5 nobody watched
    assert days == {APRIL_24: ["1"], APRIL_25: ["2", "3"], APRIL_26: ["4"], APRIL_30: ["5"]}
    assert "catalogue videos=5 watched_before_upload=1" in caplog.text
    assert "landed raw_videos/day=2022-04-25 rows=2" in caplog.text


def test_import_video_row_equals_expected(source: Path, landing_root: str) -> None:
    kuairand.import_files(source, landing_root)
    rows = [row for rows in delivered(landing_root, "raw_videos").values() for row in rows]
    assert rows[0] == {
        "video_id": "1",
        "author_id": "10",
        "published_at": dt.datetime(2022, 3, 31, 16, tzinfo=dt.UTC),
        "duration_ms": 49_866,
        "caption": None,
        "tags": ["3", "39"],
        "eligible": True,
    }
    assert [row["duration_ms"] for row in rows] == [49_866, None, 5_000, None, 2_000]
    assert [row["eligible"] for row in rows] == [True, False, True, False, True]
    assert [row["tags"] for row in rows] == [["3", "39"], ["3"], [], ["3", "5"], ["5"]]


def test_tag_vectors_equal_hand_computed(source: Path, landing_root: str) -> None:
    kuairand.import_files(source, landing_root)
    rows = [row for rows in delivered(landing_root, "raw_video_features").values() for row in rows]
    assert [row["video_id"] for row in rows] == ["1", "2", "4", "5"]
    assert {row["modality"] for row in rows} == {"tags"}
    (version,) = {row["encoder_version"] for row in rows}
    assert version.startswith("tags-tfidf-3-")
    # vocabulary 3, 5, 39 in 3, 2 and 1 of 5 videos
    idf = [math.log(6 / 4) + 1, math.log(6 / 3) + 1, math.log(6 / 2) + 1]
    length = math.hypot(idf[0], idf[2])
    assert rows[0]["vector"] == pytest.approx([idf[0] / length, 0, idf[2] / length])
    assert rows[1]["vector"] == [1, 0, 0]
    length = math.hypot(idf[0], idf[1])
    assert rows[2]["vector"] == pytest.approx([idf[0] / length, idf[1] / length, 0])


def test_encoder_version_follows_the_weights() -> None:
    version = kuairand.tag_vectors([["1"], ["2"]])[1]
    assert kuairand.tag_vectors([["2"], ["1", "1"]])[1] == version
    assert kuairand.tag_vectors([["1", "2"], ["2"]])[1] != version
    assert kuairand.tag_vectors([["1"], ["2"], []])[1] != version
    assert kuairand.tag_vectors([[], []])[0] == [None, None]


def test_import_repeated_is_byte_identical(source: Path, landing_root: str) -> None:
    kuairand.import_files(source, landing_root)
    before = {path: path.read_bytes() for path in Path(landing_root).rglob("*.*") if path.is_file()}
    kuairand.import_files(source, landing_root)
    assert before == {p: p.read_bytes() for p in Path(landing_root).rglob("*.*") if p.is_file()}


def test_import_into_other_files_is_refused(source: Path, landing_root: str) -> None:
    rows = pa.table({"user_id": ["u"]})
    write.write_rows(landing_root, "raw_interactions", APRIL_24, rows, kind="csv")
    with pytest.raises(LandingError, match=r"day=2022-04-24/part-0\.csv: .* already holds 1 other"):
        kuairand.import_files(source, landing_root)
    assert zone.days(landing_root, "raw_videos") == []


@pytest.mark.parametrize(
    ("file", "column"),
    [("log_standard_4_22_to_5_08_pure.csv", "is_hate"), ("video_features_basic_pure.csv", "tag")],
)
def test_import_missing_column_is_named(
    source: Path, landing_root: str, file: str, column: str
) -> None:
    path = source / file
    path.write_text(path.read_text().replace(column, "other", 1))
    with pytest.raises(LandingError, match=rf"{file}: no column '{column}'"):
        kuairand.import_files(source, landing_root)
    assert not Path(landing_root).exists()


def test_import_missing_files_are_named(source: Path, landing_root: str) -> None:
    (source / "video_features_basic_pure.csv").rename(source / "kept")
    with pytest.raises(LandingError, match="0 files video_features_basic"):
        kuairand.import_files(source, landing_root)
    (source / "kept").rename(source / "video_features_basic_pure.csv")
    for path in source.glob("log_standard*"):
        path.unlink()
    with pytest.raises(LandingError, match=r"no log_standard_\*"):
        kuairand.import_files(source, landing_root)


def test_import_file_present_twice_is_refused(source: Path, landing_root: str) -> None:
    (source / "log_standard_20220425.csv").write_text(FIRST)
    with pytest.raises(LandingError, match=r"both log_standard_20220425\.csv and"):
        kuairand.import_files(source, landing_root)


def test_import_truncated_source_is_refused_before_writing(source: Path, landing_root: str) -> None:
    path = source / "log_standard_20220425.csv.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(LandingError, match=r"log_standard_20220425\.csv\.gz: truncated"):
        kuairand.import_files(source, landing_root)
    assert not Path(landing_root).exists()


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("log_standard_4_22_to_5_08_pure.csv", "1650931200000", "noon", "noon"),
        ("log_standard_4_22_to_5_08_pure.csv", "1650931200000", "", "without time_ms"),
        ("video_features_basic_pure.csv", "2022-04-30", "30 April", "'30 April' is no date"),
        ("video_features_basic_pure.csv", "49866.0", "long", "long"),
    ],
)
def test_import_unreadable_values_are_named_with_their_file(
    source: Path, landing_root: str, file: str, old: str, new: str, reason: str
) -> None:
    path = source / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(LandingError, match=rf"{file}: .*{reason}"):
        kuairand.import_files(source, landing_root)
    assert not Path(landing_root).exists()


MAPPING = Path(kuairand.__file__).with_name("kuairand.toml")


def viewings(landing_root: str) -> dict[dt.date, list[dict[str, str | None]]]:
    """Values of each arrival day in the order of their files, as text; absent ones are null."""
    names = [column.name for column in contract.load(HOME / "schemas", "raw_interactions").columns]
    days: dict[dt.date, list[dict[str, str | None]]] = {}
    for day in zone.days(landing_root, "raw_interactions"):
        rows: list[dict[str, str | None]] = []
        for path in zone.files(landing_root, "raw_interactions", day):
            if path.suffix == ".parquet":
                rows += pq.read_table(path, partitioning=None).to_pylist()
            else:
                with gzip.open(path, "rt", newline="") as stream:
                    rows += csv.DictReader(stream)
        days[day] = [{name: row.get(name) or None for name in names} for row in rows]
    return days


def test_mapping_of_the_log_gives_the_viewings_of_the_importer(
    source: Path, landing_root: str, tmp_path: Path
) -> None:
    kuairand.import_files(source, landing_root)
    mapped = str(tmp_path / "mapped")
    table.import_files([str(source / "log_standard_*.csv*")], Mapping.load(MAPPING, {}), mapped)
    assert viewings(mapped) == viewings(landing_root)


@pytest.mark.realdata
def test_mapping_of_the_real_log_gives_the_viewings_of_the_importer(
    real_data: Path, landing_root: str, tmp_path: Path
) -> None:
    source = real_data / "kuairand_pure"
    kuairand.import_files(source, landing_root)
    mapped = str(tmp_path / "mapped")
    report = table.import_files(
        [str(source / "log_standard_*.csv*")], Mapping.load(MAPPING, {}), mapped
    )
    assert sum(report.written.values()) == 185_061
    assert viewings(mapped) == viewings(landing_root)


@pytest.mark.realdata
def test_import_real_logs_arrive_complete(real_data: Path, landing_root: str) -> None:
    source = real_data / "kuairand_pure"
    counts = kuairand.import_files(source, landing_root)
    totals: Counter[str] = Counter()
    for where, n_rows in counts.items():
        totals[where.split("/")[0]] += n_rows
    assert totals == {
        "raw_interactions": 185_061,
        "raw_videos": 7_583,
        "raw_video_features": 7_487,
    }
    n_lines = 0
    for path in source.glob("log_standard_*.csv.gz"):
        with gzip.open(path) as stream:
            n_lines += sum(1 for _ in stream) - 1
    assert n_lines == 185_061
    days = zone.days(landing_root, "raw_interactions")
    assert (days[0], days[-1], len(days)) == (dt.date(2022, 4, 24), dt.date(2022, 5, 5), 12)
    assert sum(len(interactions(landing_root, day)) for day in days) == n_lines
    (vectors,) = delivered(landing_root, "raw_video_features").values()
    assert {len(row["vector"]) for row in vectors} == {46}
