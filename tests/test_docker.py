"""docker/ as far as it can be looked at without a container engine: what `docker compose config` needs, no default
passwords, nobody is root, and the node script starts Spark's own classes out of the pip wheel."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyspark
import pytest
import yaml

from microrec.config.settings import HOME, Settings

DOCKER = HOME / "docker"
SECRETS = ("POSTGRES_PASSWORD", "ADMIN_PASSWORD", "FERNET_KEY", "API_SECRET_KEY", "JWT_SECRET")
STORE = "MICROREC_STORAGE_OPTIONS"
"""May hold a secret, and need not."""


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


def test_nothing_starts_with_a_default_password(compose: dict[str, Any]) -> None:
    text = (DOCKER / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{(\w+):\?", text))
    assert asked == {*SECRETS, STORE}
    for name in SECRETS:
        uses = re.findall(rf"\$\{{{name}(.)", text)
        assert set(uses) == {":"}, f"{name} is required wherever it is used"
    example = dict(re.findall(r"^(\w+)=(.*)$", (DOCKER / ".env.example").read_text(), re.MULTILINE))
    assert {name: example[name] for name in SECRETS} == dict.fromkeys(SECRETS, "")
    used = set(re.findall(r"\$\{(\w+)", text))
    assert used == set(example), "every variable is explained, and none in vain"


def test_every_service_is_watched_and_reached_from_this_machine_only(
    compose: dict[str, Any],
) -> None:
    services = compose["services"]
    assert {"postgres", "api-server", "scheduler", "dag-processor", "triggerer"} < set(services)
    assert {"spark-master", "spark-worker"} < set(services)
    for name, service in services.items():
        if name not in ("airflow-init", "triggerer"):
            assert "healthcheck" in service, name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} listens to everybody"
        if "image" in service and service["image"].startswith("microrec"):
            assert any("landing:/srv/landing:ro" in one for one in service["volumes"])


def test_settings_in_the_compose_file_are_ours(compose: dict[str, Any]) -> None:
    environment = compose["x-airflow"]["environment"]
    named = {name for name in environment if name.startswith("MICROREC_")} - {"MICROREC_ALERT_URL"}
    assert {name.removeprefix("MICROREC_").lower() for name in named} <= set(Settings.model_fields)
    plugins = re.search(r"AIRFLOW__CORE__PLUGINS_FOLDER=(\S+)", (DOCKER / "Dockerfile").read_text())
    assert plugins
    assert (HOME / Path(plugins[1]).relative_to("/opt/microrec")).is_dir()


def test_the_image_copies_what_is_there_and_is_nobodys_root() -> None:
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert "microrec.toml" in copied
    for name in copied:
        assert (HOME / name).exists(), name
    users = [line for line in lines if line.startswith("USER")]
    assert users == ["USER microrec"]
    stages = [line.split()[-1] for line in lines if line.startswith("FROM")]
    assert stages == ["base", "airflow", "spark"]
    assert not re.search(r"https?://", "\n".join(lines)), "no registry's host"


def test_compose_validates_where_there_is_a_compose() -> None:
    """`docker compose config` needs no engine; it was run by hand where no machine of ours has it."""
    command = os.environ.get("MICROREC_COMPOSE") or shutil.which("docker-compose")
    if command is None:
        pytest.skip("no docker-compose here (MICROREC_COMPOSE names one)")
    values = {**os.environ, **dict.fromkeys(SECRETS, "x"), STORE: "{}"}
    words = [command, "-f", str(DOCKER / "compose.yaml"), "config", "-q"]
    found = subprocess.run(words, env=values, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    del values["JWT_SECRET"]
    assert subprocess.run(words, env=values, capture_output=True, check=False).returncode != 0


def test_the_node_script_knows_its_roles() -> None:
    script = str(DOCKER / "spark.sh")
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    here = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    words = [script, "janitor"]
    found = subprocess.run(words, env=here, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "not janitor" in found.stderr
    assert (Path(pyspark.__file__).parent / "bin" / "spark-class").exists()
