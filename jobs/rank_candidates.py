"""Order what all sources propose to a user by the score of one fitted ranking model.

Reads: candidates of the night's models, models, and what the model was fitted to.
Writes: candidates of (day, fit, source = ranked_by_<model>).
"""

from typing import Any

from microrec import job, networks, recipe
from microrec.candidates import reranking
from microrec.errors import RecipeError
from microrec.models import registry
from microrec.settings import settings
from microrec.tables import arrow


def main(day: job.Day, fit: job.Fit, model: job.Model) -> None:
    """Score the union of the candidates.

    Raises:
        RecipeError: the model does not score pairs.
        MissingDay: a source of the night has no candidates.
    """
    if model not in registry.SCORING:
        raise RecipeError(f"night.rankers: {model!r} is not one of {', '.join(registry.SCORING)}")
    night, house = recipe.night(), arrow.Warehouse.open()
    _, graph = networks.learned(house, model, day=day, fit=fit)
    network = networks.network(house, model, graph, day=day, fit=fit, device=settings().device)
    lists = {
        source: house.read("candidates", day=day, fit=fit, source=source) for source in night.models
    }
    users, videos = reranking.union(lists)
    module: Any = registry.model(model)
    scores = module.scores(network, graph, users, videos)
    rows = reranking.by_score(users, videos, scores, k=night.k * night.overfetch)
    house.write("candidates", rows, day=day, fit=fit, source=recipe.ranked_by(model))


if __name__ == "__main__":
    job.start(main)
