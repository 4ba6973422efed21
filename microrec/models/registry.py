"""Which models there are: one card for each, by the name that the recipe and the tables use.

A card says what the jobs need to know of a model before they import it: a job that trains `popularity` never waits for
torch. To add a model, write its module, add its card here and name it in the recipe. An installed package adds one
without a change here: an entry point of the group `microrec.models` that leads to a `Card` of the same name.

    [project.entry-points."microrec.models"]
    newest = "their_package.cards:NEWEST"

`Model` is the interface of a module.
"""

import datetime as dt
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from microrec.core.code_digest import MODEL_GROUP
from microrec.core.fitted import Trained
from microrec.errors import RecipeError
from microrec.models.inputs.graph_arrays import (
    TABLES,
    WITH_CLIPS,
    WITH_RATES,
    WITH_SEQUENCES,
    Graph,
)

if TYPE_CHECKING:  # a job that trains `popularity` never waits for torch
    import torch


@dataclass(frozen=True)
class Card:
    """What is known of a model without importing its module."""

    name: str
    """As the recipe and the tables have it."""
    module: str
    """Where the model is, as Python imports it."""
    family: str
    """Kind of algorithm: `basic`, `neighbours`, `graph`, `sequence`, `clip`, `rates`, or a name of its own."""
    kind: Literal["retrieval", "ranking", "both"]
    """`retrieval` proposes videos, `ranking` scores pairs of a user and a video and proposes nothing."""
    reads: tuple[str, ...]
    """Tables that its graph is built from."""
    trains_in_epochs: bool
    """Whether it takes a `Runtime`, and reports a number of epochs that the final fit takes from the trial."""
    status: Literal["default", "optional", "baseline"]
    """`default`: in `microrec.toml`; `optional`: for recipes of their own; `baseline`: to compare with."""
    paper: str
    """Where it was published."""
    needs: tuple[str, ...] = ()
    """Of the tables it reads, those without whose rows it proposes nothing. Of others, as the vectors of
    `preference_gcn`, only a part of the model falls away."""

    chosen: tuple[str, ...] = ()
    """Settings that are chosen on the validation day: the report names their values, and the final fit takes those of
    its trial."""
    rows_apart: bool = False
    """Whether a user's row is made of that user's history alone: then one whom the model was not fitted to may have
    one all the same (`pipeline.served_models`)."""
    reason: str = ""
    """Why a video that the model proposes is in a list, in words a product can show; they name no other user. A model
    that proposes nothing has none."""

    def __post_init__(self) -> None:
        """Refuse a card without the words that lists show.

        Raises:
            RecipeError: the model proposes videos and has no reason, or proposes none and has one.
        """
        if self.proposes and not self.reason:
            raise RecipeError(f"model {self.name!r} proposes videos: its card needs a reason")
        if self.reason and not self.proposes:
            raise RecipeError(f"model {self.name!r} proposes no video: its card has a reason")

    @property
    def from_trial(self) -> tuple[str, ...]:
        """Settings that a final fit takes from its trial's report."""
        return (*(("epochs",) if self.trains_in_epochs else ()), *self.chosen)

    @property
    def proposes(self) -> bool:
        """Whether `night.models` may name it."""
        return self.kind != "ranking"

    @property
    def scores_pairs(self) -> bool:
        """Whether `night.rankers` may name it."""
        return self.kind != "retrieval"


_OURS = (
    Card(
        name="clip_interest",
        module="microrec.models.clip.clip_interest",
        family="clip",
        kind="ranking",
        reads=WITH_CLIPS,
        trains_in_epochs=True,
        status="default",
        paper="Shang et al. 2023, Learning fine-grained user interests for micro-video recommendation",
    ),
    Card(
        name="content",
        module="microrec.models.basic.content",
        family="basic",
        kind="retrieval",
        reads=TABLES,
        needs=("video_features",),
        trains_in_epochs=False,
        status="default",
        paper="Pazzani and Billsus 2007, Content-based recommendation systems",
        rows_apart=True,
        reason="similar to videos you watched",
    ),
    Card(
        name="din",
        module="microrec.models.sequence.din",
        family="sequence",
        kind="ranking",
        reads=WITH_SEQUENCES,
        trains_in_epochs=True,
        status="baseline",
        paper="Zhou et al. 2018, Deep interest network for click-through rate prediction",
    ),
    Card(
        name="dnn",
        module="microrec.models.sequence.dnn",
        family="sequence",
        kind="ranking",
        reads=WITH_SEQUENCES,
        trains_in_epochs=True,
        status="baseline",
        paper="none: a plain network on the mean of a user's history",
    ),
    Card(
        name="ease",
        module="microrec.models.neighbours.ease",
        family="neighbours",
        kind="retrieval",
        reads=TABLES,
        trains_in_epochs=False,
        chosen=("history_decay",),
        status="default",
        paper="Steck 2019, Embarrassingly shallow autoencoders for sparse data",
        reason="goes with the videos you watched, taken together",
    ),
    Card(
        name="lightgcn",
        module="microrec.models.graph.lightgcn",
        family="graph",
        kind="retrieval",
        reads=TABLES,
        trains_in_epochs=True,
        status="baseline",
        paper="He et al. 2020, LightGCN: simplifying and powering graph convolution network for recommendation",
        reason="picked for you",
    ),
    Card(
        name="mmgcn",
        module="microrec.models.graph.mmgcn",
        family="graph",
        kind="retrieval",
        reads=TABLES,
        trains_in_epochs=True,
        status="baseline",
        paper="Wei et al. 2019, MMGCN: Multi-modal graph convolution network for personalized recommendation of "
        "micro-video",
        reason="picked for you",
    ),
    Card(
        name="multi_trend",
        module="microrec.models.sequence.multi_trend",
        family="sequence",
        kind="both",
        reads=WITH_SEQUENCES,
        trains_in_epochs=True,
        status="default",
        paper="Lu et al. 2021, Multi-trends enhanced dynamic micro-video recommendation",
        reason="fits what you have been watching lately",
    ),
    Card(
        name="popularity",
        module="microrec.models.basic.popularity",
        family="basic",
        kind="retrieval",
        reads=TABLES,
        trains_in_epochs=False,
        status="default",
        paper="none: the floor that every other model is held against",
        rows_apart=True,
        reason="popular with everyone",
    ),
    Card(
        name="preference_gcn",
        module="microrec.models.graph.preference_gcn",
        family="graph",
        kind="retrieval",
        reads=TABLES,
        trains_in_epochs=True,
        status="default",
        paper="Lei et al. 2023, Learning the user's deeper preferences for multi-modal recommendation systems",
        reason="fits your taste",
    ),
    Card(
        name="rates",
        module="microrec.models.rates.rates",
        family="rates",
        kind="ranking",
        reads=WITH_RATES,
        trains_in_epochs=False,
        chosen=("trees",),
        status="optional",
        paper="Ke et al. 2017, LightGBM: a highly efficient gradient boosting decision tree",
    ),
    Card(
        name="rp3beta",
        module="microrec.models.neighbours.rp3beta",
        family="neighbours",
        kind="retrieval",
        reads=TABLES,
        trains_in_epochs=False,
        chosen=("history_decay",),
        status="optional",
        paper="Paudel et al. 2017, Updatable, accurate, diverse, and scalable recommendations for interactive "
        "applications",
        reason="watched by viewers of your videos",
    ),
    Card(
        name="sasrec",
        module="microrec.models.sequence.sasrec",
        family="sequence",
        kind="retrieval",
        reads=WITH_SEQUENCES,
        trains_in_epochs=True,
        status="optional",
        paper="Kang and McAuley 2018, Self-attentive sequential recommendation",
        reason="goes on from what you watched last",
    ),
    Card(
        name="user_neighbours",
        module="microrec.models.neighbours.user_neighbours",
        family="neighbours",
        kind="retrieval",
        reads=TABLES,
        trains_in_epochs=False,
        chosen=("history_decay",),
        status="default",
        paper="Herlocker et al. 1999, An algorithmic framework for performing collaborative filtering",
        reason="liked by viewers with a taste like yours",
    ),
    Card(
        name="video_neighbours",
        module="microrec.models.neighbours.video_neighbours",
        family="neighbours",
        kind="retrieval",
        reads=TABLES,
        trains_in_epochs=False,
        chosen=("history_decay",),
        status="default",
        paper="Sarwar et al. 2001, Item-based collaborative filtering recommendation algorithms",
        reason="often watched together with your videos",
    ),
)
CARDS: Mapping[str, Card] = MappingProxyType({card.name: card for card in _OURS})
"""The models of this package, by name in alphabetical order."""


class Model(Protocol):
    """What a model's module offers; the modules say only what is their own.

    One that trains in epochs has a field `epochs` in its `Config`. One that scores pairs also has
    `scores(network, graph, user_idx, video_idx)`.
    """

    Config: type[BaseModel]

    def fit(
        self, graph: Graph, config: Any, rng: np.random.Generator, *, runtime: Any = None
    ) -> Trained:
        """Fit the model to a graph; the same arguments give the same arrays.

        Args:
            graph: what the fit may see.
            config: the module's `Config`.
            rng: source of every draw; models without training draw nothing.
            runtime: a `training.runtime.Runtime`: where to run, and what to go on from; the CPU and nothing if left
                out. Only of models that train in epochs.

        Returns:
            The fitted model (`core.fitted`), its report and, of a network, its parameters.
        """
        ...

    def build(self, graph: Graph, examples: Any, config: Any, generator: "torch.Generator") -> Any:
        """Return a fresh network that learns from examples. Only of models that train in epochs.

        Args:
            graph: what the fit may see.
            examples: edges, exposures, viewings or histories to learn from. [n_examples]
            config: the module's `Config`.
            generator: source of the initial parameters.

        Returns:
            The network, on the CPU.
        """
        ...

    def restore(
        self, graph: Graph, config: Any, parameters: Mapping[str, NDArray[np.float32]]
    ) -> Any:
        """Return the network of an earlier `fit` to the same graph. Only of models that score pairs or rows.

        Args:
            graph: what it was fitted to.
            config: how it was fitted.
            parameters: by name, as `Trained` has them. [n_rows, n_columns] and the like

        Returns:
            The network, on the CPU.
        """
        ...


@cache
def cards() -> Mapping[str, Card]:
    """Return the cards of this package and of installed ones, by name.

    Raises:
        RecipeError: an entry point does not lead to a card of its name, or has the name of another model.
    """
    all_cards = dict(CARDS)
    for point in entry_points(group=MODEL_GROUP):
        if point.name in all_cards:
            raise RecipeError(f"entry point {point.name!r} = {point.value}: there is such a model")
        all_cards[point.name] = _card_of(point)
    return MappingProxyType(all_cards)


def _card_of(point: EntryPoint) -> Card:
    try:
        loaded = point.load()
    except (ImportError, AttributeError) as error:
        raise RecipeError(f"entry point {point.name!r} = {point.value}: {error}") from error
    if not isinstance(loaded, Card) or loaded.name != point.name:
        raise RecipeError(f"entry point {point.name!r} = {point.value}: not the card of that name")
    return loaded


def card(name: str) -> Card:
    """Return the card of a model.

    Raises:
        RecipeError: there is no model of that name.
    """
    all_cards = cards()
    if name not in all_cards:
        raise RecipeError(f"model {name!r} is not one of {', '.join(all_cards)}")
    return all_cards[name]


def model(name: str) -> Model:
    """Return the module of a model, imported.

    Raises:
        RecipeError: there is no model of that name, or its module is not what its card says.
    """
    described = card(name)
    module = importlib.import_module(described.module)
    needed = {"Config", "fit"} | ({"restore", "scores"} if described.scores_pairs else set())
    missing = sorted(needed - set(vars(module)))
    if missing:
        raise RecipeError(f"model {name!r}: {described.module} has no {', '.join(missing)}")
    if described.trains_in_epochs != ("epochs" in module.Config.model_fields):
        verb = "trains" if described.trains_in_epochs else "does not train"
        raise RecipeError(f"model {name!r}: its card says that it {verb} in epochs, its Config not")
    return cast(Model, module)


def seed(root: int, *, day: dt.date, model: str) -> int:
    """Return the seed of a model's night: the same on every machine, another one for each day and model.

    Args:
        root: the recipe's seed.
        day: the night.
        model: name of the model.

    Returns:
        A number that fits a signed 64-bit integer.
    """
    sequence = np.random.SeedSequence([root, day.toordinal(), *model.encode()])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
