"""List what each user had watched as of each cut, what others watched next, and who was shown what.

Reads: events and daily_watches (the window that ends at the day), users, video_nodes, user_edges,
       remembered_videos, suppressed_users
Writes: exposures, sequences, metrics (stage sequences); no rows if no model of the recipe reads them
"""

import logging

from microrec.graphs.sequences import cuts, sequences, worth
from microrec.graphs.similarity import measures, pearson
from microrec.graphs.watch import nodes, watch_edges
from microrec.pipeline import absence, event_window, memory
from microrec.pipeline.night import Night
from microrec.runner import job
from microrec.tables import spark

logger = logging.getLogger(__name__)


def main(day: job.Day, anyway: job.Anyway = False) -> None:
    """Build the examples a model of sequences learns from, and the rows it serves from.

    Raises:
        MissingDay: the day's user graph was not built.
    """
    night = Night.open(day)
    if not anyway and not absence.is_read(night, "sequences"):
        write_nothing(night)
        return
    config = night.recipe.section("graphs.sequences", sequences.Config)
    correlation = night.recipe.section("graphs.user_edges", pearson.Config)
    decay = night.recipe.section("graphs.watch", watch_edges.Config)
    warehouse = spark.Warehouse.open()
    zone = night.config.timezone
    at = cuts.cuts(day, n_days=config.example_days, timezone=zone)
    users = warehouse.read("users", day=day)
    video_nodes = warehouse.read("video_nodes", day=day)
    events = event_window.read_events(warehouse, day=day, days=night.config.window_days)
    viewings = nodes.indexed(events, users, video_nodes)
    warehouse.write("exposures", sequences.exposures(viewings, cuts=at, timezone=zone), day=day)

    # What several branches start from is kept, or each of them would read and join it all again.
    wanted = sequences.wanted_rows(warehouse.read("exposures", day=day), users, cuts=at).cache()
    watches = event_window.read_daily_watches(warehouse, day=day, days=night.config.window_days)
    pairs = cuts.pairs(watches, users, video_nodes, cuts=at[:-2], config=decay, timezone=zone)
    earlier = cuts.networks(pairs, wanted, n_users=night.n_users, config=correlation)
    serving = cuts.serving_networks(warehouse.read("user_edges", day=day), day=day, timezone=zone)
    network = earlier.unionByName(serving)
    positive = sequences.positive_viewings(viewings, config=config).cache()
    futures = sequences.futures(
        positive, network, wanted, cuts=at, n_users=night.n_users, config=config
    )
    rows = sequences.sequences(wanted, sequences.histories(positive, wanted, cuts=at), futures)
    rows = memory.without_unwanted(night, warehouse, rows, sequences.dislikes(viewings, cuts=at))
    warehouse.write("sequences", rows, day=day)
    written = warehouse.read("sequences", day=day)
    measured = [
        *sequences.measure(written),
        *worth.measure(written, positive, cut=at[-2], end=at[-1]),
    ]
    warehouse.write(
        "metrics", measures.table(warehouse.session, measured), day=day, stage="sequences"
    )


def write_nothing(night: Night) -> None:
    """Commit the day's tables without rows."""
    for table in ("exposures", "sequences"):
        night.write_empty(table)
    night.write_empty("metrics", stage="sequences")
    logger.info("sequences day=%s rows=0 reason=no_model_of_the_recipe_reads_them", night.day)


if __name__ == "__main__":
    job.start(main)
