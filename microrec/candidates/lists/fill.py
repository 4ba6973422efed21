"""Filter and fill: personal candidates, then the ladder, until K or until no allowed video is left.

Each block of users is one dense array of scores: the blend's score of a personal candidate (above 0), else minus the
video's place on the ladder (below 0), else -inf where the video is seen or ineligible. Its exact top-K *is* the list,
so distinct videos, contiguous ranks, falling scores and "K or every allowed video" hold by construction. Diversity
picks K of a longer top and keeps all of that; explored videos then take some places, and nothing follows them.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microrec.candidates.lists import diversity, exploration
from microrec.candidates.lists.ladder import REASONS, RUNGS, Ladder
from microrec.candidates.lists.likeness import Likeness
from microrec.candidates.ranking import closed_form
from microrec.candidates.ranking.closed_form import Fused, Ranked
from microrec.candidates.retrieval.exact import blocks, top
from microrec.core.array_types import Float64s, Floats, Indices, Int64s
from microrec.core.knowledge import Knowledge
from microrec.errors import MicrorecError

EXPLORED = "exploration"
"""Source of a video that is shown so that something is learned of it."""
EXPLORED_REASON = "new, among its first viewers"
OTHER_REASON = "picked for you"
"""Reason for a source that comes with none: a ranker's order of all candidates."""
BELOW_ONE = np.nextafter(1.0, 0.0)
TIE = 1e-12
"""Share of a learned chance taken off per rank, so that the order of equal chances stands. As float32,
in which scores are published and compared for variety, equal chances stay equal."""


@dataclass(frozen=True, eq=False)
class Variety:
    """How lists are made less alike."""

    diversity: diversity.Config
    like: Likeness


@dataclass(frozen=True, eq=False)
class Discovery:
    """Which new videos are shown to whom.

    A user with a number below `share` is shown some.

    Shapes:
        new: video_idx in the order in which they are drawn [n_new].
        uniforms: one number per user, 0 <= u < 1 [n_users].
        user, video: rows of a model that scores new videos [n_users, dim], [n_new, dim]; dim = 0 without one.
    """

    exploration: exploration.Config
    new: Indices
    uniforms: Float64s
    user: Floats
    video: Floats
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class Shaping:
    """What makes one list of the sources' many."""

    weights: closed_form.Weights
    """The closed form."""
    learned: pa.Table | None = None
    """`candidates` rows of `hybrid`, in place of the closed form's order."""
    variety: Variety | None = None
    discovery: Discovery | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a video of a source is in a list, by source; `OTHER_REASON` for one that is not named."""


@dataclass(frozen=True, eq=False)
class _Lists:
    """Lists of a block of users. All are [n_block, n]."""

    video: Int64s
    """video_idx, -1 where a list has ended."""
    score: Float64s
    """Falling."""
    came: Int64s
    """Position of the source or rung in the names."""
    rank: Int64s
    """The source's own rank, 0 where it has none."""
    propensity: Float64s
    """Chance with which the row is in the list."""

    def at(self, places: Int64s) -> "_Lists":
        """Other rows of the same lists: places [n_block, m], -1 where a list has ended."""
        rows = np.arange(len(places))[:, None]
        video = np.where(places >= 0, self.video[rows, places], -1)
        return _Lists(
            video,
            self.score[rows, places],
            self.came[rows, places],
            self.rank[rows, places],
            self.propensity[rows, places],
        )


@dataclass(frozen=True, eq=False)
class Order:
    """In which order what is proposed to a user comes: by learned chances, or by the points of the closed form."""

    sources: Mapping[str, Ranked]
    """Candidates by source."""
    learned: Ranked | None
    weights: closed_form.Weights
    reasons: Mapping[str, str]
    """Why a video of a source is in a list, by source, in the order of their names."""

    @classmethod
    def of(cls, candidates: Mapping[str, pa.Table], shaping: Shaping) -> Self:
        """Arrange candidates.

        Args:
            candidates: `candidates` rows by source, in any order.
            shaping: weights or learned order, and reasons.
        """
        sources = {name: closed_form.ranked(rows) for name, rows in candidates.items()}
        learned = None if shaping.learned is None else closed_form.ranked(shaping.learned)
        reasons = {name: shaping.reasons.get(name, OTHER_REASON) for name in sorted(sources)}
        return cls(sources, learned, shaping.weights, reasons)

    def points(self, users: Indices, known: Knowledge) -> tuple[Float64s, Fused]:
        """Return what each video is worth to some users, and which source says so.

        Args:
            users: user_idx, ascending. [n_block]
            known: what the fit has seen; seen and ineligible videos have points too.

        Returns:
            Points, 0 where a video has no place in the order [n_block, n_videos]; what the sources say.

        Raises:
            MicrorecError: the learned order has a video that no source proposes to the user.
        """
        fused = closed_form.fuse(
            self.sources,
            users=users,
            history=known.history[users],
            n_videos=known.n_videos,
            config=self.weights,
        )
        if self.learned is None:
            return fused.points, fused
        return _chances(self.learned, users, fused), fused


def select(
    candidates: Mapping[str, pa.Table],
    *,
    users: Indices,
    known: Knowledge,
    ladder: Ladder,
    k: int,
    shaping: Shaping,
) -> pa.Table:
    """Select the final list of every user.

    Args:
        candidates: `candidates` rows by source, in any order; a source, or its rows of a user, may be absent.
        users: user_idx of everyone who gets a list. [n_users]
        known: what the fit has seen; seen and ineligible videos never appear.
        ladder: fills the places that personal candidates leave.
        k: length of a list; shorter only where fewer videos are allowed.
        shaping: weights, learned order, diversity and exploration.

    Returns:
        One row per (user, rank), sorted: user_idx, rank, video_idx (int32), score (float32, non-increasing), source
        (strongest source, rung, or exploration), reason, source_rank (int32, the source's own rank of the video, null
        for rungs and exploration) and propensity (float64, probability with which the row is in the list; below 1 only
        for exploration).

    Raises:
        MicrorecError: the learned order has a video that no source proposes to the user: it was made of other
            candidates.
    """
    order = Order.of(candidates, shaping)
    rungs_of = {**order.reasons, **{rung: REASONS[rung] for rung in RUNGS}}
    reasons = {**rungs_of, EXPLORED: EXPLORED_REASON}
    places = -ladder.positions(known.n_videos).astype(np.float64)  # [n_videos]
    rungs = len(order.reasons) + ladder.rungs(known.n_videos)  # [n_videos]
    k = min(k, known.n_videos)  # a rectangle of lists would be wide and empty beyond the catalogue
    depth = min(shaping.variety.diversity.pool * k, known.n_videos) if shaping.variety else k
    parts = [_rows(np.empty(0, dtype=np.int64), _nothing(), reasons)]
    for block in blocks(
        np.unique(users), n_videos=known.n_videos, block_cells=shaping.weights.block_cells
    ):
        points, fused = order.points(block, known)
        personal = points > 0
        scores = np.where(personal, points, places)
        known.mask(scores, block)
        rows, videos, ranks = top(scores, depth)
        is_personal = personal[rows, videos]
        columns = {
            "video": videos,
            "score": scores[rows, videos],
            "came": np.where(is_personal, fused.strongest[rows, videos], rungs[videos]),
            "rank": np.where(is_personal, fused.rank[rows, videos], 0),
        }
        lists = _side_by_side(rows, ranks, columns, shape=(len(block), depth))
        if shaping.variety:
            lists = _varied(lists, k=k, variety=shaping.variety)
        if shaping.discovery:
            lists = _discovered(
                lists, block, known=known, discovery=shaping.discovery, source=len(reasons) - 1
            )
        parts.append(_rows(block, lists, reasons))
    return pa.concat_tables(parts)


def with_ids(
    rows: pa.Table, *, nodes: Mapping[str, pa.Table], valid_until: dt.datetime
) -> pa.Table:
    """Replace indices by the producers' ids and add the instant at which a row expires.

    Args:
        rows: lists with `<noun>_idx` columns; null stays null.
        nodes: the node table of each noun (user, video; evidence_video and similar_video are of video), with
            `<noun>_idx` 0..n-1 and `<noun>_id`.
        valid_until: put on every row.

    Returns:
        One row per row given, in the same order, with `<noun>_id` in place of `<noun>_idx` and valid_until.
    """
    for noun, table in nodes.items():
        kind = noun.rpartition("_")[2]
        ids = table.sort_by(f"{kind}_idx")[f"{kind}_id"]
        at = rows.schema.get_field_index(f"{noun}_idx")
        rows = rows.set_column(at, f"{noun}_id", ids.take(rows[f"{noun}_idx"]))
    instant = pa.scalar(valid_until, pa.timestamp("us", "UTC"))
    return rows.append_column("valid_until", pa.repeat(instant, rows.num_rows))


def _chances(learned: Ranked, users: Indices, fused: Fused) -> Float64s:
    """The learned chances of a block, equal ones told apart in the order of their ranks."""
    points = np.zeros(fused.points.shape)
    rows, videos, ranks, scores = learned.of(users)
    n_unproposed = int((fused.strongest[rows, videos] < 0).sum())
    if n_unproposed:
        raise MicrorecError(
            f"candidates: {n_unproposed} videos of the learned order are proposed by no source;"
            " run blend_candidates again"
        )
    points[rows, videos] = scores * (1.0 - TIE * ranks)
    return points


def _side_by_side(
    rows: Indices, ranks: Indices, columns: Mapping[str, NDArray[Any]], *, shape: tuple[int, int]
) -> _Lists:
    """Rows of lists, one list a line."""
    arranged = {name: np.full(shape, -1, dtype=values.dtype) for name, values in columns.items()}
    for name, values in columns.items():
        arranged[name][rows, ranks - 1] = values
    return _Lists(**arranged, propensity=np.ones(shape))


def _varied(lists: _Lists, *, k: int, variety: Variety) -> _Lists:
    """Pick the lists of K out of longer ones."""
    like = variety.like
    config = variety.diversity
    scores = lists.score.astype(np.float32)
    picked = lists.at(diversity.pick(lists.video, scores, k=k, like=like, config=config))
    return replace(picked, score=diversity.falling(picked.score))


def _discovered(
    lists: _Lists, users: Indices, *, known: Knowledge, discovery: Discovery, source: int
) -> _Lists:
    """Give some places to new videos that the user has not seen and that are not in the list."""
    new = discovery.new
    config = discovery.exploration
    n_places = min(config.places, lists.video.shape[1])
    if not n_places or not len(new):
        return lists
    allowed = known.eligible[new] & ~(known.barred[users][:, new].toarray() > 0)
    column_of = np.full(known.n_videos + 1, -1)
    column_of[new] = np.arange(len(new))
    listed = column_of[lists.video]  # -1, a list that has ended, finds the last one
    rows, places = np.nonzero(listed >= 0)
    allowed[rows, listed[rows, places]] = False
    affinity = exploration.affinities(discovery.user[users], discovery.video)
    chances = exploration.chances(
        affinity,
        allowed,
        places=n_places,
        uniform_share=config.uniform_share,
        sharpness=config.sharpness,
    )
    uniforms = discovery.uniforms[users] / discovery.share
    drawn = exploration.draw(chances, np.minimum(uniforms, BELOW_ONE), places=n_places)
    drawn = exploration.likeliest_first(drawn, affinity)
    drawn[uniforms >= 1.0] = -1
    placed = exploration.place(
        lists.video, np.where(drawn >= 0, new[drawn], -1), every=config.every
    )
    rows = np.arange(len(users))[:, None]
    of_list = lists.at(np.where(placed.explored, -1, placed.origin))
    column = drawn[rows, np.where(placed.explored, placed.origin, 0)]
    score = np.where(placed.explored, lists.score[:, :1], of_list.score)
    return _Lists(
        video=placed.video,
        score=diversity.falling(score),
        came=np.where(placed.explored, source, of_list.came),
        rank=np.where(placed.explored, 0, of_list.rank),
        propensity=np.where(placed.explored, discovery.share * chances[rows, column], 1.0),
    )


def _rows(users: Indices, lists: _Lists, reasons: Mapping[str, str]) -> pa.Table:
    """Arrow rows from the lists of users; `came` is a position in `reasons`, which are by source or rung."""
    row, place = np.nonzero(lists.video >= 0)
    came = pa.array(lists.came[row, place].astype(np.int64))
    rank = lists.rank[row, place].astype(np.int32)
    typed = {
        "user_idx": users[row].astype(np.int32),
        "rank": (place + 1).astype(np.int32),
        "video_idx": lists.video[row, place].astype(np.int32),
        "score": lists.score[row, place].astype(np.float32),
        "source": pa.array(list(reasons), pa.string()).take(came),
        "reason": pa.array(list(reasons.values()), pa.string()).take(came),
        "source_rank": pa.array(rank, mask=rank == 0),
        "propensity": lists.propensity[row, place].astype(np.float64),
    }
    return pa.table(typed)


def _nothing() -> _Lists:
    none = np.empty((0, 0))
    whole = none.astype(np.int64)
    return _Lists(whole, none, whole, whole, none)
