"""Connect users who watch alike; list what each watched, and what the others watched next.

Reads: watch_edges, users, video_nodes, events (the window that ends at the day), suppressed_users
Writes: user_edges, sequences
"""

from microrec import job, recipe
from microrec.graphs import nodes, pearson, sequences, user_edges
from microrec.tables import spark

FITS = [{"fit": "trial"}, {"fit": "final"}]


def main(day: job.Day) -> None:
    """Build the implicit user network of a day and the sequences that follow from it.

    Raises:
        MissingDay: the day's watch graph was not built.
    """
    edges_config = recipe.section("graphs.user_edges", pearson.Config)
    sequences_config = recipe.section("graphs.sequences", sequences.Config)
    house = spark.Warehouse.open()

    watched, n_users = house.read("watch_edges", day=day), house.count("users", day=day)
    networks = []
    for fit in ("trial", "final"):
        n_videos = user_edges.population(watched, fit=fit, config=edges_config)
        networks.append(
            user_edges.user_edges(
                watched, fit=fit, n_users=n_users, n_videos=n_videos, config=edges_config
            )
        )
    network = networks[0].unionByName(networks[1])
    house.write("user_edges", network, day=day, replace=FITS)

    users, video_nodes = house.read("users", day=day), house.read("video_nodes", day=day)
    events = house.read_events(day=day, days=recipe.night().window_days)
    viewings = nodes.indexed(events, users, video_nodes)
    # Four branches of the sequences start here; without the cache each reads and joins the events.
    positive = sequences.positive_viewings(viewings, day=day).cache()
    # The network is read back: computing it is the dear part of this job.
    network = house.read("user_edges", day=day)
    lists = sequences.sequences(positive, network, users, day=day, config=sequences_config)
    house.write("sequences", lists, day=day, replace=FITS)


if __name__ == "__main__":
    job.start(main)
