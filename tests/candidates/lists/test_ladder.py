"""The rungs hold what their names say, in a fixed order."""

import datetime as dt

import numpy as np

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
