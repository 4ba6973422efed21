"""Policy of the DAG: it parses without the heavy engines, explains itself, and every task is a job of ours."""

import datetime as dt
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from microrec.settings import HOME

BLOCKED = """
import sys
BLOCKED = {"pyspark", "torch", "torch_geometric", "great_expectations", "microrec", "jobs", "pandas"}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
sys.path.insert(0, "dags")
import nightly
"""


def test_the_dag_imports_with_the_heavy_engines_blocked() -> None:
    outcome = subprocess.run(
        [sys.executable, "-c", BLOCKED],
        cwd=HOME,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr[-2000:]


def jobs_of(dag: Any) -> dict[str, dict[str, Any]]:
    """task id -> what the task passes to its job."""
    found = {}
    for task in dag.tasks:
        arguments = getattr(task, "partial_kwargs", None) or vars(task)
        if "job" in arguments:
            found[task.task_id] = arguments
    return found


def test_every_task_is_a_file_of_jobs_and_every_job_a_task(nightly: Any) -> None:
    files = {path.stem for path in (HOME / "jobs").glob("*.py")} - {"__init__"}
    tasks = jobs_of(nightly)
    assert {arguments["job"] for arguments in tasks.values()} == files
    assert all(task_id.split(".")[-1] == arguments["job"] for task_id, arguments in tasks.items())
    assert set(nightly.task_ids) - set(tasks) == {"resolve_day"}


def test_every_job_is_told_the_resolved_day(nightly: Any) -> None:
    for arguments in jobs_of(nightly).values():
        assert arguments["day"].operator.task_id == "resolve_day"


def test_mapped_tasks_are_mapped_over_the_recipes_models(nightly: Any) -> None:
    night = tomllib.loads((HOME / "microrec.toml").read_text())["night"]
    models, rankers = night["models"], night.get("rankers", [])
    over = {
        "train_model": models + [one for one in rankers if one not in models],
        "select_candidates": models,
        "rank_candidates": rankers,
    }
    mapped = {
        task.task_id: task.expand_input.value["model"]
        for task in nightly.tasks
        if hasattr(task, "expand_input")
    }
    assert mapped == {
        f"{fit}.{job}": named for fit in ("trial", "final") for job, named in over.items()
    }


def test_the_dag_reads_the_recipe_as_the_jobs_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import submit

    from microrec import recipe
    from microrec.settings import settings

    path = tmp_path / "recipe.toml"
    monkeypatch.setenv("MICROREC_RECIPE", str(path))
    for rankers in ("", 'rankers = ["din", "multi_trend"]\n'):
        path.write_text(f'[night]\nmodels = ["popularity", "multi_trend"]\n{rankers}')
        settings.cache_clear()
        night = recipe.night()
        found = (submit.models(), submit.rankers(), submit.trained())
        assert found == (night.models, night.rankers, night.trained)
    settings.cache_clear()
    assert submit.trained() == ["popularity", "multi_trend", "din"]
    assert night.sources == [*night.models, "ranked_by_din", "ranked_by_multi_trend"]


def test_the_dag_explains_itself_and_gives_up_in_time(nightly: Any) -> None:
    assert len(nightly.doc_md) > 500
    assert nightly.dagrun_timeout
    assert set(nightly.tags) == {"microrec", "tier-1"}
    for task in nightly.tasks:
        assert task.retries >= 1
        assert task.execution_timeout


def test_the_gate_stands_between_trial_and_final(nightly: Any) -> None:
    gate = nightly.task_dict["evaluate_sources"]
    assert {"trial.blend_candidates"} == gate.upstream_task_ids - {"resolve_day"}
    blend = nightly.task_dict["trial.blend_candidates"]
    before = {"trial.select_candidates", "trial.rank_candidates"}
    assert before == blend.upstream_task_ids - {"resolve_day"}
    assert {"final.train_model"} == gate.downstream_task_ids


def test_what_is_skipped_stops_nothing_and_what_fails_does(nightly: Any) -> None:
    for task in nightly.tasks:
        skipped = {one for one in task.upstream_task_ids if one.endswith("rank_candidates")}
        if skipped:
            assert task.trigger_rule == "none_failed"
    assert nightly.task_dict["publish_release"].upstream_task_ids >= {
        "check_recommendations",
        "describe_trends",
        "describe_clips",
    }


def test_the_schedule_gives_each_run_the_utc_day_that_ended(nightly: Any) -> None:
    from airflow.serialization.encoders import coerce_to_core_timetable

    timetable = coerce_to_core_timetable(nightly.timetable)
    interval = timetable.infer_manual_data_interval(run_after=_instant("2026-01-05T00:00"))
    assert interval.end - interval.start == dt.timedelta(days=1)
    assert (interval.start.hour, interval.start.minute) == (0, 0)


def _instant(text: str | None) -> Any:
    import pendulum

    return None if text is None else pendulum.parse(text, tz="UTC")


@pytest.mark.parametrize(
    ("kind", "start", "end", "given", "expected"),
    [
        ("scheduled", "2026-01-04T00:00", "2026-01-05T00:00", None, "2026-01-04"),
        ("backfill", "2026-01-04T00:00", "2026-01-05T00:00", None, "2026-01-04"),
        ("manual", "2026-01-03T00:00", "2026-01-04T00:00", "2026-01-04", "2026-01-04"),
        ("manual", None, None, "2026-01-04", "2026-01-04"),
        ("manual", "2026-01-03T00:00", "2026-01-04T00:00", None, None),
        ("manual", None, None, None, None),
        ("scheduled", "2026-01-04T02:00", "2026-01-05T02:00", None, None),
        ("scheduled", "2026-01-04T00:00", "2026-01-04T00:00", None, None),
        ("manual", None, None, "yesterday", None),
    ],
)
def test_which_day_a_run_is_for(
    kind: str, start: str, end: str, given: str, expected: str, nightly: Any
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    run = SimpleNamespace(
        run_id="r",
        run_type=SimpleNamespace(value=kind),
        data_interval_start=_instant(start),
        data_interval_end=_instant(end),
    )
    resolve = nightly.task_dict["resolve_day"].python_callable
    if expected is None:
        with pytest.raises(AirflowFailException, match="day"):
            resolve(params={"day": given}, dag_run=run)
    else:
        assert resolve(params={"day": given}, dag_run=run) == expected


@pytest.mark.parametrize(
    ("status", "error"), [(65, "AirflowFailException"), (1, "AirflowException"), (0, None)]
)
def test_a_jobs_exit_status_decides_whether_it_is_tried_again(
    status: int, error: str, nightly: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import submit

    said: dict[str, Any] = {}

    def run_command(self: Any, command: list[str], **how: Any) -> Any:
        said.update(command=command, **how)
        return SimpleNamespace(exit_code=status)

    monkeypatch.setattr(submit.SubprocessHook, "run_command", run_command)
    job = submit.Job(task_id="t", job="train_model", day="2026-01-04", fit="trial", model="content")
    context = {"run_id": "night-7", "ti": SimpleNamespace(try_number=2)}
    if error:
        with pytest.raises(Exception, match="train_model") as raised:
            job.execute(context)
        assert type(raised.value).__name__ == error
    else:
        job.execute(context)
    assert said["command"][1:] == [
        "-m", "jobs.train_model", "--day", "2026-01-04", "--fit", "trial", "--model", "content",
    ]  # fmt: skip
    assert (said["env"]["MICROREC_RUN_ID"], said["env"]["MICROREC_ATTEMPT"]) == ("night-7", "2")
