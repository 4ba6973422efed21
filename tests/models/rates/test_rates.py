"""Trees on rates find a planted rate, see nothing of the day they predict, and are the same for the same inputs."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from microrec.core import fitted
from microrec.core.fitted import Ranker, Trained
from microrec.core.rates import Shown
from microrec.errors import MicrorecError
from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.rates import rates
from microrec.models.sequence.auc import grouped_auc
from tests.worlds import logs
from tests.worlds import rates as worlds

WORLD = worlds.world(5)
CONFIG = rates.Config(least_in_leaf=20, max_trees=60, step=20)


@functools.cache
def graph(fit: str = "trial") -> Graph:
    return build_graph(WORLD.tables, fit=fit)


def fit(of: Graph, seed: int = 0, **changed: Any) -> Trained:
    config = CONFIG.model_copy(update=changed)
    return rates.fit(of, config, np.random.default_rng(seed))


@functools.cache
def trained() -> Trained:
    return fit(graph())


def held_out() -> tuple[Shown, np.ndarray, np.ndarray]:
    """Exposures of D in the order of the trial's arrays, their labels, and the planted chances."""
    whole = rates.rates_of(graph("final"))
    shown, label = rates.examples(whole, first_day=worlds.D)
    table = WORLD.tables["exposure_counts"]
    of_day = pc.equal(table["shown_on"], worlds.NIGHT).to_numpy()
    rows = table.filter(of_day)
    columns = [rows[name].to_numpy() for name in ("video_idx", "user_idx")]
    return shown, label, WORLD.chance[of_day][np.lexsort(columns)]


def test_planted_rates_are_learned() -> None:
    """On a day that was not seen, nearly as well as by the planted chances; shuffled answers teach nothing."""
    shown, label, chance = held_out()
    found = rates.restore(graph(), CONFIG, trained().parameters).of_exposures(shown)
    best = grouped_auc(chance, label, shown.user_idx)
    assert best > 0.8
    assert grouped_auc(found, label, shown.user_idx) > best - 0.06
    known = shown.user_idx < shown.user_idx.max()  # the last user was never shown anything
    assert np.corrcoef(found[known], chance[known])[0, 1] > 0.85
    assert abs(found.mean() - label.mean()) < 0.1
    random = np.random.default_rng(1)
    inputs = rates.rates_of(graph())
    mixed = replace(inputs.counts, n_positive=random.permutation(inputs.counts.n_positive))
    shuffled = replace(graph(), rates=replace(inputs, counts=mixed))
    nothing = rates.restore(shuffled, CONFIG, fit(shuffled).parameters).of_exposures(shown)
    assert grouped_auc(nothing, label, shown.user_idx) < 0.6


def test_same_generator_is_bit_identical_another_is_not() -> None:
    again = fit(build_graph(logs.shuffled(WORLD.tables, 9), fit="trial"))
    assert again.report == trained().report
    np.testing.assert_array_equal(again.parameters["trees"], trained().parameters["trees"])
    other = fit(graph(), seed=1)
    assert not np.array_equal(other.parameters["trees"], trained().parameters["trees"])


def test_nothing_of_the_day_itself_or_later_is_seen() -> None:
    """Whatever D held: the trial's trees, what they say of pairs, and the matrix of D's exposures are the same."""
    table = WORLD.tables["exposure_counts"]
    late = pc.equal(table["shown_on"], worlds.NIGHT)
    turned = pc.subtract(table["n_shown"], table["n_positive"])
    changed = table.set_column(6, "n_positive", pc.if_else(late, turned, table["n_positive"]))
    assert not changed.equals(table)
    pairs = np.arange(40), np.arange(40)
    for rows in (changed, table.filter(pc.invert(late))):
        other = build_graph({**WORLD.tables, "exposure_counts": rows}, fit="trial")
        again = fit(other)
        np.testing.assert_array_equal(again.parameters["trees"], trained().parameters["trees"])
        said = [
            rates.scores(rates.restore(of, CONFIG, by.parameters), of, *pairs)
            for of, by in ((graph(), trained()), (other, again))
        ]
        np.testing.assert_array_equal(*said)
    final = build_graph({**WORLD.tables, "exposure_counts": changed}, fit="final")
    shown, _, _ = held_out()
    matrices = [
        rates.matrix(of, shown, rates.book(rates.rates_of(of), CONFIG), CONFIG)
        for of in (graph(), graph("final"), final)
    ]
    np.testing.assert_array_equal(matrices[0], matrices[1])
    np.testing.assert_array_equal(matrices[1], matrices[2])
    assert not np.array_equal(fit(final).parameters["trees"], trained().parameters["trees"])


def test_trees_are_chosen_on_the_last_day_and_taken_as_told() -> None:
    report = trained().report
    assert report["trees"] in (20, 40, 60)
    assert len(report["gauc"]) == 3
    assert report["gauc"][report["trees"] // 20 - 1] == max(report["gauc"])
    assert fit(graph(), trees=7).report == {"trees": 7}
    assert fit(graph("final")).report == {"trees": CONFIG.default_trees}
    text = fit(graph(), trees=7).parameters["trees"].tobytes().decode()
    assert text.count("\nTree=") == 7


def test_number_of_trees_is_chosen_without_the_refit_seeing_less() -> None:
    """The refit is that of a fit which is told the number."""
    told = fit(graph(), trees=trained().report["trees"])
    np.testing.assert_array_equal(told.parameters["trees"], trained().parameters["trees"])


def test_saved_and_loaded_scores_are_equal(tmp_path: Path) -> None:
    fitted.save(trained(), tmp_path, config=CONFIG)
    assert isinstance(fitted.load(tmp_path), Ranker)
    pairs = np.repeat(np.arange(60), 3), np.tile([0, 1, 39], 60)
    one, other = (
        rates.scores(rates.restore(graph(), CONFIG, kept), graph(), *pairs)
        for kept in (trained().parameters, fitted.load_parameters(tmp_path))
    )
    np.testing.assert_array_equal(one, other)
    assert one.dtype == np.float32
    assert ((one > 0) & (one < 1)).all()
    assert one.std() > 0.05


def test_pairs_are_scored_as_exposures_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    network = rates.restore(graph(), CONFIG, trained().parameters)
    users, videos = np.repeat(np.arange(60), 2), np.arange(120) % 40
    expected = network.of_exposures(network.inputs.serving(users, videos))
    np.testing.assert_array_equal(network.of_pairs(users, videos), expected)
    monkeypatch.setattr(rates, "SCORED_AT_ONCE", 7)
    np.testing.assert_array_equal(network.of_pairs(users, videos), expected)
    assert len(network.of_pairs(users[:0], videos[:0])) == 0
    assert network.to("cpu") is network


@pytest.mark.parametrize("kept", ["nothing", "negatives"])
def test_night_that_tells_nothing_is_handled(kept: str) -> None:
    table = WORLD.tables["exposure_counts"]
    rows = (
        table.slice(0, 0) if kept == "nothing" else table.filter(pc.equal(table["n_positive"], 0))
    )
    quiet = build_graph({**WORLD.tables, "exposure_counts": rows}, fit="trial")
    model = fit(quiet)
    only = {} if kept == "nothing" else {"only_label": False}
    assert model.report == {"trees": CONFIG.default_trees, **only}
    said = rates.scores(
        rates.restore(quiet, CONFIG, model.parameters), quiet, np.arange(3), np.arange(3)
    )
    assert said.tolist() == [0.5] * 3


def test_examples_are_viewings_of_the_latest_days() -> None:
    rows = [
        (worlds.D, 0, 1, "feed", worlds.D - 2, 3, 1),
        (worlds.D, 0, 1, "feed", worlds.D - 1, 2, 2),
        (worlds.D, 1, 0, "feed", worlds.D - 9, 5, 0),
    ]
    of = build_graph({**WORLD.tables, "exposure_counts": worlds.counts(rows)}, fit="trial")
    shown, label = rates.examples(rates.rates_of(of), first_day=worlds.D - 7)
    assert shown.day.tolist() == [worlds.D - 2] * 3 + [worlds.D - 1] * 2
    assert label.tolist() == [True, False, False, True, True]


def test_graph_without_counts_is_refused() -> None:
    with pytest.raises(MicrorecError, match="the graph has none"):
        fit(build_graph(logs.checkerboard(), fit="trial"))
