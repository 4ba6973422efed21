"""Remember what people have asked for, and erase those who ask for that, before the night reads anything.

Reads: landing raw_(privacy_requests, preferences); erasures; where somebody is due, every table with a personal column,
models, and the landing files.
Writes: as of now privacy_ledger, suppressed_users, withheld_periods, preferences, and erasures; all tables, models and
releases without the people. Nobody due: nothing of these.
"""

import logging

from microrec.config.settings import settings
from microrec.pipeline import erasing, requests
from microrec.pipeline.night import Night
from microrec.privacy import erasure, receipts
from microrec.runner import job

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Erase whoever is due; files of an attempt that may be in progress are left to the next night."""
    night = Night.open(day)
    requests.fold(night)
    logger.info("erase day=%s requests=%d", day, len(receipts.requests(night.warehouse)))
    try:
        erasing.erase_due(night, settings().landing)
    except erasure.Unfinished as unfinished:
        logger.warning("erase day=%s without receipts: %s", day, unfinished)


if __name__ == "__main__":
    job.start(main)
