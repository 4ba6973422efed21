"""New videos are drawn with exactly their chances, and outcomes weighed by them tell the truth."""

import datetime as dt
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrec.candidates.lists import exploration
from microrec.errors import MicrorecError

UNTIL = dt.datetime(2026, 1, 11, tzinfo=dt.UTC)
N_UNIFORMS = 2000
SIGMAS = 4.5
"""A right estimate is further off once in 150,000 seeds."""


@st.composite
def blocks(draw: st.DrawFn) -> dict[str, Any]:
    """Affinities, some of them equal, 0 or below, and who may be shown what."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(1, 5)), draw(st.integers(0, 12))
    affinity = generator.gamma(0.3, size=shape) * 10.0 ** draw(st.sampled_from([-30, 0, 30]))
    affinity *= generator.choice([-1.0, 0.0, 1.0, 1.0, 1.0], size=shape)
    return {
        "affinity": affinity.astype(draw(st.sampled_from([np.float32, np.float64]))),
        "allowed": generator.random(shape) < draw(st.sampled_from([0.2, 0.8, 1.0])),
        "places": draw(st.integers(0, 6)),
        "uniform_share": draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        "sharpness": draw(st.sampled_from([0.5, 1.0, 4.0])),
    }


def slowly_chances(
    affinity: list[float],
    allowed: list[bool],
    *,
    places: int,
    uniform_share: float,
    sharpness: float,
) -> list[float]:
    """One user's chances: who is sure of a place leaves, one at a time, the likeliest first."""
    there = [video for video, may in enumerate(allowed) if may]
    liked = dict.fromkeys(there, 0.0)
    for video in there:
        nearer = sum(affinity[other] > affinity[video] for other in there)
        equal = sum(affinity[other] == affinity[video] for other in there)
        shared = [(nearer + at) ** -sharpness for at in range(1, equal + 1)]
        if affinity[video] > 0:
            liked[video] = sum(shared) / equal
    total = sum(liked.values())
    size = {}
    for video in there:
        by_affinity = liked[video] / total if total else 1 / len(there)
        size[video] = uniform_share / len(there) + (1 - uniform_share) * by_affinity
    found = [0.0] * len(allowed)
    left = min(places, len(there))
    while left:
        if not any(size.values()):
            size = dict.fromkeys(size, 1.0)
        likeliest = max(size, key=lambda video: size[video])
        whole = sum(size.values())
        if left * size[likeliest] / whole < 1 - 1e-9:
            for video, one in size.items():
                found[video] = left * one / whole
            break
        found[likeliest] = 1.0
        del size[likeliest]
        left -= 1
    return found


@given(blocks())
def test_chances_equal_a_loop(block: dict[str, Any]) -> None:
    found = exploration.chances(**block)
    n_allowed = block["allowed"].sum(axis=1)
    wanted = np.minimum(block["places"], n_allowed)
    np.testing.assert_allclose(found.sum(axis=1), wanted, rtol=1e-14, atol=1e-14)
    assert (found >= 0).all()
    assert (found <= 1).all()
    assert (found[~block["allowed"]] == 0).all()
    rest = {name: block[name] for name in ("places", "uniform_share", "sharpness")}
    for mine, affinity, allowed in zip(found, block["affinity"], block["allowed"], strict=True):
        right = slowly_chances(affinity.tolist(), allowed.tolist(), **rest)
        np.testing.assert_allclose(mine, right, rtol=1e-9, atol=1e-12)


def test_chances_equal_hand_computed() -> None:
    affinity = np.array([[6.0, 3.0, 1.0, -5.0, 9.0], [0, 0, -1, 0, 0]])
    allowed = np.array([[True, True, True, True, False], [True, True, True, True, True]])
    found = exploration.chances(affinity, allowed, places=2, uniform_share=0.0)
    # By places 1, 1/2, 1/3: 2 x 6/11 is too much for one; the others share the other place.
    np.testing.assert_allclose(found[0], [1, 0.6, 0.4, 0, 0], rtol=1e-14)
    np.testing.assert_allclose(found[1], [0.4] * 5, rtol=1e-15)
    half = exploration.chances(affinity, allowed, places=1, uniform_share=0.5)
    np.testing.assert_allclose(
        half[0], [0.125 + 3 / 11, 0.125 + 3 / 22, 0.125 + 1 / 11, 0.125, 0], rtol=1e-14
    )
    sharp = exploration.chances(affinity, allowed, places=1, uniform_share=0.0, sharpness=2.0)
    np.testing.assert_allclose(sharp[0], np.array([36, 9, 4, 0, 0]) / 49, rtol=1e-14)


def test_chances_of_equal_videos_are_equal_and_scale_does_not_matter() -> None:
    affinity = np.array([[0.9, 0.8999, 0.8999, 0.1]])
    allowed = np.ones_like(affinity, dtype=np.bool_)
    asks: dict[str, Any] = {"places": 1, "uniform_share": 0.0}
    found = exploration.chances(affinity, allowed, **asks)
    np.testing.assert_allclose(found[0], np.array([12, 5, 5, 3]) / 25, rtol=1e-14)
    squeezed = exploration.chances(affinity / 100 + 0.9, allowed, **asks)
    np.testing.assert_allclose(squeezed, found, rtol=1e-14)


@given(blocks(), st.integers(0, 2**32 - 1))
def test_draw_count_equals_the_chances_without_repeats(block: dict[str, Any], seed: int) -> None:
    found = exploration.chances(**block)
    n_block, places = len(found), block["places"]
    generator = np.random.default_rng(seed)
    ends, extremes = np.cumsum(found, axis=1) % 1.0, (0.0, np.nextafter(1.0, 0.0))
    uniforms = np.array([generator.choice([*mine, *extremes, 0.3]) for mine in ends])
    drawn = exploration.draw(found, uniforms, places=places)
    assert drawn.shape == (n_block, places)
    for mine, chance in zip(drawn, found, strict=True):
        shown = mine[mine >= 0]
        assert len(shown) == round(chance.sum())
        assert (mine[len(shown) :] == -1).all()
        assert (np.diff(shown) > 0).all()
        assert (chance[shown] > 0).all()
        assert set(np.flatnonzero(chance == 1)) <= set(shown.tolist())


def test_draw_certain_video_is_drawn_once_despite_rounding() -> None:
    some = [0.6773086721526645, 0.28674109354094285, 0.5295702547928666, 0.5063799795135255]
    chance = np.array([[*some, 1.0, *(some[at] for at in (1, 0, 2, 3))]])
    drawn = exploration.draw(chance, np.array([0.9999999999999991]), places=5)
    assert (drawn >= 0).all()
    assert 4 in drawn


@given(blocks())
def test_draw_frequency_equals_the_chance(block: dict[str, Any]) -> None:
    """Over numbers at equal distances, a video is drawn on at most two pieces of the line."""
    uniforms = (np.arange(N_UNIFORMS) + 0.5) / N_UNIFORMS
    for chance in exploration.chances(**block):
        drawn = exploration.draw(np.tile(chance, (N_UNIFORMS, 1)), uniforms, places=block["places"])
        often = np.bincount(drawn[drawn >= 0], minlength=len(chance)) / N_UNIFORMS
        assert np.abs(often - chance).max(initial=0.0) <= 2.01 / N_UNIFORMS


def test_draw_frequency_by_random_numbers_equals_the_chance() -> None:
    generator = np.random.default_rng(20260111)
    n_users, n_new, places = 100_000, 40, 4
    affinity = generator.gamma(0.5, size=(1, n_new))
    allowed = generator.random((1, n_new)) < 0.9
    chance = exploration.chances(affinity, allowed, places=places, uniform_share=0.3)
    assert chance.max() - chance.min() > 0.3
    drawn = exploration.draw(
        np.tile(chance, (n_users, 1)), generator.random(n_users), places=places
    )
    often = np.bincount(drawn.ravel(), minlength=n_new) / n_users
    tolerance = SIGMAS * np.sqrt(chance[0] * (1 - chance[0]) / n_users)
    assert (np.abs(often - chance[0]) <= tolerance).all()
    # Chances by size alone, uncapped and without a uniform share, would be found out.
    liked = np.where(allowed, affinity, 0.0)[0]
    assert (np.abs(often - places * liked / liked.sum()) > tolerance).sum() > n_new / 2


@given(blocks(), st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_draw_blocks_do_not_matter(block: dict[str, Any], seed: int, size: int) -> None:
    places = block["places"]
    found = exploration.chances(**block)
    uniforms = np.random.default_rng(seed).random(len(found))
    drawn = exploration.draw(found, uniforms, places=places)
    for start in range(0, len(found), size):
        users = slice(start, start + size)
        part = {**block, "affinity": block["affinity"][users], "allowed": block["allowed"][users]}
        mine = exploration.chances(**part)
        np.testing.assert_array_equal(mine, found[users])
        again = exploration.draw(mine, uniforms[users], places=places)
        np.testing.assert_array_equal(again, drawn[users])


def planted(generator: np.random.Generator, n_users: int = 4000) -> dict[str, np.ndarray]:
    """What users like they watch, and what they like they are shown more often."""
    shape = n_users, 30
    affinity = generator.gamma(0.6, size=shape)
    allowed = generator.random(shape) < 0.9
    chance = exploration.chances(affinity, allowed, places=3, uniform_share=0.4)
    drawn = exploration.draw(chance, generator.random(n_users), places=3)
    shown = np.zeros(shape, dtype=bool)
    shown[np.repeat(np.arange(n_users), 3), drawn.ravel()] = True
    watched = generator.random(shape) < 0.1 + 0.8 * affinity / (1 + affinity)
    return {
        "outcome": watched[allowed].astype(float),
        "propensity": chance[allowed],
        "shown": shown[allowed],
    }


@pytest.mark.parametrize("seed", range(3))
def test_weighting_recovers_a_planted_mean_that_the_naive_misses(seed: int) -> None:
    world = planted(np.random.default_rng(seed))
    outcome, shown = world["outcome"], world["shown"]
    truth, naive = outcome.mean(), outcome[shown].mean()
    assert naive - truth > 0.08
    unknown = {**world, "outcome": np.where(shown, outcome, np.nan)}
    found = exploration.inverse_weighted(**unknown)

    def error(spread: np.ndarray) -> float:
        """Standard error were the pairs drawn one by one; drawn together they vary less."""
        odds = (1 - world["propensity"]) / world["propensity"]
        return float(np.sqrt((spread**2 * odds).sum())) / len(spread)

    by_total, by_weight = SIGMAS * error(outcome), SIGMAS * error(outcome - truth)
    assert max(by_total, by_weight) < 0.04
    assert found.horvitz_thompson == pytest.approx(truth, abs=by_total)
    assert found.self_normalised == pytest.approx(truth, abs=by_weight)


def test_weighting_is_unbiased_for_one_user() -> None:
    """Over all numbers a user may get, the mean of the estimates is the mean outcome."""
    chance = exploration.chances(
        np.array([[5.0, 1.0, 1.0, 0.0, 0.5]]), np.ones((1, 5), bool), places=2, uniform_share=0.2
    )
    outcome = np.array([1.0, 0.0, 2.0, 7.0, 0.0])
    uniforms = (np.arange(N_UNIFORMS) + 0.5) / N_UNIFORMS
    estimates = []
    for mine in exploration.draw(np.tile(chance, (N_UNIFORMS, 1)), uniforms, places=2):
        shown = np.isin(np.arange(5), mine)
        estimates.append(exploration.inverse_weighted(outcome, chance[0], shown).horvitz_thompson)
    assert np.mean(estimates) == pytest.approx(2.0, abs=0.02)
    assert np.std(estimates) > 1


def test_estimates_equal_hand_computed() -> None:
    found = exploration.inverse_weighted(
        np.array([1.0, 4.0, math.nan, math.nan]),
        np.array([0.5, 1.0, 0.25, 0.0], dtype=np.float32),
        np.array([True, True, False, False]),
    )
    assert found == (pytest.approx((2 + 4) / 3), pytest.approx((2 + 4) / (2 + 1)))


def test_estimates_nothing_shown_is_handled() -> None:
    nothing = exploration.inverse_weighted(np.full(2, np.nan), np.full(2, 0.5), np.zeros(2, bool))
    assert nothing.horvitz_thompson == 0
    assert math.isnan(nothing.self_normalised)
    nobody = exploration.inverse_weighted(np.empty(0), np.empty(0), np.empty(0, bool))
    assert np.isnan(nobody).all()


@pytest.mark.parametrize("chance", [0.0, -0.1, 1.1, math.nan])
def test_estimates_shown_without_chance_is_refused(chance: float) -> None:
    with pytest.raises(MicrorecError, match="1 shown pairs"):
        exploration.inverse_weighted(
            np.ones(3), np.array([chance, 0.5, chance]), np.array([True, True, False])
        )


def test_newcomers_are_little_watched_and_not_liked() -> None:
    rows = [
        # likers, viewers, eligible; new, new if two may have liked it
        (0, 0, True, True, True),
        (0, 0, False, False, False),
        (0, 10, True, True, True),
        (0, 11, True, False, False),
        (1, 1, True, False, True),
        (2, 10, True, False, True),
        (3, 10, True, False, False),
    ]
    likers, viewers, eligible, *new = map(np.array, zip(*rows, strict=True))
    for max_likers, right in zip((0, 2), new, strict=True):
        config = exploration.Config(max_likers=max_likers)
        found = exploration.newcomers(likers, viewers, eligible, config=config)
        assert found.tolist() == right.tolist()


def test_affinities_are_inner_products_not_below_0() -> None:
    user = np.array([[1.0, 2.0], [0.0, 0.0]], np.float32)
    video = np.array([[0.5, 0.25], [-1.0, 0.25], [0.0, 0.0]], np.float32)
    assert exploration.affinities(user, video).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert exploration.affinities(user[:, :0], video[:, :0]).tolist() == [[0.0] * 3] * 2


def test_likeliest_first_orders_what_was_drawn() -> None:
    affinity = np.array([[0.1, 0.9, 0.9, 0.0], [0.3, 0.2, 0.1, 0.0]])
    drawn = np.array([[0, 1, 2], [1, 3, -1]])
    assert exploration.likeliest_first(drawn, affinity).tolist() == [[1, 2, 0], [1, 3, -1]]
    assert exploration.likeliest_first(drawn[:, :0], affinity).shape == (2, 0)
    nobody = np.full((2, 2), -1)
    assert exploration.likeliest_first(nobody, affinity[:, :1]).tolist() == nobody.tolist()


def slowly_placed(listed: list[int], explored: list[int], *, every: int) -> list[int]:
    """One user's list with explored videos in it, inserted one by one."""
    k = len(listed)
    mine = [video for video in listed if video >= 0]
    new = [video for video in explored if video >= 0][:k]
    length = min(k, len(mine) + len(new))
    kept = mine[: length - len(new)]
    for nth, video in enumerate(new, start=1):
        rank = min(nth * every, length - len(new) + nth)
        kept.insert(rank - 1, video)
    return kept + [-1] * (k - length)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.integers(0, 12),
    st.integers(0, 5),
    st.integers(1, 6),
)
def test_places_equal_insertion_one_by_one(
    seed: int, n_block: int, k: int, places: int, every: int
) -> None:
    generator = np.random.default_rng(seed)
    videos = np.stack([generator.permutation(100)[: k + places] for _ in range(n_block)])
    listed, explored = videos[:, :k], videos[:, k:]
    listed[np.arange(k) >= generator.integers(0, 2 * k + 1, size=(n_block, 1))] = -1
    explored[generator.random(explored.shape) < 0.2] = -1
    found = exploration.place(listed, explored, every=every)
    for user in range(n_block):
        video, is_explored = found.video[user].tolist(), found.explored[user].tolist()
        mine, new = listed[user].tolist(), explored[user].tolist()
        assert video == slowly_placed(mine, new, every=every)
        assert is_explored == [one >= 0 and one in new for one in video]
        rows = zip(video, is_explored, found.origin[user].tolist(), strict=True)
        for one, explored_one, origin in rows:
            assert one == (-1 if origin < 0 else new[origin] if explored_one else mine[origin])


def test_ranks_of_explored_videos_are_as_inserted() -> None:
    listed = np.arange(25)[None]
    found = exploration.place(listed, np.array([[100, 101, 102, 103]]), every=10)
    assert (np.flatnonzero(found.explored[0]) + 1).tolist() == [10, 20, 24, 25]
    assert found.video[0, [9, 19, 23, 24]].tolist() == [100, 101, 102, 103]
    assert found.video[0, ~found.explored[0]].tolist() == list(range(21))


def test_exploration_without_places_or_newcomers_is_empty() -> None:
    listed = np.arange(6).reshape(2, 3)
    for n_new, places in ((4, 0), (0, 2)):
        chance = exploration.chances(
            np.ones((2, n_new)), np.ones((2, n_new), bool), places=places, uniform_share=0.5
        )
        assert chance.tolist() == [[0.0] * n_new] * 2
        drawn = exploration.draw(chance, np.array([0.2, 0.9]), places=places)
        assert drawn.tolist() == [[-1] * places] * 2
        found = exploration.place(listed, drawn, every=1)
        assert found.video.tolist() == listed.tolist()
        assert not found.explored.any()
    allowed = np.array([[False, True, False], [False, False, False]])
    chance = exploration.chances(np.ones((2, 3)), allowed, places=2, uniform_share=0.5)
    assert chance.tolist() == allowed.astype(float).tolist()
    drawn = exploration.draw(chance, np.array([0.2, 0.9]), places=2)
    assert drawn.tolist() == [[1, -1], [-1, -1]]


def test_exploration_is_off_by_default() -> None:
    assert exploration.Config().places == 0
    with pytest.raises(ValueError, match="uniform_share"):
        exploration.Config(uniform_share=0.0)
