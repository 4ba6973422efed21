"""Ask one fitted model for the best unseen videos of each user, more than a list needs.

Reads: models, users, video_nodes, watch_edges, private_users, private_edges, suppressed_users, preferences as of now.
Writes: candidates of (day, fit, source = model).

The trial asks only for users who may be evaluated: those with a viewing on the held-out day.
"""

from functools import partial
from typing import Any

import numpy as np

from microrec.candidates.retrieval import exact
from microrec.core import fitted
from microrec.errors import RecipeError
from microrec.models import registry
from microrec.pipeline import fit_tables, served_models
from microrec.pipeline.night import Night
from microrec.runner import job, shards


def main(day: job.Day, fit: job.Fit, model: job.Model) -> None:
    """Select the candidates of one model."""
    night = Night.open(day, fit=fit)
    tables = fit_tables.read(night)
    learned = served_models.load(night, model, tables)
    if isinstance(learned, fitted.Ranker):
        raise RecipeError(
            f"model {model!r} proposes nothing: name it in night.rankers, not in night.models"
        )
    users = fit_tables.target_users(night, tables)
    options: dict[str, Any] = {
        "known": tables.knowledge,
        "k": night.config.k * night.config.overfetch,
        "config": night.recipe.section("candidates.retrieval", exact.Config),
    }
    if isinstance(learned, fitted.Embeddings):
        teachers = users[users < tables.n_teachers]
        rng = np.random.default_rng(registry.seed(night.seed, day=day, model=model))
        options["index"] = exact.index(learned, users=teachers, rng=rng, **options)
    best = partial(exact.best, learned, **options)
    shards.write("candidates", best, users, day=day, fit=fit, source=model)


if __name__ == "__main__":
    job.start(main)
