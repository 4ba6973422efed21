"""The rungs hold what their names say, in a fixed order."""

import datetime as dt

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from microrec.candidates.lists import ladder
from microrec.core import knowledge
from microrec.core.fits import horizon
from tests.worlds.candidates import DAY, MIDNIGHT, edges, videos

HOUR = dt.timedelta(hours=1)
PUBLISHED = [
    MIDNIGHT - 5 * HOUR,
    MIDNIGHT - 2 * HOUR,
    None,
    MIDNIGHT - 2 * HOUR,
    MIDNIGHT - 1 * HOUR,
    MIDNIGHT + 90 * HOUR,
    MIDNIGHT + 2 * HOUR,
]
ROWS = [
    ("train", 0, 0, 1),
    ("train", 1, 0, 1),
    ("train", 2, 3, 1),
    ("validation", 0, 2, 2),
    ("validation", 1, 2, 1),
    ("validation", 2, 1, 1),
    ("validation", 0, 4, 1),
    ("validation", 0, 0, 0),
    ("holdout", 2, 5, 1),
    ("holdout", 2, 6, 1),
]
CATALOGUE = videos([True, True, True, True, False, True, True], PUBLISHED)


def rungs(fit: str, config: ladder.Config | None = None) -> dict[str, list[int]]:
    rows = edges(ROWS)
    known = knowledge.knowledge(rows, CATALOGUE, n_users=3, fit=fit, until=horizon(DAY, fit))
    found = ladder.rungs(
        rows,
        CATALOGUE,
        known=known,
        fit=fit,
        until=horizon(DAY, fit),
        config=config or ladder.Config(),
    )
    return {name: videos.tolist() for name, videos in found.items()}


def test_rungs_of_trial_equal_expected() -> None:
    assert rungs("trial") == {
        "trend": [2, 1],
        "fresh": [1, 3, 0],
        "popular": [2, 0, 1, 3],
        "catalogue": [0, 1, 2, 3],
    }


def test_rungs_of_final_include_the_day_and_no_later_publication() -> None:
    found = rungs("final")
    assert found["trend"] == [6]
    assert found["fresh"] == [6, 1, 3, 0]
    assert found["catalogue"] == [0, 1, 2, 3, 6]


def test_rungs_have_their_lengths() -> None:
    found = rungs("trial", ladder.Config(trend_length=1, fresh_length=0))
    assert (found["trend"], found["fresh"]) == ([2], [])


def test_climb_keeps_the_first_rung_of_a_video() -> None:
    lists = {
        "trend": np.array([3]),
        "fresh": np.array([3, 1]),
        "popular": np.array([0, 1]),
        "catalogue": np.arange(4),
    }
    climbed = ladder.climb(lists)
    assert climbed.video.tolist() == [3, 1, 0, 2]
    assert [ladder.RUNGS[at] for at in climbed.rung] == ["trend", "fresh", "popular", "catalogue"]
    assert climbed.positions(5).tolist() == [3, 2, 4, 1, 6]


def test_fallback_lists_equal_expected() -> None:
    lists = {
        "trend": np.array([3]),
        "fresh": np.array([1]),
        "popular": np.array([0, 3]),
        "catalogue": np.arange(4),
    }
    found = ladder.fallback(lists, 3).to_pydict()
    assert found["segment"] == ["__fresh__"] * 3 + ["__global__"] * 3
    assert found["video_idx"] == [1, 3, 0, 3, 0, 1]
    assert found["rank"] == [1, 2, 3, 1, 2, 3]
    assert found["source"] == ["fresh", "trend", "popular", "trend", "popular", "fresh"]
    assert found["score"] == [-1, -2, -3, -1, -2, -3]


def test_lists_of_tags_are_the_list_of_everybody_among_their_videos() -> None:
    lists = {
        "trend": np.array([3]),
        "fresh": np.array([1]),
        "popular": np.array([0, 3, 5]),
        "catalogue": np.array([0, 1, 3, 4, 5]),
    }
    tags = [["a", "b"], ["a"], ["a", "a"], ["b", "a"], None, ["b", "c"]]
    tagged = pa.table({"video_idx": range(6), "tags": pa.array(tags, pa.list_(pa.string()))})
    likers = np.array([9, 0, 99, 7, 0, 5])
    found = ladder.of_tags(lists, tagged, likers=likers, k=3, most=9).to_pydict()
    # Everybody's order is 3, 0, 5, 1, 4. Video 2 may not be shown, and "c" has one video alone.
    assert found["segment"] == ["tag=a"] * 3 + ["tag=b"] * 3
    assert found["video_idx"] == [3, 0, 1, 3, 0, 5]
    assert found["rank"] == [1, 2, 3] * 2
    assert found["source"] == ["trend", "popular", "fresh", "trend", "popular", "popular"]
    assert found["score"] == [-1, -2, -3] * 2
    # The videos of "b" have 21 positive viewers, those of "a" 16.
    (segment,) = set(
        ladder.of_tags(lists, tagged, likers=likers, k=3, most=1)["segment"].to_pylist()
    )
    assert segment == "tag=b"
    assert ladder.of_tags(lists, tagged, likers=likers, k=4, most=9).num_rows == 0


@given(st.integers(0, 2**32 - 1))
def test_lists_of_tags_any_row_order_is_whole_and_of_the_tag(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n_videos, k = 12, int(generator.integers(1, 5))
    eligible = np.flatnonzero(generator.random(n_videos) < 0.8)
    lists = {
        "trend": generator.permutation(eligible)[:3],
        "fresh": generator.permutation(eligible)[:2],
        "popular": generator.permutation(eligible)[:6],
        "catalogue": eligible,
    }
    tags = [
        generator.choice(["x", "y", "z"], generator.integers(3)).tolist() for _ in range(n_videos)
    ]
    tagged = pa.table({"video_idx": range(n_videos), "tags": pa.array(tags, pa.list_(pa.string()))})
    likers = generator.integers(0, 9, n_videos)
    found = ladder.of_tags(lists, tagged, likers=likers, k=k, most=9)
    assert found.equals(
        ladder.of_tags(
            lists, tagged.take(generator.permutation(n_videos)), likers=likers, k=k, most=9
        )
    )
    everyones = ladder.climb(lists, ladder.SEGMENTS["__global__"]).video.tolist()
    right = {
        f"tag={tag}": [video for video in everyones if tag in tags[video]][:k] for tag in "xyz"
    }
    mine: dict[str, list[int]] = {}
    for row in found.to_pylist():
        mine.setdefault(row["segment"], []).append(row["video_idx"])
    assert mine == {segment: videos for segment, videos in right.items() if len(videos) == k}
