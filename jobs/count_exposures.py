"""Count how often each user was shown each video on each surface and event day, and how often that was positive.

Reads: daily_watches (the window that ends at the day), users, video_nodes, suppressed_users
Writes: exposure_counts; no rows if neither a model of the recipe nor lists of surfaces read them
"""

import logging

from microrec.graphs.watch import exposure_counts, nodes
from microrec.pipeline import absence, event_window
from microrec.pipeline.night import Night
from microrec.runner import job
from microrec.tables import spark

logger = logging.getLogger(__name__)


def main(day: job.Day, anyway: job.Anyway = False) -> None:
    """Build the counts that rates as of the start of each day are made of.

    Raises:
        MissingDay: the day's events were not validated, or its watch graph was not built.
    """
    night = Night.open(day)
    if not anyway and not absence.is_read(night, "exposure_counts"):
        night.write_empty("exposure_counts")
        logger.info("exposure_counts day=%s rows=0 reason=nothing_of_the_recipe_reads_them", day)
        return
    warehouse = spark.Warehouse.open()
    users = warehouse.read("users", day=day)
    video_nodes = warehouse.read("video_nodes", day=day)
    watches = event_window.read_daily_watches(warehouse, day=day, days=night.config.window_days)
    rows = exposure_counts.exposure_counts(nodes.indexed(watches, users, video_nodes))
    warehouse.write("exposure_counts", rows, day=day)


if __name__ == "__main__":
    job.start(main)
