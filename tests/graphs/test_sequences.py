"""Histories in order, futures from neighbours, and nothing at or after the cut-off."""

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from graph_rows import DAY, Rows, instant
from pyspark.sql import DataFrame

from microrec.graphs import sequences, split
from microrec.graphs.sequences import Config

Lists = dict[tuple[str, int], dict[str, list[tuple[Any, ...]]]]
END = {"trial": instant(5), "final": instant(6)}


def lists(viewings: DataFrame, edges: DataFrame, users: DataFrame, config: Config) -> Lists:
    positive = sequences.positive_viewings(viewings, day=DAY)
    result = sequences.sequences(positive, edges, users, day=DAY, config=config)
    assert result.columns == ["fit", "user_idx", "history", "future"]
    return {
        (row["fit"], row["user_idx"]): {
            name: [tuple(one.values()) for one in row[name]] for name in ("history", "future")
        }
        for row in result.toArrow().to_pylist()
    }


def brute_future(
    mine: list[tuple[Any, int]], neighbours: dict[int, float], seen: dict[int, list[tuple[Any, int]]],
    end: Any, config: Config,
) -> list[tuple[Any, ...]]:  # fmt: skip
    """For each anchor and neighbour, what the neighbour watched after its last touch."""
    anchors = sorted({v: at for at, v in sorted(mine)}.items(), key=lambda one: (one[1], one[0]))
    weight: dict[int, float] = defaultdict(float)
    latest: dict[int, Any] = {}
    for anchor, _ in anchors[-config.n_anchors :]:
        for neighbour, pearson in neighbours.items():
            theirs = sorted(seen[neighbour])
            touches = [at for at, video in theirs if video == anchor]
            after = [one for one in theirs if touches and one[0] > max(touches)]
            for at, video in after[: config.fragment_length]:
                age = (end - at).total_seconds() / 86_400
                weight[video] += pearson * math.exp(-age / config.tau_days)
                latest[video] = max(at, latest.get(video, at))
    for _, video in mine:
        weight.pop(video, None)
    kept = sorted(weight, key=lambda video: (-round(weight[video], 10), video))[
        : config.future_length
    ]
    return sorted((latest[video], video, weight[video]) for video in kept)


@pytest.mark.spark
@pytest.mark.parametrize("seed", [1, 2])
def test_random_world_equals_brute_force_and_never_looks_ahead(rows: Rows, seed: int) -> None:
    generator = np.random.default_rng(seed)
    events = [
        {
            "user_idx": int(generator.integers(12)),
            "video_idx": int(generator.integers(30)),
            "started_at": instant(1, float(n) * 0.29 + 0.01),
            "feedback": "positive" if generator.uniform() < 0.8 else "negative",
        }
        for n in range(400)
    ]
    events = [one for one in events if one["started_at"] < END["final"]]
    assert events[-1]["started_at"] > END["trial"]
    pairs = [
        {"fit": fit, "user_idx": u, "neighbour_idx": v, "pearson": float(generator.uniform(0.1, 1))}
        for fit in split.FITS
        for u in range(12)
        for v in generator.permutation(12)[:4].tolist()
        if u != v
    ]
    config = Config(history_length=8, n_anchors=3, fragment_length=2, future_length=5)
    users = rows("users", *[{"user_idx": u, "user_id": f"u{u}"} for u in range(13)])
    found = lists(rows("events", *events).repartition(3), rows("user_edges", *pairs), users, config)

    assert set(found) == {(fit, user) for fit in split.FITS for user in range(13)}
    n_futures = 0
    for (fit, user), row in found.items():
        seen: dict[int, list[tuple[Any, int]]] = defaultdict(list)
        for one in events:
            if one["feedback"] == "positive" and one["started_at"] < END[fit]:
                seen[one["user_idx"]].append((one["started_at"], one["video_idx"]))
        assert row["history"] == [(video, at) for at, video in sorted(seen[user])][-8:]
        near = {
            e["neighbour_idx"]: e["pearson"]
            for e in pairs
            if e["fit"] == fit and e["user_idx"] == user
        }
        expected = brute_future(seen[user], near, seen, END[fit], config)
        assert [(at, video) for video, at, _ in row["future"]] == [one[:2] for one in expected]
        assert [one[2] for one in row["future"]] == pytest.approx([one[2] for one in expected])
        assert all(at < END[fit] for _, at, *_ in row["history"] + row["future"])
        n_futures += len(row["future"])
    assert n_futures > 40
    assert found["final", 12] == {"history": [], "future": []}


@pytest.mark.spark
def test_a_fragment_starts_after_the_last_touch_and_skips_what_is_known(rows: Rows) -> None:
    me, you, anchor = 0, 1, 10
    mine = [(anchor, 1), (11, 2)]
    yours = [(anchor, 3), (12, 4), (anchor, 5), (99, 5), (11, 6), (13, 7), (14, 7), (15, 8)]
    events = [
        {"user_idx": user, "video_idx": video, "started_at": instant(2, hour)}
        for user, part in [(me, mine), (you, yours)]
        for video, hour in part
    ]
    users = rows("users", {"user_idx": me}, {"user_idx": you})
    edges = rows(
        "user_edges", {"fit": "final", "user_idx": me, "neighbour_idx": you, "pearson": 0.5}
    )
    config = Config(fragment_length=3)
    found = lists(rows("events", *events), edges, users, config)
    # After 10 (last at 5 h): 99 is of the same instant, no successor; 11 is known; so 13.
    # After 11 (6 h): 13, 14, 15.
    ages = {video: 3 + (24 - hour) / 24 for video, hour in yours[5:]}
    once = {video: 0.5 * math.exp(-age / 7) for video, age in ages.items()}
    assert found["final", me]["future"] == [
        (13, instant(2, 7), pytest.approx(2 * once[13])),
        (14, instant(2, 7), pytest.approx(once[14])),
        (15, instant(2, 8), pytest.approx(once[15])),
    ]
    assert found["trial", me]["future"] == found["final", you]["future"] == []
