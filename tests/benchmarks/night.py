"""What a whole night costs, task by task, and how it grows: `python -m tests.benchmarks.night --out DIR`.

    python -m tests.benchmarks.night --users 400,24000,100000,1000000 --out DIR

A planted world of eight days for each size, and the night of its last day by the recipe: every task as Airflow starts
it, a process of its own, one after another and without Airflow's own share. Measured five times a second are the
process and all that it has started: CPU seconds, the sum of the resident sizes (pages that processes share count in
each) and bytes that passed through calls of read and write (pipes included, memory maps not). Start-up is the CPU
seconds until a task logs its first line: imports, settings, recipe. A night ends at the first task that fails.

The peer reads the same files with Polars, by the same rule of what is positive, fits the ALS of `implicit` to the days
before the last one and proposes 20 videos; whoever it does not know gets the most watched ones. Both are measured by
the `truth` of the night.
"""

import argparse
import contextlib
import datetime as dt
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microrec.cli import airflow_server
from microrec.config import recipe
from microrec.config.settings import HOME, settings
from microrec.evaluation import ranking, truth
from microrec.landing import write
from microrec.synth.world import Config, generate
from microrec.tables.arrow import Warehouse
from tests.benchmarks import measure, night_peer, report
from tests.benchmarks.night_peer import K
from tests.benchmarks.report import Row, row
from tests.worlds import nights

BENCHMARK = "a whole night"
SEED = 1
POLL = 0.2
PEER = "peer: Polars + implicit ALS"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cost:
    """Of one task, with all processes it started."""

    seconds: float
    cpu_seconds: float
    start_seconds: float
    """CPU seconds until its first line of log."""
    peak_mb: float
    read_mb: float
    written_mb: float
    why: str | None = None
    """Why it failed."""


UNITS = {
    "seconds": "s",
    "cpu_seconds": "s",
    "start_seconds": "s",
    "peak_mb": "MB",
    "read_mb": "MB",
    "written_mb": "MB",
}


def world_of(n_users: int) -> Config:
    """Return the world of a size: 800 to 100,000 videos, one for five users; from 100,000 users on fewer viewings."""
    videos = min(max(800, n_users // 5), 100_000)
    activity = 2.0 if n_users <= 100_000 else 0.9
    return Config(users=n_users, videos=videos, formats=("parquet",), min_activity=activity)


def run_task(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Cost:
    """Run a task to its end and measure it.

    Args:
        command: of the process.
        environment: its variables.
        log: file that its output is written to.
    """
    began, started, why = time.monotonic(), 0.0, None
    peaks = np.zeros(4)  # CPU seconds, MB, MB read, MB written
    with log.open("wb") as output:
        child = psutil.Popen(
            command, env=environment, cwd=HOME, stdout=output, stderr=output, start_new_session=True
        )
    try:
        while child.poll() is None:
            peaks = np.maximum(peaks, _used(child))
            if not started and log.stat().st_size:
                started = float(peaks[0])
            if psutil.virtual_memory().available < measure.RESERVE_MB * 2**20:
                why = f"stopped at {peaks[1]:.0f} MB: less than {measure.RESERVE_MB} MB were left"
                break
            time.sleep(POLL)
    finally:
        airflow_server.end([child])
    seconds = time.monotonic() - began
    if child.returncode and why is None:
        why = log.read_text(errors="replace").strip().splitlines()[-1]
    cpu, peak, read, written = peaks.tolist()
    return Cost(seconds, cpu, started or cpu, peak, read, written, why)


def _used(child: psutil.Popen) -> NDArray[np.float64]:
    """What a process and its living descendants have used so far, with those they have waited for."""
    total = np.zeros(4)
    family = [child]
    with contextlib.suppress(psutil.Error):
        family += child.children(recursive=True)
    for process in family:
        try:
            times, passed = process.cpu_times(), process.io_counters()
            resident = process.memory_info().rss
        except (psutil.Error, OSError):
            continue
        cpu = times.user + times.system + times.children_user + times.children_system
        total += [cpu, resident / 1e6, passed.read_chars / 1e6, passed.write_chars / 1e6]
    return total


def night(n_users: int, folder: Path) -> list[tuple[str, Cost]]:
    """Make a world, run the night of its last day, and return the cost of each task, up to the first that fails.

    Args:
        n_users: size of the world.
        folder: where landing zone, warehouse and logs go; the settings of this process name them afterwards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = world_of(n_users)
    planted = generate(config, np.random.default_rng(SEED))
    landing = str(folder / "landing")
    write.write_world(landing, planted.parts, truth=planted.truth.model_dump(mode="json"))
    os.environ |= {"MICROREC_LANDING": landing, "MICROREC_WAREHOUSE": str(folder / "warehouse")}
    settings.cache_clear()
    costs: list[tuple[str, Cost]] = []
    for job, options in [*nights.jobs_of(recipe.current().night), ("report_night", {})]:
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        name = " ".join([job, *options.values()])
        command = [sys.executable, "-m", f"jobs.{job}", "--day", str(last_day(config)), *words]
        cost = run_task(command, dict(os.environ), folder / f"{name.replace(' ', '-')}.log")
        logger.info("%d users: %s: %s", n_users, name, cost)
        costs.append((name, cost))
        if cost.why is not None:
            break
    return costs


def last_day(config: Config) -> dt.date:
    """Return the day whose night is run."""
    return config.first_day + dt.timedelta(days=config.days - 1)


def peer_rows(split: str, day: dt.date) -> list[Row]:
    """Measure the peer on the landing zone of the settings, and the Recall@20 of both beside each other."""
    options = {"day": str(day)}
    method = measure.Method(
        PEER,
        night_peer.recommend,
        options=options,
        needs=("implicit", "polars"),
        ready=night_peer.make_ready,
    )
    outcome = measure.once(
        method, Path(settings().landing), threads=os.cpu_count() or 1, limit=6 * 3600
    )
    if outcome.why is not None:
        return [row(BENCHMARK, PEER, "failed", split, None, unit=outcome.why)]
    values = {
        "seconds": outcome.seconds,
        "cpu_seconds": outcome.cpu_seconds,
        "start_seconds": outcome.ready_seconds,
        "peak_mb": outcome.peak_mb,
    }
    rows = [
        row(BENCHMARK, PEER, metric, split, value, unit=UNITS[metric])
        for metric, value in values.items()
    ]
    warehouse = Warehouse.open()
    nodes = {name: warehouse.read(name, day=day) for name in ("users", "video_nodes")}
    right = truth.truth(warehouse.read("watch_edges", day=day), nodes["video_nodes"])
    lists = {PEER: indexed(outcome.edges, nodes["users"], nodes["video_nodes"])}
    measured = ranking.measure(
        lists, right, config=ranking.Config(ks=(K,)), generator=np.random.default_rng(SEED)
    )
    ours = warehouse.read("metrics", day=day, stage="evaluation").to_pylist()
    figures = [vars(each) | {"slice": each.slice} for each in measured] + ours
    for figure in figures:
        if (figure["metric"], figure["slice"]) == (f"recall@{K}", "all") and figure["low"]:
            interval = {"low": figure["low"], "high": figure["high"]}
            value = figure["value"]
            rows.append(
                row(
                    BENCHMARK, figure["name"], f"recall@{K}", split, value, unit="share", **interval
                )
            )
    return rows


def indexed(lists: Mapping[str, Any], users: pa.Table, videos: pa.Table) -> pa.Table:
    """Return lists of ids as the evaluation reads them; ids that the night does not know are left out.

    Args:
        lists: user_id and video_id [n_users * K], of each user K in a row, the best first.
        users: user_id and user_idx.
        videos: video_id and video_idx.
    """
    columns = {"rank": pa.array(np.tile(np.arange(1, K + 1), len(lists["user_id"]) // K))}
    for node, table in (("user", users), ("video", videos)):
        position = pc.index_in(
            pa.array(lists[f"{node}_id"]), value_set=table[f"{node}_id"].combine_chunks()
        )
        columns[f"{node}_idx"] = table[f"{node}_idx"].combine_chunks().take(position)
    table = pa.table(columns)
    return table.filter(pc.and_(table["user_idx"].is_valid(), table["video_idx"].is_valid()))


def rows_of(split: str, costs: Sequence[tuple[str, Cost]]) -> list[Row]:
    """Return the results of a night: those of each task, and their sum."""
    rows = []
    for name, cost in costs:
        rows += [
            row(BENCHMARK, name, metric, split, getattr(cost, metric), unit=unit)
            for metric, unit in UNITS.items()
        ]
        if cost.why is not None:
            rows.append(row(BENCHMARK, name, "failed", split, None, unit=cost.why))
    for metric, unit in UNITS.items():
        every = [getattr(cost, metric) for _, cost in costs]
        total = max(every) if metric == "peak_mb" else sum(every)
        rows.append(row(BENCHMARK, "all tasks", metric, split, total, unit=unit))
    return rows


def slopes(nights_by_size: Mapping[int, Sequence[tuple[str, Cost]]]) -> list[Row]:
    """Return by which power of the users the CPU seconds of each task grow, start-up left out."""
    rows = []
    names = dict.fromkeys(name for costs in nights_by_size.values() for name, _ in costs)
    for name in names:
        points = [
            (n_users, max(cost.cpu_seconds - cost.start_seconds, 0.01))
            for n_users, costs in nights_by_size.items()
            for other, cost in costs
            if other == name and cost.why is None
        ]
        if len(points) > 1:
            users, seconds = np.log(np.array(points)).T
            slope = float(np.polyfit(users, seconds, 1)[0])
            rows.append(row(BENCHMARK, name, "slope", "all sizes", slope, unit="power"))
    return rows


def main() -> None:
    """Run the nights of all sizes, smallest first, and write the results after each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--users", default="400", help="sizes, with commas between them")
    parser.add_argument("--work", type=Path, default=None, help="worlds and warehouses; in --out")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    rows: list[Row] = []
    done: dict[int, list[tuple[str, Cost]]] = {}
    for n_users in sorted(map(int, options.users.split(","))):
        split = f"{n_users:,} users"
        done[n_users] = night(n_users, (options.work or options.out) / str(n_users))
        rows += rows_of(split, done[n_users])
        if done[n_users][-1][1].why is None:
            rows += peer_rows(split, last_day(world_of(n_users)))
        report.write([*rows, *slopes(done)], options.out, preface=f"# {BENCHMARK.capitalize()}")


if __name__ == "__main__":
    main()
