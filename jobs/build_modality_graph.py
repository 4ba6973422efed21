"""Connect each video to its nearest videos, per modality.

Reads: video_features, video_nodes; of the day before these and modality_edges, if they let it
       take lists over
Writes: modality_edges, metrics (stage modality_graph)
"""

import datetime as dt
import logging

from microrec.graphs.similarity import measures, modality_edges, provenance, reuse
from microrec.graphs.similarity.modality_edges import FORMAT, Config, Inputs
from microrec.pipeline.night import Night
from microrec.runner import job
from microrec.tables import spark

logger = logging.getLogger(__name__)

INPUTS = ("video_features", "video_nodes")


def main(day: job.Day) -> None:
    """Build the modality graphs of a day.

    Raises:
        MissingDay: the day's features were not validated, or its nodes were not built.
    """
    night = Night.open(day)
    config = night.recipe.section("graphs.modality", Config)
    warehouse = spark.Warehouse.open()
    stamp = provenance.stamp(FORMAT, config, warehouse.fingerprint(*INPUTS, day=day))
    inputs = read_inputs(warehouse, day)
    plan = plan_reuse(warehouse, night.previous_day, inputs, config)
    logger.info("table=modality_edges %s", plan)
    edges = modality_edges.modality_edges(*inputs[:2], n_videos=inputs[2], config=config, plan=plan)
    warehouse.write("modality_edges", edges, day=day, made_with=[stamp])

    written = warehouse.read("modality_edges", day=day)
    figures = modality_edges.measure(*inputs[:2], written, n_videos=inputs[2], config=config)
    warehouse.write(
        "metrics", measures.table(warehouse.session, figures), day=day, stage="modality_graph"
    )


def read_inputs(warehouse: spark.Warehouse, day: dt.date) -> Inputs:
    """Return rows of `video_features` and `video_nodes`, and how many videos there are.

    Args:
        warehouse: has the tables.
        day: of the night.
    """
    features = warehouse.read("video_features", day=day)
    nodes = warehouse.read("video_nodes", day=day)
    return Inputs(features, nodes, warehouse.count("video_nodes", day=day))


def plan_reuse(
    warehouse: spark.Warehouse, before: dt.date, inputs: Inputs, config: Config
) -> reuse.Plan:
    """Plan what to take of the lists of the day before, if they are what would be built now.

    Args:
        warehouse: has them.
        before: the day before.
        inputs: of the day itself.
        config: of the graphs.

    Returns:
        Which lists are kept, or why none are.
    """
    stamp = provenance.stamp(FORMAT, config, warehouse.fingerprint(*INPUTS, day=before))
    stale = provenance.stale_reasons(warehouse.made_with("modality_edges", day=before), stamp)
    if reasons := (*modality_edges.obstacles(config), *stale):
        return reuse.Plan(reasons)
    edges = warehouse.read("modality_edges", day=before)
    return modality_edges.plan(inputs, read_inputs(warehouse, before), edges, config=config)


if __name__ == "__main__":
    job.start(main)
