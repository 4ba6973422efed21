"""From the sources' lists of a user to the final one: points or chances, ladder, variety, exploration."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from microrec.candidates.lists.fill import EXPLORED
from microrec.candidates.lists.ladder import RUNGS
from microrec.candidates.lists.unprofiled import SOURCE
from microrec.core.array_types import Float64s
from microrec.core.fitted import Embeddings
from microrec.oracle.inputs import LEVELS, ListInputs, Rules, Stored, Vectors
from microrec.oracle.sources import unseen

TIE = 1e-12
"""Share of a learned chance that is taken off for each rank, so that equal ones stay in order."""
EVERYBODYS = ("trend", "popular", "fresh", "catalogue")
"""Rungs of the list of everybody whom nobody knows, in their order."""
LEAST = 1e-6
"""A learned chance is at least this."""
LEAST_POINTS = 1e-4
"""Points of the closed form, where a learned chance starts from them, are at least this."""
MOST_HISTORY = 50.0
SURE = 1.0 - 1e-9
"""A chance from here on is 1."""
EXACT_UP_TO = 100_000
"""Of more videos only neighbours of `modality_edges` may be near-duplicates."""
BLOCK = 256
"""Videos that are compared with all earlier ones at a time."""

Lists = Mapping[str, Stored]
"""The sources' lists of one user, by name."""


class Proposal(NamedTuple):
    """What the sources together give a video."""

    points: float
    """The sum."""
    most: float
    """The greatest share of it, ..."""
    source: str
    """... whose it is, the first by name of equals, ..."""
    rank: int
    """... and where that source has the video."""


@dataclass(frozen=True)
class Row:
    """A row of a list."""

    video: int
    score: float
    source: str
    source_rank: int | None = None
    propensity: float = 1.0


def ladder(night: ListInputs, order: Sequence[str] = RUNGS) -> dict[int, str]:
    """Return the rung of every eligible video, in the order in which they fill a list.

    Args:
        night: what the night knows and its recipe.
        order: of the rungs.

    Returns:
        Name of the rung by video_idx.
    """
    facts, config = night.facts, night.rules.ladder
    may = [video for video, eligible in enumerate(facts.eligible) if eligible]
    likers, last = facts.likers.tolist(), facts.last_likers.tolist()
    age = facts.age_days.tolist()
    dated = [video for video in may if not math.isnan(age[video])]
    trend = sorted((v for v in may if last[v]), key=lambda v: (-last[v], -likers[v], v))
    fresh = sorted(dated, key=lambda v: (age[v], -likers[v], v))
    popular = sorted((v for v in may if likers[v]), key=lambda v: (-likers[v], -last[v], v))
    lists = {
        "trend": trend[: config.trend_length],
        "fresh": fresh[: config.fresh_length],
        "popular": popular,
        "catalogue": may,
    }
    rung_of: dict[int, str] = {}
    for rung in order:
        for video in lists[rung]:
            rung_of.setdefault(video, rung)
    return rung_of


def without_profiling(night: ListInputs, user_id: str, everyones: Iterable[int]) -> list[Row]:
    """Return the list of somebody who wants no profiling: that of everybody, without what is not shown to them.

    Args:
        night: has what they have blocked.
        user_id: who.
        everyones: video_idx in the order in which they fill the list of everybody.

    Returns:
        At most k rows in the order of their ranks.
    """
    barred = night.unprofiled[user_id]
    listed = [video for video in everyones if video not in barred][: night.rules.k]
    return [Row(video, -float(rank), SOURCE) for rank, video in enumerate(listed, start=1)]


def clusters(vectors: Vectors, collapse: float | None, edges: pa.Table) -> list[int]:
    """Return the video that each video nearly duplicates.

    Args:
        vectors: of the videos.
        collapse: similarity from which on two videos are near-duplicates; None: none are.
        edges: `modality_edges` of the day; of a large catalogue only neighbours are compared.

    Returns:
        By video_idx the first earlier video that it nearly duplicates and that duplicates none; else itself.
    """
    n_videos = len(vectors.unit)
    duplicate_of = list(range(n_videos))
    if collapse is None or not vectors.n_modalities:
        return duplicate_of
    for video, others in _near(vectors, collapse, edges):
        firsts = (other for other in others if duplicate_of[other] == other)
        duplicate_of[video] = next(firsts, video)
    return duplicate_of


def _near(vectors: Vectors, collapse: float, edges: pa.Table) -> Iterator[tuple[int, list[int]]]:
    """Yield each video with the earlier ones it nearly duplicates, ascending."""
    n_videos, least = len(vectors.unit), np.float32(np.rint(collapse * LEVELS) / LEVELS)
    if n_videos <= EXACT_UP_TO:
        for start in range(0, n_videos, BLOCK):
            stop = min(start + BLOCK, n_videos)
            is_near = vectors.similarity(slice(start, stop), slice(0, stop)) >= least
            for video in range(start, stop):
                yield video, np.flatnonzero(is_near[video - start, :video]).tolist()
        return
    earlier: dict[int, set[int]] = {video: set() for video in range(n_videos)}
    for one, other in zip(
        edges["video_idx"].to_pylist(), edges["neighbour_idx"].to_pylist(), strict=True
    ):
        earlier[max(one, other)].add(min(one, other))
    for video, linked in earlier.items():
        others = np.array(sorted(linked - {video}), dtype=np.int64)
        is_near = vectors.similarity(np.array([video]), others)[0] >= least
        yield video, others[is_near].tolist()


def fuse(lists: Lists, history: int, rules: Rules) -> dict[int, Proposal]:
    """Return what the sources together give each video, added in the order of their names.

    Args:
        lists: the sources' lists of one user.
        history: positive videos of the user.
        rules: the recipe.

    Returns:
        Points by video_idx.
    """
    proposals: dict[int, Proposal] = {}
    for source in sorted(lists):
        weight = _weight(source, history, rules)
        for rank, video in enumerate(lists[source].video.tolist(), start=1):
            given = weight / (rules.blend.c + rank)
            if video not in proposals:
                proposals[video] = Proposal(0.0 + given, given, source, rank)
                continue
            before = proposals[video]
            points = before.points + given
            if given > before.most:
                proposals[video] = Proposal(points, given, source, rank)
            else:
                proposals[video] = before._replace(points=points)
    return proposals


def chances(lists: Lists, night: ListInputs, user: int) -> dict[int, float]:
    """Return the learned chance of each video that has one of the first places.

    Args:
        lists: the sources' lists of the user.
        night: has the trees.
        user: user_idx.

    Returns:
        Chance by video_idx, less a share for the rank; empty without trees.
    """
    if night.learned is None:
        return {}
    videos = sorted({video for stored in lists.values() for video in stored.video.tolist()})
    if not videos:
        return {}
    by_name = features(lists, videos, night, user)
    names = night.learned.trees.feature_name()
    values = np.stack([by_name[name] for name in names], axis=1).astype(np.float32)
    closed = by_name["closed_form"].astype(np.float32).tolist()
    log_points = np.log([max(points, LEAST_POINTS) for points in closed])
    raised = np.asarray(night.learned.trees.predict(values, raw_score=True))
    log_odds = night.learned.offset + night.learned.slope * log_points + raised
    chance = np.maximum(1.0 / (1.0 + np.exp(-log_odds)), LEAST).tolist()
    order = sorted((-chance[at], -closed[at], videos[at]) for at in range(len(videos)))
    first = enumerate(order[: night.rules.depth], start=1)
    # The table holds the chance as float32.
    return {
        video: float(np.float32(-less)) * (1.0 - TIE * rank) for rank, (less, _, video) in first
    }


def features(lists: Lists, videos: list[int], night: ListInputs, user: int) -> dict[str, Float64s]:
    """Return what the trees read of each video.

    Args:
        lists: of the user.
        videos: whatever some list has, ascending.
        night: what is known of the videos.
        user: user_idx.

    Returns:
        Values by name of the feature, [n_videos listed] each.
    """
    facts = night.facts
    history = len(facts.liked.of(user))
    features: dict[str, Float64s] = {}
    closed = [0.0] * len(videos)
    for source in sorted(lists):
        listed = lists[source]
        weight = _weight(source, history, night.rules)
        points = {
            v: 1.0 / (night.rules.blend.c + at) for at, v in enumerate(listed.video.tolist(), 1)
        }
        scores = dict(zip(listed.video.tolist(), standard(listed.score.tolist()), strict=True))
        least = min([0.0, *scores.values()])
        given = [points.get(video, 0.0) for video in videos]
        closed = [total + weight * points_ for total, points_ in zip(closed, given, strict=True)]
        features[f"points_{source}"] = np.array(given)
        features[f"score_{source}"] = np.array([scores.get(video, least) for video in videos])
    features["closed_form"] = np.array(closed)
    features["history"] = np.full(len(videos), min(float(history), MOST_HISTORY))
    return features | {name: values[videos] for name, values in facts.video_features.items()}


def standard(scores: list[float]) -> list[float]:
    """Return scores as z-scores; all 0 where they are equal."""
    if not scores:
        return []
    mean = sum(scores) / len(scores)
    spread = math.sqrt(sum((s - mean) * (s - mean) for s in scores) / len(scores))
    return [(s - mean) / (spread or 1.0) for s in scores]


def personal(lists: Lists, night: ListInputs, user: int) -> list[Row]:
    """Return what the sources propose to a user and may be shown, in order.

    Args:
        lists: of the user.
        night: what is known.
        user: user_idx.

    Returns:
        Rows, best first.
    """
    proposals = fuse(lists, len(night.facts.liked.of(user)), night.rules)
    points = {video: proposal.points for video, proposal in proposals.items()}
    if night.learned is not None:
        points = chances(lists, night, user)
    allowed = unseen(night.facts, user)
    order = sorted((-p, video) for video, p in points.items() if p > 0 and allowed[video])
    return [
        Row(video, -less, proposals[video].source, proposals[video].rank) for less, video in order
    ]


def fill(lists: Lists, night: ListInputs, user: int, rungs: Mapping[int, str], n: int) -> list[Row]:
    """Return the n best videos of a user: what the sources propose, then the ladder.

    Args:
        lists: of the user.
        night: what is known.
        user: user_idx.
        rungs: the ladder.
        n: most rows.

    Returns:
        Rows in the order of their ranks.
    """
    allowed = unseen(night.facts, user)
    rows = personal(lists, night, user)
    listed = {row.video for row in rows}
    for position, (video, rung) in enumerate(rungs.items(), start=1):
        if len(rows) >= n:
            break
        if allowed[video] and video not in listed:
            rows.append(Row(video, -float(position), rung))
    return rows[:n]


def vary(pool: list[Row], night: ListInputs) -> list[Row]:
    """Pick a list out of a longer one, place by place.

    Args:
        pool: in the order of the ranks.
        night: what is known of the videos.

    Returns:
        At most k rows, no score above the one before.
    """
    config, k = night.rules.diversity, night.rules.k
    worth = relevance(pool)
    videos = np.array([row.video for row in pool], dtype=np.int64)
    nearest = [0.0] * len(pool)  # how much a video is like the most alike one that is taken
    taken: list[int] = []
    may = list(range(len(pool)))

    def value(at: int) -> tuple[float, int]:
        personal = worth[at]
        if personal is None:
            return -2.0 - at, -at
        return config.relevance * personal - (1.0 - config.relevance) * nearest[at], -at

    while len(taken) < k and may:
        best = max(may, key=value)
        video, author = pool[best].video, night.author[pool[best].video]
        taken.append(best)
        by_author = sum(night.author[pool[at].video] == author for at in taken)
        full = author is not None and by_author >= (config.author_cap or k)
        similarity = night.vectors.similarity(np.array([video]), videos)[0].tolist()
        nearest = [max(before, now) for before, now in zip(nearest, similarity, strict=True)]
        may = [
            at
            for at in may
            if at != best
            and not (full and night.author[pool[at].video] == author)
            and not (
                config.collapse is not None
                and night.cluster[pool[at].video] == night.cluster[video]
            )
        ]
    left = sorted(set(range(len(pool))) - set(taken))
    return falling([pool[at] for at in [*taken, *left][:k]])


def relevance(pool: list[Row]) -> list[float | None]:
    """Return published scores from 0, the least, to 1, the greatest.

    Args:
        pool: rows of a list.

    Returns:
        A number a row, equal for equal scores; None for a score of 0 or less.
    """
    scores = [float(np.float32(row.score)) for row in pool]
    personal = [score for score in scores if score > 0]
    low, high = min(personal, default=0.0), max(personal, default=0.0)
    spread = (high - low) or 1.0
    equal = 1.0 if high == low else 0.0
    return [(score - low) / spread + equal if score > 0 else None for score in scores]


def explore(rows: list[Row], night: ListInputs, user: int, uniform: float) -> list[Row]:
    """Return the list with new videos at some of its places.

    Args:
        rows: the list.
        night: what is new, and what is known of it.
        user: user_idx.
        uniform: the user's random number, 0 <= u < 1.

    Returns:
        At most k rows, no score above the one before.
    """
    config, k = night.rules.exploration, night.rules.k
    if uniform >= night.explored_share:
        return falling(rows[:k])
    excluded = {*night.facts.barred.of(user).tolist(), *(row.video for row in rows)}
    may = [video for video in night.new.tolist() if video not in excluded]
    affinity = closeness(night, user)[may]
    worth = by_place(affinity.tolist(), config.sharpness)
    chance = inclusion(worth, min(config.places, k), config.uniform_share)
    drawn = sorted(
        draw(chance, uniform / night.explored_share), key=lambda place: (-affinity[place], place)
    )
    n = min(len(drawn), k)
    length = min(len(rows) + n, k)
    at = {min((i + 1) * config.every, length - n + 1 + i): drawn[i] for i in range(n)}
    top = rows[0].score if rows else -1.0
    rest = iter(rows)
    placed = [
        Row(may[at[rank]], top, EXPLORED, None, night.explored_share * float(chance[at[rank]]))
        if rank in at
        else next(rest)
        for rank in range(1, length + 1)
    ]
    return falling(placed)


def closeness(night: ListInputs, user: int) -> Float64s:
    """Return how near every video is to a user, by the source that the exploration asks.

    Args:
        night: has the model, if it has that source.
        user: user_idx.

    Returns:
        At least 0; all 0 without a model of vectors. [n_videos]
    """
    model = night.models.get(night.rules.exploration.source)
    if not isinstance(model, Embeddings):
        return np.zeros(len(night.video_id))
    vector = model.user[user].astype(np.float64)
    score = night.exact[night.rules.exploration.source] @ vector
    return np.asarray(np.maximum(score, 0.0).astype(np.float32), dtype=np.float64)


def by_place(affinity: Sequence[float], sharpness: float) -> Float64s:
    """Return what places by affinity are worth: place^-sharpness, equal ones as much as they have on the average.

    Args:
        affinity: of the user to each; 0 where there is none. [n_new]
        sharpness: power.

    Returns:
        0 where the affinity is. [n_new]
    """
    shared: dict[float, list[float]] = {}
    for place, value in enumerate(sorted(affinity, reverse=True), start=1):
        shared.setdefault(value, []).append(place**-sharpness)
    means = {value: sum(each) / len(each) if value > 0 else 0.0 for value, each in shared.items()}
    return np.array([means[value] for value in affinity])


def inclusion(affinity: Float64s, places: int, uniform_share: float) -> Float64s:
    """Return the chance of each new video to be shown: sure ones get their places first, the likeliest before others.

    Args:
        affinity: what the place of each by affinity is worth. [n_new]
        places: to give away.
        uniform_share: of the chance that is the same for all.

    Returns:
        Chances [n_new], 0..1.
    """
    chance = np.zeros(len(affinity))
    undecided = np.ones(len(affinity), dtype=np.bool_)
    left = min(places, len(affinity))
    total = affinity.sum()
    by_affinity = affinity / total if total > 0 else affinity
    size = uniform_share / max(len(affinity), 1) + (1.0 - uniform_share) * by_affinity
    while left:
        whole = size[undecided].sum()
        likeliest = int(np.argmax(np.where(undecided, size, -1.0)))
        if left * size[likeliest] / whole < SURE:
            return np.where(undecided, left * size / whole, chance)
        chance[likeliest] = 1.0
        undecided[likeliest] = False
        left -= 1
    return chance


def draw(chance: Float64s, uniform: float) -> list[int]:
    """Draw the new videos that are shown.

    The chances below 1 are laid end to end; drawn are the videos that lie under u, u + 1, ..., and the sure ones.

    Args:
        chance: [n_new]
        uniform: u

    Returns:
        Positions among the new videos, ascending.
    """
    sure = chance >= SURE
    line = np.cumsum(np.where(sure, 0.0, chance))
    drawn = set(np.flatnonzero(sure).tolist())
    n = round(float(line[-1])) if len(line) else 0
    for number in range(n):
        passed = (line > uniform + number) | (line >= n - (1.0 - SURE))
        drawn.add(int(np.argmax(passed)))
    return sorted(drawn)


def falling(rows: list[Row]) -> list[Row]:
    """Return the same rows, each score lowered to that of the row before where it is above it."""
    least = float("inf")
    lowered = []
    for row in rows:
        least = min(least, row.score)
        lowered.append(replace(row, score=least))
    return lowered


def _weight(source: str, history: int, rules: Rules) -> float:
    """What a source counts for a user of so many positive videos."""
    chosen = rules.blend.weights.get(source, rules.blend.other)
    warmth = history / (history + rules.blend.kappa)
    return chosen.warm * warmth + chosen.cold * (1.0 - warmth)
