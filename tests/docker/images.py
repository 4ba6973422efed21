"""The images of docker/ on a machine that may reach no registry of images: stand-ins for their bases, and the build.

Nothing of this machine is written into a file of ours: its certificates and apt's settings are copied into the base
that stands in, and folders of wheels that its pip knows are served on loopback while the build runs.
"""

import contextlib
import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from microrec.config.settings import HOME

HERE = Path(__file__).resolve().parent
DOCKERFILE = HOME / "docker" / "Dockerfile"
PYTHON, POSTGRES = "microrec-test/python", "microrec-test/postgres"
RELEASE = "bookworm"
"""Of Debian: what the slim image of Python is made of, and has its Python 3.11."""
WHEELS_PORT = 38477
"""Always the same, as an option of the build that changes has its packages installed anew."""
PATIENCE = 3600


def absent() -> list[str]:
    """What this machine lacks to run the stack, and how to get it; empty if it lacks nothing."""
    lacking = []
    if shutil.which("docker") is None or run("docker", "info", check=False).returncode != 0:
        lacking.append("a container engine that answers: apt install docker.io, and start dockerd")
    elif run("docker", "compose", "version", check=False).returncode != 0:
        lacking.append(
            "compose 2 as a plugin of docker: apt install docker-compose (Debian 13) or docker-compose-v2 (Ubuntu)"
        )
    return lacking


def run(*words: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    """A program to its end; what it printed is in the error, should it fail."""
    ended = subprocess.run(  # type: ignore[call-overload]
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=PATIENCE,
        **options,
    )
    assert ended.returncode == 0 or not check, f"{' '.join(words)}:\n{ended.stdout[-6000:]}"
    return ended


def bases() -> dict[str, str]:
    """The base images by the variable that names them to compose: the real ones if they can be had, else stand-ins."""
    real = {"PYTHON_IMAGE": "python:3.11-slim-bookworm", "POSTGRES_IMAGE": "postgres:16"}
    if all(_can_be_had(image) for image in real.values()):
        return real
    if not _is_here(PYTHON):
        _make_python()
    if not _is_here(POSTGRES):
        _make_postgres()
    return {"PYTHON_IMAGE": PYTHON, "POSTGRES_IMAGE": POSTGRES}


def _can_be_had(image: str) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        pull = ["docker", "pull", "-q", image]
        return subprocess.run(pull, capture_output=True, check=False, timeout=300).returncode == 0
    return False


def _is_here(image: str) -> bool:
    return run("docker", "image", "inspect", image, check=False).returncode == 0


def _make_python() -> None:
    """Debian's smallest system with its own Python, and this machine's certificates and settings of apt's downloads."""
    assert shutil.which("debootstrap"), "no registry of images answers: apt install debootstrap"
    with tempfile.TemporaryDirectory(prefix="microrec-base-") as place:
        root = Path(place, "root")
        packages = "ca-certificates,python3,python3-venv"
        run("debootstrap", "--variant=minbase", f"--include={packages}", RELEASE, str(root))
        certificates = Path("/etc/ssl/certs/ca-certificates.crt")
        if certificates.exists():
            shutil.copy(certificates, root / certificates.relative_to("/"))
        for settings in Path("/etc/apt/apt.conf.d").glob("*"):
            if all(
                line.startswith(("Acquire::", "//")) for line in settings.read_text().splitlines()
            ):
                shutil.copy(settings, root / settings.relative_to("/"))
        (root / "usr/bin/python").symlink_to("python3")
        shutil.rmtree(root / "var/cache/apt/archives")
        archive = Path(place, "root.tar")
        run("tar", "-C", str(root), "-cf", str(archive), ".")
        run("docker", "import", str(archive), PYTHON)


def _make_postgres() -> None:
    with tempfile.TemporaryDirectory(prefix="microrec-postgres-") as place:
        shutil.copy(HERE / "postgres-entry.sh", place)
        Path(place, "Dockerfile").write_text(
            f"FROM {PYTHON}\n"
            "RUN apt-get update && apt-get install -y --no-install-recommends postgresql\n"
            "COPY postgres-entry.sh /usr/local/bin/\n"
            "STOPSIGNAL SIGINT\n"
            'ENTRYPOINT ["postgres-entry.sh"]\n'
        )
        run("docker", "build", "--network", "host", "-t", POSTGRES, place, env=builder())


def builder() -> dict[str, str]:
    """The environment of builds: the engine's own builder where docker has no buildx."""
    buildx = run("docker", "buildx", "version", check=False).returncode == 0
    return {**os.environ, "DOCKER_BUILDKIT": "1" if buildx else "0"}


@contextlib.contextmanager
def pip_options() -> Iterator[str]:
    """Options that have pip in a build find what it finds here: folders of wheels, served while the block lasts."""
    listed = run(sys.executable, "-m", "pip", "config", "list").stdout
    folders = [
        word
        for line in listed.splitlines()
        if line.split("=")[0].endswith("find-links")
        for word in line.split("=", 1)[1].strip("'").split()
        if Path(word).is_dir()
    ]
    with contextlib.ExitStack() as served:
        options = []
        for place, folder in enumerate(sorted(set(folders))):
            served.enter_context(_serving(folder, WHEELS_PORT + place))
            options.append(f"--find-links http://127.0.0.1:{WHEELS_PORT + place}/")
        yield " ".join([*options, os.environ.get("PIP_OPTIONS", "")]).strip()


@contextlib.contextmanager
def _serving(folder: str, port: int) -> Iterator[None]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def size(image: str) -> int:
    """Bytes of an image, those of its base included."""
    return int(json.loads(run("docker", "image", "inspect", image).stdout)[0]["Size"])
