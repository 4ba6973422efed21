"""Tell each user's trends: how much weight, rising or fading, which tags and videos, until when.

Reads: models (fit final), what the model was fitted to, videos, suppressed_users of the day.
Writes: user_trends of the day; no rows if the recipe has no model of trends.
"""

import logging

from microrec.config import recipe
from microrec.config.settings import settings
from microrec.core import fits, knowledge
from microrec.insights import trends
from microrec.models.sequence import multi_trend
from microrec.pipeline import networks
from microrec.runner import job
from microrec.tables import arrow

MODEL = "multi_trend"

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Describe the trends of the final fit."""
    warehouse = arrow.Warehouse.open()
    if MODEL not in recipe.night().trained:
        logger.info("user_trends day=%s rows=0 reason=no_%s_in_the_recipe", day, MODEL)
        warehouse.write_empty("user_trends", day=day)
        return
    tables, graph = networks.learned(warehouse, MODEL, day=day, fit="final")
    device = settings().device
    network = networks.network(warehouse, MODEL, graph, day=day, fit="final", device=device)
    rows = trends.describe(
        multi_trend.members(network, graph),
        users=tables["users"],
        served=knowledge.served(tables["users"], warehouse.read("suppressed_users", day=day)),
        known=trends.catalogue(tables["video_nodes"], warehouse.read("videos", day=day)),
        until=fits.horizon(day, "final"),
        config=recipe.section("candidates.trends", trends.Config),
    )
    warehouse.write("user_trends", rows, day=day)


if __name__ == "__main__":
    job.start(main)
