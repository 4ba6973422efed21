"""SASRec looks back and never ahead, and finds what always comes next."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.nn.losses import half_squares
from microrec.models.sequence import exposures as logged
from microrec.models.sequence import sasrec
from microrec.models.sequence.exposures import Batch, sequences_of
from microrec.models.training.loop import Schedule
from microrec.models.training.phases import Phase
from microrec.models.training.runtime import Runtime
from tests.worlds import logs

CONFIG = sasrec.Config(dim=8, dropout=0.0, id_dropout=0.0, n_heads=2, l2=0.01, batch_size=64)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return build_graph(logs.viewings(3, n_users=20, n_videos=30), fit="trial")


def network_of(graph: Graph, config: sasrec.Config = CONFIG) -> sasrec.SasRec:
    """Fresh, but for positions, which start as zeros."""
    generator = torch.Generator().manual_seed(0)
    network = sasrec.build(graph, sasrec.viewings(graph), config, generator)
    network.position.data[:] = torch.randn(network.position.shape, generator=generator)
    return network


def batch_of(graph: Graph, config: sasrec.Config = CONFIG) -> Batch:
    sequences = sequences_of(graph)
    rows = np.unique(sasrec.viewings(graph).row)
    return logged.pairs(sequences, rows, np.arange(len(rows)) % 30, rows > -1, config)


def lists(graph: Graph) -> list[list[int]]:
    """Videos of each user's history, by loops."""
    sequences = sequences_of(graph)
    spans = [slice(*sequences.history.indptr[row : row + 2]) for row in sequences.serving]
    return [sequences.history.video_idx[span].tolist() for span in spans]


def states(network: sasrec.SasRec, batch: Batch) -> torch.Tensor:
    rows = network.candidates(batch.videos)
    return network.states(batch.history.present, batch.history.video, rows)


def test_sasrec_later_viewing_changes_no_earlier_state(graph: Graph) -> None:
    network, batch = network_of(graph), batch_of(graph)
    before = states(network, batch)
    width = before.shape[1]
    assert batch.history.present.all(dim=1).any()
    for place in (1, width // 2, width - 1):
        video = batch.history.video.clone()
        video[:, place] = (video[:, place] + 1) % len(batch.videos)
        after = states(network, replace(batch, history=replace(batch.history, video=video)))
        there = batch.history.present
        torch.testing.assert_close(after[:, :place], before[:, :place])
        changed = (after - before).abs().amax(dim=2) > 1e-4
        mine = there & there[:, place : place + 1]
        assert changed[:, place:][mine[:, place:]].all()  # itself and all that come after it


def test_sasrec_block_equals_hand_computed() -> None:
    """By loops: each place's softmax over what it sees and itself, in two heads of four columns."""
    generator = torch.Generator().manual_seed(0)
    block, width = sasrec.Block(CONFIG, generator), 5
    x = torch.randn(1, width, 8, generator=generator)
    there = torch.tensor([False, True, True, True, True])
    sees = torch.ones(width, width).tril(-1).bool() & there | torch.eye(width).bool()
    normed = functional.layer_norm(x[0], (8,))
    query, key, value = (part(normed) for part in (block.query, block.key, block.value))
    actual = torch.zeros(width, 8)
    for place in range(width):
        mine = [other for other in range(place + 1) if there[other] or other == place]
        for head in (slice(0, 4), slice(4, 8)):
            weight = (key[mine, head] @ query[place, head] / 2).softmax(0)
            actual[place, head] = weight @ value[mine, head]
    expected = x[0] + block.joined(actual)
    narrow = functional.layer_norm(expected, (8,))
    expected = expected + block.network(narrow, generator)
    torch.testing.assert_close(block(x, sees.unsqueeze(0), generator)[0], expected)


def test_attention_sees_itself_and_earlier_positions(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, batch, seen = network_of(graph), batch_of(graph), []
    original = sasrec.Block.forward

    def forward(self: sasrec.Block, x: torch.Tensor, sees: torch.Tensor, noise: torch.Generator):
        seen.append(sees)
        return original(self, x, sees, noise)

    monkeypatch.setattr(sasrec.Block, "forward", forward)
    states(network, batch)
    assert len(seen) == CONFIG.n_blocks
    there = batch.history.present
    for row, place in ((0, 0), (0, 5), (3, there.shape[1] - 1)):
        expected = [at for at in range(place + 1) if there[row, at] or at == place]
        assert torch.nonzero(seen[0][row, place]).flatten().tolist() == expected


def test_attention_padding_is_masked(graph: Graph) -> None:
    network, batch = network_of(graph), batch_of(graph)
    whole = states(network, batch)
    length = batch.history.present.sum(1)
    for row in range(0, len(length), 4):
        n = int(length[row])
        alone = (one[row : row + 1, -n:] for one in (batch.history.present, batch.history.video))
        rows = network.candidates(batch.videos)
        torch.testing.assert_close(
            network.states(*alone, rows)[0], whole[row, -n:], atol=1e-5, rtol=1e-5
        )
    assert whole.isfinite().all()


def test_positions_count_from_the_end(graph: Graph) -> None:
    """A place further back than any history has no say; the last one is everybody's."""
    network, batch = network_of(graph), batch_of(graph)
    before, width = states(network, batch), batch.history.present.shape[1]
    assert width < CONFIG.history_length
    network.position.data[width:] += 1
    assert torch.equal(states(network, batch), before)
    network.position.data[0] += torch.randn(8, generator=torch.Generator().manual_seed(0))
    moved = (states(network, batch) - before).abs().amax(dim=2) > 1e-4
    assert moved[:, -1].all()
    assert not moved[:, :-1].any()


def test_sasrec_reads_only_the_latest_viewings(graph: Graph) -> None:
    short = CONFIG.model_copy(update={"history_length": 3})
    network = network_of(graph, short)
    rows = sasrec.embeddings(network, graph)
    sequences = sequences_of(graph)
    video = sequences.history.video_idx.copy()
    for row in sequences.serving:
        start, end = sequences.history.indptr[row : row + 2]
        video[start : max(start, end - 3)] = 7
    other = replace(sequences, history=replace(sequences.history, video_idx=video))
    changed = sasrec.embeddings(network, replace(graph, sequences=other))
    np.testing.assert_array_equal(rows.user, changed.user)
    assert max(map(len, lists(graph))) > 6


def test_sasrec_loss_equals_hand_computed(graph: Graph) -> None:
    """Each viewing against every watched video, from the state after the ones before it."""
    network, batch = network_of(graph), batch_of(graph)
    rows = network.candidates(torch.arange(graph.n_videos))
    taught = [one for one in lists(graph) if len(one) > 1]
    watched = sorted({video for one in taught for video in one})
    losses = []
    for videos in taught:
        before = torch.tensor([videos[:-1]])
        state = network.states(torch.ones_like(before, dtype=torch.bool), before, rows)[0]
        for place, after in enumerate(videos[1:]):
            scores = state[place, :-1] @ rows[watched, :-1].T + network.popularity[watched, 0]
            losses.append(-scores.log_softmax(0)[watched.index(after)])
    own = network.videos.video_id[batch.videos]
    expected = torch.stack(losses).mean() + 0.01 * half_squares(own)
    torch.testing.assert_close(network.loss(batch), expected, atol=1e-5, rtol=1e-5)
    assert len(losses) == sum(len(one) - 1 for one in taught)


def test_sasrec_negatives_are_sampled_from_watched_videos(graph: Graph) -> None:
    config = CONFIG.model_copy(update={"softmax_videos": 8})
    network = network_of(graph, config)
    watched = set(network.watched.tolist())
    drawn = [network._others().tolist() for _ in range(200)]
    assert {video for one in drawn for video in one} == watched
    assert len(watched) < graph.n_videos
    for one in drawn:
        assert one == sorted(set(one))
        assert len(one) <= 8


def test_sasrec_histories_have_two_or_more_viewings(graph: Graph) -> None:
    viewings, expected = sasrec.viewings(graph), lists(graph)
    expected[4] = expected[4][:1]
    given = sequences_of(graph)
    row = int(given.serving[4])
    keep = np.ones(len(given.history.at), dtype=bool)
    keep[given.history.indptr[row] + 1 : given.history.indptr[row + 1]] = False
    indptr = np.concatenate([[0], np.cumsum(keep)])[given.history.indptr]
    kept = {name: getattr(given.history, name)[keep] for name in ("video_idx", "at", "weight")}
    fewer = replace(given, history=replace(given.history, indptr=indptr, **kept))
    viewings = sasrec.viewings(replace(graph, sequences=fewer))
    pairs = list(zip(viewings.user_idx.tolist(), viewings.video_idx.tolist(), strict=True))
    assert pairs == [(u, v) for u, one in enumerate(expected) for v in one if len(one) > 1]
    assert {4, 10, 19} & set(viewings.user_idx.tolist()) == set()
    assert viewings.label.all()
    for user in (0, 7):
        assert (np.diff(viewings.at[viewings.user_idx == user]) > 0).all()


@pytest.mark.parametrize(("batch_size", "length"), [(1, 100), (64, 100), (40, 5), (10_000, 100)])
def test_sasrec_epoch_has_every_history_once(graph: Graph, batch_size: int, length: int) -> None:
    config = CONFIG.model_copy(update={"batch_size": batch_size, "history_length": length})
    phase = Phase(graph, sasrec.viewings(graph))

    def epoch(seed: int) -> list[Batch]:
        return [*sasrec.by_users(phase, config, torch.Generator().manual_seed(seed))]

    batches = epoch(0)
    results = {}
    for one in batches:
        for row, user in enumerate(one.user.tolist()):
            assert user not in results
            there = one.history.present[row]
            results[user] = one.videos[one.history.video[row]][there].tolist()
    taught = {user: one[-length:] for user, one in enumerate(lists(graph)) if len(one) > 1}
    assert results == taught
    sizes = [int(one.history.present.sum()) - len(one.user) for one in batches]
    longest = max(map(len, taught.values())) - 1
    assert max(sizes) < batch_size + longest
    assert len(batches) <= 1 + sum(sizes) // batch_size
    if batch_size == 64:
        assert len(batches) > 3
        steps, others = ({tuple(one.user.tolist()) for one in of} for of in (batches, epoch(1)))
        assert steps != others


def test_sasrec_rows_score_as_the_network(graph: Graph) -> None:
    network = network_of(graph).eval()
    rows = sasrec.embeddings(network, graph)
    sequences = sequences_of(graph)
    user, video = np.divmod(np.arange(20 * 30), 30)
    nothing = np.zeros(len(user), dtype=bool)
    batch = logged.pairs(sequences, sequences.serving[user], video, nothing, CONFIG)
    with torch.no_grad():
        scores = network(batch).numpy().reshape(20, 30)
    np.testing.assert_allclose((rows.user @ rows.video.T), scores, atol=1e-5)
    assert rows.user_known.tolist() == [len(one) > 0 for one in lists(graph)]
    assert not rows.user[~rows.user_known].any()
    assert (rows.user[rows.user_known, -1] == 1).all()
    assert (~rows.user_known).sum() == 2  # nobody showed them anything, or on D alone


def test_popularity_starts_at_what_was_watched(graph: Graph) -> None:
    network = network_of(graph)
    n_viewed = np.bincount(sasrec.viewings(graph).video_idx, minlength=30)
    rows = sasrec.embeddings(network, graph)
    np.testing.assert_allclose(rows.video[:, -1], np.log1p(n_viewed), rtol=1e-6)


def test_sasrec_unwatched_video_is_represented_by_its_vectors(graph: Graph) -> None:
    rows = sasrec.embeddings(network_of(graph), graph)
    cold = np.setdiff1d(np.arange(30), sasrec.viewings(graph).video_idx)
    assert {26, 27, 28, 29} <= set(cold.tolist())
    described = (graph.author > 0) | graph.features["visual"].present
    assert rows.video_known[cold].tolist() == described[cold].tolist()
    assert rows.video_known[cold].any()
    bare = replace(graph, features={}, author=0 * graph.author)
    rows = sasrec.embeddings(network_of(bare), bare)
    assert not rows.video_known[cold].any()
    assert not rows.video[cold].any()


def test_sasrec_recalls_are_of_the_validation_day(graph: Graph) -> None:
    """By brute force, from the histories before that day."""
    held = graph.early_stopping
    assert held is not None
    config = CONFIG.model_copy(update={"max_epochs": 3, "patience": 9, "validation_k": 5})
    recalls = sasrec.fit(graph, config, np.random.default_rng(0)).report["recalls"]
    start = (logs.D - 1) * logs.DAY_US
    earlier = replace(graph, sequences=sequences_of(graph).before(start))
    build, batches = sasrec.build, sasrec.by_users
    fits = logged.training(config, build=build, runtime=Runtime(), batches=batches)
    schedule = Schedule(config.learning_rate, 3, clip_norm=config.clip_norm)
    search, _ = np.random.default_rng(0).spawn(2)
    phase = Phase(earlier, sasrec.viewings(earlier))
    network, _ = fits.train("search", phase, search, schedule)
    rows = sasrec.embeddings(network, earlier)
    results = []
    for user in np.unique(held.truth.user_idx):
        scores = rows.user[user] @ rows.video.T
        scores[~rows.video_known] = -np.inf
        scores[held.seen.video_idx[held.seen.user_idx == user]] = -np.inf
        truth = set(held.truth.video_idx[held.truth.user_idx == user].tolist())
        results.append(len(truth & set(np.argsort(-scores)[:5].tolist())) / len(truth))
    assert recalls[-1] == pytest.approx(np.mean(results), abs=1e-6)
    assert 0 < np.mean(results) < 1


def test_sasrec_deterministic_successor_is_ranked_first() -> None:
    """Who likes video 2i watches 2i + 1 next, if need be on the next day."""
    world = logs.viewings(5, n_users=60, n_videos=40, n_shown=5, in_pairs=True)
    graph = build_graph(world, fit="trial")
    config = sasrec.Config(dim=16, batch_size=128, learning_rate=0.01, epochs=40)
    rows = sasrec.fit(graph, config, np.random.default_rng(0)).fitted
    best = (rows.user @ rows.video.T).argmax(axis=1)
    waiting = {user: one[-1] for user, one in enumerate(lists(graph)) if one and one[-1] % 2 == 0}
    assert len(waiting) > 15
    right = [best[user] == video + 1 for user, video in waiting.items()]
    assert np.mean(right) > 0.9
    # and to others something else is due
    rest = [user for user in np.flatnonzero(rows.user_known) if user not in waiting]
    assert len(rest) > 15
    assert np.mean(best[rest] % 2 == 0) > 0.9
