"""What a fit may see."""

import datetime as dt

import pytest

from microrec.core import fits
from microrec.errors import RecipeError

DAY = dt.date(2026, 1, 4)


def test_splits_of_trial_leaves_out_the_holdout() -> None:
    assert fits.splits_of("trial") == ("train", "validation")
    assert fits.splits_of("final") == fits.SPLITS


def test_splits_of_another_fit_is_refused() -> None:
    with pytest.raises(RecipeError, match="'tomorrow' is not one of trial, final"):
        fits.splits_of("tomorrow")


@pytest.mark.parametrize(("fit", "day"), [("trial", 4), ("final", 5)])
def test_horizon_each_fit_is_the_first_unseen_midnight(fit: str, day: int) -> None:
    assert fits.horizon(DAY, fit) == dt.datetime(2026, 1, day, tzinfo=dt.UTC)


def test_horizon_is_a_local_midnight_on_days_of_23_and_25_hours() -> None:
    spring, autumn = dt.date(2026, 3, 29), dt.date(2026, 10, 25)
    for day, hours in ((spring, 23), (autumn, 25)):
        start, end = (fits.horizon(day, fit, "Europe/Berlin") for fit in ("trial", "final"))
        assert end - start == dt.timedelta(hours=hours)
