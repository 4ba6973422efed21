"""Processes that decode files, one file at a time each, ended where a file takes too long.

A process that hangs or dies takes its file along and no other: another one is started for the next file. They are
started by `subprocess`, not forked: a child has no lock, no JVM and no file of its parent.

With one task (`MICROREC_DECODE_TASKS`) the processes are here. With more, Spark deals the files among so many tasks,
each of which has a process of its own, here or on a cluster, by the master of the settings; the files must lie where
all nodes see them. On one machine that brings nothing but the start of Spark: what decodes is the same process.
"""

import json
import logging
import os
import pickle
import queue
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from microrec.config.settings import settings
from microrec.core.array_types import Float32s, Int64s
from microrec.features.files import CLIPS, Job

TIMED_OUT, DIED, OVER_BUDGET = "timed_out", "decoder_died", "over_budget"
"""Why a file has no vector, besides the reasons of `features`; of the last the night was over before its turn."""

logger = logging.getLogger(__name__)


class Clips(NamedTuple):
    """Vectors of the clips of a film, in their order.

    Shapes:
        bounds_ms: [n_clips, 2], start and end; vector: [n_clips, dim]
    """

    bounds_ms: Int64s
    vector: Float32s


class Decoder:
    """A process that makes the vectors of one video after the other."""

    def __init__(self, *, seconds: float, megabytes: int) -> None:
        """Prepare; the process is started by the first job.

        Args:
            seconds: a job may take; then the process is ended.
            megabytes: of memory the process may have.
        """
        self._seconds, self._megabytes = seconds, megabytes
        self._process: subprocess.Popen[bytes] | None = None

    def make(self, job: Job) -> dict[str, Any]:
        """Make the vectors of a video.

        Args:
            job: its files, and what is wanted of them.

        Returns:
            By modality the vector, or a reason as text, see `unpacked`.
        """
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
            answer = self._answer(process)
        except BrokenPipeError:
            answer = b""
        if answer is not None and answer.endswith(b"\n"):
            return unpacked(json.loads(answer))
        self.close()
        return dict.fromkeys(job["modalities"], TIMED_OUT if answer is None else DIED)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "microrec.features.files", str(self._megabytes)]
        # One thread each: the processes share the machine, and threads of BLAS reserve memory.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        return self._process

    def _answer(self, process: subprocess.Popen[bytes]) -> bytes | None:
        """A line; what there was of it if the process ended, None if the time was over."""
        assert process.stdout is not None
        until = time.monotonic() + self._seconds
        read = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not read.endswith(b"\n"):
                if not selector.select(max(0.0, until - time.monotonic())):
                    return None
                part = os.read(process.stdout.fileno(), 1 << 16)
                if not part:
                    break
                read += part
        return read


def unpacked(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer with arrays in place of lists of numbers, which take ten times as much memory.

    Args:
        answer: as `features.files.make` has it.

    Returns:
        By modality a vector [dim], of clips `Clips`, or a reason as text.
    """
    arrays: dict[str, Any] = {}
    for modality, made in answer.items():
        if isinstance(made, str):
            arrays[modality] = made
        elif modality == CLIPS:
            bounds = np.array([clip[:2] for clip in made], dtype=np.int64).reshape(-1, 2)
            vectors = np.array([clip[2] for clip in made], dtype=np.float32)
            arrays[modality] = Clips(bounds, vectors)
        else:
            arrays[modality] = np.array(made, dtype=np.float32)
    return arrays


def make_all(
    jobs: Sequence[Job], *, processes: int, seconds: float, megabytes: int, budget: float
) -> Iterator[dict[str, Any]]:
    """Yield what was made of each job, in their order; by Spark's tasks where the settings ask for several.

    Args:
        jobs: in the order in which they are begun.
        processes: that decode at the same time, where Spark does not.
        seconds: a job may take.
        megabytes: of memory each process may have.
        budget: seconds after which no job is begun.
    """
    tasks = settings().decode_tasks
    limits: dict[str, Any] = {"seconds": seconds, "megabytes": megabytes, "budget": budget}
    if tasks == 1 or not jobs:
        yield from _made_here(jobs, processes=processes, **limits)
    else:
        yield from _made_by_spark(jobs, tasks=tasks, **limits)


def _made_by_spark(jobs: Sequence[Job], *, tasks: int, **limits: Any) -> Iterator[dict[str, Any]]:
    """As `make_all`: every task takes each of so many jobs, so that all begin with the first ones."""
    from pyspark.sql import functions as F

    from microrec.spark.session import session  # seconds, that one task does not need

    numbers = session().range(len(jobs)).select(F.col("id").cast("int").alias("number"))
    dealt = numbers.repartitionById(tasks, F.col("number") % tasks)
    schema = "number int, answer binary"
    rows = dealt.mapInArrow(partial(_in_task, jobs, limits), schema).toLocalIterator()
    made = {row["number"]: pickle.loads(row["answer"]) for row in rows}
    yield from (made[number] for number in range(len(jobs)))


def _in_task(
    jobs: Sequence[Job], limits: dict[str, Any], numbers: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """In a task of Spark: what was made of the jobs whose numbers come in."""
    mine = sorted(number for batch in numbers for number in batch.column(0).to_pylist())
    made = _made_here([jobs[number] for number in mine], processes=1, **limits)
    for number, answer in zip(mine, made, strict=True):
        columns = [pa.array([number], pa.int32()), pa.array([pickle.dumps(answer)], pa.binary())]
        yield pa.RecordBatch.from_arrays(columns, ["number", "answer"])


def _made_here(
    jobs: Sequence[Job], *, processes: int, seconds: float, megabytes: int, budget: float
) -> Iterator[dict[str, Any]]:
    """As `make_all`, by processes of this machine."""
    until = time.monotonic() + budget
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(jobs)):
        waiting.put(number)
    made: list[dict[str, Any]] = [{} for _ in jobs]

    def work() -> None:
        decoder = Decoder(seconds=seconds, megabytes=megabytes)
        try:
            while True:
                number = waiting.get_nowait()
                over = time.monotonic() >= until
                wanted = jobs[number]["modalities"]
                made[number] = (
                    dict.fromkeys(wanted, OVER_BUDGET) if over else decoder.make(jobs[number])
                )
        except queue.Empty:
            pass
        finally:
            decoder.close()

    threads = [threading.Thread(target=work) for _ in range(min(processes, len(jobs)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield from made
