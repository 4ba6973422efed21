"""Exit statuses of jobs and of the `microrec` command: the one table that code and pages take them from.

`microrec exit-codes` prints it. The DAGs import nothing of ours and repeat three of them (`dags/processes.py`).
"""

from enum import IntEnum

from microrec.errors import MicrorecError, RecipeError


class ExitStatus(IntEnum):
    """How a process of ours ends."""

    SUCCESS = 0
    FAILURE = 1
    USAGE = 2
    DATA_ERROR = 65
    """EX_DATAERR of sysexits.h."""
    RECIPE_ERROR = 78
    """EX_CONFIG of sysexits.h."""
    NOTHING_TO_DO = 99
    INTERRUPTED = 130
    """128 and the number of SIGINT, as shells have it."""

    @property
    def meaning(self) -> str:
        """What an operator is told of the status."""
        return MEANINGS[self]


MEANINGS = {
    ExitStatus.SUCCESS: "done: tables are committed, or what was asked for is printed",
    ExitStatus.FAILURE: "a defect, or a fault that may pass: try again; of `night`: a task of the night failed",
    ExitStatus.USAGE: "`microrec` was called with an unknown command or option, or without one it needs",
    ExitStatus.DATA_ERROR: "the data, a setting or an argument is at fault: trying again would not help;"
    " of `watch`: something is wrong with the releases",
    ExitStatus.RECIPE_ERROR: "the recipe is at fault: the message names section, key and what is allowed;"
    " `microrec check-recipe` says the same at once",
    ExitStatus.NOTHING_TO_DO: "of `jobs.plan_night` alone: the release stands, the night need not be made",
    ExitStatus.INTERRUPTED: "ended by Ctrl-C",
}


def status_of(error: Exception) -> ExitStatus:
    """Return how a process ends that an error ended."""
    if isinstance(error, RecipeError):
        return ExitStatus.RECIPE_ERROR
    return ExitStatus.DATA_ERROR if isinstance(error, MicrorecError) else ExitStatus.FAILURE
