"""Blocks by the indices of a night, and who is not explored with."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from microrec.pipeline import wishes
from microrec.pipeline.night import Night

DAY = dt.date(2026, 1, 5)
USERS = pa.table({"user_idx": pa.array([0, 1, 2], pa.int32()), "user_id": ["a", "b", "c"]})
VIDEOS = pa.table(
    {
        "video_idx": pa.array([0, 1, 2, 3], pa.int32()),
        "video_id": ["v0", "v1", "v2", "v3"],
        "author_id": ["x", "y", None, "x"],
    }
)


@pytest.fixture
def night(place: Path) -> Night:
    opened = Night.open(DAY)
    contract = opened.warehouse.table("videos").contract
    tags = [["cats"], ["cats", "dogs", "cats"], [], None]
    rows = [
        dict.fromkeys(contract.file_schema.names)
        | {"video_id": f"v{n}", "eligible": True, "tags": tags[n]}
        for n in range(4)
    ]
    opened.write("videos", pa.Table.from_pylist(rows, schema=contract.file_schema))
    return opened


def hold(night: Night, *held: tuple[str, str, str]) -> None:
    since = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    schema = night.warehouse.table("preferences").contract.file_schema
    rows = [
        {"user_id": user, "kind": kind, "value": value, "since": since}
        for user, kind, value in held
    ]
    later = night.at(DAY + dt.timedelta(days=3), fit="final")
    later.write("preferences", pa.Table.from_pylist(rows, schema=schema))


def pairs(night: Night) -> list[tuple[str, str]]:
    rows = wishes.blocked(night, USERS, VIDEOS).to_pylist()
    ids = [(row["user_id"], row["video_id"]) for row in rows]
    by_idx = [(row["user_idx"], row["video_idx"]) for row in rows]
    assert by_idx == [("abc".index(user), int(video[1:])) for user, video in ids]
    return ids


def test_blocked_by_video_author_and_tag_as_of_now(night: Night) -> None:
    """Wishes of a later day hold for a backfill; what no video has blocks nothing."""
    assert pairs(night) == []
    hold(
        night,
        ("a", "block_video", "v2"),
        ("a", "block_video", "v1"),
        ("a", "block_tag", "dogs"),
        ("b", "block_author", "x"),
        ("c", "block_tag", "cats"),
        ("c", "block_video", "gone"),
        ("c", "reset", ""),
        ("stranger", "block_video", "v0"),
    )
    assert pairs(night) == [
        ("a", "v1"), ("a", "v2"), ("b", "v0"), ("b", "v3"), ("c", "v0"), ("c", "v1"),
    ]  # fmt: skip


def test_blocked_without_tags_reads_no_videos(night: Night) -> None:
    hold(night, ("b", "block_author", "y"))
    other = night.at(DAY + dt.timedelta(days=9), fit="final")
    assert pairs(other) == [("b", "v1")]


def test_without_profiling_are_those_who_said_so_and_have_not_withdrawn(night: Night) -> None:
    """Whether a log knows them or not; what they have blocked is known by their place among them."""
    later = night.at(DAY + dt.timedelta(days=3), fit="final")
    gone = {
        "user_id": "gone",
        "kind": "opt_out",
        "requested_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    }
    schema = night.warehouse.table("suppressed_users").contract.file_schema
    later.write("suppressed_users", pa.Table.from_pylist([gone], schema=schema))
    assert wishes.without_profiling(night, VIDEOS).user_id.to_pylist() == []
    hold(
        night,
        ("stranger", "no_profiling", ""), ("c", "no_profiling", ""), ("gone", "no_profiling", ""),
        ("a", "block_video", "v2"), ("stranger", "block_tag", "cats"), ("stranger", "block_video", "v3"),
    )  # fmt: skip
    people = wishes.without_profiling(night, VIDEOS)
    assert people.user_id.to_pylist() == ["c", "stranger"]
    assert people.start.tolist() == [0, 0, 3]
    assert people.video.tolist() == [0, 1, 3]
    assert sorted(night.unused()["user_id"].to_pylist()) == ["c", "gone", "stranger"]


def test_unexplored_are_those_who_said_so(night: Night) -> None:
    assert wishes.unexplored(night, USERS).tolist() == []
    hold(night, ("c", "no_exploration", ""), ("a", "no_exploration", ""), ("b", "reset", ""))
    assert wishes.unexplored(night, USERS).tolist() == [0, 2]
