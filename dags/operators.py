"""Operators that run our programs as processes: a job of jobs/, a `microrec` command; and the wait for late rows."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import lineage
from airflow.providers.standard.hooks.subprocess import SubprocessHook, SubprocessResult
from airflow.sdk import BaseOperator, BaseOperatorLink, Context
from airflow.sdk.bases.sensor import BaseSensorOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from alerts import report_address
from processes import (
    DATA_ERROR,
    RECIPE_ERROR,
    raise_if_failed,
    run_in_checkout,
)
from recipe import FLOOR
from runs import MAKE, run_environment


class AfterGrace(BaseSensorOperator):
    """Holds a scheduled run back until late rows had time to arrive; any other run is for a day long past.

    Between two looks at the clock the task occupies no worker.

    Args:
        hours: how long after the end of the run's day.
    """

    def __init__(self, *, hours: float, **kwargs: Any) -> None:
        """Keep the hours."""
        super().__init__(mode="reschedule", **kwargs)
        self.hours = hours

    def poke(self, context: Context) -> bool:
        """Return whether the hours have passed."""
        run = context["dag_run"]
        if str(run.run_type.value) != "scheduled" or run.data_interval_end is None:
            return True
        return datetime.now(UTC) >= run.data_interval_end + timedelta(hours=self.hours)


class _Process(BaseOperator):
    """Runs Python in the checkout, and ends the process group (Python and its JVM) when the task is killed."""

    _hook: SubprocessHook | None = None

    def _run(
        self, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> SubprocessResult:
        self._hook = SubprocessHook()
        return run_in_checkout(arguments, environment, hook=self._hook)

    def on_kill(self) -> None:
        """End the process group, if it has started."""
        if self._hook is not None:
            # A process may end between the signal to the task and the one to it.
            with suppress(ProcessLookupError):
                self._hook.send_sigterm()  # type: ignore[no-untyped-call]


class Command(_Process):
    """Runs a `microrec` command and fails as its exit status says.

    Args:
        words: what follows `microrec` on the command line, templated; empty ones are left out.
    """

    template_fields = ("words",)

    def __init__(self, *, words: list[str], **kwargs: Any) -> None:
        """Keep the words."""
        super().__init__(**kwargs)
        self.words = words

    def execute(self, context: Context) -> str:
        """Run the command to its end.

        Returns:
            The last line of its output.

        Raises:
            AirflowFailException: the data it looked at or the recipe is wrong (exit status 65 or 78); not tried
                again.
            AirflowException: any other failure.
        """
        result = self._run(["-m", "microrec.cli", *filter(None, self.words)])
        if result.exit_code in (DATA_ERROR, RECIPE_ERROR):
            raise AirflowFailException(result.output)
        if result.exit_code != 0:
            raise AirflowException(f"microrec ended with {result.exit_code}: {result.output}")
        return str(result.output)


class Job(_Process):
    """Runs a job, `python -m jobs.<job> --day D`, and shows its lines in the task's log.

    Args:
        job: file name in jobs/, without the ending.
        day: day of the night, templated.
        fit: `trial` or `final`, for jobs that have both.
        model: the model that the task is mapped over.
    """

    template_fields = ("day", "fit", "model")

    def __init__(
        self, *, job: str, day: Any, fit: str | None = None, model: str | None = None, **kwargs: Any
    ) -> None:
        """Keep the options of the job."""
        super().__init__(**kwargs)
        self.job = job
        self.day = day
        self.fit = fit
        self.model = model

    def execute(self, context: Context) -> None:
        """Run the job to its end.

        Raises:
            AirflowSkipException: the night need not be made, or the run is limited to other models.
            AirflowFailException: the data or the recipe is at fault (exit status 65 or 78); not tried again.
            AirflowException: any other failure.
        """
        if self.model:
            _skip_unless_wanted(self.model, context)
        options = {"--day": self.day, "--fit": self.fit, "--model": self.model}
        given = [(option, str(value)) for option, value in options.items() if value]
        arguments = ["-m", f"jobs.{self.job}", *(argument for pair in given for argument in pair)]
        with lineage.of_run(context, self.model) as environment:
            result = self._run(arguments, run_environment(context) | environment)
            raise_if_failed(self.job, self.day, result)


class ReportLink(BaseOperatorLink):
    """A button of the task in Airflow that opens the page of the night, where `MICROREC_REPORTS_URL` is set."""

    name = "Report of the night"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the address of the page; empty where it has none."""
        return report_address(str(getattr(operator, "day", ""))) or ""


class Report(Job):
    """The job that writes the page of the night, with a link to it."""

    operator_extra_links = (ReportLink(),)

    def execute(self, context: Context) -> None:
        """Run the job to its end, whatever became of the night.

        Raises:
            AirflowSkipException: the run has no day, which its first task says.
            AirflowFailException: the data or the recipe is at fault (exit status 65 or 78); not tried again.
            AirflowException: any other failure.
        """
        if not self.day:
            raise AirflowSkipException("the run has no day")
        super().execute(context)


def _skip_unless_wanted(model: str, context: Context) -> None:
    """Skip a mapped task that the plan or the parameter `models` leaves out: both are known only once the run is."""
    if context["ti"].xcom_pull(task_ids="plan_night", key=MAKE) is False:
        raise AirflowSkipException("the release stands")
    wanted = context["params"].get("models")
    if wanted and model not in (*wanted, FLOOR):
        raise AirflowSkipException(f"the run was asked for {', '.join(wanted)}")
