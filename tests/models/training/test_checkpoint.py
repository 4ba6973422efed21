"""A training that was interrupted goes on as if it had not been, and never from another training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microrec.core.fitted import Trained
from microrec.models import registry
from microrec.models.graph import fitting
from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.training import checkpoint, loop, phases
from microrec.models.training.checkpoint import Checkpoint, fingerprint
from microrec.models.training.loop import History
from microrec.models.training.runtime import Runtime, Yesterday
from tests.worlds import fitted_models, logs

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    # draws of every kind: batches, pruning, opponents, dropout
    "preference_gcn": (
        "preference_gcn",
        {
            "modality_dropout": 0.3,
            "keep_edges": 0.7,
            "loss": "softmax",
            "softmax_videos": 5,
            "sampled_videos": 5,
            "sampled_batch_size": 40,
        },
    ),
    "preference_gcn-partly": (
        "preference_gcn",
        {"similar": False},
    ),  # parameters without gradient
    "lightgcn": ("lightgcn", {}),
    "mmgcn": ("mmgcn", {}),
}


class Killed(BaseException):
    """As a process ends: nothing catches it."""


@pytest.fixture(scope="module")
def graph() -> Graph:
    return build_graph(logs.clusters(2, n_users=24, n_videos=20), fit="trial")


def fit(case: str, graph: Graph, folder: Path | None, *, seed: int = 0, **config: Any) -> Trained:
    name, chosen = CASES[case]
    module: Any = registry.model(name)
    small = {"dim": 3, "batch_size": 40, "max_epochs": 4, "patience": 3, "validation_k": 4}
    made = module.Config.model_validate({**small, "learning_rate": 0.02, **chosen, **config})
    runtime = Runtime(checkpoints=folder)
    return module.fit(graph, made, np.random.default_rng(seed), runtime=runtime)


def spread(user: Any, video: Any, *_: Any, **__: Any) -> float:
    """In the place of a recall: depends on every bit of the rows."""
    return float((user @ video.T).std())


class Steps:
    """Counts the steps of training, and kills at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done, self.kill_at = 0, -1
        self.original = loop.step
        monkeypatch.setattr(loop, "step", self)

    def __call__(self, *arguments: Any) -> float:
        if self.done == self.kill_at:
            raise Killed
        self.done += 1
        return self.original(*arguments)

    def restart(self, kill_at: int = -1) -> None:
        self.done, self.kill_at = 0, kill_at


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


@pytest.mark.parametrize("epochs", [None, 3], ids=["search", "refit"])
@pytest.mark.parametrize("case", CASES)
def test_checkpoint_killed_in_any_epoch_ends_the_same(
    case: str,
    epochs: int | None,
    graph: Graph,
    steps: Steps,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fitting, "validation_recall", spread)
    whole = fit(case, graph, None, epochs=epochs)
    total = steps.done
    per_epoch = -(-len(graph.edges) // 40)
    assert per_epoch > 1
    # kills in the middle of epochs; of the first case in every step there is
    kills = range(total) if case == "preference_gcn" else range(1, total, 3)
    left = []
    for kill_at in kills:
        folder = tmp_path / str(kill_at)
        steps.restart(kill_at)
        with pytest.raises(Killed):
            fit(case, graph, folder, epochs=epochs)
        steps.restart()
        fitted_models.assert_same_bits(fit(case, graph, folder, epochs=epochs), whole)
        left.append(kill_at + steps.done - total)
    # no more was done twice than an epoch that was not at its end
    assert max(left) < per_epoch
    assert min(left) == 0


def test_checkpoint_killed_repeatedly_ends_the_same(
    graph: Graph, steps: Steps, tmp_path: Path
) -> None:
    whole = fit("preference_gcn", graph, None, epochs=5)
    per_epoch = steps.done // 5
    for _ in range(4):
        steps.restart(kill_at=per_epoch + 1)  # an epoch, and a little of the next
        with pytest.raises(Killed):
            fit("preference_gcn", graph, tmp_path, epochs=5)
    steps.restart(kill_at=per_epoch + 1)
    fitted_models.assert_same_bits(fit("preference_gcn", graph, tmp_path, epochs=5), whole)


@pytest.mark.parametrize("asked", [1, 2, 3])
def test_checkpoint_killed_while_validating_ends_the_same(
    graph: Graph, tmp_path: Path, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit("preference_gcn", graph, None)
    calls = []
    with monkeypatch.context() as patch:

        def recall(*arguments: Any, **options: Any) -> float:
            calls.append(1)
            if len(calls) == asked:
                raise Killed
            return loop.validation_recall(*arguments, **options)

        patch.setattr(fitting, "validation_recall", recall)
        with pytest.raises(Killed):
            fit("preference_gcn", graph, tmp_path)
    assert (tmp_path / "search.safetensors").exists() == (asked > 1)
    fitted_models.assert_same_bits(fit("preference_gcn", graph, tmp_path), whole)


def test_checkpoint_best_epoch_survives_an_interruption(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters that the search keeps are those of its best epoch, though it died after a worse one."""
    kept: list[dict[str, torch.Tensor]] = []
    original = phases.train

    def spy(module: Any, **arguments: Any) -> History:
        history = original(module, **arguments)
        kept.append({name: p.clone() for name, p in module.state_dict().items()})
        return history

    monkeypatch.setattr(phases, "train", spy)

    def recalls(until: int) -> Callable[..., float]:
        given = iter([0.3, 0.5, 0.1, 0.2])
        for _ in range(until):
            next(given)
        return lambda *_, **__: next(given)

    monkeypatch.setattr(fitting, "validation_recall", recalls(0))
    whole = fit("lightgcn", graph, None)
    assert whole.report["recalls"] == [0.3, 0.5, 0.1, 0.2]

    def dies_at_fourth() -> Callable[..., float]:
        given = iter([0.3, 0.5, 0.1])

        def next_one(*_: Any, **__: Any) -> float:
            for value in given:
                return value
            raise Killed

        return next_one

    monkeypatch.setattr(fitting, "validation_recall", dies_at_fourth())
    with pytest.raises(Killed):
        fit("lightgcn", graph, tmp_path)
    monkeypatch.setattr(fitting, "validation_recall", recalls(3))
    fitted_models.assert_same_bits(fit("lightgcn", graph, tmp_path), whole)
    of_whole, _, of_resumed, _ = kept
    for name, value in of_whole.items():
        assert torch.equal(value, of_resumed[name])


def test_checkpoint_finished_training_is_not_repeated(
    graph: Graph, steps: Steps, tmp_path: Path
) -> None:
    first = fit("lightgcn", graph, tmp_path)
    steps.restart(kill_at=0)
    fitted_models.assert_same_bits(fit("lightgcn", graph, tmp_path), first)


def test_checkpoint_fitted_members_are_not_refitted(
    graph: Graph, steps: Steps, tmp_path: Path
) -> None:
    whole = fit("lightgcn", graph, None, epochs=3, members=3)
    per_epoch = steps.done // 9
    steps.restart(kill_at=4 * per_epoch + 1)  # in the second epoch of the second one
    with pytest.raises(Killed):
        fit("lightgcn", graph, tmp_path, epochs=3, members=3)
    steps.restart()
    fitted_models.assert_same_bits(fit("lightgcn", graph, tmp_path, epochs=3, members=3), whole)
    assert steps.done == 5 * per_epoch


def test_checkpoint_without_a_folder_writes_nothing(graph: Graph, tmp_path: Path) -> None:
    with_folder = fit("lightgcn", graph, tmp_path / "here")
    fitted_models.assert_same_bits(fit("lightgcn", graph, None), with_folder)
    assert {path.name for path in (tmp_path / "here").iterdir()} == {
        "search.safetensors",
        "refit.safetensors",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def without_an_edge(graph: Graph) -> Graph:
    edges = graph.edges.taken(np.arange(len(graph.edges)) != 7)
    held = graph.early_stopping
    assert held is not None
    return replace(
        graph,
        edges=edges,
        early_stopping=replace(held, edges=held.edges.taken(np.arange(len(held.edges)) != 3)),
    )


def other_truth(graph: Graph) -> Graph:
    held = graph.early_stopping
    assert held is not None
    fewer = held.truth.taken(np.arange(len(held.truth)) != 0)
    return replace(graph, early_stopping=replace(held, truth=fewer))


def other_vectors(graph: Graph) -> Graph:
    part = graph.features["visual"]
    changed = replace(part, vector=part.vector * np.arange(1, 6, dtype=np.float32))
    return replace(graph, features={**graph.features, "visual": changed})


def other_similarities(graph: Graph) -> Graph:
    pairs = graph.modality_edges["visual"]
    changed = replace(pairs, similarity=pairs.similarity**2)
    return replace(graph, modality_edges={**graph.modality_edges, "visual": changed})


def fewer_eligible(graph: Graph) -> Graph:
    return replace(graph, eligible=np.arange(graph.n_videos) > 4)


CHANGES: dict[str, Callable[[Graph], Graph]] = {
    "edges": without_an_edge,
    "truth": other_truth,
    "vectors": other_vectors,
    "similarities": other_similarities,
    "eligible": fewer_eligible,
}


@pytest.mark.parametrize("change", CHANGES)
def test_checkpoint_of_other_data_is_not_used(graph: Graph, tmp_path: Path, change: str) -> None:
    other, config = CHANGES[change](graph), {"edge_weight": "similarity"}
    fresh = fit("preference_gcn", other, None, **config)
    fit("preference_gcn", graph, tmp_path, **config)
    fitted_models.assert_same_bits(fit("preference_gcn", other, tmp_path, **config), fresh)


@pytest.mark.parametrize(
    "options", [{"seed": 1}, {"learning_rate": 0.1}, {"dim": 4}, {"max_epochs": 3}], ids=str
)
def test_checkpoint_of_another_seed_or_config_is_not_used(
    graph: Graph, tmp_path: Path, options: dict[str, Any]
) -> None:
    fit("lightgcn", graph, tmp_path)
    fresh = fit("lightgcn", graph, None, **options)
    fitted_models.assert_same_bits(fit("lightgcn", graph, tmp_path, **options), fresh)


def test_checkpoint_of_another_yesterday_is_not_used(graph: Graph, tmp_path: Path) -> None:
    module: Any = registry.model("lightgcn")
    made = module.Config(dim=3, epochs=2, warm_start=True)
    place = {"user": np.arange(graph.n_users), "video": np.arange(graph.n_videos)}

    def from_yesterday(value: float, folder: Path | None) -> Trained:
        rows = {"video_id": np.full((graph.n_videos, 3), value, dtype=np.float32)}
        yesterday = {"refit": Yesterday(day="2026-01-03", parameters=rows, **place)}
        runtime = Runtime(checkpoints=folder, yesterday=yesterday)
        return module.fit(graph, made, np.random.default_rng(0), runtime=runtime)

    from_yesterday(0.1, tmp_path)
    fitted_models.assert_same_bits(from_yesterday(0.2, tmp_path), from_yesterday(0.2, None))


@pytest.mark.parametrize("where", ["while writing", "before the rename"])
@pytest.mark.parametrize("writes", [0, 1, 3])
def test_checkpoint_killed_while_saving_keeps_the_epoch_before(
    graph: Graph, tmp_path: Path, where: str, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, done = fit("preference_gcn", graph, None), []
    name = "save_file" if where == "while writing" else "replace"
    owner: Any = checkpoint if where == "while writing" else checkpoint.os
    original = getattr(owner, name)

    def dies(*arguments: Any) -> None:
        if len(done) < writes:
            done.append(1)
            original(*arguments)
            return
        if where == "while writing":
            Path(arguments[1]).write_bytes(b"half a file")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dies)
        with pytest.raises(Killed):
            fit("preference_gcn", graph, tmp_path)
    path = tmp_path / "search.safetensors"
    assert path.exists() == (writes > 0)
    assert [*tmp_path.glob("*.staged")]
    fitted_models.assert_same_bits(fit("preference_gcn", graph, tmp_path), whole)
    assert not [*tmp_path.glob("*.staged")]


def test_state_saved_and_loaded_is_bit_identical(tmp_path: Path) -> None:
    """Tensors of any type and size, Adam's moments, numbers of the history to the last bit."""
    shared = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    weight, idle = torch.nn.Parameter(shared.clone()), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight, idle], lr=0.1)
    weight.square().sum().backward()
    optimizer.step()
    history = History(losses=[1 / 3, 0.1 + 0.2], recalls=[2 / 7])
    place = Checkpoint(tmp_path / "deep" / "a.safetensors", "f")
    assert place.load() is None
    generator = torch.Generator().manual_seed(3).get_state()
    of_model = {"a.b/c": shared, "half": shared.bfloat16(), "same": shared}
    place.save({"model": of_model, "generator": {"": generator}}, optimizer, history)
    actual = place.load()
    assert actual is not None
    tensors, numbers = actual
    assert History(**numbers) == history
    assert tensors["model"].keys() == of_model.keys()
    for name, value in of_model.items():
        assert torch.equal(tensors["model"][name], value)
    assert torch.equal(tensors["generator"][""], generator)
    again = torch.optim.Adam([weight, idle], lr=0.1)
    checkpoint.restore_optimizer(again, tensors["optimizer"])
    assert again.state.keys() == {weight}
    for name, value in optimizer.state[weight].items():
        assert torch.equal(again.state[weight][name], value)
    assert Checkpoint(place.path, "another").load() is None


def test_fingerprints_of_different_training_data_differ(graph: Graph) -> None:
    ones = np.ones(4, dtype=np.float32)
    halves = np.array([1, 1], dtype=np.int32)
    parts: list[tuple[list[str], list[Any]]] = [
        (["a", "bc"], [ones]),
        (["ab", "c"], [ones]),
        (["a", "bc"], [ones.reshape(2, 2)]),
        (["a", "bc"], [ones.view(np.int32)]),
        (["a", "bc"], [ones[:1], ones[1:]]),
        (["a", "bc"], [ones[:2], ones[2:]]),
        (["a", "bc"], [{"x": ones}]),
        (["a", "bc"], [{"y": ones}]),
        (["a", "bc"], [{"x": {}, "y": ones}]),
        (["a", "bc"], [None]),
        (["a", "bc"], [halves]),
        (["a", "bc"], [graph]),
        *((["a", "bc"], [change(graph)]) for change in CHANGES.values()),
    ]
    actual = [fingerprint(*part) for part in parts]
    assert len(set(actual)) == len(parts)
    assert actual == [fingerprint(*part) for part in parts]
    one = build_graph(logs.clusters(2, n_users=24, n_videos=20), fit="trial")
    assert fingerprint([], [one]) == fingerprint([], [graph])
