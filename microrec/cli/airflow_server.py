"""Airflow's parts as one server on the loopback: what it starts ends with it.

`airflow standalone` is neither: its scheduler and triggerer serve logs on all interfaces, and SIGTERM leaves its parts
running. Logs are read from the folder they all share.
"""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from microrec.cli.printing import print_error, print_line
from microrec.runner.exit_status import ExitStatus

PARTS = (
    ("api-server",),
    ("scheduler", "--skip-serve-logs"),
    ("dag-processor",),
    ("triggerer", "--skip-serve-logs"),
)
"""Commands of Airflow that make up a server."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 20.0
"""Seconds that a part has to end its tasks."""
LOOK = 0.5
"""Seconds between two looks at the parts."""


def serve(
    preparations: Sequence[Sequence[str]],
    environment: Mapping[str, str],
    logs: Path,
    *,
    prepared: contextlib.AbstractContextManager[None],
) -> ExitStatus:
    """Prepare Airflow, run its parts until a signal comes or one of them ends, and end all that was started.

    Args:
        preparations: what follows `python -m`, one after another.
        environment: variables of all processes.
        logs: folder of the parts' logs.
        prepared: is held while Airflow is prepared.

    Returns:
        SUCCESS after a signal, FAILURE if a preparation or a part ended by itself.
    """
    logs.mkdir(parents=True, exist_ok=True)
    processes: list[psutil.Popen] = []
    with _signals() as ended:
        try:
            with prepared:
                for words in preparations:
                    processes.append(_started(words, environment))
                    while processes[-1].poll() is None and not ended.wait(LOOK):
                        pass
                    if not ended.is_set() and processes[-1].returncode:
                        print_error(f"{' '.join(words)} failed: see above")
                        return ExitStatus.FAILURE
            for words in PARTS if not ended.is_set() else ():
                log = logs / f"{words[0]}.log"
                processes.append(_started(("airflow", *words), environment, log))
            return _watch(processes[len(preparations) :], logs, ended)
        finally:
            end(processes)


def _watch(parts: Sequence[psutil.Popen], logs: Path, ended: threading.Event) -> ExitStatus:
    """Wait for a signal, or for a part that ends."""
    while not ended.wait(LOOK):
        for part, words in zip(parts, PARTS, strict=True):
            if part.poll() is not None:
                print_error(
                    f"Airflow's {words[0]} has ended ({part.returncode}): {logs / words[0]}.log"
                )
                return ExitStatus.FAILURE
    print_line("ending Airflow and what it runs")
    return ExitStatus.SUCCESS


def _started(
    words: Sequence[str], environment: Mapping[str, str], log: Path | None = None
) -> psutil.Popen:
    """Start a module of Python in a session of its own, so that Ctrl-C reaches only this process."""
    with contextlib.ExitStack() as closing:
        output = None if log is None else closing.enter_context(log.open("ab"))
        return psutil.Popen(
            [sys.executable, "-m", *words],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            start_new_session=True,
        )


@contextlib.contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that signals set, until the block ends."""
    ended = threading.Event()
    before = {each: signal.signal(each, lambda *_: ended.set()) for each in SIGNALS}
    try:
        yield ended
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def end(processes: Sequence[psutil.Process], patience: float = PATIENCE) -> None:
    """End processes and all that they have started: jobs run in sessions of their own, and so do their JVMs.

    Args:
        processes: those that were started here.
        patience: seconds they have to end by themselves.
    """
    family = _with_descendants(processes)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(processes, timeout=patience)
    left = _with_descendants([process for process in family if is_alive(process)])
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(left, timeout=patience / 4)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=patience / 4)


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process still runs; one that nobody has waited for does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _with_descendants(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    family = {}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in (process, *process.children(recursive=True)):
                family[each.pid] = each
    return list(family.values())
