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
UNBLOCK, RESET = "unblock", "reset"
NO_EXPLORATION, NO_PROFILING, NO_TEACHING = "no_exploration", "no_profiling", "no_teaching"
TAKEN_BACK: Mapping[str, str] = MappingProxyType(
    {"exploration": NO_EXPLORATION, "profiling": NO_PROFILING, "teaching": NO_TEACHING}
)
"""Wishes that take another one back, by name."""
CONSENTS = ("profiling", "teaching")
"""Of those, the ones that let more be done with what the user watches."""
PREFERENCES = (*BLOCKS, UNBLOCK, RESET, *TAKEN_BACK.values(), *TAKEN_BACK)
"""What a user may want of their lists."""
