"""`clip_interest` and `exit_points` equal a slow account of the same curves, video by video."""

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from microrec.config.settings import HOME
from microrec.errors import MicrorecError
from microrec.insights import clips
from microrec.tables import checks, contract

N_VIDEOS = 30


def nodes(generator: np.random.Generator) -> pa.Table:
    """Videos in any order; every fifth has no clips, every fourth is not eligible, one clip is empty."""
    ends = [
        np.cumsum(generator.integers(1, 6000, size=0 if n % 5 == 0 else n % 7 + 1)).tolist()
        for n in range(N_VIDEOS)
    ]
    ends[9] = [1, 1, 2]
    rows = pa.table(
        {
            "video_idx": pa.array(range(N_VIDEOS), pa.int32()),
            "video_id": [f"v{n:02d}" for n in range(N_VIDEOS)],
            "eligible": [n % 4 > 0 for n in range(N_VIDEOS)],
            "clip_ends_ms": pa.array(ends, pa.list_(pa.int64())),
        }
    )
    return rows.take(pa.array(generator.permutation(N_VIDEOS)))


def one_video(*ends: int) -> clips.Catalogue:
    return clips.catalogue(
        pa.table(
            {
                "video_idx": pa.array([0], pa.int32()),
                "video_id": ["v"],
                "eligible": [True],
                "clip_ends_ms": pa.array([list(ends)], pa.list_(pa.int64())),
            }
        )
    )


def falling(generator: np.random.Generator, known: clips.Catalogue, n: int = 3) -> np.ndarray:
    """Retention curves of n segments, some of which never fall to a half, some at once to nothing."""
    stays = generator.random((n, len(known.end_ms))) ** generator.choice([0.05, 1.0])
    stays[:, generator.random(len(known.end_ms)) < 0.05] = 0.0
    for video, start in enumerate(known.first[:-1]):
        own = slice(start, known.first[video + 1])
        stays[:, own] = np.cumprod(stays[:, own], axis=1)
    return stays


def of(*sizes: int) -> clips.Segments:
    return clips.Segments(np.array(sizes), [np.arange(min(size, 32)) for size in sizes])


def videos_of(table: pa.Table) -> list[dict[str, Any]]:
    """Videos that are told, by index, with the places of their clips among all."""
    rows, first = sorted(table.to_pylist(), key=lambda one: one["video_idx"]), 0
    for row in rows:
        row["places"] = range(first, first + len(row["clip_ends_ms"]))
        row["starts"] = [0, *row["clip_ends_ms"]]
        first += len(row["clip_ends_ms"])
    return [row for row in rows if row["eligible"] and row["clip_ends_ms"]]


def clips_slowly(
    table: pa.Table, curve: np.ndarray, reached: np.ndarray, left: np.ndarray
) -> list[dict[str, Any]]:
    """`clip_interest`, one clip at a time."""
    found = []
    for video in videos_of(table):
        before = 1.0
        for number, place in enumerate(video["places"]):
            here = float(curve[place])
            start, end = video["starts"][number], video["clip_ends_ms"][number]
            if end > start:
                found.append(
                    {
                        "video_id": video["video_id"],
                        "clip_no": number,
                        "start_ms": start,
                        "end_ms": end,
                        "interest": here,
                        "skip_hazard": 1 - here / before if before else 1.0,
                        "n_reached": int(reached[place]),
                        "n_left": int(left[place]),
                        "is_predicted": reached[place] == 0,
                    }
                )
                before = here
    return found


def exits_slowly(table: pa.Table, segment: str, curve: np.ndarray) -> list[dict[str, Any]]:
    """`exit_points` of a segment, one clip at a time."""
    found = []
    for video in videos_of(table):
        before, expected, exit_at = 1.0, 0.0, None
        for number, place in enumerate(video["places"]):
            start, end = video["starts"][number], video["clip_ends_ms"][number]
            here = float(curve[place])
            expected += (end - start) * (before + here) / 2
            if exit_at is None and here <= 0.5:
                exit_at = round(start + (before - 0.5) / (before - here) * (end - start)), number
            before = here
        at, number = exit_at or (video["clip_ends_ms"][-1], len(video["places"]) - 1)
        found.append(
            {
                "segment": segment,
                "video_id": video["video_id"],
                "exit_ms": at,
                "exit_clip_no": number,
                "completed": before,
                "expected_watch_ms": expected,
            }
        )
    return found


def same(found: list[dict[str, Any]], right: list[dict[str, Any]], *close: str) -> None:
    assert len(found) == len(right) > 0
    for one, other in zip(found, right, strict=True):
        for name in close:
            assert one.pop(name) == pytest.approx(other.pop(name), abs=1e-9), name
        assert one == other


@pytest.mark.parametrize("seed", range(6))
def test_clip_interest_rows_equal_a_loop(seed: int) -> None:
    generator = np.random.default_rng(seed)
    table = nodes(generator)
    known = clips.catalogue(table)
    n_clips, sizes = len(known.end_ms), (5, 70, 25)
    retention = falling(generator, known)
    clip, through = generator.integers(0, n_clips, size=150), generator.random(150) < 0.7
    curves = clips.curves(retention, of(*sizes))
    reached, left = clips.counts(clip, through, n_clips)
    whole = sum(size / 100 * curve for size, curve in zip(sizes, retention, strict=True))
    right = dict(zip((clips.EVERYONE, *clips.SEGMENTS), (whole, *retention), strict=True))
    slowly = [[sum(clip == place), sum((clip == place) & ~through)] for place in range(n_clips)]
    same(
        clips.interest(curves[clips.EVERYONE], known, reached=reached, left=left).to_pylist(),
        clips_slowly(table, whole, *np.array(slowly).T),
        "interest",
        "skip_hazard",
    )
    same(
        clips.exits(curves, known).to_pylist(),
        [row for name, curve in right.items() for row in exits_slowly(table, name, curve)],
        "completed",
        "expected_watch_ms",
    )


def test_interest_is_the_product_of_survivals() -> None:
    generator = np.random.default_rng(7)
    known = clips.catalogue(nodes(generator))
    curve = clips.curves(falling(generator, known), of(1, 1, 1))[clips.EVERYONE]
    nobody = np.zeros(len(curve), dtype=np.int64)
    passed: dict[str, float] = {}
    for row in clips.interest(curve, known, reached=nobody, left=nobody).to_pylist():
        video = row["video_id"]
        passed[video] = passed.get(video, 1.0) * (1 - row["skip_hazard"])
        assert passed[video] == pytest.approx(row["interest"], abs=1e-12)
        assert row["is_predicted"]


@pytest.mark.parametrize(
    ("curve", "exit_ms", "number", "expected"),
    [
        ((0.8, 0.4, 0.2), 5000 + 5000 * 3 // 4, 1, 4500 + 3000 + 600),
        ((0.9, 0.5, 0.5), 10_000, 1, 4750 + 3500 + 1000),
        ((0.0, 0.0, 0.0), 2500, 0, 2500),
        ((0.9, 0.8, 0.7), 12_000, 2, 4750 + 4250 + 1500),
        ((1.0, 1.0, 1.0), 12_000, 2, 12_000),
    ],
)
def test_exit_point_half_of_a_known_curve_at_a_known_instant(
    curve: tuple[float, ...], exit_ms: int, number: int, expected: float
) -> None:
    known = one_video(5000, 10_000, 12_000)
    (row,) = clips.exits({"stays": np.array(curve)}, known).to_pylist()
    assert (row["exit_ms"], row["exit_clip_no"], row["completed"]) == (exit_ms, number, curve[-1])
    assert row["expected_watch_ms"] == pytest.approx(expected)


def test_segments_empty_has_no_rows_and_all_is_the_mean_of_others() -> None:
    known = one_video(1000)
    curves = clips.curves(np.array([[0.2], [np.nan], [0.8]]), of(1, 0, 3))
    rows = clips.exits(curves, known).to_pylist()
    assert [row["segment"] for row in rows] == ["__global__", "leaves_early", "stays"]
    assert rows[0]["completed"] == pytest.approx(0.65)


def test_predictions_not_finite_are_refused() -> None:
    with pytest.raises(MicrorecError, match="1 shares of viewers are not finite"):
        clips.curves(np.array([[0.2, np.nan], [np.nan, np.nan], [0.8, 0.1]]), of(1, 0, 3))


def test_segments_are_thirds_and_unknown_users_typical() -> None:
    served = np.array([3, 5, 7, 8, 11, 12, 20, 21])
    stays = np.array([0.5, -1.0, np.nan, 0.1, 2.0, -0.2, 0.0, np.nan])
    found = clips.segments(served, stays, config=clips.Config(), rng=np.random.default_rng(0))
    assert [some.tolist() for some in found.sample] == [[5, 12], [7, 8, 20, 21], [3, 11]]
    assert found.size.tolist() == [2, 4, 2]


@pytest.mark.parametrize(
    ("stays", "sizes"),
    [
        ([0.0] * 4 + [1.0] * 5, [4, 0, 5]),
        ([0.0, 0.0, 1.0], [0, 2, 1]),
        ([0.0] * 8 + [1.0], [0, 8, 1]),
    ],
)
def test_segments_equal_users_share_one(stays: list[float], sizes: list[int]) -> None:
    served, generator = np.arange(len(stays)), np.random.default_rng(0)
    found = clips.segments(served, np.array(stays), config=clips.Config(), rng=generator)
    assert found.size.tolist() == sizes


@pytest.mark.parametrize("stays", [[], [np.nan] * 4, [0.3] * 4, [0.3]])
def test_segments_without_differences_are_typical(stays: list[float]) -> None:
    served, generator = np.arange(len(stays)), np.random.default_rng(0)
    found = clips.segments(served, np.array(stays), config=clips.Config(), rng=generator)
    assert found.size.tolist() == [0, len(stays), 0]


def test_sample_is_distinct_members_and_repeatable() -> None:
    served, stays = np.arange(100, 400), np.linspace(-1, 1, 300)

    def drawn(seed: int) -> clips.Segments:
        generator, config = np.random.default_rng(seed), clips.Config(sample=7)
        return clips.segments(served, stays, config=config, rng=generator)

    found = drawn(1)
    assert found.size.tolist() == [100, 100, 100]
    for at, some in enumerate(found.sample):
        assert len(set(some.tolist())) == 7
        assert set(some.tolist()) <= set(range(100 + 100 * at, 200 + 100 * at))
    assert all(map(np.array_equal, found.sample, drawn(1).sample))
    assert not all(map(np.array_equal, found.sample, drawn(2).sample))


@pytest.mark.parametrize("sizes", [(2, 3, 4), (0, 0, 0)])
def test_clip_rows_keep_the_contracts_and_no_users_give_none(sizes: tuple[int, ...]) -> None:
    generator = np.random.default_rng(1)
    known = clips.catalogue(nodes(generator))
    retention = falling(generator, known)
    retention[np.array(sizes) == 0] = np.nan
    curves = clips.curves(retention, of(*sizes))
    nobody = np.zeros(len(known.end_ms), dtype=np.int64)
    told = {
        "clip_interest": clips.interest(curves[clips.EVERYONE], known, reached=nobody, left=nobody),
        "exit_points": clips.exits(curves, known),
    }
    for table, rows in told.items():
        promise = contract.load(HOME / "schemas", table)
        assert (rows.num_rows > 0) == any(sizes)
        day = pa.array([dt.date(2026, 1, 10)] * rows.num_rows, pa.date32())
        whole = rows.append_column("day", day).select(promise.schema.names)
        assert whole.schema.types == promise.schema.types
        assert not any(verdict.broken for verdict in checks.evaluate(promise, whole))


def test_clip_rows_without_clips_are_none() -> None:
    known, nothing = one_video(), np.zeros(0, dtype=np.int64)
    curves = clips.curves(np.zeros((3, 0)), of(1, 1, 1))
    whole = clips.interest(curves[clips.EVERYONE], known, reached=nothing, left=nothing)
    assert whole.num_rows == clips.exits(curves, known).num_rows == 0


def test_interest_counts_of_few_people_are_null() -> None:
    known = clips.catalogue(nodes(np.random.default_rng(1)))
    n_clips = len(known.end_ms)
    reached = np.arange(n_clips)
    left = np.arange(n_clips) // 2
    curve = np.linspace(0.9, 0.1, n_clips)
    every = clips.interest(curve, known, reached=reached, left=left).to_pylist()
    floored = clips.interest(curve, known, reached=reached, left=left, least_people=5).to_pylist()
    for one, other in zip(every, floored, strict=True):
        for name in ("n_reached", "n_left"):
            assert other[name] == (None if 0 < one[name] < 5 else one[name])
        assert other["is_predicted"] == one["is_predicted"] == (one["n_reached"] == 0)
