"""Ask one fitted model for the best unseen videos of each user, more than a list needs.

Reads: models, users, video_nodes, watch_edges, suppressed_users of the day.
Writes: candidates of (day, fit, source = model).

The trial asks only for users who may be evaluated: those with a viewing on the held-out day.
"""

from functools import partial
from typing import Any

import numpy as np

from microrec.candidates.retrieval import exact
from microrec.config import recipe
from microrec.core import fitted
from microrec.errors import RecipeError
from microrec.models import registry
from microrec.pipeline import proposals
from microrec.runner import job, shards
from microrec.tables import arrow


def main(day: job.Day, fit: job.Fit, model: job.Model) -> None:
    """Select the candidates of one model."""
    night, warehouse = recipe.night(), arrow.Warehouse.open()
    learned = fitted.load(warehouse.find_artefact(day=day, fit=fit, model=model))
    if isinstance(learned, fitted.Ranker):
        raise RecipeError(
            f"model {model!r} proposes nothing: name it in night.rankers, not in night.models"
        )
    found = proposals.known(warehouse, day=day, fit=fit)
    asked = proposals.asked(warehouse, found, day=day, fit=fit)
    how: dict[str, Any] = {
        "known": found.known,
        "k": night.k * night.overfetch,
        "config": recipe.section("candidates.retrieval", exact.Config),
    }
    if isinstance(learned, fitted.Embeddings):
        rng = np.random.default_rng(registry.seed(night.seed, day=day, model=model))
        how["index"] = exact.index(learned, users=asked, rng=rng, **how)
    ask = partial(exact.best, learned, **how)
    shards.write("candidates", ask, asked, day=day, fit=fit, source=model)


if __name__ == "__main__":
    job.start(main)
