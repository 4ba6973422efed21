"""Viewings of users who want to teach nobody: apart from all that is learned from, for lists of their own.

Whatever learns reads `users` and `watch_edges`, and so cannot meet them; indices of theirs come after those of `users`,
so that who serves can put the two side by side.
"""

from typing import TYPE_CHECKING

import pyarrow as pa

from microrec.pipeline.night import Night

if TYPE_CHECKING:
    from microrec.tables.spark import Warehouse

USERS, EDGES = "private_users", "private_edges"


def write(night: Night, warehouse: "Warehouse") -> None:
    """Number the users who want to teach nobody, and write what they watched in the window.

    Args:
        night: whose day is written; its `users` and `video_nodes` are.
        warehouse: Spark's view of its warehouse.

    Raises:
        MissingDay: the night has no nodes, or no night has read privacy requests.
    """
    from microrec.graphs.watch import nodes, strength, watch_edges
    from microrec.pipeline import event_window

    if not len(night.private()):
        night.write_empty(USERS)
        night.write_empty(EDGES)
        return
    config = night.recipe.section("graphs.watch", watch_edges.Config)
    days = night.config.window_days
    watches = event_window.read_private_watches(warehouse, day=night.day, days=days)
    peers = event_window.read_daily_watches(warehouse, day=night.day, days=days)
    viewings = strength.of_viewings(watches, edges_ms=config.duration_edges_ms, peers=peers)
    parts = watch_edges.parts(viewings, day=night.day, config=config)
    warehouse.write(USERS, nodes.users(parts, first=night.n_users), day=night.day)
    numbered = (warehouse.read(name, day=night.day) for name in (USERS, "video_nodes"))
    edges = watch_edges.watch_edges(nodes.indexed(parts, *numbered))
    warehouse.write(EDGES, edges, day=night.day)


def users(night: Night) -> pa.Table:
    """Return the rows of `private_users` of a night; none of a night that was made before there were any."""
    return _rows(night, USERS)


def edges(night: Night) -> pa.Table:
    """Return the rows of `private_edges` of a night; none of a night that was made before there were any."""
    return _rows(night, EDGES)


def beside(rows: pa.Table, private_rows: pa.Table) -> pa.Table:
    """Return rows of `users` or `watch_edges`, and after them those of who teaches nobody, [n_rows]."""
    own = private_rows.select(rows.column_names).cast(rows.schema)
    return pa.concat_tables([rows, own])


def _rows(night: Night, table: str) -> pa.Table:
    if night.exists(table):
        return night.read(table)
    return night.warehouse.table(table).contract.schema.empty_table()
