"""docker/, as far as it can be checked without a container engine: what `docker compose config` needs, no default
passwords, no process of root, and a node script that starts Spark's own classes out of the pip wheel."""

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


def test_compose_requires_every_secret_and_has_no_default(compose: dict[str, Any]) -> None:
    text = (DOCKER / "compose.yaml").read_text()
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert required == {*SECRETS, STORE}
    for name in SECRETS:
        uses = re.findall(rf"\$\{{{name}(.)", text)
        assert set(uses) == {":"}, f"{name} is required wherever it is used"
    example = dict(re.findall(r"^(\w+)=(.*)$", (DOCKER / ".env.example").read_text(), re.MULTILINE))
    assert {name: example[name] for name in SECRETS} == dict.fromkeys(SECRETS, "")
    used = set(re.findall(r"\$\{(\w+)", text))
    assert used == set(example), "every variable stands in the example, and is used"


def test_compose_services_have_health_checks_and_listen_on_the_loopback(
    compose: dict[str, Any],
) -> None:
    services = compose["services"]
    assert {"postgres", "api-server", "scheduler", "dag-processor", "triggerer"} < set(services)
    assert {"spark-master", "spark-worker"} < set(services)
    for name, service in services.items():
        if name not in ("airflow-init", "triggerer"):
            assert "healthcheck" in service, name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} listens on every interface"
        if "image" in service and service["image"].startswith("microrec"):
            assert any("landing:/srv/landing:ro" in volume for volume in service["volumes"])


def test_compose_variables_are_settings(compose: dict[str, Any]) -> None:
    environment = compose["x-airflow"]["environment"]
    named = {name for name in environment if name.startswith("MICROREC_")} - {"MICROREC_ALERT_URL"}
    assert {name.removeprefix("MICROREC_").lower() for name in named} <= set(Settings.model_fields)
    plugins = re.search(r"AIRFLOW__CORE__PLUGINS_FOLDER=(\S+)", (DOCKER / "Dockerfile").read_text())
    assert plugins
    assert (HOME / Path(plugins[1]).relative_to("/opt/microrec")).is_dir()


def test_dockerfile_copies_files_that_exist_and_does_not_run_as_root() -> None:
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


def test_compose_config_is_accepted_where_docker_compose_is_installed() -> None:
    """`docker compose config` needs no engine."""
    command = os.environ.get("MICROREC_COMPOSE") or shutil.which("docker-compose")
    if command is None:
        pytest.skip("no docker-compose here (MICROREC_COMPOSE names one)")
    values = {**os.environ, **dict.fromkeys(SECRETS, "x"), STORE: "{}"}
    config = [command, "-f", str(DOCKER / "compose.yaml"), "config", "-q"]
    ended = subprocess.run(config, env=values, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    del values["JWT_SECRET"]
    assert subprocess.run(config, env=values, capture_output=True, check=False).returncode != 0


def test_spark_node_script_refuses_an_unknown_role() -> None:
    script = str(DOCKER / "spark.sh")
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    here = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    ended = subprocess.run(
        [script, "janitor"], env=here, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "not janitor" in ended.stderr
    assert (Path(pyspark.__file__).parent / "bin" / "spark-class").exists()
