"""A job leaves behind what it cost, whether it failed or not; that it cannot is no failure of the job."""

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import pytest

from microrec.config.settings import HOME
from microrec.runner import task_usage
from microrec.tables import usage
from microrec.tables.arrow import Warehouse

DAY = dt.date(2026, 1, 4)
WORDS = ["/srv/jobs/train_model.py", "--day", str(DAY), "--fit", "trial", "--model", "content"]
COST = {"seconds": 3.14159, "peak_mb": 700, "failed": False}


def test_note_writes_the_task_that_the_command_line_names(place: Path) -> None:
    task_usage.note(WORDS, **COST)
    (cost,) = usage.of_day(Warehouse.open(), DAY)
    assert (cost.name, cost.seconds, cost.peak_mb) == ("train_model.trial.content", 3.1, 700)
    assert dt.datetime.fromisoformat(cost.ended_at).utcoffset() == dt.timedelta()


@pytest.mark.parametrize("words", [["-c", "--day", str(DAY)], WORDS[:1], ["/usr/bin/microrec"]])
def test_note_writes_nothing_for_what_is_no_job_of_a_day(words: list[str], place: Path) -> None:
    task_usage.note(words, **COST)
    assert not (place / "warehouse").exists()


def test_note_that_cannot_be_written_is_a_warning(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "/secret/place")

    monkeypatch.setattr(usage, "save", fail)
    task_usage.note(WORDS, **COST)
    task_usage.note([*WORDS[:2], "soon"], **COST)
    assert [record.getMessage() for record in caplog.records] == [
        "usage was not written: OSError",
        "usage was not written: ValueError",
    ]


@pytest.mark.heavy
def test_job_that_fails_leaves_its_cost(place: Path) -> None:
    command = [sys.executable, "-m", "jobs.select_recommendations", "--day", str(DAY)]
    ended = subprocess.run(
        command, cwd=HOME, env=os.environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 65, ended.stderr
    (cost,) = usage.of_day(Warehouse.open(), DAY)
    assert (cost.name, cost.failed) == ("select_recommendations", True)
    assert cost.seconds >= 0, "imports come before"
    assert cost.peak_mb > 20
