"""Whether a published list is the one that brute force gives, and what the gate says of that."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.core.array_types import Bools, Float64s, Int64s
from microrec.evaluation.gate import Result
from microrec.oracle import evidence, lists, sources
from microrec.oracle.inputs import ListInputs, Stored
from microrec.oracle.lists import Row
from microrec.oracle.sources import Told

GATE = "oracle"
SHOWN = 5
"""Users that are named."""
ERRORS = 2.0
"""Standard errors by which recall must be below what is asked before it counts as too low."""


@dataclass(frozen=True)
class Published:
    """A place of a published list."""

    rank: int
    video_id: str
    score: float
    source: str
    source_rank: int | None
    propensity: float
    evidence_video_id: str | None = None
    evidence_viewers: int | None = None
    evidence_trend: int | None = None
    evidence_modality: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What came out."""

    differences: Mapping[str, str]
    """In words, by user_id of those who differ."""
    n_users: int
    n_unlike: Mapping[str, int]
    """By source: users whose stored list is not what the artefact says."""
    recall: Mapping[str, Float64s] = field(default_factory=dict)
    """By source that searches an index: share of the exact list that each user's stored list holds."""


def drawn(user_ids: Iterable[str], n: int, rng: np.random.Generator) -> list[str]:
    """At most n of the users, in order.

    Args:
        user_ids: may repeat.
        n: how many.
        rng: draws them.
    """
    every = sorted(set(user_ids))
    some = rng.choice(len(every), min(n, len(every)), replace=False)
    return [every[at] for at in np.sort(some)]


def check(night: ListInputs, published: pa.Table, user_ids: Sequence[str]) -> Verdict:
    """Compare the lists of some users.

    Args:
        night: what they are made of.
        published: `recommendations` of the day.
        user_ids: whose.
    """
    rungs = lists.ladder(night)
    near = lists.clusters(night.alike, night.rules.diversity.collapse, n_videos=len(night.video_id))
    users = [night.user_idx[user_id] for user_id in user_ids if user_id in night.user_idx]
    settled, unlike, recall = settle(night, users)
    found = rows_of(published, user_ids)
    places = {video_id: video for video, video_id in enumerate(night.video_id)}
    differences = {}
    for user_id in user_ids:
        user = night.user_idx.get(user_id)
        nothing: Iterable[list[Row]] = [[]]
        mine = variants(night, user, settled[user], rungs, near) if user is not None else nothing
        words = first_difference(found[user_id], mine, night)
        if words is None and user is not None:
            words = first_doubt(night, user, found[user_id], places)
        if words is not None:
            differences[user_id] = words
    return Verdict(differences, len(user_ids), unlike, recall)


def settle(
    night: ListInputs, users: Sequence[int]
) -> tuple[dict[int, dict[str, Stored]], dict[str, int], dict[str, Float64s]]:
    """The lists of all sources of some users, how many stored ones by source are not theirs, and recalls.

    A source that searches an index may have missed videos: its list is the stored one, if that is true.
    """
    found: dict[int, dict[str, Stored]] = {user: {} for user in users}
    unlike = dict.fromkeys([*night.models, *night.rankers], 0)
    shares: dict[str, list[float]] = {source: [] for source in night.searched}
    for source in night.models:
        for user in users:
            said = sources.told(night, source, user).allowed(sources.unseen(night.facts, user))
            stored = night.stored[source].get(user)
            searched = source in night.searched
            found[user][source], same = sources.settle(
                said, stored, night.rules.depth, searched=searched
            )
            unlike[source] += not same
            if searched:
                share = (
                    sources.recall(said, found[user][source], night.rules.depth) if same else 0.0
                )
                shares[source].append(share)
    proposed = {user: _union(found[user].values()) for user in users}
    for source in night.rankers:
        for user, said in _ranked(night, source, proposed).items():
            stored = night.stored[source].get(user)
            found[user][source], same = sources.settle(said, stored, night.rules.depth)
            unlike[source] += not same
    return found, unlike, {source: np.array(some) for source, some in shares.items()}


def variants(
    night: ListInputs, user: int, settled: lists.Lists, rungs: Mapping[int, str], near: list[int]
) -> Iterator[list[Row]]:
    """What a user's list may be: the same again where the random number is not at the border of two videos."""
    rules = night.rules
    k, varied, explored = rules.k, rules.diversity, rules.exploration
    depth = varied.pool * k if varied.active else k
    rows = lists.fill(settled, night, user, rungs, depth)
    if varied.active:
        rows = lists.vary(rows, night, near)
    if not explored.places:
        yield rows
        return
    step = rules.oracle.tolerance * explored.places
    uniform = float(night.uniform[user])
    for one in (uniform, max(uniform - step, 0.0), min(uniform + step, np.nextafter(1.0, 0.0))):
        yield lists.explore(rows, night, user, one)


def first_difference(
    published: Sequence[Published], wanted: Iterable[list[Row]], night: ListInputs
) -> str | None:
    """Where a list first differs from the first it may be, in words; None if it is one of them."""
    words = []
    for rows in wanted:
        words.append(difference(published, rows, night))
        if words[-1] is None:
            return None
    return words[0]


def first_doubt(
    night: ListInputs, user: int, published: Sequence[Published], places: Mapping[str, int]
) -> str | None:
    """The first claim of a right list that is not true, in words; None if all are.

    Args:
        night: what it is made of.
        user: user_idx.
        published: its rows.
        places: video_idx by video_id.
    """
    for one in published:
        words = evidence.doubt(night, user, places[one.video_id], one)
        if words is not None:
            return f"rank {one.rank}: {one.video_id} from {one.source} with {words}"
    return None


def difference(
    published: Sequence[Published], rows: Sequence[Row], night: ListInputs
) -> str | None:
    """Where a published list first differs, in words; None if it does not.

    Args:
        published: in the order of the ranks.
        rows: what it should be.
        night: has the ids and the tolerance.
    """
    tolerance = night.rules.oracle.tolerance
    for rank, row in enumerate(rows, start=1):
        video_id = night.video_id[row.video]
        said = f"recomputed {video_id} ({_words(row)})"
        if rank > len(published):
            return f"rank {rank}: published nothing, {said}"
        one = published[rank - 1]
        same = (rank, video_id, row.source, row.source_rank, float(np.float32(row.score))) == (
            one.rank,
            one.video_id,
            one.source,
            one.source_rank,
            one.score,
        )
        close = abs(one.propensity - row.propensity) <= tolerance * row.propensity
        if not (same and close):
            return f"rank {one.rank}: published {one.video_id} ({_words(one)}), {said}"
    if len(published) > len(rows):
        one = published[len(rows)]
        return f"rank {one.rank}: published {one.video_id} ({_words(one)}), recomputed nothing"
    return None


def result(verdict: Verdict) -> Result:
    """The verdict as a gate of severity hold."""
    n = verdict.n_users
    agree = n - len(verdict.differences)
    share = agree / n if n else None
    unlike = {source: count for source, count in verdict.n_unlike.items() if count}
    words = [f"published lists that brute force gives too: {agree} of {n} users, all asked"]
    first = list(verdict.differences.items())[:SHOWN]
    words += [f"user {user_id} {difference}" for user_id, difference in first]
    if unlike:
        words.append(f"stored lists of a source that are not what its artefact says: {unlike}")
    status = "pass" if n and agree == n else "fail"
    return Result(GATE, "hold", status, share, 1.0, "; ".join(words))


def recalled(verdict: Verdict, least: float) -> list[Result]:
    """Gates of severity hold for the sources that search an index: failed where they surely find too little.

    Args:
        verdict: what came out.
        least: share of the exact lists that must be found.
    """
    results = []
    for source, shares in sorted(verdict.recall.items()):
        n = len(shares)
        mean = float(shares.mean()) if n else 0.0
        error = float(shares.std(ddof=1)) / n**0.5 if n > 1 else 0.0
        status = "pass" if n and mean + ERRORS * error >= least else "fail"
        words = f"share of the exact lists of {n} users that the index of {source} found, +- {error:.4f}"
        results.append(Result(f"recall_{source}", "hold", status, mean, least, words))
    return results


def rows_of(published: pa.Table, user_ids: Sequence[str]) -> dict[str, list[Published]]:
    """The rows of some users, in the order of their ranks."""
    wanted = pc.is_in(published["user_id"], value_set=pa.array(user_ids, pa.string()))
    columns = list(Published.__dataclass_fields__)
    found: dict[str, list[Published]] = {user_id: [] for user_id in user_ids}
    for row in published.filter(wanted).select(["user_id", *columns]).to_pylist():
        found[row.pop("user_id")].append(Published(**row))
    return {user_id: sorted(rows, key=lambda row: row.rank) for user_id, rows in found.items()}


def _union(of_sources: Iterable[Stored]) -> Int64s:
    return np.unique(np.concatenate([np.empty(0, np.int64), *(one.video for one in of_sources)]))


def _ranked(night: ListInputs, source: str, proposed: Mapping[int, Int64s]) -> dict[int, Told]:
    """What a ranking model says of what the models propose, by user."""
    pairs = [(user, video) for user, some in proposed.items() for video in some.tolist()]
    users, videos = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    scores = night.rankers[source](users, videos) if pairs else np.empty(0)
    ends = np.cumsum([len(some) for some in proposed.values()])[:-1]
    found = {}
    for (user, some), mine in zip(proposed.items(), np.split(scores, ends), strict=True):
        score: Float64s = np.zeros(len(night.video_id))
        there: Bools = np.zeros(len(night.video_id), dtype=np.bool_)
        score[some], there[some] = mine, True
        slack = night.rules.oracle.network_tolerance * (1.0 + np.abs(score))
        found[user] = Told(score, slack, must=there, may=there)
    return found


def _words(row: Row | Published) -> str:
    place = "" if row.source_rank is None else f" {row.source_rank}"
    chance = "" if row.propensity == 1 else f", propensity {row.propensity:.6g}"
    return f"{row.source}{place}, score {row.score:.6g}{chance}"
