"""A small warehouse in which two people are everywhere that people can be: in tables, pins, models, lines and messages.

`u1` is an author too, is quoted by a caption, a gate and a malformed line; `17` is a number that a video is called as
well. The release of the second day pins rows of `recommendations` that the day has no more: it was run again, and held.
"""

import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import BaseModel

from microrec.config.settings import HOME
from microrec.core import fitted
from microrec.core.fitted import Embeddings, NeighbourLists, Trained
from microrec.release import reader
from microrec.tables.arrow import Warehouse
from microrec.tables.contract import Contract
from tests.worlds.releases import UNTIL, filled, publish

DAYS = [dt.date(2026, 1, 4) + dt.timedelta(days=n) for n in range(3)]
HELD_AGAIN = DAYS[1]
USERS = sorted(["17", "170", "u0", "u1", "u12", "u2"])
GONE = ("17", "u1")
KEPT = [user for user in USERS if user not in GONE]
VIDEOS = ["17", "v1", "v2"]
LINES = [
    '{"user_id": "u1", "video_id": "v1", "started_at": ',
    '{"user_id": 17, "video_id": "v2"',
    '{"user_id": "u12", "video_id": "v1"',
]
DETAIL = "user u1 and user 17 have lists of 17 videos, u12 has none"
CAPTION = "a duet with u1 and u12"


def erasable(place: Path, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """The warehouse of `make`, with a recipe by which an erasure waits for no attempt in progress."""
    recipe = place / "recipe.toml"
    text = (HOME / "microrec.toml").read_text()
    recipe.write_text(f"{text}\n[privacy.erasure]\ngrace_seconds = 0\nabandoned_hours = 0\n")
    monkeypatch.setenv("MICROREC_RECIPE", str(recipe))
    warehouse = Warehouse.open()
    make(warehouse)
    return warehouse


def make(warehouse: Warehouse, days: Sequence[dt.date] = DAYS) -> None:
    """Write some days and their releases.

    Args:
        warehouse: empty.
        days: of the releases.
    """
    for number, day in enumerate(days):
        _events(warehouse, day)
        _graph(warehouse, day)
        _models(warehouse, day, seed=number)
        lists = [user for user in USERS for _ in range(2)]
        listed = {
            "user_id": lists,
            "rank": [1, 2] * len(USERS),
            "video_id": VIDEOS[1:] * len(USERS),
        }
        publish(warehouse, day, len(lists), detail=DETAIL, **listed)
        if day == HELD_AGAIN:
            again = _rows(warehouse, "recommendations", user_id=USERS[::-1], rank=[1] * len(USERS))
            warehouse.write("recommendations", again, day=day)
    kinds = {"u1": "erase", "17": "erase", "u0": "opt_out"}
    asking = _rows(
        warehouse,
        "suppressed_users",
        user_id=[*kinds],
        kind=[*kinds.values()],
        requested_at=[UNTIL] * 3,
    )
    warehouse.write("suppressed_users", asking, day=days[-1])


def _rows(warehouse: Warehouse, table: str, **columns: Any) -> pa.Table:
    n_rows = len(next(iter(columns.values())))
    return filled(warehouse, table, n_rows, **columns)


def _events(warehouse: Warehouse, day: dt.date) -> None:
    viewings = [(user, video) for user in USERS for video in VIDEOS]
    users, videos = zip(*viewings, strict=True)
    events = _rows(
        warehouse, "events", user_id=users, video_id=videos,
        event_id=[f"e{n}" for n in range(len(users))], arrived_on=[day] * len(users),
        feedback=["neutral"] * len(users),
    )  # fmt: skip
    arrived = [{"arrived_on": day}]
    events = events.append_column("day", pa.array([day] * len(users), pa.date32()))
    warehouse.write("events", events, replace=arrived, made_with=[f"files of {day}"])
    refused = _rows(
        warehouse,
        "rejected_rows",
        line=LINES,
        user_id=[None, "17", "u12"],
        rule=["malformed_line"] * 3,
    )
    refused = refused.drop_columns("raw_table")
    warehouse.write("rejected_rows", refused, day=day, raw_table="raw_interactions")
    catalogue = _rows(
        warehouse, "videos", video_id=VIDEOS, author_id=["u1", "u12", None], eligible=[True] * 3,
        caption=["mine", CAPTION, None], tags=[["a", "u1"], ["u1", "b", "17"], None],
    )  # fmt: skip
    warehouse.write("videos", catalogue, day=day)


def _graph(warehouse: Warehouse, day: dt.date) -> None:
    indices = [*range(len(USERS))]
    users = _rows(warehouse, "users", user_idx=indices, user_id=USERS)
    warehouse.write("users", users, day=day)
    edges = _rows(
        warehouse, "watch_edges", user_idx=[n for n in indices for _ in VIDEOS],
        video_idx=[0, 1, 2] * len(USERS), split=["train"] * 3 * len(USERS),
    )  # fmt: skip
    warehouse.write("watch_edges", edges, day=day, made_with=[f"watches of {day}"])
    pairs = [(n, m) for n in indices for m in indices if n != m]
    of, neighbour = zip(*pairs, strict=True)
    network = _rows(warehouse, "user_edges", user_idx=of, neighbour_idx=neighbour)
    warehouse.write(
        "user_edges", network.drop_columns("fit"), day=day, fit="final", made_with=["w"]
    )


@contextlib.contextmanager
def bounds_in_log() -> Iterator[None]:
    """Have the log hold bounds of people's columns, as it did before it was kept free of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Contract, "of_subject", lambda self, *subjects: [])
        yield


class NoConfig(BaseModel):
    """Of a model that was never fitted."""


def _models(warehouse: Warehouse, day: dt.date, *, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = len(USERS)
    rows = rng.random((n, 4), np.float32) + 1
    known = np.ones(n, np.bool_)
    videos = rng.random((3, 4), np.float32)
    indptr = np.arange(n + 1, dtype=np.int64) * (n - 1)
    neighbour = np.concatenate([np.delete(np.arange(n, dtype=np.int32), u) for u in range(n)])
    similarity = rng.random(len(neighbour), np.float32)
    models = {
        "content": Trained(
            Embeddings(rows, videos, known, np.ones(3, np.bool_)),
            {},
            {"layer.user_id": rows, "video_id": videos},
        ),
        "user_neighbours": Trained(NeighbourLists("user", indptr, neighbour, similarity), {}),
    }
    for model, trained in models.items():

        def save(folder: Path, trained: Trained = trained) -> None:
            fitted.save(trained, folder, config=NoConfig())

        path, digest = warehouse.save_artefact(day=day, fit="final", model=model, save=save)
        row = _rows(
            warehouse,
            "models",
            path=[path],
            digest=[digest],
            n_users=[n],
            first_day=[day],
            last_day=[day],
        )
        warehouse.write(
            "models", row.drop_columns(["fit", "model"]), day=day, fit="final", model=model
        )


def others(warehouse: Warehouse) -> dict[str, Any]:
    """Return what stands of everybody else: rows by table as committed, and as releases have them.

    Rows of `users` and of results are compared as a whole; of tables by index, those of other indices.
    """
    gone = [USERS.index(user) for user in GONE]
    stands: dict[str, Any] = {}
    for table in ("users", "events", "watch_edges", "user_edges", "recommendations", "user_trends"):
        for day in DAYS:
            stands[f"{table} {day}"] = _of_others(warehouse.read(table, day=day), gone)
    for release in reader.every(warehouse.root):
        for table in release.tables:
            rows = warehouse.read(table, day=release.day, version=release.tables[table].version)
            stands[f"{release.id} {table}"] = _of_others(rows, gone)
    return stands


def _of_others(rows: pa.Table, gone: list[int]) -> list[str]:
    for name, values in (("user_id", GONE), ("user_idx", gone), ("neighbour_idx", gone)):
        if name in rows.column_names:
            theirs = pc.is_in(rows[name], value_set=pa.array(values, rows.schema.field(name).type))
            rows = rows.filter(pc.invert(theirs))
    kept = rows.drop_columns("detail") if "detail" in rows.column_names else rows
    return sorted(map(str, kept.to_pylist()))
