"""Clip labels: clips 0..n-1 watched through, clip n left, and the sign of what is left of a sum."""

import pytest
from graph_rows import Rows, found

from microrec.graphs import clips

CONFIG = clips.Config()

CASES = [
    # watch_ms of 10 000, steps of the four clips
    (0, [-1, 0, 0, 0]),
    (1, [-1, 0, 0, 0]),
    (2_499, [-1, 0, 0, 0]),
    (2_500, [+1, -1, 0, 0]),
    (5_000, [+1, +1, -1, 0]),
    (7_499, [+1, +1, -1, 0]),
    (7_500, [+1, +1, +1, -1]),
    (9_499, [+1, +1, +1, -1]),
    (9_500, [+1, +1, +1, +1]),
    (10_000, [+1, +1, +1, +1]),
    (63_000, [+1, +1, +1, +1]),
]


def steps(viewings, config=CONFIG):
    return [list(row) for row in viewings.select(*clips.steps(config)).collect()]


@pytest.mark.spark
def test_one_viewing(rows: Rows) -> None:
    viewings = rows("events", *[{"watch_ms": watch_ms} for watch_ms, _ in CASES])
    assert steps(viewings) == [signs for _, signs in CASES]


@pytest.mark.spark
def test_a_duration_that_does_not_divide_is_cut_without_rounding_errors(rows: Rows) -> None:
    viewings = rows("events", {"watch_ms": 3, "duration_ms": 7}, {"watch_ms": 2, "duration_ms": 6})
    assert steps(viewings, clips.Config(n_clips=3)) == [[1, -1, 0], [1, -1, 0]]


@pytest.mark.spark
def test_an_edge_has_the_sign_and_size_of_its_sum_and_a_tie_says_nothing(rows: Rows) -> None:
    parts = rows(
        "parts",
        {"clip_net": [2.5, 0.0, -0.25]},
        {"user_idx": 1, "split": "holdout", "clip_net": [0.0, 0.0, 1e-9]},
        {"user_idx": 2, "clip_net": [0.0, -0.0, 0.0]},
    )
    columns = ("split", "user_idx", "video_idx", "clip_no", "sign", "weight")
    assert found(clips.clip_edges(parts), *columns) == [
        ("holdout", 1, 0, 2, 1, 1e-9),
        ("train", 0, 0, 0, 1, 2.5),
        ("train", 0, 0, 2, -1, 0.25),
    ]
