"""New videos cost a trial's lists no more than the recipe allows."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from microrec.config.settings import settings
from microrec.evaluation.report import CLOSED_FORM, Figure
from microrec.evaluation.truth import Truth
from microrec.pipeline import contestants
from microrec.pipeline.night import Night

TRUTH = Truth(
    users=np.array([0, 1]),
    row=np.array([0, 1]),
    video=np.array([3, 4]),
    history=np.zeros(2, np.int64),
    viewers=np.ones(5, np.int64),
    eligible=np.ones(5, np.bool_),
)
"""User 0 goes on to like what the lists have first, user 1 does not: ndcg@20 is .5."""
FIRST = pa.table(
    {"user_idx": [0, 1], "rank": [1, 1], "video_idx": [3, 3], "source": ["content", "content"]}
)


@dataclass(frozen=True)
class Maker:
    """Says which share it was asked for."""

    night: Night
    explored_share: float | None = None
    asked: list[float | None] = field(default_factory=list)

    def contestants(self, lists: Any, *, users: Any, best: str) -> dict[str, pa.Table]:
        self.asked.append(self.explored_share)
        return {CLOSED_FORM: FIRST}


def made(
    place: Path, monkeypatch: pytest.MonkeyPatch, price: float, high: float | None, places: int = 2
) -> tuple[list[float | None], list[Figure]]:
    (place / "recipe.toml").write_text(
        f"[candidates.exploration]\nplaces = {places}\nmost_price = 0.002\nleast_users = 0.1\n"
    )
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()

    def gain(lists: Mapping[str, pa.Table], truth: Truth) -> list[Figure]:
        return [Figure("-minus-".join(lists), "ndcg@20", "all", price, 2, -1.0, high)]

    maker: Any = Maker(Night.open(dt.date(2026, 1, 5), fit="trial"))
    lists, figures = contestants.made(
        maker, {}, users=TRUTH.users, best="content", truth=TRUTH, gain=gain
    )
    assert lists == {CLOSED_FORM: FIRST}
    return maker.asked, figures


@pytest.mark.parametrize(
    ("price", "high", "share"),
    [
        (-0.004, -0.002, 0.25),
        (-0.004, -0.0009, 1.0),
        (-0.004, None, 1.0),
        (0.001, 0.002, 1.0),
        (-0.1, -0.05, 0.1),
    ],
)
def test_made_pays_no_more_for_new_videos_than_the_recipe_allows(
    place: Path, monkeypatch: pytest.MonkeyPatch, price: float, high: float | None, share: float
) -> None:
    """.002 of .5 may be paid: .001."""
    asked, figures = made(place, monkeypatch, price, high)
    assert asked == ([None] if share == 1.0 else [None, pytest.approx(share)])
    assert [(f.name, f.metric) for f in figures] == [
        ("blend-minus-unexplored", "ndcg@20"),
        ("exploration", "users_share"),
    ]
    assert figures[1].value == pytest.approx(share)


def test_made_without_exploration_measures_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, figures = made(place, monkeypatch, -0.1, -0.05, places=0)
    assert (asked, figures) == ([None], [])
