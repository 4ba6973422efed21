"""How a job's name becomes a process: `python -m jobs.<name> --day D` in the checkout this file lies in."""

import os
import sys
import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import BaseOperator, Context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

HOME = Path(__file__).resolve().parent.parent
EX_DATAERR = 65
"""Exit status of a job whose data or configuration is at fault: trying again would not help."""


def models() -> list[str]:
    """The models the recipe asks for candidates."""
    return list(_night()["models"])


def rankers() -> list[str]:
    """The models the recipe has score what all of them propose."""
    return list(_night().get("rankers", []))


def trained() -> list[str]:
    """Every model of the recipe, once."""
    return list(dict.fromkeys([*models(), *rankers()]))


def _night() -> dict[str, Any]:
    """The section [night] of the recipe; the DAG does not import microrec.recipe, which resolves all of it."""
    path = Path(os.environ.get("MICROREC_RECIPE", HOME / "microrec.toml"))
    return dict(tomllib.loads(path.read_text())["night"])


@task
def resolve_day(**context: Any) -> str:
    """The one place that decides which UTC day a run is for.

    The parameter `day` if the run has one; else the start of its data interval, if a schedule or a backfill made the
    run and the interval is exactly one UTC day. A manual run without `day` is refused: Airflow would give it the
    interval before its logical date, or none.

    Raises:
        AirflowFailException: no day is given, or it is not a date.
    """
    given, run = context["params"].get("day"), context["dag_run"]
    start, end = run.data_interval_start, run.data_interval_end
    if given:
        return _as_day(given).isoformat()
    one_day = start is not None and end is not None and end - start == timedelta(days=1)
    if str(run.run_type.value) == "manual" or not one_day or (start.hour, start.minute) != (0, 0):
        raise AirflowFailException(
            f"run {run.run_id} names no day: give the parameter `day` (YYYY-MM-DD), or use Backfill for past days"
        )
    return str(start.date().isoformat())


def _as_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise AirflowFailException(f"parameter day={text!r} is not a date (YYYY-MM-DD)") from error


class Job(BaseOperator):
    """Runs one job as a process of its own and shows its lines in the task's log.

    Args:
        job: file name in jobs/.
        day: UTC day, templated.
        fit: `trial` or `final`, for jobs that have two.
        model: the model the job is mapped over.
    """

    template_fields = ("day", "fit", "model")

    def __init__(
        self, *, job: str, day: Any, fit: str | None = None, model: str | None = None, **kwargs: Any
    ) -> None:
        """Keep the words of the command; `execute` puts them together."""
        super().__init__(**kwargs)
        self.job = job
        self.day = day
        self.fit = fit
        self.model = model

    def execute(self, context: Context) -> None:
        """Run the process to its end.

        Raises:
            AirflowFailException: the data or the configuration is at fault (exit status 65); not tried again.
            AirflowException: any other failure.
        """
        options = {"--day": self.day, "--fit": self.fit, "--model": self.model}
        words = [
            word for option, value in options.items() if value for word in (option, str(value))
        ]
        run = {
            "MICROREC_RUN_ID": context["run_id"],
            "MICROREC_ATTEMPT": str(context["ti"].try_number),
        }
        self._hook = SubprocessHook()
        result = self._hook.run_command(
            [sys.executable, "-m", f"jobs.{self.job}", *words],
            env={**os.environ, **run, "GX_ANALYTICS_ENABLED": "false"},
            cwd=str(HOME),
        )
        if result.exit_code == EX_DATAERR:
            raise AirflowFailException(f"{self.job} refused the data, see the error above")
        if result.exit_code != 0:
            raise AirflowException(f"{self.job} ended with exit status {result.exit_code}")

    def on_kill(self) -> None:
        """End the job's whole process group: Python and its JVM."""
        self._hook.send_sigterm()  # type: ignore[no-untyped-call]
