"""Pictures of clips and of the blend: the numbers that are drawn, read back from the axes.

What they are of, and the commands, on a whole night's tables: `release/test_night_end.py`.
"""

import datetime as dt
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from microrec.errors import MicrorecError
from microrec.plots import figures

END_MS = np.array([5000, 10_000, 12_000])
INTEREST = np.array([0.9, 0.5, 0.8])
VIEWINGS = pa.table(
    {
        "watched_on": [dt.date(2026, 1, 8), dt.date(2026, 1, 8), dt.date(2026, 1, 9)],
        "clip_no": pa.array([0, 1, 0], pa.int32()),
        "sign": pa.array([1, -1, 1], pa.int32()),
    }
)
CLIPS = pa.table(
    {
        "clip_no": pa.array([1, 0, 2], pa.int32()),
        "end_ms": [10_000, 5000, 12_000],
        "interest": [0.5, 0.75, 0.25],
        "n_reached": [6, 8, 3],
        "n_left": [3, 2, 1],
    }
)
EXITS = pa.table(
    {
        "segment": ["__global__", "stays", "leaves_early"],
        "exit_ms": [10_000, 12_000, 4000],
        "completed": [0.25, 0.625, 0.1],
    }
)


def drawn(figure) -> dict[str, tuple[list[float], list[float]]]:
    """What is joined or marked, by label."""
    (axes,) = figure.axes
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines
    }


def clips_drawn(viewings: pa.Table = VIEWINGS):
    return figures.figure_of_clips(END_MS, INTEREST, viewings, title="u, v")


def test_user_clips_are_steps_beside_the_survival() -> None:
    lines = drawn(clips_drawn())
    (steps,) = [points for label, points in lines.items() if label.startswith("interest")]
    assert steps == ([0, 5, 10, 12], [0.9, 0.5, 0.8, 0.8])
    assert lines["still there"][0] == [0, 5, 10, 12]
    assert lines["still there"][1] == pytest.approx([1, 0.9, 0.45, 0.36])
    assert clips_drawn().axes[0].get_title() == "u, v"


def test_user_clips_skipped_clip_is_marked_and_others_once() -> None:
    figure = clips_drawn()
    (band,) = figure.axes[0].patches
    assert (band.get_x(), band.get_x() + band.get_width()) == (5, 10)
    assert band.get_label() == "left here, 2026-01-08"
    assert drawn(figure)["watched through"] == ([2.5], [0.9])


def test_user_clips_without_viewing_have_no_marks() -> None:
    figure = clips_drawn(VIEWINGS.slice(0, 0))
    assert not figure.axes[0].patches
    assert "watched through" not in drawn(figure)


def test_audience_has_predicted_and_observed() -> None:
    lines = drawn(figures.figure_of_retention(CLIPS, EXITS, title="v"))
    assert lines["predicted, all users"] == ([0, 5, 10, 12], [1, 0.75, 0.5, 0.25])
    assert lines["observed, 8 viewings in the window"] == ([0, 5, 10, 12], [1, 0.75, 0.375, 0.25])
    exits = {label: x for label, (x, _) in lines.items() if label.startswith("users of kind")}
    assert exits == {
        "users of kind leaves_early: half have left": [4, 4],
        "users of kind stays: 62% stay to the end": [12, 12],
    }


def test_audience_unwatched_video_has_nothing_observed() -> None:
    at = CLIPS.schema.get_field_index("n_reached")
    nobody = CLIPS.set_column(at, "n_reached", pa.array([0, 0, 0]))
    lines = drawn(figures.figure_of_retention(nobody, EXITS.slice(0, 0), title="v"))
    assert list(lines) == ["predicted, all users"]


def test_audience_more_exits_than_starts_stay_above_zero() -> None:
    rows = pa.table({"n_reached": [2, 3], "n_left": [1, 3]})
    assert figures.observed(rows).tolist() == [1.0, 0.5, 0.0]


def test_save_format_follows_the_file_ending(tmp_path: Path) -> None:
    figures.save(clips_drawn(), tmp_path / "clips.svg")
    assert "<svg" in (tmp_path / "clips.svg").read_text()
    for path in (tmp_path / "clips.tune", tmp_path / "nowhere" / "clips.png"):
        with pytest.raises(MicrorecError, match="picture"):
            figures.save(clips_drawn(), path)


def test_figures_without_matplotlib_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MicrorecError, match=r"microrec\[plots\]"):
        clips_drawn()


def test_weights_are_stacked_by_history_in_order() -> None:
    rows = [
        {"bucket": "history=>20", "source": "content", "weight": 0.25},
        {"bucket": "history=>20", "source": "ease", "weight": 0.75},
        {"bucket": "history=0", "source": "popularity", "weight": 1.0},
        {"bucket": "history=3-5", "source": "ease", "weight": 0.5},
        {"bucket": "history=3-5", "source": "popularity", "weight": 0.5},
    ]
    (axes,) = figures.figure_of_weights(pa.Table.from_pylist(rows), title="t").axes
    drawn = {
        bars.get_label(): [(one.get_y(), one.get_height()) for one in bars]
        for bars in axes.containers
    }
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "3-5", ">20"]
    assert drawn["content"] == [(0.0, 0.0), (0.0, 0.0), (0.0, 0.25)]
    assert drawn["ease"] == [(0.0, 0.0), (0.0, 0.5), (0.25, 0.75)]
    assert drawn["popularity"] == [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)]


@pytest.mark.parametrize("title", ["user $\\foo$, video $v$", "user [red]x[/red]", "user $"])
def test_save_of_a_title_with_an_id_draws_it_literally(title: str, tmp_path: Path) -> None:
    figure = figures.figure_of_clips(END_MS, INTEREST, VIEWINGS, title=title)
    figures.save(figure, tmp_path / "clips.png")
    assert figure.axes[0].get_title() == title
    assert (tmp_path / "clips.png").stat().st_size > 0


def test_title_with_line_ends_and_turned_writing_stays_one_line() -> None:
    title = "user a\nFAKE\x1b[2J\u202eb"
    figure = figures.figure_of_clips(END_MS, INTEREST, VIEWINGS, title=title)
    assert figure.axes[0].get_title() == "user a\\nFAKE\\x1b[2J\\u202eb"
