"""Who uses an AIRFLOW_HOME: nights in several terminals take turns, and only one server runs on it.

Airflow's metadata on one machine is a SQLite file: two `DAG.test` at once end with a traceback of its library.
"""

import datetime as dt
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from microrec.core import messages
from microrec.errors import BadArgument

WIDTH = 200
"""Characters of a holder's words that are shown."""


@contextmanager
def held(
    home: Path, name: str, words: str, *, waiting: Callable[[str], None] | None
) -> Iterator[None]:
    """Hold a lock of a folder until the block ends, also if this process is killed.

    Args:
        home: the folder.
        name: of the lock: who holds another one is not waited for.
        words: what this process does, for others that wait for it.
        waiting: is told who holds the lock, once, before it is waited for; None: it is not waited for.

    Raises:
        BadArgument: another process holds it, and it is not waited for.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / f"microrec-{name}.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = messages.plain(file.read(WIDTH).strip()) or "another process"
            if waiting is None:
                raise BadArgument(f"{home}: {holder} uses it") from None
            waiting(f"waiting for its turn: {holder} uses {home}")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()}, {words}, since {dt.datetime.now():%Y-%m-%d %H:%M}")
        file.flush()
        yield
        file.truncate(0)
