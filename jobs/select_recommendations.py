"""Make the final list of every user, the lists for users nobody knows, and the lanes to watch again.

Reads: candidates and models (their artefacts) of fit final, users, video_nodes, watch_edges,
modality_edges, suppressed_users of the day, gate_results of fit trial (whether the learned blend is
trusted).
Writes: recommendations, fallback_recommendations and rewatch_recommendations of the day; no rows of the
last unless the recipe asks for it.
"""

import datetime as dt
from functools import partial

from microrec.candidates.lists import fill, ladder, rewatch
from microrec.config import recipe
from microrec.core import fits, knowledge
from microrec.evaluation import gate
from microrec.pipeline import proposals
from microrec.runner import job, shards
from microrec.tables import arrow


def main(day: job.Day) -> None:
    """Blend, filter and fill for all users of the day."""
    night, warehouse = recipe.night(), arrow.Warehouse.open()
    found = proposals.known(warehouse, day=day, fit="final")
    trusted = gate.trusts_learned(warehouse.read("gate_results", day=day, fit="trial"))
    users = knowledge.served(found.users, warehouse.read("suppressed_users", day=day))
    until = fits.horizon(day, "final") + dt.timedelta(hours=night.valid_hours)
    ask = partial(proposals.recommended, warehouse, found, day=day, trusted=trusted, until=until)
    shards.write("recommendations", ask, users, day=day)
    shared = ladder.fallback(proposals.rungs(found, day=day, fit="final"), night.k)
    nodes = {"user": found.users, "video": found.videos}
    rows = fill.with_ids(shared, nodes={"video": found.videos}, valid_until=until)
    warehouse.write("fallback_recommendations", rows, day=day)
    again = rewatch.lanes(
        found.edges,
        users=users,
        known=found.known,
        until=fits.horizon(day, "final"),
        config=recipe.section("candidates.rewatch", rewatch.Config),
    )
    rows = fill.with_ids(again, nodes=nodes, valid_until=until)
    warehouse.write("rewatch_recommendations", rows, day=day)


if __name__ == "__main__":
    job.start(main)
