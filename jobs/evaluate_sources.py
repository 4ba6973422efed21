"""Measure every source and the blend on the held-out day, and decide whether the night goes on.

Reads: candidates of fit trial, users, video_nodes, watch_edges, suppressed_users of the day.
Writes: metrics (stage evaluation) and gate_results (fit trial) of the day; then, if a gate of
severity hold failed, ends with GateHeld. Judged is the list after filter-and-fill, not a model.
"""

import logging

import numpy as np

from microrec import job, recipe
from microrec.candidates import blend, filters, final, ladder
from microrec.evaluation import gate, ranking, report, truth
from microrec.evaluation.lists import by_idx
from microrec.tables import arrow

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Evaluate the trial fit."""
    night, house = recipe.night(), arrow.Warehouse.open()
    users, edges = house.read("users", day=day), house.read("watch_edges", day=day)
    videos = house.read("video_nodes", day=day)
    right = truth.truth(edges, videos)
    known = filters.knowledge(edges, videos, n_users=users.num_rows, fit="trial", day=day)
    steps = recipe.section("candidates.ladder", ladder.Config)
    rungs = ladder.rungs(edges, videos, known=known, fit="trial", day=day, config=steps)
    lists = {
        source: house.read("candidates", day=day, fit="trial", source=source)
        for source in night.sources
        if house.exists("candidates", day=day, fit="trial", source=source)
    }
    for source in sorted(set(night.sources) - set(lists)):
        logger.warning("blend day=%s fit=trial missing_source=%s", day, source)
    weights = recipe.section("candidates.blend", blend.Config)
    served = filters.served(users, house.read("suppressed_users", day=day))
    asked = np.intersect1d(served, right.users)
    blended = final.select(
        lists, users=asked, known=known, ladder=ladder.climb(rungs), k=night.k, config=weights
    )
    figures = ranking.measure(
        {**lists, report.BLEND: blended},
        right,
        config=recipe.section("evaluation.ranking", ranking.Config),
        generator=np.random.default_rng(night.seed),
    )
    house.write("metrics", report.table(figures), day=day, stage="evaluation")
    asks = recipe.section("evaluation.gate", gate.Config)
    subject = by_idx(
        blended, users=asked, seen=known.seen.nonzero(), eligible=known.eligible, k=night.k
    )
    judged = [*gate.check(subject, config=asks), gate.better_than_popularity(figures, config=asks)]
    house.write("gate_results", gate.table(judged), day=day, fit="trial")
    gate.require(gate.table(judged), day=day, fit="trial")


if __name__ == "__main__":
    job.start(main)
