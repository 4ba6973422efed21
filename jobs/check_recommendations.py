"""Compute the lists of some users again by brute force, and hold the night if a published row differs.

Reads: recommendations, users, video_nodes, watch_edges, suppressed_users, preferences, gate_results (fit trial),
models and their artefacts, candidates (fit final) of the day; also modality_edges where the recipe asks
for variety, and what the models of night.rankers were fitted to.
Writes: gate_results (fit oracle) of the day; then, if a user's list differs, ends with GateHeld.
"""

import logging

from microrec.candidates.retrieval import exact
from microrec.evaluation import gate
from microrec.oracle import compare, inputs
from microrec.pipeline import oracle_inputs
from microrec.pipeline.night import Night
from microrec.runner import job

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Check the published lists of the users that are drawn."""
    night = Night.open(day, fit="final")
    config = night.recipe.section("evaluation.oracle", inputs.Config)
    published = night.read("recommendations")
    user_ids = published["user_id"].to_pylist()
    users = compare.draw_users(user_ids, config.users, night.generator("oracle"))
    verdict = compare.check(oracle_inputs.read(night, users, config), published, users)
    for source, n in verdict.n_unlike.items():
        level = logging.WARNING if n else logging.INFO
        logger.log(level, "oracle day=%s source=%s users=%d unlike=%d", day, source, len(users), n)
    retrieval = night.recipe.section("candidates.retrieval", exact.Config)
    recall = compare.recall_gates(verdict, retrieval.least_recall)
    results = gate.table([compare.agreement_gate(verdict), *recall])
    night.write("gate_results", results, fit="oracle")
    gate.require(results, day=day, fit="oracle")


if __name__ == "__main__":
    job.start(main)
