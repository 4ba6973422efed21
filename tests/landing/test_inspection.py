"""What an inspection says of days whose faults are planted."""

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from microrec.landing import inspection, write
from microrec.landing.verdicts import Thresholds

DAY = dt.date(2026, 1, 5)
THRESHOLDS = Thresholds(
    lateness_days=2, max_watch_ms=86_400_000, unmeasured="refuse", completed_ratio=0.95,
    long_watch_ms=18_000, skip_ms=3_000,
)  # fmt: skip


def viewing(number: int, **changes: Any) -> dict[str, Any]:
    default = {
        "user_id": f"u{number}", "video_id": f"v{number % 5}", "started_at": f"2026-01-05T10:00:{number:02}Z",
        "watch_ms": "10000", "duration_ms": "10000",
    }  # fmt: skip
    return default | changes


@pytest.fixture
def landing(tmp_path: Path) -> str:
    """A catalogue of five videos with vectors of two versions, and one viewing on each of two days before."""
    root = str(tmp_path)
    videos = pa.table(
        {"video_id": [f"v{n}" for n in range(5)], "eligible": ["true"] * 4 + ["false"]}
    )
    write.write_rows(root, "raw_videos", dt.date(2026, 1, 1), videos, kind="csv")
    features = pa.table(
        {
            "video_id": ["v0", "v1", "v2", "v9"], "modality": ["visual"] * 4,
            "encoder_version": ["1", "1", "2", "1"], "vector": [[1.0, 2.0]] * 4,
        }
    )  # fmt: skip
    write.write_rows(root, "raw_video_features", DAY, features, kind="parquet")
    for ago in (1, 2):
        day = DAY - dt.timedelta(days=ago)
        rows = [viewing(ago, started_at=f"{day}T08:00:00Z")]
        write.write_rows(root, "raw_interactions", day, pa.Table.from_pylist(rows), kind="csv")
    return root


def inspected(landing: str, *viewings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    rows = pa.Table.from_pylist(list(viewings))
    write.write_rows(landing, "raw_interactions", DAY, rows, kind="jsonl")
    thresholds = Thresholds(**{**vars(THRESHOLDS), **changes})
    return inspection.inspect(landing, DAY, thresholds=thresholds)


def rules(report: dict[str, Any], table: str = "raw_interactions") -> dict[str, int]:
    return {row["rule"]: row["n"] for row in report["rules"] if row["table"] == table}


def test_inspect_counts_rules_with_three_examples_each(landing: str) -> None:
    bad = [viewing(n, started_at="noon") for n in range(5)]
    report = inspected(landing, viewing(7), viewing(7), *bad, viewing(8, video_id="v404"))
    assert rules(report) == {"accepted": 1, "duplicate": 1, "bad_timestamp": 5, "unknown_video": 1}
    (row,) = [row for row in report["rules"] if row["rule"] == "bad_timestamp"]
    assert [example["number"] for example in row["examples"]] == [3, 4, 5]
    assert "noon" in row["examples"][0]["line"]
    assert report["event_days"] == [
        {
            "day": DAY,
            "viewings": 1,
            "first": dt.datetime(2026, 1, 5, 10, 0, 7),
            "last": dt.datetime(2026, 1, 5, 10, 0, 7),
        }
    ]


def test_inspect_says_which_ids_do_not_meet(landing: str) -> None:
    requests = pa.table(
        {"user_id": ["u7", "nobody"], "kind": ["erase"] * 2, "requested_at": [""] * 2}
    )
    write.write_rows(landing, "raw_privacy_requests", DAY, requests, kind="csv")
    report = inspected(
        landing, viewing(7), viewing(8, video_id="v404"), viewing(9, video_id="v404")
    )
    assert [(row["rows"], row["ids"], row["example"]) for row in report["ids"]] == [
        (2, 1, "v404"), (1, 1, "v9"), (0, 0, None), (1, 1, "nobody"),
    ]  # fmt: skip


def test_inspect_gives_coverage_by_modality_and_encoder(landing: str) -> None:
    report = inspected(landing, viewing(7))
    assert [
        (row["encoder_version"], row["videos"], row["share"]) for row in report["coverage"]
    ] == [
        ("1", 2, 0.4),
        ("2", 1, 0.2),
    ]


def test_inspect_of_a_sound_day_lacks_nothing(landing: str) -> None:
    assert inspected(landing, *[viewing(n) for n in range(9)])["lacking"] == []


@pytest.mark.parametrize(
    ("watch", "length", "guess"),
    [
        ("10", "20", "watch_ms: its median is 10 ms; as seconds it would be 10.0 s"),
        (
            "10000000",
            "20000000",
            "duration_ms: its median is 2e+07 ms; as microseconds it would be 20.0 s",
        ),
    ],
)
def test_inspect_guesses_another_unit(landing: str, watch: str, length: str, guess: str) -> None:
    report = inspected(landing, *[viewing(n, watch_ms=watch, duration_ms=length) for n in range(9)])
    assert guess in report["lacking"]


def test_inspect_names_files_of_the_day_that_mix_times_with_and_without_an_offset(
    landing: str,
) -> None:
    before = DAY - dt.timedelta(days=1)
    earlier = [viewing(n, started_at=f"{before}T09:00{z}") for n, z in enumerate(("", "Z"))]
    write.write_rows(
        landing, "raw_interactions", before, pa.Table.from_pylist(earlier), kind="jsonl"
    )
    both = [viewing(1), viewing(2), viewing(3, started_at="2026-01-05 10:00")]
    report = inspected(landing, *both, timezone="Asia/Shanghai")
    file = f"raw_interactions/day={DAY}/part-0.jsonl"
    assert report["zones"] == [
        {"table": "raw_interactions", "file": file, "n_zoned": 2, "n_zoneless": 1}
    ]
    (text,) = [text for text in report["lacking"] if "offset" in text]
    assert text.startswith(f"{file} mixes 2 time(s) with an offset and 1 without")
    assert "Asia/Shanghai" in text


def test_inspect_of_a_log_without_watch_times_names_the_key(landing: str) -> None:
    plays = [viewing(n, watch_ms=None, duration_ms=None) for n in range(9)]
    report = inspected(landing, *plays)
    assert rules(report) == {"missing_watch": 9}
    assert any("[events] unmeasured" in text for text in report["lacking"])
    assert any("nobody has a positive" in text for text in report["lacking"])
    report = inspected(landing, *plays, unmeasured="positive")
    assert rules(report) == {"accepted": 9}
    assert report["totals"]["users_with_a_positive_on_the_day"] == 9
    assert not any("nobody" in text or "unmeasured" in text for text in report["lacking"])


def test_inspect_names_a_file_that_cannot_be_read_and_reads_the_others(landing: str) -> None:
    path = Path(landing, "raw_interactions", f"day={DAY}", "broken.csv.gz")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x1f\x8bnonsense")
    report = inspected(landing, viewing(7))
    assert rules(report) == {"accepted": 1}
    (text,) = [text for text in report["lacking"] if "broken" in text]
    assert "truncated or corrupt gzip" in text


def test_inspect_of_an_empty_landing_zone_says_what_is_absent(tmp_path: Path) -> None:
    report = inspection.inspect(str(tmp_path), DAY, thresholds=THRESHOLDS)
    assert "no raw_interactions arrived on 2026-01-05: the night stops" in report["lacking"]
    assert any("no row of raw_videos" in text for text in report["lacking"])
