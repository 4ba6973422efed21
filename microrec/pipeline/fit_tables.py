"""What every candidate and list of a fit rests on: the node and edge tables of the night, and what the fit may know."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from microrec.core import knowledge
from microrec.core.array_types import Indices
from microrec.core.knowledge import Knowledge
from microrec.pipeline.night import Night


class FitTables(NamedTuple):
    """Graph tables of a night, and what its fit knows of them."""

    users: pa.Table
    """Rows of `users`, one per index: whoever was erased since has no id."""
    edges: pa.Table
    """Rows of `watch_edges`, all splits."""
    videos: pa.Table
    """Rows of `video_nodes`."""
    knowledge: Knowledge


def read(night: Night) -> FitTables:
    """Read the tables of a night.

    Args:
        night: of the fit.

    Returns:
        Rows of `users`, `watch_edges` and `video_nodes`, and what the fit knows.

    Raises:
        MissingDay: a graph table has no rows of the day.
    """
    users = knowledge.every_index(night.read("users"))
    edges = night.read("watch_edges")
    videos = night.read("video_nodes")
    fit_knowledge = knowledge.knowledge(
        edges,
        videos,
        n_users=users.num_rows,
        fit=night.fit,
        until=night.horizon,
        authors=users if night.config.authors_are_users else None,
    )
    return FitTables(users, edges, videos, fit_knowledge)


def served_users(night: Night, tables: FitTables) -> Indices:
    """Return the users that get lists: all but the suppressed ones.

    Args:
        night: has suppressed_users.
        tables: of the night.

    Returns:
        user_idx [n_served], ascending.

    Raises:
        MissingDay: suppressed_users has no rows of the day.
    """
    return knowledge.served(tables.users, night.read("suppressed_users"))


def target_users(night: Night, tables: FitTables) -> Indices:
    """Return the users that get candidates: in the trial only those with a viewing on the held-out day.

    Args:
        night: has suppressed_users.
        tables: of the night.

    Returns:
        user_idx [n_targets], ascending.

    Raises:
        MissingDay: suppressed_users has no rows of the day.
    """
    served = served_users(night, tables)
    if night.fit == "final":
        return served
    return np.intersect1d(served, knowledge.viewers(tables.edges, "holdout"))
