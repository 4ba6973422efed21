"""Inputs that change while a night runs: its release claims none, and the log says which; the rest in test_backfill."""

import datetime as dt
from pathlib import Path

import pytest

from microrec.pipeline import night_inputs
from microrec.pipeline.night import Night
from microrec.pipeline.night_inputs import NightInputs
from microrec.tables.arrow import Warehouse

DAY = dt.date(2026, 1, 4)
PLANNED = NightInputs("e", "c", "r", "the code of the plan", "{}", "p", "t", "{}")


@pytest.fixture
def night(place: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    """A night that was planned."""
    warehouse = Warehouse.open()
    warehouse.write("nights", PLANNED.row(), day=DAY)
    monkeypatch.setattr(night_inputs, "current_inputs", lambda _: PLANNED)
    return Night.open(DAY)


def test_planned_inputs_are_claimed_while_nothing_changes(night: Night) -> None:
    assert night_inputs.planned_inputs(night) == PLANNED.digest


def test_code_replaced_in_mid_night_is_named_and_the_release_claims_no_inputs(
    night: Night, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """airflow#48730: half of a night was made by one version of the code, half by the next, and nothing said so."""
    replaced = PLANNED._replace(code="the code of a deployment", code_parts='{"microrec": "x"}')
    monkeypatch.setattr(night_inputs, "current_inputs", lambda _: replaced)
    assert night_inputs.planned_inputs(night) is None
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("inputs changed while the night ran (code): ")
