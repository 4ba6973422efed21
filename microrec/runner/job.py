"""How a job starts and ends: options, logs, exit status, the figures an operator asks for.

A job is `python -m jobs.<name> --day D`; `exit_status` says how it may end.
"""

import datetime as dt
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Annotated

import psutil
import typer
from typer.exceptions import TyperException

from microrec.config.settings import Redacted, settings
from microrec.core import arguments, messages
from microrec.errors import BadArgument, MicrorecError
from microrec.runner import lifeline, task_lineage, task_usage
from microrec.runner.exit_status import status_of

COLOUR = re.compile(r"\x1b\[[0-9;]*m")

Day = Annotated[
    dt.date,
    typer.Option("--day", parser=arguments.day, metavar="YYYY-MM-DD", help="UTC day of the night."),
]
Fit = Annotated[
    str,
    typer.Option(
        "--fit",
        parser=arguments.fit,
        metavar="FIT",
        help="trial (D held out) or final (all days through D).",
    ),
]
Anyway = Annotated[
    bool, typer.Option("--anyway", help="Also where nothing in the recipe reads what is written.")
]
Force = Annotated[bool, typer.Option("--force", help="Also where nothing has changed.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        parser=arguments.model,
        metavar="NAME",
        help="Name of the model, as in the recipe.",
    ),
]

# torch's threads spin while they wait for one another: on 2 busy cores a training took 34 CPU seconds, with this 10,
# to the same bits. It stands here because it must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

logger = logging.getLogger(__name__)


def start(main: Callable[..., None]) -> None:
    """Run a job's `main` with its options taken from the command line, and end the process.

    What went wrong is the last line that is logged: an operator reads it first.

    Args:
        main: of the job.
    """
    configure_logs()
    began = time.monotonic()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    failed: Exception | None = None
    try:
        restrict_files()
        lifeline.end_with(settings().parent)
        app(standalone_mode=False)
    except MicrorecError as error:
        failed = error
    except TyperException as error:
        failed = BadArgument(error.format_message())
    except Exception as error:
        logger.exception("%s", type(error).__name__)
        failed = error
    finally:
        seconds, peak_mb = time.monotonic() - began, _peak_megabytes()
        logger.info("seconds=%.1f peak_mb=%d", seconds, peak_mb)
        task_usage.note(sys.argv, seconds=seconds, peak_mb=peak_mb, failed=failed is not None)
        task_lineage.leave()
    if failed is not None:
        message = messages.one_line(in_one_line(failed))
        logger.error("%s: %s", type(failed).__name__, message)
        sys.exit(status_of(failed))


def restrict_files() -> None:
    """Make the files and folders of this process and its children as private as the setting `umask` says.

    Raises:
        BadArgument: a setting cannot be read.
    """
    os.umask(int(settings().umask, 8))


def in_one_line(error: Exception) -> str:
    """Return the message of an error without colours and Java's stack; of its causes only the innermost."""
    lines = [line.strip() for line in COLOUR.sub("", str(error)).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("at ", "... "))]
    causes = [line for line in kept if line.startswith("Caused by: ")]
    return " ".join([*kept[:1], *causes[-1:]] if causes else kept)


def configure_logs() -> None:
    """Log one line per fact to standard error; of libraries warnings only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redacted("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
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
