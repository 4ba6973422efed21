"""Measure every source and the blend on the held-out day, and decide whether the night goes on.

Reads: candidates of fit trial, users, video_nodes, watch_edges, suppressed_users of the day, the release
and the metrics (stage evaluation) of the day before; also modality_edges where the recipe asks for
variety or exploration.
Writes: metrics (stage evaluation) and gate_results (fit trial) of the day; then, if a gate of severity
hold failed that no reason overrules, ends with GateHeld. Judged are final lists, not models; a learned
blend that is shown to be worse than the closed form gives way to it.
"""

from functools import partial

import numpy as np

from microrec.config import recipe
from microrec.core import knowledge
from microrec.evaluation import contest, gate, ranking, report, truth
from microrec.evaluation.subjects import by_idx
from microrec.pipeline import last_release, promotion, proposals
from microrec.runner import job
from microrec.tables import arrow


def main(day: job.Day) -> None:
    """Evaluate the trial fit."""
    night, warehouse, fit = recipe.night(), arrow.Warehouse.open(), "trial"
    found = proposals.read(warehouse, night.sources, day=day, fit=fit)
    right, known = truth.truth(found.edges, found.videos), found.known
    served = knowledge.served(found.users, warehouse.read("suppressed_users", day=day))
    asked = np.intersect1d(served, right.users)
    select = proposals.selection(warehouse, found, users=asked, day=day, fit=fit)
    asks = recipe.section("evaluation.gate", gate.Config)
    config = recipe.section("evaluation.ranking", ranking.Config)
    rng = np.random.default_rng(night.seed)
    gain = partial(ranking.gain, metric=asks.metric, config=config, generator=rng)
    ours = {report.CLOSED_FORM: select(None)}
    if found.learned is not None:
        ours[report.LEARNED] = select(found.learned)
    before = last_release.lists(found, day=day)
    lists, judged, churn = contest.held(ours, before, right, gain=gain, config=asks)
    figures = ranking.measure({**found.lists, **lists}, right, config=config, generator=rng)
    warehouse.write("metrics", report.table(figures), day=day, stage="evaluation")
    subject = by_idx(
        lists[report.BLEND],
        users=asked,
        seen=known.barred.nonzero(),
        eligible=known.eligible,
        k=night.k,
    )
    judged += [*gate.check(subject, config=asks), gate.better_than_popularity(figures, config=asks)]
    judged += [gate.alive(found.lists), gate.plausible(figures, config=asks)]
    then = last_release.figures(warehouse, asks.metric, day=day)
    judged.append(gate.steady(figures, then, config=asks))
    judged += gate.guardrails(figures, churn=churn, config=asks)
    results = gate.table([*judged, gate.verdict(judged)])
    warehouse.write("gate_results", results, day=day, fit=fit)
    promotion.require(results, day=day, fit=fit)


if __name__ == "__main__":
    job.start(main)
