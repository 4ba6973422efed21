"""Compute the lists of some users again by brute force, and hold the night if a published row differs.

Reads: recommendations, users, video_nodes, watch_edges, suppressed_users, gate_results (fit trial),
models and their artefacts, candidates (fit final) of the day; also modality_edges where the recipe asks
for variety or exploration, and what the models of night.rankers were fitted to.
Writes: gate_results (fit oracle) of the day; then, if a user's list differs, ends with GateHeld.
"""

import logging

import numpy as np

from microrec.candidates.retrieval import exact
from microrec.config import recipe
from microrec.evaluation import gate
from microrec.oracle import compare, inputs
from microrec.pipeline import oracle_inputs
from microrec.runner import job
from microrec.tables import arrow

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Check the published lists of the users that are drawn."""
    warehouse = arrow.Warehouse.open()
    config = recipe.section("evaluation.oracle", inputs.Config)
    published = warehouse.read("recommendations", day=day)
    rng = np.random.default_rng([recipe.night().seed, day.toordinal(), *b"oracle"])
    users = compare.drawn(published["user_id"].to_pylist(), config.users, rng)
    verdict = compare.check(oracle_inputs.read(warehouse, day, users, config), published, users)
    for source, n in verdict.n_unlike.items():
        level = logging.WARNING if n else logging.INFO
        logger.log(level, "oracle day=%s source=%s users=%d unlike=%d", day, source, len(users), n)
    least = recipe.section("candidates.retrieval", exact.Config).least_recall
    judged = gate.table([compare.result(verdict), *compare.recalled(verdict, least)])
    warehouse.write("gate_results", judged, day=day, fit="oracle")
    gate.require(judged, day=day, fit="oracle")


if __name__ == "__main__":
    job.start(main)
