"""Connect each video to its nearest videos, per modality.

Reads: video_features, video_nodes
Writes: modality_edges, metrics (stage modality_graph)
"""

from microrec import job, recipe
from microrec.graphs import measures, modality
from microrec.tables import spark


def main(day: job.Day) -> None:
    """Build the modality graphs of a day.

    Raises:
        MissingDay: the day's features were not validated, or its nodes were not built.
    """
    config = recipe.section("graphs.modality", modality.Config)
    house = spark.Warehouse.open()
    features, video_nodes = (
        house.read("video_features", day=day),
        house.read("video_nodes", day=day),
    )
    n_videos = house.count("video_nodes", day=day)
    edges = modality.modality_edges(features, video_nodes, n_videos=n_videos, config=config)
    house.write("modality_edges", edges, day=day)

    written = house.read("modality_edges", day=day)
    figures = modality.measured(features, video_nodes, written, n_videos=n_videos, config=config)
    house.write("metrics", measures.table(house.session, figures), day=day, stage="modality_graph")


if __name__ == "__main__":
    job.start(main)
