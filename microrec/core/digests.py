"""One way to digest texts, for stamps that are stored and compared with those of a later night."""

from collections.abc import Iterable
from hashlib import sha256

DIGITS = 16
"""Hexadecimal digits of a stamp."""


def digest(texts: Iterable[str], *, digits: int = DIGITS) -> str:
    """Return the digest of texts in their order, by SHA-256.

    Args:
        texts: without line breaks, which separate them.
        digits: at most 64.

    Returns:
        So many hexadecimal digits, the same on every machine.
    """
    return sha256("\n".join(texts).encode()).hexdigest()[:digits]
