"""Order what all sources propose to a user by the score of one fitted ranking model.

Reads: candidates of the night's models, models, users, suppressed_users, and what the model was fitted to.
Writes: candidates of (day, fit, source = ranked_by_<model>); none where the model learned from one kind of feedback.
"""

import logging
from functools import partial
from typing import Any

from microrec.config.recipe import ranked_by
from microrec.config.settings import settings
from microrec.errors import RecipeError
from microrec.models import registry
from microrec.pipeline import fit_tables, networks
from microrec.pipeline.night import Night
from microrec.pipeline.reranking import ScoredOrder
from microrec.runner import job, shards

logger = logging.getLogger(__name__)


def main(day: job.Day, fit: job.Fit, model: job.Model) -> None:
    """Score the union of the candidates.

    Raises:
        RecipeError: the model does not score pairs.
        MissingDay: a source of the night has no candidates.
    """
    if not registry.card(model).scores_pairs:
        rankers = ", ".join(name for name, card in registry.cards().items() if card.scores_pairs)
        raise RecipeError(f"night.rankers: {model!r} is not one of {rankers}")
    night = Night.open(day, fit=fit)
    label = networks.only_label(night, model)
    if label is not None:
        logger.warning(
            "candidates %s source=%s rows=0 reason=all_labels_%s", day, ranked_by(model), label
        )
        night.write_empty("candidates", fit=fit, source=ranked_by(model))
        return
    graph = networks.read_inputs(night, model).graph
    network = networks.load(night, model, graph, device=settings().device)
    module: Any = registry.model(model)
    order = ScoredOrder(night, partial(module.scores, network, graph))
    tables = fit_tables.read(night)
    users = fit_tables.target_users(night, tables)
    # Its network has no user who teaches nobody.
    users = users[users < tables.n_teachers]
    shards.write("candidates", order, users, day=day, fit=fit, source=ranked_by(model))


if __name__ == "__main__":
    job.start(main)
