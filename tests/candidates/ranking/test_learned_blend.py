"""The learned blend reads what a slow account reads, rises with every source, and finds planted ones."""

import datetime as dt
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrec.candidates.ranking import closed_form, learned_blend
from microrec.candidates.ranking.candidate_union import by_score
from microrec.core import knowledge
from microrec.core.fits import horizon
from microrec.errors import MicrorecError
from microrec.evaluation.truth import BUCKETS
from tests.worlds.candidates import DAY, MIDNIGHT, SPLITS, candidates, edges, videos, worlds

CLOSED = closed_form.Config()
SEEN = {"trial": SPLITS[:2], "final": SPLITS}
N_FACTS = 3


def shuffled(table: pa.Table, generator: np.random.Generator) -> pa.Table:
    return table.take(generator.permutation(table.num_rows))


def scored(rows: pa.Table, generator: np.random.Generator) -> pa.Table:
    """The same candidates with other scores, many of them equal."""
    scores = generator.integers(-2, 3, rows.num_rows) / 4
    return rows.set_column(3, "score", pa.array(scores, pa.float32()))


def of_fit(world: dict, fit: str) -> learned_blend.Facts:
    n_users = world["n_users"]
    known = knowledge.knowledge(
        world["edges"], world["videos"], n_users=n_users, fit=fit, until=horizon(DAY, fit)
    )
    return learned_blend.facts(
        world["edges"], world["videos"], known=known, fit=fit, until=horizon(DAY, fit)
    )


def slowly_known(world: dict, fit: str) -> list[dict[str, float]]:
    """What is known of each video, edge by edge."""
    n_videos, rows, known = world["videos"].num_rows, world["edges"].to_pylist(), []
    rows = [e for e in rows if e["split"] in SEEN[fit] and e["n_positive"] > 0]
    last = [e for e in rows if e["split"] == SEEN[fit][-1]]
    viewers, newest = (
        [len({e["user_idx"] for e in some if e["video_idx"] == v}) for v in range(n_videos)]
        for some in (rows, last)
    )
    until = MIDNIGHT + dt.timedelta(days=fit == "final")
    for video in sorted(world["videos"].to_pylist(), key=lambda v: v["video_idx"]):
        at, published = video["video_idx"], video["published_at"]
        young = published is not None and published < until
        told = {
            "place": -math.log(1 + sum(n > viewers[at] for n in viewers)),
            "place_last_day": -math.log(1 + sum(n > newest[at] for n in newest)),
            "age_days": (until - published).total_seconds() / 86_400 if young else math.nan,
        }
        known.append(told)
    return known


def slowly(
    sources: dict[str, pa.Table], history: list[int], known: list[dict[str, float]]
) -> dict[tuple[int, int], dict[str, float]]:
    """Every feature of every pair, pair by pair."""
    lists: dict[tuple[str, int], dict[int, tuple[int, float]]] = {}
    for name, rows in sources.items():
        for row in rows.to_pylist():
            mine = lists.setdefault((name, row["user_idx"]), {})
            mine[row["video_idx"]] = (row["rank"], row["score"])
    pairs = sorted({(user, video) for (_, user), mine in lists.items() for video in mine})
    found = {}
    for user, video in pairs:
        told, closed = {}, 0.0
        for name in sources:
            mine = lists.get((name, user), {})
            points = 1 / (60 + mine[video][0]) if video in mine else 0.0
            scores = [score for _, score in mine.values()]
            z = dict.fromkeys(mine, 0.0)
            if len(set(scores)) > 1:
                z = {v: (s - np.mean(scores)) / np.std(scores) for v, (_, s) in mine.items()}
            told[f"points_{name}"] = points
            told[f"score_{name}"] = z.get(video, min(z.values(), default=0.0))
            weight, warmth = CLOSED.weights.get(name, CLOSED.other), history[user]
            warmth = warmth / (warmth + 5)
            closed += points * (weight.warm * warmth + weight.cold * (1 - warmth))
        told |= {"closed_form": closed, "history": min(history[user], 50), **known[video]}
        found[user, video] = told
    return found


@given(worlds(), st.sampled_from(["trial", "final"]))
def test_pairs_equal_a_loop(world: dict, fit: str) -> None:
    generator = world["generator"]
    sources = {name: scored(rows, generator) for name, rows in world["sources"].items()}
    told = of_fit(world, fit)
    told = replace(told, history=told.history * generator.integers(1, 40, len(told.history)))
    found = learned_blend.pairs(
        {name: shuffled(rows, generator) for name, rows in reversed(sources.items())},
        facts=told,
        closed=CLOSED,
    )
    right = slowly(sources, told.history.tolist(), slowly_known(world, fit))
    assert list(zip(found.user.tolist(), found.video.tolist(), strict=True)) == list(right)
    assert found.sources == tuple(sorted(sources))
    assert found.values.shape == (len(right), 2 * len(sources) + 5)
    for mine, of_pair in zip(found.values, right.values(), strict=True):
        assert set(of_pair) == set(found.names)
        expected = [of_pair[name] for name in found.names]
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-6)


@given(worlds(), st.sampled_from(["trial", "final"]))
def test_facts_ignore_row_order_and_hidden_rows(world: dict, fit: str) -> None:
    generator, rows = world["generator"], world["edges"].to_pylist()
    kept = [tuple(row.values())[:4] for row in rows if row["split"] in SEEN[fit]]
    other = {
        **world,
        "edges": shuffled(edges(kept), generator),
        "videos": shuffled(world["videos"], generator),
    }
    first, again = of_fit(world, fit), of_fit(other, fit)
    np.testing.assert_array_equal(first.history, again.history)
    np.testing.assert_array_equal(first.video, again.video)


def test_facts_equal_hand_computed() -> None:
    rows = [
        # Two users, one of whom liked it, on both days.
        ("train", 0, 0, 2), ("validation", 0, 0, 1), ("train", 1, 0, 0),
        # Liked by one the day before the last, by another one on the last; the third comes later.
        ("train", 0, 1, 1), ("validation", 1, 1, 1), ("holdout", 2, 1, 1),
        # Seen by one on the last day, and not liked.
        ("validation", 2, 2, 0),
    ]  # fmt: skip
    published = [MIDNIGHT - dt.timedelta(hours=60), None, MIDNIGHT + dt.timedelta(hours=6), None]
    world = {"edges": edges(rows), "videos": videos([True] * 4, published), "n_users": 4}
    trial, final = of_fit(world, "trial"), of_fit(world, "final")
    assert trial.history.tolist() == [2, 1, 0, 0]
    assert final.history.tolist() == [2, 1, 1, 0]
    assert trial.video.dtype == np.float32
    two, three = math.log(2), math.log(3)
    by_video = [
        [-two, 0, 2.5],
        [0, 0, math.nan],
        [-three, -three, math.nan],  # published on the day itself
        [-three, -three, math.nan],
    ]
    np.testing.assert_allclose(trial.video, by_video, rtol=1e-6)
    later = [
        [-two, -two, 3.5],
        [0, 0, math.nan],
        [-three, -two, 0.75],
        [-three, -two, math.nan],
    ]
    np.testing.assert_allclose(final.video, later, rtol=1e-6)


def some_pairs(generator: np.random.Generator, n_users: int, n_videos: int) -> learned_blend.Pairs:
    """Half of all pairs, with a value that says which pair it is."""
    user, video = np.nonzero(generator.random((n_users, n_videos)) < 0.5)
    return learned_blend.Pairs(
        user, video, (user * n_videos + video)[:, None].astype(np.float32), ()
    )


def test_liked_are_the_correct_pairs() -> None:
    found = learned_blend.Pairs(
        np.array([0, 0, 1, 2]), np.array([1, 4, 1, 70_000]), np.empty((4, 0), np.float32), ()
    )
    right = learned_blend.liked(found, np.array([2, 0, 4, 1]), np.array([70_000, 4, 1, 4]))
    assert right.tolist() == [False, True, False, True]


@given(st.integers(0, 2**32 - 1))
def test_examples_are_all_liked_and_a_sample_of_the_same_users(seed: int) -> None:
    generator = np.random.default_rng(seed)
    found = some_pairs(generator, 6, 8)
    right = generator.random(len(found.user)) < generator.choice([0.0, 0.1, 0.5])

    def drawn(negatives: float, seed: int = 5) -> learned_blend.Examples:
        config = learned_blend.Config(negatives=negatives)
        return learned_blend.examples(found, right, config=config, rng=np.random.default_rng(seed))

    known, some, every = set(found.user[right].tolist()), drawn(0.3), drawn(1.0)
    asked = [user in known for user in found.user.tolist()]
    np.testing.assert_array_equal(every.values, found.values[asked])
    np.testing.assert_array_equal(every.liked, right[asked])
    np.testing.assert_array_equal(some.values[some.liked], found.values[right])
    of = dict(zip(found.values[:, 0].tolist(), right.tolist(), strict=True))
    assert [of[value] for value in some.values[:, 0].tolist()] == some.liked.tolist()
    assert set(some.values[:, 0].tolist()) <= set(every.values[:, 0].tolist())
    np.testing.assert_array_equal(some.values, drawn(0.3).values)


def test_examples_in_blocks_equal_those_of_the_night() -> None:
    whole = humps(0, n=90)
    parts = [
        learned_blend.Examples(whole.values[start:stop], whole.liked[start:stop])
        for start, stop in ((0, 20), (20, 20), (20, 90))
    ]
    found = learned_blend.together(parts)
    np.testing.assert_array_equal(found.values, whole.values)
    np.testing.assert_array_equal(found.liked, whole.liked)


def test_examples_share_of_the_disliked_is_as_configured() -> None:
    generator = np.random.default_rng(0)
    found = some_pairs(generator, 200, 200)
    right = generator.random(len(found.user)) < 0.05
    config = learned_blend.Config(negatives=0.25)
    first = learned_blend.examples(found, right, config=config, rng=np.random.default_rng(1))
    share = (~first.liked).sum() / (~right).sum()
    assert share == pytest.approx(0.25, abs=4.5 * math.sqrt(0.25 * 0.75 / (~right).sum()))
    other = learned_blend.examples(found, right, config=config, rng=np.random.default_rng(2))
    assert (~other.liked).sum() > 0
    assert other.values.shape != first.values.shape or (other.values != first.values).any()


SOURCES = ("video_neighbours", "content", "zebra")
N_FEATURES = len(learned_blend.names(SOURCES))
RISING = [
    place for place, name in enumerate(learned_blend.names(SOURCES))
    if name.startswith(("points_", "score_")) or name == "closed_form"
]  # fmt: skip

CLOSED_AT = learned_blend.names(SOURCES).index("closed_form")


def features(generator: np.random.Generator, n: int) -> np.ndarray:
    """Random values of every feature; some ages are not known."""
    values = generator.normal(size=(n, N_FEATURES)).astype(np.float32)
    values[generator.random(n) < 0.2, -1] = np.nan
    return values


def humps(seed: int, n: int = 3000) -> learned_blend.Examples:
    """What is liked is neither high nor low in what must rise: a model that may, falls again."""
    generator = np.random.default_rng(seed)
    values = features(generator, n)
    chance = np.exp(-(values[:, RISING] ** 2).sum(axis=1) / 8) + 0.2 * (values[:, -2] > 0)
    return learned_blend.Examples(values, generator.random(n) < chance)


@cache
def of_humps() -> learned_blend.Blend:
    blend = learned_blend.fit([humps(0), humps(1)], SOURCES, config=learned_blend.Config())
    assert blend is not None
    return blend


def test_names_follow_the_order_of_sources() -> None:
    assert learned_blend.names(["zebra", "ant"]) == [
        "points_ant", "score_ant", "points_zebra", "score_zebra", "closed_form",
        "history", "place", "place_last_day", "age_days",
    ]  # fmt: skip


def test_fit_too_few_examples_learns_nothing() -> None:
    nights = [humps(0, n=400), humps(1, n=400)]
    n = sum(int(one.liked.sum()) for one in nights)
    enough = learned_blend.Config(least_positives=n, trees=3)
    more = enough.model_copy(update={"least_positives": n + 1})
    assert learned_blend.fit(nights, SOURCES, config=enough) is not None
    assert learned_blend.fit(nights, SOURCES, config=more) is None
    assert (
        learned_blend.fit(nights, SOURCES, config=enough.model_copy(update={"least_nights": 3}))
        is None
    )
    assert learned_blend.fit([], SOURCES, config=enough) is None


def test_fit_same_examples_give_the_same_trees() -> None:
    again = learned_blend.fit([humps(0), humps(1)], SOURCES[::-1], config=learned_blend.Config())
    assert again.trees.model_to_string() == of_humps().trees.model_to_string()
    assert (again.slope, again.offset) == (of_humps().slope, of_humps().offset)
    assert again.names == learned_blend.names(SOURCES)
    other = learned_blend.fit([humps(0), humps(2)], SOURCES, config=learned_blend.Config())
    assert other.trees.model_to_string() != again.trees.model_to_string()
    assert other.offset != again.offset


@given(st.integers(0, 2**32 - 1))
def test_fit_is_monotone_in_each_source(seed: int) -> None:
    generator, blend = np.random.default_rng(seed), of_humps()
    low = features(generator, 50)
    some = generator.random((50, len(RISING))) < generator.choice([0.15, 0.5, 1.0])
    before = blend.log_odds(low)
    for more in (generator.gamma(0.5, size=some.shape) * some, 5.0):
        high = low.copy()
        high[:, RISING] += more
        gain = blend.log_odds(high) - before
        assert (gain >= -1e-12).all()
    assert gain.max() > 0


class Night(NamedTuple):
    """What was proposed for a day, and what it came to like."""

    found: learned_blend.Pairs
    liked: np.ndarray
    """[n_users, n_videos]"""

    @property
    def right(self) -> np.ndarray:
        """Which pairs are liked."""
        return learned_blend.liked(self.found, *np.nonzero(self.liked))


N_USERS, N_VIDEOS, LENGTH = 400, 80, 25
HISTORY = np.where(np.arange(N_USERS) % 2, 8, 0)
WARM = HISTORY > 0
EQUAL = closed_form.Config(weights={}, other=closed_form.Weight(warm=1, cold=1))


def proposed(generator: np.random.Generator, right: np.ndarray, knows: np.ndarray) -> pa.Table:
    """A source that knows what is right for some users [n_users] and guesses for the others."""
    scores = generator.normal(size=right.shape) + 2.0 * right * knows[:, None]
    user, video = np.divmod(np.arange(right.size), N_VIDEOS)
    return by_score(user, video, scores.ravel(), k=LENGTH)


def night(seed: int, day: int) -> Night:
    """A day likes half of what is right for each user, and a few videos that are the talk of that day.

    One source knows users with a history, one those without, one knows nothing. The facts of a video
    are the same on all days, and say nothing, but they tell it from the others.
    """
    facts = learned_blend.Facts(
        HISTORY, np.random.default_rng(seed).random((N_VIDEOS, N_FACTS)).astype(np.float32)
    )
    generator = np.random.default_rng([seed, day])
    right = generator.random((N_USERS, N_VIDEOS)) < 0.08
    talk = np.isin(np.arange(N_VIDEOS), generator.permutation(N_VIDEOS)[:4])
    chance = np.where(talk, 0.25, 0.0) + 0.5 * right
    knowing = {"video_neighbours": WARM, "content": ~WARM, "zebra": np.zeros(N_USERS, dtype=bool)}
    sources = {name: proposed(generator, right, knows) for name, knows in knowing.items()}
    found = learned_blend.pairs(sources, facts=facts, closed=EQUAL)
    return Night(found, generator.random(right.shape) < chance)


@cache
def learned(seed: int) -> tuple[learned_blend.Blend, Night]:
    """A blend of six days, and the day after."""
    config, rng = learned_blend.Config(), np.random.default_rng(seed)
    days = [night(seed, day) for day in range(6)]
    some = [learned_blend.examples(one.found, one.right, config=config, rng=rng) for one in days]
    blend = learned_blend.fit(some, SOURCES, config=config)
    assert blend is not None
    return blend, night(seed, 6)


def share(rows: pa.Table, liked: np.ndarray) -> float:
    """Share of the listed videos that the day liked."""
    return float(liked[rows["user_idx"].to_numpy(), rows["video_idx"].to_numpy()].mean())


@pytest.mark.parametrize("seed", range(3))
def test_fit_learns_which_source_suits_whom(seed: int) -> None:
    """Of the first ten a fresh day likes 21 to 23 %, of those of the closed form 13 %."""
    blend, fresh = learned(seed)
    found = fresh.found
    closed = by_score(found.user, found.video, found.values[:, CLOSED_AT], k=10)
    by_trees = learned_blend.order(blend, found, k=10)
    assert by_trees.num_rows == closed.num_rows == 10 * N_USERS
    assert share(by_trees, fresh.liked) > share(closed, fresh.liked) + 0.06


@pytest.mark.parametrize("seed", range(3))
def test_weights_show_which_source_suits_whom(seed: int) -> None:
    """The right one has 28 to 33 %, the other 20 to 23 %, the one that guesses below 0.1 %."""
    blend, fresh = learned(seed)
    rows = learned_blend.weights(
        learned_blend.effects(blend, fresh.found),
        fresh.found.user,
        history=HISTORY,
        buckets=BUCKETS,
    ).to_pylist()
    weight = {(row["bucket"], row["source"]): row["weight"] for row in rows}
    assert {row["bucket"] for row in rows} == {"history=0", "history=6-20"}
    assert {row["users"] for row in rows} == {N_USERS // 2}
    for bucket, right, wrong in (
        ("history=0", "content", "video_neighbours"),
        ("history=6-20", "video_neighbours", "content"),
    ):
        assert weight[bucket, right] > weight[bucket, wrong] + 0.03
        assert weight[bucket, "zebra"] < 0.02


def test_order_is_by_chance_then_closed_form_then_video() -> None:
    """Few trees say the same of many pairs."""
    found, config = night(0, 6).found, learned_blend.Config(trees=3)
    blend = learned_blend.fit([humps(0), humps(1)], SOURCES, config=config)
    assert blend is not None
    blend = replace(blend, slope=0.0)
    chances, closed = blend.chances(found.values), found.values[:, CLOSED_AT]
    rows, n_equal, n_same = learned_blend.order(blend, found, k=7).to_pylist(), 0, 0
    for user in range(N_USERS):
        mine = np.flatnonzero(found.user == user)
        best = sorted(mine, key=lambda at: (-chances[at], -closed[at], found.video[at]))[:7]
        listed = [row for row in rows if row["user_idx"] == user]
        assert [row["video_idx"] for row in listed] == found.video[best].tolist()
        assert [row["rank"] for row in listed] == list(range(1, 8))
        assert [row["score"] for row in listed] == pytest.approx(chances[best].tolist(), rel=1e-6)
        n_equal += 7 - len(set(chances[best]))
        n_same += 7 - len(set(zip(chances[best], closed[best], strict=True)))
    assert n_equal > n_same > 20


def test_order_equal_chances_follow_the_closed_form_and_none_is_zero() -> None:
    found = learned_blend.pairs(
        {"zebra": candidates({0: [4, 3, 2, 1, 0]}), "ant": candidates({0: [0, 1]})},
        facts=learned_blend.Facts(np.array([3]), np.zeros((5, N_FACTS), np.float32)),
        closed=CLOSED,
    )
    closed = found.values[:, found.names.index("closed_form")].tolist()
    assert sorted(range(5), key=lambda at: -closed[at]) == [0, 1, 4, 3, 2]
    told = np.array([0.0, learned_blend.LEAST / 2, 0.7, 0.7, 1.0])
    fake: Any = SimpleNamespace(chances=lambda values: told, names=found.names)
    rows = learned_blend.order(fake, found, k=5).to_pydict()
    assert rows["video_idx"] == [4, 3, 2, 0, 1]
    assert rows["score"] == pytest.approx([1, 0.7, 0.7, learned_blend.LEAST, learned_blend.LEAST])


def test_effects_sum_to_the_log_odds() -> None:
    blend, fresh = learned(0)
    found = fresh.found
    told = learned_blend.effects(blend, found)
    assert set(told) == {*SOURCES, "closed_form", "known"}
    each = np.asarray(blend.trees.predict(found.values, pred_contrib=True))
    whole = blend.log_odds(found.values) - each[:, -1]
    np.testing.assert_allclose(sum(told.values()), whole, atol=1e-9)
    of = dict(zip(found.names, each.T, strict=False))
    for name in SOURCES:
        np.testing.assert_allclose(told[name], of[f"points_{name}"] + of[f"score_{name}"])
    start = blend.start(found.values)
    np.testing.assert_allclose(told["closed_form"], of["closed_form"] + start)


def test_effects_of_the_closed_form_sum_to_its_points() -> None:
    sources = {"content": candidates({0: [1, 2], 2: [0]}), "zebra": candidates({0: [2], 1: [0, 1]})}
    history = np.array([0, 4, 90])
    found = learned_blend.pairs(
        sources,
        facts=learned_blend.Facts(history, np.zeros((3, N_FACTS), np.float32)),
        closed=CLOSED,
    )
    told = learned_blend.closed_effects(found, CLOSED, history=history)
    points = found.values[:, found.names.index("closed_form")]
    np.testing.assert_allclose(sum(told.values()), points, rtol=1e-6)
    assert told["zebra"][0] == 0
    assert told["content"][0] == pytest.approx(0.6 / 61)


def random_lists(generator: np.random.Generator, n_users: int) -> dict[str, pa.Table]:
    """Candidates of two sources, rows in no order."""
    found = {}
    for name in ("content", "zebra"):
        lists = {
            u: generator.permutation(10)[: generator.integers(0, 6)].tolist()
            for u in generator.permutation(n_users).tolist()
        }
        rows = candidates(lists)
        found[name] = rows.take(generator.permutation(rows.num_rows))
    return found


def test_scores_of_pairs_do_not_depend_on_blocks() -> None:
    generator = np.random.default_rng(1)
    lists = random_lists(generator, 23)
    facts = learned_blend.Facts(
        generator.integers(0, 9, 23), generator.normal(size=(10, 3)).astype(np.float32)
    )
    whole = learned_blend.pairs(lists, facts=facts, closed=closed_form.Config())
    for size in (1, 4, 23, 100):
        blocks = list(learned_blend.in_blocks(lists, size=size))
        assert len(blocks) == -(-len(np.unique(whole.user)) // size)
        parts = [
            learned_blend.pairs(one, facts=facts, closed=closed_form.Config()) for one in blocks
        ]
        for name in ("user", "video", "values"):
            joined = np.concatenate([getattr(one, name) for one in parts])
            np.testing.assert_array_equal(joined, getattr(whole, name))
    (none,) = learned_blend.in_blocks({"content": candidates({})}, size=4)
    assert none["content"].num_rows == 0


@given(st.integers(0, 2**32 - 1))
def test_weights_are_shares_of_the_spread_within_a_users_candidates(seed: int) -> None:
    generator = np.random.default_rng(seed)
    user = np.sort(generator.integers(0, 6, generator.integers(0, 30)))
    history = generator.choice([0, 1, 2, 3, 5, 6, 20, 21, 500], 6)
    told = {name: generator.normal(size=len(user)) * 3 for name in ("zebra", "ant", "known")}
    rows = learned_blend.weights(told, user, history=history, buckets=BUCKETS).to_pylist()
    right = {}
    for bucket, least, most in BUCKETS:
        upper = np.inf if most is None else most
        members = [u for u in sorted(set(user.tolist())) if least <= history[u] <= upper]
        spread = {name: sum(float(np.std(told[name][user == u])) for u in members) for name in told}
        if sum(spread.values()) > 0:
            right |= {
                (bucket, name): (one / sum(spread.values()), len(members))
                for name, one in spread.items()
            }
    found = {(row["bucket"], row["source"]): (row["weight"], row["users"]) for row in rows}
    assert list(found) == [
        (b, name) for b, _, _ in BUCKETS for name in sorted(told) if (b, name) in right
    ]
    for key, (weight, n) in found.items():
        assert (weight, n) == (pytest.approx(right[key][0], rel=1e-9), right[key][1])
    for bucket in {row["bucket"] for row in rows}:
        assert sum(row["weight"] for row in rows if row["bucket"] == bucket) == pytest.approx(1)


def test_order_without_candidates_is_empty() -> None:
    found = learned_blend.pairs(
        {name: candidates({}) for name in SOURCES},
        facts=learned_blend.Facts(np.array([0, 3]), np.zeros((4, N_FACTS), np.float32)),
        closed=CLOSED,
    )
    for told in (
        learned_blend.effects(of_humps(), found),
        learned_blend.closed_effects(found, CLOSED, history=np.array([0, 3])),
    ):
        rows = learned_blend.weights(told, found.user, history=np.array([0, 3]), buckets=BUCKETS)
        kinds = [pa.string(), pa.string(), pa.float64(), pa.int64()]
        assert (rows.num_rows, rows.schema.types) == (0, kinds)
    assert learned_blend.order(of_humps(), found, k=3).num_rows == 0


def test_weights_types_are_equal_with_and_without_rows() -> None:
    told, user, history = {"ant": np.array([1.0, 2.0])}, np.array([0, 0]), np.array([2])
    some = learned_blend.weights(told, user, history=history, buckets=BUCKETS)
    none = learned_blend.weights(told, user, history=history, buckets=BUCKETS[:1])
    assert some.to_pylist() == [{"bucket": "history=2", "source": "ant", "weight": 1.0, "users": 1}]
    assert (none.num_rows, none.schema) == (0, some.schema)


def test_trees_loaded_are_equal_and_other_sources_refused(tmp_path: Path) -> None:
    blend, fresh = learned(0)
    learned_blend.save(blend, tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {learned_blend.FILE, learned_blend.START}
    read = learned_blend.load(tmp_path, SOURCES[::-1])
    values = fresh.found.values
    np.testing.assert_array_equal(read.log_odds(values), blend.log_odds(values))
    for other in (SOURCES[:2], (*SOURCES, "ant"), (*SOURCES[:2], "zebu")):
        with pytest.raises(MicrorecError, match="learned from"):
            learned_blend.load(tmp_path, other)


def test_blend_of_an_older_night_has_the_trees_alone(tmp_path: Path) -> None:
    blend, fresh = learned(0)
    learned_blend.save(blend, tmp_path)
    (tmp_path / learned_blend.START).unlink()
    older = learned_blend.load(tmp_path, SOURCES)
    expected = blend.trees.predict(fresh.found.values, raw_score=True)
    np.testing.assert_allclose(older.log_odds(fresh.found.values), expected)


def of_points(seed: int, slope: float, n: int = 40_000) -> learned_blend.Examples:
    """What is liked follows the closed form alone: odds (20 points)^slope / 9."""
    generator = np.random.default_rng(seed)
    values = features(generator, n)
    values[:, CLOSED_AT] = generator.uniform(0.001, 0.1, n)
    odds = (20 * values[:, CLOSED_AT]) ** slope / 9
    return learned_blend.Examples(values, generator.random(n) < odds / (1 + odds))


@pytest.mark.parametrize("slope", [0.5, 1.5])
def test_fit_where_the_closed_form_says_all_is_its_order(slope: float) -> None:
    """Slope and offset are those of the world, and the trees have next to nothing to say."""
    config = learned_blend.Config(negatives=1.0)
    blend = learned_blend.fit([of_points(0, slope), of_points(1, slope)], SOURCES, config=config)
    assert blend is not None
    assert blend.slope == pytest.approx(slope, abs=0.06)
    assert blend.offset == pytest.approx(slope * math.log(20) - math.log(9), abs=0.2)
    fresh = of_points(2, slope).values
    assert np.corrcoef(blend.log_odds(fresh), blend.start(fresh))[0, 1] > 0.99


def test_fit_closed_form_that_misleads_or_says_nothing_has_no_slope() -> None:
    falling = learned_blend.fit([of_points(0, -1), of_points(1, -1)], SOURCES, config=FEW)
    nights = [of_points(seed, 0) for seed in range(2)]
    for one in nights:
        one.values[:, CLOSED_AT] = 0.0
    constant = learned_blend.fit(nights, SOURCES, config=FEW)
    assert falling is not None
    assert constant is not None
    assert falling.slope == constant.slope == 0
    assert np.isfinite(constant.log_odds(nights[0].values)).all()


FEW = learned_blend.Config(negatives=1.0, trees=1)


def test_chances_are_those_of_candidates_not_of_the_sample() -> None:
    """A quarter of what nobody liked is learned from; the chances are right for all candidates of users who like."""
    whole = [of_points(seed, 1.0) for seed in range(2)]
    rng = np.random.default_rng(3)
    sampled = []
    for one in whole:
        kept = one.liked | (rng.random(len(one.liked)) < 0.25)
        sampled.append(learned_blend.Examples(one.values[kept], one.liked[kept]))
    blend = learned_blend.fit(sampled, SOURCES, config=learned_blend.Config(negatives=0.25))
    assert blend is not None
    fresh = of_points(4, 1.0)
    assert blend.chances(fresh.values).mean() == pytest.approx(fresh.liked.mean(), rel=0.05)
