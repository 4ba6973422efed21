"""Tell each user's trends: how much weight, rising or fading, which tags and videos, until when.

Reads: models (fit final), what the model was fitted to, videos, suppressed_users, preferences as of now.
Writes: user_trends of the day; no rows if the recipe has no model of trends.
"""

import logging

from microrec.config.settings import settings
from microrec.core import knowledge
from microrec.insights import trends
from microrec.pipeline import networks
from microrec.pipeline.night import Night
from microrec.runner import job

MODEL = "multi_trend"

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Describe the trends of the final fit."""
    night = Night.open(day, fit="final")
    if MODEL not in night.config.trained:
        logger.info("user_trends day=%s rows=0 reason=no_%s_in_the_recipe", day, MODEL)
        night.write_empty("user_trends")
        return
    # Here, since most recipes end above: torch alone takes longer than such a night's task.
    from microrec.models.sequence import multi_trend

    tables, graph = networks.read_inputs(night, MODEL)
    network = networks.load(night, MODEL, graph, device=settings().device)
    rows = trends.describe(
        multi_trend.members(network, graph),
        users=tables["users"],
        served=knowledge.served(tables["users"], night.unused()),
        catalogue=trends.catalogue(tables["video_nodes"], night.read("videos")),
        until=night.horizon,
        config=night.recipe.section("candidates.trends", trends.Config),
    )
    night.write("user_trends", rows)


if __name__ == "__main__":
    job.start(main)
