"""Commands that erase people and prove it: what they count, print and refuse; an id is never printed."""

import io
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from microrec.config.settings import HOME
from microrec.runner.exit_status import ExitStatus
from microrec.tables.arrow import Warehouse
from tests.worlds import people
from tests.worlds.people import GONE


@pytest.fixture
def warehouse(place: Path, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    recipe = place / "recipe.toml"
    text = (
        (HOME / "microrec.toml")
        .read_text()
        .replace("[night]", "[night]\nauthors_are_users = true", 1)
    )
    recipe.write_text(f"{text}\n[privacy.erasure]\ngrace_seconds = 0\nabandoned_hours = 0\n")
    monkeypatch.setenv("MICROREC_RECIPE", str(recipe))
    opened = Warehouse.open()
    people.make(opened)
    return opened


@pytest.fixture
def prove(
    typed: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    def run(*ids: str) -> Any:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{each}\n" for each in ids)))
        return typed("prove-erasure", "--state", str(place / "airflow"), "--json")

    return run


def test_erase_is_counted_done_and_proved(
    warehouse: Warehouse, typed: Callable[..., Any], prove: Callable[..., Any], place: Path
) -> None:
    before = prove(*GONE)
    assert before.status == ExitStatus.DATA_ERROR
    places = {row["place"]: row["hits"] for row in before.rows}
    assert places["users.user_id"] == 6
    assert places["rejected_rows.line"] == 6
    assert places["videos.author_id"] == 3
    planned = {row["table"]: row["files"] for row in typed("erase", "--dry-run", "--json").rows}
    assert planned["users"] == 3
    assert prove(*GONE).rows == before.rows
    done = typed("erase", "--json")
    assert not done.status, done.errors
    assert {row["table"] for row in done.rows} >= planned.keys() - {"suppressed_users"}
    assert "u1" not in done.output
    proved = prove(*GONE)
    assert proved.status == 0, (proved.output, proved.errors)
    assert proved.rows == []
    assert all(row["proved_at"] for row in warehouse.read("erasures").to_pylist())
    assert typed("erase", "--json").rows == []
    (receipt,) = typed("erasures", "--json").rows
    assert (receipt["people"], receipt["proved"]) == (2, 2)
    last = typed("erasures", "--last").rows
    assert [row["erasure"] for row in last] == [receipt["erasure"]]


def test_prove_erasure_searches_logs_and_databases_of_airflow(
    prove: Callable[..., Any], warehouse: Warehouse, place: Path
) -> None:
    home = place / "airflow"
    (home / "logs").mkdir(parents=True)
    (home / "logs" / "attempt=1.log").write_text("refused user 170, 17 rows\n")
    with closing(sqlite3.connect(home / "airflow.db")) as database:
        database.execute("CREATE TABLE log (extra TEXT)")
        database.execute('INSERT INTO log VALUES (\'{"user_id": "nobody-else"}\')')
        database.commit()
    hits = {row["place"]: row["hits"] for row in prove("nobody-else").rows}
    assert hits == {"airflow/airflow.db:log": 1}
    assert "airflow/logs/attempt=1.log" in {row["place"] for row in prove("170").rows}


def test_prove_erasure_refuses_an_empty_input(
    prove: Callable[..., Any], warehouse: Warehouse
) -> None:
    outcome = prove()
    assert outcome.status == ExitStatus.DATA_ERROR
    assert "no ids on standard input" in outcome.errors


def test_export_user_writes_what_is_held_for_its_owner_alone(
    warehouse: Warehouse, typed: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("u1\n"))
    exported = typed("export-user", "--out", str(place / "out"), "--json")
    assert {row["table"]: row["rows"] for row in exported.rows}["users"] == 3
    path = place / "out" / "users.jsonl"
    assert path.stat().st_mode & 0o077 == 0
    assert "u1" not in exported.output
    monkeypatch.setattr("sys.stdin", io.StringIO("u1\nu2\n"))
    refused = typed("export-user", "--out", str(place / "other"))
    assert refused.status == ExitStatus.DATA_ERROR
    assert "2 lines on standard input, not one id" in refused.errors
