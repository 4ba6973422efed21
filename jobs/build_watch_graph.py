"""Number the day's users and videos, and connect them by what was watched.

Reads: events (the window that ends at the day), videos, suppressed_users
Writes: users, video_nodes, watch_edges, clip_edges
"""

from microrec import job, recipe
from microrec.graphs import clips, nodes, watch
from microrec.tables import spark

SPLITS = [{"split": part} for part in ("train", "validation", "holdout")]


def main(day: job.Day) -> None:
    """Build the user-video graph of a day.

    Raises:
        MissingDay: the day's events or videos were not validated.
    """
    watch_config = recipe.section("graphs.watch", watch.Config)
    clips_config = recipe.section("graphs.clips", clips.Config)
    house = spark.Warehouse.open()
    events = house.read_events(day=day, days=recipe.night().window_days)

    house.write("users", nodes.users(events), day=day)
    house.write("video_nodes", nodes.video_nodes(house.read("videos", day=day), events), day=day)

    # The indices are read back: numbering is a global sort, and both edge tables need it.
    users, video_nodes = house.read("users", day=day), house.read("video_nodes", day=day)
    viewings = nodes.indexed(events, users, video_nodes)
    house.write(
        "watch_edges",
        watch.watch_edges(viewings, day=day, config=watch_config),
        day=day,
        replace=SPLITS,
    )
    half_life = watch_config.half_life_days
    signed = clips.clip_edges(viewings, day=day, half_life_days=half_life, config=clips_config)
    house.write("clip_edges", signed, day=day, replace=SPLITS)


if __name__ == "__main__":
    job.start(main)
