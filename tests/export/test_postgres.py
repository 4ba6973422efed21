"""What is Postgres' own: views that expire, rights that stay, readers that hold a table, an index of the vectors."""

import datetime as dt
import time
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from microrec.export import postgres
from microrec.release.reader import Release
from microrec.tables.arrow import Warehouse
from tests.export.stores import PostgresStore
from tests.export.test_handoff import DAY, NEXT, USERS, expected, export, release

pytestmark = [pytest.mark.stores, pytest.mark.heavy]


@pytest.fixture
def store(postgres_url: str, place: Path) -> PostgresStore:
    return emptied(postgres_url)


@pytest.fixture
def with_pgvector(pgvector_url: str, place: Path) -> PostgresStore:
    return emptied(pgvector_url)


def emptied(url: str) -> PostgresStore:
    store = PostgresStore(url)
    store.clear()
    release(Warehouse.open(), DAY, USERS, "a")
    return store


def test_views_are_empty_once_the_release_has_expired(store: PostgresStore) -> None:
    until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
    release(Warehouse.open(), DAY, USERS, "a", until=until)
    export(store)
    assert store.lists()
    time.sleep(2.2)
    assert store.lists() == {}


def test_rights_on_the_view_stay_from_release_to_release(store: PostgresStore) -> None:
    export(store)
    with psycopg.connect(store.address) as connection:
        connection.execute("DROP ROLE IF EXISTS service")
        connection.execute("CREATE ROLE service")
        connection.execute("GRANT USAGE ON SCHEMA microrec TO service")
        connection.execute("GRANT SELECT ON microrec.lists TO service")
    release(Warehouse.open(), NEXT, USERS, "b")
    export(store)
    with psycopg.connect(store.address) as connection:
        connection.execute("SET ROLE service")
        (count,) = connection.execute("SELECT count(*) FROM microrec.lists").fetchone() or (0,)
        assert count == 2 * len(USERS) + 1
        connection.rollback()
        connection.execute("DROP OWNED BY service")
        connection.execute("DROP ROLE service")


def test_table_that_somebody_reads_is_left_to_the_next_export(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LOCK_WAIT", "50ms")
    export(store)
    ((table,),) = store.query("SELECT tablename FROM pg_tables WHERE tablename LIKE 'lists%'")
    release(Warehouse.open(), NEXT, USERS, "b")
    with psycopg.connect(store.address) as reading:
        reading.execute(f"SELECT FROM microrec.{table}")  # type: ignore[arg-type]
        assert export(store).action == "exported"
        assert store.lists() == expected(USERS, "b")
        assert store.copies() == 2
    assert export(store).action == "renewed"
    assert store.copies() == 1


def many_vectors(dim: int = 8) -> pa.Table:
    rng = np.random.default_rng(1)
    n = postgres.LEAST_INDEX
    flat = pa.array(rng.random(n * dim, np.float32))
    return pa.table(
        {
            "kind": ["video"] * n,
            "id": [f"v{number}" for number in range(n)],
            "part": pa.array([0] * n, pa.int32()),
            "model": ["content"] * n,
            "space": ["content@1"] * n,
            "norm": pa.array([1] * n, pa.float32()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, dim),
        }
    )


QUERY = """
    SELECT id FROM microrec.vectors_content WHERE kind = 'video'
    ORDER BY vector <#> (SELECT vector FROM microrec.vectors_content WHERE kind = 'video' AND id = 'v7') LIMIT 10
"""


def test_vectors_with_pgvector_are_searched_by_their_index(
    with_pgvector: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = many_vectors()
    monkeypatch.setattr(Release, "vectors", lambda self, model: rows)
    export(with_pgvector, models=["content"])
    # So few rows are as fast to compare with all: would the index serve the view, if there were more?
    forced = PostgresStore(f"{with_pgvector.address}?options=-c%20enable_sort%3Doff")
    plan = "\n".join(line for (line,) in forced.query(f"EXPLAIN {QUERY}"))
    assert "_vector_idx" in plan
    vectors: Any = np.asarray(rows["vector"].combine_chunks().flatten()).reshape(-1, 8)
    best = np.argsort(-(vectors @ vectors[7]))[:10]
    nearest = {each for (each,) in with_pgvector.query(QUERY)}
    assert len(nearest & {f"v{number}" for number in best}) >= 8, "the index is approximate"
