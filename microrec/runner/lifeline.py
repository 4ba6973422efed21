"""A process ends when the process that started it does.

A signal to a process group does not reach every process of a job: torchrun starts its processes in sessions of their
own, and an Airflow task that is killed (kill -9, out of memory) signals nobody. What goes on then writes beside the
retry. So such a process looks twice a second whether its parent is still there. Spark's JVM and its workers need no
such look: their pipe to the job ends with it.
"""

import os
import signal
import threading
import time

SECONDS = 0.5
"""Between two looks."""


def end_with(parent: int | None) -> None:
    """End this process, and the group it leads, once its parent is another one: as SIGTERM does.

    Args:
        parent: process id; None: nothing is watched.
    """
    if parent is not None:
        threading.Thread(target=_watch, args=(parent,), name="lifeline", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGTERM)
    else:
        os.kill(os.getpid(), signal.SIGTERM)
