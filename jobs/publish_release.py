"""Check what was written, as written, and make it the day's release.

Reads: recommendations, segment_recommendations, fallback_recommendations, similar_videos, rewatch_recommendations,
user_trends, clip_interest, exit_points, blend_weights, gate_results (fits arrivals, trial and oracle), candidates
(both fits), nights, users, video_nodes, watch_edges, private_users, private_edges of D; suppressed_users, preferences
as of now; metrics (stage release) of the day before.
Writes: gate_results (fit final) and metrics (stage release) of the day; then, only if no gate of
severity hold failed in any fit that no reason overrules, and Great Expectations agrees, the day's row of
releases. Else, or if the same rows were withdrawn, it ends with GateHeld, CheckFailed or, if no oracle was
asked, MissingDay, and the release before stands. The last line it logs says whether the latest moved.
"""

import logging

import pyarrow as pa

from microrec.evaluation import gate, report
from microrec.pipeline import night_inputs, promotion, refits, release_gates
from microrec.pipeline.night import Night
from microrec.release import reader, record, rollback
from microrec.runner import job
from microrec.tables import expectations

logger = logging.getLogger(__name__)

FIGURES = ("metrics", "gate_results")


def main(day: job.Day) -> None:
    """Publish the day."""
    night = Night.open(day)
    reasons = [
        promotion.require(night.read("gate_results", fit=fit), day=day, fit=fit)
        for fit in ("arrivals", "trial")
        if fit == "trial" or night.exists("gate_results", fit=fit)
    ]
    promotion.require(night.read("gate_results", fit="oracle"), day=day, fit="oracle")
    personal = night.read("recommendations")
    fallback = night.read("fallback_recommendations")
    judged = release_gates.judge(night, personal, fallback)
    again = refits.figures(night)
    results = gate.table([*judged.results, refits.judged(night, again)])
    night.write("gate_results", results, fit="final")
    figures = [*judged.figures, *again]
    night.write("metrics", report.table(figures), stage="release")
    reasons.append(promotion.require(results, day=day, fit="final"))

    read = {"recommendations": personal, "fallback_recommendations": fallback}
    for name in (name for name in reader.RESULTS if name not in FIGURES):
        _evaluate(night, name, read[name] if name in read else night.read(name))
    inputs = night_inputs.planned_inputs(night)
    row = record.record(
        night.warehouse, day=day, inputs=inputs, reason=max(filter(None, reasons), default=None)
    )
    rollback.refuse_withdrawn(row, warehouse=night.warehouse, day=day)
    night.write("releases", row)
    moved = reader.latest().day == day
    logger.info("release day=%s id=%s latest=%s", day, reader.of(day).id, moved)


def _evaluate(night: Night, name: str, rows: pa.Table) -> None:
    contract = night.warehouse.table(name).contract
    n = expectations.require(contract, rows, scope=f"day={night.day}")
    logger.info("great_expectations table=%s day=%s expectations=%d", name, night.day, n)


if __name__ == "__main__":
    job.start(main)
