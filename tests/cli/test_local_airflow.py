"""Airflow on this machine: its settings, and which lines of a night reach the terminal."""

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from microrec.cli import local_airflow
from microrec.config.settings import HOME

HOOK = "[airflow.task.hooks.airflow.providers.standard.hooks.subprocess.SubprocessHook]"
LINES = [
    f"2026-01-05T00:00:00Z [info     ] 2026-01-05 00:00:00,000 INFO microrec.tables.arrow read [red]x[/red] {HOOK}",
    f"2026-01-05T00:00:00Z [info     ] 2026-01-05 00:00:00,000 ERROR microrec.runner.job MissingDay: users {HOOK}",
    f"2026-01-05T00:00:00Z [info     ] 26/01/05 WARN NativeCodeLoader: a line of the JVM {HOOK}",
    "2026-01-05T00:00:00Z [info     ] DagRun Finished [airflow.models.dagrun]",
]


def test_follow_shows_log_records_of_jobs_literally_and_keeps_all_lines(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, "".join(f"{line}\n" for line in LINES).encode())
    os.close(writing)
    shown = io.StringIO()
    console = Console(file=shown, highlight=False, markup=False, emoji=False, soft_wrap=True)
    local_airflow._follow(reading, tmp_path / "log", console)
    assert shown.getvalue().splitlines() == ["    read [red]x[/red]", "    MissingDay: users"]
    assert (tmp_path / "log").read_text().splitlines() == LINES


def test_progress_shows_why_a_task_failed_and_keeps_it_for_the_last_line() -> None:
    shown = io.StringIO()
    console = Console(file=shown, highlight=False, markup=False, emoji=False, soft_wrap=True)
    progress = local_airflow._Progress(console)
    task = SimpleNamespace(task_id="validate_events", map_index=-1, task=None)
    progress.on_task_instance_running(previous_state=None, task_instance=task)
    error = RuntimeError("validate_events refused day 2026-01-05: events: \x1b[2Jno rows")
    progress.on_task_instance_failed(previous_state=None, task_instance=task, error=error)
    why = "validate_events refused day 2026-01-05: events:"
    assert "\x1b" not in shown.getvalue()
    assert shown.getvalue().splitlines()[-1].startswith(f"    {why}")
    (failure,) = progress.failures
    assert failure.startswith(f"validate_events: {why}")


def test_ui_environment_serves_on_the_loopback_to_one_user(tmp_path: Path) -> None:
    environment = local_airflow.ui_environment(tmp_path, 8123)
    assert environment.items() >= local_airflow.airflow_environment(tmp_path).items()
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert environment["AIRFLOW__API__PORT"] == "8123"
    assert environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "False"


def test_airflow_environment_names_folders_that_are_there(tmp_path: Path) -> None:
    environment = local_airflow.airflow_environment(tmp_path)
    for name in ("AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__CORE__PLUGINS_FOLDER"):
        assert Path(environment[name]).is_dir()


def test_airflow_home_is_the_variable_or_a_folder_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert local_airflow.airflow_home() == tmp_path
    monkeypatch.delenv("AIRFLOW_HOME")
    assert local_airflow.airflow_home() == HOME / "var" / "airflow"
