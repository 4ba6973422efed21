"""Learn from earlier nights how likely a proposed video is liked, and order what is proposed by that.

Reads: of the nights it learns from (before the day, for the final fit the day too) candidates of fit
trial, users, video_nodes, watch_edges; of the day candidates, users, video_nodes, watch_edges.
Writes: models, with an artefact folder, candidates (source = hybrid) and blend_weights of (day, fit);
the first two without rows where there is too little to learn from and the closed form stands.
"""

from functools import partial

import numpy as np
import pyarrow as pa

from microrec import job, proposals, recipe
from microrec.candidates import blend, hybrid
from microrec.evaluation import truth
from microrec.models import registry
from microrec.tables import arrow


def main(day: job.Day, fit: job.Fit) -> None:
    """Learn and order."""
    house, night = arrow.Warehouse.open(), recipe.night()
    config = recipe.section("candidates.hybrid", hybrid.Config)
    closed = recipe.section("candidates.blend", blend.Config)
    seed = registry.seed(night.seed, day=day, model=hybrid.SOURCE)
    rng = np.random.default_rng(seed)
    days = proposals.nights(house, night.sources, last=day, fit=fit)[: config.nights]
    some = [proposals.examples(house, one, config=config, rng=rng) for one in days]
    found = proposals.read(house, night.sources, day=day, fit=fit)
    usable = some if len(found.lists) == len(night.sources) else []  # the trees read every source
    booster = hybrid.fit(usable, night.sources, config=config)
    say = partial(hybrid.pairs, facts=proposals.facts(found, day=day, fit=fit), closed=closed)
    asked = say(hybrid.some_users(found.lists, config.explained, rng=rng))
    if booster is None:
        house.write_empty("models", day=day, fit=fit, model=hybrid.SOURCE)
        house.write_empty("candidates", day=day, fit=fit, source=hybrid.SOURCE)
        method, told = (
            "closed_form",
            hybrid.closed_effects(asked, closed, history=found.known.history),
        )
    else:
        path, digest = house.save_artefact(
            day=day, fit=fit, model=hybrid.SOURCE, save=partial(hybrid.save, booster)
        )
        row = proposals.learned_from(found, days, some)
        row |= {"config": config.model_dump_json(), "seed": seed, "path": path, "digest": digest}
        house.write("models", pa.Table.from_pylist([row]), day=day, fit=fit, model=hybrid.SOURCE)
        best = partial(hybrid.order, booster, k=night.k * night.overfetch)
        blocks = hybrid.in_blocks(found.lists, size=config.block_users)
        rows = pa.concat_tables(best(say(block)) for block in blocks)
        house.write("candidates", rows, day=day, fit=fit, source=hybrid.SOURCE)
        method, told = "learned", hybrid.effects(booster, asked)
    weights = hybrid.weights(told, asked.user, history=found.known.history, buckets=truth.BUCKETS)
    weights = weights.append_column("method", pa.repeat(method, weights.num_rows))
    house.write("blend_weights", weights, day=day, fit=fit)


if __name__ == "__main__":
    job.start(main)
