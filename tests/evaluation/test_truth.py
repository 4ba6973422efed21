"""Who is evaluated and what is right, on a world small enough to say it by hand."""

import pyarrow as pa
import pytest

from microrec.errors import MicrorecError
from microrec.evaluation.truth import BUCKETS, truth

EDGES = [
    ("train", 0, 0, 1),
    ("train", 0, 1, 0),
    ("validation", 0, 0, 1),
    ("validation", 1, 2, 3),
    ("validation", 1, 1, 0),
    ("holdout", 0, 0, 1),  # watched before
    ("holdout", 0, 1, 1),  # watched before, though without liking it
    ("holdout", 0, 2, 1),  # right
    ("holdout", 0, 3, 1),  # right, cold
    ("holdout", 1, 0, 0),  # not positive
    ("holdout", 1, 1, 1),  # watched on the validation day
    ("holdout", 2, 4, 1),  # not eligible
    ("holdout", 3, 2, 2),  # right
]


def tables(
    rows: list[tuple[str, int, int, int]], undone: tuple[int, ...] = ()
) -> tuple[pa.Table, pa.Table]:
    split, user, video, positive = zip(*rows, strict=True)
    edges = pa.table(
        {
            "split": list(split),
            "user_idx": pa.array(user, pa.int32()),
            "video_idx": pa.array(video, pa.int32()),
            "n_positive": pa.array(positive, pa.int32()),
            "undone": pa.array([place in undone for place in range(len(rows))], pa.bool_()),
        }
    )
    videos = pa.table(
        {
            "video_idx": pa.array([4, 3, 2, 1, 0], pa.int32()),
            "eligible": [False, True, True, True, True],
        }
    )
    return edges, videos


def test_truth_cases_equal_expected() -> None:
    right = truth(*tables(EDGES))
    assert right.users.tolist() == [0, 3]
    assert list(zip(right.users[right.row].tolist(), right.video.tolist(), strict=True)) == [
        (0, 2),
        (0, 3),
        (3, 2),
    ]
    assert right.history.tolist() == [1, 0]
    assert right.viewers.tolist() == [1, 0, 1, 0, 0]
    assert right.eligible.tolist() == [True, True, True, True, False]


def test_truth_disliked_before_is_no_history() -> None:
    rows = [*EDGES, ("train", 3, 1, 1), ("validation", 3, 1, 0), ("validation", 3, 0, 1)]
    undone = (5, len(EDGES) + 1, len(EDGES) + 2)  # the first on D, the last liked again
    right = truth(*tables(rows, undone))
    assert right.history.tolist() == [1, 1]
    assert right.viewers.tolist() == [2, 0, 1, 0, 0]


def test_truth_cold_videos_have_no_earlier_positive_edge() -> None:
    cold = truth(*tables(EDGES)).cold()
    assert cold.users.tolist() == [0]
    assert cold.video.tolist() == [3]


def test_buckets_cover_every_user_once() -> None:
    right = truth(*tables(EDGES))
    members = sum(right.bucket(least, most).astype(int) for _, least, most in BUCKETS)
    assert members.tolist() == [1, 1]
    named = {name: right.bucket(least, most).tolist() for name, least, most in BUCKETS}
    assert named["history=0"] == [False, True]
    assert named["history=1"] == [True, False]


def test_truth_without_users_is_an_error() -> None:
    words = "users watched 2 videos, 1 with a positive viewing, none of them eligible and new; why"
    with pytest.raises(MicrorecError, match=words):
        truth(*tables([*EDGES[:4], ("holdout", 2, 4, 1), ("holdout", 2, 3, 0)]), note="why")
