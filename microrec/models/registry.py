"""Which models there are, by the name the recipe and the tables use.

Modules are imported when asked for: a job that trains `popularity` never waits for torch.
"""

import datetime as dt
import importlib
from typing import Any, Protocol, cast

import numpy as np
from pydantic import BaseModel

from microrec.core.fitted import Trained
from microrec.errors import RecipeError
from microrec.models.inputs.graph_arrays import TABLES, Graph

FAMILIES = {
    "clip_interest": "clip",
    "content": "basic",
    "din": "sequence",
    "dnn": "sequence",
    "ease": "neighbours",
    "lightgcn": "graph",
    "mmgcn": "graph",
    "multi_trend": "sequence",
    "popularity": "basic",
    "preference_gcn": "graph",
    "rp3beta": "neighbours",
    "sasrec": "sequence",
    "user_neighbours": "neighbours",
    "video_neighbours": "neighbours",
}
"""Every model, and the package its module lies in."""
NAMES = tuple(FAMILIES)
OF_SEQUENCES = ("din", "dnn", "multi_trend", "sasrec")
"""Models that read `sequences` and `exposures`."""
SCORING = ("clip_interest", "din", "dnn", "multi_trend")
"""Models that score any pair of a user and a video: what `night.rankers` may name."""
RANKERS = ("clip_interest", "din", "dnn")
"""Of these, the ones that propose nothing."""


class Model(Protocol):
    """What a model's module offers."""

    Config: type[BaseModel]

    def fit(self, graph: Graph, config: Any, rng: np.random.Generator) -> Trained:
        """Fit the model to a graph; the same arguments give the same arrays."""
        ...


def model(name: str) -> Model:
    """The module of a model.

    Raises:
        RecipeError: there is no model of that name.
    """
    if name not in NAMES:
        raise RecipeError(f"model {name!r} is not one of {', '.join(NAMES)}")
    return cast(Model, importlib.import_module(f"microrec.models.{FAMILIES[name]}.{name}"))


def tables(name: str) -> tuple[str, ...]:
    """The tables a model's graph is built from.

    Raises:
        RecipeError: there is no model of that name.
    """
    found: tuple[str, ...] = getattr(model(name), "TABLES", TABLES)
    return found


def seed(root: int, *, day: dt.date, model: str) -> int:
    """Seed of a model's night: the same on every machine, another one for each day and model.

    Args:
        root: the recipe's seed
        day: the night
        model: name of the model
    """
    sequence = np.random.SeedSequence([root, day.toordinal(), *model.encode()])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))  # fits a signed bigint
