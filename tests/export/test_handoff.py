"""The contract of every store: a release replaces the one before, whole, and nobody who has left it stays."""

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microrec.config.settings import HOME
from microrec.errors import MicrorecError, MissingDay
from microrec.export import handoff
from microrec.release import reader
from microrec.release.reader import Release
from microrec.tables.arrow import Warehouse
from tests.export.stores import Folder, Lists, PostgresStore, RedisStore, Store, opened
from tests.worlds.releases import filled, publish_tables

DAY = dt.date(2026, 1, 4)
NEXT = DAY + dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC)
UNTIL = (NOW + dt.timedelta(days=1)).replace(microsecond=0)
USERS = ["u1", "u2", "nobody:else", "ü4"]
SEGMENTS = ["surface=a:b", "tag=x"]
N_LISTS = 2 * len(USERS) + 1
SERVERS = [
    pytest.param(name, marks=[pytest.mark.stores, pytest.mark.heavy])
    for name in ("redis", "postgres", "pgvector")
]
FORMS = ["parquet", "jsonl"]


@pytest.fixture(params=[*FORMS, *SERVERS])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return store_of(request.param, request, tmp_path)


def store_of(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if name in FORMS:
        return Folder(f"{name}:{tmp_path / 'export'}")
    url = request.getfixturevalue(f"{name}_url")
    store = RedisStore(url) if name == "redis" else PostgresStore(url)
    store.clear()
    return store


@pytest.fixture
def warehouse(place: Path) -> Warehouse:
    warehouse = Warehouse.open()
    release(warehouse, DAY, USERS, "a")
    return warehouse


def release(
    warehouse: Warehouse,
    day: dt.date,
    users: Sequence[str],
    prefix: str,
    *,
    until: dt.datetime = UNTIL,
) -> None:
    """Publish three videos, named by a prefix and the place, for each user, and one of each of two segments."""
    lists = filled(
        warehouse, "recommendations", 3 * len(users),
        user_id=[user for user in users for _ in range(3)],
        rank=[1, 2, 3] * len(users),
        video_id=[f'{prefix}"{place}' for _ in users for place in (1, 2, 3)],
        score=[0.5, 0.25, -1.5] * len(users),
    )  # fmt: skip
    of_segments = filled(
        warehouse, "segment_recommendations", 2 * len(users),
        user_id=[user for user in users for _ in SEGMENTS],
        segment=SEGMENTS[::-1] * len(users),
        video_id=[f"{prefix}-{segment}" for _ in users for segment in SEGMENTS[::-1]],
    )  # fmt: skip
    everyones = filled(warehouse, "fallback_recommendations", 1)
    rows = {
        "recommendations": lists,
        "segment_recommendations": of_segments,
        "fallback_recommendations": everyones,
    }
    publish_tables(warehouse, day, rows, until=until)


def expected(users: Sequence[str], prefix: str) -> Lists:
    scores = [0.5, 0.25, -1.5]
    items = [
        {"video_id": f'{prefix}"{place}', "score": score, "source": "content", "reason": "x"}
        for place, score in enumerate(scores, start=1)
    ]
    fallback = [{"video_id": "x", "score": 1.0, "source": "content"}]
    of_segments = [
        {
            "video_id": f"{prefix}-{segment}",
            "score": 1.0,
            "source": "content",
            "reason": "x",
            "segment": segment,
        }
        for segment in SEGMENTS
    ]
    by_user = {("user", user): items for user in users}
    by_segment = {("user_segments", user): of_segments for user in users}
    return {**by_user, **by_segment, ("segment", "x"): fallback}


def export(store: Store, **words: Any) -> handoff.Outcome:
    return handoff.export(opened(store.address), reader.latest, at=NOW, **words)


def withdraw(warehouse: Warehouse, *users: str) -> None:
    rows = filled(
        warehouse, "suppressed_users", len(users), user_id=users, kind=["erase"] * len(users)
    )
    warehouse.write("suppressed_users", rows, day=NEXT)


def test_export_serves_every_list_of_the_release(store: Store, warehouse: Warehouse) -> None:
    outcome = export(store)
    assert outcome == (reader.latest().id, DAY, UNTIL, N_LISTS, "exported")
    assert store.lists() == expected(USERS, "a")
    assert store.release() == outcome.release
    served = opened(store.address).served()
    assert served is not None
    assert (served.day, served.valid_until, served.lists) == (DAY, UNTIL, N_LISTS)


def test_export_of_the_next_release_leaves_nothing_of_the_one_before(
    store: Store, warehouse: Warehouse
) -> None:
    export(store)
    release(warehouse, NEXT, [*USERS[1:], "new"], "b")
    assert export(store).action == "exported"
    assert store.lists() == expected([*USERS[1:], "new"], "b")
    assert store.release() == reader.of(NEXT).id
    assert store.copies() == 1


def test_export_of_the_same_release_renews_it(store: Store, warehouse: Warehouse) -> None:
    export(store)
    before = opened(store.address).served()
    assert export(store).action == "renewed"
    assert opened(store.address).served() == before
    assert store.lists() == expected(USERS, "a")


def test_remove_withdrawn_takes_out_who_has_left_at_once(
    store: Store, warehouse: Warehouse
) -> None:
    export(store)
    withdraw(warehouse, USERS[0])
    assert handoff.remove_withdrawn(opened(store.address), reader.named) == 1
    assert store.lists() == expected(USERS[1:], "a")
    assert handoff.remove_withdrawn(opened(store.address), reader.named) == 0
    # Who has come back has a list again, though the release is the same.
    withdraw(warehouse)
    assert export(store).action == "exported"
    assert store.lists() == expected(USERS, "a")
    assert store.copies() == 1


def test_remove_withdrawn_takes_the_lists_of_segments_of_who_wants_no_profiling(
    store: Store, warehouse: Warehouse
) -> None:
    """Their list of everything goes too, as it was made of what they watched."""
    export(store)
    wish = filled(warehouse, "preferences", 1, user_id=USERS[:1], kind=["no_profiling"])
    warehouse.write("preferences", wish, day=NEXT)
    assert handoff.remove_withdrawn(opened(store.address), reader.named) == 1
    assert store.lists() == expected(USERS[1:], "a")
    served = opened(store.address).served()
    assert served is not None
    assert served.lists == N_LISTS - 2


def test_export_after_a_withdrawal_leaves_the_person_out(
    store: Store, warehouse: Warehouse
) -> None:
    export(store)
    withdraw(warehouse, USERS[0])
    assert export(store).action == "exported"
    assert store.lists() == expected(USERS[1:], "a")


def test_remove_withdrawn_of_an_empty_store_does_nothing(
    store: Store, warehouse: Warehouse
) -> None:
    assert handoff.remove_withdrawn(opened(store.address), reader.named) == 0


def test_export_of_an_expired_release_leaves_the_store_as_it_is(
    store: Store, warehouse: Warehouse
) -> None:
    export(store)
    release(warehouse, NEXT, USERS, "b", until=NOW)
    with pytest.raises(MicrorecError, match="expired"):
        export(store)
    assert store.lists() == expected(USERS, "a")


@pytest.mark.parametrize("moment", ["staging", "staged", "switched"])
@pytest.mark.parametrize("name", ["parquet", *SERVERS[:2]])
def test_export_killed_leaves_a_whole_release_and_the_next_one_tidies(
    name: str, moment: str, warehouse: Warehouse, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store = store_of(name, request, tmp_path)
    export(store)
    release(warehouse, NEXT, USERS[1:], "b")
    killed = subprocess.run(
        [sys.executable, "-m", "tests.export.killed", moment, store.address],
        cwd=HOME, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -9, killed.stderr
    after = expected(USERS[1:], "b") if moment == "switched" else expected(USERS, "a")
    assert store.lists() == after
    assert store.release() == reader.of(NEXT if moment == "switched" else DAY).id
    export(store)
    assert store.lists() == expected(USERS[1:], "b")
    assert store.copies() == 1


VECTORS = np.array([[1, 2, 3], [4, 5, 6], [0.5, 0, -1]], np.float32)


def vectors(dim: int = 3) -> pa.Table:
    """Of u1, of a user without a list, and of a video."""
    flat = pa.array(VECTORS[:, :dim].reshape(-1), pa.float32())
    return pa.table(
        {
            "kind": ["user", "user", "video"],
            "id": ["u1", "u9", "v1"],
            "part": pa.array([0, 0, 0], pa.int32()),
            "model": ["content"] * 3,
            "space": ["content@1"] * 3,
            "norm": pa.array([1, 2, 3], pa.float32()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, dim),
        }
    )


@pytest.mark.parametrize("name", ["parquet", "jsonl", *SERVERS[1:]])
def test_vectors_are_served_and_leave_with_their_people(
    name: str,
    warehouse: Warehouse,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = store_of(name, request, tmp_path)
    monkeypatch.setattr(Release, "vectors", lambda self, model: vectors())
    export(store, models=["content"])
    assert served_vectors(store) == {
        ("user", "u1"): [1, 2, 3],
        ("user", "u9"): [4, 5, 6],
        ("video", "v1"): [0.5, 0, -1],
    }
    handoff.remove_withdrawn(opened(store.address), reader.named)
    assert served_vectors(store).keys() == {("user", "u1"), ("video", "v1")}
    # A model whose vectors have another length the next night.
    monkeypatch.setattr(Release, "vectors", lambda self, model: vectors(2))
    release(warehouse, NEXT, USERS, "b")
    export(store, models=["content"])
    assert served_vectors(store)["user", "u1"] == [1, 2]


def served_vectors(store: Store) -> dict[tuple[str, str], list[float]]:
    if isinstance(store, PostgresStore):
        query = "SELECT kind, id, vector::real[] FROM microrec.vectors_content"
        return {(kind, each): vector for kind, each, vector in store.query(query)}
    assert isinstance(store, Folder)
    path = store.folder / "served" / "vectors_content"
    if store.address.startswith("parquet"):
        rows = pq.read_table(path.with_suffix(".parquet")).to_pylist()
    else:
        rows = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    return {(row["kind"], row["id"]): row["vector"] for row in rows}


def test_export_without_a_release_leaves_the_store_as_it_is(store: Store, place: Path) -> None:
    with pytest.raises(MissingDay):
        export(store)
    assert opened(store.address).served() is None
