"""Operators: the command lines they run, what their processes are told, and how a task ends."""

import datetime as dt
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

ENDINGS = [
    (65, "AirflowFailException"),
    (78, "AirflowFailException"),
    (1, "AirflowException"),
    (0, None),
]
"""Exit status of a process, and what its task raises: the first two are not tried again."""


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Processes that do not start: each is noted in `started` and ends with `result`."""
    import operators

    fake = SimpleNamespace(started=[], result=SimpleNamespace(exit_code=0, output=""))

    def run_command(self: Any, command: list[str], **keywords: Any) -> Any:
        fake.started.append({"command": command[1:], **keywords})
        return fake.result

    monkeypatch.setattr(operators.SubprocessHook, "run_command", run_command)
    return fake


@pytest.mark.parametrize(("status", "error"), ENDINGS)
def test_job_runs_as_a_process_and_ends_as_its_exit_status_says(
    status: int, error: str | None, processes: SimpleNamespace, task_instance: Callable[[], Any]
) -> None:
    import operators

    output = "2026-01-05 ERROR microrec.runner.job GateHeld: gate_results[day=2026-01-04]"
    processes.result = SimpleNamespace(exit_code=status, output=output)
    job = operators.Job(
        task_id="t", job="train_model", day="2026-01-04", fit="trial", model="content"
    )
    params = {"models": ["content", "ease"], "promote": "the floor was broken on that day"}
    context = {"run_id": "night-7", "ti": task_instance(), "params": params}
    if error:
        last_line = r"^train_model [a-z0-9 -]*: GateHeld: gate_results"
        with pytest.raises(Exception, match=last_line) as raised:
            job.execute(context)
        assert type(raised.value).__name__ == error
    else:
        job.execute(context)
    (process,) = processes.started
    assert process["command"] == [
        "-m", "jobs.train_model", "--day", "2026-01-04", "--fit", "trial", "--model", "content",
    ]  # fmt: skip
    assert process["env"]["MICROREC_RUN_ID"] == "night-7"
    assert json.loads(process["env"]["MICROREC_MODELS"]) == params["models"]
    assert process["env"]["MICROREC_PROMOTE"] == params["promote"]


@pytest.mark.parametrize("wanted", [["video_neighbours"], [], None])
def test_job_of_a_run_limited_to_some_models_runs_for_them_and_the_floor(
    wanted: list[str] | None,
    nightly: Any,
    processes: SimpleNamespace,
    task_instance: Callable[[], Any],
) -> None:
    import operators
    from airflow.sdk.exceptions import AirflowSkipException

    context = {"run_id": "r", "ti": task_instance(), "params": {"models": wanted}}
    for model in ("content", "popularity", "video_neighbours"):
        job = operators.Job(task_id="t", job="train_model", day="d", fit="trial", model=model)
        if wanted and model == "content":
            with pytest.raises(AirflowSkipException, match="video_neighbours"):
                job.execute(context)
        else:
            job.execute(context)
    ran = [process["command"][-1] for process in processes.started]
    assert ran == [*["content"] * (not wanted), "popularity", "video_neighbours"]
    assert all(("MICROREC_MODELS" in one["env"]) is bool(wanted) for one in processes.started)
    for task in nightly.tasks:
        before = {one for one in task.upstream_task_ids if one.endswith("train_model")}
        assert not before or task.trigger_rule == "none_failed", "a skipped model stops no task"


@pytest.mark.parametrize(("status", "error"), ENDINGS)
def test_command_returns_its_last_line_and_ends_as_its_exit_status_says(
    status: int, error: str | None, processes: SimpleNamespace
) -> None:
    import operators

    last_line = "CheckFailed: releases: one is late"
    processes.result = SimpleNamespace(exit_code=status, output=last_line)
    command = operators.Command(task_id="t", words=["vacuum", "--keep", "3", ""])
    if error is None:
        assert command.execute({}) == last_line
    else:
        with pytest.raises(Exception, match=last_line) as raised:
            command.execute({})
        assert type(raised.value).__name__ == error
    (process,) = processes.started
    assert process["command"] == ["-m", "microrec.cli", "vacuum", "--keep", "3"]


def test_operators_that_are_killed_end_their_process_group(
    monkeypatch: pytest.MonkeyPatch, processes: SimpleNamespace
) -> None:
    import operators

    ended = []
    monkeypatch.setattr(operators.SubprocessHook, "send_sigterm", lambda hook: ended.append(hook))
    command = operators.Command(task_id="t", words=["vacuum"])
    command.on_kill()
    assert ended == [], "no process has started"
    command.execute({})
    command.on_kill()
    assert len(ended) == 1


def test_operators_that_are_killed_after_their_process_has_ended_say_nothing(
    monkeypatch: pytest.MonkeyPatch, processes: SimpleNamespace
) -> None:
    import operators

    def gone(hook: object) -> None:
        raise ProcessLookupError(3, "No such process")

    monkeypatch.setattr(operators.SubprocessHook, "send_sigterm", gone)
    command = operators.Command(task_id="t", words=["vacuum"])
    command.execute({})
    command.on_kill()


def test_report_of_a_night_links_to_its_page(nightly: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = nightly.task_dict["report_night"]
    (link,) = task.operator_extra_links
    night = type(task)(task_id="report_night", job="report_night", day="2026-01-04")
    assert link.get_link(night, ti_key=None) == ""
    monkeypatch.setenv("MICROREC_REPORTS_URL", "https://pages.internal/reports")
    assert link.get_link(night, ti_key=None) == "https://pages.internal/reports/day=2026-01-04.html"


@pytest.mark.parametrize(
    ("kind", "end", "expected"),
    [
        ("scheduled", dt.timedelta(hours=1.9), False),
        ("scheduled", dt.timedelta(hours=2.1), True),
        ("backfill", dt.timedelta(0), True),
        ("manual", None, True),
    ],
)
def test_after_grace_holds_back_scheduled_runs_only(
    kind: str, end: dt.timedelta | None, expected: bool, nightly: Any
) -> None:
    wait = nightly.task_dict["wait_for_late_rows"]
    assert wait.mode == "reschedule", "it occupies no worker while it waits"
    assert nightly.task_dict["resolve_day"].upstream_task_ids == {"wait_for_late_rows"}
    ended = None if end is None else dt.datetime.now(dt.UTC) - end
    run = SimpleNamespace(run_type=SimpleNamespace(value=kind), data_interval_end=ended)
    assert wait.hours == 2.0
    assert wait.poke({"dag_run": run}) is expected


def test_report_of_a_run_without_a_day_is_skipped(
    processes: SimpleNamespace, task_instance: Callable[[], Any]
) -> None:
    """Its first task has failed and says why: a second red task would only hide it."""
    import operators

    context = {"run_id": "manual-1", "ti": task_instance(), "params": {}}
    report = operators.Report(task_id="report_night", job="report_night", day=None)
    with pytest.raises(Exception, match="the run has no day") as raised:
        report.execute(context)
    assert type(raised.value).__name__ == "AirflowSkipException"
    assert not processes.started
    operators.Report(task_id="again", job="report_night", day="2026-01-04").execute(context)
    assert processes.started[0]["command"] == ["-m", "jobs.report_night", "--day", "2026-01-04"]
