"""Pseudonyms: what stands for a person where the person's id must not.

A subject is the HMAC-SHA256 (RFC 2104) of a user_id under a secret key: the same id has the same subject, and without
the key nobody can tell whose it is.
"""

import hmac
import os
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Self

from microrec.config.settings import settings
from microrec.errors import BadArgument

KEY_FILE = "privacy.key"
"""Name of the file, in the warehouse, of a key that nobody has set."""
LEAST_KEY = 16
"""Characters of a key, at least."""


@dataclass(frozen=True)
class Subjects:
    """Gives ids their subjects."""

    key: bytes = field(repr=False)

    @classmethod
    def open(cls, root: str) -> Self:
        """Return the subjects of a warehouse.

        The key is that of the settings (`MICROREC_PRIVACY_KEY`); without one it is drawn once and kept in the
        warehouse, readable by its owner alone.

        Args:
            root: of the warehouse, a folder or the URI of an object store.

        Raises:
            BadArgument: the key is too short, or the warehouse is no folder and the settings have no key.
        """
        key = settings().privacy_key
        if key is None:
            key = _kept_key(root)
        if len(key) < LEAST_KEY:
            raise BadArgument(
                f"MICROREC_PRIVACY_KEY: {len(key)} characters, at least {LEAST_KEY} are needed"
            )
        return cls(key.encode())

    @property
    def key_id(self) -> str:
        """Eight characters that tell one key from another, and nothing about it."""
        return self.of("")[:8]

    def of(self, user_id: str) -> str:
        """Return the subject of an id, 64 hexadecimal characters."""
        return hmac.new(self.key, user_id.encode(), sha256).hexdigest()


def _kept_key(root: str) -> str:
    """The key in the warehouse; drawn if there is none."""
    if "://" in root:
        raise BadArgument(
            "MICROREC_PRIVACY_KEY: not set; a warehouse in an object store keeps no key of its own"
        )
    path = Path(root) / KEY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Whole or not at all, whoever draws it at the same time.
        drawn = path.with_name(f"{KEY_FILE}-{secrets.token_hex(8)}")
        drawn.touch(mode=0o600)
        drawn.write_text(secrets.token_hex(32) + "\n")
        try:
            os.link(drawn, path)
        except FileExistsError:
            pass
        finally:
            drawn.unlink()
    return path.read_text().strip()
