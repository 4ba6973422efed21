"""Order what all sources propose to a user by the score of one fitted ranking model.

Reads: candidates of the night's models, models, users, suppressed_users, and what the model was fitted to.
Writes: candidates of (day, fit, source = ranked_by_<model>).
"""

from functools import partial
from typing import Any

from microrec.config import recipe
from microrec.config.settings import settings
from microrec.errors import RecipeError
from microrec.models import registry
from microrec.pipeline import networks, proposals
from microrec.runner import job, shards
from microrec.tables import arrow


def main(day: job.Day, fit: job.Fit, model: job.Model) -> None:
    """Score the union of the candidates.

    Raises:
        RecipeError: the model does not score pairs.
        MissingDay: a source of the night has no candidates.
    """
    if model not in registry.SCORING:
        raise RecipeError(f"night.rankers: {model!r} is not one of {', '.join(registry.SCORING)}")
    warehouse = arrow.Warehouse.open()
    _, graph = networks.learned(warehouse, model, day=day, fit=fit)
    network = networks.network(warehouse, model, graph, day=day, fit=fit, device=settings().device)
    module: Any = registry.model(model)
    score = partial(module.scores, network, graph)
    ask = partial(proposals.in_order_of, warehouse, score, day=day, fit=fit)
    asked = proposals.asked(
        warehouse, proposals.known(warehouse, day=day, fit=fit), day=day, fit=fit
    )
    shards.write("candidates", ask, asked, day=day, fit=fit, source=recipe.ranked_by(model))


if __name__ == "__main__":
    job.start(main)
