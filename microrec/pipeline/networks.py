"""What a model of a night was fitted to and its network, out of the warehouse."""

import json
from typing import Any, NamedTuple

import pyarrow as pa

from microrec.core import fitted
from microrec.models import registry
from microrec.models.inputs import graph_arrays
from microrec.models.inputs.graph_arrays import Graph
from microrec.pipeline.night import Night


class ModelInputs(NamedTuple):
    """What a fit of a model learns from."""

    tables: dict[str, pa.Table]
    """Rows by name of the table."""
    graph: Graph
    """The same as arrays."""


def read_inputs(night: Night, model: str) -> ModelInputs:
    """Read what a fit of a model learns from.

    Args:
        night: of the fit.
        model: its name.

    Returns:
        The tables the model reads, and the graph made of them.

    Raises:
        MissingDay: a table has no rows of the day.
    """
    partitions = graph_arrays.reads(registry.card(model).reads, night.fit)
    tables = {name: night.read(name, **partition) for name, partition in partitions.items()}
    return ModelInputs(tables, graph_arrays.build_graph(tables, fit=night.fit))


def only_label(night: Night, model: str) -> bool | None:
    """Return the label of all that a ranking model of a fit has learned from, if it was one alone.

    Such a model cannot tell what is watched from what is left: a log without watch times makes every viewing complete.

    Args:
        night: of the fit; the model is fitted.
        model: its name.

    Returns:
        Whether all were positive; None where there were both kinds, or no examples.
    """
    (row,) = night.read("models", fit=night.fit, model=model).to_pylist()
    label = json.loads(row["metrics"]).get(fitted.ONLY_LABEL)
    return None if label is None else bool(label)


def load(night: Night, model: str, graph: Graph, *, device: str) -> Any:
    """Restore the network of a fit.

    Args:
        night: of the fit.
        model: its card has `scores_pairs`.
        graph: what it was fitted to.
        device: of torch.

    Returns:
        The network on the device.

    Raises:
        MissingDay: nothing was fitted.
    """
    from microrec.models.sequence import exposures

    return exposures.load(model, night.artefact(model), graph, device=device)
