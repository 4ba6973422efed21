"""The server of one desk: on the loopback alone, its password for its user alone, and nothing left when it ends."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from microrec.cli import airflow_server
from microrec.config.settings import HOME

PATIENCE = 240
FAMILY = """
import signal, subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


def test_end_ends_stubborn_children_in_sessions_of_their_own() -> None:
    parent = psutil.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    airflow_server.end([parent], patience=2)
    assert not airflow_server.is_alive(parent)
    assert not airflow_server.is_alive(child)


def test_part_that_ends_by_itself_ends_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "airflow.py").write_text(
        "import sys, time\nif sys.argv[1] == 'long': time.sleep(600)\nsys.exit(3)"
    )
    monkeypatch.setattr(airflow_server, "PARTS", (("long",), ("short",)))
    started = []
    real = airflow_server._started
    monkeypatch.setattr(
        airflow_server, "_started", lambda *words: started.append(real(*words)) or started[-1]
    )
    path = {**os.environ, "PYTHONPATH": str(tmp_path)}
    status = airflow_server.serve([], path, tmp_path / "logs", prepared=contextlib.nullcontext())
    assert status == 1
    assert "Airflow's short has ended (3)" in capsys.readouterr().err
    assert not [process for process in started if airflow_server.is_alive(process)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: object, what: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < limit, f"{what}\n{log.read_text()[-3000:]}"
        assert server.poll() is None, log.read_text()[-3000:]
        time.sleep(1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """`microrec ui`, and its port."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "microrec"), "ui", "--port", str(port)]
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=HOME, stdout=log, stderr=log, umask=0o022
        )
    yield process, port
    if process.poll() is None:
        airflow_server.end([psutil.Process(process.pid)])


def test_ui_listens_on_the_loopback_alone_and_leaves_nothing_behind(
    server: tuple["subprocess.Popen[bytes]", int], tmp_path: Path
) -> None:
    process, port = server
    home, log = tmp_path / "airflow", tmp_path / "log"
    health = f"http://127.0.0.1:{port}/api/v2/monitor/health"

    def healthy() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(health, timeout=5) as answer:
            return bytes(answer.read()).count(b'"healthy"') == 4
        return False

    until(healthy, "all four parts are healthy", process, log)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for each in family
        for connection in each.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", port)}
    assert len(family) > len(airflow_server.PARTS)
    (passwords,) = home.glob("*passwords*")
    private = {path.stat().st_mode & 0o077 for path in (home, passwords, home / "airflow.db")}
    assert private == {0}
    again = subprocess.run(
        process.args, env={**os.environ, "AIRFLOW_HOME": str(home)}, cwd=HOME,  # type: ignore[arg-type]
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert again.returncode == 65
    assert f"process {process.pid}, microrec ui on port {port}, since" in again.stderr
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0, log.read_text()[-3000:]
    assert not [each for each in family if airflow_server.is_alive(each)]
