"""Worlds in which one row, user or video is out of all proportion, each through a whole night: nobody else pays for it.

`test_night_without_vectors.py` has the world in which nobody delivers vectors.
"""

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from microrec.config.settings import settings
from microrec.errors import GateHeld
from microrec.landing import write
from microrec.release import reader
from microrec.synth.world import Config, Part, generate
from microrec.tables.arrow import Warehouse
from tests.worlds.nights import run_night

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.long]

FIRST = dt.date(2026, 1, 1)
N_DAYS = 4
LAST = FIRST + dt.timedelta(days=N_DAYS - 1)
N_USERS, N_VIDEOS = 60, 90
RECIPE = """
[night]
window_days = 4
k = {k}
models = ["popularity", "content", "video_neighbours"]

[evaluation.gate]
better_than_popularity = -1.0
"""
BUSY, POPULAR, GIANT = "busy", "v_popular", "v_giant"
N_BUSY = 2_000
"""Viewings of the busy user a day; all others together have some 500."""
Change = Callable[[str, dt.date, pa.Table], pa.Table]


@pytest.fixture
def recipe(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def write_recipe(k: int) -> None:
        (place / "recipe.toml").write_text(RECIPE.format(k=k))
        monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
        settings.cache_clear()

    return write_recipe


def planted(seed: int = 5) -> list[Part]:
    config = Config(
        users=N_USERS,
        videos=N_VIDEOS,
        days=N_DAYS,
        first_day=FIRST,
        dirt_per_kind=0,
        formats=("parquet",),
    )
    return list(generate(config, np.random.default_rng(seed)).parts)


def lay(place: Path, parts: list[Part], change: Change) -> None:
    changed = [
        part
        if part.rows is None
        else dataclasses.replace(part, rows=change(part.table, part.day, part.rows))
        for part in parts
    ]
    write.write_world(str(place / "landing"), changed)


def renamed(rows: pa.Table, column: str, names: dict[str, str]) -> pa.Table:
    if column not in rows.column_names:
        return rows
    values = [names.get(value, value) for value in rows[column].to_pylist()]
    at = rows.schema.get_field_index(column)
    return rows.set_column(at, column, pa.array(values, pa.string()))


def viewing(
    schema: pa.Schema, user: str, video: str, at: dt.datetime, **changes: Any
) -> dict[str, Any]:
    row = {
        "user_id": user,
        "video_id": video,
        "started_at": at,
        "watch_ms": 6000,
        "duration_ms": 8000,
    }
    row |= {"event_id": f"{user} {video} {at.isoformat()}", **changes}
    return {name: row.get(name) for name in schema.names}


def with_rows(rows: pa.Table, added: list[dict[str, Any]]) -> pa.Table:
    return pa.concat_tables([rows, pa.Table.from_pylist(added, schema=rows.schema)])


class Oddities:
    """One user with very many viewings, a video that all have seen, a giant vector, a user and a video named nan."""

    def __init__(self, parts: list[Part]) -> None:
        first = next(part for part in parts if part.table == "raw_videos" and part.day == FIRST)
        assert first.rows is not None
        rows = first.rows.to_pylist()
        self.videos = [row["video_id"] for row in rows if row["eligible"] and row["duration_ms"]]
        self.users = user_ids(parts)
        self.video_names = dict(zip(self.videos, (POPULAR, GIANT, "nan"), strict=False))
        self.user_names = dict(zip(self.users, (BUSY, "nan"), strict=False))
        self.rng = np.random.default_rng(3)

    def change(self, table: str, day: dt.date, rows: pa.Table) -> pa.Table:
        rows = renamed(rows, "video_id", self.video_names)
        rows = renamed(rows, "user_id", self.user_names)
        if table == "raw_video_features":
            return giant(rows)
        # A day has a second file of late lines.
        is_main = table == "raw_interactions" and rows.num_rows > N_USERS
        return with_rows(rows, self.viewings(rows.schema, day)) if is_main else rows

    def viewings(self, schema: pa.Schema, day: dt.date) -> list[dict[str, Any]]:
        morning = dt.datetime.combine(day, dt.time(2), dt.UTC)
        starts = [morning + dt.timedelta(seconds=20 * n) for n in range(N_BUSY)]
        some = [
            self.video_names.get(video, video)
            for video in self.rng.choice(self.videos[:30], N_BUSY)
        ]
        busy = [
            viewing(schema, BUSY, video, at, liked=n % 7 == 0)
            for n, (video, at) in enumerate(zip(some, starts, strict=True))
        ]
        users = [self.user_names.get(user, user) for user in self.users]
        return busy + [
            viewing(schema, user, POPULAR, at, liked=True)
            for user, at in zip(users, starts, strict=False)
        ]


@pytest.mark.usefixtures("spark")
def test_night_of_one_busy_user_one_video_of_all_a_giant_vector_and_a_nan_is_released(
    place: Path, recipe: Callable[[int], None]
) -> None:
    """In one night: beside them, K is above the number of videos, so each user's list is all that is left."""
    recipe(500)
    parts = planted()
    lay(place, parts, Oddities(parts).change)
    run_night(LAST)
    warehouse = Warehouse.open()
    days = [FIRST + dt.timedelta(days=n) for n in range(N_DAYS)]
    events = pa.concat_tables([warehouse.read("events", arrived_on=day) for day in days])
    viewed: dict[str, set[str]] = {}
    for row in events.select(["user_id", "video_id"]).to_pylist():
        viewed.setdefault(row["user_id"], set()).add(row["video_id"])
    for user in warehouse.read("suppressed_users", day=LAST)["user_id"].to_pylist():
        viewed.pop(user, None)
    catalogue = warehouse.read("videos", day=LAST)
    eligible = set(catalogue.filter(catalogue["eligible"])["video_id"].to_pylist())
    lists = lists_of(LAST)
    assert {BUSY, "nan"} <= set(viewed)
    assert {user: set(lists.get(user, [])) for user in viewed} == {
        user: eligible - videos for user, videos in viewed.items()
    }
    assert "nan" in {video for videos in lists.values() for video in videos}
    assert sum(POPULAR in videos for videos in viewed.values()) == len(viewed)
    assert Counter(events["user_id"].to_pylist()).most_common(1)[0][0] == BUSY
    check_giant(warehouse)


def lists_of(day: dt.date) -> dict[str, list[str]]:
    """Released videos of each user, best first."""
    lists: dict[str, list[str]] = {}
    for row in sorted(
        reader.of(day).read("recommendations").to_pylist(), key=lambda row: row["rank"]
    ):
        lists.setdefault(row["user_id"], []).append(row["video_id"])
    return lists


def user_ids(parts: list[Part]) -> list[str]:
    return sorted(
        {
            user
            for part in parts
            if part.table == "raw_interactions" and part.rows is not None
            for user in part.rows["user_id"].to_pylist()
            if user
        }
    )


def giant(rows: pa.Table) -> pa.Table:
    """The visual vector of one video is 10^30 times as long; its square is beyond any float of 32 bits."""
    vectors = [
        [1e30 * x for x in row["vector"]]
        if row["video_id"] == GIANT and row["modality"] == "visual" and row["vector"]
        else row["vector"]
        for row in rows.to_pylist()
    ]
    at = rows.schema.get_field_index("vector")
    return rows.set_column(at, "vector", pa.array(vectors, rows["vector"].type))


def check_giant(warehouse: Warehouse) -> None:
    """The direction of the giant counts like any other, and the other vectors keep their edges."""
    features = warehouse.read("video_features", day=LAST, modality="visual")
    vectors = {row["video_id"]: np.array(row["vector"], np.float64) for row in features.to_pylist()}
    assert np.abs(vectors[GIANT]).max() > 1e29
    edges = warehouse.read("modality_edges", day=LAST).to_pylist()
    visual = [row for row in edges if row["modality"] == "visual"]
    sides = {row[name] for row in visual for name in row if name.endswith("video_idx")}
    assert len(sides) > 0.8 * len([v for v in vectors.values() if np.abs(v).max() > 0])


@pytest.mark.usefixtures("spark")
def test_night_of_users_who_are_all_alike_is_held_and_says_how_to_overrule(
    place: Path, recipe: Callable[[int], None]
) -> None:
    """All have watched the same videos and nobody any other: of what is left, no source knows what is better."""
    recipe(10)
    parts = planted()
    users = user_ids(parts)[:40]
    videos = [f"v{n:06d}" for n in range(12)]

    def change(table: str, day: dt.date, rows: pa.Table) -> pa.Table:
        if table == "raw_privacy_requests":
            return rows.slice(0, 0)
        if table != "raw_interactions":
            return rows
        at = dt.datetime.combine(day, dt.time(9), dt.UTC)
        chosen = videos[3 * (day - FIRST).days :][:3]
        return with_rows(
            rows.slice(0, 0),
            [
                viewing(rows.schema, user, video, at + dt.timedelta(minutes=n), liked=True)
                for user in users
                for n, video in enumerate(chosen)
            ],
        )

    lay(place, [part for part in parts if part.table != "raw_privacy_requests"], change)
    with pytest.raises(
        GateHeld, match=r"dead_sources .*equal scores: .*video_neighbours.*MICROREC_PROMOTE"
    ):
        run_night(LAST)
    assert not Warehouse.open().partitions("recommendations")
