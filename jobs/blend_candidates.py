"""Learn from earlier nights how likely a proposed video is liked, and order what is proposed by that.

Reads: of the nights it learns from (before the day, for the final fit the day too) candidates of fit
trial, users, video_nodes, watch_edges; of the day candidates, users, video_nodes, watch_edges, suppressed_users.
Writes: models, with an artefact folder, candidates (source = hybrid) and blend_weights of (day, fit);
the first two without rows where there is too little to learn from and the closed form stands.
"""

from functools import partial

import numpy as np
import pyarrow as pa

from microrec.candidates.ranking import closed_form, learned_blend
from microrec.config import recipe
from microrec.evaluation import truth
from microrec.models import registry
from microrec.pipeline import proposals
from microrec.runner import job, shards
from microrec.tables import arrow


def main(day: job.Day, fit: job.Fit) -> None:
    """Learn and order."""
    warehouse, night = arrow.Warehouse.open(), recipe.night()
    config = recipe.section("candidates.hybrid", learned_blend.Config)
    rng = np.random.default_rng(
        seed := registry.seed(night.seed, day=day, model=learned_blend.SOURCE)
    )
    days = proposals.nights(warehouse, night.sources, last=day, fit=fit)[: config.nights]
    some = [proposals.examples(warehouse, one, config=config, rng=rng) for one in days]
    found = proposals.known(warehouse, day=day, fit=fit)
    there = [warehouse.exists("candidates", day=day, fit=fit, source=one) for one in night.sources]
    usable = some if all(there) else []  # the trees read every source
    booster = learned_blend.fit(usable, night.sources, config=config)
    asked = proposals.asked(warehouse, found, day=day, fit=fit)
    explained = rng.permutation(asked)[: config.explained]
    pairs = proposals.some_pairs(warehouse, found, explained, day=day, fit=fit)
    if booster is None:
        warehouse.write_empty("models", day=day, fit=fit, model=learned_blend.SOURCE)
        warehouse.write_empty("candidates", day=day, fit=fit, source=learned_blend.SOURCE)
        closed = recipe.section("candidates.blend", closed_form.Config)
        told = learned_blend.closed_effects(pairs, closed, history=found.known.history)
    else:
        save = partial(learned_blend.save, booster)
        path, digest = warehouse.save_artefact(
            day=day, fit=fit, model=learned_blend.SOURCE, save=save
        )
        row = proposals.learned_from(found, days, some)
        row |= {"config": config.model_dump_json(), "seed": seed, "path": path, "digest": digest}
        warehouse.write(
            "models", pa.Table.from_pylist([row]), day=day, fit=fit, model=learned_blend.SOURCE
        )
        ask = partial(proposals.in_learned_order, warehouse, found, booster, day=day, fit=fit)
        shards.write("candidates", ask, asked, day=day, fit=fit, source=learned_blend.SOURCE)
        told = learned_blend.effects(booster, pairs)
    weights = learned_blend.weights(
        told, pairs.user, history=found.known.history, buckets=truth.BUCKETS
    )
    method = pa.repeat("closed_form" if booster is None else "learned", weights.num_rows)
    warehouse.write("blend_weights", weights.append_column("method", method), day=day, fit=fit)


if __name__ == "__main__":
    job.start(main)
