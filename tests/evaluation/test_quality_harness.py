"""The harness of the quality benchmarks says what a loop over users, lists and seeds says."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from microrec.core.fitted import Embeddings, NeighbourLists
from microrec.core.knowledge import Knowledge
from microrec.evaluation import bootstrap
from tests.benchmarks import quality

N_VIDEOS = 90


def case(seed: int = 0, n_users: int = 40) -> quality.Case:
    """Random histories and truths; the last user is a stranger to the fit."""
    generator = np.random.default_rng(seed)
    liked = np.zeros((n_users, N_VIDEOS))
    wanted = []
    for user in range(n_users):
        videos = generator.permutation(N_VIDEOS)
        n = int(generator.choice([0, 1, 2, 4, 8, 25]))
        liked[user, videos[:n][videos[:n] < N_VIDEOS - 8]] = 1  # the last eight are cold
        wanted += [(user, int(video)) for video in videos[n : n + generator.integers(1, 4)]]
    wanted.append((n_users + 3, 5))
    train = csr_matrix(liked.astype(np.float32))
    history = np.diff(train.indptr).astype(np.int64)
    viewers = liked.sum(axis=0).astype(np.int64)
    eligible = np.ones(N_VIDEOS, dtype=np.bool_)
    pairs = np.array(wanted)[generator.permutation(len(wanted))]
    right = quality.truth(pairs, history=history, viewers=viewers, eligible=eligible)
    return quality.Case("val", right, Knowledge(train, train, eligible))


def embeddings(seed: int, n_users: int = 40) -> Embeddings:
    generator = np.random.default_rng(seed)
    rows = [generator.standard_normal((n, 3)).astype(np.float32) for n in (n_users, N_VIDEOS)]
    return Embeddings(*rows, np.ones(n_users, dtype=np.bool_), np.ones(N_VIDEOS, dtype=np.bool_))


def most_viewed(on: quality.Case, seen: set[int]) -> list[int]:
    order = sorted(set(range(N_VIDEOS)) - seen, key=lambda video: -on.truth.viewers[video])
    return order[: quality.K]


def slow(fitted: Embeddings, on: quality.Case) -> dict[int, list[int]]:
    """Lists of K by a full sort of every score."""
    found = {}
    for user in on.truth.users.tolist():
        if user < len(fitted.user):
            seen = set(on.known.seen[[user]].indices.tolist())
            scores = fitted.video @ fitted.user[user]
            order = sorted(set(range(N_VIDEOS)) - seen, key=lambda video: -scores[video])
            found[user] = order[: quality.K]
        else:
            found[user] = most_viewed(on, set())
    return found


def figures(lists: dict[int, list[int]], on: quality.Case, users: list[int], cold: bool = False):
    """Means over the users of recall@20, ndcg@20, mrr@20 and hit_ratio@20, by loops."""
    found: dict[str, list[float]] = {
        "recall@20": [],
        "ndcg@20": [],
        "mrr@20": [],
        "hit_ratio@20": [],
    }
    for user in users:
        mine = on.truth.video[on.truth.users[on.truth.row] == user]
        right = {int(video) for video in mine if not cold or on.truth.viewers[video] == 0}
        if not right:
            continue
        hits = [rank for rank, video in enumerate(lists[user][:20], start=1) if video in right]
        ideal = sum(1 / math.log2(1 + rank) for rank in range(1, 1 + min(20, len(right))))
        found["recall@20"].append(len(hits) / len(right))
        found["ndcg@20"].append(sum(1 / math.log2(1 + rank) for rank in hits) / ideal)
        found["mrr@20"].append(1 / hits[0] if hits else 0)
        found["hit_ratio@20"].append(bool(hits))
    return {metric: float(np.mean(values)) for metric, values in found.items()}


def rows(on: quality.Case, **models: list[int]) -> dict[tuple[object, ...], dict[str, object]]:
    lists = {
        name: [quality.lists_of(embeddings(seed), on) for seed in seeds]
        for name, seeds in models.items()
    }
    found = quality.rows("b", on.split, lists, on.truth)
    by_key = {
        tuple(one[key] for key in ("benchmark", "name", "metric", "split")): one for one in found
    }
    assert len(by_key) == len(found)
    return by_key


def test_quality_values_equal_loops_overall_by_history_and_cold() -> None:
    on = case()
    found = rows(on, one=[1])
    lists = slow(embeddings(1), on)
    users = on.truth.users.tolist()
    history = dict(zip(users, on.truth.history.tolist(), strict=True))
    groups = {
        "val": (users, False),
        "val history=0": ([user for user in users if history[user] == 0], False),
        "val history>0": ([user for user in users if history[user] > 0], False),
        "val history=3-5": ([user for user in users if 3 <= history[user] <= 5], False),
        "val history=>20": ([user for user in users if history[user] > 20], False),
        "val cold_videos": (users, True),
    }
    for split, (members, cold) in groups.items():
        assert members
        for metric, value in figures(lists, on, members, cold).items():
            assert found["b", "one", metric, split]["value"] == pytest.approx(value, rel=1e-5)
    assert history[43] == 0, "a stranger counts, with the most viewed videos"
    assert "all 41" in quality.sizes(on.truth)


def test_quality_seeds_are_averaged_with_their_spread() -> None:
    on, users = case(), case().truth.users.tolist()
    found = rows(on, two=[1, 2], one=[3])
    values = [figures(slow(embeddings(seed), on), on, users)["ndcg@20"] for seed in (1, 2, 3)]
    told = found["b", "two", "ndcg@20", "val"]
    assert told["value"] == pytest.approx(np.mean(values[:2]), rel=1e-5)
    assert told["seeds"] == 2
    assert told["low"] < told["value"] < told["high"]
    spread = abs(values[0] - values[1]) / math.sqrt(2)
    assert found["b", "two", "ndcg@20 sd", "val"]["value"] == pytest.approx(spread, rel=1e-4)
    assert ("b", "one", "ndcg@20 sd", "val") not in found
    best = sorted(["one", "two"], key=lambda name: -found["b", name, "recall@20", "val"]["value"])
    gain = found["b: paired differences", " - ".join(best), "ndcg@20", "val"]
    both = [found["b", name, "ndcg@20", "val"]["value"] for name in best]
    assert gain["value"] == pytest.approx(both[0] - both[1], rel=1e-5)
    assert gain["low"] < gain["value"] < gain["high"]


def test_quality_difference_is_paired_by_user() -> None:
    """Two models with the same lists differ by nothing for certain, though either is uncertain."""
    found = rows(case(), a=[1], b=[1])
    one = found["b", "a", "recall@20", "val"]
    assert one["high"] - one["low"] > 0.05
    gain = found["b: paired differences", "a - b", "recall@20", "val"]
    assert gain["low"] == gain["value"] == gain["high"] == 0


def test_quality_beyond_accuracy_is_averaged_over_seeds() -> None:
    on = case()
    found = rows(on, two=[1, 2])
    shown = [
        {video for mine in slow(embeddings(seed), on).values() for video in mine[:20]}
        for seed in (1, 2)
    ]
    share = np.mean([len(videos) / N_VIDEOS for videos in shown])
    assert found["b", "two", "coverage@20", "val"]["value"] == pytest.approx(share)
    assert {"gini@20", "popularity_lift@20"} <= {key[2] for key in found}


def test_quality_ties_follow_the_hash_of_the_id() -> None:
    ids = quality.in_hash_order([f"v{number}" for number in range(N_VIDEOS)])
    digests = [hashlib.md5(one.encode()).hexdigest() for one in ids]
    assert digests == sorted(digests)
    assert ids != sorted(ids)
    on = case()
    same = Embeddings(
        np.ones((40, 1), np.float32), np.ones((N_VIDEOS, 1), np.float32), np.ones(40, np.bool_),
        np.ones(N_VIDEOS, np.bool_),
    )  # fmt: skip
    listed = quality.lists_of(same, on)
    for row, user in enumerate(on.truth.users.tolist()):
        if user >= 40:
            continue
        seen = set(on.known.seen[[user]].indices.tolist())
        free = [digests[video] for video in range(N_VIDEOS) if video not in seen]
        shown = [digests[video] for video in listed[row] if video < N_VIDEOS]
        assert shown == sorted(free)[: quality.K]


def test_quality_blend_adds_scores_divided_by_the_largest_allowed() -> None:
    on = case()
    near = np.triu(np.random.default_rng(5).random((N_VIDEOS, N_VIDEOS)), 1).astype(np.float32)
    kept = csr_matrix(near + near.T)
    videos = NeighbourLists("video", kept.indptr.astype(np.int64), kept.indices, kept.data)
    vectors = embeddings(4)
    blend = quality.Blend([(videos, 1.0), (vectors, 0.3)])
    users = np.array([7, 2, 20])
    scores = blend.scores(users, on.known)
    for row, user in enumerate(users):
        liked = on.known.positives[[user]].toarray()[0]
        parts = [liked @ kept.toarray(), vectors.video @ vectors.user[user]]
        most = [part[liked == 0].max() for part in parts]
        parts = [part / top if top > 0 else 0 * part for part, top in zip(parts, most, strict=True)]
        np.testing.assert_allclose(scores[row], parts[0] + 0.3 * parts[1], rtol=1e-4, atol=1e-6)
    alone = quality.lists_of(quality.Blend([(videos, 1.0)]), on)
    assert (alone == quality.lists_of(videos, on))[on.truth.history > 0].all()


def test_quality_short_lists_are_filled_with_most_viewed_videos() -> None:
    """A model with one neighbour per video, twelve videos not eligible, lists as long as they can be."""
    on = case()
    eligible = np.arange(N_VIDEOS) % 8 > 0
    on = replace(on, known=replace(on.known, eligible=eligible))
    ones = np.ones(N_VIDEOS, np.float32)
    next_one = np.roll(np.arange(N_VIDEOS), -1).astype(np.int32)
    near = NeighbourLists("video", np.arange(N_VIDEOS + 1), next_one, ones)
    barred = set(np.flatnonzero(~eligible).tolist())
    for k in (quality.K, N_VIDEOS):
        listed = quality.lists_of(near, on, k=k)
        for mine, user in zip(listed.tolist(), on.truth.users.tolist(), strict=True):
            liked = set(on.known.seen[[user]].indices.tolist()) if user < 40 else set()
            own = sorted({(video + 1) % N_VIDEOS for video in liked} - liked - barred)
            taken = liked | barred | set(own)
            free = sorted(set(range(N_VIDEOS)) - taken, key=lambda one: -on.truth.viewers[one])
            whole = [*own, *free][:k]
            assert mine == whole + [N_VIDEOS] * (k - len(whole))


def test_quality_pooled_intervals_draw_users_with_all_nights() -> None:
    """Against a loop that draws users, gathers their rows and takes the mean."""
    generator = np.random.default_rng(8)
    who = generator.permutation(np.repeat([f"u{number}" for number in range(30)], [1, 2, 3] * 10))
    values = generator.random((len(who), 2)) + (who > "u2")[:, None]
    low, high = quality.interval(values, who, generator=np.random.default_rng(4))
    names = sorted(set(who.tolist()))
    drawn = np.random.default_rng(4).integers(0, 30, size=(quality.RESAMPLES, 30))
    means = []
    for draw in drawn:
        rows = [row for user in draw for row in np.flatnonzero(who == names[user])]
        means.append(values[rows].mean(axis=0))
    np.testing.assert_allclose([low, high], np.percentile(means, [2.5, 97.5], axis=0))
    alone = quality.interval(values, np.arange(len(who)), generator=np.random.default_rng(4))
    singly = bootstrap.interval(
        values, resamples=quality.RESAMPLES, generator=np.random.default_rng(4)
    )
    np.testing.assert_allclose(alone, singly)
    assert ((high - low) > 1.2 * (singly[1] - singly[0])).all(), "nights of a user are alike"


def test_quality_nights_are_pooled_by_user_and_night() -> None:
    """Users keep their names over nights that number them otherwise; so do parts and seeds."""
    cases = [case(1), case(2, n_users=25)]
    ids = [np.array([f"u{(7 * number + n) % 50}" for number in range(50)]) for n in (0, 3)]
    seeds = [{"a": [1, 2], "b": [3]}, {"a": [1, 2], "b": [3, 4]}]
    nights = []
    for on, called, asked in zip(cases, ids, seeds, strict=True):
        n_users = on.known.seen.shape[0]
        lists = {
            name: [quality.lists_of(embeddings(seed, n_users), on) for seed in some]
            for name, some in asked.items()
        }
        nights.append(quality.measured(lists, on.truth, ids=called))
    every = quality.pooled(nights)
    names = [called[on.truth.users].tolist() for on, called in zip(cases, ids, strict=True)]
    assert every[""].who.tolist() == [*names[0], *names[1]]
    assert len(set(names[0]) & set(names[1])) > 10
    pairs = [("a", "b")]
    found = {
        (one["name"], one["metric"]): one["value"]
        for one in quality.told("b", "all", every[""], pairs=pairs, spread=True)
    }
    recalls: dict[str, list[float]] = {"a": [], "b": []}
    for on, asked in zip(cases, seeds, strict=True):
        for name, some in asked.items():
            lists = [slow(embeddings(seed, on.known.seen.shape[0]), on) for seed in some]
            for user in on.truth.users.tolist():
                mine = [figures(one, on, [user])["recall@20"] for one in lists]
                recalls[name].append(float(np.mean(mine)))
    assert found["a", "recall@20"] == pytest.approx(np.mean(recalls["a"]), rel=1e-5)
    gain = np.mean(np.subtract(recalls["a"], recalls["b"]))
    assert found["a - b", "recall@20"] == pytest.approx(gain, rel=1e-4)
    assert every[""].values["b"].shape[0] == 2, "one fit stands for both seeds"
    assert ("b", "recall@20 sd") in found
    for part in (" history=0", " cold_videos"):
        assert len(every[part].who) == sum(len(one[part].who) for one in nights)
