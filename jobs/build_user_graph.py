"""Connect users who watch alike; list what each watched, and what the others watched next.

Reads: watch_edges, users, video_nodes, events (the window that ends at the day), suppressed_users
Writes: user_edges, sequences, metrics (stage user_graph)
"""

from microrec import job, recipe
from microrec.graphs import measures, nodes, pearson, sequences, user_edges
from microrec.graphs.split import FITS
from microrec.tables import spark


def main(day: job.Day) -> None:
    """Build the implicit user network of a day and the sequences that follow from it.

    Raises:
        MissingDay: the day's watch graph was not built.
    """
    config = recipe.section("graphs.user_edges", pearson.Config)
    sequences_config = recipe.section("graphs.sequences", sequences.Config)
    house = spark.Warehouse.open()

    watched, n_users = house.read("watch_edges", day=day), house.count("users", day=day)
    n_videos = {fit: user_edges.population(watched, fit=fit, config=config) for fit in FITS}
    networks = [
        user_edges.user_edges(watched, fit=fit, n_users=n_users, n_videos=n, config=config)
        for fit, n in n_videos.items()
    ]
    scopes = [{"fit": fit} for fit in FITS]
    both = networks[0].unionByName(networks[1])
    house.write("user_edges", both, day=day, replace=scopes)
    # The network is read back: computing it is the dear part of this job.
    network = house.read("user_edges", day=day)
    figures = user_edges.measured(
        watched, network, n_users=n_users, n_videos=n_videos, config=config
    )
    house.write("metrics", measures.table(house.session, figures), day=day, stage="user_graph")

    users, video_nodes = house.read("users", day=day), house.read("video_nodes", day=day)
    events = house.read_events(day=day, days=recipe.night().window_days)
    viewings = nodes.indexed(events, users, video_nodes)
    # Four branches of the sequences start here; without the cache each reads and joins the events.
    positive = sequences.positive_viewings(viewings, day=day).cache()
    lists = sequences.sequences(positive, network, users, day=day, config=sequences_config)
    house.write("sequences", lists, day=day, replace=scopes)


if __name__ == "__main__":
    job.start(main)
