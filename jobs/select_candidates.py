"""Ask one fitted model for the best unseen videos of each user, more than a list needs.

Reads: models, users, video_nodes, watch_edges, suppressed_users of the day.
Writes: candidates of (day, fit, source = model).

The trial asks only for users who may be evaluated: those with a viewing on the held-out day.
"""

from functools import partial

import numpy as np

from microrec import job, recipe, shards
from microrec.candidates import filters, retrieval
from microrec.errors import RecipeError
from microrec.models import fitted
from microrec.tables import arrow


def main(day: job.Day, fit: job.Fit, model: job.Model) -> None:
    """Select the candidates of one model."""
    night, house = recipe.night(), arrow.Warehouse.open()
    config = recipe.section("candidates.retrieval", retrieval.Config)
    users, edges = house.read("users", day=day), house.read("watch_edges", day=day)
    videos = house.read("video_nodes", day=day)
    authors = users if night.authors_are_users else None
    known = filters.knowledge(
        edges, videos, n_users=users.num_rows, fit=fit, day=day, authors=authors
    )
    asked = filters.served(users, house.read("suppressed_users", day=day))
    if fit == "trial":
        asked = np.intersect1d(asked, filters.viewers(edges, "holdout"))
    k = night.k * night.overfetch
    found = fitted.load(house.find_artefact(day=day, fit=fit, model=model))
    if isinstance(found, fitted.Ranker):
        raise RecipeError(
            f"model {model!r} proposes nothing: name it in night.rankers, not in night.models"
        )
    ask = partial(retrieval.best, found, known=known, k=k, config=config)
    shards.write("candidates", ask, asked, day=day, fit=fit, source=model)


if __name__ == "__main__":
    job.start(main)
