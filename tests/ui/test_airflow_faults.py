"""Airflow itself fails in mid-night, its scheduler killed with -9 or its database restarted: the rows are the same."""

import contextlib
import datetime as dt
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import psutil
import pytest

from microrec.config.settings import settings
from microrec.landing import write
from microrec.release import reader
from microrec.synth.world import Config, generate
from tests.ui.airflow_servers import ENDED, NIGHTLY, PATIENCE, Airflow, Part
from tests.worlds.nights import run_night

pytestmark = [pytest.mark.faults, pytest.mark.spark, pytest.mark.slow]

DAYS = 4
DAY = dt.date(2026, 1, DAYS)
IN_MIDNIGHT = "build_watch_graph"
"""The task that runs when the fault strikes."""

RECIPE = f"""
[night]
window_days = {DAYS}
k = 10
models = ["popularity", "video_neighbours"]
grace_hours = 0

[evaluation.gate] # a world so small proves nothing
better_than_popularity = -1.0
"""


class Desk(NamedTuple):
    """An Airflow, where its jobs write, and the id of the release that an undisturbed night made."""

    airflow: Airflow
    warehouse: Path
    release: str


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, spark: object) -> Iterator[Desk]:
    place = tmp_path_factory.mktemp("airflow-faults")
    (place / "recipe.toml").write_text(RECIPE)
    world = generate(
        Config(users=100, videos=100, days=DAYS, formats=("parquet",)), np.random.default_rng(3)
    )
    write.write_world(str(place / "landing"), world.parts)
    here = {
        "MICROREC_RECIPE": str(place / "recipe.toml"),
        "MICROREC_LANDING": str(place / "landing"),
        "MICROREC_WAREHOUSE": str(place / "undisturbed"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in here.items():
            patch.setenv(name, value)
        settings.cache_clear()
        run_night(DAY)
    settings.cache_clear()
    there = here | {
        "MICROREC_WAREHOUSE": str(place / "warehouse"),
        # What a dead scheduler has left is looked for so often, not every five minutes.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    }
    with Airflow(place, there, light=False) as airflow:
        airflow.api.patch(NIGHTLY, json={"is_paused": False}).raise_for_status()
        # That starts the night of yesterday as well, which has no rows.
        airflow.wait(airflow.runs, "the scheduled run is there")
        assert airflow.ended(next(iter(airflow.runs()))) == "failed"
        yield Desk(airflow, place / "warehouse", reader.of(DAY, here["MICROREC_WAREHOUSE"]).id)


def the_scheduler(airflow: Airflow) -> None:
    """Its process alone: the workers it had started go on, and stay when all is done."""
    scheduler = named(airflow, "scheduler")
    airflow.closing.callback(kill_group, scheduler.process.pid)
    os.kill(scheduler.process.pid, signal.SIGKILL)
    scheduler.process.wait()


def the_scheduler_and_its_workers(airflow: Airflow) -> None:
    """As when a container dies; the job, in a session of its own, is left and nobody waits for it."""
    scheduler = named(airflow, "scheduler")
    kill_group(scheduler.process.pid)
    scheduler.process.wait()


def the_database(airflow: Airflow) -> None:
    """What `pg_ctl restart -m immediate` does: every server process quits at once."""
    postgres = named(airflow, "postgres")
    postgres.process.send_signal(signal.SIGQUIT)
    postgres.process.wait(timeout=60)


def kill_group(number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(number, signal.SIGKILL)


def named(airflow: Airflow, name: str) -> Part:
    return next(part for part in airflow.parts if part.log.stem.startswith(name))


def restart_what_has_ended(airflow: Airflow) -> list[str]:
    """What docker/compose.yaml has `restart: unless-stopped` do."""
    ended = [part for part in airflow.parts if part.process.poll() is not None]
    for part in ended:
        airflow.parts.remove(part)
        words = list(part.process.args)  # type: ignore[arg-type]
        if part.log.stem.startswith("postgres"):
            folder = Path(words[words.index("-D") + 1]).parent
            owner = {"user": "postgres", "group": "postgres", "extra_groups": []}
            options = {"cwd": folder, **(owner if os.geteuid() == 0 else {})}
            how = signal.SIGINT
        else:
            options, how = {"cwd": os.getcwd(), "env": airflow.environment}, signal.SIGTERM
        log = part.log.with_name(f"{part.log.stem}-again.log")
        airflow.parts.append(Part(words, log, **options))
        airflow.closing.callback(airflow.parts[-1].stop, how)
    return [part.log.stem for part in ended]


def ended(airflow: Airflow, run: str) -> str:
    """Wait for the run as a supervisor does; the state it ended in."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        restart_what_has_ended(airflow)
        with contextlib.suppress(httpx.HTTPError):
            state = str(airflow.runs()[run]["state"])
            if state in ENDED:
                return state
        time.sleep(0.5)
    raise AssertionError(f"{run} did not end\n{airflow.story()}")


def job_of(task: str, warehouse: Path) -> psutil.Process | None:
    """The process of a task's job."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            here = process.environ().get("MICROREC_WAREHOUSE") == str(warehouse)
            if here and f"jobs.{task}" in process.cmdline():
                return process
    return None


@pytest.mark.parametrize("fault", [the_scheduler, the_scheduler_and_its_workers, the_database])
def test_airflow_part_fails_mid_night_and_the_rows_are_the_same(
    desk: Desk, fault: Callable[[Airflow], None]
) -> None:
    airflow = desk.airflow
    shutil.rmtree(desk.warehouse, ignore_errors=True)
    run = airflow.trigger({"day": str(DAY)})
    job = airflow.wait(lambda: job_of(IN_MIDNIGHT, desk.warehouse), f"{IN_MIDNIGHT} runs", PATIENCE)
    fault(airflow)
    assert restart_what_has_ended(airflow), "nothing was hit"
    assert ended(airflow, run) == "success", airflow.story()
    with contextlib.suppress(psutil.TimeoutExpired):
        job.wait(timeout=60)
    assert not job.is_running()
    release = reader.of(DAY, str(desk.warehouse))
    release.verify()
    assert release.id == desk.release
