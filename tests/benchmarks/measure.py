"""Run one method in a fresh process: wall and CPU seconds, peak memory, its result to be checked.

The parent (`once`) starts `python -m tests.benchmarks.measure FOLDER`, never a fork: a child holds
no JVM, no thread pool and no compiled code of another method. The child loads the input, calls the
method once on a few rows (imports, compilation, thread pools: `ready_seconds`), and only then
starts the clock. The parent adds up the resident sizes of the child and all its descendants (a JVM,
its workers) every 50 ms and keeps the largest sum seen while the clock runs; pages that processes
share count once for each, so the sum is an upper bound. A child that runs past its time, or that
leaves the machine less than RESERVE_MB, is ended, and the outcome says so.
"""

import importlib
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, load_npz

from microrec.config.settings import HOME

Edges = Mapping[str, NDArray[Any]]
"""idx, neighbour_idx and pearson, similarity or score; n_common and rank where a method has them. Methods that find no
edges give whatever is to be checked."""

POLL = 0.05
READY_LIMIT = 300
RESERVE_MB = 1000
FEW = 64
THREADS = [f"{library}_NUM_THREADS" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON")] + [
    "POLARS_MAX_THREADS"
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Method:
    """Something that is measured."""

    name: str
    run: Callable[..., Edges | None]
    """`run(given, k=, threads=, **options)`; a function of a module, since the child imports it by name."""
    computes: str = ""
    """What the result is, in words."""
    options: Mapping[str, object] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    """Packages that must be installed."""
    ready: Callable[..., Any] | None = None
    """Called before the clock starts, as `run` is; what it returns, if anything, is the input of `run` from then on.
    Without it `run` itself, on the first rows of the input."""
    after: Callable[..., Edges] | None = None
    """Reads the result once the clock has stopped, for methods that write it somewhere."""
    again: bool = False
    """Run a second time in the same process: what a first run pays once."""
    lists_pairs: bool = False
    """It makes a row of every pair of users that share a video."""
    dense: bool = False
    """It makes a dense matrix of the input."""


@dataclass(frozen=True)
class Outcome:
    """One run of one method."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    ready_seconds: float = 0.0
    peak_mb: float = 0.0
    again_seconds: float | None = None
    n_edges: int = 0
    mean_common: float | None = None
    edges: Edges = field(default_factory=dict)
    """Those of the checked rows; all that was found where no rows are named."""
    why: str | None = None
    """Why there is no result."""


def once(
    method: Method,
    given: Path,
    *,
    rows: NDArray[np.int64] | None = None,
    k: int | None = None,
    threads: int = 1,
    limit: float = 600,
) -> Outcome:
    """Run a method once in a process of its own.

    Args: method: what to run. given: the input: `.npz` (a csr_matrix), `.npy` (an array), or a
        folder the method knows how to read. rows: indices whose edges come back, to be checked;
        without them all comes back. k: neighbours per row, for methods that find neighbours.
        threads: threads of every library, and cores of Spark. limit: seconds the clock may run.
    """
    missing = [name for name in method.needs if importlib.util.find_spec(name) is None]
    if missing:
        return Outcome(why=f"not installed: {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="microrec-bench-") as name:
        folder = Path(name)
        if rows is not None:
            np.save(folder / "rows.npy", rows)
        asked = {"threads": threads} if k is None else {"k": k, "threads": threads}
        spec = {
            "run": _path(method.run),
            "ready": method.ready and _path(method.ready),
            "after": method.after and _path(method.after),
            "again": method.again,
            "given": str(given.resolve()),
            "arguments": {**asked, **method.options},
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        peak_mb, why = _watch(_start(folder, threads), folder, limit * (1 + method.again))
        if why is None and not (folder / "found.json").exists():
            why = f"failed: {_last_line(folder / 'log')}"
        if why is not None:
            return Outcome(peak_mb=peak_mb, why=why)
        figures = json.loads((folder / "found.json").read_text())
        with np.load(folder / "edges.npz") as edges:
            return Outcome(**figures, peak_mb=peak_mb, edges=dict(edges))


def environment(threads: int, scratch: Path) -> dict[str, str]:
    """The child's environment: the same number of threads for everybody, scratch files where they are removed."""
    return {
        **os.environ,
        **dict.fromkeys(THREADS, str(threads)),
        "MICROREC_SPARK_MASTER": f"local[{threads}]",
        "SPARK_LOCAL_DIRS": str(scratch),
        "TMPDIR": str(scratch),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")])),
    }


def _start(folder: Path, threads: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.benchmarks.measure", str(folder)]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment(threads, folder),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _watch(child: subprocess.Popen[bytes], folder: Path, limit: float) -> tuple[float, str | None]:
    """Wait for the child: peak MB while its clock ran, and why it was ended early, if it was."""
    started, peak, why = time.monotonic(), 0.0, None
    clock: float | None = None
    try:
        while child.poll() is None and why is None:
            now = time.monotonic()
            if clock is None and (folder / "began").exists():
                clock = now
            if clock is not None and not (folder / "ended").exists():
                peak = max(peak, resident_mb(child.pid))
                if now - clock > limit:
                    why = f"not finished in {limit:.0f} s"
            elif clock is None and now - started > READY_LIMIT:
                why = f"not ready in {READY_LIMIT} s"
            if psutil.virtual_memory().available < RESERVE_MB * 2**20:
                why = f"stopped: {peak:.0f} MB, and less than {RESERVE_MB} MB were left"
            time.sleep(POLL)
    finally:
        _end(child)
    own = folder / "peak"
    # A method faster than the polling is seen by itself, when it ends.
    return max(peak, float(own.read_text()) if own.exists() else 0.0), why


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and all its descendants, wherever they have moved (Spark's workers leave the group)."""
    family = _family(child.pid)
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    for process in family:
        if process.pid != child.pid:
            with _gone():
                process.kill()
    child.wait()


def _family(pid: int) -> list[psutil.Process]:
    with _gone():
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    return []


class _gone:  # noqa: N801 - reads as the sentence `with _gone()`
    """Processes end while we look at them."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, (psutil.Error, ProcessLookupError))


def resident_mb(pid: int) -> float:
    """Resident size of a process and its descendants, in MB."""
    total = 0
    for process in _family(pid):
        with _gone():
            total += process.memory_info().rss
    return total / 1e6


def _cpu_seconds() -> float:
    """CPU seconds of this process and its descendants, those that have ended included."""
    total = time.process_time()  # finer than the hundredths that are known of the others
    for process in _family(os.getpid()):
        with _gone():
            times = process.cpu_times()
            total += times.children_user + times.children_system
            if process.pid != os.getpid():
                total += times.user + times.system
    return total


def _path(function: Callable[..., object]) -> str:
    return f"{function.__module__}:{function.__qualname__}"


def _resolve(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200].replace("|", "/") if lines else "ended without a word"


def _load(given: str) -> Any:
    if given.endswith(".npz"):
        return csr_matrix(load_npz(given))
    return np.load(given) if given.endswith(".npy") else given


def child(folder: Path) -> None:
    """The child's side of `once`: make ready, run against the clock, keep the edges of the checked rows."""
    spec = json.loads((folder / "spec.json").read_text())
    given, arguments = _load(spec["given"]), spec["arguments"]
    started = time.perf_counter()
    run = _resolve(spec["run"])
    if spec["ready"]:
        prepared = _resolve(spec["ready"])(given, **arguments)
        given = given if prepared is None else prepared
    else:
        run(given[: max(FEW, 2 * arguments["k"])], **arguments)
    measured = {"ready_seconds": time.perf_counter() - started}
    (folder / "began").touch()
    cpu, started = _cpu_seconds(), time.perf_counter()
    edges = run(given, **arguments)
    measured["seconds"] = time.perf_counter() - started
    measured["cpu_seconds"] = _cpu_seconds() - cpu
    if spec["again"]:
        started = time.perf_counter()
        run(given, **arguments)
        measured["again_seconds"] = time.perf_counter() - started
    (folder / "peak").write_text(str(resident_mb(os.getpid())))
    (folder / "ended").touch()
    if spec["after"]:
        edges = _resolve(spec["after"])(given, **arguments)
    _keep(folder, edges or {}, measured)


def _keep(folder: Path, all_edges: Edges, measured: dict[str, float]) -> None:
    checked = folder / "rows.npy"
    edges = {} if checked.exists() else all_edges
    if all_edges and checked.exists():
        score = next(
            all_edges[name] for name in ("pearson", "similarity", "score") if name in all_edges
        )
        chosen = np.isin(all_edges["idx"], np.load(checked))
        edges = {
            "idx": all_edges["idx"][chosen],
            "neighbour_idx": all_edges["neighbour_idx"][chosen],
            "score": np.asarray(score, dtype=np.float64)[chosen],
        }
        measured["n_edges"] = len(all_edges["idx"])
        if "n_common" in all_edges and len(all_edges["idx"]):
            measured["mean_common"] = float(all_edges["n_common"].mean())
    np.savez(folder / "edges.npz", **edges)
    (folder / "found.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    child(Path(sys.argv[1]))
