"""The fence: of two attempts that meet at the log one leaves rows, and never the late one."""

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake.exceptions import CommitFailedError

from microrec.config.settings import settings
from microrec.errors import CommitConflict
from microrec.tables import commit
from microrec.tables.arrow import Warehouse

DAY, NEXT, LATER = (dt.date(2026, 1, number) for number in (4, 5, 6))


def users(number: int, day: dt.date | None = None) -> pa.Table:
    rows = {
        "user_idx": pa.array(range(number), pa.int32()),
        "user_id": pa.array([f"u{one}" for one in range(number)]),
        "degree": pa.array([1] * number, pa.int32()),
        "first_seen": pa.array([0] * number, pa.timestamp("us", tz="UTC")),
    }
    return pa.table(rows if day is None else {"day": pa.array([day] * number), **rows})


def attempt(monkeypatch: pytest.MonkeyPatch, number: int, run: str = "night") -> Warehouse:
    monkeypatch.setenv("MICROREC_RUN_ID", run)
    monkeypatch.setenv("MICROREC_ATTEMPT", str(number))
    settings.cache_clear()
    return Warehouse.open()


def meanwhile(monkeypatch: pytest.MonkeyPatch, other: Any) -> None:
    """Have something happen once, when the next writer has passed the fence and not committed yet."""
    fence, left = commit.Table._fence, [other]

    def passed(self: commit.Table, *words: Any) -> None:
        fence(self, *words)
        if left:
            left.pop()()

    monkeypatch.setattr(commit.Table, "_fence", passed)


@pytest.mark.parametrize("known", [False, True], ids=["new-day", "known-day"])
def test_fence_late_attempt_past_the_check_is_still_stopped(
    place: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    attempt(monkeypatch, 1).write("users", users(1), day=DAY if known else NEXT)
    late, newer = attempt(monkeypatch, 1), attempt(monkeypatch, 2)
    meanwhile(monkeypatch, lambda: newer.write("users", users(3), day=DAY))
    with pytest.raises(CommitConflict, match="attempt 1 of run night is late"):
        late.write("users", users(5), day=DAY)
    assert late.read("users", day=DAY).num_rows == 3


def test_fence_two_runs_on_a_new_day_the_last_wins(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, other = attempt(monkeypatch, 1), attempt(monkeypatch, 1, run="backfill")
    here.write("users", users(1), day=NEXT)
    meanwhile(monkeypatch, lambda: other.write("users", users(3), day=DAY))
    here.write("users", users(5), day=DAY)
    assert here.read("users", day=DAY).num_rows == 5


def test_fence_late_attempt_of_fewer_days_is_late_for_each(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, newer = attempt(monkeypatch, 1), attempt(monkeypatch, 2)
    newer.write("users", users(3, DAY), replace=[{"day": DAY}, {"day": NEXT}])
    with pytest.raises(CommitConflict, match="attempt 1 of run night is late"):
        late.write("users", users(5, DAY), replace=[{"day": DAY}])
    late.write("users", users(5, LATER), replace=[{"day": LATER}])
    assert late.read("users", day=DAY).num_rows == 3


def test_fence_unwritable_log_is_no_conflict(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse = attempt(monkeypatch, 1)
    warehouse.write("users", users(1), day=DAY)

    def full(*_: object, **__: object) -> None:
        raise CommitFailedError(os.strerror(28))

    monkeypatch.setattr(commit.DeltaTable, "create_write_transaction", full)
    with pytest.raises(CommitFailedError, match="No space left"):
        warehouse.write("users", users(3), day=DAY)
