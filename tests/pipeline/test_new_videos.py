"""What explored videos cost: the blend against itself without them."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from microrec.config.settings import settings
from microrec.evaluation import report
from microrec.evaluation.report import BLEND, UNEXPLORED, Figure
from microrec.pipeline import new_videos
from microrec.pipeline.night import Night

BLENDED = pa.table(
    {
        "user_idx": pa.array([1, 0, 0, 0, 1, 1], pa.int32()),
        "rank": pa.array([2, 1, 2, 3, 1, 3], pa.int32()),
        "video_idx": pa.array([21, 10, 11, 12, 20, 22], pa.int32()),
        "source": ["content", "content", "exploration", "trend", "exploration", "content"],
    }
)
RIGHT: Any = object()


def priced(place: Path, monkeypatch: pytest.MonkeyPatch, *, places: int) -> list[Any]:
    recipe = place / "recipe.toml"
    recipe.write_text(f"[candidates.exploration]\nplaces = {places}\n")
    monkeypatch.setenv("MICROREC_RECIPE", str(recipe))
    settings.cache_clear()
    trial = Night.open(dt.date(2026, 1, 5), fit="trial")

    def gain(lists: Mapping[str, pa.Table], truth: Any) -> list[Figure]:
        assert truth is RIGHT
        assert list(lists) == [BLEND, UNEXPLORED]
        assert lists[BLEND] is BLENDED
        return lists[UNEXPLORED].to_pylist()  # type: ignore[return-value]

    return new_videos.price(trial, BLENDED, RIGHT, gain=gain)


def test_price_is_measured_against_the_lists_without_explored_videos(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = priced(place, monkeypatch, places=1)
    assert [(row["user_idx"], row["rank"], row["video_idx"]) for row in rows] == [
        (0, 1, 10), (0, 2, 12), (1, 1, 21), (1, 2, 22),
    ]  # fmt: skip


def test_users_share_of_the_final_fit_is_what_the_trial_has_found(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = Night.open(dt.date(2026, 1, 5))
    assert new_videos.users_share(final) == 1.0, "nothing was measured"
    figures = [
        Figure(BLEND, "ndcg@20", "all", 0.4, 9),
        Figure("exploration", "users_share", "all", 0.25, 9),
    ]
    final.write("metrics", report.table(figures[:1]), stage="evaluation")
    assert new_videos.users_share(final) == 1.0, "the recipe does not explore"
    final.write("metrics", report.table(figures), stage="evaluation")
    assert new_videos.users_share(final) == 0.25
    assert new_videos.users_share(final.at(final.day, fit="trial")) == 1.0


def test_price_without_exploration_is_not_measured(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert priced(place, monkeypatch, places=0) == []
