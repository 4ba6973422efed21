"""The job erases whoever asks, and costs nothing on a night on which nobody does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import erase
from microrec.config.settings import HOME
from tests.worlds import people
from tests.worlds.people import DAYS

SCRIPT = """
import runpy, sys
sys.argv = ["erase", "--day", "2026-01-07"]
runpy.run_module("jobs.erase", run_name="__main__")
heavy = {"pyspark", "torch", "great_expectations", "lightgbm", "numba"}
assert not heavy & {*sys.modules}, heavy & {*sys.modules}
"""


def test_night_without_requests_loads_no_engine_and_says_that_nobody_asks(tmp_path: Path) -> None:
    places = {f"MICROREC_{name.upper()}": str(tmp_path / name) for name in ("warehouse", "landing")}
    environment = {**os.environ, **places}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment, cwd=HOME, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    assert "requests=0" in done.stderr
    written = {path.name for path in (tmp_path / "warehouse").iterdir()}
    assert written == {"suppressed_users", "withheld_periods", "preferences"}


def test_job_erases_and_leaves_receipts_and_a_manifest(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = people.erasable(place, monkeypatch)
    erase.main(day=DAYS[-1])
    rows = warehouse.read("erasures").to_pylist()
    assert len(rows) == 2
    assert {row["n_people"] for row in rows} == {2}
    assert (Path(warehouse.root) / rows[0]["manifest"]).is_file()
    assert warehouse.read("suppressed_users")["user_id"].to_pylist() == ["u0"]
