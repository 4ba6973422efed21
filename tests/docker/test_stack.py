"""The team's stack, run: its images built, all parts healthy, nights that end in the release of the desk, faults."""

import datetime as dt
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from microrec.config.settings import HOME
from microrec.release import reader
from tests.docker import images
from tests.docker.stack import PARTS, PASSWORD, PATIENCE, Stack
from tests.ui.airflow_servers import NIGHTLY

pytestmark = [pytest.mark.docker]

DAYS = 4
DAY = dt.date(2026, 1, DAYS)
WORLD = ("--seed", "3", "--users", "100", "--videos", "100", "--days", str(DAYS))
RECIPE = f"""
[night]
window_days = {DAYS}
k = 10
models = ["popularity", "video_neighbours"]
grace_hours = 0

[evaluation.gate] # a world so small proves nothing
better_than_popularity = -1.0
"""
SIZES = {
    "SPARK_CORES": "1",
    "SPARK_MEMORY": "1g",
    "SPARK_DRIVER_MEMORY": "1g",
    "SPARK_SHUFFLE_PARTITIONS": "4",
}
FIGURES = HOME / "var" / "docker-figures.json"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    lacking = images.absent()
    assert not lacking, "; ".join(lacking)
    place = tmp_path_factory.mktemp("stack")
    with images.pip_options() as options:
        variables = {**SIZES, **images.bases(), "PIP_OPTIONS": options}
        with Stack(place, RECIPE, variables) as started:
            yield started
            sizes = {name: images.size(f"microrec:{name}") for name in ("airflow", "spark")}
            FIGURES.parent.mkdir(exist_ok=True)
            FIGURES.write_text(json.dumps({"seconds": started.seconds, "bytes": sizes}, indent=1))
    assert not started.containers(), "containers are left"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> reader.Release:
    """The release of the same night, made on this machine with `microrec night`."""
    place = tmp_path_factory.mktemp("desk")
    (place / "recipe.toml").write_text(RECIPE)
    places = {
        "MICROREC_RECIPE": str(place / "recipe.toml"),
        "MICROREC_LANDING": str(place / "landing"),
        "MICROREC_WAREHOUSE": str(place / "warehouse"),
        "AIRFLOW_HOME": str(place / "airflow"),
    }
    program = (sys.executable, "-m", "microrec.cli")
    here = {"env": {**os.environ, **places}, "cwd": HOME}
    images.run(*program, "world", "--landing", str(place / "landing"), *WORLD, **here)
    images.run(*program, "night", "--day", str(DAY), **here)
    return reader.of(DAY, str(place / "warehouse"))


def test_stack_every_part_is_healthy_and_listens_on_loopback_alone(stack: Stack) -> None:
    assert stack.all_healthy()
    bound = {}
    for container in stack.containers():
        for addresses in container["NetworkSettings"]["Ports"].values():
            bound |= {address["HostPort"]: address["HostIp"] for address in addresses or []}
    assert bound == {str(stack.port): "127.0.0.1"}
    (init,) = stack.of("airflow-init")
    assert init["State"]["ExitCode"] == 0
    restarts = [(name, each["RestartCount"]) for name in PARTS for each in stack.of(name)]
    assert not [name for name, number in restarts if number], restarts


def test_stack_answers_nobody_without_a_login(stack: Stack) -> None:
    assert httpx.get(f"{stack.url}{NIGHTLY}", timeout=60).status_code == 401
    with pytest.raises(httpx.HTTPStatusError):
        stack.log_in(PASSWORD[:-1])


def test_stack_dags_live_but_for_the_examples(stack: Stack) -> None:
    dags = stack.wait(lambda: stack.api.get("/api/v2/dags").json()["dags"], "DAGs are known")
    assert {dag["dag_id"]: dag["is_paused"] for dag in dags} == {
        "nightly": False,
        "watchdog": False,
        "maintenance": False,
        "follow_releases": True,
        "hand_off": True,
    }


def test_stack_spark_master_refuses_who_does_not_know_the_secret(stack: Stack) -> None:
    count = "from pyspark.sql import SparkSession as S; S.builder.master('spark://spark-master:7077').getOrCreate()"
    without = ("exec", "-T", "-e", "SPARK_CONF_DIR=/tmp", "scheduler", "timeout", "300")
    said = stack.compose(*without, "python", "-c", count, check=False)
    assert "All masters are unresponsive" in said
    assert "SASL" in said, "for want of the secret, not of the master"


def test_stack_night_that_loses_a_worker_postgres_and_the_scheduler_is_the_release_of_the_desk(
    stack: Stack, desk: reader.Release
) -> None:
    """Delivered, asked for by REST, and disturbed three times; read by another user in a container of its own."""
    stack.compose("run", "--rm", "tools", "microrec", "world", "--landing", "/srv/landing", *WORLD)
    stack.backfill(str(DAY), str(DAY))
    night = stack.wait(lambda: stack.by_day("backfill").get(str(DAY)), "the run is made")
    run = night["dag_run_id"]

    def executor() -> dict[str, Any] | None:
        return next(filter(stack.has_executor, stack.of("spark-worker")), None)

    def begun(task: str) -> bool:
        states = {each["task_id"]: each["state"] for each in stack.tasks(run)}
        return states[task] in ("running", "success")

    def disturbed() -> str:
        worker = stack.wait(executor, "an executor runs", PATIENCE)
        stack.crash(worker, "deploy.worker.Worker")
        stack.wait(lambda: begun("build_watch_graph"), "the graph of watches is built", PATIENCE)
        stack.compose("restart", "postgres")
        stack.wait(lambda: begun("build_user_graph"), "the graph of users is built", PATIENCE)
        stack.crash(stack.of("scheduler")[0], "airflow scheduler")
        return stack.ended(run)

    assert stack.timed("night", disturbed) == "success", stack.story()
    assert figures(stack) ^ figures_of(desk) == set()
    assert released(stack) == digests(desk)
    stack.wait(stack.all_healthy, "all is healthy again", 900)
    assert stack.of("scheduler")[0]["RestartCount"] == 1
    assert sum(each["RestartCount"] for each in stack.of("spark-worker")) == 1


def digests(release: reader.Release) -> dict[str, str]:
    return {name: pin.digest for name, pin in release.tables.items()}


def figures_of(release: reader.Release) -> set[str]:
    """Rows of `metrics`, as texts: where they differ, these say more than a digest."""
    return {json.dumps(row, default=str) for row in release.read("metrics").to_pylist()}


def figures(stack: Stack) -> set[str]:
    """The same, of the stack's release."""
    code = (
        "import datetime as dt, json; from microrec.release import reader; "
        f"release = reader.of(dt.date.fromisoformat('{DAY}'), '/srv/warehouse'); "
        "print(json.dumps([json.dumps(row, default=str) for row in release.read('metrics').to_pylist()]))"
    )
    return set(json.loads(stack.as_reader(code).splitlines()[-1]))


def released(stack: Stack) -> dict[str, str]:
    """The digests of the release of the day, verified in a container of another user that may only read."""
    code = (
        "import datetime as dt, json; from microrec.release import reader; "
        f"release = reader.of(dt.date.fromisoformat('{DAY}'), '/srv/warehouse'); release.verify(); "
        "print(json.dumps({name: pin.digest for name, pin in release.tables.items()}))"
    )
    return dict(json.loads(stack.as_reader(code).splitlines()[-1]))
