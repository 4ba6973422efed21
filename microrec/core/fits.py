"""The two fits of a night, and what each may see.

Night D splits its window by the day of the event: train = days before D-1, validation = D-1, holdout = D. The fit
`trial` is evaluated on the holdout and sees the rest; the fit `final` serves the next day and sees all.
"""

import datetime as dt

from microrec.core import days
from microrec.errors import RecipeError

TRIAL = "trial"
FINAL = "final"
FITS = (TRIAL, FINAL)
TRAIN = "train"
VALIDATION = "validation"
HOLDOUT = "holdout"
SPLITS = (TRAIN, VALIDATION, HOLDOUT)
"""In the order of time."""
SPLITS_OF = {TRIAL: (TRAIN, VALIDATION), FINAL: SPLITS}
"""Splits that a fit sees, in the order of time."""


def splits_of(fit: str) -> tuple[str, ...]:
    """Return the splits that a fit sees, in the order of time.

    Raises:
        RecipeError: the fit is neither trial nor final.
    """
    if fit not in SPLITS_OF:
        raise RecipeError(f"fit {fit!r} is not one of {', '.join(FITS)}")
    return SPLITS_OF[fit]


def horizon(day: dt.date, fit: str, timezone: str = days.UTC) -> dt.datetime:
    """Return the first instant that a fit does not see: the start of the day (trial) or its end.

    Args:
        day: of the night.
        fit: trial or final.
        timezone: whose days they are.

    Returns:
        An instant in UTC.
    """
    return days.start(day, timezone) if fit == TRIAL else days.end(day, timezone)
