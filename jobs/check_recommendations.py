"""Compute the lists of some users and videos again by brute force, and hold the night if a published row differs.

Reads: recommendations, segment_recommendations, similar_videos, users, videos, exposure_counts, video_nodes,
watch_edges, private_users, private_edges, suppressed_users, preferences, gate_results (fit trial), modality_edges,
video_features, models and their artefacts, candidates (fit final) of the day; also what the models of night.rankers
were fitted to.
Writes: gate_results (fit oracle) of the day; then, if a list differs, ends with GateHeld.
"""

import logging

from microrec.candidates.retrieval import exact
from microrec.evaluation import gate
from microrec.oracle import compare, inputs, segments, similar
from microrec.pipeline import oracle_inputs, oracle_segments, oracle_similar
from microrec.pipeline.night import Night
from microrec.runner import job

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Check the published lists of the users and videos that are drawn."""
    night = Night.open(day, fit="final")
    config = night.recipe.section("evaluation.oracle", inputs.Config)
    published = night.read("recommendations")
    user_ids = published["user_id"].to_pylist()
    users = compare.draw_users(user_ids, config.users, night.generator("oracle"))
    made_of = oracle_inputs.read(night, users, config)
    verdict = compare.check(made_of, published, users)
    for source, n in verdict.n_unlike.items():
        level = logging.WARNING if n else logging.INFO
        logger.log(level, "oracle day=%s source=%s users=%d unlike=%d", day, source, len(users), n)
    retrieval = night.recipe.section("candidates.retrieval", exact.Config)
    recall = compare.recall_gates(verdict, retrieval.least_recall)
    beside = night.read("similar_videos")
    videos = compare.draw_users(
        beside["video_id"].to_pylist(), config.videos, night.generator("beside")
    )
    nearest = similar.check(oracle_similar.read(night, made_of, videos), beside, videos)
    of_segments = segments.check(
        oracle_segments.read(night, made_of),
        verdict.settled,
        night.read("segment_recommendations"),
        users,
    )
    results = gate.table([compare.agreement_gate(verdict), of_segments, nearest, *recall])
    night.write("gate_results", results, fit="oracle")
    gate.require(results, day=day, fit="oracle")


if __name__ == "__main__":
    job.start(main)
