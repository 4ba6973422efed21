"""Export the latest release, and die at one moment: `python -m tests.export.killed MOMENT ADDRESS`.

Moments: `staging` (one batch of lists is written), `staged` (all is written, nothing is switched), `switched` (the
release is served, the one before is not deleted).
"""

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from microrec.export import handoff
from microrec.export.contents import Contents
from microrec.release import reader
from tests.export.stores import opened


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def one_batch(self: Contents, size: int = 0) -> Iterator[Any]:
    yield next(BATCHES(self, 2))
    die()


if __name__ == "__main__":
    moment, address = sys.argv[1:]
    target = opened(address)
    BATCHES = Contents.batches
    if moment == "staging":
        Contents.batches = one_batch  # type: ignore[method-assign]
    elif moment == "staged":
        target.switch = die  # type: ignore[method-assign]
    else:
        switch, target.sweep = target.switch, lambda: None  # type: ignore[method-assign]
        target.switch = lambda served: (switch(served), die())  # type: ignore[assignment, func-returns-value, method-assign]
    handoff.export(target, reader.latest, at=reader.latest().valid_until.replace(year=2000))
