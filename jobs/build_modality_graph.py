"""Connect each video to its nearest videos, per modality.

Reads: video_features, video_nodes; of the day before these and modality_edges, if they let it
       take lists over
Writes: modality_edges, metrics (stage modality_graph)
"""

import datetime as dt
import logging

from microrec.config import recipe
from microrec.graphs.similarity import measures, modality_edges, provenance, reuse
from microrec.graphs.similarity.modality_edges import FORMAT, Config, Inputs
from microrec.runner import job
from microrec.tables import spark

logger = logging.getLogger(__name__)

INPUTS = ("video_features", "video_nodes")


def main(day: job.Day) -> None:
    """Build the modality graphs of a day.

    Raises:
        MissingDay: the day's features were not validated, or its nodes were not built.
    """
    config, warehouse = recipe.section("graphs.modality", Config), spark.Warehouse.open()
    word = provenance.stamp(FORMAT, config, warehouse.fingerprint(*INPUTS, day=day))
    tonight = night(warehouse, day)
    plan = chosen(warehouse, day, tonight, config)
    logger.info("table=modality_edges %s", plan)
    edges = modality_edges.modality_edges(
        *tonight[:2], n_videos=tonight[2], config=config, plan=plan
    )
    warehouse.write("modality_edges", edges, day=day, made_with=[word])

    written = warehouse.read("modality_edges", day=day)
    figures = modality_edges.measure(*tonight[:2], written, n_videos=tonight[2], config=config)
    warehouse.write(
        "metrics", measures.table(warehouse.session, figures), day=day, stage="modality_graph"
    )


def night(warehouse: spark.Warehouse, day: dt.date) -> Inputs:
    """What a day's graphs are made of."""
    features, nodes = (warehouse.read(table, day=day) for table in INPUTS)
    return Inputs(features, nodes, warehouse.count("video_nodes", day=day))


def chosen(warehouse: spark.Warehouse, day: dt.date, tonight: Inputs, config: Config) -> reuse.Plan:
    """What to take of yesterday's lists, if they are what would be built now."""
    before = day - dt.timedelta(days=1)
    word = provenance.stamp(FORMAT, config, warehouse.fingerprint(*INPUTS, day=before))
    found = provenance.stale_reasons(warehouse.made_with("modality_edges", day=before), word)
    if reasons := (*modality_edges.obstacles(config), *found):
        return reuse.Plan(reasons)
    edges = warehouse.read("modality_edges", day=before)
    return modality_edges.plan(tonight, night(warehouse, before), edges, config=config)


if __name__ == "__main__":
    job.start(main)
