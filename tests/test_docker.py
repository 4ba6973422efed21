"""docker/, as far as it can be checked without a container engine; `make test-docker` runs it (tests/docker/).

Each test holds what once kept the stack from working, or its sibling: folders that belong to root, packages that are
installed anew with every line of code, health checks that cost more than what they check.
"""

import ast
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pyspark
import pytest
import yaml

from microrec.config.settings import HOME, Settings

DOCKER = HOME / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
SECRETS = (
    "POSTGRES_PASSWORD",
    "ADMIN_PASSWORD",
    "FERNET_KEY",
    "API_SECRET_KEY",
    "JWT_SECRET",
    "SPARK_AUTH_SECRET",
    "MICROREC_PRIVACY_KEY",
)
STORE = "MICROREC_STORAGE_OPTIONS"
"""May hold a secret, and need not."""
OF_COMPOSE = {"COMPOSE_PROJECT_NAME"}
"""Variables of the example that compose itself reads."""


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile in order, each with its words on one line."""
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def copied_from_the_checkout() -> list[str]:
    copies = [text for kind, text in instructions() if kind == "COPY"]
    return [word for text in copies if "--from" not in text for word in text.split()[:-1]]


def environment_of_the_image() -> dict[str, str]:
    words = [word for kind, text in instructions() if kind == "ENV" for word in shlex.split(text)]
    return dict(word.split("=", 1) for word in words)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def ours(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The services that run our image."""
    services = compose["services"]
    return {name: service for name, service in services.items() if name != "postgres"}


def target(volume: str) -> str:
    """The path in the container that a volume is mounted on."""
    return re.sub(r"\$\{[^}]*\}", "variable", volume).removesuffix(":ro").split(":")[-1]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCKER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_compose_requires_every_secret_and_has_no_default() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert required == {*SECRETS, STORE}
    for name in SECRETS:
        uses = re.findall(rf"\$\{{{name}(.)", text)
        assert set(uses) == {":"}, f"{name} is required wherever it is used"
    example = dict(re.findall(r"^(\w+)=(.*)$", (DOCKER / ".env.example").read_text(), re.MULTILINE))
    assert {name: example[name] for name in SECRETS} == dict.fromkeys(SECRETS, "")
    used = set(re.findall(r"\$\{(\w+)", text))
    assert used == set(example) - OF_COMPOSE, "every variable stands in the example, and is used"
    for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", text):
        assert example[name] == default, f"{name}: the example has another value than the default"


def test_compose_project_is_not_named_by_its_folder() -> None:
    """Compose of version 1 refuses `name:` in the file; both read the variable."""
    example = (DOCKER / ".env.example").read_text()
    assert re.search(r"^COMPOSE_PROJECT_NAME=microrec$", example, re.MULTILINE)


def test_compose_services_listen_on_the_loopback(compose: dict[str, Any]) -> None:
    services = compose["services"]
    parts = {"postgres", "api-server", "scheduler", "dag-processor", "triggerer", "tools"}
    assert parts | {"spark-master", "spark-worker"} < set(services)
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    for port in ports:
        assert port.startswith("127.0.0.1:"), f"{port}: on every interface"
    for name in ("scheduler", "triggerer"):
        assert "--skip-serve-logs" in services[name]["command"], f"{name} has a log server"


def test_compose_containers_have_no_rights_of_root_and_bounded_memory(
    compose: dict[str, Any],
) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert "init" not in service, f"{name}: a second init beside the image's"
        assert set(service.get("cap_add", [])) <= {
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "SETGID",
            "SETUID",
        }
    assert [name for name, service in compose["services"].items() if "cap_add" in service] == [
        "postgres"
    ]
    assert ("ENTRYPOINT", '["tini", "--", "microrec-entry"]') in instructions()


def test_compose_mounts_belong_to_the_user_of_the_image(ours: dict[str, dict[str, Any]]) -> None:
    """A named volume on a path that the image lacks belongs to root."""
    made = {
        word
        for command in re.findall(r"install -d -o microrec [^&\n]*", DOCKERFILE)
        for word in command.split()
        if word.startswith("/")
    }
    for name, service in ours.items():
        for volume in service.get("volumes", []):
            assert target(volume) in made, f"{name}: {volume}"
        for mount in service["tmpfs"]:
            path, options = mount.split(":")
            assert "mode=1777" in options or "uid=50000" in options, f"{name}: {mount}"
            assert path != "/tmp" or "exec" in options.split(","), "Java loads libraries from it"
    assert "--uid 50000 --gid 50000 microrec" in DOCKERFILE


def test_image_writes_into_mounts_alone(ours: dict[str, dict[str, Any]]) -> None:
    """A standalone Spark worker writes into Spark's own folder unless it is given another, numba beside the code."""
    environment = environment_of_the_image()
    written = (
        *("TMPDIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "AIRFLOW_HOME"),
        *("SPARK_CONF_DIR", "SPARK_LOCAL_DIRS", "SPARK_WORKER_DIR"),
    )
    for name, service in ours.items():
        mounts = [target(volume) for volume in service["volumes"] if not volume.endswith(":ro")]
        mounts += [mount.split(":")[0] for mount in service["tmpfs"]]
        wanted = written if service["image"] == "microrec:airflow" else written[:3] + written[4:]
        for variable in set(wanted) - ({"AIRFLOW_HOME"} if name == "tools" else set()):
            path = Path(environment[variable])
            assert any(path.is_relative_to(mount) for mount in mounts), f"{name}: {variable}"


def test_compose_landing_is_written_by_tools_alone(ours: dict[str, dict[str, Any]]) -> None:
    for name, service in ours.items():
        landings = [volume for volume in service["volumes"] if "/srv/landing" in volume]
        assert all(volume.startswith("${LANDING:-landing}:") for volume in landings), name
        assert all(volume.endswith(":ro") for volume in landings) == (name != "tools"), name
    assert ours["tools"]["profiles"] == ["tools"]


def test_compose_variables_are_settings_and_reach_the_jobs(compose: dict[str, Any]) -> None:
    from dags.processes import passed_on

    environment = compose["services"]["scheduler"]["environment"]
    named = {name for name in environment if name.startswith("MICROREC_")} - {
        "MICROREC_ALERT_URL",
        "MICROREC_LINEAGE",
        "MICROREC_REPORTS_URL",
    }
    assert {name.removeprefix("MICROREC_").lower() for name in named} <= set(Settings.model_fields)
    json.loads(re.sub(r"\$\{[^}]*\}", "4g", environment["MICROREC_SPARK_OPTIONS"]))
    passed = set(passed_on(environment_of_the_image() | environment))
    assert set(compose["x-jobs-environment"]) <= passed
    needed = {"TMPDIR", "NUMBA_CACHE_DIR", "SPARK_CONF_DIR", "SPARK_LOCAL_DIRS", "PYTHONPATH"}
    assert needed <= passed
    withheld = {name for name in environment if name.startswith("AIRFLOW")} | {"PGPASSWORD"}
    assert not passed & (withheld | {"MICROREC_ALERT_URL", "MICROREC_LINEAGE"})
    plugins = environment_of_the_image()["AIRFLOW__CORE__PLUGINS_FOLDER"]
    assert (HOME / Path(plugins).relative_to("/opt/microrec")).is_dir()


def test_compose_airflow_stands_a_slow_machine_and_any_password(compose: dict[str, Any]) -> None:
    environment = compose["services"]["scheduler"]["environment"]
    assert float(environment["AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT"]) >= 30
    # An @ in an address ends the password.
    assert "PASSWORD" not in environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert environment["PGPASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    partitions = re.search(
        r"SHUFFLE_PARTITIONS: \$\{\w+:-(\d+)\}", (DOCKER / "compose.yaml").read_text()
    )
    assert partitions
    assert int(partitions[1]) <= 64, "sized for the workers of this file, not for a large cluster"


def test_compose_dags_live_from_the_first_start_but_examples(compose: dict[str, Any]) -> None:
    """A DAG is paused when it is created, and a backfill of a paused one waits without a word."""
    environment = compose["services"]["dag-processor"]["environment"]
    assert environment["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] == "False"

    def paused(path: Path) -> list[bool]:
        calls = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        ]
        return [
            any(
                word.arg == "is_paused_upon_creation" and ast.literal_eval(word.value)
                for word in call.keywords
            )
            for call in calls
            if isinstance(call.func, ast.Name) and call.func.id == "DAG"
        ]

    own = [flag for path in (HOME / "dags").glob("*.py") for flag in paused(path)]
    examples = [flag for path in (HOME / "dags" / "examples").glob("*.py") for flag in paused(path)]
    assert own == [False] * 3
    assert examples == [True] * 2


def test_compose_spark_authenticates_every_node(compose: dict[str, Any]) -> None:
    for name in ("scheduler", "spark-master", "spark-worker", "tools"):
        assert "SPARK_AUTH_SECRET" in compose["services"][name]["environment"], name


def test_compose_health_checks_are_cheap_and_patient(ours: dict[str, dict[str, Any]]) -> None:
    """`airflow jobs check` took five CPU seconds; a start period that ends too early ends `up`."""
    parts = {
        "api-server": "metadatabase",
        "scheduler": "scheduler",
        "dag-processor": "dag_processor",
        "cleaner": "cleaner",
        "triggerer": "triggerer",
        "spark-master": "spark-master",
        "spark-worker": "spark-worker",
    }
    checked = {
        name: service["healthcheck"] for name, service in ours.items() if "healthcheck" in service
    }
    assert {name: check["test"] for name, check in checked.items()} == {
        name: ["CMD", "microrec-health", part] for name, part in parts.items()
    }
    assert set(ours) - set(checked) == {"airflow-init", "tools"}, "they end"
    for name, check in checked.items():
        assert int(check["start_period"].removesuffix("s")) >= 300, name
        assert int(check["timeout"].removesuffix("s")) >= 10, name


class Pages(BaseHTTPRequestHandler):
    """Airflow's health page and the Spark master's, as a test sets them."""

    answers: dict[str, Any] = {}  # noqa: RUF012 - one server at a time

    def do_GET(self) -> None:
        body = json.dumps(self.answers[self.path]).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def pages() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def checked(part: str, page: str) -> subprocess.CompletedProcess[str]:
    here = {**os.environ, "AIRFLOW_PAGE": page, "SPARK_MASTER_PAGE": page}
    command = [sys.executable, "-S", "-I", str(DOCKER / "health.py"), part]
    return subprocess.run(command, env=here, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("part", ["metadatabase", "scheduler", "dag_processor", "triggerer"])
def test_health_of_airflow_is_what_its_page_says(part: str, pages: str) -> None:
    path = "/api/v2/monitor/health"
    Pages.answers = {path: {part: {"status": "healthy"}}}
    before = psutil.Process().cpu_times()
    ended = checked(part, pages)
    after = psutil.Process().cpu_times()
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", ""), "healthy is silent"
    spent = after.children_user + after.children_system - before.children_user
    assert spent - before.children_system < 1
    Pages.answers = {path: {part: {"status": "unhealthy"}}}
    assert checked(part, pages).returncode == 1
    Pages.answers = {path: {"another": {"status": "healthy"}}}
    assert checked(part, pages).returncode == 1


def test_health_page_of_airflow_leaves_no_line_in_its_log() -> None:
    from airflow.api_fastapi.common import http_access_log

    assert "/api/v2/monitor/health" in http_access_log._HEALTH_PATHS


def test_health_of_a_spark_worker_is_its_registration_with_the_master(pages: str) -> None:
    import socket

    here = socket.gethostbyname(socket.gethostname())

    def master(host: str, state: str) -> dict[str, Any]:
        return {"/json/": {"status": "ALIVE", "workers": [{"host": host, "state": state}]}}

    Pages.answers = master(here, "ALIVE")
    assert checked("spark-worker", pages).returncode == 0
    assert checked("spark-master", pages).returncode == 0
    for lost in (master(here, "DEAD"), master("192.0.2.1", "ALIVE")):
        Pages.answers = lost
        assert checked("spark-worker", pages).returncode == 1
    Pages.answers = {"/json/": {"status": "STANDBY", "workers": []}}
    assert checked("spark-master", pages).returncode == 1


def test_health_of_a_part_that_does_not_answer_names_the_error() -> None:
    ended = checked("scheduler", "http://127.0.0.1:9")
    assert ended.returncode == 1
    assert "scheduler: " in ended.stderr
    assert checked("cleaner", "").returncode == 1


def test_dockerfile_copies_files_that_exist_and_does_not_run_as_root() -> None:
    copied = copied_from_the_checkout()
    assert "microrec.toml" in copied
    for name in copied:
        assert (HOME / name).exists(), name
    assert [text for kind, text in instructions() if kind == "USER"] == ["microrec"]
    stages = [text.split()[-1] for kind, text in instructions() if kind == "FROM"]
    assert stages == ["requirements", "base", "airflow", "spark"]
    assert not re.search(r"https?://", DOCKERFILE), "no registry's host"


def test_dockerfile_installs_packages_before_it_copies_code(compose: dict[str, Any]) -> None:
    """With the code before the packages, 2.7 GB were installed anew for each line that changed."""
    steps = instructions()
    (install,) = [
        at for at, (_, text) in enumerate(steps) if "pip install" in text and "-r " in text
    ]
    begun = [
        at for at, (kind, text) in enumerate(steps) if kind == "FROM" and text.endswith("base")
    ]
    copied = [text for kind, text in steps[begun[0] : install] if kind == "COPY"]
    # Not pyproject.toml itself, which changes with every marker of a test.
    assert copied == [
        "constraints.txt /opt/build/",
        "--from=requirements /build/requirements.txt /opt/build/",
    ]
    assert "${PIP_OPTIONS}" in steps[install][1]
    arguments = {text.split("=")[0] for kind, text in steps if kind == "ARG"}
    for name in ("airflow-init", "spark-master"):
        assert set(compose["services"][name]["build"]["args"]) == arguments


def test_requirements_of_extras_are_expanded_without_the_project_itself() -> None:
    project = {
        "build-system": {"requires": ["builder>=1"]},
        "project": {
            "name": "own",
            "dependencies": ["base"],
            "optional-dependencies": {
                "team": ["own[train,spark]", "login<2"],
                "train": ["torch", "own[spark]"],
                "spark": ["spark", "base"],
                "dev": ["linter"],
            },
        },
    }
    needed = script("requirements").requirements(project, ["team"])
    assert needed == ["base", "builder>=1", "login<2", "spark", "torch"]


def test_dockerignore_lets_through_what_is_copied_and_nothing_secret() -> None:
    """Older builders read that of the root only; what it lets through is sent for each build."""
    assert not (DOCKER / "Dockerfile.dockerignore").exists()
    lines = (HOME / ".dockerignore").read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_through = {line[1:] for line in lines if line.startswith("!")}
    copied = {name.split("/")[0] for name in copied_from_the_checkout()}
    assert copied == let_through
    assert lines.index("**/.env") > max(lines.index(f"!{name}") for name in let_through)


LIBRARIES = {"libgomp.so": "libgomp1"}
"""Debian's package of each library that a wheel loads and does not bring along."""
MAPS = "print(*sorted({line.split()[-1] for line in open('/proc/self/maps') if '.so' in line}), sep='\\n')"
SELF_SUFFICIENT = (
    "import asyncio, bz2, ctypes, decimal, hashlib, lzma, readline, sqlite3, ssl, uuid, zlib"
)


def imported_by_the_build() -> str:
    (text,) = [text for kind, text in instructions() if kind == "RUN" and "lightgbm" in text]
    return "; ".join(re.findall(r'python -c "(import [^"]*)"', text))


@pytest.mark.heavy
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux lists what is loaded")
def test_image_has_every_system_library_that_packages_load() -> None:
    """LightGBM's wheel needs libgomp1, which the slim base lacks: every night died of it."""
    # Databases' drivers are of an extra that tests do without; Airflow beside Great Expectations logs at length.
    names = re.findall(
        r"[\w.]+", imported_by_the_build().replace("import ", "").replace("airflow.sdk", "")
    )
    imports = "import " + ", ".join(name for name in names if importlib.util.find_spec(name))

    def loaded(statement: str) -> set[str]:
        code = f"{statement}; {MAPS}"
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return {path for path in out.stdout.splitlines() if path.startswith(("/lib", "/usr/lib"))}

    own = (
        *("python3", "libc.so", "libm.so", "libdl", "libpthread", "libresolv", "librt"),
        *("libgcc_s", "libstdc++"),
    )
    beyond = loaded(imports) - loaded(SELF_SUFFICIENT)
    names = {Path(path).name for path in beyond}
    names = {name for name in names if not name.startswith(own) and "cpython" not in name}
    assert names, "LightGBM loads OpenMP"
    for name in names:
        package = LIBRARIES.get(f"{name.split('.so')[0]}.so")
        assert package, f"{name}: which package of Debian has it?"
        assert f" {package} " in DOCKERFILE


def test_build_imports_every_package_that_the_code_imports() -> None:
    tried = {name.strip().split(".")[0] for name in re.findall(r"[\w.]+", imported_by_the_build())}
    used = set()
    for folder in ("microrec", "jobs", "dags"):
        for path in (HOME / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    used |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    used.add(node.module.split(".")[0])
    local = {path.stem for path in HOME.rglob("dags/**/*.py")} | {"microrec", "jobs", "dags"}
    # Of extras that the team's stack has not, or light ones that come with those that are tried.
    elsewhere = {
        "av",
        "matplotlib",
        "polars",
        "numpy",
        "typer",
        "rich",
        "pydantic_settings",
        "click",
        "py4j",
    }
    light = {
        "jinja2",
        "pluggy",
        "sqlalchemy",
        "tqdm",
        "open_data_contract_standard",
        "fsspec",
        "pendulum",
    }
    missing = used - tried - local - elsewhere - light - set(sys.stdlib_module_names)
    assert not missing


def engines() -> list[list[str]]:
    """The compose programs of this machine: that of MICROREC_COMPOSE, version 1 and version 2."""
    words = [shlex.split(os.environ.get("MICROREC_COMPOSE", "")), ["docker-compose"]]
    there = [command for command in words if command and shutil.which(command[0])]
    plugin = (
        subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if shutil.which("docker")
        else None
    )
    return [*there, *([["docker", "compose"]] if plugin and plugin.returncode == 0 else [])]


def test_compose_config_is_accepted_where_compose_is_installed() -> None:
    """`docker compose config` needs no engine."""
    if not engines():
        pytest.skip("no docker-compose and no docker compose here (MICROREC_COMPOSE names one)")
    values = {**os.environ, **dict.fromkeys(SECRETS, "x@y"), STORE: "{}"}
    for command in engines():
        config = [*command, "-f", str(DOCKER / "compose.yaml"), "config", "-q"]
        ended = subprocess.run(config, env=values, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        less = {name: value for name, value in values.items() if name != "JWT_SECRET"}
        assert subprocess.run(config, env=less, capture_output=True, check=False).returncode != 0


def test_entry_script_lays_down_what_its_container_needs(tmp_path: Path) -> None:
    scratch, cache = tmp_path / "scratch", tmp_path / "cache"
    scratch.mkdir()
    (scratch / "blockmgr-of-a-killed-driver").mkdir()
    (cache / "numba").mkdir(parents=True)
    (cache / "numba" / "kernel.nbc").write_text("compiled")
    text = (DOCKER / "entry.sh").read_text()
    (tmp_path / "entry.sh").write_text(
        text.replace("/srv/scratch", str(scratch)).replace("/opt/cache", str(cache))
    )
    here = {
        name: value.replace("/srv/scratch", str(scratch))
        for name, value in environment_of_the_image().items()
        if value.startswith("/srv/scratch")
    }
    secret = "a\\b#c!d"
    ended = subprocess.run(
        ["sh", str(tmp_path / "entry.sh"), "env"],
        env={"PATH": os.environ["PATH"], **here, "SPARK_AUTH_SECRET": secret},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "SPARK_AUTH_SECRET" not in ended.stdout
    assert not (scratch / "blockmgr-of-a-killed-driver").exists()
    assert (scratch / "numba" / "kernel.nbc").read_text() == "compiled"
    options = scratch / "spark-conf" / "spark-defaults.conf"
    assert options.stat().st_mode & 0o077 == 0
    # As java.util.Properties reads it: a backslash stands for the character after it.
    assert "spark.authenticate.secret a\\\\b#c!d\n" in options.read_text()
    assert "spark.authenticate true\n" in options.read_text()


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
