"""What a fit has seen: which video may be proposed to whom, and who gets a list at all.

Models and SQL elsewhere never mask: retrieval and `lists.fill` both call `Knowledge.mask`; `retrieval.tiled`, which
never holds a row of scores, leaves out the same `barred` videos and all that are not `eligible`.
"""

import datetime as dt
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from microrec.core.array_types import Bools, Float64s, Floats, Indices, Int64s
from microrec.core.columns import column, instants
from microrec.core.days import DAY_US
from microrec.core.dislikes import standing
from microrec.core.fits import splits_of
from microrec.core.histories import places_of
from microrec.core.pairs import pack
from microrec.errors import MicrorecError


@dataclass(frozen=True)
class Knowledge:
    """What one fit knows about who watched what and what may be proposed.

    Shapes:
        seen, positives: sparse [n_users, n_videos], 1.0 where the fit has an edge, and where it has a
            positive one that stands: a later dislike undoes it.
        eligible: [n_videos], true where the video may be proposed.
        never: sparse [n_users, n_videos], 1.0 where the video is not shown to the user though it was not seen: it is
            the user's own, or the user has blocked it; None: there is no such pair.
        places: of each entry of `positives`, in its order, 0 for the video the user watched last, 1 for the
            one before it; None: not known. [n_positives]
        n_teachers: users from this index on have a history of their own, and none of what is counted over users
            has them; None: there are no such users.
    """

    seen: sparse.csr_matrix
    positives: sparse.csr_matrix
    eligible: Bools
    never: sparse.csr_matrix | None = None
    places: Int64s | None = None
    n_teachers: int | None = None

    @cached_property
    def barred(self) -> sparse.csr_matrix:
        """1.0 where a video is not shown to a user: seen, or never to be shown. [n_users, n_videos]."""
        return self.seen if self.never is None else self.seen.maximum(self.never).tocsr()

    @property
    def n_videos(self) -> int:
        """Videos of the catalogue."""
        return len(self.eligible)

    @property
    def history(self) -> Int64s:
        """Positive edges of each user, [n_users]."""
        return np.diff(self.positives.indptr).astype(np.int64)

    @cached_property
    def taught(self) -> sparse.csr_matrix:
        """The positives of those users that may be counted. [n_teachers, n_videos]."""
        return self.positives if self.n_teachers is None else self.positives[: self.n_teachers]

    @cached_property
    def likers(self) -> Int64s:
        """Users with a positive edge to each video, of those that may be counted. [n_videos]."""
        return np.bincount(self.taught.indices, minlength=self.n_videos)

    @cached_property
    def viewers(self) -> Int64s:
        """Users with any edge to each video, likewise. [n_videos]."""
        seen = self.seen if self.n_teachers is None else self.seen[: self.n_teachers]
        return np.bincount(seen.indices, minlength=self.n_videos)

    def recent(self, decay: float) -> sparse.csr_matrix:
        """Return the positives, each weighted by its place in the history. [n_users, n_videos].

        Args:
            decay: weight of a video against the one watched after it, in (0, 1]; 1: all count the same.

        Raises:
            MicrorecError: the order of the histories is not known, and it matters.
        """
        if decay == 1:
            return self.positives
        if self.places is None:
            raise MicrorecError("knowledge: a history that decays needs the order of the viewings")
        weighted = self.positives.copy()
        weighted.data = (decay**self.places).astype(np.float32)
        return weighted

    def mask(self, scores: Floats, users: Indices) -> None:
        """Set the score of every seen, own or ineligible video to -inf, in place.

        Args:
            scores: [n_block, n_videos], one row per user of the block.
            users: [n_block], user_idx of each row.
        """
        scores[:, ~self.eligible] = -np.inf
        block = self.barred[users]
        rows = np.repeat(np.arange(len(users)), np.diff(block.indptr))
        scores[rows, block.indices] = -np.inf


def fit_edges(edges: pa.Table, fit: str) -> pa.Table:
    """Return the watch edges that a fit may see.

    Args:
        edges: `watch_edges` of the day, all splits.
        fit: trial or final.

    Returns:
        One row per (split, user, video), columns as given.
    """
    return edges.filter(pc.is_in(edges["split"], value_set=pa.array(splits_of(fit))))


def knowledge(
    edges: pa.Table,
    videos: pa.Table,
    *,
    n_users: int,
    fit: str,
    until: dt.datetime,
    never: pa.Table | None = None,
) -> Knowledge:
    """Build what a fit has seen.

    Args:
        edges: `watch_edges` of the day, all splits.
        videos: `video_nodes` of the day.
        n_users: rows of `users` of the day.
        fit: trial or final.
        until: the first instant that the fit does not see.
        never: user_idx and video_idx of videos that are not shown to a user though they were not seen.

    Returns:
        Matrices [n_users, n_videos] of the edges of the fit's splits. A video that is published at or after the fit's
        horizon is not eligible, even if somebody (its author, a tester) has watched it before.
    """
    known = fit_edges(edges, fit)
    shape = (n_users, videos.num_rows)
    seen = _incidence(known, shape)
    liked = standing(known) & (column(known, "n_positive") > 0)
    positives = _incidence(known.filter(pa.array(liked)), shape)
    places = _places(known, positives) if "last_at" in known.column_names else None
    eligible = column(videos.sort_by("video_idx"), "eligible") & _published(videos, until)
    others = None if never is None or not never.num_rows else _incidence(never, shape)
    return Knowledge(seen=seen, positives=positives, eligible=eligible, never=others, places=places)


def every_index(users: pa.Table) -> pa.Table:
    """Return users with one row per index, in its order: whoever was erased since has a row without an id.

    Others keep their indices when somebody is erased, so the row of a user is at the place of the index only here.

    Args:
        users: rows of `users` of a day, in any order.

    Returns:
        Rows of `users`, null in all but `user_idx` where nobody is any more. [n_users]
    """
    known = column(users, "user_idx").astype(np.int64)
    n_users = int(known.max(initial=-1)) + 1
    if n_users == users.num_rows:
        return users.sort_by("user_idx")
    row = np.full(n_users, -1)
    row[known] = np.arange(users.num_rows)
    taken = users.take(pa.array(row, mask=row < 0))
    position = taken.schema.get_field_index("user_idx")
    indices = pa.array(np.arange(n_users), users.schema.field("user_idx").type)
    return taken.set_column(position, "user_idx", indices)


def served(users: pa.Table, unused: pa.Table) -> Int64s:
    """Return the users who get a list of their own: all but those whose viewings are not used.

    Args:
        users: `users` of the day; rows without an id are nobody's.
        unused: user_id of who has withdrawn or wants no profiling, as of now.

    Returns:
        user_idx, ascending. [n_served]
    """
    kept = users.filter(pc.invert(pc.is_in(users["user_id"], value_set=unused["user_id"])))
    kept = kept.filter(pc.is_valid(kept["user_id"]))
    return np.sort(column(kept, "user_idx").astype(np.int64))


def viewers(edges: pa.Table, split: str) -> Int64s:
    """Return the users with a viewing in one split.

    Args:
        edges: `watch_edges` of the day.
        split: train, validation or holdout.

    Returns:
        user_idx, ascending. [n_viewers]
    """
    return np.unique(column(edges, "user_idx")[column(edges, "split") == split]).astype(np.int64)


def age_days(videos: pa.Table, until: dt.datetime) -> Float64s:
    """Return the age of each video at an instant.

    Args:
        videos: `video_nodes` of the day, in any order.
        until: the instant, UTC.

    Returns:
        Days since publication; NaN where that is not known or later. [n_videos]
    """
    published = column(videos.sort_by("video_idx"), "published_at").astype("datetime64[us]")
    end = np.datetime64(until.replace(tzinfo=None), "us")
    microseconds = (end - published).astype(np.int64)
    return np.where(published < end, microseconds / DAY_US, np.nan)  # NaT compares false


def positive_viewers(edges: pa.Table, split: str, *, n_videos: int) -> Int64s:
    """Count the users with a positive edge to each video in one split.

    Args:
        edges: `watch_edges` of the day.
        split: train, validation or holdout.
        n_videos: rows of `video_nodes` of the day.

    Returns:
        Users by video_idx. [n_videos]
    """
    wanted = (column(edges, "split") == split) & (column(edges, "n_positive") > 0)
    return np.bincount(column(edges, "video_idx")[wanted], minlength=n_videos)


def _published(videos: pa.Table, until: dt.datetime) -> Bools:
    """Videos, by video_idx, whose date of publication is before `until` or not known."""
    instant = pa.scalar(until, pa.timestamp("us", "UTC"))
    early = pc.less(videos.sort_by("video_idx")["published_at"], instant)
    return column(pa.table({"early": pc.fill_null(early, True)}), "early")


def _places(known: pa.Table, positives: sparse.csr_matrix) -> Int64s:
    """Place of each positive in its user's history, by the last viewing in any split."""
    pair = pack(column(known, "user_idx"), column(known, "video_idx"))
    pairs, row = np.unique(pair, return_inverse=True)
    last_at = np.full(len(pairs), np.iinfo(np.int64).min)
    np.maximum.at(last_at, row, instants(known["last_at"]))
    user = np.repeat(np.arange(positives.shape[0]), np.diff(positives.indptr))
    liked = np.searchsorted(pairs, pack(user, positives.indices))
    return places_of(user, last_at[liked])


def uploads(users: pa.Table, videos: pa.Table) -> pa.Table:
    """Return each user's own videos, where an author_id is a user_id.

    Args:
        users: `users` of the day.
        videos: `video_nodes` of the day.

    Returns:
        One row per pair: user_idx, video_idx.
    """
    users = users.sort_by("user_idx")
    at = pc.index_in(videos["author_id"], value_set=users["user_id"].combine_chunks())
    own = videos.filter(at.is_valid())
    author = users["user_idx"].take(at.drop_null())
    return pa.table({"user_idx": author, "video_idx": own["video_idx"]})


def _incidence(edges: pa.Table, shape: tuple[int, int]) -> sparse.csr_matrix:
    """Edges as a sparse matrix of ones; a pair met in two splits counts once."""
    at = (column(edges, "user_idx"), column(edges, "video_idx"))
    ones = np.ones(edges.num_rows, dtype=np.float32)
    matrix: sparse.csr_matrix = sparse.csr_matrix((ones, at), shape=shape)
    matrix.data[:] = 1.0
    return matrix
