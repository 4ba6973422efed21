"""Lists by an index: true scores, nobody's seen videos, and as many of the best as it says, or no index."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from microrec.candidates.retrieval import exact as retrieval
from microrec.candidates.retrieval import quantised, tiled
from microrec.core import knowledge
from microrec.core.fitted import Embeddings

N_USERS, N_VIDEOS, DIM, K = 600, 20_000, 16, 50


@pytest.fixture(scope="module")
def world() -> SimpleNamespace:
    """Clustered vectors of uneven length; some users have seen very much of what they like."""
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(80, DIM))
    video = centres[rng.integers(80, size=N_VIDEOS)] + 0.5 * rng.normal(size=(N_VIDEOS, DIM))
    video *= rng.lognormal(0, 0.5, (N_VIDEOS, 1))
    user = centres[rng.integers(80, size=N_USERS)] + 0.5 * rng.normal(size=(N_USERS, DIM))
    user, video = user.astype(np.float32), video.astype(np.float32)
    eligible = rng.random(N_VIDEOS) < 0.9
    best = np.argsort(-(user[:20] @ video.T), axis=1)[:, :300]
    rows, columns = np.repeat(np.arange(20), 300), best.ravel()
    more = rng.integers(N_USERS, size=5000), rng.integers(N_VIDEOS, size=5000)
    at = np.concatenate([rows, more[0]]), np.concatenate([columns, more[1]])
    seen = sparse.csr_matrix((np.ones(len(at[0]), np.float32), at), shape=(N_USERS, N_VIDEOS))
    everyone = np.ones(N_USERS, np.bool_)
    fitted = Embeddings(
        user=user, video=video, user_known=everyone, video_known=rng.random(N_VIDEOS) < 0.95
    )
    known = knowledge.Knowledge(seen=seen, positives=seen, eligible=eligible)
    return SimpleNamespace(fitted=fitted, known=known)


def searched(world: SimpleNamespace, **config: float) -> object:
    return retrieval.index(
        world.fitted,
        users=np.arange(N_USERS),
        known=world.known,
        k=K,
        config=retrieval.Config(**{"exact_up_to": 10_000, "sampled": 200, **config}),
        rng=np.random.default_rng(1),
    )


def lists(world: SimpleNamespace, index: object, users: np.ndarray) -> dict[str, np.ndarray]:
    table = retrieval.best(
        world.fitted, users=users, known=world.known, k=K, config=retrieval.Config(), index=index
    )
    return {name: table[name].to_numpy() for name in table.column_names}


def test_index_finds_nearly_all_with_exact_scores(
    world: SimpleNamespace,
) -> None:
    index, users = searched(world), np.arange(N_USERS)
    assert isinstance(index, quantised.Index)
    found, exact = lists(world, index, users), lists(world, None, users)
    np.testing.assert_array_equal(found["user_idx"], exact["user_idx"])
    np.testing.assert_array_equal(found["rank"], exact["rank"])
    true = np.einsum(
        "nd,nd->n",
        world.fitted.user[found["user_idx"]].astype(np.float64),
        world.fitted.video[found["video_idx"]],
    )
    np.testing.assert_allclose(found["score"], true, rtol=1e-4, atol=1e-4)
    same = found["user_idx"][1:] == found["user_idx"][:-1]
    assert (np.diff(found["score"])[same] <= 0).all()
    pairs = found["user_idx"].astype(np.int64) << 32 | found["video_idx"]
    assert len(np.unique(pairs)) == len(pairs)
    assert not world.known.seen[found["user_idx"], found["video_idx"]].any()
    allowed = world.known.eligible & world.fitted.video_known
    assert allowed[found["video_idx"]].all()
    wanted = exact["user_idx"].astype(np.int64) << 32 | exact["video_idx"]
    share = quantised.shares(np.isin(wanted, pairs), exact["user_idx"])
    assert 0.985 < share.mean() < 1, "an index that misses nothing would not need to be watched"
    assert share[:20].mean() > 0.95, "also of those who have seen what they like most"


def test_index_users_are_independent_and_a_copy_is_equal(
    world: SimpleNamespace,
) -> None:
    index = searched(world)
    whole = lists(world, index, np.arange(N_USERS))
    copy = pickle.loads(pickle.dumps(index))
    halves = [lists(world, copy, some) for some in np.array_split(np.arange(N_USERS), 3)]
    for name, column in whole.items():
        np.testing.assert_array_equal(np.concatenate([one[name] for one in halves]), column)


def test_index_absent_where_insufficient_or_unneeded(
    world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert searched(world, exact_up_to=N_VIDEOS) is None
    assert searched(world, sampled=N_USERS + 1) is None, "too few users to judge it by"
    monkeypatch.setattr(quantised, "DEPTHS", (1,))
    assert searched(world) is None, "too shallow"
    assert searched(world, least_recall=0.3) is not None
    world = SimpleNamespace(**vars(world))
    world.fitted = Embeddings(
        **{
            **vars(world.fitted),
            "user": world.fitted.user[:, :1],
            "video": world.fitted.video[:, :1],
        }
    )
    assert searched(world, least_recall=0.01) is None, "one dimension"


def test_depth_is_the_first_that_finds_enough(
    world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for more, it looks deeper; recall of the sample is told by hand."""
    monkeypatch.setattr(quantised, "DEPTHS", (1, 2, 4, 8, 16))
    users = np.random.default_rng(1).choice(N_USERS, 200, replace=False)
    shallow, deep = searched(world, least_recall=0.3), searched(world, least_recall=0.995)
    assert isinstance(shallow, quantised.Index)
    assert isinstance(deep, quantised.Index)
    assert shallow.depth == quantised.DEPTHS[0] < deep.depth
    exact = lists(world, None, users)
    wanted = exact["user_idx"].astype(np.int64) << 32 | exact["video_idx"]
    recalls = []
    for depth in quantised.DEPTHS:
        found = lists(world, quantised.Index(deep.catalogue, deep.codes, depth), users)
        mine = found["user_idx"].astype(np.int64) << 32 | found["video_idx"]
        share = quantised.shares(np.isin(wanted, mine), exact["user_idx"])
        recalls.append(share.mean() - 2 * share.std(ddof=1) / 200**0.5)
    assert deep.depth == next(
        d for d, one in zip(quantised.DEPTHS, recalls, strict=True) if one >= 0.995
    )
    assert isinstance(deep.catalogue, tiled.Catalogue)
