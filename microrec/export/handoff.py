"""The order of steps by which a store comes to serve a release, the same for every store."""

import datetime as dt
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

from microrec.errors import MicrorecError
from microrec.export.contents import Contents
from microrec.export.target import Served, Target
from microrec.release.reader import Release

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What an export did."""

    release: str
    """Id of the release that is served."""
    day: dt.date
    valid_until: dt.datetime
    lists: int
    action: str
    """exported, or renewed where the release was served already."""


def export(
    target: Target,
    release: Callable[[], Release],
    *,
    at: dt.datetime,
    models: Sequence[str] = (),
) -> Outcome:
    """Have a store serve a release, instead of what it served.

    Args:
        target: the store.
        release: returns the release. It is called once no other export is at work, so that of two exports of the
            latest release the later one never serves the older.
        at: now; nothing is exported that has expired.
        models: whose vectors are served, too.

    Returns:
        What was done.

    Raises:
        MissingDay: there is no such release, or no such vectors.
        MicrorecError: the release has expired.
    """
    with target.turn():
        chosen = release()
        if chosen.expired(at):
            raise MicrorecError(
                f"releases[day={chosen.day}]: {chosen.id} expired at {chosen.valid_until:%Y-%m-%d %H:%M} UTC:"
                " what the store serves stands"
            )
        target.sweep()
        contents = Contents(chosen, models)
        before = target.served()
        if before and before.content == contents.digest and target.renew(before):
            logger.info("export release=%s renewed until=%s", chosen.id, chosen.valid_until)
            return Outcome(chosen.id, chosen.day, chosen.valid_until, before.lists, "renewed")
        served = Served(
            chosen.id, chosen.day, chosen.valid_until, secrets.token_hex(6), contents.digest
        )
        served = served._replace(lists=target.stage(contents, served))
        target.switch(served)
        target.sweep()
    logger.info("export release=%s lists=%d", chosen.id, served.lists)
    return Outcome(chosen.id, chosen.day, chosen.valid_until, served.lists, "exported")


def remove_withdrawn(target: Target, named: Callable[[str], Release]) -> int:
    """Take out of a store whoever has left the release that it serves: erased, opted out, or no profiling.

    Args:
        target: the store.
        named: returns the release with an id (`reader.named`).

    Returns:
        Number of users whose list was taken out.

    Raises:
        MissingDay: the release that is served is no longer kept; export the latest one.
    """
    with target.turn():
        served = target.served()
        if served is None:
            return 0
        contents = Contents(named(served.release))
        removed = target.keep(contents.users, contents.profiled)
    logger.info("export release=%s users_removed=%d", served.release, removed)
    return removed
