"""The planted truth, recounted from the generated rows by other means than they were planted by."""

import csv
import dataclasses
import datetime as dt
import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pydantic
import pytest

from microrec.config.settings import HOME
from microrec.landing import verify, write, zone
from microrec.synth import dirt, world
from microrec.synth.config import FORMATS
from microrec.synth.viewings import SCHEMA
from microrec.tables import contract

CONFIG = world.Config(users=80, videos=200, days=7)


def planted(seed: int = 7, **changes: object) -> world.World:
    return world.generate(CONFIG.model_copy(update=changes), np.random.default_rng(seed))


@pytest.fixture(scope="module")
def small() -> world.World:
    return planted()


def days_of(small: world.World) -> list[dt.date]:
    return [CONFIG.first_day + dt.timedelta(days=n) for n in range(CONFIG.days)]


def catalogue_by(small: world.World, day: dt.date) -> dict[str, dict[str, object]]:
    """The last delivered row of each video up to a day."""
    known: dict[str, dict[str, object]] = {}
    for one in days_of(small):
        if one <= day:
            known.update(
                {row["video_id"]: row for row in small.rows("raw_videos", one).to_pylist()}
            )
    return known


def parsed(line: str, kind: str) -> dict[str, object] | None:
    """A raw line as a strict reader sees it; None if it is malformed."""
    if kind.startswith("jsonl"):
        try:
            return dict.fromkeys(SCHEMA.names) | json.loads(line)
        except json.JSONDecodeError:
            return None
    fields = next(csv.reader([line]))
    if len(fields) != len(SCHEMA.names):
        return None
    row: dict[str, object] = {
        name: value or None for name, value in zip(SCHEMA.names, fields, strict=True)
    }
    return row | {"watch_ms": int(text) if (text := str(row["watch_ms"])).isdigit() else text}


def fault_of_line(line: str, kind: str) -> str:
    row = parsed(line, kind)
    if row is None:
        return "malformed_line"
    if str(row["started_at"]).isdigit():
        return "epoch_ms"
    if not isinstance(row["watch_ms"], int):
        return "unparsable_watch"
    if row["liked"] not in (True, False, "true", "false"):
        return "bad_flag"
    return "unparsable_time"


def fault_of_row(row: dict[str, object], day: dt.date, known: dict[str, dict[str, object]]) -> str:
    """What is wrong with a typed row, looked at alone; `fine` if nothing is."""
    started_at, watch_ms = row["started_at"], row["watch_ms"]
    duration_ms = row["duration_ms"] or 0
    for name in ("user_id", "video_id"):
        if row[name] is None:
            return f"missing_{name.removesuffix('_id')}"
    if started_at is None:
        return "missing_time"
    if watch_ms is None:
        return "missing_watch"
    if not 0 <= watch_ms <= 86_400_000:
        return "negative_watch" if watch_ms < 0 else "absurd_watch"
    if duration_ms < 0:
        return "bad_duration"
    if row["video_id"] not in known:
        return "unknown_video"
    age = (day - started_at.date()).days
    if age < 0:
        return "future_event"
    if duration_ms == 0:
        measured = known[row["video_id"]]["duration_ms"] is not None
        return "duration_from_catalogue" if measured else "no_duration"
    return "fine" if age == 0 else "late" if age <= 2 else "too_late"


def recounted(small: world.World) -> dict[dt.date, dict[str, int]]:
    """Labels by day of arrival from the delivered rows and lines alone."""
    counts: dict[dt.date, Counter[str]] = {}
    seen: dict[str, tuple[dt.date, dict[str, object]]] = {}
    for day in days_of(small):
        known, count = catalogue_by(small, day), Counter[str]()
        for row in small.rows("raw_interactions", day).to_pylist():
            fault = fault_of_row(row, day, known)
            key = row["event_id"] or json.dumps(row, default=str)
            if fault in ("fine", "late") and key in seen:
                before, first = seen[key]
                same = "duplicate" if before == day else "duplicate_next_day"
                fault = same if first == row else "event_id_conflict"
            seen.setdefault(key, (day, row))
            count["clean" if fault == "fine" else fault] += 1
        for part in small.parts:
            if (part.table, part.day) == ("raw_interactions", day):
                count.update(fault_of_line(line, part.kind) for line in part.lines)
        counts[day] = count
    return {day: dict(sorted(count.items())) for day, count in counts.items()}


def test_truth_labels_equal_recount_of_rows(small: world.World) -> None:
    assert recounted(small) == small.truth.delivered


def test_dirt_of_every_kind_is_present(small: world.World) -> None:
    found = Counter[str]()
    for labels in small.truth.delivered.values():
        found.update(labels)
    assert set(found) == set(dirt.FATES) == set(small.truth.fates)
    assert min(found.values()) > 0
    assert found["no_duration"] == found["malformed_line"] == 2 * CONFIG.days


def test_delivered_equals_accepted_rejected_and_duplicates(small: world.World) -> None:
    truth = small.truth
    for day in days_of(small):
        delivered = small.rows("raw_interactions", day).num_rows
        delivered += len(small.lines("raw_interactions", day))
        fates = ("accepted", "rejected", "duplicate", "too_late")
        assert sum(truth.count(day, fate) for fate in fates) == delivered


def test_accepted_rows_equal_viewings_of_all_days(small: world.World) -> None:
    truth = small.truth
    accepted = sum(truth.count(day, "accepted") for day in days_of(small))
    assert accepted == sum(truth.viewings.values())
    assert list(truth.viewings) == days_of(small)


def test_world_of_one_format_has_raw_lines_beside_it() -> None:
    config = world.Config(users=20, videos=40, days=3, formats=("parquet",))
    parts = world.generate(config, np.random.default_rng(1)).parts
    assert {part.kind for part in parts if part.rows is not None} == {"parquet"}
    assert {part.kind for part in parts if part.lines} == {"jsonl"}


def test_formats_rotate_through_all(small: world.World) -> None:
    interactions = [part for part in small.parts if part.table == "raw_interactions"]
    assert {part.kind for part in interactions if part.rows is not None} == set(zone.KINDS)
    assert set(FORMATS) == set(zone.KINDS)
    assert set(world.TABLES) == set(zone.TABLES)
    for part in interactions:
        assert (part.rows is None) <= (part.kind == "jsonl")
        assert not part.lines or part.kind != "parquet"


def test_world_same_seed_gives_the_same_bytes(small: world.World, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, one in zip(folders, (small, planted()), strict=True):
        truth = one.truth.model_dump(mode="json")
        for path in write.write_world(str(folder), one.parts, truth=truth)[:-1]:
            verify.verify_file(path)
    files = [sorted(p.relative_to(folder) for p in folder.rglob("*.*")) for folder in folders]
    assert files[0] == files[1]
    for name in files[0]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    read = world.Truth.model_validate_json((folders[0] / "_truth/truth.json").read_text())
    assert read == small.truth


def test_world_other_seed_differs(small: world.World) -> None:
    other = planted(seed=8)
    assert other.truth.video_cluster != small.truth.video_cluster
    day = CONFIG.first_day
    table = "raw_interactions"
    assert not other.rows(table, day).equals(small.rows(table, day))


def test_rows_have_the_columns_of_the_contracts(small: world.World) -> None:
    for part in small.parts:
        if part.rows is not None:
            promised = contract.load(HOME / "schemas", part.table)
            promised.check_schema(part.rows.schema, without=frozenset({"day"}))
            assert [c.name for c in promised.columns[1:]] == part.rows.column_names


def test_catalogue_grows_and_covers_what_is_watched(small: world.World) -> None:
    sizes = []
    for day in days_of(small):
        known = catalogue_by(small, day)
        sizes.append(len(known))
        barred = sorted(video for video, row in known.items() if not row["eligible"])
        assert barred == small.truth.ineligible[day]
        midnight = dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(days=1)
        assert all(row["published_at"] < midnight for row in known.values())
    assert sizes == list(small.truth.n_videos.values())
    assert sizes[0] < sizes[1] < sizes[-1] == CONFIG.videos


def test_videos_are_published_before_watched(small: world.World) -> None:
    known = catalogue_by(small, days_of(small)[-1])
    for day in days_of(small):
        for row in small.rows("raw_interactions", day).to_pylist():
            video = known.get(row["video_id"])
            if row["started_at"] is not None and video is not None:
                assert video["published_at"] <= row["started_at"]


def test_popular_video_is_withdrawn_once(small: world.World) -> None:
    video, days = small.truth.taken_down, days_of(small)
    assert video is not None
    assert [video in small.truth.ineligible[day] for day in days] == [False] * 3 + [True] * 4


def test_broken_vectors_lie_where_the_truth_states() -> None:
    small = planted(broken_vector_share=0.04)
    dims = {"visual": 16, "acoustic": 12, "textual": 24}
    last: dict[tuple[str, str], list[float] | None] = {}
    for day in days_of(small):
        for row in small.rows("raw_video_features", day).to_pylist():
            last[row["modality"], row["video_id"]] = row["vector"]
    ways = set()
    for modality, dim in dims.items():
        flaws = {"missing": [], "zero": [], "broken": []}
        for video in small.truth.video_cluster:
            vector = last.get((modality, video), [])
            if (modality, video) not in last:
                flaws["missing"].append(video)
            elif vector is None or len(vector) != dim or not all(map(math.isfinite, vector)):
                flaws["broken"].append(video)
                ways.add("null" if vector is None else "short" if len(vector) != dim else "nan")
            elif not any(vector):
                flaws["zero"].append(video)
        assert flaws == small.truth.vectors[modality]
        assert {name: len(found) for name, found in flaws.items()} == {
            "missing": 10,
            "zero": 2,
            "broken": 8,
        }
    assert ways == {"null", "short", "nan"}


def test_vectors_carry_the_cluster(small: world.World) -> None:
    """The nearest other video by cosine is of the same cluster far more often than 1 in 8."""
    rows = small.rows("raw_video_features", CONFIG.first_day).to_pylist()
    for modality, least in {"visual": 0.7, "acoustic": 0.3, "textual": 0.7}.items():
        flawed = {video for ids in small.truth.vectors[modality].values() for video in ids}
        own = [r for r in rows if r["modality"] == modality and r["video_id"] not in flawed]
        vectors = np.array([row["vector"] for row in own])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        similarity = vectors @ vectors.T
        np.fill_diagonal(similarity, -1)
        cluster = np.array([small.truth.video_cluster[row["video_id"]] for row in own])
        assert (cluster[similarity.argmax(axis=1)] == cluster).mean() > least


def test_world_of_words_differs_by_captions_and_textual_vectors_alone(small: world.World) -> None:
    worded = planted(words=True)
    for day in days_of(small):
        mine, theirs = worded.rows("raw_videos", day), small.rows("raw_videos", day)
        assert mine["caption"].null_count == 0
        assert mine.drop_columns("caption").equals(theirs.drop_columns("caption"))
        rows = small.rows("raw_video_features", day).to_pylist()
        kept = [row for row in rows if row["modality"] != "textual"]
        delivered = worded.rows("raw_video_features", day).to_pylist()
        assert repr(delivered) == repr(kept)  # NaN differs from itself
    assert set(worded.truth.vectors) == {"visual", "acoustic"}


def test_clips_are_quarters(small: world.World) -> None:
    known = catalogue_by(small, days_of(small)[-1])
    days = [part.day for part in small.parts if part.table == "raw_clip_features"]
    rows = [row for day in days for row in small.rows("raw_clip_features", day).to_pylist()]
    assert len(rows) == 4 * 60
    for first, second in itertools.pairwise(rows):
        assert first["clip_no"] == 3 or second["start_ms"] == first["end_ms"]
    for row in rows:
        duration_ms = known[row["video_id"]]["duration_ms"]
        assert duration_ms in (None, row["end_ms"]) or row["clip_no"] < 3


def test_suppressed_users_follow_from_requests(small: world.World) -> None:
    days = [part.day for part in small.parts if part.table == "raw_privacy_requests"]
    requests = [row for day in days for row in small.rows("raw_privacy_requests", day).to_pylist()]
    assert Counter(row["kind"] for row in requests) == {"opt_out": 2, "opt_in": 1, "erase": 1}
    for day in days_of(small):
        in_force = {}
        for row in sorted(requests, key=lambda row: row["requested_at"]):
            if row["requested_at"].date() <= day:
                in_force[row["user_id"]] = row["kind"]
        suppressed = {user: kind for user, kind in in_force.items() if kind != "opt_in"}
        assert small.truth.suppressed[day] == suppressed


def test_erased_users_have_no_later_viewings(small: world.World) -> None:
    last = days_of(small)[-1]
    (erased,) = (u for u, kind in small.truth.suppressed[last].items() if kind == "erase")
    (asked,) = (
        part.day
        for part in small.parts
        if part.table == "raw_privacy_requests" and "erase" in part.rows["kind"].to_pylist()
    )
    for day in days_of(small):
        for row in small.rows("raw_interactions", day).to_pylist():
            if row["user_id"] == erased and row["started_at"] is not None:
                assert row["started_at"].date() <= asked + dt.timedelta(days=2)  # 36 h: dirt


@pytest.mark.parametrize("days", [1, 2])
def test_short_worlds_are_complete(days: int) -> None:
    one = planted(users=20, videos=40, days=days)
    last = CONFIG.first_day + dt.timedelta(days=days - 1)
    assert set(one.truth.suppressed[last].values()) == {"opt_out", "erase"}
    delivered = one.rows("raw_interactions", last).num_rows
    assert sum(one.truth.delivered[last].values()) == delivered + len(
        one.lines("raw_interactions", last)
    )


def test_world_without_dirt_has_none() -> None:
    one = planted(dirt_per_kind=0, late_share=0.0, duplicate_share=0.0)
    for day, labels in one.truth.delivered.items():
        assert labels == {"clean": one.truth.viewings[day]}


def test_progress_is_one_line_a_day(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="microrec.synth.world")
    one = planted(users=20, videos=40, days=2)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    day, n = next(iter(one.truth.viewings.items()))
    assert lines[0].startswith(f"planted day={day} viewings={n} ")


def test_configs_are_frozen_and_strict() -> None:
    with pytest.raises(pydantic.ValidationError):
        world.Config(user=3)  # type: ignore[call-arg]
    with pytest.raises(pydantic.ValidationError):
        world.Config(late_share=1.1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        planted(users=20, videos=40, days=1).parts = ()  # type: ignore[misc]
