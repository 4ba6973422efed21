"""Ids and indices are a bijection onto 0..n-1, in the order of the id, whatever the order of the rows."""

import numpy as np
import pytest

from microrec.graphs.watch import clip_edges, nodes
from tests.worlds.graph_rows import Rows, instant, sorted_rows


@pytest.mark.spark
def test_users_are_numbered_by_id_in_any_row_order(rows: Rows) -> None:
    ids = ["u10", "u9", "U1", "ü", "007", "7", "u1"]
    parts = [{"user_id": user} for user in ids for _ in range(2)]
    generator = np.random.default_rng(1)
    shuffled = [parts[place] for place in generator.permutation(len(parts))]
    one = sorted_rows(nodes.users(rows("parts", *parts)), "user_idx", "user_id")
    other = sorted_rows(nodes.users(rows("parts", *shuffled).repartition(3)), "user_idx", "user_id")
    assert one == other == list(enumerate(sorted(ids)))


@pytest.mark.spark
def test_degree_counts_distinct_videos_and_first_seen_is_earliest(rows: Rows) -> None:
    parts = rows(
        "parts",
        {"video_id": "v1", "split": "holdout", "first_at": instant(3)},
        {"video_id": "v1", "first_at": instant(2)},
        {"video_id": "v2", "first_at": instant(4)},
    )
    users = sorted_rows(nodes.users(parts), "user_id", "degree", "first_seen")
    assert users == [("u1", 2, instant(2))]


@pytest.mark.spark
def test_videos_of_the_whole_catalogue_are_numbered(rows: Rows) -> None:
    videos = rows(
        "videos",
        {"video_id": "b"},
        {"video_id": "a", "eligible": False, "duration_ms": 5_001},
        {"video_id": "c", "duration_ms": None},
    )
    parts = rows(
        "parts",
        {"video_id": "b", "user_id": "u1", "first_at": instant(2)},
        {"video_id": "b", "user_id": "u2", "first_at": instant(3)},
        {"video_id": "b", "user_id": "u2", "first_at": instant(4), "split": "holdout"},
    )
    columns = ("video_idx", "video_id", "eligible", "degree", "first_seen", "clip_ends_ms")
    numbered = nodes.video_nodes(videos, parts, until=instant(9), config=clip_edges.Config())
    assert sorted_rows(numbered, *columns) == [
        (0, "a", False, 0, None, [5_000, 5_001]),
        (1, "b", True, 2, instant(2), [5_000, 10_000]),
        (2, "c", True, 0, None, []),
    ]


@pytest.mark.spark
def test_video_nodes_published_after_the_end_of_the_day_is_not_eligible(rows: Rows) -> None:
    published = {"a": instant(5, 23), "b": instant(6), "c": None, "d": instant(9)}
    videos = rows("videos", *[{"video_id": i, "published_at": at} for i, at in published.items()])
    watched = rows("parts", {"video_id": "d"})
    numbered = nodes.video_nodes(videos, watched, until=instant(6), config=clip_edges.Config())
    assert sorted_rows(numbered, "video_id", "eligible") == [
        ("a", True),
        ("b", False),
        ("c", True),
        ("d", False),
    ]


@pytest.mark.spark
def test_indexed_keeps_every_event_and_replaces_ids(rows: Rows) -> None:
    events = rows(
        "events", {"user_id": "u2", "video_id": "v1"}, {"user_id": "u1", "video_id": "v2"}
    )
    bare = events.drop("user_idx", "video_idx")
    users = rows("users", {"user_id": "u1", "user_idx": 0}, {"user_id": "u2", "user_idx": 1})
    videos = rows(
        "video_nodes", {"video_id": "v1", "video_idx": 0}, {"video_id": "v2", "video_idx": 1}
    )
    viewings = nodes.indexed(bare, users, videos)
    assert sorted_rows(viewings, "user_idx", "video_idx") == [(0, 1), (1, 0)]
    assert not {"user_id", "video_id"} & set(viewings.columns)
