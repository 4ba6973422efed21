"""The soak's judgement of its figures, on nights that are made up; the nights themselves take minutes each."""

from typing import Any

import pytest

from tests.benchmarks import soak


def nights(figure: list[float]) -> list[dict[str, Any]]:
    return [
        {"night": number, "day": "2026-01-04", "fault": "", "findings": 9, "logs_mb": value}
        for number, value in enumerate(figure, start=1)
    ]


@pytest.mark.parametrize(
    ("figure", "grows"),
    [
        ([5.0] * 12, False),
        ([1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6, 6], False),
        ([6, 5, 6, 5, 7, 5, 6, 5, 6, 5, 7, 5], False),
        ([0.0] * 12, False),
        ([1.0 * number for number in range(12)], True),
        ([0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5], True),
    ],
    ids=["equal", "fills", "saw", "nothing", "steady", "late"],
)
def test_trend_of_a_figure_that_goes_on_growing_is_named(figure: list[float], grows: bool) -> None:
    (trend,) = soak.trends(nights(figure))
    assert trend.name == "logs_mb"
    assert trend.greatest == max(figure)
    assert trend.grows is grows


def test_result_has_a_row_a_figure_and_names_the_faults() -> None:
    lines = nights([1.0, 2.0, 3.0, 4.0])
    lines[1]["fault"] = "killed job"
    made = soak.result(lines, "a desk")
    assert made["rows"] == [["logs mb", "1.5", "3.5", "4", "1", "grows"]]
    assert len(made["columns"]) == 6
    assert "4 nights" in made["setting"]
    assert "night 2: killed job" in made["setting"]


def test_faults_of_the_soak_are_those_it_can_plant() -> None:
    assert set(soak.FAULTS.values()) == set(soak.HOW)
    assert max(soak.FAULTS) < soak.EVERY
