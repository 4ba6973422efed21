"""Trees on rates: the chance that an exposure is positive, from what was counted before its day.

Ke et al. 2017, "LightGBM: a highly efficient gradient boosting decision tree". What is known of an exposure is what
its user, its video, their author, tags, duration and surface had up to the start of its day (`core/rates.py`): rates,
faded and long, and how many viewings are behind them; and the length of the video. Trees of few leaves are nearly a sum
of one curve for each of these.

The search learns from all days but the last and chooses the number of trees by the per-user AUC of the last; the refit
learns from all days. It scores pairs and proposes nothing; a pair is scored on the surface where its user is shown
most.
"""

from collections.abc import Mapping
from typing import Any, Self

import lightgbm
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from microrec.core.array_types import Bools, Float32s, Indices
from microrec.core.fitted import Ranker, Trained, only_label
from microrec.core.rates import NAMES, Book, Shown, Totals, features
from microrec.core.trees import REPRODUCIBLE
from microrec.errors import MicrorecError
from microrec.models.inputs.graph_arrays import Graph
from microrec.models.inputs.rate_arrays import RateInputs
from microrec.models.sequence.auc import grouped_auc

TREES = "trees"
"""Parameter that holds the trees: the bytes of LightGBM's text."""
LENGTH = "duration_s"
SCORED_AT_ONCE = 100_000
"""Pairs scored in one block: memory is some 700 bytes times this."""


class Config(BaseModel):
    """How rates fade, and how the trees are grown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life_days: PositiveFloat = 2.5
    """After so many days a viewing counts half."""
    prior: PositiveFloat = 10.0
    """Viewings that the rate of the parent counts for."""
    example_days: PositiveInt = 7
    """Latest days whose exposures are learned from; rates use all days of the window."""
    leaves: int = Field(default=4, ge=2)
    """Leaves of a tree."""
    learning_rate: PositiveFloat = 0.1
    """Shrinkage of each tree."""
    least_in_leaf: PositiveInt = 100
    """Exposures a leaf must hold."""
    l2: NonNegativeFloat = 10.0
    """Ridge penalty on the leaves."""
    share_of_features: float = Field(default=0.7, gt=0, le=1)
    """Features that a tree may use, drawn."""
    share_of_rows: float = Field(default=0.8, gt=0, le=1)
    """Exposures that a tree learns from, drawn."""
    max_trees: PositiveInt = 400
    """Most trees while looking for the best number."""
    step: PositiveInt = 50
    """Trees between two looks at the validation day."""
    trees: PositiveInt | None = None
    """Set: exactly so many trees (a final fit: those its trial chose)."""
    default_trees: PositiveInt = 200
    """Trees where there is neither `trees` nor anything to validate on."""


class Trees:
    """Fitted trees, and the rates they read."""

    def __init__(self, booster: lightgbm.Booster | None, graph: Graph, config: Config) -> None:
        """Sum the rates as of the end of what the fit sees."""
        self.booster = booster
        self.graph = graph
        self.config = config
        self.inputs = rates_of(graph)
        self.book = book(self.inputs, config)
        self.today: Totals = self.book.as_of(self.inputs.today)

    def to(self, device: str) -> Self:
        """Return the same trees: they are asked on the CPU, whatever the device."""
        return self

    def chances(self, values: Float32s) -> Float32s:
        """Return the chance that exposures are positive.

        Args:
            values: as `matrix` makes them. [n_exposures, n_features]

        Returns:
            In (0, 1), [n_exposures].
        """
        if self.booster is None or not len(values):  # LightGBM judges no empty array
            return np.full(len(values), 0.5, dtype=np.float32)
        return np.asarray(self.booster.predict(values), dtype=np.float32)

    def of_exposures(self, shown: Shown) -> Float32s:
        """Return the chances of exposures, each as of the start of its day. [n_exposures].

        Args:
            shown: [n_exposures]
        """
        return self.chances(matrix(self.graph, shown, self.book, self.config))

    def of_pairs(self, user_idx: Indices, video_idx: Indices) -> Float32s:
        """Return the chances of pairs as of the end of what the fit sees.

        Args:
            user_idx: [n_pairs]
            video_idx: [n_pairs]

        Returns:
            In (0, 1), [n_pairs].
        """
        pairs = self.inputs.serving(user_idx, video_idx)
        chances = np.zeros(len(pairs), dtype=np.float32)
        for start in range(0, len(pairs), SCORED_AT_ONCE):
            places = slice(start, start + SCORED_AT_ONCE)
            block = pairs.taken(places)
            rates = features(self.today.of(block), prior=self.config.prior)
            chances[places] = self.chances(_with_length(self.graph, block, rates))
        return chances


def rates_of(graph: Graph) -> RateInputs:
    """Return the counts of a graph.

    Raises:
        MicrorecError: it was made without.
    """
    if graph.rates is None:
        raise MicrorecError("this model reads `exposure_counts` and `videos`; the graph has none")
    return graph.rates


def book(inputs: RateInputs, config: Config) -> Book:
    """Return the counts of a fit, to be summed as of any day.

    Args:
        inputs: the counts.
        config: how they fade.
    """
    return Book(inputs.counts, inputs.videos, half_life_days=config.half_life_days)


def matrix(graph: Graph, shown: Shown, counts: Book, config: Config) -> Float32s:
    """Return what is known of exposures at the start of their days.

    Args:
        graph: has the lengths of videos.
        shown: the exposures. [n_exposures]
        counts: what was counted.
        config: how much is needed to be believed.

    Returns:
        Columns `NAMES` and the length in seconds, 0 where it is not known. [n_exposures, n_features]
    """
    return _with_length(graph, shown, features(counts.sums(shown), prior=config.prior))


def _with_length(graph: Graph, shown: Shown, rates: Float32s) -> Float32s:
    seconds = graph.duration_ms[shown.video_idx] / 1e3
    return np.column_stack([rates, seconds]).astype(np.float32)


def examples(inputs: RateInputs, *, first_day: int) -> tuple[Shown, Bools]:
    """Return the exposures of a fit's latest days and whether each was positive.

    Args:
        inputs: the counts.
        first_day: in days since 1970; earlier exposures are left out.

    Returns:
        Exposures and labels, in the order of day, user_idx, video_idx, surface. [n_exposures] each
    """
    late = inputs.counts.taken(inputs.counts.day >= first_day)
    row = np.repeat(np.arange(len(late)), late.n_shown)
    place = np.arange(len(row)) - np.repeat(np.cumsum(late.n_shown) - late.n_shown, late.n_shown)
    columns = (late.user_idx, late.video_idx, late.surface, late.day)
    return Shown(*(column[row] for column in columns)), place < late.n_positive[row]


def fit(graph: Graph, config: Config, rng: np.random.Generator, *, runtime: Any = None) -> Trained:
    """Choose the number of trees on the validation day, then fit to all the fit's exposures; see `registry.Model`."""
    inputs = rates_of(graph)
    shown, label = examples(inputs, first_day=inputs.today - config.example_days)
    values = matrix(graph, shown, book(inputs, config), config)
    seed = int(rng.integers(2**31))
    report: dict[str, Any] = {"trees": config.trees or config.default_trees}
    held = shown.day == inputs.validated_on
    if config.trees is None and _tells(label[held]) and _tells(label[~held]):
        n_trees = config.max_trees
        search = _grow(values[~held], label[~held], config, n_trees=n_trees, seed=seed)
        steps = [*range(config.step, n_trees, config.step), n_trees]
        gauc = [
            grouped_auc(_predicted(search, values[held], n), label[held], shown.user_idx[held])
            for n in steps
        ]
        report = {"trees": steps[int(np.argmax(gauc))], "gauc": [round(one, 6) for one in gauc]}
    if not _tells(label):
        return Trained(Ranker(), report | only_label(label))
    whole = _grow(values, label, config, n_trees=report["trees"], seed=seed)
    text = np.frombuffer(whole.model_to_string().encode(), dtype=np.uint8)
    return Trained(Ranker(), report, {TREES: text.copy()})


def _tells(label: Bools) -> bool:
    """Whether there are both kinds of exposures."""
    return bool(label.any() and not label.all())


def _predicted(booster: lightgbm.Booster, values: Float32s, n_trees: int) -> NDArray[np.float64]:
    return np.asarray(booster.predict(values, num_iteration=n_trees))


def _grow(
    values: Float32s, label: Bools, config: Config, *, n_trees: int, seed: int
) -> lightgbm.Booster:
    options = {
        "objective": "binary",
        "num_leaves": config.leaves,
        "learning_rate": config.learning_rate,
        "min_data_in_leaf": config.least_in_leaf,
        "lambda_l2": config.l2,
        "feature_fraction": config.share_of_features,
        "bagging_fraction": config.share_of_rows,
        "bagging_freq": 1,
        "seed": seed,
        **REPRODUCIBLE,
    }
    data = lightgbm.Dataset(values, label.astype(np.int8), feature_name=[*NAMES, LENGTH])
    return lightgbm.train(options, data, num_boost_round=n_trees)


def restore(graph: Graph, config: Config, parameters: Mapping[str, NDArray[Any]]) -> Trees:
    """Return the trees of an earlier `fit` to the same graph; see `registry.Model`."""
    text = parameters[TREES].tobytes().decode() if TREES in parameters else None
    booster = lightgbm.Booster(model_str=text) if text else None
    return Trees(booster, graph, config)


def scores(network: Trees, graph: Graph, user_idx: Indices, video_idx: Indices) -> Float32s:
    """Return the chances of pairs of a user and a video as of the end of what the fit sees.

    Args:
        network: the trees.
        graph: what they were fitted to.
        user_idx: [n_pairs]
        video_idx: [n_pairs]

    Returns:
        In (0, 1), [n_pairs].
    """
    return network.of_pairs(user_idx, video_idx)
