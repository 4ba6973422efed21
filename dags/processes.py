"""Python processes in the checkout that this file lies in: how they start, and what their exit status means."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook, SubprocessResult
from airflow.sdk.exceptions import AirflowException, AirflowFailException

HOME = Path(__file__).resolve().parent.parent
"""The checkout, or the part of the wheel that these DAGs lie in."""
WORKING_FOLDER = HOME if (HOME / "jobs").is_dir() else Path.cwd()
"""Where jobs run: the checkout, or the folder Airflow was started in."""
# As in microrec.runner.exit_status, which DAGs do not import.
DATA_ERROR = 65
"""Exit status: the data or the configuration is at fault, and another try would fail alike."""
RECIPE_ERROR = 78
"""Exit status: the recipe is at fault, and another try would fail alike."""
NOTHING_TO_DO = 99
"""Exit status: of `jobs.plan_night`, the release stands; of a job of one model, the night goes without that model."""


def run_in_checkout(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    hook: SubprocessHook | None = None,
) -> SubprocessResult:
    """Run Python with these arguments in the checkout; its output goes to the task's log.

    Args:
        arguments: what follows `python` on the command line.
        environment: variables added to those of the Airflow worker.
        hook: runs the process, for a caller that may have to end it.

    Returns:
        The exit status and the last line of the output.
    """
    return (hook or SubprocessHook()).run_command(
        [sys.executable, *arguments],
        env={**os.environ, **(environment or {}), "GX_ANALYTICS_ENABLED": "false"},
        cwd=str(WORKING_FOLDER),
    )


def raise_if_failed(job: str, day: Any, result: SubprocessResult) -> None:
    """Raise what a job's exit status means to Airflow, with the error the job logged last.

    Args:
        job: name of the job.
        day: day it ran for.
        result: how its process ended.

    Raises:
        AirflowFailException: the data or the recipe is at fault; the task is not tried again.
        AirflowException: any other failure; the task is tried again.
    """
    error = re.split(r" ERROR \S+ ", result.output, maxsplit=1)[-1]
    if result.exit_code in (DATA_ERROR, RECIPE_ERROR):
        raise AirflowFailException(f"{job} refused day {day}: {error}")
    if result.exit_code != 0:
        raise AirflowException(f"{job} ended with exit status {result.exit_code}: {error}")
