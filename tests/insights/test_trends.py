"""`user_trends` equals a slow account of the same viewings, user by user."""

import datetime as dt
import math
from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
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
    """Viewings of trends: masses of halves and ones, some instants equal; user 7 has none of their own."""
    user = generator.integers(0, N_USERS, size=n)
    hours = generator.integers(1, 240, size=n)
    at = [UNTIL - dt.timedelta(hours=int(one)) for one in hours]
    return pa.table(
        {
            "user_idx": pa.array(user, pa.int32()),
            "trend": pa.array(generator.integers(0, 3, size=n), pa.int32()),
            "video_idx": pa.array(generator.integers(0, N_VIDEOS, size=n), pa.int32()),
            "mass": pa.array(generator.choice([0.5, 1.0], size=n), pa.float64()),
            "own": pa.array((generator.random(n) < 0.6) & (user != 7)),
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


def slowly(
    rows: pa.Table, known: trends.Catalogue, user: int, certainty: float
) -> list[dict[str, Any]]:
    """A user's rows, one viewing at a time."""
    every = [one for one in rows.to_pylist() if one["user_idx"] == user]
    mine = [one for one in every if one["own"]] or list(every)
    mine.sort(key=lambda one: (-one["at"].timestamp(), one["video_idx"]))
    whole = sum(one["mass"] for one in mine)
    middle = np.cumsum([one["mass"] for one in mine]) - [one["mass"] / 2 for one in mine]
    halves = {
        half: [one for one, at in zip(mine, middle, strict=True) if (at <= whole / 2) == half]
        for half in (True, False)
    }
    found = []
    for trend in sorted({one["trend"] for one in every}):
        held = [one for one in every if one["trend"] == trend]
        own = [one for one in mine if one["trend"] == trend]
        weight = sum(one["mass"] for one in own) / whole
        change, least = 0.0, 0.0
        if all(halves.values()):
            shares = [
                sum(o["mass"] for o in half if o["trend"] == trend) / sum(o["mass"] for o in half)
                for half in halves.values()
            ]
            change = shares[0] - shares[1]
            spread = weight * (1 - weight) * sum(1 / len(half) for half in halves.values())
            least = max(0.1, certainty * math.sqrt(spread))
        timed = own or held
        mass = sum(o["mass"] for o in timed)
        ages = [(UNTIL - one["at"]).total_seconds() / 3600 for one in timed]
        mean = sum(a * o["mass"] for a, o in zip(ages, timed, strict=True)) / mass
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
                "weight": weight,
                "direction": "rising"
                if change > least
                else "fading"
                if change < -least
                else "steady",
                "change": change,
                "n_viewings": sum(one["own"] for one in held),
                "tags": sorted(tags, key=lambda name: (-tags[name], name))[:3],
                "videos": sorted(videos, key=lambda name: (-videos[name], name))[:2],
                "latest_at": max(one["at"] for one in timed),
                "half_life_hours": half_life,
                "valid_until": UNTIL + dt.timedelta(hours=half_life),
            }
        )
    found.sort(key=lambda one: -one["weight"])
    return [{**one, "rank": rank} for rank, one in enumerate(found, start=1)]


@pytest.mark.parametrize(("seed", "certainty"), [(0, 0.0), (1, 0.5), (2, 0.5), (3, 1.0)])
def test_user_trends_rows_equal_a_loop(seed: int, certainty: float) -> None:
    generator = np.random.default_rng(seed)
    known, rows = catalogue(generator), members(generator)
    served = [user for user in range(N_USERS) if user != 5]
    found = told(rows, known, served, certainty=certainty).to_pylist()
    right = [one for user in served for one in slowly(rows, known, user, certainty)]
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
            "own": [True] * 6,
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


def drifting(shares: np.ndarray, generator: np.random.Generator) -> pa.Table:
    """A viewing every six hours of five days, of users whose trends have these shares each day. [n_days, n_trends]."""
    day, user = np.divmod(np.arange(len(shares) * 4 * 400), 4 * 400)
    drawn = [generator.choice(shares.shape[1], p=shares[of_day]) for of_day in day]
    hours = (len(shares) - day) * 24 - user % 4 * 6
    return pa.table(
        {
            "user_idx": pa.array(user // 4, pa.int32()),
            "trend": pa.array(drawn, pa.int32()),
            "video_idx": pa.array(user % N_VIDEOS, pa.int32()),
            "mass": np.ones(len(day)),
            "own": np.ones(len(day), dtype=np.bool_),
            "at": pa.array(
                [UNTIL - dt.timedelta(hours=int(h)) for h in hours], pa.timestamp("us", "UTC")
            ),
        }
    )


def test_planted_drifts_are_found_and_steady_tastes_left_alone() -> None:
    """Of 400 users, each with 20 viewings: a third trend is there so that the first can go."""
    generator = np.random.default_rng(3)
    known, ids = catalogue(generator), [f"u{number:03d}" for number in range(400)]
    named = pa.table({"user_idx": pa.array(range(400), pa.int32()), "user_id": ids})

    def directions(shares: np.ndarray, **config: Any) -> np.ndarray:
        rows = trends.describe(
            drifting(shares, generator),
            users=named,
            served=np.arange(400),
            catalogue=known,
            until=UNTIL,
            config=CONFIG.model_copy(update=config),
        ).to_pandas()
        counted = pd.crosstab(rows["trend"], rows["direction"], normalize="index")
        return counted.reindex(columns=[*trends.DIRECTIONS], fill_value=0.0).to_numpy()

    away = np.linspace(0.8, 0.05, 5)
    moved = directions(np.stack([away, np.full(5, 0.15), 0.85 - away], axis=1))
    assert moved[0, 0] > 0.45  # fading
    assert moved[2, 2] > 0.45  # rising
    assert moved[0, 2] < 0.01
    assert moved[2, 0] < 0.01
    still = directions(np.tile([0.5, 0.3, 0.2], (5, 1)))
    assert still[:, 1].min() > 0.9
    naive = directions(np.tile([0.5, 0.3, 0.2], (5, 1)), certainty=0.0)
    assert naive[:, 1].max() < 0.65, "by the threshold alone chance rises and fades"


def test_what_others_watched_next_weighs_nothing() -> None:
    generator = np.random.default_rng(4)
    known, rows = catalogue(generator), members(generator)
    alone = told(rows.filter(rows["own"]), known, list(range(N_USERS))).to_pandas()
    whole = told(rows, known, list(range(N_USERS))).to_pandas()
    joined = whole.merge(alone, on=["user_id", "trend"], suffixes=("", "_alone"))
    assert len(joined) == len(alone)
    for name in ("weight", "direction", "change", "n_viewings", "half_life_hours", "latest_at"):
        assert (joined[name] == joined[f"{name}_alone"]).all(), name
    assert not joined["tags"].equals(joined["tags_alone"])
    others = whole[whole["n_viewings"] == 0]
    assert len(others[others["user_id"] != "u7"]) > 0
    assert (others.loc[others["user_id"] != "u7", "weight"] == 0).all()
    assert others.loc[others["user_id"] == "u7", "weight"].sum() == pytest.approx(1)


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
