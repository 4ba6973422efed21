"""Futures of a few users, worked out by hand; tasks in one partition; lists that no cutting changes."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from microrec.graphs.sequences import futures
from microrec.graphs.sequences.futures import EDGE, VIEWING, WANTED, Config

DAY = 86_400_000_000
CUT = 20_000 * DAY
CONFIG = Config(activity_quantile=1.0)
VIDEO = pa.struct(
    [("video_idx", pa.int32()), ("at", pa.timestamp("us", "UTC")), ("weight", pa.float64())]
)
RESULT = pa.schema(
    [
        ("cut_at", pa.timestamp("us", "UTC")),
        ("user_idx", pa.int32()),
        ("future_from", pa.string()),
        ("future", pa.list_(VIDEO)),
    ]
)
ROWS = pa.schema(
    [
        *(("cut_at", pa.int64()), ("kind", pa.int8()), ("user_idx", pa.int32())),
        *(("other_idx", pa.int32()), ("at", pa.int64()), ("pearson", pa.float64())),
    ]
)


def viewing(user: int, video: int, days_ago: float, cut: int = CUT) -> dict[str, Any]:
    at = cut - int(days_ago * DAY)
    return {"cut_at": cut, "kind": VIEWING, "user_idx": user, "other_idx": video, "at": at}


def edge(user: int, neighbour: int, pearson: float, cut: int = CUT) -> dict[str, Any]:
    ends = {"user_idx": user, "other_idx": neighbour}
    return {"cut_at": cut, "kind": EDGE, **ends, "pearson": pearson}


def wanted(user: int, cut: int = CUT) -> dict[str, Any]:
    return {"cut_at": cut, "kind": WANTED, "user_idx": user}


def looked_up(
    rows: list[dict[str, Any]], config: Config = CONFIG, n_users: int = 9, batch: int = 3
) -> dict[tuple[int, int], tuple[str, list[tuple[int, float, float]]]]:
    """By cut and user: where the future is from; its videos, how many days ago each was watched, and weights."""

    def batches() -> Iterator[pa.RecordBatch]:
        for first in range(0, len(rows), batch):
            yield pa.RecordBatch.from_pylist(rows[first : first + batch], schema=ROWS)

    result = {}
    for part in futures.of_tasks(batches(), config=config, n_users=n_users, schema=RESULT):
        for row in part.set_column(0, "cut_at", part["cut_at"].cast(pa.int64())).to_pylist():
            cut = row["cut_at"]
            videos = [
                (video["video_idx"], cut / DAY - video["at"].timestamp() / 86_400, video["weight"])
                for video in row["future"]
            ]
            result[cut, row["user_idx"]] = (row["future_from"], videos)
    return result


def fresh(days_ago: float) -> float:
    return math.exp(-days_ago / CONFIG.tau_days)


def test_futures_are_what_neighbours_watched_after_the_anchor() -> None:
    rows = [
        *(viewing(0, 1, 9), viewing(0, 2, 8)),
        *(viewing(1, 1, 5), viewing(1, 3, 4), viewing(1, 2, 3)),
        *(viewing(2, 2, 7), viewing(2, 3, 2), viewing(2, 4, 1)),
        *(edge(0, 1, 0.5), edge(0, 2, 0.25), wanted(0)),
    ]
    after = [
        (3, 2, 0.5 * fresh(4) + 0.25 * fresh(2)),  # of both neighbours; the later instant
        (4, 1, 0.25 * fresh(1)),
    ]
    ((source, videos),) = looked_up(rows).values()
    assert source == "neighbours"
    assert videos == [tuple(map(pytest.approx, video)) for video in after]


def test_futures_without_neighbours_are_what_anybody_watched_next() -> None:
    rows = [
        *(viewing(0, 1, 9), wanted(0), wanted(3)),
        *(viewing(1, 1, 5), viewing(1, 3, 4)),
        *(viewing(2, 1, 7), viewing(2, 3, 2), viewing(2, 4, 1)),
    ]
    found = looked_up(rows)
    assert set(found) == {(CUT, 0)}, "who has watched nothing has no future"
    source, videos = found[CUT, 0]
    assert (source, [video for video, *_ in videos]) == ("successors", [3, 4])
    assert videos[0][2] == pytest.approx(fresh(4) + fresh(2))
    narrow = looked_up(rows, CONFIG.model_copy(update={"n_successors": 1}))
    assert [video for video, *_ in narrow[CUT, 0][1]] == [3]


def test_futures_leave_out_bots_and_all_but_the_latest_viewers() -> None:
    rows = [
        *(viewing(0, 1, 9), wanted(0)),
        *(viewing(1, 1, 5), viewing(1, 2, 4)),
        *(viewing(2, 1, 7), viewing(2, 3, 2)),
        *(viewing(3, 1, 6), *(viewing(3, video, 1) for video in range(4, 8))),
    ]
    everybody = looked_up(rows)[CUT, 0][1]
    assert {video for video, *_ in everybody} == set(range(2, 8))
    usual = looked_up(rows, CONFIG.model_copy(update={"activity_quantile": 0.7}))[CUT, 0][1]
    assert {video for video, *_ in usual} == {2, 3}
    latest = looked_up(rows, CONFIG.model_copy(update={"touch_cap": 1}))[CUT, 0][1]
    assert {video for video, *_ in latest} == {2}


def test_futures_of_tasks_in_one_partition_are_those_of_each_alone() -> None:
    generator = np.random.default_rng(5)
    tasks = [
        [
            *(
                viewing(int(user), int(video), float(days), cut)
                for user, video, days in zip(
                    generator.integers(0, 9, 60),
                    generator.integers(0, 20, 60),
                    generator.uniform(0.1, 20, 60),
                    strict=True,
                )
            ),
            *(edge(user, (user + 1) % 9, 0.5, cut) for user in range(0, 9, 2)),
            *(wanted(user, cut) for user in range(9)),
        ]
        for cut in (CUT, CUT + DAY)
    ]
    alone = {**looked_up(tasks[0]), **looked_up(tasks[1])}
    mixed = [row for pair in zip(*tasks, strict=True) for row in pair]
    together = [mixed[place] for place in generator.permutation(len(mixed))]
    assert looked_up(together) == looked_up(together, batch=1000) == alone
    assert {source for source, _ in alone.values()} == {"neighbours", "successors"}
    assert looked_up([]) == {}
