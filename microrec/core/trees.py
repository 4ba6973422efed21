"""What every fit of LightGBM here has in common."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

REPRODUCIBLE: Mapping[str, Any] = MappingProxyType(
    {"deterministic": True, "force_row_wise": True, "num_threads": 1, "verbosity": -1}
)
"""Parameters with which the same rows and seed give the same trees, on any number of cores."""
