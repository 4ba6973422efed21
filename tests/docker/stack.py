"""The team's stack for a test: docker/compose.yaml under a project of its own, on a free port of loopback."""

import contextlib
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.fernet import Fernet

from microrec.config.settings import HOME
from tests.docker import images
from tests.ui.airflow_servers import ENDED, Airflow, free_port

COMPOSE = HOME / "docker" / "compose.yaml"
EXAMPLE = HOME / "docker" / ".env.example"
PROJECT = "microrec-test"
PATIENCE = 3600
"""Seconds in which a night must end on a slow machine."""
READER = "50001:50000"
"""Another user of the group that the stack's tables are readable for, with MICROREC_UMASK=027."""
PASSWORD = "p@ss:w/rd%s"
"""With what an address would take for its own."""
PARTS = {
    "postgres": 1,
    "api-server": 1,
    "scheduler": 1,
    "dag-processor": 1,
    "cleaner": 1,
    "spark-master": 1,
    "spark-worker": 2,
}
"""Containers that stay, by service."""


class Stack(Airflow):
    """The stack, and Airflow's REST API as its admin. In a `with`; afterwards neither container nor volume is left."""

    def __init__(self, folder: Path, recipe: str, sizes: dict[str, str]) -> None:
        self.folder = folder
        self.parts = []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # A request that is sent again is a second backfill.
        self.api = httpx.Client(base_url=self.url, timeout=300)
        self.variables = self._variables(sizes)
        self.seconds: dict[str, float] = {}
        environment = "".join(f"{name}='{value}'\n" for name, value in self.variables.items())
        (folder / "test.env").write_text(environment)
        (folder / "recipe.toml").write_text(recipe)
        (folder / "recipe.toml").chmod(0o644)
        mount = f"{folder / 'recipe.toml'}:/opt/microrec/microrec.toml:ro"
        which = ("scheduler", "dag-processor", "spark-worker", "tools")
        services = {name: {"volumes": [mount]} for name in which}
        # What a dead scheduler has left is looked for so often, not every five minutes.
        soon = {
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        }
        services["scheduler"]["environment"] = soon
        (folder / "override.yaml").write_text(yaml.safe_dump({"services": services}))

    def _variables(self, sizes: dict[str, str]) -> dict[str, str]:
        lines = [line for line in EXAMPLE.read_text().splitlines() if line and line[0] != "#"]
        values = dict(line.split("=", 1) for line in lines)
        words = ("API_SECRET_KEY", "JWT_SECRET", "SPARK_AUTH_SECRET", "MICROREC_PRIVACY_KEY")
        values |= {name: secrets.token_urlsafe(48) for name in words}
        values |= {
            "COMPOSE_PROJECT_NAME": PROJECT,
            "POSTGRES_PASSWORD": PASSWORD,
            "ADMIN_PASSWORD": PASSWORD,
            "FERNET_KEY": Fernet.generate_key().decode(),
            "AIRFLOW_PORT": str(self.port),
            "MICROREC_UMASK": "027",
            "BUILD_NETWORK": "host",
        }
        return values | sizes

    def compose(self, *words: str, check: bool = True) -> str:
        """A command of compose for this stack; its output."""
        files = ("-f", str(COMPOSE), "-f", str(self.folder / "override.yaml"))
        command = ("docker", "compose", "--env-file", str(self.folder / "test.env"), *files, *words)
        return str(images.run(*command, check=check, env=images.builder()).stdout)

    def timed(self, what: str, step: Callable[[], Any]) -> Any:
        """Do a step, and keep how long it took."""
        begun = time.monotonic()
        result = step()
        self.seconds[what] = round(time.monotonic() - begun, 1)
        return result

    def _start(self) -> None:
        self.closing.callback(self.api.close)
        # One target before the other: builders without buildx would install the packages once for each at once.
        self.timed("build", lambda: self.compose("build", "airflow-init"))
        self.timed("build of spark", lambda: self.compose("build", "spark-master", "spark-worker"))
        self.closing.callback(self.compose, "down", "--volumes", "--timeout", "20", check=False)
        self.timed("up", lambda: self.compose("up", "-d"))
        self.timed("healthy", lambda: self.wait(self.all_healthy, "all is healthy", 1200))
        self.api.headers["authorization"] = f"Bearer {self.log_in(PASSWORD)}"

    def wait(self, what: Callable[[], Any], goal: str, seconds: float = 300) -> Any:
        """Ask again until the answer is true; what it then is. A server that restarts may answer anything."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with contextlib.suppress(httpx.HTTPError):
                if answer := what():
                    return answer
            time.sleep(1)
        raise AssertionError(f"after {seconds:.0f} s not so: {goal}\n{self.story()}")

    def ended(self, run_id: str) -> str:
        """Wait for the run, which may lose a scheduler; the state it ended in."""

        def state() -> str:
            now = str(self.runs()[run_id]["state"])
            return now if now in ENDED else ""

        return str(self.wait(state, f"{run_id} has ended", PATIENCE))

    def log_in(self, password: str) -> str:
        """A token of the admin, or `httpx.HTTPStatusError`."""
        known = {"username": "admin", "password": password}
        answer = httpx.post(f"{self.url}/auth/token", json=known, timeout=60)
        return str(answer.raise_for_status().json()["access_token"])

    def containers(self) -> list[dict[str, Any]]:
        """What `docker inspect` says of the containers of the stack, ended ones included."""
        label = f"label=com.docker.compose.project={PROJECT}"
        ids = images.run("docker", "ps", "-aq", "--filter", label).stdout.split()
        return list(json.loads(images.run("docker", "inspect", *ids).stdout)) if ids else []

    def of(self, service: str) -> list[dict[str, Any]]:
        """The containers of a service."""
        name = "com.docker.compose.service"
        return [each for each in self.containers() if each["Config"]["Labels"][name] == service]

    def all_healthy(self) -> bool:
        """Whether every container that stays is healthy."""
        states = {
            service: [each["State"].get("Health", {}).get("Status") for each in self.of(service)]
            for service in PARTS
        }
        return states == {service: ["healthy"] * number for service, number in PARTS.items()}

    def as_reader(self, code: str) -> str:
        """Run Python in a container of its own, under another user, with the warehouse read-only."""
        volume = f"{PROJECT}_warehouse:/srv/warehouse:ro"
        words = ("docker", "run", "--rm", "--user", READER, "--network", "none", "-v", volume)
        python = ("--entrypoint", "python", "microrec:spark", "-c", code)
        return str(images.run(*words, *python).stdout)

    def has_executor(self, worker: dict[str, Any]) -> bool:
        """Whether an executor runs in the container of a Spark worker."""
        listed = images.run("docker", "top", worker["Id"], "-eo", "pid,args", check=False).stdout
        return "CoarseGrainedExecutorBackend" in listed

    def crash(self, container: dict[str, Any], process: str) -> None:
        """Kill the process that a container runs for, with -9: all in it goes, and its policy restarts it."""
        images.run("docker", "exec", container["Id"], "pkill", "-KILL", "-f", process)

    def story(self) -> str:
        """The runs and what failed in them, the containers and the ends of their logs."""
        logs = self.compose("logs", "--tail", "30", check=False)
        return "\n".join([super().story(), self.compose("ps", "-a", check=False), logs[-12000:]])
