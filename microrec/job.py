"""How a job starts and ends: options, logs, exit status, the figures an operator asks for.

A job is `python -m jobs.<name> --day D`. It exits 0 when its tables are committed, 65 (EX_DATAERR) when the data or
the configuration is at fault - trying again would not help - and 1 on a defect or a passing fault.
"""

import datetime as dt
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Annotated

import psutil
import typer

from microrec.errors import MicrorecError

EX_DATAERR = 65

Day = Annotated[
    dt.date,
    typer.Option(
        "--day", parser=dt.date.fromisoformat, metavar="YYYY-MM-DD", help="UTC day of the night."
    ),
]
Fit = Annotated[
    str, typer.Option("--fit", help="trial (D held out) or final (all days through D).")
]
Anyway = Annotated[
    bool, typer.Option("--anyway", help="Also where nothing in the recipe reads what is written.")
]
Model = Annotated[str, typer.Option("--model", help="Name of the model, as in the recipe.")]

# torch's threads spin while they wait for one another: on 2 busy cores a training took 34 CPU seconds, with this 10,
# to the same bits. Said here because it must be said before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

logger = logging.getLogger(__name__)


def start(main: Callable[..., None]) -> None:
    """Run a job's `main` with its options taken from the command line, and end the process.

    What went wrong is the last line that is logged: it is what an operator is told first.
    """
    configure_logs()
    began = time.monotonic()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    refused: MicrorecError | None = None
    try:
        app(standalone_mode=False)
    except MicrorecError as error:
        refused = error
    finally:
        logger.info("seconds=%.1f peak_mb=%d", time.monotonic() - began, _peak_megabytes())
    if refused is not None:
        logger.error("%s: %s", type(refused).__name__, refused)
        sys.exit(EX_DATAERR)


def configure_logs() -> None:
    """One line per fact on standard error; libraries speak only when something is wrong."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
        force=True,
    )
    for ours in ("microrec", "jobs", "__main__"):
        logging.getLogger(ours).setLevel(logging.INFO)


def _peak_megabytes() -> int:
    """Sum of the peak resident sizes of this process and its children (the JVM), in MiB (Linux)."""
    total = 0
    here = psutil.Process(os.getpid())
    for process in [here, *here.children(recursive=True)]:
        try:
            with open(f"/proc/{process.pid}/status") as status:
                peaks = [line for line in status if line.startswith("VmHWM:")]
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in peaks) // 1024
    return total
