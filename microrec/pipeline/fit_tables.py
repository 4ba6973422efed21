"""What every candidate and list of a fit rests on: the node and edge tables of the night, and what the fit may know."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.core import knowledge
from microrec.core.array_types import Indices
from microrec.core.knowledge import Knowledge
from microrec.pipeline import memory, private, wishes
from microrec.pipeline.night import Night


class FitTables(NamedTuple):
    """Graph tables of a night, and what its fit knows of them."""

    users: pa.Table
    """Rows of `users` and, after them, `private_users`, one per index: whoever was erased since has no id."""
    edges: pa.Table
    """Rows of `watch_edges`, all splits: what may be learned from."""
    videos: pa.Table
    """Rows of `video_nodes`."""
    knowledge: Knowledge
    """Histories of all users; what is counted over users leaves out those who teach nobody."""
    private_edges: pa.Table = pa.table({})
    """Rows of `private_edges`."""

    @property
    def n_teachers(self) -> int:
        """Users before this index teach."""
        first = self.knowledge.n_teachers
        return self.users.num_rows if first is None else first

    @property
    def histories(self) -> pa.Table:
        """Rows of `watch_edges` and `private_edges`: what each user has watched, for lists of their own."""
        return private.beside(self.edges, self.private_edges)


def read(night: Night) -> FitTables:
    """Read the tables of a night.

    Args:
        night: of the fit.

    Returns:
        Rows of `users`, `watch_edges` and `video_nodes`, those of users who teach nobody, and what the fit knows.

    Raises:
        MissingDay: a graph table has no rows of the day.
    """
    users, others = night.read("users"), private.users(night)
    first = pc.min(others["user_idx"]).as_py()
    together = knowledge.every_index(private.beside(users, others))
    return _known(night, together, night.read("watch_edges"), private.edges(night), first)


def read_without_withdrawn(night: Night) -> tuple[FitTables, Indices]:
    """Read the tables of an earlier night without what its users have withdrawn since.

    Args:
        night: of the fit.

    Returns:
        The tables, no edge of who is suppressed, wants no profiling or to teach nobody now, or had opted out for some
        time in the night's window, and the user_idx of those users [n_withdrawn], ascending.

    Raises:
        MissingDay: a graph table has no rows of the day, or no night has read privacy requests.
    """
    users, edges = knowledge.every_index(night.read("users")), night.read("watch_edges")
    ids = [*night.unused()["user_id"].to_pylist(), *night.withheld()["user_id"].to_pylist()]
    ids += night.private().to_pylist()
    gone = users.filter(pc.is_in(users["user_id"], pa.array(ids, pa.string())))["user_idx"]
    kept = edges.filter(pc.invert(pc.is_in(edges["user_idx"], gone.combine_chunks())))
    return _known(night, users, kept, kept.slice(0, 0), None), np.sort(gone.to_numpy())


def _known(
    night: Night, users: pa.Table, edges: pa.Table, private_edges: pa.Table, first: int | None
) -> FitTables:
    """The tables, and what the fit knows of them; `first` is the index of the first user who teaches nobody."""
    videos = night.read("video_nodes")
    histories = private.beside(edges, private_edges)
    fit_knowledge = knowledge.knowledge(
        histories,
        videos,
        n_users=users.num_rows,
        fit=night.fit,
        until=night.horizon,
        never=_never(night, users, videos, histories),
    )
    return FitTables(users, edges, videos, replace(fit_knowledge, n_teachers=first), private_edges)


def _never(night: Night, users: pa.Table, videos: pa.Table, edges: pa.Table) -> pa.Table:
    """Pairs of a user and a video that is not shown to them though they have not seen it in the window."""
    names = ["user_idx", "video_idx"]
    blocked = wishes.blocked(night, users, videos).select(names)
    remembered = memory.pairs(night, users, videos).select(names)
    if remembered.num_rows:
        # What they have watched again since is theirs to watch once more (`lists.rewatch`).
        again = knowledge.fit_edges(edges, night.fit).select(names)
        before = remembered.join(again, names, join_type="left anti").select(names)
        blocked = pa.concat_tables([blocked, before.cast(blocked.schema)])
    if not night.config.authors_are_users:
        return blocked
    return pa.concat_tables([blocked, knowledge.uploads(users, videos).cast(blocked.schema)])


def served_users(night: Night, tables: FitTables) -> Indices:
    """Return the users that get lists of their own: all but the suppressed ones and those who want no profiling.

    Args:
        night: its warehouse has suppressed_users and preferences.
        tables: of the night.

    Returns:
        user_idx [n_served], ascending.

    Raises:
        MissingDay: no night has read privacy requests.
    """
    return knowledge.served(tables.users, night.unused())


def target_users(night: Night, tables: FitTables) -> Indices:
    """Return the users that get candidates: in the trial only those with a viewing on the held-out day.

    Args:
        night: its warehouse has suppressed_users.
        tables: of the night.

    Returns:
        user_idx [n_targets], ascending.

    Raises:
        MissingDay: no night has read privacy requests.
    """
    served = served_users(night, tables)
    if night.fit == "final":
        return served
    return np.intersect1d(served, knowledge.viewers(tables.edges, "holdout"))
