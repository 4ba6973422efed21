"""A final fit that proposes other videos than its trial is named."""

import pyarrow as pa
import pytest

from microrec.evaluation import gate, refit
from microrec.evaluation.refit import Overlap

CONFIG = gate.Config(refit_alike=0.2, source_kept=0.5)


def lists(of: dict[int, list[int]]) -> pa.Table:
    rows = [
        {"user_idx": user, "rank": rank, "video_idx": video}
        for user, videos in of.items()
        for rank, video in enumerate(videos, start=1)
    ]
    return pa.Table.from_pylist(rows)


def test_overlap_counts_first_places_that_users_of_both_fits_may_still_be_shown() -> None:
    trial = lists({1: [*range(20), 50], 2: [7, 8], 3: [1]})
    final = lists({1: [*range(10, 40)], 2: [8, 9], 4: [1]})
    seen = pa.table({"user_idx": [1, 1, 2], "video_idx": [0, 1, 99]})
    # User 1: 18 of the first 20 unseen, 10 to 19 again; user 2: 8 of 7 and 8; user 3 has no final list.
    assert refit.overlap(trial, final, seen) == Overlap(11, 20)


def test_overlap_places_beyond_the_first_do_not_count() -> None:
    trial = lists({1: [5]})
    final = lists({1: [*range(100, 120), 5]})
    nothing = pa.table(
        {"user_idx": pa.array([], pa.int64()), "video_idx": pa.array([], pa.int64())}
    )
    assert refit.overlap(trial, final, nothing) == Overlap(0, 1)


def test_figures_leave_out_a_source_without_places() -> None:
    (figure,) = refit.figures({"b": Overlap(3, 4), "a": Overlap(0, 0)})
    assert (figure.name, figure.metric, figure.value, figure.n) == (
        "b", "proposed_again@20", 0.75, 4,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("share", "before", "status", "severity"),
    [
        (0.2, {}, "pass", "hold"),
        (0.199, {}, "fail", "warn"),
        (0.199, {"other": 0.82}, "fail", "warn"),
        (0.199, {"ease": 0.21}, "fail", "hold"),
        (0.41, {"ease": 0.82}, "pass", "hold"),
        (0.40, {"ease": 0.82}, "fail", "hold"),
        (0.40, {"other": 0.82}, "pass", "hold"),
    ],
)
def test_refit_alike_holds_what_has_changed_too_much(
    share: float, before: dict[str, float], status: str, severity: str
) -> None:
    result = refit.refit_alike({"ease": share, "content": 0.9}, before, config=CONFIG)
    assert (result.gate, result.severity, result.status) == ("refit_alike", severity, status)
    assert ("ease (" in result.detail) == (status == "fail")
    assert "content" not in result.detail
    assert "refit_alike" in gate.JUDGEMENTS
