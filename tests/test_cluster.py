"""The Spark jobs on a standalone cluster of docker/spark.sh: a master and two workers on this machine, one killed."""

import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from microrec.config.settings import HOME
from microrec.landing import write
from microrec.landing.importers import kuairand
from microrec.synth.world import Config, generate
from microrec.tables.arrow import Warehouse
from tests.ui.airflow_servers import Part, free_port

pytestmark = [pytest.mark.cluster]

JOBS = ("validate_events", "build_watch_graph", "build_modality_graph", "build_user_graph")
TABLES = (
    "rejected_rows",
    "videos",
    "video_features",
    "users",
    "video_nodes",
    "watch_edges",
    "modality_edges",
    "user_edges",
)
WORKERS = 2
PATIENCE = 1200


class Cluster:
    """A master and its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.ui = free_port(), free_port()
        self.url = f"spark://127.0.0.1:{self.port}"
        self.nodes: list[Part] = []
        ports = ("--host", "127.0.0.1", "--webui-port")
        self.start("master", "--port", str(self.port), *ports, str(self.ui))
        self.wait(lambda state: state["status"] == "ALIVE")
        for _ in range(WORKERS):
            size = ("--cores", "1", "--memory", "1500m")
            self.start("worker", self.url, *ports, str(free_port()), *size)
        self.wait(lambda state: state["aliveworkers"] == WORKERS)

    def start(self, *words: str) -> None:
        here = {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
        here |= {"SPARK_WORKER_DIR": str(self.folder / "work")}
        log = self.folder / f"node-{len(self.nodes)}.log"
        command = [str(HOME / "docker" / "spark.sh"), *words]
        self.nodes.append(Part(command, log, env={**os.environ, **here}))

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ui}/json/", timeout=10) as answer:
            return dict(json.loads(answer.read()))

    def wait(self, ready: Any) -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                if ready(self.state()):
                    return
            except OSError:
                pass
            time.sleep(0.3)
        raise AssertionError(f"not ready: {self.folder}")

    def kill_a_worker(self) -> None:
        """The process, its executor and that one's Python, with -9."""
        worker = self.nodes[-1].process
        head = psutil.Process(worker.pid)
        for process in [head, *head.children(recursive=True)]:
            process.send_signal(signal.SIGKILL)
        worker.wait()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop(signal.SIGKILL)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    started = Cluster(tmp_path)
    yield started
    started.stop()


@pytest.fixture(params=["planted", pytest.param("real", marks=pytest.mark.realdata)])
def day(tmp_path: Path, request: pytest.FixtureRequest) -> dt.date:
    """A landing zone, and the night that is made of it: a small planted one, or KuaiRand's of eleven arrival days."""
    if request.param == "real":
        source = request.getfixturevalue("real_data") / "kuairand_pure"
        kuairand.import_files(source, str(tmp_path / "landing"))
        return dt.date(2022, 5, 4)
    world = generate(Config(users=150, videos=150, days=3), np.random.default_rng(3))
    write.write_world(str(tmp_path / "landing"), world.parts)
    return dt.date(2026, 1, 3)


def start(
    job: str, day: dt.date, place: Path, warehouse: str, **more: str
) -> subprocess.Popen[bytes]:
    settings = {
        "MICROREC_LANDING": str(place / "landing"),
        "MICROREC_WAREHOUSE": str(place / warehouse),
        "MICROREC_SPARK_SHUFFLE_PARTITIONS": "4",
        **more,
    }
    command = [sys.executable, "-m", f"jobs.{job}", "--day", str(day)]
    log = (place / f"{warehouse}-{job}.log").open("wb")
    return subprocess.Popen(
        command, cwd=HOME, env={**os.environ, **settings}, stdout=log, stderr=log
    )


def test_cluster_lost_worker_writes_the_same_rows(
    day: dt.date, tmp_path: Path, cluster: Cluster
) -> None:
    for job in JOBS:
        alone = start(job, day, tmp_path, "here", MICROREC_SPARK_MASTER="local[2]")
        assert alone.wait(PATIENCE) == 0, (tmp_path / f"here-{job}.log").read_text()[-3000:]
    options = {
        "spark.executor.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    there = {
        "MICROREC_SPARK_MASTER": cluster.url,
        "MICROREC_SPARK_OPTIONS": json.dumps(options),
    }
    for job in JOBS:
        running = start(job, day, tmp_path, "there", **there)
        if job == "build_watch_graph":
            cluster.wait(lambda state: sum(one["coresused"] for one in state["workers"]) == WORKERS)
            time.sleep(5)
            assert running.poll() is None, "it ended before a worker could be killed"
            cluster.kill_a_worker()
        assert running.wait(PATIENCE) == 0, (tmp_path / f"there-{job}.log").read_text()[-3000:]
    cluster.wait(lambda state: state["aliveworkers"] == WORKERS - 1)
    here, far = (Warehouse.open(str(tmp_path / name)) for name in ("here", "there"))
    for table in TABLES:
        assert far.digest(table, day=day) == here.digest(table, day=day), table
    assert far.digest("events", arrived_on=day) == here.digest("events", arrived_on=day)
    shutil.rmtree(tmp_path / "work", ignore_errors=True)
