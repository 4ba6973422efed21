"""List what each user had watched as of each cut, what others watched next, and who was shown what.

Reads: events and daily_watches (the window that ends at the day), users, video_nodes, user_edges,
       suppressed_users
Writes: exposures, sequences, metrics (stage sequences); no rows if no model of the recipe reads them
"""

import logging

from microrec.config import recipe
from microrec.graphs.sequences import cuts, sequences
from microrec.graphs.similarity import measures, pearson
from microrec.graphs.watch import nodes, watch_edges
from microrec.models import registry
from microrec.pipeline import event_window
from microrec.runner import job
from microrec.tables import arrow, spark

logger = logging.getLogger(__name__)


def main(day: job.Day, anyway: job.Anyway = False) -> None:
    """Build the examples a model of sequences learns from, and the rows it serves from.

    Raises:
        MissingDay: the day's user graph was not built.
    """
    read = {table for model in recipe.night().trained for table in registry.card(model).reads}
    if not anyway and "sequences" not in read:
        here = arrow.Warehouse.open()
        for table in ("exposures", "sequences"):
            here.write_empty(table, day=day)
        here.write_empty("metrics", day=day, stage="sequences")
        logger.info("sequences day=%s rows=0 reason=no_model_of_the_recipe_reads_them", day)
        return
    config = recipe.section("graphs.sequences", sequences.Config)
    correlation = recipe.section("graphs.user_edges", pearson.Config)
    warehouse, days = spark.Warehouse.open(), recipe.night().window_days
    at = cuts.cuts(day, n_days=config.example_days)
    users, video_nodes = warehouse.read("users", day=day), warehouse.read("video_nodes", day=day)
    viewings = nodes.indexed(
        event_window.read_events(warehouse, day=day, days=days), users, video_nodes
    )
    warehouse.write("exposures", sequences.exposures(viewings, cuts=at), day=day)

    # What several branches start from is kept, or each of them would read and join it all again.
    wanted = sequences.wanted_rows(warehouse.read("exposures", day=day), users, cuts=at).cache()
    watches = event_window.read_daily_watches(warehouse, day=day, days=days)
    faded = recipe.section("graphs.watch", watch_edges.Config)
    pairs = cuts.pairs(watches, users, video_nodes, cuts=at[:-2], config=faded).cache()
    n_users = warehouse.count("users", day=day)
    earlier = cuts.networks(pairs, wanted, n_users=n_users, config=correlation)
    network = earlier.unionByName(
        cuts.serving_networks(warehouse.read("user_edges", day=day), day=day)
    )

    positive = sequences.positive_viewings(viewings, config=config).cache()
    touches = sequences.touches(positive, cuts=at).cache()
    near = sequences.from_neighbours(touches, network, wanted, config=config).cache()
    others = sequences.from_successors(touches, near, wanted, config=config)
    histories = sequences.histories(positive, wanted, cuts=at)
    rows = sequences.sequences(wanted, histories, near.unionByName(others))
    warehouse.write("sequences", rows, day=day)
    figures = sequences.measure(warehouse.read("sequences", day=day))
    warehouse.write(
        "metrics", measures.table(warehouse.session, figures), day=day, stage="sequences"
    )


if __name__ == "__main__":
    job.start(main)
