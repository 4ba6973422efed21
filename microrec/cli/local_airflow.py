"""Airflow on this machine: a night in the terminal, or a server on the loopback.

In the terminal `DAG.test` of Airflow runs the same tasks with the same dependencies and records the run in Airflow's
metadata, without a scheduler or a server. Each task is a process of its own, as under a scheduler.
"""

import datetime as dt
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

import pluggy
from rich.console import Console

from microrec.cli import airflow_records, airflow_server, home_lock
from microrec.cli.printing import print_line
from microrec.config.settings import HOME, STATE
from microrec.core import messages
from microrec.runner.exit_status import ExitStatus

PASSWORDS = "simple_auth_manager_passwords.json.generated"
"""File of the password that Airflow generates."""
RECORDS_KEPT = dt.timedelta(days=90)
"""How long `microrec ui` keeps Airflow's records of runs: tasks, such as a maintenance DAG's, cannot reach them."""

_hookimpl = pluggy.HookimplMarker("airflow")
_JOB_LINE = re.compile(
    r"^\S+ \[\w+\s*\] (?P<line>.*?)\s+\[airflow\.task\.hooks\.\S*SubprocessHook\]"
)
_LOG_RECORD = re.compile(
    r"^\S+ \S+ (?P<level>INFO|WARNING|ERROR) (?P<name>jobs|microrec|__main__)\S* (?P<text>.*)$"
)


def airflow_home() -> Path:
    """Return the folder of Airflow's metadata and logs: AIRFLOW_HOME, or one beside other runs' state."""
    return Path(os.environ.get("AIRFLOW_HOME", STATE / "airflow")).resolve()


def airflow_environment(home: Path) -> dict[str, str]:
    """Return Airflow's settings for one machine: SQLite, a local folder, no examples, no telemetry.

    Args:
        home: folder of Airflow's metadata and logs.

    Returns:
        Environment variables.
    """
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(HOME / "dags" / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "5",
        # Backfills come last among the runs that wait, and twenty of another DAG would hide them, by default.
        "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "200",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
        "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
    }


def ui_environment(home: Path, port: int) -> dict[str, str]:
    """Return Airflow's settings for a server on the loopback with one user, whose password it generates.

    Args:
        home: folder of Airflow's metadata and logs.
        port: port on 127.0.0.1.

    Returns:
        Environment variables.
    """
    return airflow_environment(home) | {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "operator:admin",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        # A token that is not renewed in time, on a machine that sleeps, say, ends its task: ten minutes, by default.
        "AIRFLOW__EXECUTION_API__JWT_EXPIRATION_TIME": "86400",
        # On a busy machine the end of a task is noticed with its next heartbeat: five seconds for each, by default.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }


def serve(home: Path, port: int) -> ExitStatus:
    """Run an Airflow server with our DAGs in it, after bringing its metadata up to date, until a signal ends it.

    Args:
        home: folder of Airflow's metadata and logs; only their owner can read them.
        port: port on 127.0.0.1.

    Returns:
        How it ended.

    Raises:
        BadArgument: another server runs in the folder.
    """
    _keep_private(home)
    server = f"microrec ui on port {port}"
    with home_lock.held(home, "server", server, waiting=None):
        print_line(
            f"Airflow will answer on http://localhost:{port} in about a minute: user operator,"
        )
        print_line(f"password in {home / PASSWORDS}; logs in {home / 'logs'}; Ctrl-C ends it")
        # Airflow starts programs of its own by their names: those beside this interpreter.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        environment = os.environ | ui_environment(home, port) | {"PATH": path}
        before = (dt.datetime.now(dt.UTC) - RECORDS_KEPT).isoformat()
        clean = f"db clean --clean-before-timestamp {before} --skip-archive --yes"
        return airflow_server.serve(
            [
                ("airflow", "db", "migrate"),
                ("microrec.cli.airflow_records",),
                ("airflow", *clean.split()),
                ("airflow", "pools", "import", str(HOME / "dags" / "pools.json")),
            ],
            environment,
            home / "logs",
            prepared=home_lock.held(home, "night", server, waiting=print_line),
        )


def _keep_private(home: Path) -> None:
    """Let nobody else read Airflow's metadata, password and logs; jobs have the mask of the settings."""
    os.umask(0o077)
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    for name in (PASSWORDS, "airflow.db"):
        if (home / name).exists():
            (home / name).chmod(0o600)


def command(home: Path, arguments: Sequence[str]) -> NoReturn:
    """Become an `airflow` command with the settings of the server on this machine.

    Args:
        home: folder of Airflow's metadata and logs.
        arguments: what follows `airflow` on the command line.
    """
    _keep_private(home)
    environment = os.environ | airflow_environment(home)
    os.execve(sys.executable, [sys.executable, "-m", "airflow", *arguments], environment)


def run(
    day: dt.date, *, home: Path, environment: Mapping[str, str], stream: TextIO
) -> Sequence[str]:
    """Run the nightly DAG for a day and show its progress.

    Args:
        day: UTC day of the night.
        home: folder of Airflow's metadata and logs, the night's whole log among them.
        environment: `MICROREC_*` settings for the jobs.
        stream: where the progress is shown; a stream of the terminal, a file or a pipe.

    Returns:
        What failed, a line a task with its reason; nothing where the run succeeded.
    """
    _keep_private(home)
    os.environ.update(airflow_environment(home), **environment)
    log = home / "logs" / f"night-{day}.log"
    log.parent.mkdir(exist_ok=True)
    console = Console(
        file=os.fdopen(os.dup(stream.fileno()), "w"),
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )
    with home_lock.held(home, "night", f"night of {day}", waiting=console.print):
        console.print(f"night {day}: whole log in {log}")
        with _captured(log, console):
            return _run_dag(day, console)


def _run_dag(day: dt.date, console: Console) -> list[str]:
    """Bring the metadata up to date and run the DAG. Airflow is imported only now, as it reads the environment then."""
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.sdk.listener import get_listener_manager
    from airflow.utils.db import initdb

    initdb()
    dags = HOME / "dags"
    bag = BundleDagBag(dag_folder=dags, bundle_path=dags, bundle_name="dags-folder")
    if bag.import_errors:
        raise RuntimeError(f"the DAG does not load: {bag.import_errors}")
    dag = bag.dags["nightly"]
    progress, listeners = _Progress(console), get_listener_manager()
    listeners.add_listener(progress)  # type: ignore[no-untyped-call]
    midnight = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
    try:
        finished = dag.test(logical_date=midnight, run_conf={"day": day.isoformat()})
    finally:
        listeners.pm.unregister(progress)
        airflow_records.correct_starts()
    if str(finished.state) == "success":
        return []
    return progress.failures or [f"the run ended as {finished.state}, no task failed"]


@contextmanager
def _captured(log: Path, console: Console) -> Iterator[None]:
    """Send all output of Airflow and the jobs to the log; show the jobs' own log records on the console."""
    outputs = [sys.stdout.fileno(), sys.stderr.fileno()]
    saved = [os.dup(output) for output in outputs]
    reading, writing = os.pipe()
    for output in outputs:
        os.dup2(writing, output)
    os.close(writing)
    follower = threading.Thread(target=_follow, args=(reading, log, console), daemon=True)
    follower.start()
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for output, original in zip(outputs, saved, strict=True):
            os.dup2(original, output)
            os.close(original)
        follower.join(timeout=5)


def _follow(reading: int, log: Path, console: Console) -> None:
    with os.fdopen(reading, errors="replace") as lines, log.open("w") as whole:
        for line in lines:
            whole.write(line)
            whole.flush()
            job_line = _JOB_LINE.match(line)
            record = _LOG_RECORD.match(job_line["line"]) if job_line else None
            if record:
                style = {"INFO": "dim", "WARNING": "yellow"}.get(record["level"], "bold red")
                console.print(f"    {messages.plain(record['text'])}", style=style)


class _Progress:
    """Airflow listener: shows one line when a task starts and one when it ends. Tasks run one after another here."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self.failures: list[str] = []
        """A line for each task that failed, with its reason."""

    @staticmethod
    def _name(task_instance: Any) -> str:
        index = task_instance.map_index
        model = getattr(getattr(task_instance, "task", None), "model", None)
        mapped = f" [{model or index}]" if index is not None and index >= 0 else ""
        return messages.plain(f"{task_instance.task_id}{mapped}")

    def _show(self, mark: str, task_instance: Any, style: str) -> None:
        seconds = time.monotonic() - self._began
        self._console.print(f"{mark} {self._name(task_instance)}  {seconds:.1f} s", style=style)

    @_hookimpl
    def on_task_instance_running(self, previous_state: Any, task_instance: Any) -> None:
        """Show that a task starts."""
        self._began = time.monotonic()
        self._console.print(f"> {self._name(task_instance)}")

    @_hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
        """Show that a task has succeeded."""
        self._show("ok", task_instance, "green")

    @_hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        """Show that a task has failed, and why."""
        self._show("FAILED", task_instance, "bold red")
        reason = messages.plain(str(error)) if error else "see the whole log"
        self._console.print(f"    {reason}", style="bold red")
        self.failures.append(f"{self._name(task_instance)}: {reason}")
