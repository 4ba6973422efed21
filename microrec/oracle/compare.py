"""Compare published lists with those that brute force gives, and make gates of the result."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.core.array_types import Bools, Float64s, Int64s
from microrec.evaluation.gate import Result
from microrec.oracle import evidence, lists, sources
from microrec.oracle.inputs import NOTHING, ListInputs, Stored
from microrec.oracle.lists import Row
from microrec.oracle.sources import SourceScores

GATE = "oracle"
SHOWN = 5
"""Users that are named."""
ERRORS = 2.0
"""Standard errors by which recall must be below what is asked before it counts as too low."""


@dataclass(frozen=True)
class Published:
    """A row of a published list."""

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
    """How the published lists compare with those of brute force."""

    differences: Mapping[str, str]
    """Descriptions by user_id of those who differ."""
    n_users: int
    n_unlike: Mapping[str, int]
    """By source: users whose stored list is not what the artefact says."""
    recall: Mapping[str, Float64s] = field(default_factory=dict)
    """By source that searches an index: share of the exact list that each user's stored list holds."""
    settled: Mapping[int, lists.Lists] = field(default_factory=dict)
    """The sources' lists by user_idx, recomputed."""


def draw_users(user_ids: Iterable[str], n: int, rng: np.random.Generator) -> list[str]:
    """Draw at most n of the users.

    Args:
        user_ids: may repeat.
        n: how many.
        rng: draws them.

    Returns:
        Different user_ids, ascending.
    """
    ids = sorted(set(user_ids))
    positions = rng.choice(len(ids), min(n, len(ids)), replace=False)
    return [ids[position] for position in np.sort(positions)]


def check(night: ListInputs, published: pa.Table, user_ids: Sequence[str]) -> Verdict:
    """Compare the published lists of some users with those that brute force gives.

    Args:
        night: what the lists are made of.
        published: `recommendations` of the day.
        user_ids: users to compare.

    Returns:
        Who differs and where, and how the stored lists of the sources fare.
    """
    rungs = lists.ladder(night)
    for_all = lists.ladder(night, lists.EVERYBODYS)
    users = [night.user_idx[user_id] for user_id in user_ids if user_id in night.user_idx]
    settled, unlike, recall = settle(night, users)
    rows = rows_of(published, user_ids)
    video_idx = {video_id: video for video, video_id in enumerate(night.video_id)}
    differences = {}
    for user_id in user_ids:
        user = night.user_idx.get(user_id)
        possible: Iterable[list[Row]] = [[]]
        if user_id in night.unprofiled:
            possible = [lists.without_profiling(night, user_id, for_all)]
        if user is not None:
            possible = possible_lists(night, user, settled[user], rungs)
        text = first_difference(rows[user_id], possible, night)
        if text is None and user is not None:
            text = first_false_evidence(night, user, rows[user_id], video_idx)
        if text is None and user is None:
            text = first_evidence(rows[user_id])
        if text is not None:
            differences[user_id] = f"{_label(night, user_id)} {text}"
    return Verdict(differences, len(user_ids), unlike, recall, settled)


def settle(
    night: ListInputs, users: Sequence[int]
) -> tuple[dict[int, dict[str, Stored]], dict[str, int], dict[str, Float64s]]:
    """Recompute the lists of all sources of some users, ties told apart as the stored ones tell them.

    A source that searches an index may have missed videos: its list is the stored one, if that is true.

    Args:
        night: what the lists are made of.
        users: user_idx.

    Returns:
        Lists by user_idx and source; by source how many stored lists are not what the artefact says; by source that
        searches an index the recall of each user's stored list [n_users].
    """
    lists_of: dict[int, dict[str, Stored]] = {user: {} for user in users}
    unlike = dict.fromkeys(night.stored, 0)
    shares: dict[str, list[float]] = {source: [] for source in night.searched}
    for source in night.models:
        for user in users:
            allowed = sources.unseen(night.facts, user)
            scored = sources.score_videos(night, source, user).allowed(allowed)
            stored = night.stored[source].get(user)
            searched = source in night.searched
            lists_of[user][source], same = sources.settle(
                scored, stored, night.rules.depth, searched=searched
            )
            unlike[source] += not same
            if searched:
                recall = sources.recall(scored, lists_of[user][source], night.rules.depth)
                shares[source].append(recall if same else 0.0)
    proposed = {user: _union(lists_of[user].values()) for user in users}
    for source in night.rankers:
        for user, scored in _ranked(night, source, proposed).items():
            stored = night.stored[source].get(user)
            lists_of[user][source], same = sources.settle(scored, stored, night.rules.depth)
            unlike[source] += not same
    for source in night.stored.keys() - night.models.keys() - night.rankers.keys():
        for user in users:  # a ranker that has nothing to say
            lists_of[user][source] = NOTHING
            unlike[source] += user in night.stored[source]
    return lists_of, unlike, {source: np.array(values) for source, values in shares.items()}


def possible_lists(
    night: ListInputs, user: int, settled: lists.Lists, rungs: Mapping[int, str]
) -> Iterator[list[Row]]:
    """Yield the lists a user may have: one, or three where the random number may lie on either side of a border.

    Args:
        night: what the list is made of.
        user: user_idx.
        settled: the sources' lists of the user.
        rungs: of `lists.ladder`.

    Yields:
        A list in the order of its ranks.
    """
    rules, k = night.rules, night.rules.k
    varied, explored = rules.diversity, rules.exploration
    depth = varied.pool * k if varied.active else k
    rows = lists.fill(settled, night, user, rungs, depth)
    if varied.active:
        rows = lists.vary(rows, night)
    if not explored.places:
        yield rows
        return
    step = rules.oracle.tolerance * explored.places
    uniform = float(night.uniform[user])
    below, above = max(uniform - step, 0.0), min(uniform + step, np.nextafter(1.0, 0.0))
    for number in (uniform, below, above):
        yield lists.explore(rows, night, user, number)


def first_difference(
    published: Sequence[Published], possible: Iterable[list[Row]], night: ListInputs
) -> str | None:
    """Describe where a published list differs from the lists it may be.

    Args:
        published: in the order of the ranks.
        possible: the lists it may be, the likeliest first.
        night: has the ids and the tolerance.

    Returns:
        The first difference from the first of them; None if the list is one of them.
    """
    differences = []
    for rows in possible:
        differences.append(difference(published, rows, night))
        if differences[-1] is None:
            return None
    return differences[0]


def first_false_evidence(
    night: ListInputs, user: int, published: Sequence[Published], video_idx: Mapping[str, int]
) -> str | None:
    """Describe the first row of a right list whose evidence is not true.

    Args:
        night: what the list is made of.
        user: user_idx.
        published: its rows.
        video_idx: by video_id.

    Returns:
        The rank, the video and the claim; None if all evidence is true.
    """
    for row in published:
        text = evidence.false_evidence(night, user, video_idx[row.video_id], row)
        if text is not None:
            return f"rank {row.rank}: {row.video_id} from {row.source} with {text}"
    return None


def first_evidence(published: Sequence[Published]) -> str | None:
    """Describe the first row of a list without profiling that has evidence all the same.

    Args:
        published: its rows.

    Returns:
        The rank and the video; None if no row has any.
    """
    for row in published:
        if (row.evidence_video_id, row.evidence_viewers, row.evidence_trend) != (None, None, None):
            return f"rank {row.rank}: {row.video_id} has evidence"
    return None


def difference(
    published: Sequence[Published], rows: Sequence[Row], night: ListInputs
) -> str | None:
    """Describe where a published list first differs from another.

    Args:
        published: in the order of the ranks.
        rows: what it should be.
        night: has the ids and the tolerance.

    Returns:
        The rank, the published and the recomputed row; None if the lists are equal.
    """
    tolerance = night.rules.oracle.tolerance
    for rank, row in enumerate(rows, start=1):
        video_id = night.video_id[row.video]
        recomputed = f"recomputed {video_id} ({_describe(row)})"
        if rank > len(published):
            return f"rank {rank}: published nothing, {recomputed}"
        other = published[rank - 1]
        same = (rank, video_id, row.source, row.source_rank, float(np.float32(row.score))) == (
            other.rank,
            other.video_id,
            other.source,
            other.source_rank,
            other.score,
        )
        close = abs(other.propensity - row.propensity) <= tolerance * row.propensity
        if not (same and close):
            return (
                f"rank {other.rank}: published {other.video_id} ({_describe(other)}), {recomputed}"
            )
    if len(published) > len(rows):
        other = published[len(rows)]
        return f"rank {other.rank}: published {other.video_id} ({_describe(other)}), recomputed nothing"
    return None


def agreement_gate(verdict: Verdict) -> Result:
    """Return the verdict as a gate of severity hold: passed if every user agrees.

    Args:
        verdict: what the comparison found.
    """
    n = verdict.n_users
    agree = n - len(verdict.differences)
    share = agree / n if n else None
    unlike = {source: count for source, count in verdict.n_unlike.items() if count}
    details = [f"published lists that brute force gives too: {agree} of {n} users, all asked"]
    details += list(verdict.differences.values())[:SHOWN]
    if unlike:
        details.append(f"stored lists of a source that are not what its artefact says: {unlike}")
    status = "pass" if n and agree == n else "fail"
    return Result(GATE, "hold", status, share, 1.0, "; ".join(details))


def recall_gates(verdict: Verdict, least: float) -> list[Result]:
    """Judge how much the sources that search an index find.

    Args:
        verdict: what the comparison found.
        least: share of the exact lists that must be found.

    Returns:
        One gate of severity hold for each such source, in name order: failed where it surely finds too little.
    """
    results = []
    for source, shares in sorted(verdict.recall.items()):
        n = len(shares)
        mean = float(shares.mean()) if n else 0.0
        error = float(shares.std(ddof=1)) / n**0.5 if n > 1 else 0.0
        status = "pass" if n and mean + ERRORS * error >= least else "fail"
        detail = f"share of the exact lists of {n} users that the index of {source} found, +- {error:.4f}"
        results.append(Result(f"recall_{source}", "hold", status, mean, least, detail))
    return results


def rows_of(published: pa.Table, user_ids: Sequence[str]) -> dict[str, list[Published]]:
    """Return the published rows of some users.

    Args:
        published: rows of `recommendations`.
        user_ids: users wanted.

    Returns:
        Rows by user_id, in the order of their ranks; an empty list for a user without any.
    """
    wanted = pc.is_in(published["user_id"], value_set=pa.array(user_ids, pa.string()))
    columns = list(Published.__dataclass_fields__)
    rows_by_user: dict[str, list[Published]] = {user_id: [] for user_id in user_ids}
    for row in published.filter(wanted).select(["user_id", *columns]).to_pylist():
        rows_by_user[row.pop("user_id")].append(Published(**row))
    return {
        user_id: sorted(rows, key=lambda row: row.rank) for user_id, rows in rows_by_user.items()
    }


def _label(night: ListInputs, user_id: str) -> str:
    """Words for a user, never the id: the text is kept in `gate_results` and goes to a chat."""
    if user_id in night.unprofiled:
        return "a user without profiling:"
    user = night.user_idx.get(user_id)
    return "a user who is to have none:" if user is None else f"user_idx {user}"


def _union(of_sources: Iterable[Stored]) -> Int64s:
    """Every video that some list holds, ascending. [n_videos]."""
    return np.unique(
        np.concatenate([np.empty(0, np.int64), *(stored.video for stored in of_sources)])
    )


def _ranked(
    night: ListInputs, source: str, proposed: Mapping[int, Int64s]
) -> dict[int, SourceScores]:
    """Scores of a ranking model for what the models propose, by user_idx."""
    pairs = [(user, video) for user, videos in proposed.items() for video in videos.tolist()]
    users, videos = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    scores = night.rankers[source](users, videos) if pairs else np.empty(0)
    ends = np.cumsum([len(videos) for videos in proposed.values()])[:-1]
    scores_of = {}
    for (user, listed), values in zip(proposed.items(), np.split(scores, ends), strict=True):
        score: Float64s = np.zeros(len(night.video_id))
        is_listed: Bools = np.zeros(len(night.video_id), dtype=np.bool_)
        score[listed] = values
        is_listed[listed] = True
        slack = night.rules.oracle.network_tolerance * (1.0 + np.abs(score))
        scores_of[user] = SourceScores(score, slack, must=is_listed, may=is_listed)
    return scores_of


def _describe(row: Row | Published) -> str:
    rank = "" if row.source_rank is None else f" {row.source_rank}"
    chance = "" if row.propensity == 1 else f", propensity {row.propensity:.6g}"
    return f"{row.source}{rank}, score {row.score:.6g}{chance}"
