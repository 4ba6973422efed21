"""A job ends with the Airflow task that started it, whatever ended that one; a job of nobody's goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

JOB = """
import subprocess, sys, time
from microrec.runner import job

def main(day: job.Day) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(child.pid, flush=True)
    time.sleep(600)

job.start(main)
"""
RANK = """
import os, time
from microrec.runner import processes

def train() -> None:
    print(os.getpid(), flush=True)
    time.sleep(600)

os.environ.update(RANK="1", LOCAL_RANK="1")
processes._in_process(train)
"""
TASK = """
import os, subprocess, sys, time
if sys.argv[2] == "watched":
    os.environ["MICROREC_PARENT"] = str(os.getpid())
words = [sys.executable, "-c", sys.argv[1], "--day", "2026-01-04"]
job = subprocess.Popen(words, start_new_session=True)
print(job.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def family(request: pytest.FixtureRequest) -> Iterator[list[psutil.Process]]:
    """A task, what it started, and a process that this one started or itself."""
    words = [sys.executable, "-c", TASK, *request.param]
    task = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert task.stdout is not None
    pids = {task.pid, int(task.stdout.readline()), int(task.stdout.readline())}
    processes = [psutil.Process(pid) for pid in sorted(pids)]
    yield processes
    for process in processes:
        if process.is_running():
            process.kill()
    task.wait()


@pytest.mark.parametrize(
    "family", [(JOB, "watched"), (RANK, "torchrun")], indirect=True, ids=["job", "training"]
)
def test_process_whose_parent_is_killed_ends_with_what_it_started(
    family: list[psutil.Process],
) -> None:
    task, *ours = family
    os.kill(task.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(ours, timeout=20)
    assert not alive


@pytest.mark.parametrize("family", [(JOB, "unwatched")], indirect=True)
def test_job_that_was_started_by_hand_outlives_its_shell(family: list[psutil.Process]) -> None:
    task, *ours = family
    os.kill(task.pid, signal.SIGKILL)
    time.sleep(2)
    assert all(process.is_running() for process in ours)
