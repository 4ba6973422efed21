"""Erase whoever is due; two erasures of a warehouse take turns."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from microrec.config.settings import STATE
from microrec.core.digests import digest
from microrec.pipeline.night import Night
from microrec.privacy import erasure, manifests, receipts
from microrec.privacy.rewriting import Tally
from microrec.privacy.subjects import Subjects

logger = logging.getLogger(__name__)

LOCK = "erasure.lock"
"""File of the warehouse that an erasure holds. It stays empty: what it said could be taken for somebody's id."""


def erase_due(night: Night, landing: str) -> list[Tally]:
    """Erase whoever asks for it and has no receipt; who asks is read once no other erasure is at work.

    Args:
        night: whose warehouse and recipe are meant; requests that have arrived are folded.
        landing: root of the landing zone, whose files that hold somebody are listed.

    Returns:
        What was rewritten, by table; nothing if another erasure has done it meanwhile.

    Raises:
        Unfinished: staged files of an attempt that may be in progress hold somebody.
    """
    warehouse = night.warehouse
    if not receipts.requests(warehouse):
        erasure.tidy_requests(warehouse)
        return []
    with _turn(warehouse.root):
        return erasure.erase(
            warehouse,
            receipts.requests(warehouse),
            subject_of=Subjects.open(warehouse.root).of,
            config=night.recipe.section("privacy.erasure", erasure.Config),
            authors_are_users=night.config.authors_are_users,
            manifest=manifests.writer(warehouse, landing),
        )


@contextmanager
def _turn(root: str) -> Iterator[None]:
    """Wait until no other process erases from a warehouse; of an object store, no other one of this machine.

    The lock is the system's: it ends with the process, however that ends.
    """
    file = STATE / f"{digest([root])}-{LOCK}" if "://" in root else Path(root) / LOCK
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("erase waits for its turn: another erasure is at work in %s", root)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
