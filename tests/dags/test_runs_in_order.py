"""What the installed Airflow does with runs that wait: it is asked for its choice, and no scheduler runs."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import yaml

from microrec.cli.local_airflow import airflow_environment, ui_environment
from microrec.config.settings import HOME

NOW = dt.datetime.now(dt.UTC)
OTHER, OURS = "other_service", "nightly"
LIMIT = "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE"


@pytest.fixture
def session(dags: dict[str, Any]) -> Iterator[Any]:
    """A session of Airflow's database in which two DAGs are known; nothing of the test stays."""
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(DagRun))
        session.merge(DagBundleModel(name="of-test"))
        session.flush()
        for dag_id, max_active_runs in ((OTHER, 16), (OURS, 1)):
            model = DagModel(
                dag_id=dag_id, bundle_name="of-test", is_paused=False, is_stale=False,
                max_active_runs=max_active_runs, max_active_tasks=16,
            )  # fmt: skip
            session.merge(model)
        session.flush()
        yield session
        session.rollback()


def add_run(session: Any, dag_id: str, day: int, state: str, **more: Any) -> Any:
    """Add a run of a day before today."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    at = NOW - dt.timedelta(days=100 - day)
    run = DagRun(
        dag_id=dag_id, run_id=f"{dag_id}-{uuid4()}", logical_date=at, run_after=at, state=state,
        run_type=DagRunType.BACKFILL_JOB if "backfill_id" in more else DagRunType.SCHEDULED,
        data_interval=(at, at), triggered_by=DagRunTriggeredByType.TEST, **more,
    )  # fmt: skip
    session.add(run)
    session.flush()
    return run


def add_backfill(session: Any, days: range) -> list[Any]:
    """Queue the runs of a backfill of our DAG, one at a time, as the runbook asks for it."""
    from airflow.models.backfill import Backfill, BackfillDagRun

    backfill = Backfill(
        dag_id=OURS, from_date=NOW, to_date=NOW, dag_run_conf={}, max_active_runs=1, is_paused=False
    )
    session.add(backfill)
    session.flush()
    runs = []
    for number, day in enumerate(days, start=1):
        run = add_run(session, OURS, day, "queued", backfill_id=backfill.id)
        session.add(
            BackfillDagRun(
                backfill_id=backfill.id,
                dag_run_id=run.id,
                logical_date=run.logical_date,
                sort_ordinal=number,
            )
        )
        runs.append(run)
    session.flush()
    return runs


def chosen(session: Any) -> list[Any]:
    """The runs that a scheduler would look at next, in its order."""
    from airflow.models.dagrun import DagRun

    return list(DagRun.get_queued_dag_runs_to_set_running(session))


def test_backfill_behind_running_runs_of_another_dag_is_looked_at(session: Any) -> None:
    """airflow#58554: with 20 runs in progress a backfill was never scheduled."""
    for day in range(25):
        add_run(session, OTHER, day, "running")
    first, *_ = add_backfill(session, range(90, 93))
    assert chosen(session)[0].id == first.id


def test_backfill_behind_waiting_runs_of_another_dag_is_looked_at_with_our_limit(
    session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backfills come last, and Airflow looks at 20 runs: those of a DAG that may start would hide them."""
    from airflow.models.dagrun import DagRun

    for day in range(60):
        add_run(session, OTHER, day, "queued")
    backfilled = {run.id for run in add_backfill(session, range(90, 93))}
    assert {run.id for run in chosen(session)} >= backfilled
    assert DagRun.DEFAULT_DAGRUNS_TO_EXAMINE == int(airflow_environment(Path())[LIMIT]) >= 100
    monkeypatch.setattr(DagRun, "DEFAULT_DAGRUNS_TO_EXAMINE", 20)
    assert not {run.id for run in chosen(session)} & backfilled, "as Airflow has it by default"


def test_cleared_nights_start_one_by_one_the_oldest_first(
    session: Any, dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """airflow#56646: cleared runs started all at once, in any order. They are queued as clearing leaves them."""
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.models.dagrun import DagRun
    from airflow.serialization.encoders import coerce_to_core_timetable

    nights = [add_run(session, OURS, day, "queued", start_date=NOW) for day in (93, 91, 92, 90)]
    for night in nights:
        night.clear_number, night.last_scheduling_decision = 1, None
    session.flush()
    runner = SchedulerJobRunner(job=Job())
    dag = SimpleNamespace(dag_id=OURS, timetable=coerce_to_core_timetable(dags[OURS].timetable))
    monkeypatch.setattr(runner.scheduler_dag_bag, "get_dag_for_run", lambda *_, **__: dag)
    monkeypatch.setattr(DagRun, "notify_dagrun_state_changed", lambda *_, **__: None)
    started = []
    while waiting := [night for night in nights if night.state == "queued"]:
        for _ in range(2):
            runner._start_queued_dagruns(session)
        (running,) = [night for night in nights if night.state == "running"]
        started.append(running.logical_date)
        running.state = "success"
        session.flush()
        assert len(started) + len(waiting) == len(nights) + 1
    assert started == sorted(started)


def test_run_of_a_versioned_bundle_is_not_tied_to_the_code_of_its_first_try(
    dags: dict[str, Any],
) -> None:
    """airflow#67657: as long as a DAG looks the same, its runs went on with the jobs of an old commit."""
    from airflow.serialization.serialized_objects import DagSerialization

    for name in (OURS, "watchdog", "maintenance"):
        stored = DagSerialization.from_dict(DagSerialization.to_dict(dags[name]))
        assert stored.disable_bundle_versioning, f"{name}: as the scheduler reads it"


def test_tokens_outlive_the_queue_and_the_longest_night(
    dags: dict[str, Any], tmp_path: Path
) -> None:
    """airflow#59637: a task that had waited longer than its token was valid failed when it began.

    In 3.3 a task that waits for a slot of a pool has no token yet; that of a queued one is valid as long as Airflow
    lets it wait; and the one it gets when it begins lasts as long as we say.
    """
    import jwt
    from airflow.api_fastapi.auth.tokens import JWTGenerator
    from airflow.configuration import conf
    from airflow.executors.workloads.base import BaseWorkloadSchema

    generator = JWTGenerator(secret_key="s" * 64, valid_for=1, audience="of-test")
    token = BaseWorkloadSchema.generate_token("of-a-task", generator)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == conf.getfloat("scheduler", "task_queued_timeout")
    compose = yaml.safe_load((HOME / "docker" / "compose.yaml").read_text())
    night = dags[OURS].dagrun_timeout.total_seconds()
    longest = max(task.execution_timeout.total_seconds() for task in dags[OURS].tasks)
    for environment in (compose["x-airflow"]["environment"], ui_environment(tmp_path, 8080)):
        seconds = int(environment["AIRFLOW__EXECUTION_API__JWT_EXPIRATION_TIME"])
        assert seconds >= max(night, longest)
        assert int(environment[LIMIT]) >= 100
