"""Policy of the DAG: it parses without the heavy engines, explains itself, and every task is a job of ours."""

import copy
import datetime as dt
import json
import re
import subprocess
import sys
import threading
import time
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from microrec.config.settings import HOME

BLOCKED = """
import sys
BLOCKED = {"pyspark", "torch", "torch_geometric", "great_expectations", "microrec", "jobs", "pandas"}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
sys.path[:0] = ["dags", "dags/plugins"]
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
    assert {arguments["job"] for arguments in tasks.values()} | {"plan_night"} == files
    assert all(task_id.split(".")[-1] == arguments["job"] for task_id, arguments in tasks.items())
    others = {"wait_for_late_rows", "resolve_day", "plan_night", "announce_release"}
    assert set(nightly.task_ids) - set(tasks) == others


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

    from microrec.config import recipe
    from microrec.config.settings import settings

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


def test_every_dag_explains_itself_and_gives_up_in_time(dags: dict[str, Any]) -> None:
    assert set(dags) == {"nightly", "watchdog", "maintenance", "follow_releases"}
    for dag in dags.values():
        assert len(dag.doc_md) > 300
        assert "microrec" in dag.tags
        assert dag.catchup is False
        assert dag.max_active_runs == 1
        for task in dag.tasks:
            assert task.owner != "airflow"
            assert task.retries >= 2
            assert task.execution_timeout
    assert dags["nightly"].dagrun_timeout


def test_a_consumer_is_woken_by_releases_and_reads_the_one_it_is_told_of(
    dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk import Asset

    dag, asset = dags["follow_releases"], Asset("microrec://releases")
    assert asset.uri in str(dag.timetable.asset_condition)
    said: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        said.append(command)
        return SimpleNamespace(stdout="rows")

    monkeypatch.setattr(subprocess, "run", run)
    told = {"day": "2026-01-04", "release": "2026-01-04-new"}
    events = {asset: [SimpleNamespace(extra={}), SimpleNamespace(extra=told)]}
    show = dag.task_dict["show"].python_callable
    assert show(triggering_asset_events=events) == told["release"]
    assert said[0][-4:] == ["--day", "2026-01-04", "--limit", "5"]


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
        ("manual", None, None, "20260104", None),
        ("backfill", "2026-01-04T00:00", "2026-01-05T00:00", "2026-01-04", "2026-01-04"),
        ("backfill", "2026-01-04T00:00", "2026-01-05T00:00", "2026-01-03", None),
        ("manual", None, None, "2999-01-04", None),
        ("backfill", "2999-01-04T00:00", "2999-01-05T00:00", None, None),
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
        logical_date=_instant(start),
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
        output = "2026-01-05 ERROR microrec.job GateHeld: gate_results[day=2026-01-04]"
        return SimpleNamespace(exit_code=status, output=output)

    monkeypatch.setattr(submit.SubprocessHook, "run_command", run_command)
    job = submit.Job(task_id="t", job="train_model", day="2026-01-04", fit="trial", model="content")
    asked = {"models": ["content", "ease"], "promote": "the floor was broken on that day"}
    context = {"run_id": "night-7", "ti": instance(), "params": asked}
    if error:
        with pytest.raises(
            Exception, match=r"^train_model [a-z0-9 -]*: GateHeld: gate_results"
        ) as raised:
            job.execute(context)
        assert type(raised.value).__name__ == error
    else:
        job.execute(context)
    assert said["command"][1:] == [
        "-m", "jobs.train_model", "--day", "2026-01-04", "--fit", "trial", "--model", "content",
    ]  # fmt: skip
    assert said["env"]["MICROREC_RUN_ID"] == "night-7"
    assert json.loads(said["env"]["MICROREC_MODELS"]) == asked["models"]
    assert said["env"]["MICROREC_PROMOTE"] == asked["promote"]


def test_a_later_try_is_a_later_attempt_also_of_a_run_that_was_made_again() -> None:
    """By the id Airflow gives each try: a run that is deleted and made again begins at try 1."""
    import submit

    tries = [instance() for _ in range(20)]
    attempts = [submit.of_run({"run_id": "night", "ti": ti, "params": {}}) for ti in tries]
    numbers = [int(one["MICROREC_ATTEMPT"]) for one in attempts]
    assert numbers == sorted(numbers)
    assert abs(numbers[0] / 1000 - time.time()) < 60


def instance() -> Any:
    """A task instance that remembers what was told."""
    from airflow.models.taskinstance import uuid7

    told: dict[str, Any] = {}
    return SimpleNamespace(
        id=uuid7(),
        xcom_push=lambda key, value: told.update({key: value}),
        xcom_pull=lambda task_ids, key: told.get(key),
    )


@pytest.mark.parametrize("asked", [["video_neighbours"], [], None])
def test_a_run_asked_for_some_models_makes_do_with_them_and_the_floor(
    asked: list[str] | None, nightly: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import submit
    from airflow.sdk.exceptions import AirflowSkipException

    ran: list[str] = []

    def run_command(self: Any, command: list[str], **how: Any) -> Any:
        ran.append(command[-1])
        assert ("MICROREC_MODELS" in how["env"]) is bool(asked)
        return SimpleNamespace(exit_code=0, output="")

    monkeypatch.setattr(submit.SubprocessHook, "run_command", run_command)
    context = {"run_id": "r", "ti": instance(), "params": {"models": asked}}
    for model in ("content", "popularity", "video_neighbours"):
        job = submit.Job(task_id="t", job="train_model", day="d", fit="trial", model=model)
        if asked and model == "content":
            with pytest.raises(AirflowSkipException, match="video_neighbours"):
                job.execute(context)
        else:
            job.execute(context)
    assert ran == [*["content"] * (not asked), "popularity", "video_neighbours"]
    for task in nightly.tasks:
        before = {one for one in task.upstream_task_ids if one.endswith("train_model")}
        assert not before or task.trigger_rule == "none_failed", "a skipped model stops nobody"


@pytest.mark.parametrize(
    ("status", "force", "outcome"),
    [(0, False, True), (0, True, True), (99, False, False), (65, False, "AirflowFailException")],
)
def test_a_night_whose_release_stands_is_skipped_unless_forced(
    status: int, force: bool, outcome: Any, nightly: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import submit
    from airflow.sdk.exceptions import AirflowSkipException

    from microrec.runner import job as jobs

    assert submit.NOTHING_TO_DO == jobs.NOTHING_TO_DO
    said: list[list[str]] = []

    def run(words: list[str], environment: dict[str, str]) -> Any:
        said.append(words)
        return SimpleNamespace(
            exit_code=status, output="2026-01-05 ERROR microrec.job GateHeld: withdrawn"
        )

    monkeypatch.setattr(submit, "run_in_checkout", run)
    plan = nightly.task_dict["plan_night"]
    ti = instance()
    context = {"run_id": "r", "ti": ti, "params": {"force": force}}
    if isinstance(outcome, str):
        with pytest.raises(
            Exception, match="plan_night refused day d: GateHeld: withdrawn"
        ) as raised:
            plan.python_callable("d", **context)
        assert type(raised.value).__name__ == outcome
    else:
        assert plan.python_callable("d", **context) is outcome
        job = submit.Job(task_id="t", job="train_model", day="d", fit="trial", model="content")
        monkeypatch.setattr(submit.SubprocessHook, "run_command", lambda *_, **__: done)
        done = SimpleNamespace(exit_code=0, output="")
        if outcome:
            job.execute(context)
        else:  # mapped tasks are there before the plan is made, and the short circuit does not reach them
            with pytest.raises(AirflowSkipException, match="the release stands"):
                job.execute(context)
    assert said == [["-m", "jobs.plan_night", "--day", "d", *["--force"] * force]]
    assert plan.ignore_downstream_trigger_rules, "also what runs whether or not others were skipped"
    rest = set(nightly.task_ids) - {"wait_for_late_rows", "resolve_day", "plan_night"}
    assert {one.task_id for one in plan.get_flat_relatives(upstream=False)} == rest


@pytest.mark.parametrize(
    ("conf", "valid"),
    [
        ({}, True),
        ({"day": "2026-01-04", "models": ["popularity"], "force": True}, True),
        ({"promote": "the day before was a holiday"}, True),
        ({"day": "04.01.2026"}, False),
        ({"day": "2026-01-04; rm -rf /"}, False),
        ({"models": ["no_such_model"]}, False),
        ({"models": "popularity"}, False),
        ({"force": "yes"}, False),
        ({"promote": "because"}, False),
    ],
)
def test_what_a_run_is_asked_for_is_validated(
    conf: dict[str, Any], valid: bool, nightly: Any
) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    params = copy.deepcopy(nightly.params)
    if valid:
        params.update(conf)
        params.validate()
    else:
        with pytest.raises(ParamValidationError, match=str(*conf)):
            params.update(conf)


def test_every_template_renders_and_no_secret_is_in_it(
    dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROREC_STORAGE_OPTIONS", '{"aws_secret_access_key": "planted-secret"}')
    monkeypatch.setenv("MICROREC_ALERT_URL", "https://planted-secret/")
    rendered = []
    for dag in dags.values():
        context = {
            "params": dag.params.dump(),
            "ti": SimpleNamespace(xcom_pull=lambda **_: "2026-01-04", map_index=-1),
            "run_id": "r",
            "triggering_asset_events": {},
        }
        for task in dag.tasks:
            fields = getattr(task, "template_fields", ())
            values = getattr(task, "partial_kwargs", None) or vars(task)
            for field in fields:
                value = values.get(field)
                if type(value).__name__ == "PlainXComArg":
                    value = "2026-01-04"
                text = dag.get_template_env().from_string(str(value)).render(**context)
                rendered.append(text)
                assert "{{" not in text
                assert "planted-secret" not in text
    assert "30" in " ".join(rendered), "the weeks' vacuum keeps so many releases"
    assert len(rendered) > 40


def test_heavy_jobs_have_pools_that_are_declared_and_no_two_trainings_run_at_once(
    nightly: Any,
) -> None:
    declared = json.loads((HOME / "dags" / "pools.json").read_text())
    used = {name: arguments.get("pool") for name, arguments in jobs_of(nightly).items()}
    assert {pool for pool in used.values() if pool not in (None, "default_pool")} == set(declared)
    assert declared["microrec_training"]["slots"] == 1
    assert used["trial.train_model"] == used["final.train_model"] == "microrec_training"
    starts_spark = {
        path.stem
        for path in (HOME / "jobs").glob("*.py")
        if re.search(
            r"^from microrec.tables import .*\b(spark|raw)\b", path.read_text(), re.MULTILINE
        )
    }
    assert {name for name, pool in used.items() if pool == "microrec_spark"} == starts_spark


def test_scheduled_runs_come_before_manual_ones_and_these_before_backfills(nightly: Any) -> None:
    from microrec_priority import NightFirst

    kinds = ("scheduled__2026-01-05", "manual__2026-01-06", "my own", "backfill__2026-01-01")
    weights = [NightFirst().get_weight(SimpleNamespace(run_id=kind)) for kind in kinds]
    assert weights[0] > weights[1] == weights[2] > weights[3] > 0
    from airflow.serialization.serialized_objects import DagSerialization

    stored = DagSerialization.from_dict(DagSerialization.to_dict(nightly))
    for task in stored.task_dict.values():
        assert type(task.weight_rule).__name__ == "NightFirst", "as the scheduler reads it"


@pytest.mark.parametrize(
    ("kind", "end", "expected"),
    [
        ("scheduled", dt.timedelta(hours=1.9), False),
        ("scheduled", dt.timedelta(hours=2.1), True),
        ("backfill", dt.timedelta(0), True),
        ("manual", None, True),
    ],
)
def test_only_a_scheduled_run_waits_for_late_rows(
    kind: str, end: dt.timedelta | None, expected: bool, nightly: Any
) -> None:
    wait = nightly.task_dict["wait_for_late_rows"]
    assert wait.mode == "reschedule", "nobody's place is taken while it waits"
    assert nightly.task_dict["resolve_day"].upstream_task_ids == {"wait_for_late_rows"}
    ended = None if end is None else dt.datetime.now(dt.UTC) - end
    run = SimpleNamespace(run_type=SimpleNamespace(value=kind), data_interval_end=ended)
    assert wait.hours == 2.0
    assert wait.poke({"dag_run": run}) is expected


def test_the_grace_is_the_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import submit

    from microrec.config.recipe import Night

    assert Night.model_fields["grace_hours"].default == submit.GRACE_HOURS
    path = tmp_path / "recipe.toml"
    path.write_text("[night]\ngrace_hours = 5\n")
    monkeypatch.setenv("MICROREC_RECIPE", str(path))
    assert submit.grace_hours() == 5.0


FAILURE = {
    "ti": SimpleNamespace(dag_id="nightly", task_id="validate_events", try_number=1),
    "run_id": "scheduled__2026-01-05",
    "exception": Exception(
        "validate_events refused day 2026-01-04: CheckFailed: events[day=2026-01-04] watch_ms: 3 rows"
    ),
}


def test_a_failure_says_table_day_rule_count_and_the_next_step() -> None:
    import alert

    assert alert.message(FAILURE) == (
        "nightly.validate_events (run scheduled__2026-01-05, try 1) failed: validate_events refused day"
        " 2026-01-04: CheckFailed: events[day=2026-01-04] watch_ms: 3 rows. Next: the rule is in schemas/:"
        " find out what changed in the data; the old rows still stand."
    )
    other = {**FAILURE, "exception": None}
    assert alert.OTHERWISE in alert.message(other)


def test_every_error_of_a_job_has_a_next_step() -> None:
    import alert

    from microrec import errors

    ours = {
        name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, errors.MicrorecError)
    }
    assert set(alert.NEXT) == ours - {"MicrorecError"}


def test_a_failure_is_posted_and_its_address_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import alert

    posted: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            posted.append((self.path, json.loads(self.rfile.read(length))))
            self.send_response(200 if "secret" in self.path else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        for path in ("secret-word", "broken-word"):
            address = f"http://127.0.0.1:{server.server_port}/{path}"
            monkeypatch.setenv(alert.URL, address)
            alert.on_failure(FAILURE)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    monkeypatch.setenv(alert.URL, "no address at all, secret-word")
    alert.on_failure(FAILURE)
    assert [path for path, _ in posted] == ["/secret-word", "/broken-word"]
    assert posted[0][1] == {"text": alert.message(FAILURE)}
    assert "-word" not in caplog.text
    assert caplog.text.count("the alert was not delivered") == 2


@pytest.mark.parametrize(
    ("day", "before", "announced"),
    [
        ("2026-01-04", None, True),
        ("2026-01-04", "2026-01-04-old", True),
        ("2026-01-04", "2026-01-04-new", False),
        ("2026-01-03", "2026-01-04-old", False),
    ],
)
def test_consumers_are_woken_once_and_only_if_the_latest_release_moved(
    day: str, before: str | None, announced: bool, nightly: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import submit
    from airflow.sdk.exceptions import AirflowSkipException

    latest = {"day": "2026-01-04", "release": "2026-01-04-new"}
    said = SimpleNamespace(exit_code=0, output=json.dumps(latest))
    monkeypatch.setattr(submit, "run_in_checkout", lambda *_: said)
    event = SimpleNamespace(extra={})
    events = [SimpleNamespace(extra={"release": before})] if before else []
    announce = nightly.task_dict["announce_release"]
    context = {"inlet_events": {submit.RELEASES: events}, "outlet_events": {submit.RELEASES: event}}
    if announced:
        announce.python_callable(day, **context)
        assert event.extra == latest
    else:
        with pytest.raises(AirflowSkipException):
            announce.python_callable(day, **context)
        assert event.extra == {}
    from airflow.sdk import Asset

    assert announce.outlets == [Asset("microrec://releases")]


@pytest.mark.parametrize(
    ("status", "error"), [(65, "AirflowFailException"), (1, "AirflowException"), (0, None)]
)
def test_a_command_fails_as_its_exit_status_says_with_its_last_line(
    status: int, error: str | None, monkeypatch: pytest.MonkeyPatch, nightly: Any
) -> None:
    import submit

    said: list[Any] = []

    def run(words: list[str], environment: dict[str, str]) -> Any:
        said.append(words)
        return SimpleNamespace(exit_code=status, output="CheckFailed: releases: one is late")

    monkeypatch.setattr(submit, "run_in_checkout", run)
    command = submit.Command(task_id="t", words=["vacuum", "--keep", "3", ""])
    if error is None:
        assert command.execute({}) == "CheckFailed: releases: one is late"
    else:
        with pytest.raises(Exception, match="CheckFailed: releases: one is late") as raised:
            command.execute({})
        assert type(raised.value).__name__ == error
    assert said == [["-m", "microrec.cli", "vacuum", "--keep", "3"]]
