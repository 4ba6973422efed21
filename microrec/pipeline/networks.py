"""What a night fitted and what it was fitted to, out of the warehouse: the part of several jobs that is alike."""

import datetime as dt
from typing import Any, NamedTuple

import pyarrow as pa

from microrec.models import registry
from microrec.models.inputs import graph_arrays
from microrec.models.inputs.graph_arrays import Graph
from microrec.tables.arrow import Warehouse


class Learned(NamedTuple):
    """A model's view of a night."""

    tables: dict[str, pa.Table]
    """All that the graph is made of, by name."""
    graph: Graph


def learned(warehouse: Warehouse, model: str, *, day: dt.date, fit: str) -> Learned:
    """Read what a fit of a model learns from.

    Raises:
        MissingDay: a table has no rows of the day.
    """
    needed = graph_arrays.reads(registry.tables(model), fit)
    tables = {name: warehouse.read(name, day=day, **part) for name, part in needed.items()}
    return Learned(tables, graph_arrays.build_graph(tables, fit=fit))


def network(
    warehouse: Warehouse, model: str, graph: Graph, *, day: dt.date, fit: str, device: str
) -> Any:
    """The network of a fit, restored.

    Args:
        warehouse: has its artefact.
        model: one of `registry.SCORING`.
        graph: what it was fitted to.
        day: of the night.
        fit: trial or final.
        device: of torch.

    Raises:
        MissingDay: nothing was fitted.
    """
    from microrec.models.sequence import exposures

    folder = warehouse.find_artefact(day=day, fit=fit, model=model)
    return exposures.load(model, folder, graph, device=device)
