"""The night as an operator runs it: `microrec night`, through Airflow, in processes of its own."""

import contextlib
import datetime as dt
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microrec.cli.local_airflow import airflow_environment
from microrec.config.settings import HOME
from microrec.landing import write
from microrec.release import reader
from microrec.runner.exit_status import ExitStatus
from microrec.synth.world import Config, generate
from microrec.tables.arrow import Warehouse
from tests.ui.airflow_servers import NIGHTLY, Airflow

pytestmark = [pytest.mark.spark, pytest.mark.slow]

DAY, NEXT = "2026-01-05", "2026-01-06"

RECIPE = """
[night]
window_days = 5
k = 20
models = ["popularity", "video_neighbours"]
"""


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A landing zone, an Airflow of its own, and what the first night printed."""
    place = tmp_path_factory.mktemp("operator")
    (place / "recipe.toml").write_text(RECIPE)
    world = generate(Config(users=300, videos=300, days=5), np.random.default_rng(5))
    write.write_world(str(place / "landing"), world.parts)
    environment = {
        **os.environ,
        **airflow_environment(place / "airflow"),
        "MICROREC_RECIPE": str(place / "recipe.toml"),
        "MICROREC_WAREHOUSE": str(place / "warehouse"),
        "MICROREC_LANDING": str(place / "landing"),
    }
    found = {"place": place, "environment": environment, "warehouse": str(place / "warehouse")}
    requests = world.truth.suppressed[dt.date.fromisoformat(DAY)]
    found["erased"] = [user for user, kind in requests.items() if kind == "erase"]
    found["first"] = typed(found, "night", "--day", DAY, "--landing", str(place / "landing"))
    return found


def typed(
    operator: dict[str, Any], *words: str, lines: str = ""
) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "microrec"), *words]
    return subprocess.run(
        command, env=operator["environment"], cwd=HOME, capture_output=True, text=True, timeout=900, check=False,
        input=lines,
    )  # fmt: skip


def test_night_prints_its_tasks_and_its_release(operator: dict[str, Any]) -> None:
    night = operator["first"]
    assert night.returncode == 0, night.stdout[-4000:] + night.stderr[-2000:]
    for words in (
        "ok validate_events",
        "ok trial.train_model [video_neighbours]",
        "ok publish_release",
        f"release {DAY}",
        "blend-minus-popularity",
        "the head of user",
        operator["warehouse"],
    ):
        assert words in night.stdout
    release = reader.latest(operator["warehouse"])
    assert str(release.day) == DAY
    release.verify()


def test_night_leaves_nothing_of_who_asked_to_be_erased(operator: dict[str, Any]) -> None:
    """Tables, logs of Delta, models, and Airflow's logs and database."""
    places = (
        "--landing",
        str(operator["place"] / "landing"),
        "--state",
        str(operator["place"] / "airflow"),
    )
    ids = "".join(f"{user}\n" for user in operator["erased"])
    assert ids
    proof = typed(operator, "prove-erasure", *places, lines=ids)
    assert proof.returncode == 0, proof.stdout
    n = len(operator["erased"])
    assert f"nothing is left of {n} people; receipts: {n}" in proof.stdout
    searched = int(proof.stdout.split(" files searched")[0].split()[-1])
    assert searched > 100
    someone = reader.latest(operator["warehouse"]).read("recommendations")["user_id"][0].as_py()
    seen = typed(operator, "prove-erasure", *places, lines=f"{someone}\n")
    assert seen.returncode == 65, "who was not erased is found"


def test_backfill_of_a_day_whose_release_stands_is_green_and_changes_nothing(
    operator: dict[str, Any],
) -> None:
    before = reader.latest(operator["warehouse"])
    # Un-pausing would start the night of yesterday, and SQLite does not like two writers.
    settings = operator["environment"] | {"AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False"}
    place = operator["place"]
    with Airflow(place, settings, home=place / "airflow", light=True) as airflow:
        airflow.api.patch(NIGHTLY, json={"is_paused": False}).raise_for_status()
        told, (run,) = airflow.announced(), airflow.runs()
        first = {task["task_id"]: task["id"] for task in airflow.tasks(run)}
        airflow.backfill(DAY, DAY, reprocess_behavior="completed")
        runs = airflow.backfilled()
        assert {day: run["state"] for day, run in runs.items()} == {DAY: "success"}, airflow.story()
        assert airflow.announced() == told
        assert runs[DAY]["dag_run_id"] == run
        planning = {"wait_for_late_rows", "resolve_day", "plan_night"}
        tasks = airflow.tasks(run)
        others = {task["state"] for task in tasks if task["task_id"] not in planning}
        assert others == {"skipped"}, "the release stands: nothing else has to run"
        again = {task["task_id"]: task["id"] for task in tasks}
        assert all(first[task] < again[task] for task in planning), "the fence goes by these ids"
    assert [str(one.day) for one in reader.every(operator["warehouse"])] == [DAY]
    after = reader.latest(operator["warehouse"])
    assert after.id == before.id
    after.verify()


def test_night_of_a_day_that_nobody_delivered_is_refused_before_airflow_starts(
    operator: dict[str, Any],
) -> None:
    night = typed(operator, "night", "--day", NEXT, "--landing", str(operator["place"] / "landing"))
    assert night.returncode == ExitStatus.DATA_ERROR
    assert f"no raw_interactions of {NEXT}; days there are" in " ".join(night.stderr.split())
    assert night.stdout == ""


def test_night_of_a_broken_file_says_why_and_the_release_stands(
    operator: dict[str, Any], tmp_path: Path
) -> None:
    before = reader.latest(operator["warehouse"])
    landing = tmp_path / "landing"
    shutil.copytree(operator["place"] / "landing", landing)
    broken = landing / "raw_interactions" / f"day={NEXT}" / "part-0.parquet"
    broken.parent.mkdir()
    broken.write_bytes(b"PAR1 and no more")
    night = typed(operator, "night", "--day", NEXT, "--landing", str(landing))
    assert night.returncode == ExitStatus.FAILURE
    assert "FAILED validate_events" in night.stdout
    *_, last = night.stdout.splitlines()
    assert last.startswith(f"night {NEXT}: FAILED; the previous release stands; validate_events: ")
    assert "part-0.parquet" in last
    assert reader.latest(operator["warehouse"]) == before
    before.verify()


def test_spark_job_killed_while_it_writes_leaves_the_old_day_and_the_next_run_repairs(
    operator: dict[str, Any],
) -> None:
    warehouse = Warehouse.open(operator["warehouse"])
    before, version = warehouse.digest("users", day=DAY), warehouse.version("users")
    folder = Path(operator["warehouse"]) / "users"
    attempts = set(folder.glob("attempt-*"))
    command = [sys.executable, "-m", "jobs.build_watch_graph", "--day", DAY]
    writer = subprocess.Popen(
        command,
        env=operator["environment"],
        cwd=HOME,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.monotonic() + 300
    while set(folder.glob("attempt-*")) == attempts:
        assert time.monotonic() < until
        assert writer.poll() is None, "the job ended before it could be killed"
        time.sleep(0.01)
    os.killpg(writer.pid, signal.SIGKILL)
    writer.wait(timeout=60)
    assert warehouse.version("users") == version
    assert warehouse.digest("users", day=DAY) == before
    reader.latest(operator["warehouse"]).verify()
    again = subprocess.run(command, env=operator["environment"], cwd=HOME, timeout=600, check=False)
    assert again.returncode == 0
    assert warehouse.version("users") == version + 1
    assert warehouse.digest("users", day=DAY) == before


def test_record_of_a_run_keeps_when_it_happened_and_outlives_a_start_of_the_server(
    operator: dict[str, Any],
) -> None:
    """Its day is long past: cleaned by its day it would be gone before anybody has seen it."""
    database = Path(operator["environment"]["AIRFLOW_HOME"]) / "airflow.db"
    query = "SELECT start_date, logical_date FROM dag_run WHERE logical_date LIKE ?"

    def runs() -> list[Any]:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            return connection.execute(query, (f"{DAY}%",)).fetchall()

    today = dt.datetime.now(dt.UTC)
    ((started, _),) = runs()
    assert today - dt.datetime.fromisoformat(started).replace(tzinfo=dt.UTC) < dt.timedelta(days=1)
    # As `DAG.test` leaves it, if it is killed.
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE dag_run SET start_date = logical_date")
    before = (today - dt.timedelta(days=30)).isoformat()
    for module, *words in (
        ["microrec.cli.airflow_records"],
        ["airflow", "db", "clean", "--clean-before-timestamp", before, "--skip-archive", "--yes"],
    ):
        command = [sys.executable, "-m", module, *words]
        subprocess.run(command, env=operator["environment"], cwd=HOME, check=True, timeout=300)
    assert len(runs()) == 1
