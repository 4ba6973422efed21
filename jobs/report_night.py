"""Write the page of the night: whether there is a release, why, and what the night was like.

Reads: releases, metrics, gate_results, blend_weights, candidates (counts), fallback_recommendations, similar_videos,
exit_points, user_trends of the day, as far as it has them; metrics of the nights before; the log of every table.
Writes: reports/day=D.html beside the tables. It runs after every night, also one that was held or that failed.
"""

import logging

from microrec.pipeline.night import Night
from microrec.report import facts, page
from microrec.runner import job
from microrec.tables import pages

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Report the night."""
    night = Night.open(day)
    of_night = facts.gather(
        night.warehouse,
        day,
        sources=night.config.models,
        least_people=night.config.least_people,
    )
    path = pages.save(night.warehouse, day, page.render(of_night))
    logger.info("report day=%s verdict=%s path=%s", day, of_night.verdict.word, path)


if __name__ == "__main__":
    job.start(main)
