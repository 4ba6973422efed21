"""What a release was made of, and what differs between two, from planted rows."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from microrec.cli import app
from microrec.release import provenance, reader
from microrec.tables.arrow import Warehouse
from tests.worlds.releases import filled, publish

DAYS = [dt.date(2026, 1, 6), dt.date(2026, 1, 7)]


@pytest.fixture
def warehouse(place: Path) -> Warehouse:
    """Two nights: another recipe, a model trained anew, a file more, a user gone and one come, one list changed."""
    opened = Warehouse.open()
    lists = {DAYS[0]: ["a", "b", "gone"], DAYS[1]: ["a", "b", "new"]}
    videos = {DAYS[0]: ["v1", "v2", "v3"], DAYS[1]: ["v1", "v9", "v4"]}
    for night, day in enumerate(DAYS):
        publish(opened, day, 3, user_id=lists[day], video_id=videos[day])
        plan = {"inputs": ["x"], "recipe": [f"recipe {night}"], "events": ["same"]}
        opened.write("nights", filled(opened, "nights", 1, **plan), day=day)
        for model, digest in (("content", "same"), ("ease", f"digest {night}")):
            row = filled(
                opened,
                "models",
                1,
                digest=[digest],
                first_day=[day],
                last_day=[day],
                config=['{"k": 1}'],
            )
            row = row.drop_columns(["fit", "model"])
            opened.write("models", row, day=day, fit="final", model=model)
        files = {"raw_table": ["raw_videos"] * 2, "file": ["one", f"two-{night}"], "size": [10, 20]}
        files |= {"arrived_on": [DAYS[0]] * 2, "modified_ns": [1, 1]}
        opened.write("landing_files", filled(opened, "landing_files", 2, **files), day=day)
    return opened


def changed(warehouse: Warehouse) -> dict[tuple[str, str], tuple[Any, Any]]:
    before, after = (reader.named(str(day)) for day in DAYS)
    rows = provenance.differences(before, after)
    return {(row.what, row.name): (row.before, row.after) for row in rows}


def test_a_release_is_shown_with_all_it_was_made_of(warehouse: Warehouse) -> None:
    release = reader.of(DAYS[1])
    made_of = provenance.of(release)
    assert made_of.release["id"] == release.id
    assert made_of.plan["recipe"] == "recipe 1"
    assert [(row["model"], row["digest"]) for row in made_of.models] == [
        ("content", "same"),
        ("ease", "digest 1"),
    ]
    assert made_of.models[0]["config"] == '{"k": 1}'
    (files,) = made_of.files
    assert (files["raw_table"], files["files"], files["bytes"]) == ("raw_videos", 2, 30)
    assert {row["table"] for row in made_of.tables} == set(reader.RESULTS)
    assert made_of.erasures == []
    assert made_of.is_of_release is None, "the release has no plan of its own"


@pytest.mark.parametrize(("inputs", "is_of_release"), [("x", True), ("another", False)])
def test_a_plan_of_a_later_run_is_told(
    warehouse: Warehouse, inputs: str, is_of_release: bool
) -> None:
    release = reader.of(DAYS[1])
    made = {name: value for name, value in vars(release).items() if name != "inputs"}
    assert provenance.of(reader.Release(**made, inputs=inputs)).is_of_release is is_of_release


def test_two_releases_differ_in_what_was_changed_and_in_nothing_else(warehouse: Warehouse) -> None:
    differences = changed(warehouse)
    assert differences["inputs", "recipe"] == ("recipe 0", "recipe 1")
    assert differences["model", "ease (final)"] == ("digest 0", "digest 1")
    assert differences["file", f"raw_videos/day={DAYS[0]}/two-1"] == (None, (20, 1))
    assert differences["file", f"raw_videos/day={DAYS[0]}/two-0"] == ((20, 1), None)
    assert {what for what, _ in differences} == {"inputs", "model", "file", "lists"}
    assert len([name for what, name in differences if what != "lists"]) == 4
    lists = {name: after for (what, name), (_, after) in differences.items() if what == "lists"}
    assert lists == {
        "users_gone": 1,
        "users_new": 1,
        "users_in_both": 2,
        "users_with_the_same_first": 1,
        "share_of_first_that_is_new": 0.5,
    }


def test_metrics_gates_and_rows_that_differ_are_named(place: Path) -> None:
    warehouse = Warehouse.open()
    for day, value, status in ((DAYS[0], 0.25, "pass"), (DAYS[1], 0.5, "fail")):
        given = {"name": ["blend"], "metric": ["ndcg@20"], "slice": ["all"], "value": [value]}
        rows = filled(warehouse, "metrics", 1, **given).drop_columns(["stage"])
        gate = filled(warehouse, "gate_results", 1, status=[status], gate=["hubs"])
        publish(warehouse, day, 3 + (status == "fail"))
        warehouse.write("metrics", rows, day=day, stage="evaluation")
        warehouse.write("gate_results", gate.drop_columns(["fit"]), day=day, fit="final")
        repin(warehouse, day, "metrics", "gate_results")
    differences = changed(warehouse)
    assert differences["figure", "blend ndcg@20"] == (0.25, 0.5)
    assert differences["gate", "hubs (final)"] == ("pass", "fail")
    assert differences["rows", "recommendations"] == (3, 4)
    assert [row["gate"] for row in provenance.of(reader.of(DAYS[1])).gates] == ["hubs"]


def repin(warehouse: Warehouse, day: dt.date, *tables: str) -> None:
    """Have the release of a day pin what is committed now."""
    release = reader.of(day)
    pins = dict(release.tables)
    for table in tables:
        n_rows, digest = warehouse.count(table, day=day), warehouse.digest(table, day=day)
        pins[table] = reader.Pin(table, warehouse.version(table), n_rows, digest)
    listed = [[vars(pin) for pin in pins.values()]]
    row = filled(warehouse, "releases", 1, tables=listed, status=[reader.RELEASED])
    warehouse.write("releases", row, day=day)


def typed(*words: str) -> Any:
    return CliRunner().invoke(app.app, list(words))


@pytest.mark.parametrize("name_of", [lambda release: release.id, lambda release: str(release.day)])
def test_commands_take_ids_and_days_and_print_json(
    warehouse: Warehouse, name_of: Callable[[reader.Release], str]
) -> None:
    names = [name_of(reader.of(day)) for day in DAYS]
    shown = json.loads(typed("releases", "--show", names[1], "--json").output)
    assert shown["models"][1]["digest"] == "digest 1"
    assert "digest 1" in typed("releases", "--show", names[1]).output
    rows = [json.loads(line) for line in typed("diff", *names, "--json").output.splitlines()]
    assert {"what": "inputs", "name": "recipe", "before": "recipe 0", "after": "recipe 1"} in rows
    assert "recipe 0" in typed("diff", *names).output
    same = typed("diff", names[0], names[0], "--json").output.splitlines()
    assert {json.loads(line)["what"] for line in same} == {"lists"}


def test_a_release_that_is_not_there_is_refused_and_the_last_ones_named(
    warehouse: Warehouse,
) -> None:
    refused = typed("diff", "2020-01-01", str(DAYS[0]))
    assert refused.exit_code != 0
    assert reader.of(DAYS[1]).id in str(refused.exception)
