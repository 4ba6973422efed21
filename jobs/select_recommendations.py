"""Make the final list of every user, and the lists for users nobody knows.

Reads: candidates of fit final, users, video_nodes, watch_edges, suppressed_users of the day.
Writes: recommendations and fallback_recommendations of the day.
"""

import datetime as dt
import logging

from microrec import job, recipe
from microrec.candidates import blend, filters, final, ladder
from microrec.tables import arrow

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Blend, filter and fill for all users of the day."""
    night, house = recipe.night(), arrow.Warehouse.open()
    users, edges = house.read("users", day=day), house.read("watch_edges", day=day)
    videos = house.read("video_nodes", day=day)
    known = filters.knowledge(edges, videos, n_users=users.num_rows, fit="final", day=day)
    steps = recipe.section("candidates.ladder", ladder.Config)
    rungs = ladder.rungs(edges, videos, known=known, fit="final", day=day, config=steps)
    lists = {
        source: house.read("candidates", day=day, fit="final", source=source)
        for source in night.sources
        if house.exists("candidates", day=day, fit="final", source=source)
    }
    for source in sorted(set(night.sources) - set(lists)):
        logger.warning("blend day=%s fit=final missing_source=%s", day, source)
    blended = final.select(
        lists,
        users=filters.served(users, house.read("suppressed_users", day=day)),
        known=known,
        ladder=ladder.climb(rungs),
        k=night.k,
        config=recipe.section("candidates.blend", blend.Config),
    )
    until = filters.horizon(day, "final") + dt.timedelta(hours=night.valid_hours)
    rows = final.with_ids(blended, nodes={"user": users, "video": videos}, valid_until=until)
    house.write("recommendations", rows, day=day)
    shared = ladder.fallback(rungs, night.k)
    rows = final.with_ids(shared, nodes={"video": videos}, valid_until=until)
    house.write("fallback_recommendations", rows, day=day)


if __name__ == "__main__":
    job.start(main)
