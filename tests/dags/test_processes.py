"""Processes of the DAGs: what an exit status means to Airflow, and that names clash with nobody's."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from microrec.config.settings import HOME
from microrec.runner.exit_status import ExitStatus


def test_exit_statuses_of_the_dags_are_those_of_the_jobs() -> None:
    import processes

    assert processes.DATA_ERROR == ExitStatus.DATA_ERROR
    assert processes.RECIPE_ERROR == ExitStatus.RECIPE_ERROR
    assert processes.NOTHING_TO_DO == ExitStatus.NOTHING_TO_DO


def test_run_in_checkout_adds_variables_and_returns_the_last_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import processes

    monkeypatch.setenv("MICROREC_OF_THE_WORKER", "kept")
    names = ["MICROREC_OF_THE_WORKER", "MICROREC_RUN_ID", "GX_ANALYTICS_ENABLED"]
    code = f"import os; print('first'); print(os.getcwd(), *[os.environ[n] for n in {names}])"
    result = processes.run_in_checkout(["-c", code], {"MICROREC_RUN_ID": "night-7"})
    assert result.exit_code == 0
    assert result.output == f"{HOME} kept night-7 false"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (65, "AirflowFailException"),
        (78, "AirflowFailException"),
        (1, "AirflowException"),
        (-9, "AirflowException"),
    ],
)
def test_raise_if_failed_of_a_failure_names_job_and_last_error(status: int, error: str) -> None:
    import processes

    output = "2026-01-05 ERROR microrec.runner.job GateHeld: gate_results[day=2026-01-04]"
    result = SimpleNamespace(exit_code=status, output=output)
    with pytest.raises(Exception, match=r"^train_model .*: GateHeld: gate_results") as raised:
        processes.raise_if_failed("train_model", "2026-01-04", result)
    assert type(raised.value).__name__ == error


def test_modules_of_the_dags_are_nobody_elses() -> None:
    """Airflow puts the folder last on the path: a package of the same name would be imported in their place."""
    names = sorted(path.stem for path in (HOME / "dags").rglob("*.py") if path.stem != "__init__")
    code = f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    path = {**os.environ, "PYTHONPATH": ""}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=HOME, env=path, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
