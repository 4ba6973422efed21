"""Fusion equals a dictionary; weights move with history."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrec.candidates.ranking import closed_form
from tests.worlds.candidates import candidates, worlds

CONFIG = closed_form.Config()
MUTE = closed_form.Config(weights={"popularity": closed_form.Weight(warm=0, cold=0)})
"""One source has no weight."""


@given(worlds(), st.integers(1, 3), st.sampled_from([CONFIG, MUTE]))
def test_blend_equals_a_dictionary(world: dict, step: int, config: closed_form.Config) -> None:
    n_videos = world["videos"].num_rows
    users = np.arange(0, world["n_users"], step)
    history = world["generator"].integers(0, 30, world["n_users"])
    sources = {name: closed_form.ranked(rows) for name, rows in world["sources"].items()}
    fused = closed_form.fuse(
        sources, users=users, history=history[users], n_videos=n_videos, config=config
    )
    points: dict[tuple[int, int], dict[str, float]] = {}
    ranks = {}
    for name in sorted(world["sources"]):
        for row in world["sources"][name].to_pylist():
            n = int(history[row["user_idx"]])
            given_ = config.weights.get(name, config.other)
            weight = given_.warm * (n / (n + 5)) + given_.cold * (1 - n / (n + 5))
            points.setdefault((row["user_idx"], row["video_idx"]), {})[name] = weight / (
                60 + row["rank"]
            )
            ranks[row["user_idx"], row["video_idx"], name] = row["rank"]
    names = sorted(world["sources"])
    for row, user in enumerate(users):
        for video in range(n_videos):
            shares = points.get((int(user), video), {})
            assert fused.points[row, video] == pytest.approx(sum(shares.values()), rel=1e-12)
            best = min(shares, key=lambda name: (-shares[name], name)) if shares else None
            at = fused.strongest[row, video]
            assert (names[at] if at >= 0 else None) == best
            assert fused.rank[row, video] == ranks.get((int(user), video, best), 0)


def test_weights_shift_to_neighbours_with_history() -> None:
    history = np.arange(0, 200)
    for source, direction in (
        ("popularity", -1),
        ("content", -1),
        ("user_neighbours", 1),
        ("video_neighbours", 1),
        ("preference_gcn", 1),
    ):
        weights = CONFIG.weight(source, users=np.arange(len(history)), history=history)
        assert (np.diff(weights) * direction > 0).all(), source
        assert weights[0] == CONFIG.weights[source].cold
        assert weights[5] == pytest.approx(
            (CONFIG.weights[source].cold + CONFIG.weights[source].warm) / 2
        )


def test_blend_warm_user_is_led_by_neighbours_and_cold_by_popularity() -> None:
    sources = {
        "popularity": closed_form.ranked(candidates({0: [0, 1], 1: [0, 1]})),
        "video_neighbours": closed_form.ranked(candidates({0: [2, 3], 1: [2, 3]})),
    }
    fused = closed_form.fuse(
        sources, users=np.array([0, 1]), history=np.array([0, 100]), n_videos=4, config=CONFIG
    )
    assert fused.points.argmax(axis=1).tolist() == [0, 2]


def test_blend_unknown_source_has_the_weight_of_others() -> None:
    assert CONFIG.weight("zebra", users=np.array([3]), history=np.array([0])) == CONFIG.other.cold


def test_blend_source_without_weight_is_named_only_if_alone() -> None:
    sources = {
        "popularity": closed_form.ranked(candidates({0: [3, 1, 2]})),
        "zebra": closed_form.ranked(candidates({0: [0, 2]})),
    }
    fused = closed_form.fuse(
        sources, users=np.array([0]), history=np.array([3]), n_videos=5, config=MUTE
    )
    assert fused.strongest.tolist() == [[1, 0, 1, 0, -1]]
    assert fused.rank.tolist() == [[1, 2, 2, 1, 0]]
    assert (fused.points > 0).tolist() == [[True, False, True, False, False]]


def test_blend_candidates_in_any_user_order_are_cut_by_user() -> None:
    rows = candidates({4: [1, 0], 2: [5], 7: [3]}).take([1, 3, 2, 0])
    at, video, rank, score = closed_form.ranked(rows).of(np.array([1, 4, 7]))
    found = sorted(zip(at.tolist(), rank.tolist(), video.tolist(), score.tolist(), strict=True))
    assert found == [(1, 1, 1, 1.0), (1, 2, 0, 0.5), (2, 1, 3, 1.0)]


def test_blend_equal_contributions_name_the_first_source() -> None:
    same = closed_form.ranked(candidates({0: [1]}))
    fused = closed_form.fuse(
        {"zebra": same, "ant": same},
        users=np.array([0]),
        history=np.array([3]),
        n_videos=2,
        config=CONFIG,
    )
    assert fused.strongest.tolist() == [[-1, 0]]
