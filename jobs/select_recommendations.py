"""Make the final list of every user, the lists for users nobody knows, and the lanes to watch again.

Reads: candidates and models (their artefacts) of fit final, users, video_nodes, watch_edges,
modality_edges, suppressed_users of the day, gate_results of fit trial (whether the learned blend is
trusted).
Writes: recommendations, fallback_recommendations and rewatch_recommendations of the day; no rows of the
last unless the recipe asks for it.
"""

import datetime as dt
import logging

from microrec import job, proposals, recipe
from microrec.candidates import filters, final, ladder, rewatch
from microrec.evaluation import gate
from microrec.tables import arrow

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Blend, filter and fill for all users of the day."""
    night, house = recipe.night(), arrow.Warehouse.open()
    found = proposals.read(house, night.sources, day=day, fit="final")
    trusted = gate.trusts_learned(house.read("gate_results", day=day, fit="trial"))
    learned = found.learned if trusted else None
    method = "closed_form" if learned is None else "learned"
    logger.info("blend day=%s fit=final method=%s", day, method)
    users = filters.served(found.users, house.read("suppressed_users", day=day))
    blended = proposals.selection(house, found, users=users, day=day, fit="final")(learned)
    until = filters.horizon(day, "final") + dt.timedelta(hours=night.valid_hours)
    told = proposals.with_evidence(house, found, blended, day=day)
    nodes = {"user": found.users, "video": found.videos}
    of_evidence = {"evidence_video": found.videos}
    rows = final.with_ids(told, nodes={**nodes, **of_evidence}, valid_until=until)
    house.write("recommendations", rows, day=day)
    shared = ladder.fallback(proposals.rungs(found, day=day, fit="final"), night.k)
    rows = final.with_ids(shared, nodes={"video": found.videos}, valid_until=until)
    house.write("fallback_recommendations", rows, day=day)
    again = rewatch.lanes(
        found.edges,
        users=users,
        known=found.known,
        until=filters.horizon(day, "final"),
        config=recipe.section("candidates.rewatch", rewatch.Config),
    )
    rows = final.with_ids(again, nodes=nodes, valid_until=until)
    house.write("rewatch_recommendations", rows, day=day)


if __name__ == "__main__":
    job.start(main)
