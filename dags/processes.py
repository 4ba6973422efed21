"""Python processes in the checkout that this file lies in: how they start, and what their exit status means."""

import fnmatch
import json
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
PASSED = (
    *("MICROREC_*", "PYTHON*", "SPARK_*", "PYSPARK_*", "HADOOP_*", "YARN_*", "KUBERNETES_*", "KRB5*"),
    *("AWS_*", "GOOGLE_*", "GCLOUD_*", "CLOUDSDK_*", "AZURE_*"),
    *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "NUMBA_*", "NUMEXPR_*", "TBB_*"),
    *("TORCH*", "PYTORCH_*", "CUDA_*", "NVIDIA_*", "NCCL_*", "GLOO_*"),
    *("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_*", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("JAVA_HOME", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"),
    *("HOME", "USER", "LOGNAME", "HOSTNAME", "TMPDIR", "TEMP", "TMP", "XDG_*"),
    *("LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR"),
    *("SSL_CERT_*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("all_proxy", "http_proxy", "https_proxy", "no_proxy"),
)  # fmt: skip
"""Variables of the Airflow worker that a process of ours gets: those that say where and how it runs, and by which
credentials it reaches an object store. Airflow's keys, connections and the address of its database stay behind."""
WITHHELD = ("AIRFLOW*", "_AIRFLOW*", "MICROREC_ALERT_URL", "MICROREC_LINEAGE")
"""Variables that it never gets, whatever else is said."""
MORE = "MICROREC_JOB_ENVIRONMENT"
"""Variable that names further ones, as a list in JSON; `*` stands for any characters: `["OUR_PROXY", "VAULT_*"]`."""
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
        environment: variables added to those of the Airflow worker that are passed on.
        hook: runs the process, for a caller that may have to end it.

    Returns:
        The exit status and the last line of the output.
    """
    return (hook or SubprocessHook()).run_command(
        [sys.executable, *arguments],
        env={
            **passed_on(os.environ),
            **(environment or {}),
            "GX_ANALYTICS_ENABLED": "false",
            "MICROREC_PARENT": str(os.getpid()),
        },
        cwd=str(WORKING_FOLDER),
    )


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an Airflow worker that a process of ours gets.

    Args:
        environment: all variables of the worker.

    Returns:
        Those of `PASSED` and those that the variable `MORE` names, without `WITHHELD`.

    Raises:
        AirflowFailException: the variable `MORE` is not a list of names.
    """
    patterns = (*PASSED, *_named_by_operator(environment.get(MORE, "[]")))
    return {
        name: value
        for name, value in environment.items()
        if _matches(name, patterns) and not _matches(name, WITHHELD)
    }


def _named_by_operator(text: str) -> list[str]:
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise AirflowFailException(f'BadArgument: {MORE}: not a list in JSON, such as ["VAULT_*"]')
    return names


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


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
