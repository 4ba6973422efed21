"""Records of runs whose day is long past: they have happened today, and `airflow db clean` leaves them alone."""

import contextlib
import datetime as dt
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from microrec.cli.local_airflow import airflow_environment

DAG = """
import datetime as dt
from airflow.sdk import DAG, task

with DAG("small", start_date=dt.datetime(2022, 1, 1), schedule=None):
    @task
    def nothing():
        pass
    nothing()
"""
NIGHT = """
import datetime as dt, sys
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.utils.db import initdb
initdb()
bag = BundleDagBag(dag_folder=sys.argv[1], bundle_path=sys.argv[1], bundle_name="dags-folder")
for day in (4, 5):
    bag.dags["small"].test(logical_date=dt.datetime(2026, 1, day, tzinfo=dt.UTC))
"""


def test_run_of_a_past_day_began_when_it_ran_and_outlives_a_clean(tmp_path: Path) -> None:
    dags, home = tmp_path / "dags", tmp_path / "airflow"
    dags.mkdir()
    (dags / "small.py").write_text(DAG)
    settings = airflow_environment(home) | {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)}
    environment = {**os.environ, **settings}

    def run(*words: str) -> None:
        ended = subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]

    def started() -> list[Any]:
        with contextlib.closing(sqlite3.connect(home / "airflow.db")) as connection:
            rows = connection.execute("SELECT start_date FROM dag_run").fetchall()
        return [dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC) for (text,) in rows]

    today = dt.datetime.now(dt.UTC)
    run("-c", NIGHT, str(dags))
    assert all(today - start > dt.timedelta(days=30) for start in started()), "as Airflow has it"
    run("-m", "microrec.cli.airflow_records")
    assert len(started()) == 2
    assert all(abs(start - today) < dt.timedelta(hours=1) for start in started())
    before = (today - dt.timedelta(days=30)).isoformat()
    clean = ["db", "clean", "--clean-before-timestamp", before, "--skip-archive", "--yes"]
    run("-m", "airflow", *clean)
    assert len(started()) == 2
