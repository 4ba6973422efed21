"""Erase whoever is due; two erasures of a warehouse take turns."""

import datetime as dt
import fcntl
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from microrec.config.settings import STATE
from microrec.core.digests import digest
from microrec.errors import LockHeld
from microrec.pipeline.night import Night
from microrec.privacy import erasure, manifests, receipts
from microrec.privacy.rewriting import Tally
from microrec.privacy.subjects import Subjects
from microrec.tables import store_lock
from microrec.tables.arrow import Warehouse

logger = logging.getLogger(__name__)

LOCK = "erasure.lock"
"""File of the warehouse that an erasure holds. It stays empty: what it said could be taken for somebody's id."""
STORE_LOCK = "erasure-lock"
"""Its place in an object store."""


def erase_due(night: Night, landing: str) -> list[Tally]:
    """Erase whoever asks for it and has no receipt; who asks is read once no other erasure is at work.

    Args:
        night: whose warehouse and recipe are meant; requests that have arrived are folded.
        landing: root of the landing zone, whose files that hold somebody are listed.

    Returns:
        What was rewritten, by table; nothing if another erasure has done it meanwhile.

    Raises:
        Unfinished: staged files of an attempt that may be in progress hold somebody, or an erasure of another machine
            is at work in an object store.
    """
    warehouse = night.warehouse
    if not receipts.requests(warehouse):
        erasure.tidy_requests(warehouse)
        return []
    config = night.recipe.section("privacy.erasure", erasure.Config)
    with _turn(warehouse.root), _turn_of_store(warehouse, config):
        return erasure.erase(
            warehouse,
            receipts.requests(warehouse),
            subject_of=Subjects.open(warehouse.root).of,
            config=config,
            authors_are_users=night.config.authors_are_users,
            manifest=manifests.writer(warehouse, landing),
        )


@contextmanager
def _turn(root: str) -> Iterator[None]:
    """Wait until no other process of this machine erases from a warehouse.

    The lock is the system's: it ends with the process, however that ends. A folder is of one machine, or its file
    system keeps locks for all.
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


@contextmanager
def _turn_of_store(warehouse: Warehouse, config: erasure.Config) -> Iterator[None]:
    """Hold the lock of an object store beside that of this machine, or refuse: who holds it may work for long.

    What a killed process of this machine held is taken again at once; of another machine, when it is as old as what
    attempts leave behind.

    Raises:
        Unfinished: an erasure of another machine is at work.
    """
    if "://" not in warehouse.root:
        yield
        return
    uri = f"{warehouse.root.rstrip('/')}/{STORE_LOCK}"
    me = _machine()
    stale = dt.datetime.now(dt.UTC) - dt.timedelta(hours=config.abandoned_hours)
    try:
        store_lock.take(uri, warehouse.options, me, stale_before=stale)
    except LockHeld as held:
        raise erasure.Unfinished(
            f"erase: another erasure is at work ({held}); run it again when that has ended. If it was killed, its lock"
            f" counts for {config.abandoned_hours:g} hours, or until {uri} is deleted"
        ) from held
    try:
        yield
    finally:
        store_lock.give_back(uri, warehouse.options, me)


def _machine() -> str:
    """A name of this machine that says nothing of it, drawn once."""
    file = STATE / "machine"
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x") as new:
            new.write(uuid.uuid4().hex)
    except FileExistsError:
        pass
    return file.read_text()
