"""The file by which a job tells the operator what it read and wrote: contracts and counts, no row."""

import datetime as dt
import json
from pathlib import Path

import pytest

from microrec.config.settings import settings
from microrec.runner import task_lineage
from microrec.tables import contract, traffic
from microrec.tables.arrow import Warehouse
from tests.worlds.releases import filled

DAY = dt.date(2026, 1, 4)
PERSON = "u-of-one-person"


@pytest.fixture
def record(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the record goes, after a table was written that names a person."""
    for name in ("_read", "_written"):
        monkeypatch.setattr(traffic, name, {})
    monkeypatch.setenv("MICROREC_TASK_RECORD", str(place / "record.json"))
    settings.cache_clear()
    warehouse = Warehouse.open()
    rows = filled(warehouse, "suppressed_users", 1, user_id=[PERSON], kind=["erase"])
    warehouse.write("suppressed_users", rows, day=DAY)
    return place / "record.json"


def test_leave_writes_columns_and_checks_of_the_contract_and_no_row(record: Path) -> None:
    task_lineage.leave()
    text = record.read_text()
    assert PERSON not in text
    left = json.loads(text)
    assert left["reads"] == []
    (table,) = left["writes"]
    assert (table["table"], table["version"], table["rows"]) == ("suppressed_users", 0, 1)
    declared = contract.load(settings().schemas, "suppressed_users")
    assert [field["name"] for field in table["fields"]] == declared.schema.names
    assert len(table["checks"]) == len(declared.rules) > 0
    assert {check["severity"] for check in table["checks"]} <= {"fail", "warn"}


def test_leave_writes_nothing_where_nobody_asked(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MICROREC_TASK_RECORD")
    settings.cache_clear()
    task_lineage.leave()
    assert not record.exists()


def test_leave_that_cannot_be_written_is_a_warning(
    record: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MICROREC_TASK_RECORD", str(record / "in" / "no" / "folder"))
    settings.cache_clear()
    task_lineage.leave()
    assert caplog.records[-1].getMessage() == "lineage was not left: FileNotFoundError"
