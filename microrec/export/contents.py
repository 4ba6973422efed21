"""What of a release a store serves: lists by id, in batches, and vectors by model."""

from collections.abc import Iterable, Iterator, Sequence
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
        ("segment", pa.string()),
    ]
)
"""One place of a list; `reason` and `segment` are null where the table has none."""
USER_SEGMENTS = "user_segments"
"""A user's lists of single surfaces and tags, one after the other; `segment` of each place says of which list it is."""
LISTED = {
    "user": ("recommendations", "user_id"),
    USER_SEGMENTS: ("segment_recommendations", "user_id"),
    "segment": ("fallback_recommendations", "segment"),
    "video": ("similar_videos", "video_id"),
}
"""By kind of list its table and the column that is its id."""
FUSED = "fused"
"""Of `similar_videos` the kind that is served: all of its modalities and behaviour together."""


class Batch(NamedTuple):
    """Lists of one kind."""

    kind: str
    """user, user_segments, segment or video."""
    ids: pa.Array
    """string [n]: user_id, segment or video_id."""
    items: pa.ListArray
    """[n] lists of `ITEM`, best first; those of a user's segments by segment, each best first."""


class Overview(NamedTuple):
    """What one look at all rows of a kind of list tells."""

    ids: pa.Array
    """Ids that have a list, string [n], ascending."""
    unprofiled: pa.Array
    """Those whose list was made without profiling, string [m]."""
    in_order: bool
    """Whether the rows of each id stand together, by rank; those of several segments in any order."""


class Contents:
    """What a release has to serve, as of now: people who have withdrawn are not in it.

    Rows are read a share at a time, as the files have them: of all users no more than their ids is held. A table whose
    files have another order is read whole, and sorted.

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
        return self._users.ids

    @cached_property
    def profiled(self) -> pa.Array:
        """Ids of the users with a list who did not ask for one without profiling, string [n], ascending."""
        without = pc.is_in(self.users, value_set=self._users.unprofiled)
        return self.users.filter(pc.invert(without))

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
                overview = self._users if kind == "user" else _overview(self._parts(kind))
                parts = self._parts(kind) if overview.in_order else self._sorted(kind)
                yield from _batches(kind, parts, size)

    def vectors(self, model: str) -> pa.Table:
        """Return `Release.vectors` of a model: kind, id, part, model, space, norm, vector [dim].

        Raises:
            MissingDay: the release has no such model, it has no vectors, or they are gone.
        """
        return self.release.vectors(model)

    @cached_property
    def _users(self) -> Overview:
        return _overview(self._parts("user", ["rank", "source"]))

    def _parts(
        self, kind: str, columns: Sequence[str] = ("rank", *ITEM.names)
    ) -> Iterator[pa.Table]:
        """Rows of a kind of list, share by share: id and those of the columns that the table has."""
        table, id_column = LISTED[kind]
        if kind == "video":
            similar = ["video_id", "rank", "similar_video_id", "similarity", "source", "kind"]
            names = ["id", "rank", "video_id", "score", "source"]
            for rows in self.release.batches(table, columns=similar):
                fused = rows.filter(pc.equal(rows["kind"], FUSED)).drop_columns("kind")
                yield fused.rename_columns(names)
            return
        there = self.release.warehouse.table(table).contract.schema.names
        names = [name for name in columns if name in there and name != id_column]
        for rows in self.release.batches(table, columns=[id_column, *names]):
            yield rows.rename_columns(["id", *names])

    def _sorted(self, kind: str) -> Iterator[pa.Table]:
        """Rows of a kind of list, all at once, by id and rank."""
        rows = pa.concat_tables(self._parts(kind))
        yield rows.sort_by([("id", "ascending"), ("rank", "ascending")])


def json_texts(items: pa.ListArray) -> list[list[str]]:
    """Return the lists with each place as the text of a JSON object, without what is null.

    Args:
        items: [n] lists of `ITEM`.
    """
    values = items.flatten()
    places = pa.table(dict(zip(ITEM.names, values.flatten(), strict=True)))  # noqa: F841 - read by the query
    bare = "video_id: video_id, score: score, source: source"
    query = f"""
        SELECT CASE
            WHEN reason IS NULL AND segment IS NULL THEN to_json({{{bare}}})
            WHEN segment IS NULL THEN to_json({{{bare}, reason: reason}})
            WHEN reason IS NULL THEN to_json({{{bare}, segment: segment}})
            ELSE to_json({{{bare}, reason: reason, segment: segment}})
        END AS text FROM places
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


def _overview(parts: Iterable[pa.Table]) -> Overview:
    """Look at all rows of a kind of list: id, rank and source, if there is one."""
    ids, unprofiled = [], []
    in_order = True
    before: pa.Table | None = None
    for part in parts:
        if not part.num_rows:
            continue
        rows = part.select(["id", "rank"])
        joined = rows if before is None else pa.concat_tables([before, rows])
        starts = _starts(joined["id"])
        rises = np.diff(joined["rank"].to_numpy()) > 0
        rises[starts[1:] - 1] = True
        in_order = in_order and ("segment" in part.column_names or bool(rises.all()))
        ids.append(joined["id"].take(pa.array(starts[before is not None :])).combine_chunks())
        if "source" in part.column_names:
            of_all = part.filter(pc.equal(part["source"], NO_PROFILING))["id"]
            unprofiled.append(pc.unique(of_all))
        before = rows.slice(rows.num_rows - 1)
    every = pa.chunked_array(ids, pa.string())
    distinct = pc.unique(every).sort()
    without = pc.unique(pa.chunked_array(unprofiled, pa.string()))
    return Overview(distinct, without, in_order and len(distinct) == len(every))


def _batches(kind: str, parts: Iterable[pa.Table], size: int) -> Iterator[Batch]:
    """Batches of whole lists; the rows of the last list of a share wait for those of the next."""
    waiting: list[pa.Table] = []
    for part in parts:
        rows = pa.concat_tables([*waiting, part])
        starts = _starts(rows["id"])
        n_whole = max(len(starts) - 1, 0) // size * size
        yield from _lists(kind, rows, starts[: n_whole + 1], size)
        waiting = [rows.slice(starts[n_whole])] if len(starts) else []
    if waiting:
        (rows,) = waiting
        yield from _lists(kind, rows, np.append(_starts(rows["id"]), rows.num_rows), size)


def _lists(kind: str, rows: pa.Table, bounds: Indices, size: int) -> Iterator[Batch]:
    """Batches of the lists whose rows begin and end at some bounds."""
    for first in range(0, len(bounds) - 1, size):
        places = bounds[first : first + size + 1]
        part = rows.slice(places[0], places[-1] - places[0])
        bounds_of_part = places - places[0]
        if "segment" in part.column_names:
            part = part.sort_by([(name, "ascending") for name in ("id", "segment", "rank")])
            bounds_of_part = np.append(_starts(part["id"]), part.num_rows)
        part = part.combine_chunks()
        offsets = pa.array(bounds_of_part, pa.int32())
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
