"""A fit sees the counts of its days, in one order; a pair is served on its user's main surface."""

import numpy as np
import pyarrow as pa
import pytest

from microrec.errors import ContractViolation, RecipeError
from microrec.models.inputs import rate_arrays
from tests.worlds import logs, rates

NODES = pa.table(
    {
        "video_idx": pa.array([1, 0, 2], pa.int32()),
        "video_id": ["b", "a", "c"],
        "author_id": ["y", "x", None],
        "duration_ms": pa.array([8_000, None, 0], pa.int64()),
    }
)
VIDEOS = pa.table(
    {
        "video_id": ["z", "b", "a"],
        "tags": pa.array([["t9"], ["t2", "t1"], None], pa.list_(pa.string())),
    }
)
ROWS: list[rates.Row] = [
    (rates.D, 1, 0, "search", rates.D, 1, 0),
    (rates.D, 0, 1, "feed", rates.D - 1, 2, 1),
    (rates.D, 1, 1, "feed", rates.D - 2, 3, 3),
    (rates.D, 0, 0, "search", rates.D - 1, 2, 0),
]


def built(fit: str = "trial", rows: list[rates.Row] = ROWS) -> rate_arrays.RateInputs:
    tables = {"exposure_counts": rates.counts(rows), "videos": VIDEOS, "video_nodes": NODES}
    return rate_arrays.build(tables, fit=fit, n_users=3)


def test_trial_sees_no_row_of_the_day_itself_final_sees_all() -> None:
    trial, final = built("trial"), built("final")
    assert (trial.today, trial.validated_on) == (rates.D, rates.D - 1)
    assert (final.today, final.validated_on) == (rates.D + 1, None)
    assert trial.counts.day.tolist() == [rates.D - 2, rates.D - 1, rates.D - 1]
    assert final.counts.day.tolist() == [*trial.counts.day, rates.D]
    with pytest.raises(RecipeError, match=r"not one of"):
        built("other")


def test_rows_come_in_the_order_of_day_user_video_and_surface() -> None:
    one, other = built("final"), built("final", ROWS[::-1])
    for name, column in vars(one.counts).items():
        np.testing.assert_array_equal(column, getattr(other.counts, name))
    assert one.counts.user_idx.tolist() == [1, 0, 0, 1]
    assert one.counts.video_idx.tolist() == [1, 0, 1, 0]
    assert one.counts.n_positive.tolist() == [3, 0, 1, 0]


def test_facts_are_in_the_order_of_video_idx() -> None:
    videos = built().videos
    assert videos.author.tolist() == [0, 1, -1]
    assert videos.duration.tolist() == [-1, 1, -1]
    assert videos.tag_starts.tolist() == [0, 0, 2, 2]  # null tags; a video the catalogue lacks
    assert len(set(videos.tag.tolist())) == 2


def test_pairs_are_served_on_the_surface_with_most_viewings_of_equal_ones_the_first() -> None:
    final = built("final")
    assert final.surfaces.to_pylist() == ["feed", "search"]
    served = final.serving(np.array([0, 1, 2, 1]), np.array([2, 2, 2, 0]))
    assert served.surface.tolist() == [0, 0, -1, 0]
    assert set(served.day.tolist()) == {final.today}
    assert len(final.serving(np.array([], dtype=np.int64), np.array([], dtype=np.int64))) == 0


def test_night_without_counts_has_none() -> None:
    nothing = built("final", [])
    assert len(nothing.counts) == 0
    assert nothing.serving(np.array([2]), np.array([0])).surface.tolist() == [-1]


@pytest.mark.parametrize("place", [1, 2])
def test_index_outside_the_nodes_is_refused(place: int) -> None:
    night, *pair, surface, day, n_shown, n_positive = ROWS[0]
    pair[place - 1] = 3
    with pytest.raises(ContractViolation, match=r"exposure_counts: .* 3 nodes, 1 rows"):
        built("final", [(night, pair[0], pair[1], surface, day, n_shown, n_positive)])


def test_world_is_read_whole() -> None:
    planted = rates.world(1).tables
    found = rate_arrays.build(planted, fit="final", n_users=planted["users"].num_rows)
    assert found.counts.n_shown.sum() == planted["exposure_counts"].num_rows
    other = rate_arrays.build(
        logs.shuffled(planted, 4), fit="final", n_users=planted["users"].num_rows
    )
    np.testing.assert_array_equal(found.counts.video_idx, other.counts.video_idx)
    np.testing.assert_array_equal(found.videos.tag, other.videos.tag)
