"""How a job's name becomes a process: `python -m jobs.<name> --day D` in the checkout this file lies in."""

import contextlib
import json
import os
import re
import sys
import tomllib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from airflow.providers.standard.hooks.subprocess import SubprocessHook, SubprocessResult
from airflow.sdk import Asset, BaseOperator, Context, task
from airflow.sdk.bases.sensor import BaseSensorOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

HOME = Path(__file__).resolve().parent.parent
EX_DATAERR = 65
"""Exit status of a job whose data or configuration is at fault: trying again would not help."""
NOTHING_TO_DO = 99
"""Exit status of the plan of a night whose release stands."""
GRACE_HOURS = 2.0
"""Hours after the end of a day before its scheduled night starts, unless the recipe says `grace_hours`."""
MAKE = "make"
"""What `plan_night` tells: whether the night is to be made."""
FLOOR = "popularity"
"""The model every night has."""
RELEASES = Asset("microrec://releases")
"""Changes when the latest release moves; the event's `extra` has `day` and `release`."""


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


class AfterGrace(BaseSensorOperator):
    """Lets a scheduled run wait until late rows had time to arrive; any other run is for a day long past.

    Args:
        hours: since the end of the run's day.
    """

    def __init__(self, *, hours: float, **kwargs: Any) -> None:
        """Between two looks at the clock the task holds no worker."""
        super().__init__(mode="reschedule", **kwargs)
        self.hours = hours

    def poke(self, context: Context) -> bool:
        """Whether it is time."""
        run = context["dag_run"]
        if str(run.run_type.value) != "scheduled" or run.data_interval_end is None:
            return True
        return datetime.now(UTC) >= run.data_interval_end + timedelta(hours=self.hours)


def grace_hours() -> float:
    """What the recipe says of it."""
    return float(_night().get("grace_hours", GRACE_HOURS))


@task(outlets=[RELEASES], inlets=[RELEASES])
def announce_release(day: Any, **context: Any) -> None:
    """Wake consumers, if the day's release is now the latest and they were not told of it before.

    Raises:
        AirflowSkipException: the latest release did not move.
    """
    result = run_in_checkout(["-m", "microrec.cli", "releases", "--latest"], {})
    if result.exit_code != 0:
        raise AirflowException(f"microrec releases ended with {result.exit_code}: {result.output}")
    latest = json.loads(result.output)
    if latest["day"] != day:
        raise AirflowSkipException(f"the latest release is that of {latest['day']}")
    told = context["inlet_events"][RELEASES]
    if len(told) and told[-1].extra.get("release") == latest["release"]:
        raise AirflowSkipException(f"{latest['release']} was announced before")
    context["outlet_events"][RELEASES].extra = latest


def run_in_checkout(words: list[str], environment: dict[str, str]) -> SubprocessResult:
    """Run Python with these words in the checkout; its lines go to the task's log."""
    return SubprocessHook().run_command(
        [sys.executable, *words],
        env={**os.environ, **environment, "GX_ANALYTICS_ENABLED": "false"},
        cwd=str(HOME),
    )


@task
def resolve_day(**context: Any) -> str:
    """The one place that decides which UTC day a run is for.

    The parameter `day` if the run has one; else the start of its data interval, if a schedule or a backfill made the
    run and the interval is exactly one UTC day. A manual run without `day` is refused: Airflow would give it the
    interval before its logical date, or none.

    Raises:
        AirflowFailException: no day is given, it is not a date, or it has not ended.
    """
    given, run = context["params"].get("day"), context["dag_run"]
    start, end = run.data_interval_start, run.data_interval_end
    if given:
        day = _as_day(given)
        if str(run.run_type.value) == "backfill" and day != run.logical_date.date():
            raise AirflowFailException(
                f"run {run.run_id} is the backfill of {run.logical_date.date()}: leave `day` empty there"
            )
        return _ended(day).isoformat()
    one_day = start is not None and end is not None and end - start == timedelta(days=1)
    if str(run.run_type.value) == "manual" or not one_day or (start.hour, start.minute) != (0, 0):
        raise AirflowFailException(
            f"run {run.run_id} names no day: give the parameter `day` (YYYY-MM-DD), or use Backfill for past days"
        )
    return _ended(start.date()).isoformat()


def _ended(day: date) -> date:
    """A day of which nothing is still to come.

    Raises:
        AirflowFailException: it has not ended.
    """
    today = datetime.now(UTC).date()
    if day >= today:
        raise AirflowFailException(f"day {day} has not ended: it is {today} (UTC)")
    return day


@task.short_circuit(retries=2)
def plan_night(day: Any, **context: Any) -> bool:
    """Whether the night is to be made; if its release stands and is made of the same, all that follows is skipped.

    Raises:
        AirflowFailException: the release was withdrawn and would be made of the same again.
        AirflowException: any other failure.
    """
    words = ["-m", "jobs.plan_night", "--day", day, *(["--force"] if _forced(context) else [])]
    result = run_in_checkout(words, of_run(context))
    make = bool(result.exit_code != NOTHING_TO_DO)
    if make:
        _raise_if_failed("plan_night", day, result)
    # Airflow's short circuit does not reach tasks that are mapped already: they ask.
    context["ti"].xcom_push(key=MAKE, value=make)
    return make


def _raise_if_failed(job: str, day: Any, result: SubprocessResult) -> None:
    """Tell Airflow how a job ended: its last line, and whether it is to be tried again."""
    said = re.split(r" ERROR \S+ ", result.output, maxsplit=1)[-1]
    if result.exit_code == EX_DATAERR:
        raise AirflowFailException(f"{job} refused day {day}: {said}")
    if result.exit_code != 0:
        raise AirflowException(f"{job} ended with exit status {result.exit_code}: {said}")


def _forced(context: Any) -> bool:
    return bool(context["params"].get("force"))


def of_run(context: Any) -> dict[str, str]:
    """What a run says of itself and was asked for, as the environment of its jobs."""
    asked = {
        "MICROREC_MODELS": json.dumps(context["params"].get("models") or []),
        "MICROREC_PROMOTE": context["params"].get("promote") or "",
    }
    return {
        "MICROREC_RUN_ID": context["run_id"],
        "MICROREC_ATTEMPT": str(_set_up(context["ti"].id)),
        **{name: value for name, value in asked.items() if value not in ("", "[]")},
    }


def _set_up(attempt: UUID) -> int:
    """When Airflow set up this try (milliseconds): it is in the id, a UUID of version 7 that each try has for itself.

    Numbers of tries would not do: they begin anew where a run is deleted and made again under its id.
    """
    return attempt.int >> 80


def _as_day(text: str) -> date:
    # Python reads `20260104` and `2026-W01-7`, too.
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        with contextlib.suppress(ValueError):
            return date.fromisoformat(text)
    raise AirflowFailException(f"parameter day={text[:40]!r} is not a date (YYYY-MM-DD)")


class Command(BaseOperator):
    """Runs the `microrec` command, and fails as its exit status says.

    Args:
        words: after `microrec`, templated; empty ones are left out.
    """

    template_fields = ("words",)

    def __init__(self, *, words: list[str], **kwargs: Any) -> None:
        """Keep the words."""
        super().__init__(**kwargs)
        self.words = words

    def execute(self, context: Context) -> str:
        """Run it to its end; gives its last line.

        Raises:
            AirflowFailException: what it looked at is wrong (exit status 65).
            AirflowException: any other failure.
        """
        words = [word for word in self.words if word]
        result = run_in_checkout(["-m", "microrec.cli", *words], {})
        if result.exit_code == EX_DATAERR:
            raise AirflowFailException(result.output)
        if result.exit_code != 0:
            raise AirflowException(f"microrec ended with {result.exit_code}: {result.output}")
        return str(result.output)


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
            AirflowSkipException: the night need not be made, or the run was asked for other models.
            AirflowFailException: the data or the configuration is at fault (exit status 65); not tried again.
            AirflowException: any other failure.
        """
        if self.model and context["ti"].xcom_pull(task_ids="plan_night", key=MAKE) is False:
            raise AirflowSkipException("the release stands")
        asked = context["params"].get("models")
        if self.model and asked and self.model not in (*asked, FLOOR):
            raise AirflowSkipException(f"the run was asked for {', '.join(asked)}")
        options = {"--day": self.day, "--fit": self.fit, "--model": self.model}
        words = [
            word for option, value in options.items() if value for word in (option, str(value))
        ]
        self._hook = SubprocessHook()
        result = self._hook.run_command(
            [sys.executable, "-m", f"jobs.{self.job}", *words],
            env={**os.environ, **of_run(context), "GX_ANALYTICS_ENABLED": "false"},
            cwd=str(HOME),
        )
        _raise_if_failed(self.job, self.day, result)

    def on_kill(self) -> None:
        """End the job's whole process group: Python and its JVM."""
        self._hook.send_sigterm()  # type: ignore[no-untyped-call]
