"""What rates are made of: how often each pair was shown and liked on each day, and what videos have in common.

A fit sees the days before its first unseen one; a rate as of the start of a day uses the days before that day
(`core/rates.py`), so no model that reads these arrays can look ahead.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.core.array_types import Indices, Int64s
from microrec.core.columns import codes, copied, indices
from microrec.core.fits import FINAL, TRIAL, splits_of
from microrec.core.pairs import pack, starts
from microrec.core.rates import Counts, Shown, VideoFacts, duration_bucket

TABLES = ("exposure_counts", "videos")
"""The tables `build` reads, besides `video_nodes`."""


@dataclass(frozen=True, eq=False)
class RateInputs:
    """One fit's view of one night."""

    counts: Counts
    """Of the days the fit sees, in the order of day, user_idx, video_idx, surface."""
    videos: VideoFacts
    surfaces: pa.Array
    """Names of the surfaces, by their number. [n_surfaces]"""
    today: int
    """First day the fit knows nothing of, in days since 1970."""
    validated_on: int | None
    """Set in a trial fit: the last day it sees, which the number of trees is chosen on."""

    def serving(self, user_idx: Indices, video_idx: Indices) -> Shown:
        """Return pairs as of the end of what the fit sees, on the surface where the user was shown most.

        Args:
            user_idx: [n_pairs]
            video_idx: [n_pairs]

        Returns:
            The pairs, [n_pairs]; the surface is -1 for a user who was never shown anything.
        """
        user = user_idx.astype(np.int64)
        surface = self._main_surface(int(user.max(initial=-1)) + 1)[user]
        day = np.full(len(user), self.today)
        return Shown(user, video_idx.astype(np.int64), surface, day)

    def _main_surface(self, n_users: int) -> Int64s:
        """By user_idx the surface with most viewings, of equal ones the first by name. [n_users or more]."""
        counts = self.counts
        key, of = np.unique(pack(counts.user_idx, counts.surface), return_inverse=True)
        n_shown = np.bincount(of, counts.n_shown, minlength=len(key))
        user, surface = key >> 32, key & 0xFFFFFFFF
        main = np.full(max(n_users, int(user.max(initial=-1)) + 1), -1, dtype=np.int64)
        order = np.lexsort((-surface, n_shown, user))  # the last of a user stays
        main[user[order]] = surface[order]
        return main


def build(tables: Mapping[str, pa.Table], *, fit: str, n_users: int) -> RateInputs:
    """Turn the tables named in `TABLES` and `video_nodes` into one fit's view.

    Args:
        tables: rows of `exposure_counts`, `videos` and `video_nodes` of one night, by name.
        fit: trial or final.
        n_users: rows of `users` of the day.

    Returns:
        Counts of the days the fit sees, and facts of all videos.

    Raises:
        ContractViolation: an index lies outside the day's nodes.
        RecipeError: `fit` is neither trial nor final.
    """
    splits_of(fit)  # refuses any other fit
    rows = tables["exposure_counts"]
    nodes = tables["video_nodes"].sort_by("video_idx")
    night = int(copied(rows["day"].cast(pa.int32()), np.int64)[0]) if rows.num_rows else 0
    today = night + (fit == FINAL)
    shown_on = copied(rows["shown_on"].cast(pa.int32()), np.int64)
    surfaces, surface = codes(rows["surface"])
    counts = Counts(
        user_idx=_index(rows, "user_idx", n_users),
        video_idx=_index(rows, "video_idx", nodes.num_rows),
        surface=surface,
        day=shown_on,
        n_shown=copied(rows["n_shown"], np.int64),
        n_positive=copied(rows["n_positive"], np.int64),
    )
    order = np.lexsort((surface, counts.video_idx, counts.user_idx, shown_on))
    seen = counts.taken(order[shown_on[order] < today])
    held = today - 1 if fit == TRIAL else None
    return RateInputs(seen, _facts(nodes, tables["videos"]), surfaces, today, held)


def _facts(nodes: pa.Table, videos: pa.Table) -> VideoFacts:
    """Facts of the videos in the order of video_idx."""
    row = pc.index_in(nodes["video_id"], value_set=videos["video_id"].combine_chunks())
    tags = pc.fill_null(videos["tags"].combine_chunks().take(row.combine_chunks()), [])
    n_tags = copied(pc.list_value_length(tags), np.int64)
    return VideoFacts(
        author=codes(nodes["author_id"])[1],
        duration=duration_bucket(copied(pc.fill_null(nodes["duration_ms"], 0), np.int64)),
        tag_starts=starts(n_tags),
        tag=codes(pc.list_flatten(tags))[1],
    )


def _index(rows: pa.Table, name: str, n_nodes: int) -> Int64s:
    return indices(rows[name], n_nodes, table="exposure_counts").astype(np.int64)
