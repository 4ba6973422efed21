"""Public docstrings state arguments, results and shapes at least as often as they once did."""

import pytest

from tests import docstrings

FLOORS = {"args": 0.95, "returns": 0.95, "shapes": 0.95}
"""Least share of the public functions of microrec, jobs and dags, by count of `tests.docstrings`."""


@pytest.mark.parametrize("count", docstrings.COUNTS)
def test_docstrings_share_reaches_its_floor(count: str) -> None:
    met, functions = docstrings.shares([docstrings.ROOT / name for name in docstrings.FOLDERS])[
        count
    ]
    assert met / functions >= FLOORS[count], (
        f"{met} of {functions}: python -m tests.docstrings lists those that lack it"
    )
