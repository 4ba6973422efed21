"""What of a release a store serves: lists by id, in batches, and vectors by model."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.core.array_types import Indices
from microrec.core.digests import digest
from microrec.core.request_kinds import NO_PROFILING
from microrec.errors import CheckFailed
from microrec.release.reader import Release

BATCH = 10_000
"""Lists of a batch."""
ITEM = pa.schema(
    [
        ("video_id", pa.string()),
        ("score", pa.float32()),
        ("source", pa.string()),
        ("reason", pa.string()),
    ]
)
"""One place of a list; `reason` is null where the table has none."""
LISTED = {
    "user": ("recommendations", "user_id"),
    "segment": ("fallback_recommendations", "segment"),
    "video": ("similar_videos", "video_id"),
}
"""By kind of list its table and the column that is its id."""
FUSED = "fused"
"""Of `similar_videos` the kind that is served: all of its modalities and behaviour together."""


class Batch(NamedTuple):
    """Lists of one kind."""

    kind: str
    """user, segment or video."""
    ids: pa.Array
    """string [n]: user_id, segment or video_id."""
    items: pa.ListArray
    """[n] lists of `ITEM`, best first."""


class Contents:
    """What a release has to serve, as of now: people who have withdrawn are not in it.

    Args:
        release: the release.
        models: whose vectors are served, too.
    """

    def __init__(self, release: Release, models: Sequence[str] = ()) -> None:
        """Keep the release; rows are read when they are needed."""
        self.release = release
        self.models = sorted(models)

    @cached_property
    def users(self) -> pa.Array:
        """Ids of the users who have a list, string [n], ascending."""
        return pc.unique(self._rows("user")["id"]).sort()

    @cached_property
    def profiled(self) -> pa.Array:
        """Ids of the users with a list who did not ask for one without profiling, string [n], ascending."""
        rows = self._rows("user")
        return pc.unique(rows.filter(pc.not_equal(rows["source"], NO_PROFILING))["id"]).sort()

    @cached_property
    def digest(self) -> str:
        """A word for all that is served: it differs once a table was rewritten, or somebody has left or come back."""
        pins = [f"{table}={pin.digest}" for table, pin in sorted(self.release.tables.items())]
        ids = digest(self.users.to_pylist())
        return digest([self.release.id, *pins, *self.models, ids])

    def batches(self, size: int = BATCH) -> Iterator[Batch]:
        """Yield all lists.

        Args:
            size: lists of a batch, at most.
        """
        for kind, (table, _) in LISTED.items():
            if table in self.release.tables:
                yield from _batches(kind, self._rows(kind), size)

    def vectors(self, model: str) -> pa.Table:
        """Return `Release.vectors` of a model: kind, id, part, model, space, norm, vector [dim].

        Raises:
            MissingDay: the release has no such model, it has no vectors, or they are gone.
        """
        return self.release.vectors(model)

    def _rows(self, kind: str) -> pa.Table:
        """Rows of a kind of list, by id and rank: id, rank and the columns of `ITEM` that the table has."""
        if kind == "user":
            return self._users
        return self._read(kind)

    @cached_property
    def _users(self) -> pa.Table:
        return self._read("user")

    def _read(self, kind: str) -> pa.Table:
        table, id_column = LISTED[kind]
        if kind == "video":
            rows = self.release.read(table)
            rows = rows.filter(pc.equal(rows["kind"], FUSED))
            columns = ["video_id", "rank", "similar_video_id", "similarity", "source"]
            rows = rows.select(columns).rename_columns(
                ["id", "rank", "video_id", "score", "source"]
            )
        else:
            names = self.release.warehouse.table(table).contract.schema.names
            columns = [id_column, "rank", *(name for name in ITEM.names if name in names)]
            rows = self.release.read(table, columns=columns)
            rows = rows.rename_columns(["id", *columns[1:]])
        return (
            rows if _in_order(rows) else rows.sort_by([("id", "ascending"), ("rank", "ascending")])
        )


def json_texts(items: pa.ListArray) -> list[list[str]]:
    """Return the lists with each place as the text of a JSON object, without what is null.

    Args:
        items: [n] lists of `ITEM`.
    """
    values = items.flatten()
    places = pa.table(dict(zip(ITEM.names, values.flatten(), strict=True)))  # noqa: F841 - read by the query
    with_reason = "{video_id: video_id, score: score, source: source, reason: reason}"
    without = "{video_id: video_id, score: score, source: source}"
    query = f"""
        SELECT CASE WHEN reason IS NULL THEN to_json({without}) ELSE to_json({with_reason}) END AS text FROM places
    """
    texts = duckdb.sql(query).fetchall()
    bounds = items.offsets.to_numpy() - items.offsets[0].as_py()
    return [[text for (text,) in texts[first:last]] for first, last in pairwise(bounds)]


def _starts(ids: pa.ChunkedArray) -> Indices:
    """Rows at which another id begins."""
    if not len(ids):
        return np.zeros(0, np.int64)
    changes = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1))
    return np.concatenate([[0], np.flatnonzero(changes.to_numpy()) + 1])


def _in_order(rows: pa.Table) -> bool:
    """Whether rows of an id stand together, by rank."""
    starts = _starts(rows["id"])
    ranks = rows["rank"].to_numpy()
    rises = np.diff(ranks) > 0
    rises[starts[1:] - 1] = True
    first = rows["id"].take(pa.array(starts))
    return bool(rises.all()) and len(pc.unique(first)) == len(first)


def _batches(kind: str, rows: pa.Table, size: int) -> Iterator[Batch]:
    starts = np.append(_starts(rows["id"]), rows.num_rows)
    for first in range(0, len(starts) - 1, size):
        bounds = starts[first : first + size + 1]
        part = rows.slice(bounds[0], bounds[-1] - bounds[0]).combine_chunks()
        offsets = pa.array(bounds - bounds[0], pa.int32())
        ids = part["id"].take(offsets[:-1]).combine_chunks()
        yield Batch(kind, ids, pa.ListArray.from_arrays(offsets, _items(part)))


def _items(rows: pa.Table) -> pa.StructArray:
    columns = []
    for field in ITEM:
        if field.name in rows.column_names:
            columns.append(rows[field.name].combine_chunks().cast(field.type))
        else:
            columns.append(pa.nulls(rows.num_rows, field.type))
    if any(isinstance(column, pa.ChunkedArray) for column in columns):
        raise CheckFailed(
            f"{rows.num_rows} rows of a batch are too long for one array: make batches smaller"
        )
    return pa.StructArray.from_arrays(columns, fields=list(ITEM))
