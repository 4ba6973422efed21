"""Weigh the sources by what the held-out day liked, and learn from earlier nights how to order what they propose.

Reads: of the nights it learns from (before the day, for the final fit the day too) candidates and fusion_weights of fit
trial, users, video_nodes, watch_edges; of the day candidates, users, video_nodes, watch_edges, private_users,
private_edges, suppressed_users; for the final fit fusion_weights, gate_results and metrics (stage evaluation) of the
trial.
Writes: fusion_weights, models, with an artefact folder, candidates (source = hybrid) and blend_weights of (day, fit);
models and candidates without rows where there is too little to learn from and the closed form stands.
"""

import numpy as np
import pyarrow as pa

from microrec.candidates.ranking import learned_blend
from microrec.evaluation import truth
from microrec.models import registry
from microrec.pipeline import blending, fit_tables, fusing
from microrec.pipeline.night import Night
from microrec.pipeline.proposals import Proposals
from microrec.runner import job, shards


def main(day: job.Day, fit: job.Fit) -> None:
    """Learn and order."""
    night = Night.open(day, fit=fit)
    config = night.recipe.section("candidates.hybrid", learned_blend.Config)
    seed = registry.seed(night.seed, day=day, model=learned_blend.SOURCE)
    rng = np.random.default_rng(seed)
    tables = fit_tables.read(night)
    proposals = Proposals.open(night)
    fusing.write(night, tables, proposals)
    days = blending.teaching_days(night)[: config.nights]
    examples = [
        blending.examples(night.at(day, fit="trial"), config=config, rng=rng) for day in days
    ]
    usable = examples if proposals.complete else []  # the trees read every source
    blend = learned_blend.fit(usable, night.config.sources, config=config)
    users = fit_tables.target_users(night, tables)
    explained = rng.permutation(users[users < tables.n_teachers])[: config.explained]
    pairs = blending.pairs_of(proposals, tables, explained)
    history = tables.knowledge.history
    if blend is None:
        night.write_empty("models", fit=fit, model=learned_blend.SOURCE)
        night.write_empty("candidates", fit=fit, source=learned_blend.SOURCE)
        effects = learned_blend.closed_effects(pairs, fusing.weights(night), history=history)
    else:
        row = blending.training_summary(tables, days, examples)
        row |= {"config": config.model_dump_json(), "seed": seed}
        blending.save(night, blend, row)
        order = blending.LearnedOrder(blend, tables, proposals)
        shards.write("candidates", order, users, day=day, fit=fit, source=learned_blend.SOURCE)
        effects = learned_blend.effects(blend, pairs)
    weights = learned_blend.weights(effects, pairs.user, history=history, buckets=truth.BUCKETS)
    method = pa.repeat("closed_form" if blend is None else "learned", weights.num_rows)
    night.write("blend_weights", weights.append_column("method", method), fit=fit)


if __name__ == "__main__":
    job.start(main)
