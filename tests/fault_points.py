"""Run a job, and have a fault strike at one point of its writing.

    python tests/fault_points.py ACT MOMENT TABLE JOB --day D ...

Moments of a table: `staged` (its files lie there, unchecked), `audited` (checked, not committed), `fenced` (found to be
no late attempt), `committed`. Moment of a model: `saving` (its artefact is half-written).
Acts: `kill` this process and its JVM with SIGKILL, `stop` this process until SIGCONT, `fill` the warehouse's disk.
"""

import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from microrec.config.settings import settings
from microrec.tables.artefacts import Artefacts
from microrec.tables.commit import Table

BALLAST = "ballast"


def kill() -> None:
    if os.getpgrp() != os.getpid():
        raise SystemExit("start me in a session of my own: others are in this process group")
    os.killpg(os.getpgrp(), signal.SIGKILL)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def fill() -> None:
    fill_disk(Path(settings().warehouse))


def fill_disk(folder: Path) -> None:
    """Write one file until nothing more fits."""
    with (folder / BALLAST).open("ab", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue


ACTS: dict[str, Callable[[], None]] = {"kill": kill, "stop": stop, "fill": fill}
BEFORE, AFTER = False, True
MOMENTS = {
    "staged": {"audit": BEFORE},
    "audited": {"commit": BEFORE},
    "fenced": {"_fence": AFTER, "_create": BEFORE},
    "committed": {"commit": AFTER},
}
"""Methods of `Table`, before or after which it is that moment."""


def strike(act: Callable[[], None], moment: str, table: str) -> None:
    """Have the act happen the first time it is that moment of the table."""
    left = [act]
    for name, after in MOMENTS[moment].items():
        setattr(Table, name, struck(getattr(Table, name), left, table=table, after=after))


def struck(
    method: Callable[..., Any], left: list[Callable[[], None]], *, table: str, after: bool
) -> Callable[..., Any]:
    def with_act(self: Table, *words: Any, **named: Any) -> Any:
        here = self.contract.table == table and bool(left)
        if here and not after:
            left.pop()()
        answer = method(self, *words, **named)
        if here and after:
            left.pop()()
        return answer

    return with_act


def strike_while_saving(act: Callable[[], None]) -> None:
    """Have the act happen when the largest file of an artefact is half there."""
    whole = Artefacts.save_artefact

    def halved(self: Artefacts, *, save: Callable[[Path], object], **named: Any) -> Any:
        def save_half(folder: Path) -> None:
            save(folder)
            largest = max(folder.iterdir(), key=lambda path: path.stat().st_size)
            os.truncate(largest, largest.stat().st_size // 2)
            act()

        return whole(self, save=save_half, **named)

    Artefacts.save_artefact = halved  # type: ignore[method-assign]


def main(act: str, moment: str, table: str, job: str, *words: str) -> None:
    if moment == "saving":
        strike_while_saving(ACTS[act])
    else:
        strike(ACTS[act], moment, table)
    sys.argv = [job, *words]
    runpy.run_module(f"jobs.{job}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
