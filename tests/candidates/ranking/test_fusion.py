"""Weights of the rank fusion by evidence: what helps gets weight, what does not gets none."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest

from microrec.candidates.ranking import closed_form, fusion
from microrec.evaluation import ranking
from microrec.evaluation.truth import Truth
from tests.worlds.candidates import candidates

N_VIDEOS = 300
DEPTH = 40
PRIOR = closed_form.Config(c=20.0, kappa=2.0)


def service(
    seed: int, *, n_users: int, skill: Mapping[str, float], places: int = 6
) -> tuple[dict[str, pa.Table], tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Sources that each find a liked video with a chance of its own, among the first `places` of a random list.

    Returns:
        Candidates by source, user_idx and video_idx of what is liked, two a user, and histories.
    """
    rng = np.random.default_rng(seed)
    liked = np.stack([rng.permutation(N_VIDEOS)[:2] for _ in range(n_users)])
    sources = {}
    for name, chance in skill.items():
        lists = {}
        for user in range(n_users):
            others = rng.permutation(np.setdiff1d(np.arange(N_VIDEOS), liked[user]))[:DEPTH]
            own = [video for video in liked[user] if rng.random() < chance]
            lists[user] = np.insert(others, rng.integers(0, places, len(own)), own)[:DEPTH].tolist()
        sources[name] = candidates(lists)
    users = np.repeat(np.arange(n_users), 2)
    return sources, (users, liked.ravel()), rng.integers(0, 9, n_users)


def evidence(seed: int, *, n_users: int, skill: Mapping[str, float]) -> fusion.Evidence:
    sources, right, history = service(seed, n_users=n_users, skill=skill)
    return fusion.evidence(sources, right=right, history=history, prior=PRIOR)


def value(world: fusion.Evidence, config: closed_form.Config) -> float:
    """Sum of NDCG@20 over the users."""
    chosen = [config.chosen(source) for source in world.sources]
    weights = np.array([[weight.cold, weight.warm] for weight in chosen])
    search = fusion._Search(world, caution=1.0)
    return float(search.ndcg(search.scores(weights)).sum())


def test_ndcg_of_the_search_equals_that_of_the_evaluation() -> None:
    sources, right, history = service(1, n_users=30, skill={"ant": 0.5, "bee": 0.9}, places=DEPTH)
    world = fusion.evidence(sources, right=right, history=history, prior=PRIOR)
    search = fusion._Search(world, caution=1.0)
    by_search = np.zeros(30)
    by_search[world.users] = search.ndcg(search.scores(np.array([[0.0, 0.0], [1.0, 1.0]])))
    users, row = np.unique(right[0], return_inverse=True)
    nobody = np.zeros(N_VIDEOS, dtype=np.int64)
    truth = Truth(users, row, right[1], history, nobody, np.ones(N_VIDEOS, dtype=np.bool_))
    listed = ranking.matrix(sources["bee"], truth, k=20)
    _, metrics, values = ranking.per_user({"bee": listed}, truth, (20,))
    expected = values[:, 0, metrics.index("ndcg@20")]
    np.testing.assert_allclose(by_search, expected, rtol=1e-6)


def test_fit_gives_no_weight_to_sources_that_do_not_help() -> None:
    skill = {"popularity": 0.3, "video_neighbours": 0.5, **dict.fromkeys(("x", "y", "z"), 0.0)}
    world = evidence(2, n_users=600, skill=skill)
    config = fusion.fit(world, prior=PRIOR, config=fusion.Config())
    given = {name for name in skill if max(config.chosen(name).model_dump().values()) > 0}
    assert given == {"popularity", "video_neighbours"}
    assert config.chosen("a source without candidates").model_dump() == {"warm": 0.0, "cold": 0.0}


def test_pruned_source_that_changes_no_order_goes_and_others_stay() -> None:
    search = fusion._Search(evidence(10, n_users=300, skill={"ant": 0.4, "bee": 0.4, "x": 0}), 1.0)
    pruned = fusion._pruned(search, np.array([[1.0, 1.0], [1.0, 1.0], [1e-9, 1e-9]]))
    assert pruned.tolist() == [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize(("caution", "counts"), [(0.0, True), (1.0, False)])
def test_search_gain_within_the_noise_counts_for_nothing(caution: float, counts: bool) -> None:
    search = fusion._Search(evidence(11, n_users=20, skill={"ant": 0.5}), caution)
    gain = np.array([1.0, -0.9, 0.2, -0.1])  # mean .05, standard error .39
    assert (search._merit(gain) > 0) is counts


def test_fit_is_not_below_the_best_source_on_other_users() -> None:
    """The prior was chosen on another service, where popularity is strong."""
    skill = {"popularity": 0.02, "content": 0.01, "video_neighbours": 0.5, "x": 0.0}
    prior = closed_form.fitted(PRIOR, {"popularity": closed_form.Weight(warm=1, cold=1)})
    world = evidence(3, n_users=400, skill=skill)
    config = fusion.fit(world, prior=prior, config=fusion.Config())
    others = evidence(4, n_users=400, skill=skill)
    best = value(others, closed_form.only("video_neighbours", PRIOR))
    assert value(others, prior) < 0.5 * best
    assert value(others, config) >= 0.99 * best


def test_fit_joins_sources_that_complement_one_another() -> None:
    skill = {"ant": 0.4, "bee": 0.4}
    config = fusion.fit(evidence(5, n_users=600, skill=skill), prior=PRIOR, config=fusion.Config())
    others = evidence(6, n_users=600, skill=skill)
    best = max(value(others, closed_form.only(name, PRIOR)) for name in skill)
    assert value(others, config) > 1.1 * best


@pytest.mark.parametrize(
    ("n_users", "chance", "followed"),
    [(150, 0.3, "prior"), (150, 0.9, "x"), (40, 0.9, "prior")],
)
def test_fit_with_little_evidence_keeps_the_prior_or_follows_one_source(
    n_users: int, chance: float, followed: str
) -> None:
    """A prior that trusts popularity ruins a small service; of 40 users the gain is below two standard errors."""
    world = evidence(7, n_users=n_users, skill={"popularity": 0.3, "x": chance})
    config = fusion.Config(least_liked=len(world.liked) + 1)
    fitted = fusion.fit(world, prior=PRIOR, config=config)
    wanted = closed_form.only("x", PRIOR) if followed == "x" else PRIOR
    assert value(world, fitted) == value(world, wanted)


def test_fit_with_nothing_liked_keeps_the_prior() -> None:
    world = evidence(7, n_users=40, skill={"popularity": 0.3, "x": 0.3})
    nobody = world.only(np.zeros(len(world.users), dtype=np.bool_))
    assert fusion.fit(nobody, prior=PRIOR, config=fusion.Config()) is PRIOR


def test_fit_folds_uses_no_feedback_of_the_fold() -> None:
    skill = {"ant": 0.4, "bee": 0.3, "x": 0.0}
    sources, right, history = service(8, n_users=400, skill=skill)
    config = fusion.Config(folds=2, least_liked=20)
    first = fusion.evidence(sources, right=right, history=history, prior=PRIOR)
    in_fold_1 = closed_form.fold_of(right[0], 2) == 1
    proposed_by_x = sources["x"].filter(sources["x"]["rank"].to_numpy() <= 2)
    by_chance = proposed_by_x["video_idx"].to_numpy()  # two a user, as what is liked
    changed = (right[0], np.where(in_fold_1, by_chance, right[1]))
    second = fusion.evidence(sources, right=changed, history=history, prior=PRIOR)
    before = fusion.fit_folds(first, prior=PRIOR, config=config)
    after = fusion.fit_folds(second, prior=PRIOR, config=config)
    assert before[1] == after[1], "fold 1 is ordered by what the others liked"
    assert before[2] != after[2], "fold 2 by what fold 1 liked"


def test_cross_fitted_weights_are_those_of_the_users_fold() -> None:
    folds = tuple(closed_form.only(name, PRIOR) for name in ("ant", "bee"))
    weights = closed_form.CrossFitted(folds)
    given = weights.weight("ant", users=np.array([0, 1, 2, 5]), history=np.array([0, 3, 0, 9]))
    assert given.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert (weights.c, weights.block_cells) == (PRIOR.c, PRIOR.block_cells)


def test_worth_is_what_the_lists_lose_without_a_source() -> None:
    skill = {"ant": 0.6, "bee": 0.3, "cat": 0.3}
    world = evidence(11, n_users=200, skill=skill)
    weights = [{"ant": (1.0, 0.5), "bee": (0.5, 0.5), "cat": (0, 0)}, {"bee": (0.2, 1.0)}]
    folds = [
        closed_form.fitted(
            PRIOR,
            {name: closed_form.Weight(cold=cold, warm=warm) for name, (cold, warm) in of.items()},
        )
        for of in weights
    ]
    worth = fusion.worth(world, folds)
    assert list(worth) == ["ant", "bee", "cat"]
    fold = closed_form.fold_of(world.users, 2)
    for number, config in enumerate(folds, start=1):
        members = world.only(fold == number)
        for source, gains in worth.items():
            without = {name: of for name, of in config.weights.items() if name != source}
            lost = value(members, config) - value(members, closed_form.fitted(PRIOR, without))
            assert gains[fold == number].sum() == pytest.approx(lost, abs=1e-9), (source, number)
    assert not worth["cat"].any()
    assert not worth["ant"][fold == 2].any()
    assert worth["ant"].mean() > 0.01


@pytest.mark.parametrize("size", [1, 7, 100])
def test_together_parts_of_users_give_the_evidence_of_all(size: int) -> None:
    sources, right, history = service(9, n_users=50, skill={"ant": 0.3, "bee": 0.2})
    whole = fusion.evidence(sources, right=right, history=history, prior=PRIOR)
    parts = []
    for start in range(0, 50, size):
        in_part = {
            name: rows.filter(pa.array(rows["user_idx"].to_numpy() // size == start // size))
            for name, rows in sources.items()
        }
        parts.append(fusion.evidence(in_part, right=right, history=history, prior=PRIOR))
    joined = fusion.together(parts)
    for name in ("users", "start", "points", "warmth", "liked", "ideal"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name), err_msg=name)
