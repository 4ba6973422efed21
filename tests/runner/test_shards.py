"""Users in parts: the same rows in one piece, part by part, and dealt among Spark's workers."""

import datetime as dt
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from microrec.candidates.retrieval import exact
from microrec.config.settings import settings
from microrec.core import knowledge
from microrec.core.fitted import Embeddings, NeighbourLists
from microrec.errors import CheckFailed
from microrec.runner import shards
from microrec.tables import arrow

N_USERS, N_VIDEOS, K = 40, 30, 6
DAY = dt.date(2026, 1, 8)
WHERE = {"day": DAY, "fit": "trial", "source": "content"}


@pytest.fixture
def warehouse(place: Path, monkeypatch: pytest.MonkeyPatch) -> arrow.Warehouse:
    monkeypatch.setattr(shards, "USERS_AT_ONCE", 7)
    return arrow.Warehouse.open()


def ask(kind: str = "vectors") -> shards.RowMaker:
    """Of planted vectors, small whole numbers whose sums are exact, or of lists."""
    rng = np.random.default_rng(1)
    seen = sparse.random(N_USERS, N_VIDEOS, 0.2, format="csr", dtype=np.float32, rng=rng)
    seen.data[:] = 1
    known = knowledge.Knowledge(seen, seen, rng.random(N_VIDEOS) < 0.8)
    near = rng.integers(0, N_VIDEOS, size=(N_VIDEOS, 4))
    fitted = {
        "vectors": Embeddings(
            rng.integers(-9, 10, size=(N_USERS, 8)).astype(np.float32),
            rng.integers(-9, 10, size=(N_VIDEOS, 8)).astype(np.float32),
            rng.random(N_USERS) < 0.9,
            rng.random(N_VIDEOS) < 0.9,
        ),
        "lists": NeighbourLists(
            "video",
            np.arange(0, 4 * N_VIDEOS + 1, 4),
            np.sort(near, axis=1).astype(np.int32).ravel(),
            rng.random(4 * N_VIDEOS).astype(np.float32),
        ),
    }[kind]
    return partial(exact.best, fitted, known=known, k=K, config=exact.Config())


def stored(warehouse: arrow.Warehouse) -> pa.Table:
    return warehouse.read("candidates", **WHERE).drop_columns([*WHERE])


@pytest.mark.parametrize("kind", ["vectors", "lists"])
def test_shards_together_equal_the_whole(warehouse: arrow.Warehouse, kind: str) -> None:
    users = np.delete(np.arange(N_USERS), [3, 20])
    shards.write("candidates", ask(kind), users, **WHERE)
    whole = ask(kind)(users=users)
    assert whole.num_rows > 150
    found = stored(warehouse).sort_by([("user_idx", "ascending"), ("rank", "ascending")])
    assert found.to_pylist() == whole.to_pylist()
    (part,) = warehouse.snapshot("candidates", **WHERE).parts
    assert len(part[1]) == len(shards.in_parts(users)) == 6


@pytest.mark.spark
def test_shards_by_spark_are_the_same_rows(
    warehouse: arrow.Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = np.arange(N_USERS)
    shards.write("candidates", ask(), users, **WHERE)
    before = warehouse.digest("candidates", **WHERE)
    warehouse.write_empty("candidates", **WHERE)
    monkeypatch.setenv("MICROREC_RANK_TASKS", "3")
    settings.cache_clear()
    shards.write("candidates", ask(), users, **WHERE)
    assert warehouse.digest("candidates", **WHERE) == before
    shards.write("candidates", ask(), users[:0], **WHERE)
    assert stored(warehouse).num_rows == 0


def test_shards_without_users_are_an_empty_partition(warehouse: arrow.Warehouse) -> None:
    shards.write("candidates", ask(), np.arange(N_USERS), **WHERE)
    shards.write("candidates", ask(), np.arange(0), **WHERE)
    assert stored(warehouse).num_rows == 0


def test_shards_contract_violation_leaves_the_old_rows(warehouse: arrow.Warehouse) -> None:
    shards.write("candidates", ask(), np.arange(N_USERS), **WHERE)
    before = warehouse.digest("candidates", **WHERE)

    def twice(*, users: np.ndarray) -> pa.Table:
        rows = ask()(users=users)
        return pa.concat_tables([rows, rows]) if 33 in users else rows

    with pytest.raises(CheckFailed, match="unique"):
        shards.write("candidates", twice, np.arange(N_USERS), **WHERE)
    assert warehouse.digest("candidates", **WHERE) == before


def test_shards_only_one_is_held_in_memory(warehouse: arrow.Warehouse) -> None:
    """A part is asked for when the one before it is on disk."""
    counted = []
    folder = Path(warehouse.root) / "candidates"

    def asked(*, users: np.ndarray) -> pa.Table:
        counted.append(len(list(folder.rglob("*.parquet"))))
        return ask()(users=users)

    shards.write("candidates", asked, np.arange(N_USERS), **WHERE)
    assert counted == [*range(6)]
