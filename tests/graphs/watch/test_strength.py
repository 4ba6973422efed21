"""The strength of a viewing: against brute force, against a planted bias of length, and who is a peer of whom."""

import random
from typing import Any

import pytest
from pyspark.sql import DataFrame

from microrec.core.rates import DURATION_EDGES_MS
from microrec.graphs.watch import strength
from tests.worlds.graph_rows import DAY, Rows, instant, sorted_rows

pytestmark = pytest.mark.spark

Viewing = tuple[int | None, int | None, bool]
"""Length, watch time, and whether it counts."""


def viewing(watch_ms: int | None, duration_ms: int | None = 10_000, counts: bool = True) -> Viewing:
    return duration_ms, watch_ms, counts


def pair_days(rows: Rows, *days: list[Viewing], first: int = 0, **columns: Any) -> DataFrame:
    """Pair-days of one user each, with these viewings."""
    names = ("duration_ms", "watch_ms", "counts")
    return rows(
        "daily_watches",
        *[
            {
                "day": DAY,
                "user_id": f"u{number:04}",
                "n_views": len(viewings),
                "viewings": [dict(zip(names, each, strict=True)) for each in viewings],
                **columns,
            }
            for number, viewings in enumerate(days, start=first)
        ],
    )


def strengths(watches: DataFrame, peers: DataFrame | None = None) -> list[float]:
    """The strength of every viewing, by user."""
    ranked = strength.of_viewings(watches, edges_ms=DURATION_EDGES_MS, peers=peers)
    return [value for _, value in sorted_rows(ranked, "user_id", "strength")]


def test_strength_is_the_mid_rank_of_viewings_of_like_length(rows: Rows) -> None:
    pick = random.Random(4)
    lengths = [6_999, 7_000, 11_999, 12_000, 400_000, None]
    days = [[viewing(pick.randint(1, 15) * 1000, pick.choice(lengths))] for _ in range(300)]

    def bucket(length: int | None) -> int | None:
        return None if length is None else sum(length >= edge for edge in (7_000, 12_000, 400_000))

    expected = []
    for ((length, watch_ms, _),) in days:
        peers = [other[1] or 0 for (other,) in days if bucket(other[0]) == bucket(length)]
        less, equal = (sum(p < (watch_ms or 0) for p in peers), peers.count(watch_ms or 0))
        expected.append((less + equal / 2) / len(peers))
    assert strengths(pair_days(rows, *days)) == pytest.approx(expected)


def test_strength_of_what_never_played_or_was_not_measured_is_a_half(rows: Rows) -> None:
    watched = [
        [viewing(1_000)],
        [viewing(0)],
        [viewing(3_000)],
        [viewing(None)],
        [viewing(None, None)],
    ]
    assert strengths(pair_days(rows, *watched)) == [0.25, 0.5, 0.75, 0.5, 0.5]


def test_strength_of_what_does_not_count_is_nothing_yet_it_is_a_peer(rows: Rows) -> None:
    watched = [[viewing(1_000, counts=False)], [viewing(3_000)], [viewing(0, counts=False)]]
    assert strengths(pair_days(rows, *watched)) == [0.0, 0.75, 0.0]


def test_strength_compares_within_an_event_day(rows: Rows) -> None:
    monday = pair_days(rows, [viewing(1_000)])
    sunday = pair_days(rows, [viewing(9_000)], first=1, day=instant(4).date())
    assert strengths(monday.unionByName(sunday)) == [0.5, 0.5]


def test_strength_is_fair_to_long_videos(rows: Rows) -> None:
    """Interest is drawn independently of length, but is shown as a share of a long or a short video."""
    pick = random.Random(5)
    days = [
        [viewing(int(length * pick.random()) + 1, length)]
        for length in (6_000, 100_000)
        for _ in range(200)
    ]
    ranked = strengths(pair_days(rows, *days))
    assert all(0 < value < 1 for value in ranked)
    assert [sum(part) / 200 for part in (ranked[:200], ranked[200:])] == pytest.approx([0.5, 0.5])


def test_strength_beside_peers_is_among_them_alone(rows: Rows) -> None:
    """Of a length that none of the peers watched there is no rank."""
    peers = pair_days(rows, *[[viewing(watch_ms)] for watch_ms in (1_000, 2_000, 2_000, 4_000)])
    watched = [viewing(1), viewing(2_000), viewing(9_999), viewing(5_000, 400_000)]
    apart = pair_days(rows, *[[each] for each in watched], first=10)
    assert strengths(apart, peers) == [0.0, 0.5, 1.0, 0.5]


def test_strength_keeps_what_is_known_of_a_pair_day_once(rows: Rows) -> None:
    watched = pair_days(rows, [viewing(1_000), viewing(3_000)], n_positive=2)
    ranked = strength.of_viewings(watched, edges_ms=DURATION_EDGES_MS)
    assert sorted_rows(ranked.fillna(-1), "strength", "n_views", "n_positive") == [
        (0.25, 2, 2),
        (0.75, -1, -1),
    ]
