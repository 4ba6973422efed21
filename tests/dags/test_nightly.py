"""Policy of the DAGs: they parse without the heavy engines, explain themselves, and every task is a job of ours."""

import copy
import datetime as dt
import json
import re
import subprocess
import sys
import tomllib
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
import nightly, watchdog, maintenance
"""


def test_dags_import_with_the_heavy_engines_blocked() -> None:
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


def test_tasks_of_nightly_are_the_files_of_jobs(nightly: Any) -> None:
    files = {path.stem for path in (HOME / "jobs").glob("*.py")} - {"__init__"}
    tasks = jobs_of(nightly)
    assert {arguments["job"] for arguments in tasks.values()} | {"plan_night"} == files
    assert all(task_id.split(".")[-1] == arguments["job"] for task_id, arguments in tasks.items())
    announcing = {"announce_release", "announce_erasures"}
    others = {"wait_for_late_rows", "resolve_day", "plan_night", *announcing}
    assert set(nightly.task_ids) - set(tasks) == others


def test_jobs_of_nightly_get_the_resolved_day(nightly: Any) -> None:
    for arguments in jobs_of(nightly).values():
        assert arguments["day"].operator.task_id == "resolve_day"


def test_mapped_tasks_of_nightly_are_one_a_model_of_the_recipe(nightly: Any) -> None:
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


def test_dags_have_a_page_retries_and_timeouts(dags: dict[str, Any]) -> None:
    assert set(dags) == {"nightly", "watchdog", "maintenance", "follow_releases", "hand_off"}
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


def test_hand_off_follows_releases_and_erasures_and_removes_people_first(
    dags: dict[str, Any],
) -> None:
    dag = dags["hand_off"]
    followed = {asset.name for asset in dag.schedule.objects}
    assert followed == {"microrec://releases", "microrec://erasures"}
    removed, exported = dag.task_dict["remove_withdrawn"], dag.task_dict["export_release"]
    assert removed.words == ["export", "--withdrawn"]
    assert (exported.words, exported.upstream_task_ids) == (["export"], {"remove_withdrawn"})
    assert exported.trigger_rule == "all_done"


def test_follow_releases_reads_the_release_of_the_last_event(
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


def test_evaluate_sources_stands_between_trial_and_final(nightly: Any) -> None:
    gate = nightly.task_dict["evaluate_sources"]
    assert {"trial.blend_candidates"} == gate.upstream_task_ids - {"resolve_day"}
    blend = nightly.task_dict["trial.blend_candidates"]
    before = {"trial.select_candidates", "trial.rank_candidates"}
    assert before == blend.upstream_task_ids - {"resolve_day"}
    assert {"final.train_model"} == gate.downstream_task_ids


def test_skipped_rankers_stop_no_task_and_failures_stop_the_release(nightly: Any) -> None:
    for task in nightly.tasks:
        skipped = {one for one in task.upstream_task_ids if one.endswith("rank_candidates")}
        if skipped:
            assert task.trigger_rule == "none_failed"
    assert nightly.task_dict["publish_release"].upstream_task_ids >= {
        "check_recommendations",
        "describe_trends",
        "describe_clips",
    }


def test_schedule_of_nightly_gives_a_run_the_utc_day_that_ended(nightly: Any) -> None:
    import pendulum
    from airflow.serialization.encoders import coerce_to_core_timetable

    timetable = coerce_to_core_timetable(nightly.timetable)
    after = pendulum.parse("2026-01-05T00:00", tz="UTC")
    interval = timetable.infer_manual_data_interval(run_after=after)
    assert interval.end - interval.start == dt.timedelta(days=1)
    assert (interval.start.hour, interval.start.minute) == (0, 0)


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
def test_parameters_of_a_run_are_validated(conf: dict[str, Any], valid: bool, nightly: Any) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    params = copy.deepcopy(nightly.params)
    if valid:
        params.update(conf)
        params.validate()
    else:
        with pytest.raises(ParamValidationError, match=str(*conf)):
            params.update(conf)


def test_templates_render_and_hold_no_secret(
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
    assert "30" in " ".join(rendered), "the vacuum keeps so many releases"
    assert len(rendered) > 40


def test_maintenance_prunes_before_it_vacuums(dags: dict[str, Any]) -> None:
    maintenance = dags["maintenance"]
    assert maintenance.get_task("prune_tables").downstream_task_ids == {"vacuum_tables"}


def test_heavy_jobs_have_declared_pools_and_trainings_one_slot(
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
            r"^from microrec\.tables(\.spark import| import .*\bspark\b)", path.read_text(), re.M
        )
    }
    assert {name for name, pool in used.items() if pool == "microrec_spark"} == starts_spark


def test_night_first_puts_scheduled_before_manual_before_backfill(nightly: Any) -> None:
    from microrec_priority import NightFirst

    kinds = ("scheduled__2026-01-05", "manual__2026-01-06", "my own", "backfill__2026-01-01")
    weights = [NightFirst().get_weight(SimpleNamespace(run_id=kind)) for kind in kinds]
    assert weights[0] > weights[1] == weights[2] > weights[3] > 0
    from airflow.serialization.serialized_objects import DagSerialization

    stored = DagSerialization.from_dict(DagSerialization.to_dict(nightly))
    for task in stored.task_dict.values():
        assert type(task.weight_rule).__name__ == "NightFirst", "as the scheduler reads it"
