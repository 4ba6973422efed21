"""`user_trends` equals a slow account of the same viewings, user by user."""

import datetime as dt
import math
from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from microrec.config.settings import HOME
from microrec.insights import trends
from microrec.tables import checks, contract

UNTIL = dt.datetime(2026, 1, 11, tzinfo=dt.UTC)
N_USERS, N_VIDEOS = 12, 30
CONFIG = trends.Config(n_tags=3, n_videos=2)


def catalogue(generator: np.random.Generator) -> trends.Catalogue:
    """Videos of which some are not eligible, some have no tags, one is not in `videos`."""
    ids = [f"v{number:02d}" for number in range(N_VIDEOS)]
    nodes = pa.table(
        {
            "video_idx": pa.array(range(N_VIDEOS), pa.int32()),
            "video_id": ids,
            "eligible": [number % 4 > 0 for number in range(N_VIDEOS)],
        }
    )
    tags = [sorted({f"t{t}" for t in generator.integers(0, 6, size=n % 4)}) for n in range(29)]
    tags[3] = None
    order = generator.permutation(29)
    videos = pa.table(
        {
            "video_id": [ids[n] for n in order],
            "tags": pa.array([tags[n] for n in order], pa.list_(pa.string())),
        }
    )
    return trends.catalogue(nodes.take(pa.array(generator.permutation(N_VIDEOS))), videos)


def members(generator: np.random.Generator, n: int = 150) -> pa.Table:
    """Viewings of trends: masses of halves and ones, some instants equal."""
    hours = generator.integers(1, 240, size=n)
    at = [UNTIL - dt.timedelta(hours=int(one)) for one in hours]
    return pa.table(
        {
            "user_idx": pa.array(generator.integers(0, N_USERS, size=n), pa.int32()),
            "trend": pa.array(generator.integers(0, 3, size=n), pa.int32()),
            "video_idx": pa.array(generator.integers(0, N_VIDEOS, size=n), pa.int32()),
            "mass": pa.array(generator.choice([0.5, 1.0], size=n), pa.float64()),
            "at": pa.array(at, pa.timestamp("us", "UTC")),
        }
    )


def users() -> pa.Table:
    index = list(range(N_USERS))[::-1]
    return pa.table({"user_idx": pa.array(index, pa.int32()), "user_id": [f"u{i}" for i in index]})


def told(rows: pa.Table, known: trends.Catalogue, served: list[int], **config: Any) -> pa.Table:
    return trends.describe(
        rows,
        users=users(),
        served=np.array(served),
        catalogue=known,
        until=UNTIL,
        config=CONFIG.model_copy(update=config),
    )


def slowly(rows: pa.Table, known: trends.Catalogue, user: int) -> list[dict[str, Any]]:
    """A user's rows, one viewing at a time."""
    mine = [one for one in rows.to_pylist() if one["user_idx"] == user]
    mine.sort(key=lambda one: (-one["at"].timestamp(), one["video_idx"]))
    whole, passed = sum(one["mass"] for one in mine), 0.0
    for one in mine:
        one["newer"] = passed + one["mass"] / 2 <= whole / 2
        passed += one["mass"]
    halves = {half: sum(o["mass"] for o in mine if o["newer"] == half) for half in (True, False)}
    found = []
    for trend in sorted({one["trend"] for one in mine}):
        held = [one for one in mine if one["trend"] == trend]
        mass = sum(one["mass"] for one in held)
        share = {h: sum(o["mass"] for o in held if o["newer"] == h) for h in (True, False)}
        change = 0.0
        if all(halves.values()):
            change = share[True] / halves[True] - share[False] / halves[False]
        ages = [(UNTIL - one["at"]).total_seconds() / 3600 for one in held]
        mean = sum(a * o["mass"] for a, o in zip(ages, held, strict=True)) / mass
        half_life = min(max(math.log(2) * mean, 6.0), 336.0)
        tags: dict[str, float] = defaultdict(float)
        videos: dict[str, float] = defaultdict(float)
        for one in held:
            for tag in known.tags[one["video_idx"]].as_py() or []:
                tags[tag] += one["mass"]
            row = known.videos.slice(one["video_idx"], 1).to_pylist()[0]
            if row["eligible"]:
                videos[row["video_id"]] += one["mass"]
        found.append(
            {
                "user_id": f"u{user}",
                "trend": trend,
                "weight": mass / whole,
                "direction": "rising" if change > 0.1 else "fading" if change < -0.1 else "steady",
                "change": change,
                "n_viewings": len(held),
                "tags": sorted(tags, key=lambda name: (-tags[name], name))[:3],
                "videos": sorted(videos, key=lambda name: (-videos[name], name))[:2],
                "latest_at": max(one["at"] for one in held),
                "half_life_hours": half_life,
                "valid_until": UNTIL + dt.timedelta(hours=half_life),
            }
        )
    found.sort(key=lambda one: -one["weight"])
    return [{**one, "rank": rank} for rank, one in enumerate(found, start=1)]


@pytest.mark.parametrize("seed", range(4))
def test_user_trends_rows_equal_a_loop(seed: int) -> None:
    generator = np.random.default_rng(seed)
    known, rows = catalogue(generator), members(generator)
    served = [user for user in range(N_USERS) if user != 5]
    found = told(rows, known, served).to_pylist()
    right = [one for user in served for one in slowly(rows, known, user)]
    assert len(found) == len(right) > N_USERS
    for one, other in zip(found, right, strict=True):
        instants = abs((one.pop("valid_until") - other.pop("valid_until")).total_seconds())
        assert instants < 1e-3
        for name in ("weight", "change", "half_life_hours"):
            assert one.pop(name) == pytest.approx(other.pop(name), abs=1e-9), name
        assert one == other
    assert {one["direction"] for one in found} == set(trends.DIRECTIONS)


def test_user_trends_order_of_viewings_does_not_matter() -> None:
    generator = np.random.default_rng(9)
    known, rows = catalogue(generator), members(generator)
    first = told(rows, known, list(range(N_USERS)))
    again = told(rows.take(pa.array(generator.permutation(150))), known, list(range(N_USERS)))
    assert first.equals(again)


def test_trend_of_new_viewings_rises_and_ends_soon() -> None:
    known = catalogue(np.random.default_rng(0))
    hours, kind = [1, 2, 3, 100, 150, 200], [0, 0, 0, 1, 1, 1]
    rows = pa.table(
        {
            "user_idx": pa.array([2] * 6, pa.int32()),
            "trend": pa.array(kind, pa.int32()),
            "video_idx": pa.array([1, 2, 3, 5, 6, 7], pa.int32()),
            "mass": [1.0] * 6,
            "at": pa.array(
                [UNTIL - dt.timedelta(hours=h) for h in hours], pa.timestamp("us", "UTC")
            ),
        }
    )
    new, old = told(rows, known, [2], min_half_life_hours=0.5).to_pylist()
    assert (new["direction"], new["change"], new["weight"]) == ("rising", 1.0, 0.5)
    assert (old["direction"], old["change"]) == ("fading", -1.0)
    assert new["half_life_hours"] == pytest.approx(2 * math.log(2))
    assert old["half_life_hours"] == pytest.approx(150 * math.log(2))
    assert new["valid_until"] < old["valid_until"]


def test_user_trends_keep_the_contract_and_no_users_give_none() -> None:
    generator = np.random.default_rng(1)
    known, promise = catalogue(generator), contract.load(HOME / "schemas", "user_trends")
    for served in (list(range(N_USERS)), []):
        rows = told(members(generator), known, served)
        assert (rows.num_rows > 0) == bool(served)
        day = pa.array([dt.date(2026, 1, 10)] * rows.num_rows, pa.date32())
        whole = rows.append_column("day", day).select(promise.schema.names)
        assert whole.schema.types == promise.schema.types
        assert not any(verdict.broken for verdict in checks.evaluate(promise, whole))
