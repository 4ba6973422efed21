"""What a job leaves behind of its own cost, for the watchdog's figures."""

import datetime as dt
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)


def note(words: Sequence[str], *, seconds: float, peak_mb: int, failed: bool) -> None:
    """Write what the job of this process cost beside the tables; where that fails, the job has not.

    Args:
        words: the command line, the job's file first.
        seconds: wall time of the process.
        peak_mb: peak resident size, in MiB.
        failed: whether it ends with an error.
    """
    from microrec.tables import usage
    from microrec.tables.arrow import Warehouse

    file = Path(words[0])
    options = dict(itertools.pairwise(words[1:]))
    if file.parent.name != "jobs" or "--day" not in options:
        return
    try:
        cost = usage.Usage(
            job=file.stem,
            fit=options.get("--fit", ""),
            model=options.get("--model", ""),
            seconds=round(seconds, 1),
            peak_mb=peak_mb,
            failed=failed,
            ended_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        )
        usage.save(Warehouse.open(), dt.date.fromisoformat(options["--day"]), cost)
    except Exception as error:
        # A full disk, a lost store, a wrong option: the job's own error says more.
        logger.warning("usage was not written: %s", type(error).__name__)
