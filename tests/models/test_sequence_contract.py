"""What every model of sequences promises, whatever is in its file."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from microrec.core import fitted
from microrec.core.fitted import Embeddings, Ranker, Trained
from microrec.models import registry
from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.inputs.sequence_arrays import Exposures
from microrec.models.sequence import exposures as logged
from microrec.models.sequence.auc import grouped_auc
from microrec.models.sequence.exposures import Batch, Viewed, sequences_of
from microrec.models.sequence.sasrec import viewings
from microrec.models.training.loop import Schedule, step, train
from tests.worlds import logs

SMALL = {"dim": 8, "batch_size": 128, "learning_rate": 0.01, "max_epochs": 3}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "dnn": ("dnn", {"hidden": (16,)}),
    "din": ("din", {"hidden": (16,), "unit": (8,)}),
    "din-relu": ("din", {"hidden": (16,), "unit": (8,), "activation": "relu"}),
    "sasrec": ("sasrec", {}),
    "sasrec-heads": ("sasrec", {"n_heads": 2, "n_blocks": 1, "softmax_videos": 30}),
}
SEED = 3
WORLD = logs.viewings(SEED, n_users=40, n_videos=60)
OF_ORDER = ("sasrec", "sasrec-heads")
"""Cases to which the order of a history says something."""


def config_of(case: str, **config: Any) -> Any:
    name, chosen = CASES[case]
    return registry.model(name).Config.model_validate({**SMALL, **chosen, **config})


def fit(case: str, graph: Graph, seed: int = 0, **config: Any) -> Trained:
    module: Any = registry.model(CASES[case][0])
    return module.fit(graph, config_of(case, **config), np.random.default_rng(seed))


def learned_from(case: str, graph: Graph) -> Exposures:
    return viewings(graph) if case in OF_ORDER else sequences_of(graph).exposures


def build(case: str, graph: Graph, config: Any) -> Any:
    module: Any = registry.model(CASES[case][0])
    generator = torch.Generator().manual_seed(0)
    return module.build(graph, learned_from(case, graph), config, generator)


def restore(case: str, graph: Graph, trained: Trained, **config: Any) -> Any:
    module: Any = registry.model(CASES[case][0])
    return module.restore(graph, config_of(case, **config), trained.parameters).eval()


def batch_of(case: str, graph: Graph, config: Any) -> Batch:
    """A hundred exposures of the latest day; to learn order from, those of the histories' ends."""
    sequences = sequences_of(graph)
    chosen = np.arange(len(sequences.exposures))[-100:]
    if case in OF_ORDER:
        rows = np.unique(learned_from(case, graph).row)
        latest = sequences.history.video_idx[sequences.history.indptr[rows + 1] - 1]
        return logged.pairs(sequences, rows, latest, rows > -1, config)
    return logged.batch(sequences, sequences.exposures, chosen, config)


def shown_on_d(graph: Graph) -> Exposures:
    """What is shown on the day that a trial does not see, as of its start."""
    everything = sequences_of(build_graph(WORLD, fit="final")).exposures
    late = everything.taken(everything.at >= logs.D * logs.DAY_US)
    return replace(late, row=sequences_of(graph).serving[late.user_idx])


def assert_same(one: Trained, other: Trained) -> None:
    assert one.report == other.report
    assert type(one.fitted) is type(other.fitted)
    for left, right in ((one.parameters, other.parameters), (vars(one.fitted), vars(other.fitted))):
        assert set(left) == set(right)
        for name, value in left.items():
            assert value.dtype == right[name].dtype
            np.testing.assert_array_equal(value, right[name])


@pytest.fixture(scope="module")
def graph() -> Graph:
    return build_graph(WORLD, fit="trial")


@pytest.fixture(scope="module")
def trained_on(graph: Graph) -> Callable[[str], Trained]:
    """Models of the world, each trained once."""
    return functools.cache(lambda case: fit(case, graph))


@pytest.mark.parametrize("case", CASES)
def test_sequence_repeated_batch_lowers_the_loss(case: str, graph: Graph) -> None:
    config = config_of(case)
    network = build(case, graph, config)
    batch = batch_of(case, graph, config)
    history = train(
        network,
        batches=lambda: [batch],
        loss=network.loss,
        schedule=Schedule(learning_rate=0.01, epochs=60, clip_norm=5.0),
    )
    # of a softmax what is left is the entropy of what may come next
    assert np.mean(history.losses[-5:]) < history.losses[0] * (0.9 if case in OF_ORDER else 0.5)
    assert np.mean(history.losses[-5:]) < np.mean(history.losses[20:25])


@pytest.mark.parametrize("case", CASES)
def test_sequence_two_steps_equal_a_hand_written_loop(case: str, graph: Graph) -> None:
    """Each step's gradient is of that step alone."""
    config = config_of(case)
    ours, theirs = (build(case, graph, config) for _ in range(2))
    batch = batch_of(case, graph, config)
    optimizer = torch.optim.Adam(ours.parameters(), lr=0.02)
    ours.noise.manual_seed(5)
    losses = [step(optimizer, ours.loss, batch, 1.0) for _ in range(3)]
    parameters = list(theirs.parameters())
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    theirs.noise.manual_seed(5)
    for expected in losses:
        loss = theirs.loss(batch)
        assert loss.item() == expected
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        norm = torch.stack([one.norm() for one in gradients if one is not None]).norm()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            used = gradient is not None
            parameter.grad = gradient * (1 / (norm + 1e-6)).clamp(max=1) if used else None
        optimizer.step()
    for one, other in zip(ours.parameters(), parameters, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("case", CASES)
def test_sequence_same_generator_is_bit_identical(
    case: str, graph: Graph, trained_on: Callable[[str], Trained]
) -> None:
    assert_same(trained_on(case), fit(case, graph))


@pytest.mark.parametrize("case", CASES)
def test_sequence_row_order_is_bit_identical(
    case: str, trained_on: Callable[[str], Trained]
) -> None:
    other = build_graph(logs.shuffled(WORLD, 9), fit="trial")
    assert_same(trained_on(case), fit(case, other))


@pytest.mark.parametrize("case", CASES)
def test_sequence_saved_and_loaded_is_equal(
    case: str, graph: Graph, trained_on: Callable[[str], Trained], tmp_path: Path
) -> None:
    trained = trained_on(case)
    fitted.save(trained, tmp_path, config=config_of(case))
    loaded = Trained(fitted.load(tmp_path), trained.report, fitted.load_parameters(tmp_path))
    assert_same(trained, loaded)
    assert isinstance(loaded.fitted, Embeddings if case in OF_ORDER else Ranker)
    shown = shown_on_d(graph)
    one, other = (restore(case, graph, of) for of in (trained, loaded))
    scores = logged.logits(one, graph, shown, config_of(case))
    np.testing.assert_array_equal(scores, logged.logits(other, graph, shown, config_of(case)))
    assert np.isfinite(scores).all()
    assert scores.std() > 0.1
    # what was learned, and not the fresh network it was put into
    fresh = build(case, graph, config_of(case))
    assert not np.allclose(scores, logged.logits(fresh, graph, shown, config_of(case)))


def wider(viewed: Viewed, by: int) -> Viewed:
    """The same steps with more empty places in front."""
    pad = (by, 0)
    return Viewed(*(torch.nn.functional.pad(one, pad) for one in vars(viewed).values()))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_sequence_padding_changes_nothing(case: str, graph: Graph, training: bool) -> None:
    config = config_of(case, dropout=0.0, id_dropout=0.0)
    network = build(case, graph, config).train(training)
    batch = batch_of(case, graph, config)
    padded = replace(batch, history=wider(batch.history, 7), future=wider(batch.future, 3))
    assert not batch.history.present.all()
    torch.testing.assert_close(network(padded), network(batch), atol=1e-5, rtol=1e-5)
    losses = []
    for one in (padded, batch):
        network.noise.manual_seed(3)  # of a sampled softmax, the same sample
        losses.append(network.loss(one))
    torch.testing.assert_close(*losses)
    # what stands in an empty place is not looked at
    there = batch.history.present
    video = torch.where(there, batch.history.video, torch.arange(there.shape[1]) % 5)
    other = replace(batch, history=replace(batch.history, video=video))
    assert not torch.equal(video, batch.history.video)
    torch.testing.assert_close(network(other), network(batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_sequence_pair_order_changes_nothing(case: str, graph: Graph) -> None:
    config = config_of(case)
    network = build(case, graph, config).eval()
    batch = batch_of(case, graph, config)
    order = torch.randperm(len(batch.label), generator=torch.Generator().manual_seed(0))
    names = ("of", "video", "label")
    other = replace(batch, **{name: getattr(batch, name)[order] for name in names})
    torch.testing.assert_close(network(other), network(batch)[order], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_sequence_history_order_matters_where_it_should(case: str, graph: Graph) -> None:
    config = config_of(case)
    network = build(case, graph, config).eval()
    batch = batch_of(case, graph, config)
    whole = batch.history.present.all(dim=1)[batch.of]
    assert whole.any()
    turned = Viewed(*(one.flip(1) for one in vars(batch.history).values()))
    one, other = (network(replace(batch, history=h)) for h in (batch.history, turned))
    same = torch.isclose(one, other, atol=1e-5)
    assert same[whole].all() == (case not in OF_ORDER)


@pytest.mark.parametrize("case", CASES)
def test_sequence_future_is_not_read(case: str, graph: Graph) -> None:
    sequences = sequences_of(graph)
    none = np.zeros_like(sequences.future.indptr)
    without = replace(sequences, future=replace(sequences.future, indptr=none))
    config = config_of(case)
    network, shown = build(case, graph, config), shown_on_d(graph)
    one, other = (
        logged.logits(network, g, shown, config) for g in (graph, replace(graph, sequences=without))
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_sequence_later_events_change_nothing(case: str, graph: Graph) -> None:
    """Scores of an exposure are of the row as of the start of its day, whatever came after."""
    config = config_of(case)
    network, sequences = build(case, graph, config), sequences_of(graph)
    shown = sequences.training
    later = np.repeat(sequences.cut_at == sequences.cut_at.max(), np.diff(sequences.history.indptr))
    video = np.where(later, (sequences.history.video_idx + 1) % 60, sequences.history.video_idx)
    changed = replace(
        sequences, history=replace(sequences.history, video_idx=video.astype(np.int32))
    )
    one, other = (
        logged.logits(network, g, shown, config) for g in (graph, replace(graph, sequences=changed))
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


def renumbered(world: dict[str, pa.Table], place: np.ndarray) -> dict[str, pa.Table]:
    """The same world, video i now being number place[i]."""

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(one) for one in value]
        given = {name: value[name] for name in set(value) & {"video_idx", "neighbour_idx"}}
        return {**value, **{name: int(place[index]) for name, index in given.items()}}

    changed = dict(world)
    for table in ("watch_edges", "video_nodes", "modality_edges", "exposures", "sequences"):
        rows = [moved(row) for row in world[table].to_pylist()]
        if table == "sequences":
            rows = [
                {**r, "history": moved(r["history"]), "future": moved(r["future"])} for r in rows
            ]
        changed[table] = pa.Table.from_pylist(rows, schema=world[table].schema)
    return changed


@pytest.mark.parametrize("case", CASES)
def test_sequence_video_numbering_changes_nothing(case: str, graph: Graph) -> None:
    """Three epochs later the scores are the same, up to the order of sums."""
    place = np.random.default_rng(0).permutation(60)
    other = build_graph(renumbered(WORLD, place), fit="trial")
    everything = {"softmax_videos": 60} if case in OF_ORDER else {}
    config = config_of(case, dropout=0.0, id_dropout=0.0, **everything)
    ours, moved = (build(case, one, config) for one in (graph, other))
    for name, parameter in moved.named_parameters():
        drawn = ours.get_parameter(name).data
        if name.split(".")[-1] in ("video_id", "popularity"):
            parameter.data[place] = drawn
        else:
            parameter.data[:] = drawn
    before, after = [], []
    for network, one in ((ours, graph), (moved, other)):
        shown = shown_on_d(one)
        if one is other:
            shown = replace(shown, video_idx=place[shown.video_idx])
        before.append(logged.logits(network, one, shown, config))
        batch = batch_of(case, one, config)
        train(
            network,
            batches=lambda batch=batch: [batch],
            loss=network.loss,
            schedule=Schedule(learning_rate=0.01, epochs=3),
        )
        after.append(logged.logits(network, one, shown, config))
    np.testing.assert_allclose(*before, atol=1e-5)
    np.testing.assert_allclose(*after, atol=1e-3)
    assert np.abs(after[0] - before[0]).max() > 0.05


@pytest.mark.parametrize("case", CASES)
def test_sequence_planted_taste_is_learned(case: str, graph: Graph) -> None:
    """On a day that was not seen; 0.9 for who knew all the tastes. Those alone do who liked."""
    trained = fit(case, graph, max_epochs=15, dim=16)
    shown = shown_on_d(graph)
    scores = logged.logits(restore(case, graph, trained, dim=16), graph, shown, config_of(case))
    known = np.diff(sequences_of(graph).history.indptr)[shown.row] > 0
    some = shown.taken(known)
    assert grouped_auc(scores[known], some.label, some.user_idx) > 0.75
    shuffled = np.random.default_rng(0).permutation(scores[known])
    assert grouped_auc(shuffled, some.label, some.user_idx) < 0.6


@pytest.mark.parametrize("case", CASES)
def test_sequence_night_of_new_users_is_handled(case: str) -> None:
    """Nobody was shown anything: nothing is learned, and nothing breaks."""
    rows = WORLD["sequences"].to_pylist()
    nothing: dict[str, Any] = {"history": [], "future": []}
    quiet = {
        **WORLD,
        "exposures": WORLD["exposures"].slice(0, 0),
        "sequences": pa.Table.from_pylist(
            [{**row, **nothing} for row in rows], schema=WORLD["sequences"].schema
        ),
    }
    graph = build_graph(quiet, fit="trial")
    trained = fit(case, graph, default_epochs=2)
    assert trained.report == {"epochs": 2, "loss": None}
    assert_same(trained, fit(case, graph, default_epochs=2))
    scores = logged.logits(restore(case, graph, trained), graph, shown_on_d(graph), config_of(case))
    assert np.isfinite(scores).all()
    if isinstance(trained.fitted, Embeddings):
        assert not trained.fitted.user.any()
        assert not trained.fitted.user_known.any()


@pytest.mark.parametrize("field", ["dim", "history_length", "batch_size", "dropout", "epochs"])
def test_sequence_configs_share_what_the_fit_reads(field: str) -> None:
    for case in CASES:
        with pytest.raises(ValueError, match=field):
            config_of(case, **{field: -1})
    with pytest.raises(ValueError, match="not a multiple of n_heads 3"):
        config_of("sasrec", n_heads=3)
