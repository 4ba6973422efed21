"""Run an erasure, and end it with SIGKILL at one of its steps.

    python tests/erasure_steps.py NUMBER

A step is the moment before or after a rewritten file, a commit, a new artefact, a deletion or a cut of the log; NUMBER
counts them from 0. With a NUMBER past the last one it runs to its end. It writes the name of each step as it passes it.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from microrec.privacy import artefacts, receipts, sweeping
from microrec.privacy.erasure import Config, erase
from microrec.privacy.rewriting import Rewriter
from microrec.tables import entries
from microrec.tables.arrow import Warehouse
from microrec.tables.artefacts import Artefacts
from microrec.tables.commit import Table

STEPS = (
    (Rewriter, "rewrite"),
    (Table, "exchange"),
    (Table, "commit"),
    (Artefacts, "save_artefact"),
    (sweeping.Sweep, "delete"),
    (artefacts, "delete"),
    (entries, "cut"),
)


def subject_of(user_id: str) -> str:
    return user_id[::-1] + "-subject"


def main(number: int) -> None:
    """Erase everybody who asks for it, in the warehouse of the settings."""
    left = [number]

    def step(name: str) -> None:
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    for owner, name in STEPS:
        setattr(owner, name, _watched(getattr(owner, name), f"{owner.__name__}.{name}", step))
    warehouse = Warehouse.open()
    erase(
        warehouse,
        receipts.requests(warehouse),
        subject_of=subject_of,
        config=Config(grace_seconds=0, abandoned_hours=0),
        authors_are_users=True,
    )


def _watched(
    method: Callable[..., Any], name: str, step: Callable[[str], None]
) -> Callable[..., Any]:
    def watched(*args: Any, **named: Any) -> Any:
        step(f"before {name}")
        result = method(*args, **named)
        step(f"after {name}")
        return result

    return watched


if __name__ == "__main__":
    main(int(sys.argv[1]))
