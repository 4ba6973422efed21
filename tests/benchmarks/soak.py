"""Many nights of a small service, one after another, with faults: does anything grow? `python -m tests.benchmarks.soak`

A planted world is delivered day by day to an Airflow on Postgres of its own, whose scheduler makes the nights of
`dags/nightly.py`. In each dozen of nights each of these strikes once: a part of a day's viewings is delivered after
its night, a day's file is broken and delivered again, a job is killed with -9, a past day is made again beside the
night. People ask to be erased in the course of the world. After each night `microrec watch`, `prune` and `vacuum` run
as the DAG `maintenance` has them, under a clock that is set forward (`faketime`), as a night takes minutes here and not
a day; Airflow's own records and log files are cleaned as if ten nights were the ninety days for which they are kept.
Then everything is measured: memory, processes and open files of Airflow's parts, its database and logs, files of the
warehouse and of the temp folder, and processes that nobody waits for.

A line for each night is appended to `nights.jsonl` in --out. The result, printed at the end or by `--summary`, has
medians of the first and the last half, and how much a figure still grows from night to night. It needs Postgres and
faketime (`apt install postgresql faketime`) and the extra `ui`.
"""

import argparse
import contextlib
import datetime as dt
import json
import logging
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow.parquet as pq
import sqlalchemy

from microrec.config.settings import HOME
from microrec.landing import write
from microrec.release import reader, retention
from microrec.synth.world import Config, World, generate
from microrec.tables.arrow import Warehouse
from tests.ui.airflow_servers import NIGHTLY, PATIENCE, Airflow

logger = logging.getLogger(__name__)

WINDOW = 4
EVERY = 12
"""Nights after which the faults begin again."""
KEPT_RELEASES = 5
AS_NINETY_DAYS = 10
"""Nights that Airflow's records and logs are kept."""
FORWARD = "+10d"
"""How far the clock of `prune` and `vacuum` is set forward."""
RECIPE = f"""
[night]
window_days = {WINDOW}
k = 10
models = ["popularity", "video_neighbours", "preference_gcn"]
grace_hours = 0

[models.preference_gcn]
max_epochs = 2

[evaluation.gate] # a world so small proves nothing
better_than_popularity = -1.0
worse_than_champion = 1.0
source_kept = 0.0

[retention]
events = 2
catalogue = 2
graphs = 2
candidates = 2
models = 2
landing_files = 2
measurements = 10
again = 1
"""
MB = 1e6
FAULTS = {2: "late file", 3: "broken file", 4: "killed job", 6: "backfill beside"}
"""By the number of the night within each dozen, what befalls it."""
TREES = {
    "warehouse_data": lambda path: path.suffix == ".parquet" and "_delta_log" not in path.parts,
    "warehouse_log": lambda path: "_delta_log" in path.parts,
    "warehouse_other": lambda path: path.suffix != ".parquet" and "_delta_log" not in path.parts,
}


class Place(NamedTuple):
    """Where a soak runs."""

    root: Path
    world: World
    airflow: Airflow

    @property
    def landing(self) -> Path:
        return self.root / "landing"

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse"

    @property
    def days(self) -> list[dt.date]:
        first = self.world.config.first_day
        return [first + dt.timedelta(days=number) for number in range(self.world.config.days)]


def deliver(place: Place, day: dt.date) -> None:
    """Let the files of a day arrive, as they were drawn."""
    for source in (place.root / "store").glob(f"*/day={day}"):
        target = place.landing / source.relative_to(place.root / "store")
        shutil.copytree(source, target, dirs_exist_ok=True)


def viewings(place: Place, day: dt.date) -> Path:
    """The largest of the files of a day's viewings."""
    files = (place.landing / "raw_interactions" / f"day={day}").glob("*.parquet")
    return max(files, key=lambda file: file.stat().st_size)


def trigger(place: Place, day: dt.date, **more: Any) -> str:
    return place.airflow.trigger({"day": str(day), **more})


def plain(place: Place, day: dt.date, **more: Any) -> list[str]:
    """A night of a delivered day; the states of its runs."""
    return [place.airflow.ended(trigger(place, day, **more))]


def late_file(place: Place, day: dt.date, **more: Any) -> list[str]:
    """A tenth of the viewings comes after the night has read the day."""
    file = viewings(place, day)
    rows = pq.read_table(file)
    cut = rows.num_rows * 9 // 10
    pq.write_table(rows.slice(0, cut), file)
    states = plain(place, day, **more)
    pq.write_table(rows.slice(cut), file.with_name("part-late.parquet"))
    findings = watched(place)
    return [*states, "named" if any("part-late" in each for each in findings) else "not named"]


def broken_file(place: Place, day: dt.date, **more: Any) -> list[str]:
    """The night of a broken file fails; it is made again when the file has come once more."""
    file = viewings(place, day)
    whole = file.read_bytes()
    file.write_bytes(b"PAR1 and no more")
    states = plain(place, day, **more)
    file.write_bytes(whole)
    return states + plain(place, day, **more)


def killed_job(place: Place, day: dt.date, **more: Any) -> list[str]:
    """A Spark job is killed with its JVM; Airflow tries it again."""
    run = trigger(place, day, **more)

    def job() -> psutil.Process | None:
        ours = [each for each in at_work(place) if "jobs.build_watch_graph" in command_of(each)]
        return ours[0] if ours else None

    process = place.airflow.wait(job, "build_watch_graph runs", PATIENCE)
    time.sleep(3)
    for each in [*process.children(recursive=True), process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.send_signal(signal.SIGKILL)
    return [place.airflow.ended(run)]


def backfill_beside(place: Place, day: dt.date, **more: Any) -> list[str]:
    """Two nights ago is made again while the night runs."""
    run = trigger(place, day, **more)
    past = str(day - dt.timedelta(days=2))
    place.airflow.backfill(past, past, dag_run_conf={"force": True, **more})
    states = [place.airflow.ended(run)]
    return states + [one["state"] for one in place.airflow.backfilled().values()]


HOW: Mapping[str, Callable[..., list[str]]] = {
    "late file": late_file,
    "broken file": broken_file,
    "killed job": killed_job,
    "backfill beside": backfill_beside,
}


def command_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def at_work(place: Place) -> list[psutil.Process]:
    """Processes that work on the warehouse: jobs, commands and their JVMs; not Airflow's parts."""
    ours = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            here = process.environ().get("MICROREC_WAREHOUSE") == str(place.warehouse)
            if here and "airflow" not in command_of(process):
                ours.append(process)
    return ours


def command(place: Place, *words: str, clock: str | None = None) -> str:
    """A `microrec` command, under a clock that is set forward; its output."""
    ahead = ["faketime", "-f", clock] if clock else []
    ended = subprocess.run(
        [*ahead, sys.executable, "-m", "microrec.cli", *words],
        env=place.airflow.environment,
        cwd=HOME,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode in (0, 65), ended.stderr[-2000:]
    return ended.stdout


def watched(place: Place) -> list[str]:
    """What `microrec watch` finds."""
    return list(json.loads(command(place, "watch", "--json").splitlines()[0])["findings"])


def maintain(place: Place, began: Sequence[float], number: int) -> None:
    """What the DAG `maintenance` does each day, and the service `cleaner`."""
    command(place, "prune", "--keep", str(KEPT_RELEASES), clock=FORWARD)
    command(place, "vacuum", "--keep", str(KEPT_RELEASES), "--hours", "24", clock=FORWARD)
    if number > AS_NINETY_DAYS:
        since = dt.datetime.fromtimestamp(began[-AS_NINETY_DAYS], dt.UTC)
        retention.prune_logs(place.airflow.home / "logs", before=since)
        if number % 5 == 0:
            before = ("--clean-before-timestamp", since.isoformat())
            place.airflow.command("db", "clean", *before, "--skip-archive", "--yes")


def tree(folder: Path, wanted: Callable[[Path], bool] = lambda _: True) -> tuple[int, float]:
    """Files of a folder and their bytes."""
    count, size = 0, 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and wanted(path):
                count += 1
                size += path.stat().st_size
    return count, size


def measured(place: Place) -> dict[str, float]:
    """Everything that might grow."""
    figures: dict[str, float] = {}
    for part in place.airflow.parts:
        name = part.log.stem
        if name == "postgres":
            continue
        family = [psutil.Process(part.process.pid)]
        family += family[0].children(recursive=True)
        figures[f"{name}_mb"] = sum(each.memory_full_info().pss for each in family) / MB
        figures[f"{name}_processes"] = len(family)
        figures[f"{name}_open_files"] = sum(each.num_fds() for each in family)
    engine = sqlalchemy.create_engine(
        place.airflow.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    )
    with engine.connect() as connection:
        query = (
            "SELECT pg_database_size(current_database()), (SELECT count(*) FROM task_instance),"
            " (SELECT count(*) FROM pg_stat_activity)"
        )
        size, tasks, sessions = connection.execute(sqlalchemy.text(query)).one()
    engine.dispose()
    figures |= {"database_mb": size / MB, "task_instances": tasks, "database_sessions": sessions}
    for name, folder in (("logs", place.airflow.home / "logs"), ("temp", place.root / "tmp")):
        count, size = tree(folder)
        figures |= {f"{name}_files": count, f"{name}_mb": size / MB}
    for name, wanted in TREES.items():
        count, size = tree(place.warehouse, wanted)
        figures |= {f"{name}_files": count, f"{name}_mb": size / MB}
    figures["processes_left"] = len(at_work(place))
    figures["shared_memory_files"] = len(os.listdir("/dev/shm"))
    figures["folders_of_tables"] = sum(path.is_dir() for path in place.warehouse.rglob("*"))
    return figures


def night(place: Place, number: int, day: dt.date) -> dict[str, Any]:
    """Deliver a day, make its night, say how it went."""
    deliver(place, day)
    fault = FAULTS.get(number % EVERY, "")
    # The models that PyG builds layers for, which it writes files for, every fourth night: they take a minute.
    more = {} if number % 4 == 0 else {"models": ["video_neighbours"]}
    began = time.monotonic()
    states = HOW.get(fault, plain)(place, day, **more)
    seconds = time.monotonic() - began
    latest = reader.latest(str(place.warehouse))
    latest.verify()
    receipts = Warehouse.open(str(place.warehouse))
    erased = receipts.read("erasures").num_rows if "erasures" in receipts.tables() else 0
    return {
        "night": number,
        "day": str(day),
        "fault": fault,
        "states": states,
        "seconds": seconds,
        "latest": str(latest.day),
        "erasures": erased,
    }


def soak(root: Path, nights: int, until: float) -> None:
    """Make nights until there are enough or the time is over; a line of JSON for each.

    Args:
        root: folder of everything.
        nights: how many at most.
        until: seconds since 1970 after which no night begins.
    """
    last = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=2)
    config = Config(
        users=150,
        videos=120,
        days=nights + WINDOW,
        first_day=last - dt.timedelta(days=nights + WINDOW - 1),
        formats=("parquet",),
    )
    world = generate(config, np.random.default_rng(3))
    write.write_world(str(root / "store"), world.parts)
    (root / "recipe.toml").write_text(RECIPE)
    for folder in ("landing", "tmp"):
        (root / folder).mkdir()
    settings = {
        "MICROREC_RECIPE": str(root / "recipe.toml"),
        "MICROREC_LANDING": str(root / "landing"),
        "MICROREC_WAREHOUSE": str(root / "warehouse"),
        "TMPDIR": str(root / "tmp"),
        "SPARK_LOCAL_DIRS": str(root / "tmp"),
        # Nights are asked for: those of the schedule would be yesterday's.
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
    }
    began: list[float] = []
    with Airflow(root, settings, light=False) as airflow:
        place = Place(root, world, airflow)
        airflow.api.patch(NIGHTLY, json={"is_paused": False}).raise_for_status()
        for day in place.days[: WINDOW - 1]:
            deliver(place, day)
        for number, day in enumerate(place.days[WINDOW - 1 :], start=1):
            if number > nights or time.time() > until:
                break
            began.append(time.time())
            line = night(place, number, day)
            line["findings"] = len(watched(place))
            maintain(place, began, number)
            line["with_maintenance"] = time.time() - began[-1]
            line |= measured(place)
            with (root / "nights.jsonl").open("a") as lines:
                lines.write(json.dumps(line) + "\n")
            logger.info("night %d: %s, %.0f s", number, line["states"], line["seconds"])


GROWS = 0.05
"""Growth from one night to the next, as a share of the last nights' median, from which a figure is said to grow."""
LEFT = 2
"""Nights at the end, at least, over which growth is looked for: the first fill caches and the days that are kept."""


class Trend(NamedTuple):
    """How a figure went from night to night."""

    name: str
    first: float
    last: float
    """Medians of the first and of the last half of the nights."""
    greatest: float
    a_night: float
    """Slope over the last half."""

    @property
    def grows(self) -> bool:
        """Whether the last half still grows by more than a share."""
        return self.a_night > GROWS * max(abs(self.last), 1e-9) and self.last > self.first


def trends(nights: Sequence[Mapping[str, Any]]) -> list[Trend]:
    """Return how each figure went; those of a night's faults and runs are none.

    Args:
        nights: lines of `nights.jsonl`, in order.
    """
    half = max(len(nights) // 2, LEFT)
    found = []
    for name, value in nights[-1].items():
        if name in ("night", "findings", "erasures") or not isinstance(value, int | float):
            continue
        series = [float(night[name]) for night in nights]
        tail = series[-half:]
        slope = float(np.polyfit(range(len(tail)), tail, 1)[0]) if len(tail) > 1 else 0.0
        middle = (statistics.median(series[:half]), statistics.median(tail))
        found.append(Trend(name, *middle, max(series), slope))
    return found


def result(nights: Sequence[Mapping[str, Any]], machine: str) -> dict[str, Any]:
    """Return the result as the results page has it, without what people make of it.

    Args:
        nights: lines of `nights.jsonl`, in order.
        machine: what it ran on, in words.
    """
    rows = [
        [
            trend.name.replace("_", " "),
            *(f"{round(value, 4):.4g}" for value in trend[1:]),
            "grows" if trend.grows else "flat",
        ]
        for trend in trends(nights)
    ]
    faults = ", ".join(
        f"night {night['night']}: {night['fault']}" for night in nights if night["fault"]
    )
    return {
        "title": "A soak: nights one after another, with faults",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": machine,
        "command": "python -m tests.benchmarks.soak",
        "setting": f"{len(nights)} nights through the scheduler; {faults or 'no fault'}.",
        "columns": ["what", "first half", "last half", "greatest", "a night", "says"],
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=24 * 60, help="begin no night after this")
    parser.add_argument("--out", type=Path, default=HOME / "var" / "soak")
    parser.add_argument("--summary", action="store_true", help="only the result of a soak that ran")
    parser.add_argument("--machine", default="", help="what it ran on, for the results page")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if not given.summary:
        given.out.mkdir(parents=True)
        soak(given.out.resolve(), given.nights, time.time() + 60 * given.minutes)
    lines = (given.out / "nights.jsonl").read_text().splitlines()
    found = result([json.loads(line) for line in lines], given.machine)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
