"""Similar videos: beside each video the nearest ones by behaviour, by each modality, and by all of them together.

    kind           similarity of videos j and v
    behaviour      W_jv of a model of neighbour lists of videos
    a modality     cosine of the two vectors, of the nearest in `modality_edges`
    fused          sum_m w_m(j) (c + 1) / (c + rank_m(v)) / sum_m w_m(j), over the kinds m that j has

A video that n users like has behaviour's weight w(j) = n / (n + kappa); the modalities that it has share the rest, so a
video that nobody has liked is placed by its content alone. A list holds eligible videos only, none of them a
near-duplicate of another or of the video itself. The fused one has K videos wherever there are as many: places that are
left go to videos of the author and then to popular ones, with similarity 0; near-duplicates fill the last ones.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy import sparse

from microrec.candidates.lists import evidence
from microrec.core.array_types import Bools, Float64s, Indices, Int64s
from microrec.core.columns import floored
from microrec.core.knowledge import Knowledge
from microrec.core.pairs import pack, unpack

BEHAVIOUR, FUSED = "behaviour", "fused"
AUTHOR, POPULAR = "author", "popular"
"""Sources of the rows that fill a list."""
PAIRS = 1_000_000
"""Pairs of videos whose common viewers are counted together."""


class Config(BaseModel):
    """How long the lists are, and how they are put together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: PositiveInt = 20
    """Length of a fused list, and the greatest length of the others."""
    behaviour: Literal["video_neighbours", "rp3beta", "ease"] = "video_neighbours"
    """The model whose neighbour lists say what goes together; where the recipe lacks it, content decides alone."""
    c: PositiveFloat = 20.0
    """Of the reciprocal ranks: how flat the top of a list counts."""
    kappa: NonNegativeFloat = 2.0
    """Users who like a video at which behaviour has half of the weight."""
    collapse: float | None = Field(default=0.98, gt=0, le=1)
    """Mean similarity over the modalities, tags apart, from which on two videos count as one; None: never."""


class Lists(NamedTuple):
    """Neighbours of some videos, list after list in the order of the ranks. All are [n_rows]."""

    row: Int64s
    """Position of the video in its block."""
    video: Int64s
    similarity: Float64s
    rank: Int64s

    def taken(self, kept: Bools) -> "Lists":
        """Return the lists without some rows, ranked again."""
        row = self.row[kept]
        return Lists(row, self.video[kept], self.similarity[kept], _ranks(row))


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What the lists are made of.

    Shapes:
        near: by kind, sparse [n_videos, n_videos], similarity of neighbours above 0, row = the video they are near to
        alike: by modality, likewise, both directions, as of `evidence.by_modality`
        author, cluster: [n_videos], as of `likeness.Likeness`
    """

    near: Mapping[str, sparse.csr_matrix]
    """Behaviour first, the modalities by name; a kind that the night lacks is left out."""
    alike: Mapping[str, sparse.csr_matrix]
    known: Knowledge
    author: Int64s
    cluster: Int64s

    @cached_property
    def likers(self) -> Int64s:
        """Users who like each video. [n_videos]."""
        return self.known.likers

    @cached_property
    def popular(self) -> Int64s:
        """Eligible videos, most liked first, ties by video_idx. [n_eligible]."""
        eligible = np.flatnonzero(self.known.eligible)
        return eligible[np.argsort(-self.likers[eligible], kind="stable")]


def similar(
    videos: Indices, catalogue: Catalogue, *, config: Config, least_people: int = 0
) -> pa.Table:
    """List the videos that are similar to some videos.

    Args:
        videos: video_idx of eligible videos. [n_block]
        catalogue: what the lists are made of.
        config: how long they are, and how they are put together.
        least_people: fewer common viewers are not told.

    Returns:
        One row per (video, kind, rank): video_idx, kind, rank, similar_video_idx (int32), similarity (float32, not
        increasing with the rank), source, evidence_viewers, evidence_modality.
    """
    lists = {
        kind: _nearest(near[videos], videos, catalogue) for kind, near in catalogue.near.items()
    }
    fused, source = _fused(lists, videos, catalogue, config)
    tables = [
        _table(each.taken(each.rank <= config.k), videos, kind, [kind])
        for kind, each in lists.items()
    ]
    tables.append(_table(fused, videos, FUSED, source))
    rows = pa.concat_tables(tables)
    first, second = (rows[name].to_numpy() for name in ("video_idx", "similar_video_idx"))
    viewers = floored(_common(catalogue.known, first, second), least_people)
    rows = rows.append_column("evidence_viewers", viewers.cast(pa.int32()))
    modality = evidence.most_alike(catalogue.alike, first, second)
    return rows.append_column("evidence_modality", modality)


def _nearest(near: sparse.csr_matrix, videos: Indices, catalogue: Catalogue) -> Lists:
    """Eligible neighbours of a kind, one of each near-duplicates, ties by video_idx."""
    pairs = near.tocoo()
    row, video = pairs.row.astype(np.int64), pairs.col.astype(np.int64)
    similarity = pairs.data.astype(np.float64)
    order = np.lexsort((video, -similarity, row))
    lists = Lists(row[order], video[order], similarity[order], np.empty(0, np.int64))
    return _moderated(lists, videos, catalogue)


def _moderated(lists: Lists, videos: Indices, catalogue: Catalogue) -> Lists:
    """What may be shown beside the videos: eligible, near-duplicates neither of them nor of a nearer one."""
    own = catalogue.cluster[videos][lists.row]
    allowed = (
        catalogue.known.eligible[lists.video]
        & (lists.similarity > 0)
        & (lists.video != videos[lists.row])
        & (catalogue.cluster[lists.video] != own)
    )
    kept = lists.taken(allowed)
    _, first = np.unique(pack(kept.row, catalogue.cluster[kept.video]), return_index=True)
    is_first = np.zeros(len(kept.row), np.bool_)
    is_first[first] = True
    return kept.taken(is_first)


def _fused(
    lists: Mapping[str, Lists], videos: Indices, catalogue: Catalogue, config: Config
) -> tuple[Lists, list[str]]:
    """The lists of all kinds as one, filled up to K, and the source of each row."""
    kinds = list(lists)
    points = [
        (config.c + 1) / (config.c + each.rank) * weight[each.row]
        for each, weight in zip(
            lists.values(), _weights(lists, videos, catalogue, config), strict=True
        )
    ]
    kind = np.repeat(np.arange(len(kinds)), [len(each.row) for each in lists.values()])
    pair = np.concatenate([np.empty(0, np.int64), *(pack(e.row, e.video) for e in lists.values())])
    value = np.concatenate([np.empty(0), *points])
    pairs, of = np.unique(pair, return_inverse=True)
    total = np.bincount(of, weights=value, minlength=len(pairs)).astype(np.float64)
    strongest = np.lexsort((kind, -value, of))
    strongest = kind[strongest[np.diff(of[strongest], prepend=-1) > 0]]
    row, video = unpack(pairs)
    order = np.lexsort((video, -total, row))
    merged = Lists(row[order], video[order], total[order], np.empty(0, np.int64))
    source_of = dict(zip(pairs.tolist(), strongest.tolist(), strict=True))
    ranked = _moderated(merged, videos, catalogue)
    ranked = ranked.taken(ranked.rank <= config.k)
    sources = [kinds[source_of[each]] for each in pack(ranked.row, ranked.video).tolist()]
    return _filled(ranked, sources, videos, catalogue, config.k)


def _weights(
    lists: Mapping[str, Lists], videos: Indices, catalogue: Catalogue, config: Config
) -> list[Float64s]:
    """Weight of each kind for each video, 1 over the kinds that it has. [n_block] each."""
    has = {kind: np.bincount(each.row, minlength=len(videos)) > 0 for kind, each in lists.items()}
    liked = catalogue.likers[videos].astype(np.float64)
    behaviour = np.divide(liked, liked + config.kappa, out=np.zeros(len(videos)), where=liked > 0)
    n_modalities = np.sum([has[kind] for kind in has if kind != BEHAVIOUR], axis=0)
    content = (1.0 - behaviour) / np.maximum(n_modalities, 1)
    parts = {
        kind: np.where(has[kind], behaviour if kind == BEHAVIOUR else content, 0.0) for kind in has
    }
    whole = np.sum(list(parts.values()), axis=0)
    return [np.divide(w, whole, out=np.zeros(len(videos)), where=whole > 0) for w in parts.values()]


def _filled(
    ranked: Lists, sources: list[str], videos: Indices, catalogue: Catalogue, k: int
) -> tuple[Lists, list[str]]:
    """Lists with videos of the author and popular ones in the places that are left."""
    n_listed = np.bincount(ranked.row, minlength=len(videos))
    short = np.flatnonzero(n_listed < k)
    # Python, as few lists are short: of videos that nobody has watched and that no vector describes.
    added = [
        (row, video, source)
        for row in short.tolist()
        for video, source in _fillers(
            int(videos[row]), ranked.video[ranked.row == row], catalogue, k
        )
    ]
    if not added:
        return ranked, sources
    row = np.concatenate([ranked.row, [each[0] for each in added]]).astype(np.int64)
    video = np.concatenate([ranked.video, [each[1] for each in added]]).astype(np.int64)
    similarity = np.concatenate([ranked.similarity, np.zeros(len(added))])
    order = np.argsort(row, kind="stable")
    sources = sources + [each[2] for each in added]
    whole = Lists(row[order], video[order], similarity[order], _ranks(row[order]))
    return whole, [sources[position] for position in order.tolist()]


def _fillers(video: int, listed: Int64s, catalogue: Catalogue, k: int) -> Iterator[tuple[int, str]]:
    """Yield videos for the places a list has left: of the author, popular, and near-duplicates last of all."""
    taken = {video, *listed.tolist()}
    clusters = {int(catalogue.cluster[each]) for each in taken}
    popular = catalogue.popular
    author = catalogue.author[video]
    own = popular[catalogue.author[popular] == author] if author >= 0 else popular[:0]
    for distinct in (True, False):
        for source, order in ((AUTHOR, own), (POPULAR, popular)):
            for other in order.tolist():
                if len(taken) > k:
                    return
                cluster = int(catalogue.cluster[other])
                if other in taken or (distinct and cluster in clusters):
                    continue
                taken.add(other)
                clusters.add(cluster)
                yield other, source


def _table(lists: Lists, videos: Indices, kind: str, source: list[str]) -> pa.Table:
    """Rows of a kind, without evidence; `source` of each row, or of all of them."""
    n_rows = len(lists.row)
    return pa.table(
        {
            "video_idx": pa.array(videos[lists.row], pa.int32()),
            "kind": pa.array([kind] * n_rows, pa.string()),
            "rank": pa.array(lists.rank, pa.int32()),
            "similar_video_idx": pa.array(lists.video, pa.int32()),
            "similarity": pa.array(lists.similarity.astype(np.float32), pa.float32()),
            "source": pa.array(source * n_rows if len(source) == 1 else source, pa.string()),
        }
    )


def _common(known: Knowledge, first: Indices, second: Indices) -> Int64s:
    """How many users like both videos of each pair. [n_pairs]."""
    likers = known.taught.T.tocsr()
    common = np.zeros(len(first), np.int64)
    for start in range(0, len(first), PAIRS):
        part = slice(start, start + PAIRS)
        both = likers[first[part]].multiply(likers[second[part]])
        common[part] = np.asarray(both.getnnz(axis=1))
    return common


def _ranks(row: Indices) -> Int64s:
    """Ranks from 1 in each run of equal rows. [n_rows]."""
    if not len(row):
        return np.empty(0, np.int64)
    starts = np.flatnonzero(np.diff(row, prepend=-1) != 0)
    lengths = np.diff(np.append(starts, len(row)))
    ranks: Int64s = np.arange(len(row)) - np.repeat(starts, lengths) + 1
    return ranks
