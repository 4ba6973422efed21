"""Connect users who watch alike.

Reads: watch_edges, users, video_nodes; these and user_edges of the day before, if they let it take
       lists over
Writes: user_edges, metrics (stage user_graph)
"""

import datetime as dt

from microrec.config import recipe
from microrec.graphs.similarity import measures, pearson, provenance, reuse, user_edges
from microrec.graphs.similarity.user_edges import FORMAT, SOURCE, Inputs, Plans
from microrec.runner import job
from microrec.tables import spark

FITS = [{"fit": "trial"}, {"fit": "final"}]
INPUTS = ("watch_edges", "users", "video_nodes")


def main(day: job.Day) -> None:
    """Build the implicit user network of a day.

    Raises:
        MissingDay: the day's watch graph was not built.
    """
    config, warehouse = recipe.section("graphs.user_edges", pearson.Config), spark.Warehouse.open()
    word = provenance.stamp(FORMAT, config, warehouse.fingerprint(*INPUTS, day=day))
    tonight = night(warehouse, day, config)
    edges = user_edges.networks(tonight, chosen(warehouse, day, tonight, config), config=config)
    warehouse.write("user_edges", edges, day=day, replace=FITS, made_with=[word, word])
    network = warehouse.read("user_edges", day=day)  # to compute it is the dear part of this job
    figures = user_edges.measure(tonight, network, config=config)
    warehouse.write(
        "metrics", measures.table(warehouse.session, figures), day=day, stage="user_graph"
    )


def night(warehouse: spark.Warehouse, day: dt.date, config: pearson.Config) -> Inputs:
    """What a day's networks are made of."""
    tables = [warehouse.read(table, day=day) for table in INPUTS]
    return Inputs.of(*tables, n_users=warehouse.count("users", day=day), config=config)


def chosen(warehouse: spark.Warehouse, day: dt.date, now: Inputs, config: pearson.Config) -> Plans:
    """What to take of yesterday's lists, if they are what would be built now."""
    before = day - dt.timedelta(days=1)
    word = provenance.stamp(FORMAT, config, warehouse.fingerprint(*INPUTS, day=before))
    found = provenance.stale_reasons(
        warehouse.made_with("user_edges", day=before, fit=SOURCE), word
    )
    if reasons := (*user_edges.obstacles(config), *found):
        return {scope["fit"]: reuse.Plan(reasons) for scope in FITS}
    edges = warehouse.read("user_edges", day=before, fit=SOURCE)
    return user_edges.plans(now, night(warehouse, before, config), edges, config=config)


if __name__ == "__main__":
    job.start(main)
