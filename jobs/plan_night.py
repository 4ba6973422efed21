"""Judge the recipe as a whole, say what the night is made of, and whether its release was made of the same.

Reads: names of landing files, events, metrics and candidates of earlier nights (that they are there), nights, releases.
Writes: nights of the day, if the night is to be made. If its release stands and is made of the same, it ends with
status 99: there is nothing to do. If it was withdrawn and would be made of the same again, it ends with GateHeld.
"""

import logging
import sys

from microrec.config import recipe
from microrec.errors import GateHeld
from microrec.pipeline import night_inputs, recipe_check
from microrec.pipeline.night import Night
from microrec.runner import job
from microrec.runner.exit_status import ExitStatus

logger = logging.getLogger(__name__)


def main(day: job.Day, force: job.Force = False) -> None:
    """Plan the night.

    Raises:
        RecipeError: names every fault of the recipe.
        GateHeld: the release was withdrawn and would be made of the same inputs again.
    """
    recipe_check.require(recipe.parsed())
    night = Night.open(day)
    inputs = night_inputs.current_inputs(night)
    reasons = night_inputs.stale_reasons(night, inputs)
    if not force and reasons and reasons[0].startswith("withdrawn"):
        raise GateHeld(
            f"releases[day={day}]: {reasons[0]}; nothing of what it is made of has changed: change it, make the"
            " release the latest by `microrec rollback --to`, or run the night with `force`"
        )
    if not force and not reasons:
        logger.info("plan day=%s inputs=%s unchanged: the release stands", day, inputs.digest)
        sys.exit(ExitStatus.NOTHING_TO_DO)
    night.write("nights", inputs.row())
    why = "; ".join(reasons) or "forced"
    logger.info("plan day=%s inputs=%s because: %s", day, inputs.digest, why)


if __name__ == "__main__":
    job.start(main)
