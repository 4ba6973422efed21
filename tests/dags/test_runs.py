"""Runs: which day one is for, whether its night is made, what it hands to jobs and tells consumers."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


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
        ("manual", None, None, "20260104", None),
        ("backfill", "2026-01-04T00:00", "2026-01-05T00:00", "2026-01-04", "2026-01-04"),
        ("backfill", "2026-01-04T00:00", "2026-01-05T00:00", "2026-01-03", None),
        ("manual", None, None, "2999-01-04", None),
        ("backfill", "2999-01-04T00:00", "2999-01-05T00:00", None, None),
    ],
)
def test_resolve_day_of_a_run_is_its_parameter_or_its_whole_utc_day(
    kind: str, start: str, end: str, given: str, expected: str, nightly: Any
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    run = SimpleNamespace(
        run_id="r",
        run_type=SimpleNamespace(value=kind),
        data_interval_start=_instant(start),
        data_interval_end=_instant(end),
        logical_date=_instant(start),
    )
    resolve = nightly.task_dict["resolve_day"].python_callable
    if expected is None:
        with pytest.raises(AirflowFailException, match="day"):
            resolve(params={"day": given}, dag_run=run)
    else:
        assert resolve(params={"day": given}, dag_run=run) == expected


@pytest.mark.parametrize(
    ("timezone", "start", "end", "expected"),
    [
        ("Asia/Shanghai", "2026-01-03T16:00", "2026-01-04T16:00", "2026-01-04"),
        ("Asia/Shanghai", "2026-01-04T00:00", "2026-01-05T00:00", None),
        ("Europe/Berlin", "2026-03-28T23:00", "2026-03-29T22:00", "2026-03-29"),
        ("Europe/Berlin", "2025-10-25T22:00", "2025-10-26T23:00", "2025-10-26"),
        ("Europe/Berlin", "2025-10-25T22:00", "2025-10-26T22:00", None),
    ],
)
def test_resolve_day_of_an_interval_of_local_days(
    timezone: str, start: str, end: str, expected: str | None, nightly: Any,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from airflow.sdk.exceptions import AirflowFailException

    (tmp_path / "recipe.toml").write_text(f'[night]\ntimezone = "{timezone}"\n')
    monkeypatch.setenv("MICROREC_RECIPE", str(tmp_path / "recipe.toml"))
    times = {"data_interval_start": _instant(start), "data_interval_end": _instant(end)}
    backfill = SimpleNamespace(value="backfill")
    run = SimpleNamespace(run_id="r", run_type=backfill, logical_date=_instant(start), **times)
    resolve = nightly.task_dict["resolve_day"].python_callable
    if expected is None:
        with pytest.raises(AirflowFailException, match="names no day"):
            resolve(params={"day": None}, dag_run=run)
        return
    assert resolve(params={"day": None}, dag_run=run) == expected
    assert resolve(params={"day": expected}, dag_run=run) == expected


def test_schedule_of_a_time_zone_is_its_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each interval of the timetable is a local day, on the days on which clocks change, too."""
    import recipe
    from airflow.timetables.base import DataInterval, TimeRestriction
    from airflow.timetables.interval import CronDataIntervalTimetable

    (tmp_path / "recipe.toml").write_text('[night]\ntimezone = "Europe/Berlin"\n')
    monkeypatch.setenv("MICROREC_RECIPE", str(tmp_path / "recipe.toml"))
    timetable = CronDataIntervalTimetable("0 0 * * *", timezone=str(recipe.timezone()))
    last = DataInterval(_instant("2026-03-26T23:00"), _instant("2026-03-27T23:00"))
    restriction = TimeRestriction(earliest=None, latest=None, catchup=True)
    hours = []
    for _ in range(3):
        run = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        assert run is not None
        last = run.data_interval
        hours.append((last.end - last.start).total_seconds() / 3600)
    assert hours == [24, 23, 24]


def test_run_environment_of_a_later_try_has_a_later_attempt(
    task_instance: Callable[[], Any],
) -> None:
    """By the id Airflow gives each try: a run that is deleted and made again begins at try 1."""
    import runs

    tries = [task_instance() for _ in range(20)]
    attempts = [runs.run_environment({"run_id": "night", "ti": ti, "params": {}}) for ti in tries]
    numbers = [int(attempt["MICROREC_ATTEMPT"]) for attempt in attempts]
    assert numbers == sorted(numbers)
    assert abs(numbers[0] / 1000 - time.time()) < 60


@pytest.mark.parametrize(
    ("status", "force", "outcome"),
    [(0, False, True), (0, True, True), (99, False, False), (65, False, "AirflowFailException")],
)
def test_plan_night_whose_release_stands_skips_all_tasks_unless_forced(
    status: int,
    force: bool,
    outcome: Any,
    nightly: Any,
    task_instance: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import operators
    import processes
    import runs
    from airflow.sdk.exceptions import AirflowSkipException

    commands: list[list[str]] = []

    def run(arguments: list[str], environment: dict[str, str]) -> Any:
        commands.append(arguments)
        return SimpleNamespace(
            exit_code=status, output="2026-01-05 ERROR microrec.runner.job GateHeld: withdrawn"
        )

    monkeypatch.setattr(runs, "run_in_checkout", run)
    plan = nightly.task_dict["plan_night"]
    context = {"run_id": "r", "ti": task_instance(), "params": {"force": force}}
    if isinstance(outcome, str):
        with pytest.raises(
            Exception, match="plan_night refused day d: GateHeld: withdrawn"
        ) as raised:
            plan.python_callable("d", **context)
        assert type(raised.value).__name__ == outcome
    else:
        assert plan.python_callable("d", **context) is outcome
        job = operators.Job(task_id="t", job="train_model", day="d", fit="trial", model="content")
        monkeypatch.setattr(processes.SubprocessHook, "run_command", lambda *_, **__: done)
        done = SimpleNamespace(exit_code=0, output="")
        if outcome:
            job.execute(context)
        else:  # mapped tasks are there before the plan is made, and the short circuit does not reach them
            with pytest.raises(AirflowSkipException, match="the release stands"):
                job.execute(context)
    assert commands == [["-m", "jobs.plan_night", "--day", "d", *["--force"] * force]]
    assert plan.ignore_downstream_trigger_rules, "also what runs whether or not others were skipped"
    rest = set(nightly.task_ids) - {"wait_for_late_rows", "resolve_day", "plan_night"}
    assert {task.task_id for task in plan.get_flat_relatives(upstream=False)} == rest


@pytest.mark.parametrize(
    ("last", "before", "announced"),
    [
        ("second", None, True),
        ("second", "first", True),
        ("second", "second", False),
        (None, None, False),
        (None, "first", False),
    ],
)
def test_announce_erasures_tells_consumers_of_a_receipt_once(
    last: str | None,
    before: str | None,
    announced: bool,
    nightly: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import runs
    from airflow.sdk import Asset
    from airflow.sdk.exceptions import AirflowSkipException

    receipt = {"erasure": last, "done_at": "2026-01-05 00:10:00+00:00"} if last else {}
    result = SimpleNamespace(exit_code=0, output=json.dumps(receipt))
    monkeypatch.setattr(runs, "run_in_checkout", lambda *_: result)
    event = SimpleNamespace(extra={})
    events = [SimpleNamespace(extra={"erasure": before})] if before else []
    announce = nightly.task_dict["announce_erasures"]
    context = {"inlet_events": {runs.ERASURES: events}, "outlet_events": {runs.ERASURES: event}}
    if announced:
        announce.python_callable(**context)
        assert event.extra == receipt
    else:
        with pytest.raises(AirflowSkipException):
            announce.python_callable(**context)
        assert event.extra == {}
    assert announce.outlets == [Asset("microrec://erasures")]
    assert announce.upstream_task_ids == {"erase"}


@pytest.mark.parametrize(
    ("day", "before", "announced"),
    [
        ("2026-01-04", None, True),
        ("2026-01-04", "2026-01-04-old", True),
        ("2026-01-04", "2026-01-04-new", False),
        ("2026-01-03", "2026-01-04-old", False),
    ],
)
def test_announce_release_wakes_consumers_once_if_the_latest_moved(
    day: str, before: str | None, announced: bool, nightly: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import runs
    from airflow.sdk import Asset
    from airflow.sdk.exceptions import AirflowSkipException

    latest = {"day": "2026-01-04", "release": "2026-01-04-new"}
    result = SimpleNamespace(exit_code=0, output=json.dumps(latest))
    monkeypatch.setattr(runs, "run_in_checkout", lambda *_: result)
    event = SimpleNamespace(extra={})
    events = [SimpleNamespace(extra={"release": before})] if before else []
    announce = nightly.task_dict["announce_release"]
    context = {"inlet_events": {runs.RELEASES: events}, "outlet_events": {runs.RELEASES: event}}
    if announced:
        announce.python_callable(day, **context)
        assert event.extra == latest
    else:
        with pytest.raises(AirflowSkipException):
            announce.python_callable(day, **context)
        assert event.extra == {}
    assert announce.outlets == [Asset("microrec://releases")]
