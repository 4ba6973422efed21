"""Fitted models as they serve a night: with rows for users whom they were not fitted to.

Who wants to teach nobody is in no model. A model that scores a history as it serves, by neighbour lists of videos,
needs no row of theirs. One that makes the row of a user of that user's history alone (`Card.rows_apart`) makes them one
here. In other models they have none, and so no candidates, like a user who was never seen before.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from microrec.core import fitted
from microrec.core.fitted import Embeddings, Fitted, NeighbourLists, Trends
from microrec.models import registry
from microrec.models.inputs import graph_arrays
from microrec.pipeline.fit_tables import FitTables
from microrec.pipeline.night import Night


def load(night: Night, model: str, tables: FitTables) -> Fitted:
    """Load a model of a night's fit, with a row for every user of the night.

    Args:
        night: of the fit.
        model: its name.
        tables: of the night.

    Returns:
        The model; that of the artefact where everybody teaches.

    Raises:
        MissingDay: the fit has no such model.
    """
    learned = fitted.load(night.artefact(model))
    n_users, n_teachers = tables.users.num_rows, tables.knowledge.n_teachers
    if n_teachers is None or n_teachers == n_users:
        return learned
    match learned:
        case NeighbourLists(axis="user"):
            missing = max(0, n_users + 1 - len(learned.indptr))
            return replace(learned, indptr=np.pad(learned.indptr, (0, missing), mode="edge"))
        case Trends():
            user, known = _padded(learned.user, n_users), _padded(learned.trend_known, n_users)
            return replace(learned, user=user, trend_known=known)
        case Embeddings():
            user, known = _padded(learned.user, n_users), _padded(learned.user_known, n_users)
            if registry.card(model).rows_apart:
                apart = _rows_apart(night, model, tables)
                user[n_teachers:], known[n_teachers:] = apart.user, apart.user_known
            return replace(learned, user=user, user_known=known)
    return learned


def _padded(rows: Any, n_users: int) -> Any:
    """Rows with more of zeros after them, at least one per user. [n_users or more, ...]."""
    padded = np.zeros((max(len(rows), n_users), *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded


def _rows_apart(night: Night, model: str, tables: FitTables) -> Embeddings:
    """What the model makes of the histories of those who teach nobody. [n_private, dim]."""
    first = tables.knowledge.n_teachers or 0
    module: Any = registry.model(model)
    partitions = graph_arrays.reads(registry.card(model).reads, night.fit)
    rows = {name: night.read(name, **partition) for name, partition in partitions.items()}
    n_private = tables.users.num_rows - first
    own = tables.private_edges
    index = pa.array(own["user_idx"].to_numpy() - first, pa.int32())
    place = own.schema.get_field_index("user_idx")
    rows |= {
        "users": pa.table({"user_idx": pa.array(np.arange(n_private), pa.int32())}),
        "watch_edges": own.set_column(place, "user_idx", index),
        "user_edges": rows["user_edges"].slice(0, 0),
    }
    graph = graph_arrays.build_graph(rows, fit=night.fit)
    config = night.recipe.section(f"models.{model}", module.Config)
    made: Embeddings = module.fit(graph, config, np.random.default_rng(0)).fitted
    return made
