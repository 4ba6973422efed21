"""Lists of one surface or one tag, for each user and for everybody.

A segment is a set of eligible videos, each with a weight: of a surface (feed, search, ...) those that were liked there,
of a tag those that have it. The list of a user takes the user's own order and the segment's together:

    score(u, v) = weight(v) / (offset + place_u(v))
    weight(v)   = sum over days of 2^-floor(age / half_life_days) x users who were positive about v on the surface
                  that day; of a tag 1

with place_u(v) the place of v among all that the sources propose to u, in the order of the blend, and the place after
the last one for what none proposes. Equal scores go by the segment's own order: the greater weight first, then the
order in which videos fill everybody's list. A user has the list of a segment whole or not at all.

Powers of two are added without error, so no weight depends on the order of the rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from microrec.candidates.lists import diversity, fill
from microrec.candidates.lists.ladder import RUNGS, Ladder
from microrec.candidates.retrieval.exact import blocks, top
from microrec.core.array_types import Float64s, Floats, Indices, Int64s
from microrec.core.columns import column
from microrec.core.knowledge import Knowledge

SURFACE, TAG = "surface=", "tag="
"""How the name of a segment begins."""
POPULAR = "segment"
"""Source of a video that no source proposes to the user: it is there for the weight it has in the segment."""
POPULAR_REASON = "popular here"
HALVINGS = 20
"""A viewing counts 2^-20 at least: sums of up to 2^33 of them are exact."""


class Config(BaseModel):
    """Which segments have lists, and how far they follow the user."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    surfaces: NonNegativeInt = 8
    """Surfaces that have lists: of those where K eligible videos were liked, the ones with the most positive users."""
    main_share: float = Field(default=0.5, gt=0, le=1)
    """A surface with more than this share of all that was liked has none: the list of all is its list."""
    tags: NonNegativeInt = 20
    """Tags that have lists: of those with K eligible videos, the ones whose videos have the most positive viewers."""
    tags_of_user: NonNegativeInt = 1
    """Of these, how many each user has a list of: those of most of the videos that the user liked."""
    offset: PositiveFloat = 200.0
    """The greater, the less the user's own order counts against the segment's."""
    half_life_days: PositiveInt = 2
    """Days in which what was liked on a surface loses half of its weight."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Videos of a segment in its own order.

    Shapes:
        video: [n_listed] video_idx, eligible.
        weight: [n_listed], above 0, not rising.
    """

    name: str
    video: Int64s
    weight: Float64s


@dataclass(frozen=True, eq=False)
class Members:
    """Who has the lists of which segments.

    Shapes:
        user: [n_pairs] user_idx, ascending.
        segment: [n_pairs] position among `segments`.
    """

    segments: Sequence[Segment]
    user: Int64s
    segment: Int64s

    def among(self, users: Indices) -> "Members":
        """Return those of some users only. [n_users]."""
        chosen = np.isin(self.user, users)
        return Members(self.segments, self.user[chosen], self.segment[chosen])


def of_surfaces(
    counts: pa.Table, everyones: Ladder, *, n_videos: int, today: int, k: int, config: Config
) -> list[Segment]:
    """Return the segments of surfaces.

    Args:
        counts: `exposure_counts` of the days the fit sees; rows without a surface belong to no segment.
        everyones: the order in which videos fill everybody's list.
        n_videos: videos of the catalogue.
        today: the day after the last that the fit sees, in days since 1970.
        k: length of a list.
        config: which surfaces, and the half-life.

    Returns:
        In the order of their names.
    """
    surface, names = _coded(counts)
    liked = column(counts, "n_positive") > 0
    n_liked = np.bincount(surface[liked], minlength=len(names))
    video = column(counts, "video_idx").astype(np.int64)
    age = today - counts["shown_on"].cast(pa.int32()).to_numpy().astype(np.int64)
    worth = 0.5 ** np.minimum(age // config.half_life_days, HALVINGS)
    position = everyones.positions(n_videos)
    segments: list[Segment] = []
    for number in sorted(range(len(names)), key=lambda number: (-n_liked[number], names[number])):
        is_main = n_liked[number] > config.main_share * n_liked.sum()
        if is_main or not names[number] or len(segments) == config.surfaces:
            continue
        of_it = liked & (surface == number)
        weight: Float64s = np.zeros(n_videos)
        np.add.at(weight, video[of_it], worth[of_it])
        listed = everyones.video[weight[everyones.video] > 0]
        if len(listed) >= k:
            order = listed[np.lexsort((position[listed], -weight[listed]))]
            segments.append(Segment(f"{SURFACE}{names[number]}", order, weight[order]))
    return sorted(segments, key=lambda segment: segment.name)


def of_tags(
    tagged: pa.Table, everyones: Ladder, *, likers: Indices, k: int, config: Config
) -> list[Segment]:
    """Return the segments of tags.

    Args:
        tagged: video_idx and tags of the videos, in any order; a tag named twice counts once.
        everyones: the order in which videos fill everybody's list.
        likers: positive viewers of each video. [n_videos]
        k: length of a list; a tag with fewer eligible videos has none.
        config: how many tags.

    Returns:
        In the order of their names.
    """
    position = everyones.positions(len(likers)) - 1
    by_tag: dict[str, list[int]] = {}
    for video, tags in zip(
        tagged["video_idx"].to_pylist(), tagged["tags"].to_pylist(), strict=True
    ):
        if position[video] < len(everyones.video):
            for tag in set(tags or ()):
                by_tag.setdefault(tag, []).append(int(position[video]))
    n_likers = {
        tag: int(likers[everyones.video[places]].sum())
        for tag, places in by_tag.items()
        if len(places) >= k
    }
    chosen = sorted(n_likers, key=lambda tag: (-n_likers[tag], tag))[: config.tags]
    return [
        Segment(f"{TAG}{tag}", everyones.video[np.sort(by_tag[tag])], np.ones(len(by_tag[tag])))
        for tag in sorted(chosen)
    ]


def members(
    segments: Sequence[Segment], counts: pa.Table, *, known: Knowledge, config: Config
) -> Members:
    """Return who has the lists of which segments: of a surface who was shown something there, of a tag who likes it.

    Args:
        segments: all, in the order of their names.
        counts: `exposure_counts` of the days the fit sees.
        known: what the fit has seen; a tag is liked by its videos among the positives.
        config: how many tags a user has.

    Returns:
        Pairs, in their order.
    """
    surface, names = _coded(counts)
    user = column(counts, "user_idx").astype(np.int64)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    of_tags = [at for at, segment in enumerate(segments) if segment.name.startswith(TAG)]
    for at, segment in enumerate(segments):
        if at not in of_tags:
            number = names.index(segment.name.removeprefix(SURFACE))
            met = np.unique(user[surface == number])
            pairs.append(np.stack([met, np.full(len(met), at)], axis=1))
    if of_tags:
        liked = _liked_of(known, [segments[at] for at in of_tags])
        rows, places, _ = top(np.where(liked > 0, liked, -np.inf), config.tags_of_user)
        pairs.append(np.stack([rows, np.array(of_tags)[places]], axis=1))
    together = np.unique(np.concatenate(pairs), axis=0)
    return Members(segments, user=together[:, 0], segment=together[:, 1])


def everyones_lists(segments: Sequence[Segment], everyones: Ladder, k: int) -> pa.Table:
    """Return the list of each segment for whoever has none of their own.

    Args:
        segments: all.
        everyones: says on which rung everybody's list has a video.
        k: length of a list.

    Returns:
        Rows as of `ladder.fallback`.
    """
    rungs = np.zeros(int(everyones.video.max(initial=-1)) + 1, dtype=np.int64)
    rungs[everyones.video] = everyones.rung
    video = [segment.video[:k] for segment in segments]
    names = [segment.name for segment, listed in zip(segments, video, strict=True) for _ in listed]
    rank = np.concatenate([np.empty(0), *(np.arange(1, len(listed) + 1) for listed in video)])
    together = np.concatenate([np.empty(0, dtype=np.int64), *video])
    return pa.table(
        {
            "segment": pa.array(names, pa.string()),
            "rank": rank.astype(np.int32),
            "video_idx": together.astype(np.int32),
            "score": -rank.astype(np.float32),
            "source": pa.array(RUNGS).take(pa.array(rungs[together])),
        }
    )


def select(
    candidates: Mapping[str, pa.Table],
    *,
    members: Members,
    known: Knowledge,
    k: int,
    shaping: fill.Shaping,
    offset: float,
) -> pa.Table:
    """Make the users' own lists of segments.

    Args:
        candidates: `candidates` rows by source, in any order.
        members: whose lists to make.
        known: what the fit has seen; seen and ineligible videos never appear.
        k: length of a list; who may be shown fewer videos of a segment has no list of it.
        shaping: weights or learned order, reasons, and diversity; nothing is explored here.
        offset: of `Config`.

    Returns:
        One row per (user, segment, rank), sorted: user_idx, segment, rank, video_idx (int32), score (float32, not
        rising), source, reason and source_rank (int32, null where no source proposes the video).

    Raises:
        MicrorecError: the learned order has a video that no source proposes to the user.
    """
    order = fill.Order.of(candidates, shaping)
    parts = [_NO_ROWS]
    cells = shaping.weights.block_cells
    for users in blocks(np.unique(members.user), n_videos=known.n_videos, block_cells=cells):
        points, fused = order.points(users, known)
        known.mask(points, users)
        places = _places(points)
        first, last = np.searchsorted(members.user, [users[0], users[-1] + 1])
        row = np.searchsorted(users, members.user[first:last])
        for number in np.unique(members.segment[first:last]):
            rows = row[members.segment[first:last] == number]
            chosen = members.segments[number]
            if len(chosen.video) < k:
                continue
            scores = chosen.weight / (offset + places[rows][:, chosen.video])
            scores[np.isneginf(points[rows][:, chosen.video])] = -np.inf
            listed, at, ranks, values = _whole_lists(scores, chosen.video, k=k, shaping=shaping)
            video = chosen.video[at]
            source = fused.strongest[rows[listed], video].astype(np.int64)
            own_rank = fused.rank[rows[listed], video]
            numbers = np.full(len(listed), number)
            parts.append((users[rows[listed]], numbers, ranks, video, values, source, own_rank))
    return _rows([np.concatenate(columns) for columns in zip(*parts, strict=True)], members, order)


_NO_ROWS = tuple(np.empty(0, dtype=kind) for kind in ("i8", "i8", "i8", "i8", "f8", "i8", "i4"))


def _coded(counts: pa.Table) -> tuple[Int64s, list[str]]:
    """The surface of each row as a number [n_rows], and the surfaces' names."""
    coded = counts["surface"].combine_chunks().dictionary_encode()
    return coded.indices.to_numpy().astype(np.int64), coded.dictionary.to_pylist()


def _places(points: Float64s) -> Int64s:
    """Places by falling points, the place after the last where there are none. [n_block, n_videos]."""
    rows, videos, ranks = top(np.where(points > 0, points, -np.inf), points.shape[1])
    n_proposed = np.bincount(rows, minlength=len(points))
    places = np.repeat(n_proposed[:, None] + 1, points.shape[1], axis=1)
    places[rows, videos] = ranks
    return places


def _liked_of(known: Knowledge, segments: Sequence[Segment]) -> Floats:
    """How many videos of each segment each user likes. [n_users, n_segments]."""
    of_segment = np.zeros((known.n_videos, len(segments)))
    for at, segment in enumerate(segments):
        of_segment[segment.video, at] = 1.0
    return np.asarray(known.positives @ of_segment)


def _whole_lists(
    scores: Float64s, video: Indices, *, k: int, shaping: fill.Shaping
) -> tuple[Int64s, Int64s, Int64s, Float64s]:
    """Lists of k of the columns, where there are so many: row, column, rank and score. [n_taken] each."""
    depth = k if shaping.variety is None else shaping.variety.diversity.pool * k
    rows, columns, ranks = top(scores, depth)
    taken = np.full((len(scores), max(depth, 1)), -1)
    taken[rows, ranks - 1] = columns
    values = np.where(taken >= 0, np.take_along_axis(scores, np.maximum(taken, 0), axis=1), 0.0)
    if shaping.variety is not None:
        picked = diversity.pick(
            np.where(taken >= 0, video[taken], -1),
            values.astype(np.float32),
            k=k,
            like=shaping.variety.like,
            config=shaping.variety.diversity,
        )
        taken = np.where(picked >= 0, np.take_along_axis(taken, picked, axis=1), -1)
        values = diversity.falling(np.take_along_axis(values, picked, axis=1))
    whole = np.flatnonzero((taken[:, :k] >= 0).all(axis=1))
    row, place = np.repeat(whole, k), np.tile(np.arange(k), len(whole))
    return row, taken[row, place], place + 1, values[row, place]


def _rows(columns: Sequence[NDArray[Any]], members: Members, order: fill.Order) -> pa.Table:
    """Arrow rows, by user, segment and rank."""
    user, number, rank = columns[:3]
    by_list = np.lexsort((rank, number, user))
    user, number, rank, video, score, source, own_rank = (values[by_list] for values in columns)
    proposed = source >= 0
    sources, reasons = [*order.reasons, POPULAR], [*order.reasons.values(), POPULAR_REASON]
    return pa.table(
        {
            "user_idx": user.astype(np.int32),
            "segment": pa.array([segment.name for segment in members.segments], pa.string()).take(
                pa.array(number)
            ),
            "rank": rank.astype(np.int32),
            "video_idx": video.astype(np.int32),
            "score": score.astype(np.float32),
            "source": pa.array(sources, pa.string()).take(pa.array(source % len(sources))),
            "reason": pa.array(reasons, pa.string()).take(pa.array(source % len(reasons))),
            "source_rank": pa.array(own_rank.astype(np.int32), mask=~proposed),
        }
    )
