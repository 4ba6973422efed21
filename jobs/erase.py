"""Erase the people who ask for it, before the night reads anything.

Reads: suppressed_users (its greatest day), erasures; where somebody is due, every table with a personal column,
models, and the landing files.
Writes: erasures; and all of these tables, models and releases, without the people. Nobody due: nothing.
"""

import logging

from microrec.config import recipe
from microrec.config.settings import settings
from microrec.privacy import erasure, manifests, receipts
from microrec.privacy.subjects import Subjects
from microrec.runner import job
from microrec.tables.arrow import Warehouse

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Erase whoever is due; files of an attempt that may be in progress are left to the next night."""
    warehouse = Warehouse.open()
    asking = receipts.requests(warehouse)
    logger.info("erase day=%s requests=%d", day, len(asking))
    if not asking:
        return
    current = recipe.current()
    try:
        erasure.erase(
            warehouse,
            asking,
            subject_of=Subjects.open(warehouse.root).of,
            config=current.section("privacy.erasure", erasure.Config),
            authors_are_users=current.night.authors_are_users,
            manifest=manifests.writer(warehouse, settings().landing),
        )
    except erasure.Unfinished as unfinished:
        logger.warning("erase day=%s without receipts: %s", day, unfinished)


if __name__ == "__main__":
    job.start(main)
