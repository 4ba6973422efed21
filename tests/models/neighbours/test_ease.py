"""B is one ridge regression per video; users who watch everything are left out of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microrec.core.fitted import NeighbourLists
from microrec.models.neighbours import ease, nearest
from tests.worlds import fitted_models

EVERYBODY = 10**6


def fit(likes: np.ndarray, **config: object) -> tuple[NeighbourLists, dict]:
    return fitted_models.neighbour_lists(ease, likes, **{"activity_cap": EVERYBODY, **config})


def rows(lists: NeighbourLists) -> list[list[tuple[int, float]]]:
    pairs = list(zip(lists.neighbour.tolist(), lists.similarity.tolist(), strict=True))
    return [pairs[a:b] for a, b in zip(lists.indptr[:-1], lists.indptr[1:], strict=True)]


def dense(lists: NeighbourLists) -> np.ndarray:
    matrix = np.zeros((len(lists.indptr) - 1,) * 2)
    for row, pairs in enumerate(rows(lists)):
        for column, weight in pairs:
            matrix[row, column] = weight
    return matrix


def ridge(likes: np.ndarray, *, cap: int, l2: float, tie_break: float) -> np.ndarray:
    """W of the docstring: each viewed video explained by the other ones, without the closed form."""
    watched = np.array([row for row in likes if 0 < row.sum() <= cap], dtype=float)
    weights = np.zeros((likes.shape[1],) * 2)
    viewers = watched.sum(axis=0) if len(watched) else np.zeros(likes.shape[1])
    viewed = np.flatnonzero(viewers)
    for video in viewed:
        others = [other for other in viewed if other != video]
        # the penalty as rows of data: least squares knows nothing of a Gram matrix
        data = np.vstack([watched[:, others], np.sqrt(l2) * np.eye(len(others))])
        target = np.concatenate([watched[:, video], np.zeros(len(others))])
        popular = tie_break / l2 * viewers[video] / viewers.max()
        weights[others, video] = np.linalg.lstsq(data, target, rcond=None)[0] + popular
    return weights


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1.0, 7.5, 300.0]),
    st.sampled_from([0.0, 0.3]),
    st.integers(1, 5),
)
def test_ease_equals_one_ridge_regression_per_video(
    seed: int, l2: float, tie_break: float, cap: int
) -> None:
    likes = np.random.default_rng(seed).random((9, 7)) < 0.4
    lists, _ = fit(likes, l2=l2, tie_break=tie_break, activity_cap=cap)
    expected = ridge(likes, cap=cap, l2=l2, tie_break=tie_break)
    np.testing.assert_allclose(dense(lists), expected, rtol=1e-5, atol=1e-9)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_ease_keeps_the_weights_furthest_from_zero(seed: int, k: int) -> None:
    likes = np.random.default_rng(seed).random((12, 7)) < 0.4
    every, _ = fit(likes, l2=1.0)
    kept, _ = fit(likes, l2=1.0, top_k=k)
    for whole, cut in zip(rows(every), rows(kept), strict=True):
        strongest = sorted(whole, key=lambda pair: (-abs(pair[1]), pair[0]))[:k]
        assert cut == sorted(strongest, key=lambda pair: (-pair[1], pair[0]))


def test_ease_negative_weights_are_kept() -> None:
    # everyone watches video 0, half of them 1 and the other half 2
    likes = np.array([[1, 1, 0], [1, 0, 1]] * 10, dtype=bool)
    lists, _ = fit(likes, l2=1.0)
    assert [(video, weight > 0) for video, weight in rows(lists)[1]] == [(0, True), (2, False)]


def test_ease_ties_follow_the_index() -> None:
    # videos 1 to 5 are alike, listed from the back by nobody
    likes = np.zeros((5, 6), dtype=bool)
    likes[:, 0] = True
    likes[np.arange(5), 5 - np.arange(5)] = True
    lists, _ = fit(likes, top_k=3)
    assert [video for video, _ in rows(lists)[0]] == [1, 2, 3]


def test_ease_user_of_everything_changes_nothing() -> None:
    likes = np.random.default_rng(1).random((300, 30)) < 0.1
    with_bots, cap = fitted_models.with_users_of_everything(likes)
    without, _ = fit(likes)
    capped, report = fit(with_bots, activity_cap=cap)
    fitted_models.assert_same_lists(without, capped)
    assert (report["activity_cap"], report["users_over_cap"]) == (cap, 2)
    _, by_default = fit(with_bots, activity_cap=None, activity_multiple=5.0)
    assert cap <= by_default["activity_cap"] < 30
    assert by_default["users_over_cap"] == 2


def test_ease_solves_only_the_most_viewed() -> None:
    viewers = [0, 3, 5, 5, 9, 5, 1]
    likes = np.zeros((40, 7), dtype=bool)
    for video, n in enumerate(viewers):
        likes[np.random.default_rng(video).permutation(40)[:n], video] = True
    most = likes.copy()
    most[:, [0, 1, 5, 6]] = False
    few, report = fit(likes, max_videos=3)
    expected, _ = fit(most)
    fitted_models.assert_same_lists(few, expected)
    assert len(few.neighbour) == 3 * 2
    assert (report["videos_solved"], report["videos_left_out"]) == (3, 3)
    _, everything = fit(likes)
    assert (everything["videos_solved"], everything["videos_left_out"]) == (6, 0)


def test_ease_without_edges_is_an_empty_list() -> None:
    likes = np.random.default_rng(2).random((30, 8)) < 0.4
    likes[:, [3, 7]] = False
    lists, _ = fit(likes, tie_break=1.0)
    assert [video for video, pairs in enumerate(rows(lists)) if not pairs] == [3, 7]
    assert not {3, 7} & set(lists.neighbour.tolist())


@pytest.mark.parametrize("cells", [1, 40])
def test_ease_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    likes = np.random.default_rng(3).random((40, 17)) < 0.3
    whole, _ = fit(likes)
    monkeypatch.setattr(nearest, "BLOCK_CELLS", cells)
    by_blocks, _ = fit(likes)
    fitted_models.assert_same_lists(whole, by_blocks)


def test_ease_singular_system_emits_no_lapack_message(capfd: pytest.CaptureFixture[str]) -> None:
    lists, report = fit(np.zeros((4, 5), dtype=bool))
    assert len(lists.neighbour) == report["videos_solved"] == 0
    assert capfd.readouterr() == ("", "")
