"""A run of `nightly`: the day it is for, whether its night is to be made, what it was asked for, what it announces."""

import contextlib
import json
import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from airflow.sdk import Asset, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from processes import NOTHING_TO_DO, raise_if_failed, run_in_checkout
from recipe import timezone

MAKE = "make"
"""XCom key of `plan_night`: whether the night is to be made."""
RELEASES = Asset("microrec://releases")
"""Updated when the latest release moves; the event's `extra` has `day` and `release`."""

ERASURES = Asset("microrec://erasures")
"""Updated when somebody was erased; the event's `extra` has the receipt's id, `erasure`, and `done_at`."""


@task
def resolve_day(**context: Any) -> str:
    """Decide which day a run is for, in the time zone of the recipe; no other place does.

    It is the parameter `day` if the run has one; else the start of the data interval, if a schedule or a backfill made
    the run and the interval is exactly one day. A manual run without `day` is refused: Airflow would give it the
    interval before its logical date, or none.

    Returns:
        The day as YYYY-MM-DD.

    Raises:
        AirflowFailException: no day is given, it is not a date, or it has not ended.
    """
    given = context["params"].get("day")
    run = context["dag_run"]
    start = run.data_interval_start
    end = run.data_interval_end
    if given:
        day = _as_day(given)
        if str(run.run_type.value) == "backfill" and day != _local(run.logical_date):
            raise AirflowFailException(
                f"run {run.run_id} is the backfill of {_local(run.logical_date)}: leave `day` empty there"
            )
        return _ended(day).isoformat()
    if str(run.run_type.value) == "manual" or not _is_one_day(start, end):
        raise AirflowFailException(
            f"run {run.run_id} names no day: give the parameter `day` (YYYY-MM-DD), or use Backfill for past days"
        )
    return _ended(_local(start)).isoformat()


@task.short_circuit(retries=2)
def plan_night(day: Any, **context: Any) -> bool:
    """Decide whether the night is to be made; if not, all tasks that follow are skipped.

    Args:
        day: day of the night, YYYY-MM-DD.
        **context: Airflow's context of the task.

    Returns:
        False if the day's release stands and was made of the same inputs, unless the run has `force`.

    Raises:
        AirflowFailException: the release was withdrawn and would be made of the same inputs again.
        AirflowException: any other failure.
    """
    force = ["--force"] if context["params"].get("force") else []
    result = run_in_checkout(
        ["-m", "jobs.plan_night", "--day", day, *force], run_environment(context)
    )
    make = bool(result.exit_code != NOTHING_TO_DO)
    if make:
        raise_if_failed("plan_night", day, result)
    # Airflow's short circuit does not reach tasks that are mapped already: `Job` reads this.
    context["ti"].xcom_push(key=MAKE, value=make)
    return make


@task(outlets=[RELEASES], inlets=[RELEASES])
def announce_release(day: Any, **context: Any) -> None:
    """Update the asset that consumers follow, if the day's release is now the latest and was not announced before.

    Args:
        day: day of the night, YYYY-MM-DD.
        **context: Airflow's context of the task.

    Raises:
        AirflowSkipException: the latest release did not move.
        AirflowException: the latest release cannot be read.
    """
    result = run_in_checkout(["-m", "microrec.cli", "releases", "--latest"])
    if result.exit_code != 0:
        raise AirflowException(f"microrec releases ended with {result.exit_code}: {result.output}")
    latest = json.loads(result.output)
    if latest["day"] != day:
        raise AirflowSkipException(f"the latest release is that of {latest['day']}")
    announced = context["inlet_events"][RELEASES]
    if len(announced) and announced[-1].extra.get("release") == latest["release"]:
        raise AirflowSkipException(f"{latest['release']} was announced before")
    context["outlet_events"][RELEASES].extra = latest


@task(outlets=[ERASURES], inlets=[ERASURES])
def announce_erasures(**context: Any) -> None:
    """Update the asset that tells consumers that somebody was erased, if that was not announced before.

    The event names the last receipt, never a person: a consumer reads the pinned versions again, and table `erasures`.

    Args:
        **context: Airflow's context of the task.

    Raises:
        AirflowSkipException: nobody was erased since the last event.
        AirflowException: the receipts cannot be read.
    """
    result = run_in_checkout(["-m", "microrec.cli", "erasures", "--last"])
    if result.exit_code != 0:
        raise AirflowException(f"microrec erasures ended with {result.exit_code}: {result.output}")
    last = json.loads(result.output)
    announced = context["inlet_events"][ERASURES]
    if not last or (len(announced) and announced[-1].extra.get("erasure") == last["erasure"]):
        raise AirflowSkipException("nobody was erased since the last event")
    context["outlet_events"][ERASURES].extra = last


def run_environment(context: Any) -> dict[str, str]:
    """Return the variables by which a run tells its jobs its id, its try and its parameters.

    Args:
        context: Airflow's context of a task.

    Returns:
        `MICROREC_*` variables; parameters that are left empty have none.
    """
    params = context["params"]
    parameters = {
        "MICROREC_MODELS": json.dumps(params.get("models") or []),
        "MICROREC_PROMOTE": params.get("promote") or "",
    }
    return {
        "MICROREC_RUN_ID": context["run_id"],
        "MICROREC_ATTEMPT": str(_created_ms(context["ti"].id)),
        **{name: value for name, value in parameters.items() if value not in ("", "[]")},
    }


def _created_ms(attempt: UUID) -> int:
    """Return when Airflow created this try, in milliseconds: its id is a UUID of version 7, and a new one for each try.

    Numbers of tries would not do: they begin again at 1 where a run is deleted and made again under the same id.
    """
    return attempt.int >> 80


def _as_day(text: str) -> date:
    # Python reads `20260104` and `2026-W01-7`, too.
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        with contextlib.suppress(ValueError):
            return date.fromisoformat(text)
    raise AirflowFailException(f"parameter day={text[:40]!r} is not a date (YYYY-MM-DD)")


def _ended(day: date) -> date:
    today = datetime.now(timezone()).date()
    if day >= today:
        raise AirflowFailException(f"day {day} has not ended: it is {today} ({timezone()})")
    return day


def _is_one_day(start: datetime | None, end: datetime | None) -> bool:
    """Whether an interval goes from the first instant of a local day to that of the next."""
    if start is None or end is None:
        return False
    day = _local(start)
    # Instants are compared: a day has 23 or 25 hours where clocks change.
    return (start, end) == (_first_instant(day), _first_instant(day + timedelta(days=1)))


def _first_instant(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=timezone()).astimezone(UTC)


def _local(instant: datetime) -> date:
    return instant.astimezone(timezone()).date()
