"""The fit that models of sequences share: batches, phases, and going on after an interruption."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from microrec.core.fitted import Trained, Trends
from microrec.errors import MicrorecError
from microrec.models import registry
from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.sequence import exposures as logged
from microrec.models.sequence.auc import grouped_auc
from microrec.models.sequence.exposures import Batch, at_random, by_exposures, sequences_of
from microrec.models.sequence.sasrec import by_users, viewings
from microrec.models.training import loop, parallel
from microrec.models.training.phases import Phase
from microrec.models.training.runtime import Runtime
from tests.worlds import fitted_models, logs

WORLD = logs.viewings(3, n_users=30, n_videos=40)
SMALL = {"dim": 4, "batch_size": 100, "learning_rate": 0.01}
FEW = {"dnn": {"hidden": (8,)}, "din": {"hidden": (8,), "unit": (6,)}, "sasrec": {"n_blocks": 1}}
RANKING = ("dnn", "din")
DRAWS = {"dnn": by_exposures, "din": at_random, "sasrec": by_users}


def config_of(name: str, **config: Any) -> Any:
    made = {**SMALL, **FEW[name], **config}
    return registry.model(name).Config.model_validate(made)


def fit(
    name: str, graph: Graph, *, seed: int = 0, folder: Path | None = None, **config: Any
) -> Trained:
    module: Any = registry.model(name)
    rng = np.random.default_rng(seed)
    return module.fit(graph, config_of(name, **config), rng, runtime=Runtime(checkpoints=folder))


def phase_of(name: str, graph: Graph) -> Phase:
    return Phase(graph, viewings(graph) if name == "sasrec" else sequences_of(graph).exposures)


def batches_of(name: str, graph: Graph, config: Any, seed: int = 1) -> list[Batch]:
    draw: Any = DRAWS[name]
    return [*draw(phase_of(name, graph), config, torch.Generator().manual_seed(seed))]


def network_of(name: str, graph: Graph, config: Any) -> Any:
    module: Any = registry.model(name)
    exposures = phase_of(name, graph).examples
    return module.build(graph, exposures, config, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return build_graph(WORLD, fit="trial")


def pairs_of(batch: Batch) -> list[tuple[int, int, float]]:
    """(user, video, label) of each pair."""
    columns = (batch.user[batch.of], batch.videos[batch.video], batch.label)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_batch_equals_the_rows(graph: Graph) -> None:
    sequences, config = sequences_of(graph), config_of("dnn", history_length=5)
    chosen = np.random.default_rng(0).permutation(len(sequences.exposures))[:60]
    batch = logged.batch(sequences, sequences.exposures, chosen, config, share=0.25)
    assert batch.share == 0.25
    assert (batch.videos.diff() > 0).all()
    for place, one in enumerate(chosen.tolist()):
        row = int(sequences.exposures.row[one])
        assert pairs_of(batch)[place] == (
            sequences.exposures.user_idx[one],
            sequences.exposures.video_idx[one],
            sequences.exposures.label[one],
        )
        for viewed, steps in ((batch.history, sequences.history), (batch.future, sequences.future)):
            at = int(batch.of[place])
            there = viewed.present[at]
            span = slice(max(steps.indptr[row], steps.indptr[row + 1] - 5), steps.indptr[row + 1])
            assert batch.videos[viewed.video[at]][there].tolist() == steps.video_idx[span].tolist()
            age = (sequences.cut_at[row] - steps.at[span]) / 1e6
            assert (age > 0).all()
            np.testing.assert_allclose(viewed.age[at][there], age, rtol=1e-6)
            np.testing.assert_array_equal(viewed.weight[at][there], steps.weight[span])
            for empty in (viewed.video, viewed.age, viewed.weight):
                assert not empty[at][~there].any()


@pytest.mark.parametrize("name", RANKING)
def test_epoch_has_every_exposure_once(name: str, graph: Graph) -> None:
    exposures = sequences_of(graph).exposures
    expected = sorted(
        zip(
            exposures.user_idx.tolist(),
            exposures.video_idx.tolist(),
            exposures.label.tolist(),
            strict=True,
        )
    )
    config = config_of(name)
    batches = batches_of(name, graph, config)
    assert sorted(len(one.label) for one in batches)[1:] == [100] * (len(exposures) // 100)
    pairs = [pair for one in batches for pair in pairs_of(one)]
    assert sorted(pairs) == expected
    others = [pair for one in batches_of(name, graph, config, seed=2) for pair in pairs_of(one)]
    assert sorted(others) == expected
    assert others != pairs


def test_step_has_exposures_of_like_history_length(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("dnn", batch_size=20)

    def empty(draw: Any) -> float:
        phase, generator = phase_of("dnn", graph), torch.Generator().manual_seed(0)
        batches = [*draw(phase, config, generator)]
        there = [half.present for one in batches for half in (one.history, one.future)]
        return 1 - sum(one.sum() for one in there).item() / sum(one.numel() for one in there)

    assert empty(by_exposures) < 0.8 * empty(at_random)
    monkeypatch.setattr(logged, "SORTED_AT_ONCE", 1)
    assert empty(by_exposures) > 0.95 * empty(at_random)


def in_group(monkeypatch: pytest.MonkeyPatch, rank: int, size: int) -> None:
    """As in the rank-th of several processes, without the others."""
    monkeypatch.setattr(parallel, "_in_group", lambda: True)
    monkeypatch.setattr(parallel.group, "get_rank", lambda: rank)
    monkeypatch.setattr(parallel.group, "get_world_size", lambda: size)


@pytest.mark.parametrize("name", FEW)
def test_processes_divide_a_step(name: str, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(name)
    whole = batches_of(name, graph, config)
    parts = []
    for rank in range(2):
        in_group(monkeypatch, rank, 2)
        parts.append(batches_of(name, graph, config))
    assert len(whole) > 3
    for one, first, second in zip(whole, *parts, strict=True):
        assert one.share == 1
        assert first.share + second.share == pytest.approx(1)
        assert min(first.share, second.share) > 0.2
        assert sorted(pairs_of(first) + pairs_of(second)) == sorted(pairs_of(one))


@pytest.mark.parametrize("name", FEW)
def test_process_without_a_part_adds_nothing(
    name: str, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(name, batch_size=1)
    whole = batches_of(name, graph, config)[0]
    in_group(monkeypatch, 1, 2)
    part = batches_of(name, graph, config)[0]
    assert part.share == 0
    assert pairs_of(part) == pairs_of(whole)


@pytest.mark.parametrize("name", ["dnn", "din-relu", "sasrec"])
def test_shares_of_a_step_sum_to_it(
    name: str, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient of a step is the sum of its parts' gradients, weighted by their shares. (Dice
    knows the rows of its own process alone; L2 is of the videos of a part.)"""
    name, *relu = name.split("-")
    quiet: dict[str, Any] = {"dropout": 0.0, "id_dropout": 0.0, "l2": 0.0}
    config = config_of(name, **quiet, **({"activation": "relu"} if relu else {}))
    network = network_of(name, graph, config)

    def gradients(batch: Batch) -> list[torch.Tensor]:
        loss = batch.share * network.loss(batch)
        given = torch.autograd.grad(loss, [*network.parameters()], allow_unused=True)
        return [torch.zeros(1) if one is None else one for one in given]

    whole = gradients(batches_of(name, graph, config)[0])
    parts = []
    for rank in range(3):
        in_group(monkeypatch, rank, 3)
        parts.append(gradients(batches_of(name, graph, config)[0]))
    assert sum(one.abs().sum().item() for one in whole) > 1
    for one, *others in zip(whole, *parts, strict=True):
        torch.testing.assert_close(sum(others), one, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", FEW)
def test_fit_same_seed_is_bit_identical(name: str, graph: Graph) -> None:
    one, again, other = (fit(name, graph, seed=seed, max_epochs=3) for seed in (0, 0, 1))
    fitted_models.assert_same_bits(one, again)
    assert one.report["losses"] != other.report["losses"]
    assert set(one.report) == {"epochs", "validation", "recalls", "losses", "loss"}
    # at this rate a network stays as it was drawn
    drawn = [fit(name, graph, seed=seed, epochs=1, learning_rate=1e-12) for seed in (0, 1)]
    rows = [one.parameters["videos.video_id"] for one in drawn]
    assert not np.isclose(*rows).any(axis=1).all()


class Killed(BaseException):
    """As a process ends: nothing catches it."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of the step at which training ends, if any; then the steps that were done."""
    asked: list[int] = [-1, 0]
    original = loop.step

    def step(*arguments: Any) -> float:
        if asked[1] == asked[0]:
            raise Killed
        asked[1] += 1
        return original(*arguments)

    monkeypatch.setattr(loop, "step", step)
    return asked


@pytest.mark.parametrize("name", FEW)
def test_fit_interrupted_ends_the_same(
    name: str, graph: Graph, kill_at: list[int], tmp_path: Path
) -> None:
    """Dropout, the running averages of Dice, and the best epoch of the search included."""
    options: dict[str, Any] = {"dropout": 0.4, "id_dropout": 0.3, "max_epochs": 3, "patience": 3}
    whole = fit(name, graph, **options)
    total = kill_at[1]
    assert total > 10
    for killed in range(1, total, 4):
        folder = tmp_path / str(killed)
        kill_at[:] = [killed, 0]
        with pytest.raises(Killed):
            fit(name, graph, folder=folder, **options)
        kill_at[:] = [-1, 0]
        fitted_models.assert_same_bits(fit(name, graph, folder=folder, **options), whole)
        assert kill_at[1] < total or killed < 6  # an epoch that was over is not done again
    assert {path.name for path in folder.iterdir()} == {"search.safetensors", "refit.safetensors"}


@pytest.mark.parametrize("changed", ["exposures", "history", "learning_rate", "dropout", "seed"])
def test_checkpoint_of_another_training_is_not_used(
    graph: Graph, tmp_path: Path, changed: str
) -> None:
    sequences, other = sequences_of(graph), graph
    options: dict[str, Any] = {"epochs": 2}
    if changed == "exposures":
        fewer = sequences.exposures.taken(np.arange(len(sequences.exposures)) != 5)
        other = replace(graph, sequences=replace(sequences, exposures=fewer))
    elif changed == "history":
        steps = replace(sequences.history, at=sequences.history.at - 1_000_000)
        other = replace(graph, sequences=replace(sequences, history=steps))
    fit("dnn", graph, folder=tmp_path, **options)
    others = {"learning_rate": 0.05, "dropout": 0.5, "seed": 1}
    options |= {name: value for name, value in others.items() if name == changed}
    fitted_models.assert_same_bits(
        fit("dnn", other, folder=tmp_path, **options), fit("dnn", other, **options)
    )


def with_another_validation_day() -> dict[str, pa.Table]:
    """The world, but for what happened from D - 1 on: nobody likes what they liked."""
    start = (logs.D - 1) * logs.DAY_US
    shown = WORLD["exposures"]
    late = pc.greater_equal(shown["cut_at"].cast(pa.int64()), start)
    other = pc.if_else(pc.equal(shown["feedback"], "positive"), "negative", "positive")
    place = shown.schema.get_field_index("feedback")
    shown = shown.set_column(place, "feedback", pc.if_else(late, other, shown["feedback"]))
    rows = WORLD["sequences"].to_pylist()
    for row in rows:
        for name in ("history", "future"):
            for one in row[name]:
                if one["at"].timestamp() * 1e6 >= start:
                    one["video_idx"] = (one["video_idx"] + 7) % 40
    return {
        **WORLD,
        "exposures": shown,
        "sequences": pa.Table.from_pylist(rows, schema=WORLD["sequences"].schema),
    }


@pytest.mark.parametrize("name", FEW)
def test_search_never_sees_the_validation_day(name: str, graph: Graph) -> None:
    other = build_graph(with_another_validation_day(), fit="trial")
    # patience: both search for as long, whatever they find
    one, two = (fit(name, g, max_epochs=4, patience=9).report for g in (graph, other))
    assert one["losses"] == two["losses"]
    assert len(one["losses"]) == 4
    assert one["loss"] != two["loss"]  # the refit does see it
    if name in RANKING:
        assert one["recalls"] != two["recalls"]


@pytest.mark.parametrize("name", FEW)
def test_refit_has_the_epochs_of_the_search(name: str, graph: Graph) -> None:
    whole = fit(name, graph, max_epochs=6)
    epochs = 1 + int(np.argmax(whole.report["recalls"]))
    assert whole.report["epochs"] == epochs
    assert whole.report["validation"] == max(whole.report["recalls"])
    asked = fit(name, graph, epochs=epochs)
    assert set(asked.report) == {"epochs", "loss"}
    assert asked.report["loss"] == whole.report["loss"]
    for parameter, value in asked.parameters.items():
        np.testing.assert_array_equal(value, whole.parameters[parameter])


def test_recalls_are_the_auc_of_the_validation_day(graph: Graph) -> None:
    """By the network as it stood after each epoch, within each user."""
    sequences, config = sequences_of(graph), config_of("dnn")
    held, module = sequences.validation, registry.model("dnn")
    assert held is not None
    recalls = fit("dnn", graph, max_epochs=3, patience=9).report["recalls"]
    fits: Any = logged.training(config, build=module.build, runtime=Runtime())  # type: ignore[attr-defined]
    for epochs in (1, 3):
        search, _ = np.random.default_rng(0).spawn(2)
        schedule = loop.Schedule(config.learning_rate, epochs, clip_norm=config.clip_norm)
        network, _ = fits.train("search", Phase(graph, sequences.training), search, schedule)
        scores = logged.logits(network, graph, held, config)
        expected = grouped_auc(scores, held.label, held.user_idx)
        assert recalls[epochs - 1] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", FEW)
def test_fit_without_validation_trains_for_the_default(name: str, graph: Graph) -> None:
    sequences = sequences_of(graph)
    none = sequences.exposures.taken(np.zeros(len(sequences.exposures), dtype=np.bool_))
    quiet = replace(graph, sequences=replace(sequences, validation=none))
    report = fit(name, quiet, default_epochs=2).report
    assert set(report) == {"epochs", "loss"}
    assert report["epochs"] == 2


def test_final_fit_has_no_validation() -> None:
    report = fit("dnn", build_graph(WORLD, fit="final"), default_epochs=2).report
    assert set(report) == {"epochs", "loss"}


@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_logits_in_blocks_are_equal(
    graph: Graph, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("dnn")
    network = network_of("dnn", graph, config)
    shown = sequences_of(graph).exposures
    some = shown.taken(np.arange(len(shown)) % 17 == 0)
    monkeypatch.setattr(logged, "SCORED_AT_ONCE", at_once)
    actual = logged.logits(network, graph, some, config)
    everything = logged.batch(sequences_of(graph), some, np.arange(len(some)), config)
    with torch.no_grad():
        np.testing.assert_allclose(actual, network.eval()(everything), rtol=1e-5)
    assert not len(logged.logits(network, graph, some.taken(some.at < 0), config))


def test_gradient_clipping_is_that_of_the_config(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = []
    original = loop.step

    def step(optimizer: Any, *arguments: Any) -> float:
        value = original(optimizer, *arguments)
        given = [one.grad for group in optimizer.param_groups for one in group["params"]]
        squares = [one.square().sum().item() for one in given if one is not None]
        norms.append(float(np.sqrt(sum(squares))))
        return value

    monkeypatch.setattr(loop, "step", step)
    fit("dnn", graph, clip_norm=0.125, max_epochs=2)
    assert max(norms) == pytest.approx(0.125, rel=1e-3)
    norms.clear()
    fit("dnn", graph, clip_norm=1e6, max_epochs=2)
    assert max(norms) > 0.2


def test_fit_graph_without_sequences_is_refused() -> None:
    bare = build_graph(logs.clusters(3), fit="trial")
    with pytest.raises(MicrorecError, match="reads `sequences` and `exposures`"):
        fit("dnn", bare)


def test_by_recall_best_of_the_trends_that_are_there_counts() -> None:
    """By brute force; and only what was before the validation day is learned from."""
    graph = build_graph(logs.viewings(3, n_users=20, n_videos=30), fit="trial")
    held = graph.early_stopping
    assert held is not None
    rng = np.random.default_rng(0)
    known = rng.random((20, 3)) < 0.6
    user = np.where(known[:, :, None], rng.standard_normal((20, 3, 4)), 0).astype(np.float32)
    user[:, :, 3] = known  # every score below 0, that of a trend that is not there 0
    video = np.column_stack([rng.standard_normal((30, 3)), np.full(30, -10)]).astype(np.float32)
    trends = Trends(user, video, known, video_known=rng.random(30) < 0.8)
    seen: list[Graph] = []

    def fitted(network: Any, of: Graph) -> Trends:
        seen.append(of)
        return trends

    search = logged.by_recall(graph, lambda of: sequences_of(of).training, fitted, k=5)
    assert search is not None
    assert search.quality is not None
    results = []
    for one in np.unique(held.truth.user_idx):
        scores = (user[one] @ video.T)[known[one]].max(axis=0, initial=-np.inf)
        scores = np.where(np.isfinite(scores), scores, 0.0)
        scores[~(trends.video_known & graph.eligible)] = -np.inf
        scores[held.seen.video_idx[held.seen.user_idx == one]] = -np.inf
        truth = set(held.truth.video_idx[held.truth.user_idx == one].tolist())
        best = torch.from_numpy(scores).topk(5).indices.tolist()
        results.append(len(truth & set(best)) / len(truth))
    assert search.quality(None) == pytest.approx(np.mean(results), abs=1e-6)
    start = sequences_of(graph).validated_from
    assert start is not None
    assert (sequences_of(seen[0]).history.at < start).all()
    assert len(search.examples)
    assert (search.examples.at < start).all()
