"""Which store an address names."""

import re
from pathlib import Path

from microrec.core import messages
from microrec.errors import BadArgument
from microrec.export.files import JSON_LINES, PARQUET, Files
from microrec.export.target import Target

ADDRESSES = "redis://, rediss://, postgresql://, parquet:FOLDER or jsonl:FOLDER"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


def open_store(address: str, name: str = "microrec") -> Target:
    """Return the store at an address.

    Args:
        address: one of `ADDRESSES`; it may hold a password and is in no message.
        name: what the store's keys begin with (Redis), or the schema of its tables (Postgres).

    Returns:
        The store.

    Raises:
        BadArgument: the address or the name is not one.
        MicrorecError: the extra of the store is not installed.
    """
    if not _NAME.fullmatch(name):
        raise BadArgument(
            f"name {messages.shown(name)}: lower-case letters, digits and _, at most 31"
        )
    scheme, _, rest = address.partition(":")
    if scheme in (PARQUET, JSON_LINES) and rest and "://" not in address:
        return Files(Path(rest), scheme)
    if scheme in ("redis", "rediss") and rest.startswith("//"):
        from microrec.export.redis import Redis

        return Redis(address, name)
    if scheme in ("postgresql", "postgres") and rest.startswith("//"):
        from microrec.export.postgres import Postgres

        return Postgres(address, name)
    raise BadArgument(f"export: the address is none of {ADDRESSES}")
