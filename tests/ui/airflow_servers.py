"""A real Airflow for a test: its parts are processes of their own on loopback, behind a login; all go with it."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from microrec.cli.local_airflow import ui_environment
from microrec.config.settings import HOME

USER = "operator"
LOGIN = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:op"}
"""Not as admin: who operates needs no more."""
NIGHTLY = "/api/v2/dags/nightly"
ENDED = {"success", "failed"}
PATIENCE = 900
"""Seconds in which a night must end."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Part:
    """One process in a session of its own, and its log."""

    def __init__(self, command: list[str], log: Path, **options: Any) -> None:
        self.log = log
        self.process = subprocess.Popen(
            command,
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process group, then whatever it had begun in groups of its own: a job and its JVM."""
        if self.process.poll() is not None:
            return
        begun = psutil.Process(self.process.pid).children(recursive=True)
        os.killpg(self.process.pid, how)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for left in psutil.wait_procs(begun, timeout=2)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join([f"--- {self.log.name}", *lines[-25:]])


class Postgres:
    """A database cluster of its own in a folder that the user it runs as may enter."""

    def __init__(self, log: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="microrec-postgres-"))
        self.port = free_port()
        # It refuses to run as root, which containers do.
        self.options: dict[str, Any] = {"cwd": self.folder}
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            self.options |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        data = str(self.folder / "data")
        make = [self.binary("initdb"), "-D", data, "-U", "airflow", "--auth=trust", "--no-sync"]
        made = subprocess.run(make, capture_output=True, check=False, text=True, **self.options)
        assert made.returncode == 0, made.stderr
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "off",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.part = Part([self.binary("postgres"), "-D", data, *words], log, **self.options)
        self.url = f"postgresql+psycopg2://airflow@127.0.0.1:{self.port}/postgres"

    @staticmethod
    def binary(name: str) -> str:
        found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        return str(found[-1]) if found else shutil.which(name) or name

    def ready(self) -> bool:
        asked = [self.binary("pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    def stop(self) -> None:
        # Its word for "end the connections and go".
        self.part.stop(signal.SIGINT)
        shutil.rmtree(self.folder)


class Airflow:
    """Airflow on Postgres, with a DAG processor; or the light one, on SQLite, whose DAGs are read once.

    Use it in a `with`: what it started is gone afterwards. `api` is an HTTP client that has logged in.
    """

    def __init__(
        self, folder: Path, settings: dict[str, str], *, home: Path | None = None, light: bool
    ) -> None:
        self.folder, self.light = folder, light
        self.home = home or folder / "airflow"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            **os.environ,
            **ui_environment(self.home, port),
            **LOGIN,
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
            # A night of small tasks is mostly pauses between them.
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            **settings,
        }
        self.api = httpx.Client(base_url=self.url, timeout=60)
        self.parts: list[Part] = []
        self.closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as begun:
            self.closing = begun
            self._start()
            self.closing = begun.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.close()

    def _start(self) -> None:
        self.closing.callback(self.api.close)
        if not self.light:
            postgres = Postgres(self.folder / "postgres.log")
            self.closing.callback(postgres.stop)
            self.parts.append(postgres.part)
            self.wait(postgres.ready, "Postgres answers")
            self.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = postgres.url
        self.command("db", "migrate")
        self.command("pools", "import", str(HOME / "dags" / "pools.json"))
        if self.light:
            self.command("dags", "reserialize")
        else:
            self.part("dag-processor")
        self.part("api-server")
        self.part("scheduler", "--skip-serve-logs")
        self.wait(self.healthy, "Airflow is healthy")
        self.api.headers["authorization"] = f"Bearer {self.log_in(self.password())}"
        self.wait(lambda: self.api.get(NIGHTLY).is_success, "the DAG nightly is known")

    def part(self, *words: str) -> None:
        command = [sys.executable, "-m", "airflow", *words]
        log = self.folder / f"{words[0]}.log"
        self.parts.append(Part(command, log, env=self.environment, cwd=HOME))
        self.closing.callback(self.parts[-1].stop)

    def command(self, *words: str) -> str:
        """An `airflow` command that must end well; gives its output."""
        command = [sys.executable, "-m", "airflow", *words]
        ended = subprocess.run(
            command,
            env=self.environment,
            cwd=HOME,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == 0, f"airflow {' '.join(words)}:\n{ended.stdout[-4000:]}"
        return ended.stdout

    def healthy(self) -> bool:
        found = self.api.get("/api/v2/monitor/health").json()
        parts = ["metadatabase", "scheduler", *([] if self.light else ["dag_processor"])]
        return all(found[part]["status"] == "healthy" for part in parts)

    def password(self) -> str:
        """As Airflow made it up."""
        kept = self.home / "simple_auth_manager_passwords.json.generated"
        return str(json.loads(kept.read_text())[USER])

    def log_in(self, password: str) -> str:
        """A token, or `httpx.HTTPStatusError`."""
        answer = httpx.post(
            f"{self.url}/auth/token", json={"username": USER, "password": password}, timeout=60
        )
        return str(answer.raise_for_status().json()["access_token"])

    def wait(self, what: Callable[[], Any], goal: str, seconds: float = 180) -> Any:
        """Ask again until the answer is true; what it then is. Else the ends of all logs."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for part in self.parts:
                assert part.process.poll() is None, f"{part.log.stem} has ended\n{part.tail()}"
            with contextlib.suppress(httpx.TransportError):
                if found := what():
                    return found
            time.sleep(1)
        tails = "\n".join(part.tail() for part in self.parts)
        raise AssertionError(f"after {seconds:.0f} s not so: {goal}\n{self.story()}\n{tails}")

    def runs(self) -> dict[str, dict[str, Any]]:
        """The runs of the nightly DAG by id."""
        found = self.api.get(f"{NIGHTLY}/dagRuns", params={"limit": 100}).raise_for_status()
        return {run["dag_run_id"]: run for run in found.json()["dag_runs"]}

    def trigger(self, conf: dict[str, str]) -> str:
        """Start a run by hand; its id."""
        asked = {"logical_date": None, "conf": conf}
        return str(
            self.api.post(f"{NIGHTLY}/dagRuns", json=asked).raise_for_status().json()["dag_run_id"]
        )

    def backfill(self, first: str, last: str, **more: object) -> None:
        """Ask for the days by REST, one after another.

        An earlier backfill stays open for half a minute after its last run (409).
        """
        asked = {
            "dag_id": "nightly",
            "from_date": f"{first}T00:00:00Z",
            "to_date": f"{last}T00:00:00Z",
            "max_active_runs": 1,
            **more,
        }

        def accepted() -> bool:
            answer = self.api.post("/api/v2/backfills", json=asked)
            assert answer.is_success or answer.status_code == 409, answer.text
            return answer.is_success

        self.wait(accepted, "the backfill is accepted")

    def idle(self) -> bool:
        """Whether no backfill is open."""
        found = self.api.get("/api/v2/backfills", params={"dag_id": "nightly"})
        return all(one["completed_at"] for one in found.raise_for_status().json()["backfills"])

    def backfilled(self, seconds: float = PATIENCE) -> dict[str, dict[str, Any]]:
        """Wait until all runs of backfills have ended; they by day."""

        def ended() -> dict[str, dict[str, Any]]:
            runs = self.by_day("backfill")
            return runs if all(run["state"] in ENDED for run in runs.values()) else {}

        return dict(self.wait(ended, "the backfill has ended", seconds))

    def by_day(self, *types: str) -> dict[str, dict[str, Any]]:
        """Runs that have a logical date, of these types or all, by their day, the first day first."""
        runs = [run for run in self.runs().values() if run["logical_date"]]
        runs = [run for run in runs if not types or run["run_type"] in types]
        return {run["logical_date"][:10]: run for run in sorted(runs, key=lambda run: run["logical_date"])}  # fmt: skip

    def ended(self, run_id: str) -> str:
        """Wait for the run; the state it ended in."""

        def state() -> str:
            found = str(self.runs()[run_id]["state"])
            return found if found in ENDED else ""

        return str(self.wait(state, f"{run_id} has ended", PATIENCE))

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        found = self.api.get(f"{NIGHTLY}/dagRuns/{run_id}/taskInstances").raise_for_status()
        return list(found.json()["task_instances"])

    def failures(self, run_id: str) -> dict[str, str]:
        """What the failed tasks of a run said, as the task's page shows it."""
        found = {}
        for task in self.tasks(run_id):
            if task["state"] in ("failed", "up_for_retry"):
                where = f"{NIGHTLY}/dagRuns/{run_id}/taskInstances/{task['task_id']}/logs"
                asked = {"map_index": task["map_index"], "full_content": True}
                log = self.api.get(f"{where}/{task['try_number']}", params=asked).json()
                found[task["task_id"]] = "\n".join(str(line) for line in log["content"])
        return found

    def story(self) -> str:
        """The runs, and what failed in them, for people."""
        lines = []
        try:
            for name, run in self.runs().items():
                lines.append(f"{name}: {run['state']}")
                lines += [f"{task}: {said[-2000:]}" for task, said in self.failures(name).items()]
        except httpx.HTTPError as error:
            lines.append(f"no answer: {error}")
        return "\n".join(lines)

    def announced(self) -> list[dict[str, str]]:
        """What consumers were told of the latest release, in order."""
        found = self.api.get("/api/v2/assets", params={"uri_pattern": "microrec://releases"})
        (asset,) = found.raise_for_status().json()["assets"]
        asked = {"asset_id": asset["id"], "order_by": "timestamp", "limit": 100}
        events = self.api.get("/api/v2/assets/events", params=asked).raise_for_status().json()
        return [event["extra"] for event in events["asset_events"]]
