"""What people cost: `python -m tests.benchmarks.people --out DIR`.

A warehouse of some nights, each with `users`, `watch_edges` and a release of lists. Measured are, in one process: a
read of a release with and without a hundredth of the users suppressed, in turn; the requests of everybody, folded into
the ledger, and a fold that finds nothing new; the erasure of one person and of many.
"""

import argparse
import datetime as dt
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from microrec.config.settings import settings
from microrec.pipeline import requests
from microrec.pipeline.night import Night
from microrec.privacy import erasure, receipts
from microrec.privacy.receipts import Request
from microrec.privacy.subjects import Subjects
from microrec.release import reader
from microrec.tables.arrow import Warehouse
from tests.benchmarks import report
from tests.worlds.releases import UNTIL, filled, publish

logger = logging.getLogger(__name__)

FIRST = dt.date(2026, 1, 4)
RUNS = 7
K, WATCHES = 20, 20
"""Rows of a list, and watch edges of a user."""
SUPPRESSED = 0.01
"""Share of the users who are left out when a release is read."""


def make(warehouse: Warehouse, *, n_users: int, nights: int) -> None:
    """Write nights whose lists and edges are about the same users.

    Args:
        warehouse: empty.
        n_users: users of each night.
        nights: number of nights.
    """
    ids = [f"u{user:08d}" for user in range(n_users)]
    lists = {
        "user_id": np.repeat(ids, K).tolist(),
        "rank": [*range(1, K + 1)] * n_users,
        "video_id": [f"v{rank}" for rank in range(K)] * n_users,
    }
    index = np.arange(n_users, dtype=np.int32)
    for number in range(nights):
        day = FIRST + dt.timedelta(days=number)
        users = filled(warehouse, "users", n_users, user_idx=index.tolist(), user_id=ids)
        warehouse.write("users", users, day=day)
        n_edges = n_users * WATCHES
        edges = filled(
            warehouse, "watch_edges", n_edges,
            user_idx=np.repeat(index, WATCHES).tolist(), split=["train"] * n_edges,
            video_idx=[*range(WATCHES)] * n_users,
        )  # fmt: skip
        warehouse.write("watch_edges", edges, day=day, replace=[{"split": "train"}])
        publish(warehouse, day, n_users * K, **lists)


def suppress(warehouse: Warehouse, day: dt.date, ids: Sequence[str], kind: str = "opt_out") -> None:
    """Leave out some users as of a day."""
    table = pa.table(
        {
            "user_id": pa.array(ids, pa.string()),
            "kind": pa.array([kind] * len(ids), pa.string()),
            "requested_at": pa.array([UNTIL] * len(ids), pa.timestamp("us", "UTC")),
        }
    )
    warehouse.write("suppressed_users", table, day=day)


def reads(warehouse: Warehouse, day: dt.date, ids: Sequence[str]) -> list[report.Row]:
    """Rows of what a read of a release costs with some of its users suppressed, and with nobody."""
    times: dict[str, list[float]] = {"nobody suppressed": [], "1 in 100 suppressed": []}
    out = {
        "nobody suppressed": [],
        "1 in 100 suppressed": ids[:: round(1 / SUPPRESSED)],
    }
    for _ in range(RUNS):
        for name, users in out.items():
            suppress(warehouse, day, users)
            times[name].append(
                seconds(lambda: reader.of(day, warehouse.root).read("recommendations"))
            )
    plain, filtered = (statistics.median(times[name]) for name in out)
    rows = [
        report.row("people", name, "read a release", "s", statistics.median(each), unit="s", seeds=RUNS)
        for name, each in times.items()
    ]  # fmt: skip
    return [*rows, report.row("people", "ratio", "read a release", "s", filtered / plain, unit="")]


def folds(warehouse: Warehouse, landing: Path, day: dt.date, n_users: int) -> list[report.Row]:
    """Rows of what it costs to remember a request of each user, and to find nothing new."""
    folder = landing / "raw_privacy_requests" / f"day={day}"
    folder.mkdir(parents=True)
    lines = (
        json.dumps(
            {"user_id": f"u{user:08d}", "kind": "opt_out", "requested_at": f"{day}T10:00:00Z"}
        )
        for user in range(n_users)
    )
    (folder / "part-0.jsonl").write_text("".join(f"{line}\n" for line in lines))
    night = Night.open(day, root=warehouse.root)
    rows = []
    for name in ("a request of each user", "nothing new"):
        taken = seconds(lambda: requests.fold(night, str(landing)))
        rows.append(report.row("people", name, "fold", "s", taken, unit="s", seeds=1))
    return rows


def erasures(warehouse: Warehouse, n_people: int, n_before: int) -> list[report.Row]:
    """Rows of what it costs to erase some people who were not erased before."""
    asking = [Request(f"u{user:08d}", UNTIL) for user in range(n_before, n_before + n_people)]
    subject_of = Subjects.open(warehouse.root).of
    config = erasure.Config(grace_seconds=0, abandoned_hours=0)
    began, cpu = time.monotonic(), time.process_time()
    tallies = erasure.erase(
        warehouse, asking, subject_of=subject_of, config=config, authors_are_users=False
    )
    assert len(receipts.carried_out(warehouse)) == n_before + n_people
    figures = {
        ("wall", "s"): time.monotonic() - began,
        ("CPU", "s"): time.process_time() - cpu,
        ("rewritten", "MB"): sum(each.bytes for each in tallies) / 2**20,
    }
    name = f"erase {n_people}"
    return [
        report.row("people", name, metric, "s", value, unit=unit, seeds=1)
        for (metric, unit), value in figures.items()
    ]


def seconds(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def run(place: Path, *, n_users: int, nights: int, many: int) -> list[report.Row]:
    """Make the warehouse and measure.

    Args:
        place: an empty folder.
        n_users: users of each night.
        nights: number of nights.
        many: people who are erased together.

    Returns:
        Rows of results.
    """
    warehouse = Warehouse.open(str(place / "warehouse"))
    make(warehouse, n_users=n_users, nights=nights)
    last = FIRST + dt.timedelta(days=nights - 1)
    size = sum(path.stat().st_size for path in (place / "warehouse").rglob("*.parquet")) / 2**20
    rows = [report.row("people", "warehouse", "size", "s", size, unit="MB")]
    rows += reads(warehouse, last, [f"u{user:08d}" for user in range(n_users)])
    suppress(warehouse, last, [])
    rows += erasures(warehouse, 1, 0)
    rows += erasures(warehouse, many, 1)
    rows += folds(warehouse, place / "landing", last, n_users)
    return rows


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--many", type=int, default=1_000, help="people erased together")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    os.environ.setdefault("MICROREC_PRIVACY_KEY", "a key of the benchmark")
    settings.cache_clear()
    with tempfile.TemporaryDirectory(prefix="microrec-people-") as place:
        rows = run(
            Path(place), n_users=arguments.users, nights=arguments.nights, many=arguments.many
        )
    report.write(rows, arguments.out)


if __name__ == "__main__":
    main()
