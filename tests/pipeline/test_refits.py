"""The final fit of every source is compared with its trial on some neighbouring users."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from microrec.config.settings import settings
from microrec.evaluation import report
from microrec.evaluation.report import Figure
from microrec.pipeline import refits
from microrec.pipeline.night import Night

DAY = dt.date(2026, 1, 8)
N_USERS = 40


def propose(night: Night, fit: str, source: str, first: int) -> None:
    """Everybody is proposed the same three videos."""
    columns = {
        "user_idx": pa.array([user for user in range(N_USERS) for _ in range(3)], pa.int32()),
        "rank": pa.array([1, 2, 3] * N_USERS, pa.int32()),
        "video_idx": pa.array([first, first + 1, first + 2] * N_USERS, pa.int32()),
        "score": pa.array([0.5] * (3 * N_USERS), pa.float32()),
    }
    night.write("candidates", pa.table(columns), fit=fit, source=source)


@pytest.fixture
def night(place: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    (place / "recipe.toml").write_text('[night]\nmodels = ["popularity", "ease", "content"]\n')
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    opened = Night.open(DAY)
    moment = pa.array([dt.datetime(2026, 1, 8, tzinfo=dt.UTC)] * N_USERS, pa.timestamp("us", "UTC"))
    columns = {
        "user_idx": pa.array(range(N_USERS), pa.int32()),
        "user_id": [f"u{user:02}" for user in range(N_USERS)],
        "degree": pa.array([5] * N_USERS, pa.int32()),
        "first_seen": moment,
    }
    opened.write("users", pa.table(columns))
    opened.write_empty("watch_edges")
    for source, first in (("popularity", 0), ("ease", 1), ("content", 50)):
        propose(opened, "trial", source, 0)
        if source != "content":
            propose(opened, "final", source, first)
    return opened


def test_figures_compare_the_sources_of_both_fits(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refits, "USERS", 10)
    figures = {f.name: (round(f.value, 3), f.n) for f in refits.figures(night)}
    assert figures == {"popularity": (1.0, 30), "ease": (0.667, 30)}


def test_judged_names_a_source_that_proposes_something_else(night: Night) -> None:
    assert refits.judged(night, refits.figures(night)).status == "pass"
    propose(night, "final", "ease", 60)
    result = refits.judged(night, refits.figures(night))
    assert result.status == "fail"
    assert "ease (0.000)" in result.detail


def test_judged_knows_the_share_of_the_night_before(night: Night) -> None:
    propose(night, "final", "ease", 2)
    figures = refits.figures(night)
    assert refits.judged(night, figures).status == "pass"
    before = [Figure("ease", "proposed_again@20", "all", 0.9, 5)]
    night.at(night.previous_day, fit="final").write(
        "metrics", report.table(before), stage="release"
    )
    result = refits.judged(night, figures)
    assert "ease (0.333)" in result.detail
