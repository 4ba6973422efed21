"""What the clip model learns from: which clips of which videos were watched through, and when.

A clip has one number over all videos, `first[video_idx] + clip_no`. A day's edges are told from what
earlier days say; `Ledger` answers every such question without a table of days x clips.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microrec.core.array_types import Bools, Float32s, Float64s, Int64s
from microrec.core.clips import ClipLayout
from microrec.core.columns import copied
from microrec.core.directions import shorten
from microrec.core.pairs import pack, positions, starts
from microrec.core.rows import Rows
from microrec.errors import ContractViolation

TABLES = ("clip_edges", "clip_features")
"""The tables `build` reads, besides `video_nodes`."""
LONGEST = 10.0
"""Median lengths of a clip's vector, at most."""


@dataclass(frozen=True, eq=False)
class ClipEdges(Rows):
    """Clips that were reached, in the order of day, user_idx, clip.

    Shapes:
        every array: [n_edges]
    """

    user_idx: Int64s
    clip: Int64s
    day: Int64s
    """Days since 1970."""
    through: Bools
    """Watched through; otherwise the viewer left here."""
    weight: Float64s
    """Of the day's viewings of the pair."""

    @property
    def scattered(self) -> Int64s:
        """An order that follows nothing, and does not depend on what other edges there are."""
        mixed = self.user_idx.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ self.clip.astype(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
        return (mixed >> np.uint64(20)).astype(np.int64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Clips(ClipLayout):
    """One fit's view of one night.

    Shapes:
        first: [n_videos + 1]; end_ms: [n_clips]; vector: [n_clips, dim]
    """

    vector: Float32s
    """None of them longer than `LONGEST` times the median; zero where the landing zone has none of the clip, dim = 0
    where it has none at all."""
    edges: ClipEdges
    validated_on: int | None
    """Set in a trial fit: the last day, which the number of epochs is chosen on."""
    today: int
    """First day the fit knows nothing of."""


@dataclass(frozen=True, eq=False)
class Ledger:
    """Entries of many accounts by day: sums and latest entries before a day, without a loop.

    Shapes:
        key: [n_entries], account and day in one number, ascending; entry: [n_entries], place of each
        in what was entered; sums: [n_entries + 1, n_amounts]
    """

    key: Int64s
    entry: Int64s
    sums: Float64s

    SHIFT = 20
    """Bits of a day."""

    @classmethod
    def of(
        cls, account: Int64s, day: Int64s, *amounts: NDArray[Any], tie: Int64s | None = None
    ) -> "Ledger":
        """Enter amounts, in the order of days.

        Args:
            account: [n_entries].
            day: [n_entries].
            amounts: each [n_entries].
            tie: order within a day; that of the entries if left out. [n_entries]

        Returns:
            The ledger of all accounts.
        """
        within = np.arange(len(account)) if tie is None else tie
        entry = np.lexsort((within, day, account))
        columns = [np.asarray(amount, dtype=np.float64)[entry] for amount in amounts]
        table = np.stack(columns, axis=1) if columns else np.zeros((len(entry), 0))
        sums = np.concatenate([np.zeros((1, table.shape[1])), np.cumsum(table, axis=0)])
        return cls((account << cls.SHIFT | day)[entry], entry, sums)

    def before(self, account: Int64s, day: Int64s) -> Float64s:
        """Return the sums of the entries of each account before a day.

        Args:
            account: [n].
            day: [n].

        Returns:
            [n, n_amounts].
        """
        start, end = self._span(account, day)
        return self.sums[end] - self.sums[start]

    def latest(self, account: Int64s, day: Int64s, *, n: int) -> tuple[Int64s, Int64s]:
        """Return the latest entries of each account before a day.

        Args:
            account: [n_accounts].
            day: [n_accounts].
            n: entries of an account, at most.

        Returns:
            Place of the account in the list, and the entry. [n_found] each
        """
        start, end = self._span(account, day)
        counts = np.minimum(end - start, n)
        key, offset = positions(counts)
        return key, self.entry[(end - counts)[key] + offset]

    def _span(self, account: Int64s, day: Int64s) -> tuple[Int64s, Int64s]:
        start = np.searchsorted(self.key, account << self.SHIFT)
        return start, np.searchsorted(self.key, account << self.SHIFT | day)


def build(tables: Mapping[str, pa.Table], *, parts: tuple[str, ...], holdout: bool) -> Clips:
    """Turn the tables named in `TABLES` and `video_nodes` into one fit's view.

    Edges of a clip its video no longer has (the catalogue has another length than the viewing had)
    are left out.

    Args:
        tables: rows of `clip_edges`, `clip_features` and `video_nodes` of one night, by name.
        parts: splits the fit may see.
        holdout: whether the last day is kept to validate on.

    Returns:
        The clips and their edges.

    Raises:
        ContractViolation: an edge's video is not one of the day's nodes.
    """
    nodes = tables["video_nodes"].sort_by("video_idx")
    ends = nodes["clip_ends_ms"].combine_chunks()
    lengths = np.asarray(pc.list_value_length(ends), dtype=np.int64)
    first = starts(lengths)
    end_ms = np.asarray(pc.list_flatten(ends), dtype=np.int64)
    rows = tables["clip_edges"]
    rows = rows.filter(pc.is_in(rows["split"], value_set=pa.array(parts)))
    video = copied(rows["video_idx"], np.int64)
    clip_no = copied(rows["clip_no"], np.int64)
    outside = int(np.count_nonzero((video < 0) | (video >= len(lengths))))
    if outside:
        raise ContractViolation(
            f"clip_edges: video_idx outside the day's {len(lengths)} nodes, {outside} rows"
        )
    edges = ClipEdges(
        user_idx=copied(rows["user_idx"], np.int64),
        clip=first[video] + clip_no,
        day=copied(rows["watched_on"].cast(pa.int32()), np.int64),
        through=copied(rows["sign"], np.int64) > 0,
        weight=np.array(rows["weight"].to_numpy(), dtype=np.float64),
    ).taken(clip_no < lengths[video])
    edges = edges.taken(np.lexsort((edges.clip, edges.user_idx, edges.day)))
    last = int(edges.day.max()) if len(edges) else 0
    layout = ClipLayout(first=first, end_ms=end_ms)
    vector = _vectors(tables["clip_features"], nodes["video_id"], layout)
    return Clips(
        first=first,
        end_ms=end_ms,
        vector=vector,
        edges=edges,
        validated_on=last if holdout else None,
        today=last + 1,
    )


def _vectors(rows: pa.Table, video_id: pa.ChunkedArray, layout: ClipLayout) -> Float32s:
    """The delivered clip that holds the middle of each of ours, whatever the producers cut."""
    rows = rows.append_column("video_idx", pc.index_in(rows["video_id"], value_set=video_id))
    rows = rows.filter(pc.is_valid(rows["video_idx"]))
    rows = rows.sort_by([("video_idx", "ascending"), ("start_ms", "ascending")])
    widths = np.unique(np.asarray(pc.list_value_length(rows["vector"]), dtype=np.int64))
    if len(widths) > 1:
        raise ContractViolation(f"clip_features: vectors of {len(widths)} lengths")
    dim = int(widths[0]) if len(widths) else 0
    vector = np.zeros((layout.n_clips, dim), dtype=np.float32)
    if not dim:
        return vector
    video = layout.video
    middle = (layout.start_ms + layout.end_ms) // 2
    of = copied(rows["video_idx"], np.int64)
    begins = copied(rows["start_ms"], np.int64)
    row = np.searchsorted(pack(of, begins), pack(video, middle), side="right") - 1
    row = np.maximum(row, 0)
    present = (of[row] == video) & (begins[row] <= middle)
    present &= middle < copied(rows["end_ms"], np.int64)[row]
    flat = np.asarray(pc.list_flatten(rows["vector"]), dtype=np.float32).reshape(-1, dim)
    vector[present] = flat[row[present]]
    vector[~np.isfinite(vector).all(axis=1)] = 0
    shorten(vector, times=LONGEST)
    return vector
