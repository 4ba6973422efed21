"""Measure every source and the blend on the held-out day, and decide whether the night goes on.

Reads: candidates and fusion_weights of fit trial, users, video_nodes, watch_edges, suppressed_users, gate_results (fit
arrivals) and metrics (stages events and modality_graph) of the day; the release, the metrics (stage evaluation) and
the number of video_features of the day before; metrics (stages evaluation and gains) of the nights before;
modality_edges and video_features where the recipe asks for variety.
Writes: metrics (stages evaluation and gains) and gate_results (fit trial) of the day; then, if a gate of severity
hold failed that no reason overrules, ends with GateHeld. Judged are final lists, not models; a learned blend that is
shown to be worse than the closed form gives way to it, and a blend that is worse than its best source to that source.
"""

from functools import partial

import numpy as np

from microrec.evaluation import contest, gate, ranking, report, truth
from microrec.evaluation.subjects import by_idx
from microrec.pipeline import (
    absence,
    arrival_figures,
    contestants,
    fit_tables,
    fusing,
    gains,
    graph_figures,
    last_release,
    new_videos,
    promotion,
)
from microrec.pipeline.lists import ListMaker
from microrec.pipeline.night import Night
from microrec.pipeline.proposals import Proposals
from microrec.runner import job


def main(day: job.Day) -> None:
    """Evaluate the trial fit."""
    night = Night.open(day, fit="trial")
    asks = night.recipe.section("evaluation.gate", gate.Config)
    config = night.recipe.section("evaluation.ranking", ranking.Config)
    tables = fit_tables.read(night)
    note = arrival_figures.gate_detail(night, "positives")
    right = truth.truth(tables.edges, tables.videos, note=note)
    users = np.intersect1d(fit_tables.served_users(night, tables), right.users)
    maker = ListMaker(night, tables, Proposals.open(night))
    candidates = maker.proposals.lists()
    rng = np.random.default_rng(night.seed)
    values = ranking.means(candidates, right, metric=asks.metric, config=config)
    gain = partial(ranking.gain, metric=asks.metric, config=config, generator=rng)
    ours, explored = contestants.made(
        maker, candidates, users=users, best=gate.best_source(values), truth=right, gain=gain
    )
    before = last_release.lists(night, tables)
    yardstick = contest.Yardstick(max(values.values()), night.config.window_days)
    lists, judged, churn = contest.held(
        ours, before, right, gain=gain, yardstick=yardstick, config=asks
    )
    figures = ranking.measure({**candidates, **lists}, right, config=config, generator=rng)
    worth = fusing.worth(night, tables, maker.proposals, resamples=config.resamples)
    night.write("metrics", report.table([*figures, *explored, *worth]), stage="evaluation")
    clusters = gains.by_cluster(night, tables, {**candidates, **lists}, right)
    night.write("metrics", report.table(clusters), stage=gains.STAGE)
    blend = by_idx(lists[report.BLEND], users=users, known=tables.knowledge, k=night.config.k)
    absent = {**absence.absent_models(night), **absence.mute_rankers(night)}
    values_before = last_release.metric_values(night, asks.metric)
    judged += [
        *gate.check(blend, config=asks),
        *gains.judged(night, clusters, figures, source_value=yardstick.source_value),
        *gate.of_sources(candidates, figures, values_before, absent=absent, config=asks),
        *gate.guardrails(figures, churn=churn, config=asks),
        *gate.hubs(graph_figures.crowding(night), config=asks),
        *new_videos.judged(night, {**candidates, **lists}, right, figures, gain=gain),
    ]
    results = gate.table([*judged, gate.verdict(judged)])
    night.write("gate_results", results, fit="trial")
    promotion.require(results, day=day, fit="trial")


if __name__ == "__main__":
    job.start(main)
