"""What models of sequences learn from: who was shown what, and what was known before that day.

A row of `sequences` is a user as of an instant, its cut: nothing at or after the cut is in it. An
exposure of day d is predicted from the user's row whose cut is the start of d, so no model that
reads these arrays can look ahead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microrec.core.array_types import Bools, Float32s, Instants, Int32s
from microrec.core.columns import indices, instants, microseconds
from microrec.core.fits import FINAL, TRIAL, splits_of
from microrec.core.pairs import pack, starts
from microrec.core.rows import Rows
from microrec.errors import ContractViolation

TABLES = ("sequences", "exposures")
"""The tables `build` reads, besides `video_nodes`."""
UNSEEN_CUTS = {TRIAL: 1, FINAL: 0}
"""By fit, how many of the latest cuts it does not see: the table of a night ends with the cut of `final`."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Lists of viewings of all rows, one after the other; each list by time, oldest first.

    Shapes:
        indptr: [n_rows + 1]; video_idx, at, weight: [n_steps]
    """

    indptr: NDArray[np.int64]
    video_idx: Int32s
    at: Instants
    """Microseconds since 1970 UTC."""
    weight: Float32s
    """1 for a user's own viewings."""

    def before(self, instant: int) -> "Steps":
        """Return the same lists, each up to an instant.

        Args:
            instant: microseconds since 1970 UTC; steps at it or later are left out.
        """
        kept = self.at < instant
        indptr = np.concatenate([[0], np.cumsum(kept)])[self.indptr].astype(np.int64)
        return Steps(indptr, self.video_idx[kept], self.at[kept], self.weight[kept])

    def padded(self, rows: NDArray[np.int64], length: int) -> "Padded":
        """Return the latest steps of some rows as a rectangle; empty places are in front.

        Args:
            rows: places of the lists. [n]
            length: steps of a row, at most.

        Returns:
            Arrays [n, length].
        """
        ends = self.indptr[rows + 1]
        counts = np.diff(self.indptr)[rows]
        width = max(1, min(length, int(counts.max(initial=0))))
        step = ends[:, None] - width + np.arange(width)
        present = step >= self.indptr[rows][:, None]
        step = np.where(present, step, 0)
        if not len(self.video_idx):
            zeros = np.zeros(step.shape, dtype=np.int64)
            return Padded(present, zeros, zeros, zeros.astype(np.float32))
        return Padded(
            present,
            np.where(present, self.video_idx[step], 0).astype(np.int64),
            np.where(present, self.at[step], 0),
            np.where(present, self.weight[step], 0).astype(np.float32),
        )


@dataclass(frozen=True, eq=False)
class Padded:
    """Steps of some rows as rectangles, zeros where there is none.

    Shapes:
        every array: [n_rows, width]
    """

    present: Bools
    video_idx: NDArray[np.int64]
    at: Instants
    weight: Float32s


@dataclass(frozen=True, eq=False)
class Exposures(Rows):
    """Who was shown what, in the order of time (ties by user_idx, then video_idx).

    Shapes:
        every array: [n_exposures]
    """

    row: NDArray[np.int64]
    """The user's row of `Sequences.rows` as of the start of the exposure's day."""
    user_idx: Int32s
    video_idx: Int32s
    at: Instants
    label: Bools
    """Positive feedback: watched through, long, or reacted to. One that never started has no label and is left out."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """One fit's view of one night.

    Shapes:
        cut_at, user_idx: [n_rows]; serving: [n_users]
    """

    cut_at: Instants
    user_idx: Int32s
    history: Steps
    """What the user watched."""
    future: Steps
    """What users like this one watched after the videos this one watched last; all before the cut."""
    serving: NDArray[np.int64]
    """By user_idx, the row as of the end of what the fit sees."""
    exposures: Exposures
    """Of all the days the fit sees."""
    validation: Exposures | None
    """Set in a trial fit: those of the last of these days, which its number of epochs is chosen on."""

    @property
    def validated_from(self) -> int | None:
        """Start of the validation's day; None where there is nothing to validate on."""
        held = self.validation
        return int(self.cut_at[held.row].min()) if held is not None and len(held) else None

    @property
    def training(self) -> Exposures:
        """The exposures before the validation's."""
        start = self.validated_from
        return self.exposures if start is None else self.exposures.taken(self.exposures.at < start)

    def before(self, instant: int) -> "Sequences":
        """Return the same rows with what was known at an instant before their cuts."""
        earlier = self.history.before(instant), self.future.before(instant)
        return replace(self, history=earlier[0], future=earlier[1])


def build(tables: Mapping[str, pa.Table], *, fit: str, n_users: int) -> Sequences:
    """Turn the tables named in `TABLES` and `video_nodes` into one fit's view.

    Args:
        tables: rows of `sequences`, `exposures` and `video_nodes` of one night, by name.
        fit: trial or final.
        n_users: rows of `users` of the day.

    Returns:
        The rows the fit may see, and those of the last cut to validate on in a trial.

    Raises:
        ContractViolation: a user lacks the row that is served from, an exposure lacks its row, or an
            index lies outside the day's nodes.
        RecipeError: `fit` is neither trial nor final.
    """
    splits_of(fit)  # refuses any other fit
    rows = tables["sequences"]
    shown = tables["exposures"]
    n_videos = tables["video_nodes"].num_rows
    cuts = np.unique(instants(rows["cut_at"]))
    if len(cuts) < 2:
        raise ContractViolation(f"sequences: {len(cuts)} cuts, a night has two or more")
    cut = cuts[-1 - UNSEEN_CUTS[fit]]
    rows = rows.filter(pc.less_equal(microseconds(rows["cut_at"]), cut))
    rows = rows.sort_by([("cut_at", "ascending"), ("user_idx", "ascending")])
    cut_at = instants(rows["cut_at"])
    user_idx = rows["user_idx"].to_numpy().astype(np.int32)
    order = [("started_at", "ascending"), ("user_idx", "ascending"), ("video_idx", "ascending")]
    is_seen = pc.less(microseconds(shown["started_at"]), cut)
    has_label = pc.not_equal(shown["feedback"], "not_started")
    shown = shown.filter(pc.and_(is_seen, has_label)).sort_by(order)
    of_cut = instants(shown["cut_at"])
    every = np.unique(np.concatenate([cuts, of_cut]))
    key = _key(every, cut_at, user_idx)
    exposures = Exposures(
        row=_rows_of(key, _key(every, of_cut, shown["user_idx"].to_numpy()), "exposures"),
        user_idx=indices(shown["user_idx"], n_users, table="exposures"),
        video_idx=indices(shown["video_idx"], n_videos, table="exposures"),
        at=instants(shown["started_at"]),
        label=np.array(pc.equal(shown["feedback"], "positive").to_numpy(zero_copy_only=False)),
    )
    everyone = np.arange(n_users, dtype=np.int32)
    is_last = (
        of_cut == cuts[-2 - UNSEEN_CUTS[fit]] if len(cuts) > 1 + UNSEEN_CUTS[fit] else of_cut < 0
    )
    return Sequences(
        cut_at=cut_at,
        user_idx=indices(rows["user_idx"], n_users, table="sequences"),
        history=_steps(rows["history"], n_videos),
        future=_steps(rows["future"], n_videos),
        serving=_rows_of(key, _key(every, np.full(n_users, cut), everyone), "users"),
        exposures=exposures,
        validation=exposures.taken(is_last) if fit == "trial" else None,
    )


def _key(cuts: Instants, cut_at: Instants, user_idx: Int32s) -> NDArray[np.int64]:
    """One number per (cut, user), in their order; `cuts` has each value of `cut_at`, ascending."""
    return pack(np.searchsorted(cuts, cut_at), user_idx)


def _rows_of(key: NDArray[np.int64], wanted: NDArray[np.int64], table: str) -> NDArray[np.int64]:
    """Row of each wanted (cut, user)."""
    row = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
    missing = int(np.count_nonzero(key[row] != wanted)) if len(key) else len(wanted)
    if missing:
        raise ContractViolation(f"sequences: no row for {missing} of {len(wanted)} {table}")
    return row


def _steps(lists: pa.ChunkedArray, n_videos: int) -> Steps:
    """A column of lists of structs."""
    lengths = np.array(pc.list_value_length(lists).to_numpy(), dtype=np.int64)
    flat = pc.list_flatten(lists)
    flat = flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat
    weight = np.ones(len(flat), dtype=np.float32)
    if flat.type.get_field_index("weight") >= 0:
        weight = np.array(pc.struct_field(flat, "weight").to_numpy(), dtype=np.float32)
    return Steps(
        indptr=starts(lengths),
        video_idx=indices(pc.struct_field(flat, "video_idx"), n_videos, table="sequences"),
        at=instants(pc.struct_field(flat, "at")),
        weight=weight,
    )
