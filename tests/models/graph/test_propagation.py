"""Normalisations and products equal dense ones, gradients included."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microrec.models.graph import propagation
from microrec.models.graph.propagation import WatchGraph
from microrec.models.inputs.graph_arrays import Neighbours, build_graph
from tests.worlds import logs


def a_matrix(seed: int, n: int = 6, m: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((n, m)) * (rng.random((n, m)) < 0.4)


def dense_sym(a: np.ndarray) -> np.ndarray:
    out = np.zeros_like(a)
    for i, j in np.argwhere(a):
        out[i, j] = a[i, j] / np.sqrt(a[i].sum() * a[:, j].sum())
    return out


@given(st.integers(0, 10**6))
def test_normalisation_equals_dense(seed: int) -> None:
    a = a_matrix(seed)
    np.testing.assert_allclose(propagation.sym(sp.csr_matrix(a)).toarray(), dense_sym(a))


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_product_and_gradient_equal_dense(seed: int) -> None:
    a = torch.from_numpy(a_matrix(seed).astype(np.float32))
    square = a @ a.T
    for dense, symmetric in ((a, False), (square, True)):
        conv = propagation.SparseConv(sp.csr_matrix(dense.numpy()), symmetric=symmetric)
        x = torch.randn(dense.shape[1], 3, generator=torch.Generator().manual_seed(seed))
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        weight = torch.arange(dense.shape[0] * 3).reshape(-1, 3).float()
        torch.testing.assert_close(conv(one), dense @ other)
        (conv(one) * weight).sum().backward()
        (dense @ other * weight).sum().backward()
        torch.testing.assert_close(one.grad, other.grad)
        rows = torch.tensor([3, 1, 4, 1])
        one.grad = other.grad = None
        torch.testing.assert_close(conv.of(one, rows), (dense @ other)[rows])
        (conv.of(one, rows) * weight[:4]).sum().backward()
        ((dense @ other)[rows] * weight[:4]).sum().backward()
        torch.testing.assert_close(one.grad, other.grad)


def test_neighbour_matrix_keeps_warm_and_positive() -> None:
    pairs = Neighbours(
        node_idx=np.array([0, 0, 1, 2], dtype=np.int32),
        neighbour_idx=np.array([1, 2, 2, 0], dtype=np.int32),
        similarity=np.array([0.5, 0.25, -0.1, 0.75]),
    )
    keep = np.array([True, False, True])
    cosine = propagation.neighbour_matrix(pairs, n_nodes=3, keep=keep, by_similarity=True)
    assert cosine.toarray().tolist() == [[0, 0, 0.25], [0, 0, 0], [0.75, 0, 0]]
    ones = propagation.neighbour_matrix(pairs, n_nodes=3, keep=keep, by_similarity=False)
    assert ones.toarray().tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


def a_watch(seed: int) -> tuple[np.ndarray, np.ndarray, WatchGraph]:
    """Likes, users within the cap, and the graph of both; some nodes are without an edge."""
    rng = np.random.default_rng(seed)
    likes, within_cap = rng.random((7, 6)) < 0.4, rng.random(7) < 0.7
    edges = build_graph(logs.tables({"train": likes}), fit="final").edges
    return likes.astype(float), within_cap, WatchGraph(edges, within_cap=within_cap, n_videos=6)


def inverse(counts: np.ndarray, power: float) -> np.ndarray:
    return np.array([n**-power if n else 0.0 for n in counts])


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.sampled_from([0.0, 0.7]))
def test_watch_graph_equals_dense(seed: int, user_power: float, video_power: float) -> None:
    likes, within_cap, watch = a_watch(seed)
    user, video = np.nonzero(likes)
    out = np.flatnonzero(np.random.default_rng(seed).random(len(user)) < 0.3)
    for left_out in (np.array([], dtype=int), out, np.concatenate([out, out])):  # twice is once
        present = likes.copy()
        present[user[left_out], video[left_out]] = 0
        watched = watch.without(watch.whole.present, torch.from_numpy(left_out))
        within = present * within_cap[:, None]
        n_liked, n_viewers = present.sum(axis=1), within.sum(axis=0)
        np.testing.assert_array_equal(watched.n_liked, n_liked)
        np.testing.assert_array_equal(watched.n_viewers, n_viewers)
        scale = inverse(n_liked, user_power)[:, None]
        # who does not speak still sees what only such users have watched
        to_users = scale * present * inverse(np.maximum(n_viewers, 1), video_power)
        to_videos = (scale * within * inverse(n_viewers, video_power)).T
        some = torch.tensor([5, 0, 3, 5])
        for actual, expected in (
            (watched.to_users(user_power, video_power), to_users),
            (watched.to_videos(user_power, video_power), to_videos),
            (watched.to_some(watch.rows(some), user_power, video_power), to_users[some]),
        ):
            np.testing.assert_allclose(actual.matrix.to_dense(), expected, atol=1e-6)
            np.testing.assert_allclose(actual.transpose.to_dense(), expected.T, atol=1e-6)
    np.testing.assert_array_equal(watch.whole.n_liked, likes.sum(axis=1))  # nothing was changed


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.booleans(), st.integers(1, 4))
def test_light_gcn_and_gradient_equal_dense(seed: int, own: bool, layers: int) -> None:
    _, _, watch = a_watch(seed)
    watched = watch.without(watch.whole.present, torch.arange(0, len(watch.user), 3))
    forth, back = watched.to_users(0.5, 0.5), watched.to_videos(0.5, 0.5)
    generator = torch.Generator().manual_seed(seed)
    start = [torch.randn(n, 3, generator=generator) for n in (7, 6)]
    weights = [torch.randn(n, 3, generator=generator) for n in (7, 6)]
    ours = [rows.clone().requires_grad_() for rows in start]
    theirs = [rows.clone().requires_grad_() for rows in start]
    actual = propagation.light_gcn(
        ours[0] if own else None, ours[1], forth=forth, back=back, layers=layers
    )
    there, again = forth.matrix.to_dense(), back.matrix.to_dense()
    users = [theirs[0]] if own else []
    videos = [theirs[1]]
    last = (theirs[0] if own else None, theirs[1])
    for _ in range(layers):
        last = (
            None if last[1] is None else there @ last[1],
            None if last[0] is None else again @ last[0],
        )
        users += [last[0]] if last[0] is not None else []
        videos += [last[1]] if last[1] is not None else []
    expected = [sum(users) / len(users), sum(videos) / len(videos)]
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)
    for rows in (actual, expected):
        sum((part * weight).sum() for part, weight in zip(rows, weights, strict=True)).backward()
    torch.testing.assert_close(ours[1].grad, theirs[1].grad)
    if own:
        torch.testing.assert_close(ours[0].grad, theirs[0].grad)


def test_sparse_products_under_autocast_are_exact() -> None:
    """In a bfloat16 region they add up in float32, and gradients come back in the type of the rows."""
    _, _, watch = a_watch(3)
    forth = watch.whole.to_users(0.5, 0.5)
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    conv = propagation.AdjacencyConv()
    half = rows.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        actual = conv(half, forth)
        actual.sum().backward()
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, forth.matrix.to_dense() @ half.float())
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16


def test_degrees_under_autocast_have_full_precision() -> None:
    """bfloat16 knows no odd number above 256."""
    likes = np.array([[True] * 301, [False] * 301])
    edges = build_graph(logs.tables({"train": likes}), fit="final").edges
    watch = WatchGraph(edges, within_cap=np.array([True, True]), n_videos=301)
    with torch.autocast("cpu", torch.bfloat16):
        assert watch.whole.n_liked.tolist() == [301, 0]
        assert watch.whole.n_viewers.dtype == torch.float32


@pytest.mark.parametrize("size", [1, 3, 8, 64])
def test_products_of_long_rows_any_threads_are_bit_identical(size: int) -> None:
    """Rows of 0, 1, 2, .. entries, a long one last; x as it comes, of any strides."""
    lengths = np.array([0, 4, 1, 0, 9, 2, 3, 5, 8, 7, 13, 0, 300])
    rng = np.random.default_rng(size)
    a = np.zeros((len(lengths), 300))
    for row, n in enumerate(lengths):
        a[row, rng.choice(300, n, replace=False)] = rng.standard_normal(n)
    graph = propagation.Adjacency.of(sp.csr_matrix(a))
    x = torch.randn(size, 300, generator=torch.Generator().manual_seed(0)).T
    plus = torch.randn(len(lengths), size, generator=torch.Generator().manual_seed(1))
    before, conv = torch.get_num_threads(), propagation.AdjacencyConv()
    results = []
    try:
        for n_threads in (1, 2, 3, 50):
            torch.set_num_threads(n_threads)
            rows, added = x.clone().requires_grad_(), plus.clone().requires_grad_()
            out = [conv(rows, graph), conv(rows, graph, plus=added)]
            (out[0].sum() + (out[1] ** 2).sum()).backward()
            results.append([*(one.detach() for one in out), rows.grad, added.grad])
    finally:
        torch.set_num_threads(before)
    dense, d_x = torch.from_numpy(a).float(), x.clone().requires_grad_()
    d_plus = plus.clone().requires_grad_()
    expected = [dense @ d_x, dense @ d_x + d_plus]
    (expected[0].sum() + (expected[1] ** 2).sum()).backward()
    for one, other in zip(results[0], [*expected, d_x.grad, d_plus.grad], strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    for on_more in results[1:]:
        for one, other in zip(results[0], on_more, strict=True):
            assert torch.equal(one, other)
    assert torch.equal(plus, torch.randn(plus.shape, generator=torch.Generator().manual_seed(1)))


def test_product_of_nothing_is_nothing() -> None:
    empty = propagation.Adjacency.of(sp.csr_matrix((4, 3)))
    rows = torch.ones(3, 2, requires_grad=True)
    actual = propagation.AdjacencyConv()(rows, empty)
    assert torch.equal(actual, torch.zeros(4, 2))
    actual.sum().backward()
    assert torch.equal(rows.grad, torch.zeros(3, 2))


def test_step_graph_is_made_once_per_step() -> None:
    _, _, watch = a_watch(3)
    assert watch.whole.to_users(0.5, 0.5) is watch.whole.to_users(0.5, 0.5)
    one = watch.whole.to_users(0.5, 0.5).matrix.to_dense()
    for other in (
        watch.whole.to_users(0.5, 0.0),
        watch.whole.to_users(0.0, 0.5),
        watch.without(watch.whole.present, torch.tensor([0])).to_users(0.5, 0.5),
    ):
        assert not torch.equal(one, other.matrix.to_dense())
    assert watch.whole.to_videos(0.5, 0.5).matrix.shape == (6, 7)
