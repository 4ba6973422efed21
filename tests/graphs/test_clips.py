"""Clip labels: clips 0..n-1 watched through, clip n left, and the net of several viewings."""

import pytest
from graph_rows import DAY, Rows, found, instant

from microrec.graphs import clips

CONFIG = clips.Config()
END = instant(6)


def clip_edges(viewings, config=CONFIG):
    return clips.clip_edges(viewings, day=DAY, half_life_days=7.0, config=config)


CASES = [
    # watch_ms of 10 000, signs of clips 0..
    (0, [-1]),
    (1, [-1]),
    (2_499, [-1]),
    (2_500, [+1, -1]),
    (5_000, [+1, +1, -1]),
    (7_499, [+1, +1, -1]),
    (7_500, [+1, +1, +1, -1]),
    (9_499, [+1, +1, +1, -1]),
    (9_500, [+1, +1, +1, +1]),
    (10_000, [+1, +1, +1, +1]),
    (63_000, [+1, +1, +1, +1]),
]


@pytest.mark.spark
def test_one_viewing(rows: Rows) -> None:
    events = rows("events", *[{"user_idx": n, "watch_ms": ms} for n, (ms, _) in enumerate(CASES)])
    edges = found(clip_edges(events), "user_idx", "clip_no", "sign")
    for n, (watch_ms, signs) in enumerate(CASES):
        assert [sign for user, _, sign in edges if user == n] == signs, watch_ms
        assert [clip for user, clip, _ in edges if user == n] == list(range(len(signs))), watch_ms


@pytest.mark.spark
def test_a_duration_that_does_not_divide_is_cut_without_rounding_errors(rows: Rows) -> None:
    events = rows(
        "events",
        {"watch_ms": 3, "duration_ms": 7},
        {"user_idx": 1, "watch_ms": 2, "duration_ms": 6},
    )
    edges = found(clip_edges(events, clips.Config(n_clips=3)), "user_idx", "clip_no", "sign")
    assert edges == [(0, 0, 1), (0, 1, -1), (1, 0, 1), (1, 1, -1)]


@pytest.mark.spark
def test_viewings_of_one_video_net_and_a_tie_says_nothing(rows: Rows) -> None:
    events = rows(
        "events",
        {"watch_ms": 10_000},
        {"watch_ms": 3_000},  # clip 1: +1 - 1 = 0, no row; clip 0: 2
        {"user_idx": 1, "watch_ms": 100},
        {"user_idx": 1, "watch_ms": 100},
        {"user_idx": 1, "watch_ms": 2_500},  # clip 0: -1 -1 +1
    )
    half_a_day = 0.5 ** (0.5 / 7)
    assert found(clip_edges(events), "user_idx", "clip_no", "sign", "weight") == [
        (0, 0, 1, pytest.approx(2 * half_a_day)),
        (0, 2, 1, pytest.approx(half_a_day)),
        (0, 3, 1, pytest.approx(half_a_day)),
        (1, 0, -1, pytest.approx(half_a_day)),
        (1, 1, -1, pytest.approx(half_a_day)),
    ]


@pytest.mark.spark
def test_weights_fade_and_parts_stay_apart(rows: Rows) -> None:
    events = rows(
        "events",
        {"started_at": instant(5), "watch_ms": 10},
        {"started_at": instant(4), "watch_ms": 10},
        {"started_at": instant(3), "watch_ms": 10},
    )
    assert found(clip_edges(events), "split", "sign", "weight") == [
        ("holdout", -1, pytest.approx(0.5 ** (1 / 7))),
        ("train", -1, pytest.approx(0.5 ** (3 / 7))),
        ("validation", -1, pytest.approx(0.5 ** (2 / 7))),
    ]
