"""What of a release is served: every list once, best first, whatever the order and the batches."""

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from microrec.core.digests import digest
from microrec.export.contents import ITEM, Contents, json_texts
from microrec.release import reader
from microrec.tables import arrow
from microrec.tables.arrow import Warehouse
from tests.worlds.releases import filled, publish

DAY = dt.date(2026, 1, 4)
USERS = ["b", "a", "b", "c", "a", "b"]
RANKS = [2, 1, 1, 1, 2, 3]
LISTS = {"a": ["v1", "v4"], "b": ["v2", "v0", "v5"], "c": ["v3"]}


@pytest.fixture
def release(place: Path) -> reader.Release:
    """Lists of three users, whose rows stand in no order."""
    videos = [f"v{row}" for row in range(len(USERS))]
    publish(Warehouse.open(), DAY, len(USERS), user_id=USERS, rank=RANKS, video_id=videos)
    return reader.of(DAY)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_batches_have_every_list_in_order_of_rank(release: reader.Release, size: int) -> None:
    lists = {}
    for kind, ids, items in Contents(release).batches(size):
        assert 0 < len(ids) <= size
        for each, places in zip(ids.to_pylist(), items.to_pylist(), strict=True):
            assert (kind, each) not in lists
            lists[kind, each] = [place["video_id"] for place in places]
    assert lists == {**{("user", user): LISTS[user] for user in LISTS}, ("segment", "x"): ["x"]}


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
@pytest.mark.parametrize("share", [1, 2, 5, 64])
def test_batches_of_many_shares_are_those_of_the_whole(
    size: int, share: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists that lie in two shares, or in many, are whole; all batches but the last are full."""
    rng = np.random.default_rng(size * share)
    lengths = rng.integers(1, 9, 40)
    users = [f"u{user:02}" for user in rng.permutation(40) for _ in range(lengths[user])]
    ranks = [rank for _, of_user in groupby(users) for rank, _ in enumerate(of_user, 1)]
    videos = [f"v{row}" for row in range(len(users))]
    warehouse = Warehouse.open()
    publish(warehouse, DAY, len(users), user_id=users, rank=ranks, video_id=videos)
    monkeypatch.setattr(arrow, "BATCH_ROWS", share)
    batches = [batch for batch in Contents(reader.of(DAY)).batches(size) if batch.kind == "user"]
    assert all(len(batch.ids) == size for batch in batches[:-1])
    served = {
        user: [place["video_id"] for place in places]
        for batch in batches
        for user, places in zip(batch.ids.to_pylist(), batch.items.to_pylist(), strict=True)
    }
    expected: dict[str, list[str]] = defaultdict(list)
    for user, video in zip(users, videos, strict=True):
        expected[user].append(video)
    assert served == expected
    assert sum(len(batch.ids) for batch in batches) == len(expected)


def test_batches_are_made_without_reading_a_table_whole(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the rows of a release no more than a share is held, and of the users their ids."""
    publish(Warehouse.open(), DAY, 9, rank=[1] * 9)
    release = reader.of(DAY)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("read whole")

    monkeypatch.setattr(reader.Release, "read", refuse)
    contents = Contents(release)
    assert len(contents.digest) == len(digest(["x"]))
    assert sum(len(batch.ids) for batch in contents.batches()) == 9 + 1


def test_batches_serve_the_fused_similar_videos_alone(
    release: reader.Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = filled(
        release.warehouse, "similar_videos", 3, video_id=["v1"] * 3, rank=[1, 1, 2],
        kind=["visual", "fused", "fused"], similar_video_id=["v7", "v8", "v9"],
    )  # fmt: skip
    batches = reader.Release.batches

    def with_similar(
        self: reader.Release, table: str, *, columns: Sequence[str]
    ) -> Iterator[pa.Table]:
        if table == "similar_videos":
            yield rows.select(columns)
        else:
            yield from batches(self, table, columns=columns)

    monkeypatch.setattr(reader.Release, "batches", with_similar)
    (batch,) = [batch for batch in Contents(release).batches() if batch.kind == "video"]
    assert batch.ids.to_pylist() == ["v1"]
    (places,) = batch.items.to_pylist()
    assert [place["video_id"] for place in places] == ["v8", "v9"]
    assert [place["reason"] for place in places] == [None, None]


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
def test_batches_have_the_segments_of_a_user_in_one_list(
    release: reader.Release, size: int, order: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = filled(
        release.warehouse, "segment_recommendations", 5, user_id=["a", "a", "a", "b", "b"],
        segment=["surface=x", "tag=y", "tag=y", "tag=y", "tag=y"], rank=[1, 1, 2, 1, 2],
        video_id=["v1", "v2", "v3", "v2", "v4"],
    )  # fmt: skip

    def in_any_order(
        self: reader.Release, table: str, *, columns: Sequence[str]
    ) -> Iterator[pa.Table]:
        if table == "segment_recommendations":
            yield rows.take(order).select(columns)

    monkeypatch.setattr(reader.Release, "batches", in_any_order)
    batches = (batch for batch in Contents(release).batches(size) if batch.kind == "user_segments")
    lists = {
        user: [(place["segment"], place["video_id"]) for place in places]
        for batch in batches
        for user, places in zip(batch.ids.to_pylist(), batch.items.to_pylist(), strict=True)
    }
    assert lists == {
        "a": [("surface=x", "v1"), ("tag=y", "v2"), ("tag=y", "v3")],
        "b": [("tag=y", "v2"), ("tag=y", "v4")],
    }


def test_digest_changes_with_people_and_vectors_only(release: reader.Release) -> None:
    before = Contents(release).digest
    assert Contents(reader.of(DAY)).digest == before
    assert Contents(release, ["content"]).digest != before
    gone = filled(release.warehouse, "suppressed_users", 1, user_id=["c"], kind=["opt_out"])
    release.warehouse.write("suppressed_users", gone, day=DAY)
    left = Contents(reader.of(DAY))
    assert left.digest != before
    assert left.users.to_pylist() == ["a", "b"]


def test_users_without_profiling_have_a_list_and_are_not_profiled(place: Path) -> None:
    sources = ["content", "no_profiling"]
    publish(Warehouse.open(), DAY, 2, user_id=["a", "b"], source=sources)
    contents = Contents(reader.of(DAY))
    assert contents.users.to_pylist() == ["a", "b"]
    assert contents.profiled.to_pylist() == ["a"]


def test_json_texts_are_the_places_of_each_list() -> None:
    places = [
        [{"video_id": 'v"1\n', "score": 0.5, "source": "ü", "reason": "<b>\\"}],
        [],
        [{"video_id": "2", "score": -3.0, "source": "s", "reason": None}] * 2,
        [{"video_id": "3", "score": 1.0, "source": "s", "reason": "r", "segment": "tag=x"}],
    ]
    items = pa.array(places, pa.list_(pa.struct(list(ITEM))))
    bare = {"video_id": "2", "score": -3.0, "source": "s"}
    for part, whole in (
        (items, [places[0], [], [bare, bare], places[3]]),
        (items.slice(1), [[], [bare, bare], places[3]]),
    ):
        assert [[json.loads(text) for text in texts] for texts in json_texts(part)] == whole
