"""The lists of segments of some users again, one list at a time, and what differs from the published ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.candidates.lists.segments import POPULAR, Config
from microrec.evaluation.gate import Result
from microrec.oracle import lists
from microrec.oracle.inputs import ListInputs
from microrec.oracle.lists import EVERYBODYS, Lists, Row
from microrec.oracle.sources import unseen

GATE = "segment_lists"
SHOWN = 5
"""Users whose difference is told."""
LIKED = """
    SELECT surface, video_idx, count(*) AS n, sum(pow(0.5, least(($today - shown_on) // $half_life, 20))) AS weight
    FROM counts WHERE n_positive > 0 GROUP BY ALL
"""
"""By surface and video the user-days with positive feedback, and what they count."""


class PublishedRow(NamedTuple):
    """A row of `segment_recommendations`, beside its user."""

    segment: str
    rank: int
    video_id: str
    score: float
    source: str
    source_rank: int | None


@dataclass(frozen=True, eq=False)
class SegmentInputs:
    """What the lists of segments are made of, beside what lists of users are made of."""

    night: ListInputs
    config: Config
    weights: Mapping[str, Mapping[int, float]]
    """By segment, in the order of their names, what each of its eligible videos weighs."""
    shown: Mapping[str, frozenset[int]]
    """By segment of a surface, the user_idx of who was shown something there."""


def inputs(
    night: ListInputs, config: Config, counts: pa.Table, tagged: pa.Table, *, today: int
) -> SegmentInputs:
    """Arrange what the lists are made of.

    Args:
        night: what the lists of users are made of.
        config: of the segments.
        counts: `exposure_counts` of the day, shown_on in days since 1970.
        tagged: video_idx and tags.
        today: the day after the night's, in days since 1970.

    Returns:
        The segments that have lists, and who is on which surface.
    """
    surfaces = _surfaces(night, config, counts, today)
    met = dict.fromkeys(surfaces, frozenset[int]())
    for name in surfaces:
        on_it = counts.filter(pc.equal(counts["surface"], name.removeprefix("surface=")))
        met[name] = frozenset(on_it["user_idx"].to_pylist())
    return SegmentInputs(night, config, {**surfaces, **_tags(night, config, tagged)}, met)


def check(
    made_of: SegmentInputs,
    settled: Mapping[int, Lists],
    published: pa.Table,
    user_ids: Sequence[str],
) -> Result:
    """Compare the published lists of segments of some users with those that brute force gives.

    Args:
        made_of: what they are made of.
        settled: the sources' lists by user_idx, recomputed.
        published: `segment_recommendations` of the day.
        user_ids: users to compare; who is to have no list of their own has none of a segment.

    Returns:
        A gate of severity hold: passed if every user agrees.
    """
    night, differences = made_of.night, []
    wanted = published.filter(pc.is_in(published["user_id"], pa.array(user_ids, pa.string())))
    rows: dict[str, list[PublishedRow]] = {user_id: [] for user_id in user_ids}
    for row in wanted.select(["user_id", *PublishedRow._fields]).to_pylist():
        rows[row.pop("user_id")].append(PublishedRow(**row))
    for user_id in user_ids:
        user = night.user_idx.get(user_id)
        again = [] if user is None else recompute(made_of, settled[user], user)
        text = _difference(sorted(rows[user_id]), again)
        if text is not None:
            differences.append(
                f"{'a user who is to have none' if user is None else f'user_idx {user}'}: {text}"
            )
    n = len(user_ids)
    agree = n - len(differences)
    details = [f"users whose lists of segments brute force gives too: {agree} of {n}, all asked"]
    status = "pass" if agree == n else "fail"
    share = agree / n if n else 1.0
    return Result(GATE, "hold", status, share, 1.0, "; ".join(details + differences[:SHOWN]))


def recompute(made_of: SegmentInputs, settled: Lists, user: int) -> list[PublishedRow]:
    """Return the lists of segments of one user.

    Args:
        made_of: what they are made of.
        settled: the sources' lists of the user.
        user: user_idx.

    Returns:
        Rows by segment and rank.
    """
    night = made_of.night
    own = lists.personal(settled, night, user)
    place_of = {row.video: number for number, row in enumerate(own, start=1)}
    proposed = lists.fuse(settled, len(night.facts.liked.of(user)), night.rules)
    allowed = unseen(night.facts, user)
    everyones = list(lists.ladder(night, EVERYBODYS))
    rows: list[PublishedRow] = []
    for name in _of_user(made_of, user):
        pool = []
        for video in sorted(everyones, key=lambda video: -made_of.weights[name].get(video, 0.0)):
            if video in made_of.weights[name] and allowed[video]:
                score = made_of.weights[name][video] / (
                    made_of.config.offset + place_of.get(video, len(own) + 1)
                )
                proposal = proposed.get(video)
                source, rank = (
                    (POPULAR, None) if proposal is None else (proposal.source, proposal.rank)
                )
                pool.append(Row(video, score, source, rank))
        pool.sort(key=lambda row: -row.score)  # equal scores stay in the segment's order
        if night.rules.diversity.active:
            pool = lists.vary(pool[: night.rules.diversity.pool * night.rules.k], night)
        if len(pool) >= night.rules.k:
            rows += _published(night, name, pool[: night.rules.k])
    return rows


def _surfaces(
    night: ListInputs, config: Config, counts: pa.Table, today: int
) -> dict[str, dict[int, float]]:
    """Weights of the eligible videos of each surface that has lists."""
    with duckdb.connect() as session:
        session.register("counts", counts)
        bounds = {"today": today, "half_life": config.half_life_days}
        liked = session.execute(LIKED, bounds).fetchall()
    n_liked: dict[str, int] = {}
    weights: dict[str, dict[int, float]] = {}
    for surface, video, n, weight in liked:
        n_liked[surface] = n_liked.get(surface, 0) + n
        if night.facts.eligible[video]:
            weights.setdefault(surface, {})[video] = weight
    most = config.main_share * sum(n_liked.values())
    order = sorted(n_liked, key=lambda surface: (-n_liked[surface], surface))
    may = [surface for surface in order if surface and n_liked[surface] <= most]
    whole = [surface for surface in may if len(weights.get(surface, {})) >= night.rules.k]
    return {f"surface={surface}": weights[surface] for surface in sorted(whole[: config.surfaces])}


def _tags(night: ListInputs, config: Config, tagged: pa.Table) -> dict[str, dict[int, float]]:
    """The same of tags; all their videos weigh 1."""
    videos: dict[str, set[int]] = {}
    for row in tagged.to_pylist():
        for tag in row["tags"] or []:
            if night.facts.eligible[row["video_idx"]]:
                videos.setdefault(tag, set()).add(row["video_idx"])
    whole = [tag for tag, of_it in videos.items() if len(of_it) >= night.rules.k]
    likers = {tag: sum(int(night.facts.likers[video]) for video in videos[tag]) for tag in whole}
    chosen = sorted(whole, key=lambda tag: (-likers[tag], tag))[: config.tags]
    return {f"tag={tag}": dict.fromkeys(videos[tag], 1.0) for tag in sorted(chosen)}


def _of_user(made_of: SegmentInputs, user: int) -> list[str]:
    """Segments of which a user may have a list."""
    liked = set(made_of.night.facts.liked.of(user).tolist())
    tags = [name for name in made_of.weights if name not in made_of.shown]
    counts = {name: len(liked & made_of.weights[name].keys()) for name in tags}
    own = sorted((name for name in tags if counts[name]), key=lambda name: (-counts[name], name))
    met = [name for name, users in made_of.shown.items() if user in users]
    return sorted(met + own[: made_of.config.tags_of_user])


def _published(night: ListInputs, name: str, rows: Sequence[Row]) -> list[PublishedRow]:
    """Rows as they are published."""
    return [
        PublishedRow(
            name,
            rank,
            night.video_id[row.video],
            float(np.float32(row.score)),
            row.source,
            row.source_rank,
        )
        for rank, row in enumerate(rows, start=1)
    ]


def _difference(published: Sequence[PublishedRow], rows: Sequence[PublishedRow]) -> str | None:
    """The first row that differs; None if all are the same."""
    for other, row in zip(published, rows, strict=False):
        if other != row:
            return f"published {_words(other)}, recomputed {_words(row)}"
    if len(published) != len(rows):
        return f"published {len(published)} rows, recomputed {len(rows)}"
    return None


def _words(row: PublishedRow) -> str:
    """A row, its segment by kind alone: a tag may quote a person."""
    kind = row.segment.partition("=")[0]
    return f"{kind} list, rank {row.rank}: {row.video_id} ({row.source} {row.source_rank}, {row.score:.9g})"
