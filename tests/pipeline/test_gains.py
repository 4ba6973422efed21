"""A night is judged beside the nights before it that had the same sources, and keeps nobody's own gain."""

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from microrec.config.settings import settings
from microrec.core.knowledge import Knowledge
from microrec.evaluation import pooled, report
from microrec.evaluation.gate import Result
from microrec.evaluation.report import BLEND, DIFFERENCE, Figure
from microrec.evaluation.truth import Truth
from microrec.pipeline import gains
from microrec.pipeline.fit_tables import FitTables
from microrec.pipeline.night import Night

DAY = dt.date(2026, 1, 20)
METRIC = "ndcg@20"
USERS = pa.table({"user_idx": [2, 0, 1], "user_id": ["c", "a", "b"]})
NOTHING = pa.table({"user_idx": []})


@pytest.fixture
def night(place: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    recipe = place / "recipe.toml"
    recipe.write_text("[evaluation.gate]\npooled_nights = 6\n")
    monkeypatch.setenv("MICROREC_RECIPE", str(recipe))
    settings.cache_clear()
    monkeypatch.setattr(gains.reader, "days", lambda root: [DAY - dt.timedelta(days=3)])
    return Night.open(DAY, fit="trial")


def keep(night: Night, back: int, gain: float, *sources: str) -> None:
    """Write what a night so many days back has measured: two users, one gain each."""
    before = night.at(night.day - dt.timedelta(days=back), fit="trial")
    names = [Figure(name, METRIC, "all", 0.5, 2) for name in (*sources, BLEND, DIFFERENCE)]
    before.write("metrics", report.table(names), stage="evaluation")
    users = pa.chunked_array([["a", "b"]])
    clusters = pooled.figures(np.array([gain, gain]), users, metric=METRIC)
    before.write("metrics", report.table(clusters), stage=gains.STAGE)


def judge(night: Night, gain: float) -> Result:
    users = pa.chunked_array([["a", "b"]])
    clusters = pooled.figures(np.array([gain, gain]), users, metric=METRIC)
    figures = [
        Figure("popularity", METRIC, "all", 0.5, 2),
        Figure(BLEND, METRIC, "all", 0.5, 2),
        Figure(DIFFERENCE, METRIC, "history=0", -9.0, 2, -9.0, -9.0),
        Figure(DIFFERENCE, METRIC, "all", gain, 2, -1.0, 1.0),
    ]
    better, *others = gains.judged(night, clusters, figures, source_value=0.5)
    assert others == [], "one released night before is no range"
    return better


def test_judged_counts_the_nights_before_that_had_the_same_sources(night: Night) -> None:
    keep(night, 1, 0.3, "popularity")
    keep(night, 3, 0.2, "popularity")
    keep(night, 2, -9.0, "popularity", "content")
    keep(night, 6, -9.0, "popularity")
    keep(night, -1, -9.0, "popularity")
    result = judge(night, 0.1)
    assert "0.20000 [0.20000, 0.20000] of 3 nights together" in result.detail
    assert (result.status, result.observed) == ("pass", pytest.approx(0.2))


def test_judged_first_night_stands_alone(night: Night) -> None:
    result = judge(night, 0.1)
    assert "together" not in result.detail
    assert (result.status, result.observed) == ("fail", -1.0)


def test_judged_knows_which_nights_were_released(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        gains.reader, "days", lambda root: [DAY - dt.timedelta(days=back) for back in range(1, 5)]
    )
    for back in range(1, 6):
        keep(night, back, 0.3 if back < 5 else -50.0, "popularity")
    users = pa.chunked_array([["a"]])
    clusters = pooled.figures(np.array([0.2]), users, metric=METRIC)
    figures = [
        Figure("popularity", METRIC, "all", 0.5, 2),
        Figure(DIFFERENCE, METRIC, "all", 0.2, 2, 0.1, 0.3),
    ]
    _, kept = gains.judged(night, clusters, figures, source_value=0.5)
    assert (kept.gate, kept.status) == ("gain_kept", "fail"), "0.2 is below 0.3 - 0.05 * 0.5"


def test_by_cluster_gathers_users_by_their_ids(night: Night) -> None:
    """User 0 is a, user 2 is c, whatever the order of the rows."""
    lists = {
        "blend": pa.table({"user_idx": [0, 2], "rank": [1, 1], "video_idx": [3, 3]}),
        "popularity": pa.table({"user_idx": [0, 2], "rank": [1, 1], "video_idx": [4, 4]}),
    }
    truth = Truth(
        users=np.array([0, 2]),
        row=np.array([0, 1]),
        video=np.array([3, 4]),
        history=np.zeros(2, np.int64),
        viewers=np.ones(5, np.int64),
        eligible=np.ones(5, np.bool_),
    )
    knowledge: Knowledge = None  # type: ignore[assignment]
    tables = FitTables(USERS, NOTHING, NOTHING, knowledge)
    kept = {f.slice: f.value for f in gains.by_cluster(night, tables, lists, truth)}
    users = pa.chunked_array([["a", "c"]])
    of_ids = pooled.figures(np.array([1.0, -1.0]), users, metric=METRIC)
    assert kept == {f.slice: f.value for f in of_ids}
    assert gains.by_cluster(night, tables, {"blend": lists["blend"]}, truth) == []
