"""`microrec export`: which release goes where, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from microrec.config.settings import settings
from microrec.runner.exit_status import ExitStatus
from microrec.tables.arrow import Warehouse
from tests.export.test_handoff import DAY, NEXT, USERS, release, withdraw


@pytest.fixture
def store(place: Path) -> Path:
    """A folder to export to; there are two releases."""
    release(Warehouse.open(), DAY, USERS, "a")
    release(Warehouse.open(), NEXT, USERS[1:], "b")
    return place / "store"


def users(store: Path) -> list[str]:
    rows = pq.read_table(store / "served" / "lists.parquet").to_pylist()
    return sorted(row["id"] for row in rows if row["kind"] == "user")


def test_export_hands_over_the_latest_release_or_the_one_that_is_named(
    store: Path, typed: Callable[..., Any]
) -> None:
    done = typed("export", "--to", f"parquet:{store}", "--json")
    assert not done.status, done.errors
    assert [(row["day"], row["action"], row["lists"]) for row in done.rows] == [
        (str(NEXT), "exported", 2 * len(USERS) - 1)
    ]
    assert users(store) == sorted(USERS[1:])
    assert not typed("export", "--to", f"parquet:{store}", "--release", str(DAY)).status
    assert users(store) == sorted(USERS)


def test_export_withdrawn_takes_people_out_and_prints_how_many(
    store: Path, typed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROREC_EXPORT_TO", f"parquet:{store}")
    settings.cache_clear()
    assert not typed("export").status
    withdraw(Warehouse.open(), USERS[1])
    assert typed("export", "--withdrawn", "--json").rows == [{"users": 1}]
    assert users(store) == sorted(USERS[2:])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export"], "MICROREC_EXPORT_TO"),
        (["export", "--to", "mysql://u:secret@h/d"], "redis://"),
        (["export", "--to", "parquet:x", "--withdrawn", "--release", str(DAY)], "--withdrawn"),
    ],
)
def test_export_refuses(
    words: list[str], said: str, store: Path, typed: Callable[..., Any]
) -> None:
    refused = typed(*words)
    assert refused.status == ExitStatus.DATA_ERROR
    assert said in refused.errors
    assert "secret" not in refused.errors


def test_dbt_sources_prints_yaml(typed: Callable[..., Any]) -> None:
    printed = yaml.safe_load(typed("dbt-sources").output)
    assert [source["name"] for source in printed["sources"]] == ["microrec"]
