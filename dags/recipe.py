"""What the DAGs read of the recipe: only the section [night], as they do not import `microrec.config.recipe`."""

import os
import tomllib
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from processes import HOME

GRACE_HOURS = 2.0
"""Hours between the end of a day and the start of its scheduled night, unless the recipe sets `grace_hours`."""
MODELS = ["popularity", "content", "user_neighbours", "video_neighbours", "preference_gcn"]
"""Models that propose candidates, unless the recipe sets `models`."""
TIMEZONE = "UTC"
"""Time zone of the days, unless the recipe sets `timezone`."""
FLOOR = "popularity"
"""The model that every night trains, whatever the run was limited to."""


def models() -> list[str]:
    """Return the names of the models that propose candidates."""
    return list(_night().get("models", MODELS))


def rankers() -> list[str]:
    """Return the names of the models that score the candidates of all others."""
    return list(_night().get("rankers", []))


def trained() -> list[str]:
    """Return the names of all models that are trained, each once."""
    return list(dict.fromkeys([*models(), *rankers()]))


def grace_hours() -> float:
    """Return the hours that a scheduled night waits for late rows after its day has ended."""
    return float(_night().get("grace_hours", GRACE_HOURS))


def timezone() -> ZoneInfo:
    """Return the time zone whose days are the days of nights."""
    return ZoneInfo(_night().get("timezone", TIMEZONE))


def _night() -> dict[str, Any]:
    path = Path(os.environ.get("MICROREC_RECIPE", HOME / "microrec.toml"))
    return dict(tomllib.loads(path.read_text()).get("night", {}))
