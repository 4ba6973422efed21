"""Connect users who watch alike.

Reads: watch_edges, users, video_nodes; these and user_edges of the day before, if they let it take
       lists over
Writes: user_edges, metrics (stage user_graph)
"""

from microrec.graphs.similarity import measures, pearson, provenance, reuse, user_edges
from microrec.graphs.similarity.user_edges import FORMAT, SOURCE, Inputs, Plans
from microrec.pipeline.night import Night
from microrec.runner import job
from microrec.tables import spark

FITS = [{"fit": "trial"}, {"fit": "final"}]
INPUTS = ("watch_edges", "users", "video_nodes")


def main(day: job.Day) -> None:
    """Build the implicit user network of a day.

    Raises:
        MissingDay: the day's watch graph was not built.
    """
    night = Night.open(day)
    config = night.recipe.section("graphs.user_edges", pearson.Config)
    warehouse = spark.Warehouse.open()
    stamp = provenance.stamp(FORMAT, config, warehouse.fingerprint(*INPUTS, day=day))
    inputs = read_inputs(warehouse, night, config)
    plans = plan_reuse(warehouse, night.at(night.previous_day, fit=SOURCE), inputs, config)
    edges = user_edges.networks(inputs, plans, config=config)
    warehouse.write("user_edges", edges, day=day, replace=FITS, made_with=[stamp, stamp])

    network = warehouse.read("user_edges", day=day)  # computing it again would take most of the job
    figures = user_edges.measure(inputs, network, config=config)
    warehouse.write(
        "metrics", measures.table(warehouse.session, figures), day=day, stage="user_graph"
    )


def read_inputs(warehouse: spark.Warehouse, night: Night, config: pearson.Config) -> Inputs:
    """Return rows of `watch_edges`, `users` and `video_nodes`, and how many users there are.

    Args:
        warehouse: has the tables.
        night: whose rows they are.
        config: of the networks.
    """
    tables = [warehouse.read(table, day=night.day) for table in INPUTS]
    return Inputs.of(*tables, n_users=night.n_users, config=config)


def plan_reuse(
    warehouse: spark.Warehouse, before: Night, inputs: Inputs, config: pearson.Config
) -> Plans:
    """Plan what to take of the lists of the day before, if they are what would be built now.

    Args:
        warehouse: has them.
        before: the night before.
        inputs: of the day itself.
        config: of the networks.

    Returns:
        By fit which lists are kept, or why none are.
    """
    stamp = provenance.stamp(FORMAT, config, warehouse.fingerprint(*INPUTS, day=before.day))
    committed = warehouse.made_with("user_edges", day=before.day, fit=SOURCE)
    stale = provenance.stale_reasons(committed, stamp)
    if reasons := (*user_edges.obstacles(config), *stale):
        return {scope["fit"]: reuse.Plan(reasons) for scope in FITS}
    edges = warehouse.read("user_edges", day=before.day, fit=SOURCE)
    return user_edges.plans(inputs, read_inputs(warehouse, before, config), edges, config=config)


if __name__ == "__main__":
    job.start(main)
