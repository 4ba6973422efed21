"""What a person may ask for, and the spellings in which people ask for it.

A spelling is compared in lower case, with blanks around it gone, and hyphens and blanks within it as underscores.
"""

from collections.abc import Mapping
from types import MappingProxyType

SPELLINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "opt_out": ("opt_out", "optout"),
        "opt_in": ("opt_in", "optin"),
        "erase": ("erase", "erasure", "delete", "deletion", "forget"),
    }
)
"""How each kind may be written."""
SEPARATORS = "[-_ ]+"
"""Regular expression of what stands for one underscore."""

BLOCKS = ("block_video", "block_author", "block_tag")
"""Wishes that name what is not to be listed."""
UNBLOCK, RESET, NO_EXPLORATION, EXPLORATION = "unblock", "reset", "no_exploration", "exploration"
PREFERENCES = (*BLOCKS, UNBLOCK, RESET, NO_EXPLORATION, EXPLORATION)
"""What a user may want of their lists."""
