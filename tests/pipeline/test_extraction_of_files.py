"""Nights with files: vectors of films, covers and sound; a file at fault is that video's missing modality."""

import datetime as dt
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs import extract_features
from microrec.config.settings import settings
from microrec.errors import BadArgument
from microrec.features.files import Job
from microrec.pipeline import extraction, extraction_of_files
from microrec.pipeline.night import Night
from microrec.runner import decoders
from microrec.synth import media
from microrec.synth.media import Film
from microrec.tables import arrow
from tests.worlds.releases import filled

pytest.importorskip("av")

DAY = dt.date(2026, 1, 5)
NEXT = DAY + dt.timedelta(days=1)
FILMS = ("film", "second")


@pytest.fixture
def warehouse(place: Path) -> arrow.Warehouse:
    """Two films of 2 s, a picture, a file that is none, one that is not there, one of a video that was taken down."""
    opened = arrow.Warehouse.open()
    folder = place / "landing" / "media"
    folder.mkdir(parents=True)
    for number, name in enumerate((*FILMS, "cover", "down")):
        (folder / f"{name}.mp4").write_bytes(
            media.render(Film(number, 0, 2.0), np.random.default_rng(1))
        )
    (folder / "broken.mp4").write_bytes(b"no film")
    videos = [*FILMS, "broken", "gone", "down", "none"]
    name_files(place, *[(video, "video", f"media/{video}.mp4") for video in videos[:-1]])
    name_files(place, ("cover", "cover", "media/cover.mp4"), name="covers")
    for day in (DAY, NEXT):
        lay(opened, day, [*videos, "cover"])
    return opened


def name_files(place: Path, *rows: tuple[str, str, str], name: str = "files") -> None:
    folder = place / "landing" / "raw_media" / f"day={DAY}"
    folder.mkdir(parents=True, exist_ok=True)
    texts = [json.dumps(dict(zip(("video_id", "kind", "path"), row, strict=True))) for row in rows]
    (folder / f"{name}.jsonl").write_text("".join(f"{text}\n" for text in texts))


def lay(
    warehouse: arrow.Warehouse, day: dt.date, videos: list[str], caption: str | None = None
) -> None:
    n = len(videos)
    published = [dt.datetime(2026, 1, 1, i, tzinfo=dt.UTC) for i in range(n)]
    columns = {
        "video_id": videos,
        "author_id": pa.nulls(n, pa.string()),
        "published_at": pa.array(published, pa.timestamp("us", "UTC")),
        "duration_ms": pa.array([2_000] * n, pa.int64()),
        "caption": pa.array([caption] * n, pa.string()),
        "tags": pa.nulls(n, pa.list_(pa.string())),
        "eligible": [video != "down" for video in videos],
    }
    warehouse.write("videos", pa.table(columns), day=day)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, list[str]]]:
    """By file the modalities that each call decodes it for."""
    calls: list[dict[str, list[str]]] = []
    true = decoders.make_all

    def counting(jobs: list[Job], **options: Any) -> Any:
        calls.append(
            {Path(next(iter(job["files"].values()))).stem: job["modalities"] for job in jobs}
        )
        return true(jobs, **options)

    monkeypatch.setattr(decoders, "make_all", counting)
    return calls


def features(warehouse: arrow.Warehouse, day: dt.date, modality: str) -> dict[str, list[float]]:
    rows = warehouse.read("video_features", day=day, modality=modality).to_pylist()
    return {row["video_id"]: row["vector"] for row in rows}


def reasons(warehouse: arrow.Warehouse, day: dt.date, modality: str) -> dict[str, str | None]:
    rows = warehouse.read("extractions", day=day, modality=modality).to_pylist()
    return {row["video_id"]: row["reason"] for row in rows}


def test_files_give_vectors_and_those_at_fault_reasons(warehouse: arrow.Warehouse) -> None:
    extract_features.main(day=DAY)
    assert set(features(warehouse, DAY, "visual")) == {*FILMS, "cover"}
    assert set(features(warehouse, DAY, "acoustic")) == {*FILMS}
    clips = warehouse.read("clip_features", day=DAY).to_pylist()
    assert [(row["video_id"], row["clip_no"], row["end_ms"]) for row in clips] == [
        ("film", 0, 2_000),
        ("second", 0, 2_000),
    ]
    at_fault = {"broken": "unreadable", "gone": extraction_of_files.NO_FILE}
    assert reasons(warehouse, DAY, "visual") == {**dict.fromkeys((*FILMS, "cover")), **at_fault}
    assert reasons(warehouse, DAY, "acoustic") == {**dict.fromkeys(FILMS), **at_fault}
    assert reasons(warehouse, DAY, "clips") == {**dict.fromkeys(FILMS), **at_fault}
    assert warehouse.count("text_encoders", day=DAY) == 0


def test_words_and_files_of_one_night_stand_beside_one_another(warehouse: arrow.Warehouse) -> None:
    lay(warehouse, DAY, [*FILMS, *(f"v{number}" for number in range(20))], "pasta and sauce")
    extract_features.main(day=DAY)
    rows = warehouse.read("extractions", day=DAY).to_pylist()
    counted = Counter(row["modality"] for row in rows)
    assert counted == {"textual": 22, "visual": 2, "acoustic": 2, "clips": 2}
    assert set(features(warehouse, DAY, "visual")) == {*FILMS}
    assert len(features(warehouse, DAY, "textual")) == 22
    assert warehouse.count("text_encoders", day=DAY) > 0


def test_next_night_decodes_only_files_that_changed(
    warehouse: arrow.Warehouse, place: Path, decoded: list[dict[str, list[str]]]
) -> None:
    extract_features.main(day=DAY)
    changed = media.render(Film(7, 1, 2.0), np.random.default_rng(2))
    (place / "landing" / "media" / "second.mp4").write_bytes(changed)
    extract_features.main(day=NEXT)
    assert set(decoded[0]) == {*FILMS, "cover", "broken"}
    assert decoded[1] == {"second": ["visual", "acoustic", "clips"]}
    for modality in ("visual", "acoustic"):
        before, after = features(warehouse, DAY, modality), features(warehouse, NEXT, modality)
        assert before.keys() == after.keys()
        assert {v for v in before if before[v] != after[v]} == {"second"}
    assert reasons(warehouse, NEXT, "visual") == reasons(warehouse, DAY, "visual")
    of_film = {
        day: [row for row in warehouse.read("clip_features", day=day).drop_columns(["day"]).to_pylist()
              if row["video_id"] == "film"]
        for day in (DAY, NEXT)
    }  # fmt: skip
    assert of_film[DAY] == of_film[NEXT] != []


def test_other_settings_make_all_anew(
    warehouse: arrow.Warehouse,
    place: Path,
    decoded: list[dict[str, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extract_features.main(day=DAY)
    (place / "recipe.toml").write_text("[features.files.cuts]\nclip_ms = 1_000\n")
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    extract_features.main(day=NEXT)
    # What is heard does not depend on the cuts.
    assert decoded[1]["film"] == ["visual", "clips"]
    assert warehouse.count("clip_features", day=NEXT) == 4


def test_shares_of_one_video_give_the_rows_of_one_share(
    warehouse: arrow.Warehouse, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "recipe.toml").write_text("[features.files.cuts]\nclip_ms = 500\n")
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    tables = ("video_features", "clip_features", "extractions")
    extract_features.main(day=DAY)
    whole = [warehouse.digest(table, day=DAY) for table in tables]
    monkeypatch.setattr(extraction_of_files, "AT_ONCE", 1)
    monkeypatch.setattr(arrow, "BATCH_ROWS", 3)
    extract_features.main(day=DAY)
    assert [warehouse.digest(table, day=DAY) for table in tables] == whole
    # The night after takes over, from files of a row each and clips in several shares.
    extract_features.main(day=NEXT)
    rows = [warehouse.read(table, day=NEXT).drop_columns(["day"]) for table in tables]
    before = [warehouse.read(table, day=DAY).drop_columns(["day"]) for table in tables]
    keys = [("video_id", "modality"), ("video_id", "clip_no"), ("video_id", "modality")]
    for after, first, names in zip(rows, before, keys, strict=True):
        order = [(name, "ascending") for name in names]
        assert after.sort_by(order).equals(first.sort_by(order))


def test_passing_failures_are_tried_again_the_next_night(
    warehouse: arrow.Warehouse, decoded: list[dict[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            decoders.Decoder,
            "make",
            lambda self, job: dict.fromkeys(job["modalities"], "timed_out"),
        )
        extract_features.main(day=DAY)
    assert set(reasons(warehouse, DAY, "acoustic").values()) == {"timed_out", "no_file"}
    assert features(warehouse, DAY, "acoustic") == {}
    extract_features.main(day=NEXT)
    assert set(features(warehouse, NEXT, "acoustic")) == {*FILMS}
    assert set(decoded[1]) == {*FILMS, "cover", "broken"}


def test_newest_videos_are_decoded_first(
    warehouse: arrow.Warehouse, decoded: list[dict[str, list[str]]]
) -> None:
    extract_features.main(day=DAY)
    assert [*decoded[0]] == ["cover", "broken", "second", "film"]


def test_newest_and_most_shown_videos_take_turns() -> None:
    published = [dt.datetime(2026, 1, 1, hour, tzinfo=dt.UTC) for hour in range(6)]
    videos = pa.table(
        {"video_id": list("abcdef"), "published_at": pa.array(published, pa.timestamp("us", "UTC"))}
    )
    shown = np.array([7, 0, 9, 1, 0, 3])
    order = extraction_of_files.in_turn(videos, shown)["video_id"].to_pylist()
    # By age f e d c b a; by viewings c a f d.
    assert order == ["f", "c", "e", "a", "d", "b"]
    unseen = extraction_of_files.in_turn(videos, np.zeros(6, np.int64))
    assert unseen["video_id"].to_pylist() == list("fedcba")


def test_old_video_that_is_shown_today_is_decoded_before_newer_ones(
    warehouse: arrow.Warehouse, decoded: list[dict[str, list[str]]]
) -> None:
    show(warehouse, ["film"] * 3 + ["elsewhere"] * 5)
    extract_features.main(day=DAY)
    assert [*decoded[0]] == ["cover", "film", "broken", "second"]


def test_viewings_of_people_who_teach_nobody_change_no_order(
    warehouse: arrow.Warehouse, decoded: list[dict[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    show(warehouse, ["film"])
    monkeypatch.setattr(Night, "private", lambda night: pa.array(["u0"]))
    extract_features.main(day=DAY)
    assert [*decoded[0]] == ["cover", "broken", "second", "film"]


def show(warehouse: arrow.Warehouse, videos: list[str]) -> None:
    """Each of some videos to a user of its own, u0 and so on."""
    n = len(videos)
    rows = {
        "user_id": [f"u{number}" for number in range(n)],
        "video_id": videos,
        "event_id": [f"e{number}" for number in range(n)],
        "feedback": ["positive"] * n,
    }
    viewings = filled(warehouse, "events", n, **rows).drop_columns(["arrived_on"])
    warehouse.write("events", viewings, day=DAY, arrived_on=DAY)


def test_delivered_modalities_stand_and_are_not_decoded(
    warehouse: arrow.Warehouse, decoded: list[dict[str, list[str]]]
) -> None:
    vector = pa.array([[1.0, 2.0]], pa.list_(pa.float32()))
    theirs = pa.table({"video_id": ["film"], "encoder_version": ["theirs-1"], "vector": vector})
    warehouse.write("video_features", theirs, day=DAY, modality="visual")
    clip = {
        "video_id": ["film"],
        "clip_no": pa.array([0], pa.int32()),
        "start_ms": pa.array([0], pa.int64()),
        "end_ms": pa.array([900], pa.int64()),
        "vector": vector,
    }
    warehouse.write("clip_features", pa.table(clip), day=DAY)
    for _ in range(2):
        extract_features.main(day=DAY)
    assert decoded[0] == {name: ["acoustic"] for name in ("broken", "second", "film")}
    assert features(warehouse, DAY, "visual") == {"film": [1.0, 2.0]}
    assert warehouse.read("clip_features", day=DAY)["end_ms"].to_pylist() == [900]
    assert set(features(warehouse, DAY, "acoustic")) == {*FILMS}


def test_rerun_replaces_its_own_rows_and_without_files_takes_them_out(
    warehouse: arrow.Warehouse, place: Path
) -> None:
    tables = ("video_features", "clip_features", "extractions")
    extract_features.main(day=DAY)
    first = [warehouse.digest(table, day=DAY) for table in tables]
    extract_features.main(day=DAY)
    assert [warehouse.digest(table, day=DAY) for table in tables] == first
    for path in (place / "landing" / "raw_media" / f"day={DAY}").iterdir():
        path.unlink()
    extract_features.main(day=DAY)
    assert [warehouse.count(table, day=DAY) for table in tables[1:]] == [0, 0]
    assert not warehouse.exists("video_features", day=DAY, modality="visual")


def test_files_without_the_decoder_are_an_error_that_names_the_package(
    warehouse: arrow.Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction_of_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadArgument, match=r"microrec\[media\]"):
        extract_features.main(day=DAY)


def test_delivered_says_of_no_rows_that_nobody_delivers(warehouse: arrow.Warehouse) -> None:
    night = Night.open(DAY)
    assert not any(extraction.delivered(night, name) for name in ("visual", "clips"))
    warehouse.write_empty("clip_features", day=DAY)
    warehouse.write("video_features", pa.table(empty()), day=DAY, modality="visual")
    assert not any(extraction.delivered(night, name) for name in ("visual", "clips"))


def empty() -> dict[str, pa.Array]:
    kinds = {
        "video_id": pa.string(),
        "encoder_version": pa.string(),
        "vector": pa.list_(pa.float32()),
    }
    return {name: pa.array([], kind) for name, kind in kinds.items()}
