"""Check what was written, as written, and make it the day's release.

Reads: recommendations, fallback_recommendations, rewatch_recommendations, user_trends, clip_interest, exit_points,
blend_weights, gate_results (fits trial and oracle), nights, users, video_nodes, watch_edges, suppressed_users of D.
Writes: gate_results (fit final) and metrics (stage release) of the day; then, only if no gate of
severity hold failed in any fit that no reason overrules, and Great Expectations agrees, the day's row of
releases. Else, or if the same rows were withdrawn, it ends with GateHeld, CheckFailed or, if no oracle was
asked, MissingDay, and the release before stands. The last line it logs says whether the latest moved.
"""

import logging

from microrec.config import recipe
from microrec.evaluation import gate, report, subjects
from microrec.pipeline import night_inputs, promotion
from microrec.release import reader, record, rollback
from microrec.runner import job
from microrec.tables import arrow, expectations

logger = logging.getLogger(__name__)

NIGHT = ("users", "video_nodes", "watch_edges", "suppressed_users")
FIGURES = ("metrics", "gate_results")


def main(day: job.Day) -> None:
    """Publish the day."""
    night, warehouse = recipe.night(), arrow.Warehouse.open()
    reasons = [
        promotion.require(warehouse.read("gate_results", day=day, fit=fit), day=day, fit=fit)
        for fit in ("trial", "oracle")
    ]
    mine = warehouse.read("recommendations", day=day)
    shared = warehouse.read("fallback_recommendations", day=day)
    tables = {name: warehouse.read(name, day=day) for name in NIGHT}
    asks = recipe.section("evaluation.gate", gate.Config)
    own = night.authors_are_users
    everyones = subjects.by_id(mine, night=tables, k=night.k, authors_are_users=own)
    judged = gate.check(everyones, config=asks)
    anyones = subjects.fallback(shared, videos=tables["video_nodes"], k=night.k)
    judged += gate.check(anyones, config=asks, checks=gate.LAWS, prefix="fallback_")
    warehouse.write("gate_results", gate.table(judged), day=day, fit="final")
    figures = report.release(mine, shared)
    warehouse.write("metrics", report.table(figures), day=day, stage="release")
    gate.require(gate.table(judged), day=day, fit="final")
    read = {"recommendations": mine, "fallback_recommendations": shared}
    for name in (name for name in reader.RESULTS if name not in FIGURES):
        rows = read[name] if name in read else warehouse.read(name, day=day)
        evaluated = expectations.require(warehouse.table(name).contract, rows, scope=f"day={day}")
        logger.info("great_expectations table=%s day=%s expectations=%d", name, day, evaluated)
    row = record.record(
        warehouse, day=day, inputs=night_inputs.planned_inputs(warehouse, day), reason=reasons[0]
    )
    rollback.refuse_withdrawn(row, warehouse=warehouse, day=day)
    warehouse.write("releases", row, day=day)
    moved = reader.latest().day == day
    logger.info("release day=%s id=%s latest=%s", day, reader.of(day).id, moved)


if __name__ == "__main__":
    job.start(main)
