"""Which arrival days a night validates, by what has landed and what earlier nights have committed."""

from microrec.config.settings import settings
from microrec.events import arrivals, counts
from microrec.landing import zone
from microrec.pipeline.night import Night
from microrec.tables.spark import Warehouse


def current_plan(night: Night, warehouse: Warehouse) -> arrivals.Arrivals:
    """Return the arrival days to validate tonight, and those to read for it, see `arrivals.plan`.

    Args:
        night: says how long the window is and how late rows may be.
        warehouse: says which arrival days are validated.

    Returns:
        The plan, as of the files that have landed by now.

    Raises:
        LandingError: a landing folder holds what is no data file.
    """
    landed = zone.days(settings().landing, counts.LINES)
    committed = [each for each in landed if warehouse.exists("rejected_events", day=each)]
    return arrivals.plan(
        night.day,
        landed=landed,
        committed=committed,
        window_days=night.config.window_days,
        lateness_days=night.config.lateness_days,
    )
