"""What it costs to look into the warehouse after many nights: `python -m tests.benchmarks.delta_log --out DIR`.

Nights are simulated by their commits alone: the log names files that do not exist, as nothing that is measured opens
one. Each night commits the candidates of the default sources and four stages of metrics; `microrec prune` runs after a
tenth night, with the days of the recipe's defaults, or never (`--unpruned`). Measured at some nights, medians: a table
that is opened, `exists`, the digest that a partition was made with, and the nights that would teach the blend, which is
what a plan asks most. Last, how many of the pinned versions, one a night, can be read.
"""

import argparse
import datetime as dt
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from deltalake.transaction import AddAction

from microrec.config.recipe import Recipe
from microrec.config.settings import settings
from microrec.errors import MicrorecError
from microrec.pipeline import blending, kept_days
from microrec.pipeline.night import Night
from microrec.release import retention
from microrec.tables import layout
from microrec.tables.arrow import Warehouse
from microrec.tables.commit import Author, Staged, as_scope
from tests.benchmarks import report

logger = logging.getLogger(__name__)

FIRST = dt.date(2025, 1, 1)
STAGES = ("evaluation", "events", "arrivals", "gains")
RUNS = 15
PRUNED_EVERY = 10


def commit(warehouse: Warehouse, table: str, day: dt.date, **partition: str) -> int:
    """Commit a partition whose file is only named; the version."""
    scope = as_scope({"day": day, **partition})
    opened = warehouse.table(table)
    path = f"{opened.attempt_folder(warehouse.author)}/{layout.branch(scope)}/part-0-0.parquet"
    written = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
    add = AddAction(
        path, 1000, dict(scope), int(written.timestamp() * 1000), True, '{"numRecords": 3}'
    )
    return opened.commit(Staged("", (add,), 3), [scope], warehouse.author, ["word"])


def median_ms(call: Callable[[], object]) -> float:
    """Median time of a call."""
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def measured(warehouse: Warehouse, day: dt.date, n_nights: int) -> list[report.Row]:
    """Rows of what a look costs after so many nights."""
    night = Night.open(day, fit="trial", root=warehouse.root)
    partition = {"day": day, "fit": "trial", "source": "popularity"}
    table = warehouse.table("candidates")
    calls: dict[str, Callable[[], object]] = {
        "open": table.open,
        "exists": lambda: warehouse.exists("candidates", **partition),
        "exists, metrics": lambda: warehouse.exists("metrics", day=day, stage="evaluation"),
        "made_with": lambda: warehouse.made_with("candidates", **partition),
        "teaching_days": lambda: blending.teaching_days(night),
    }
    return [
        report.row("delta_log", name, "time", f"night {n_nights}", median_ms(call), unit="ms", seeds=RUNS)
        for name, call in calls.items()
    ]  # fmt: skip


def run(root: str, nights: list[int], *, pruned: bool) -> list[report.Row]:
    """Simulate nights, and measure after some of them.

    Args:
        root: of a new warehouse.
        nights: after how many to measure, ascending.
        pruned: whether old partitions are taken out.

    Returns:
        Rows of results.
    """
    warehouse = Warehouse(root, settings().schemas, Author("benchmark", 1, "0"), {})
    recipe = Recipe(Path("recipe.toml"), {})
    rows, versions = [], []
    for number in range(nights[-1]):
        day = FIRST + dt.timedelta(days=number)
        for source in recipe.night.sources:
            version = commit(warehouse, "candidates", day, fit="trial", source=source)
        for stage in STAGES:
            commit(warehouse, "metrics", day, stage=stage)
        versions.append(version)
        if pruned and number % PRUNED_EVERY == PRUNED_EVERY - 1:
            today = day + dt.timedelta(days=1)
            floors = kept_days.floors(recipe)
            retention.prune(warehouse, retention.Config(), today=today, floors=floors)
        if number + 1 in nights:
            rows += measured(warehouse, day, number + 1)
            logger.info("night %d: %s", number + 1, rows[-5:])
    n_readable = sum(readable(warehouse, version) for version in versions)
    share = n_readable / len(versions)
    rows.append(report.row("delta_log", "pins", "readable", "all", share, unit="share"))
    return rows


def readable(warehouse: Warehouse, version: int) -> bool:
    """Whether a version's files can still be listed."""
    try:
        return bool(warehouse.partitions("candidates", version=version))
    except MicrorecError:
        return False


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, nargs="+", default=[10, 50, 100, 200, 400])
    parser.add_argument("--unpruned", action="store_true", help="old partitions stay")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("microrec").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="microrec-log-") as root:
        rows = run(root, sorted(arguments.nights), pruned=not arguments.unpruned)
    report.write(rows, arguments.out)


if __name__ == "__main__":
    main()
