"""The similar videos of some videos again, one video at a time, and what differs from the published ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.candidates.lists.similar import AUTHOR, BEHAVIOUR, FUSED, POPULAR, Config
from microrec.core.array_types import Int64s
from microrec.core.fitted import NeighbourLists
from microrec.evaluation.gate import Result
from microrec.oracle import evidence
from microrec.oracle.inputs import ListInputs

GATE = "similar_videos"
SHOWN = 5
"""Videos whose difference is told."""

Near = Mapping[int, list[tuple[int, float]]]
"""Neighbours and similarities by video_idx."""


class Row(NamedTuple):
    """A row of `similar_videos`, beside its video."""

    kind: str
    rank: int
    similar_video_id: str
    similarity: float
    source: str
    evidence_viewers: int | None
    evidence_modality: str | None


@dataclass(frozen=True, eq=False)
class SimilarInputs:
    """What the lists of the drawn videos are made of, beside what lists of users are made of."""

    night: ListInputs
    config: Config
    near: Mapping[str, Near]
    """By modality."""
    cluster: list[int]
    """By video_idx, as of `oracle.lists.clusters`."""


def neighbours(
    edges: pa.Table, videos: Sequence[int]
) -> dict[str, dict[int, list[tuple[int, float]]]]:
    """Return the neighbours of some videos in each modality.

    Args:
        edges: `modality_edges` of the day, in any order.
        videos: video_idx.

    Returns:
        Pairs of a neighbour and its similarity, by modality and video_idx; empty lists where there are none.
    """
    names = sorted(set(pc.unique(edges["modality"]).to_pylist()))
    near: dict[str, dict[int, list[tuple[int, float]]]] = {
        name: {video: [] for video in videos} for name in names
    }
    wanted = edges.filter(pc.is_in(edges["video_idx"], value_set=pa.array(videos, pa.int32())))
    for row in wanted.to_pylist():
        of_video = near[row["modality"]][row["video_idx"]]
        of_video.append((row["neighbour_idx"], row["similarity"]))
    return near


def check(inputs: SimilarInputs, published: pa.Table, video_ids: Sequence[str]) -> Result:
    """Compare the published lists of some videos with those that brute force gives.

    Args:
        inputs: what they are made of.
        published: `similar_videos` of the day.
        video_ids: videos to compare.

    Returns:
        A gate of severity hold: passed if every video agrees. That they have lists is a law (`similar_users_covered`).
    """
    video_idx = {video_id: video for video, video_id in enumerate(inputs.night.video_id)}
    likers = _likers(inputs)
    ids = pa.array(video_ids, pa.string())
    wanted = published.filter(pc.is_in(published["video_id"], value_set=ids))
    rows: dict[str, list[Row]] = {video_id: [] for video_id in video_ids}
    for row in wanted.select(["video_id", *Row._fields]).to_pylist():
        rows[row.pop("video_id")].append(Row(**row))
    tolerance = inputs.night.rules.oracle.tolerance
    differences = []
    for video_id in video_ids:
        recomputed = recompute(inputs, video_idx[video_id], likers)
        text = _difference(sorted(rows[video_id]), sorted(recomputed), tolerance)
        if text is not None:
            differences.append(f"{video_id}: {text}")
    n = len(video_ids)
    agree = n - len(differences)
    details = [f"published lists that brute force gives too: {agree} of {n} videos, all asked"]
    status = "pass" if agree == n else "fail"
    share = agree / n if n else 1.0
    return Result(GATE, "hold", status, share, 1.0, "; ".join(details + differences[:SHOWN]))


def recompute(inputs: SimilarInputs, video: int, likers: Sequence[Int64s]) -> list[Row]:
    """Return the lists of one video, all kinds.

    Args:
        inputs: what they are made of.
        video: video_idx.
        likers: user_idx of who likes each video.

    Returns:
        Rows in any order.
    """
    night, config = inputs.night, inputs.config
    lists = {kind: moderated(inputs, video, near) for kind, near in _kinds(inputs, video).items()}
    rows = []
    for kind, near in lists.items():
        rows += [
            (kind, rank, v, value, kind) for rank, (v, value) in enumerate(near[: config.k], 1)
        ]
    n_likers = len(likers[video])
    points: dict[int, float] = {}
    most: dict[int, tuple[float, str]] = {}
    for kind, weight in _weights(lists, n_likers, config.kappa).items():
        for rank, (v, _) in enumerate(lists[kind], 1):
            given = (config.c + 1) / (config.c + rank) * weight
            points[v] = points.get(v, 0.0) + given
            if v not in most or given > most[v][0]:
                most[v] = (given, kind)
    fused = moderated(inputs, video, list(points.items()))[: config.k]
    chosen = [(v, value, most[v][1]) for v, value in fused]
    chosen += fillers(inputs, video, [v for v, _ in fused], [len(each) for each in likers])
    rows += [(FUSED, rank, v, value, source) for rank, (v, value, source) in enumerate(chosen, 1)]
    return [_row(night, video, likers, *row) for row in rows]


def moderated(
    inputs: SimilarInputs, video: int, near: Sequence[tuple[int, float]]
) -> list[tuple[int, float]]:
    """Return the neighbours that may stand beside a video, nearest first.

    Args:
        inputs: has who may be shown, and what nearly duplicates what.
        video: video_idx.
        near: pairs of a video and its similarity, in any order.
    """
    clusters = {inputs.cluster[video]}
    kept = []
    for other, value in sorted(near, key=lambda pair: (-pair[1], pair[0])):
        if value <= 0 or other == video or not inputs.night.facts.eligible[other]:
            continue
        if inputs.cluster[other] not in clusters:
            clusters.add(inputs.cluster[other])
            kept.append((other, value))
    return kept


def fillers(
    inputs: SimilarInputs, video: int, listed: Sequence[int], n_likers: Sequence[int]
) -> list[tuple[int, float, str]]:
    """Return what fills the places that a fused list has left.

    Args:
        inputs: what may be shown.
        video: video_idx.
        listed: what the list has.
        n_likers: users who like each video.

    Returns:
        Videos with similarity 0 and their source.
    """
    night, cluster = inputs.night, inputs.cluster
    popular = sorted(np.flatnonzero(night.facts.eligible).tolist(), key=lambda v: (-n_likers[v], v))
    author = night.author[video]
    own = [v for v in popular if author is not None and night.author[v] == author]
    tiers = [(AUTHOR, own, True), (POPULAR, popular, True)]
    tiers += [(AUTHOR, own, False), (POPULAR, popular, False)]
    taken, added = {video, *listed}, []
    for source, order, distinct in tiers:
        for v in order:
            copies = any(cluster[v] == cluster[other] for other in taken)
            if v not in taken and not (distinct and copies) and len(taken) <= inputs.config.k:
                taken.add(v)
                added.append((v, 0.0, source))
    return added


def _kinds(inputs: SimilarInputs, video: int) -> dict[str, list[tuple[int, float]]]:
    """Neighbours of a video by kind, behaviour first."""
    kinds: dict[str, list[tuple[int, float]]] = {}
    model = inputs.night.models.get(inputs.config.behaviour)
    if isinstance(model, NeighbourLists):
        at = slice(model.indptr[video], model.indptr[video + 1])
        kinds[BEHAVIOUR] = list(
            zip(model.neighbour[at].tolist(), model.similarity[at].tolist(), strict=True)
        )
    return kinds | {name: list(near[video]) for name, near in inputs.near.items()}


def _weights(
    lists: Mapping[str, Sequence[tuple[int, float]]], n_likers: int, kappa: float
) -> dict[str, float]:
    """Weight of each kind that has neighbours of a video."""
    present = [kind for kind, near in lists.items() if near]
    modalities = [kind for kind in present if kind != BEHAVIOUR]
    behaviour = n_likers / (n_likers + kappa) if n_likers else 0.0
    parts = {kind: (1.0 - behaviour) / len(modalities) for kind in modalities}
    if BEHAVIOUR in present:
        parts = {BEHAVIOUR: behaviour, **parts}
    whole = sum(parts.values())
    return {kind: part / whole for kind, part in parts.items()} if whole else {}


def _row(  # noqa: PLR0913 - the columns of a row
    night: ListInputs,
    video: int,
    likers: Sequence[Int64s],
    kind: str,
    rank: int,
    other: int,
    similarity: float,
    source: str,
) -> Row:
    """A row with its evidence."""
    common: int | None = len(np.intersect1d(likers[video], likers[other]))
    if common and common < night.rules.least_people:
        common = None
    modality = evidence.modality(night, video, other)
    return Row(kind, rank, night.video_id[other], similarity, source, common, modality)


def _likers(inputs: SimilarInputs) -> list[Int64s]:
    """user_idx of who likes each video and is counted, ascending."""
    facts = inputs.night.facts
    starts = facts.liked.start[: facts.n_teachers + 1]
    user = np.repeat(np.arange(facts.n_teachers), np.diff(starts))
    video = facts.liked.value[: starts[-1]]
    order = np.argsort(video, kind="stable")
    start = np.searchsorted(video[order], np.arange(len(inputs.night.video_id) + 1))
    return [user[order[start[v] : start[v + 1]]] for v in range(len(inputs.night.video_id))]


def _difference(published: Sequence[Row], rows: Sequence[Row], tolerance: float) -> str | None:
    """The first row that differs; None if all are the same."""
    for other, row in zip(published, rows, strict=False):
        close = abs(other.similarity - row.similarity) <= tolerance * max(1.0, abs(row.similarity))
        if not close or other._replace(similarity=0.0) != row._replace(similarity=0.0):
            return f"published {_words(other)}, recomputed {_words(row)}"
    if len(published) != len(rows):
        return f"published {len(published)} rows, recomputed {len(rows)}"
    return None


def _words(row: Row) -> str:
    return (
        f"{row.kind} {row.rank} {row.similar_video_id} ({row.source}, {row.similarity:.6g},"
        f" {row.evidence_viewers} viewers, {row.evidence_modality})"
    )
