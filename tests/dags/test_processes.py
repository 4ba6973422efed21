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
    monkeypatch.setenv("MICROREC_PARENT", "1")
    names = ["MICROREC_OF_THE_WORKER", "MICROREC_RUN_ID", "GX_ANALYTICS_ENABLED", "MICROREC_PARENT"]
    code = f"import os; print('first'); print(os.getcwd(), *[os.environ[n] for n in {names}])"
    result = processes.run_in_checkout(["-c", code], {"MICROREC_RUN_ID": "night-7"})
    assert result.exit_code == 0
    assert result.output == f"{HOME} kept night-7 false {os.getpid()}", "it ends with this process"


WORKER = {
    "AIRFLOW__CORE__FERNET_KEY": "key",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://airflow:word@host/airflow",
    "AIRFLOW__API_AUTH__JWT_SECRET": "key",
    "AIRFLOW_CONN_WAREHOUSE": "postgres://word@host",
    "AIRFLOW_VAR_X": "word",
    "_AIRFLOW__STARTUP_TOKEN": "word",
    "MICROREC_ALERT_URL": "https://chat/word",
    "MICROREC_LINEAGE": '{"type": "http", "url": "https://word@host"}',
    "POSTGRES_PASSWORD": "word",
    "VAULT_TOKEN": "word",
    "GITHUB_TOKEN": "word",
}
"""What a job is never to have of an Airflow worker."""
NEEDED = {
    "PATH": "/bin",
    "HOME": "/home/m",
    "JAVA_HOME": "/java",
    "TMPDIR": "/tmp",
    "TZ": "UTC",
    "LC_ALL": "C.UTF-8",
    "PYTHONPATH": "/opt",
    "SPARK_LOCAL_IP": "127.0.0.1",
    "HADOOP_CONF_DIR": "/etc/hadoop",
    "AWS_SECRET_ACCESS_KEY": "of the store",
    "GOOGLE_APPLICATION_CREDENTIALS": "/key.json",
    "AZURE_STORAGE_ACCOUNT_KEY": "of the store",
    "OMP_NUM_THREADS": "1",
    "MICROREC_STORAGE_OPTIONS": "{}",
}


def test_passed_on_has_what_jobs_need_and_nothing_of_airflow() -> None:
    import processes

    assert processes.passed_on({**WORKER, **NEEDED}) == NEEDED
    names = {**NEEDED, processes.MORE: '["VAULT_*", "AIRFLOW__CORE__FERNET_KEY", "*_WAREHOUSE"]'}
    assert processes.passed_on({**WORKER, **names}) == {**names, "VAULT_TOKEN": "word"}


@pytest.mark.parametrize("names", ["VAULT_TOKEN", '{"a": 1}', "[1]"])
def test_passed_on_refuses_names_that_are_no_list(names: str) -> None:
    import processes

    with pytest.raises(Exception, match="MICROREC_JOB_ENVIRONMENT: not a list") as refused:
        processes.passed_on({processes.MORE: names})
    assert type(refused.value).__name__ == "AirflowFailException"


def test_variable_of_further_names_is_a_setting() -> None:
    import processes

    from microrec.config.settings import Settings

    assert processes.MORE.removeprefix("MICROREC_").lower() in Settings.model_fields


def test_process_has_no_key_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    import processes

    for name, value in WORKER.items():
        monkeypatch.setenv(name, value)
    code = "import os; print('|'.join(sorted(os.environ)))"
    result = processes.run_in_checkout(["-c", code], {"MICROREC_RUN_ID": "night-7"})
    names = set(result.output.split("|"))
    assert {"PATH", "MICROREC_RUN_ID"} <= names
    assert not names & set(WORKER)
    assert not [name for name in names if "AIRFLOW" in name]


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
