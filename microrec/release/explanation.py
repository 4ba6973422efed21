"""Why a user got a video, in sentences a person can be shown: every one follows from a column of the release.

The main parameters of an order, and the options to change it, are what a person may ask for (Regulation (EU) 2022/2065,
article 27).
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from microrec.core.columns import column
from microrec.core.dislikes import standing
from microrec.core.request_kinds import NO_PROFILING
from microrec.errors import MissingDay
from microrec.evaluation.truth import BUCKETS
from microrec.release.reader import Release

NAMED = 3
"""Sources that a sentence names."""
LEAST_SHARE = 0.05
"""A source that decides less of the order is not named."""
SOURCES = {
    "closed_form": "all sources, as they are weighed together",
    "known": "how much is known of you and of the video",
}
"""Words for what is no source in `blend_weights`."""

UNPROFILED = (
    "As you asked for no profiling, nothing that you watched has a part in your list: it is the one that people get"
    " of whom nothing is known, without what you have blocked."
)


TEACHES_NOBODY = (
    "As you asked for it, what you watch is used for your own list alone: other people's lists are"
    " made without it."
)


class Explanation(NamedTuple):
    """One row of a list, explained."""

    day: dt.date
    release: str
    """Its id."""
    rank: int
    video_id: str
    sentences: list[str]
    """Why it is there, what speaks for it, and how the list was put in order."""
    parameters: dict[str, float]
    """Share of each source in the order of lists like this one, the greatest first; empty where it is not known."""


def explain(release: Release, user_id: str, rank: int) -> Explanation:
    """Explain a row of a user's list.

    Args:
        release: the list's release.
        user_id: whose list.
        rank: place in the list, from 1.

    Returns:
        The row's explanation.

    Raises:
        MissingDay: the user has no list in the release, or none so long.
    """
    rows = release.read("recommendations", user_id=user_id)
    if not rows.num_rows:
        raise MissingDay(
            f"recommendations[day={release.day}]: the user has no list of their own: what they see is"
            " fallback_recommendations, the same for everybody"
        )
    of_rank = rows.filter(pc.equal(rows["rank"], rank)).to_pylist()
    if not of_rank:
        raise MissingDay(f"recommendations[day={release.day}]: the list has {rows.num_rows} rows")
    (row,) = of_rank
    sentences = [f"{_capital(row['reason'])}."]
    if row["source"] == NO_PROFILING:
        parameters = dict[str, float]()
        sentences.append(UNPROFILED)
    else:
        is_private = _index(release, "private_users", user_id) is not None
        # The shares are those of people from whom the order was learned.
        parameters = {} if is_private else _shares(release, user_id)
        sentences += [*evidence(row), *_order(parameters), *([TEACHES_NOBODY] * is_private)]
    return Explanation(release.day, release.id, rank, row["video_id"], sentences, parameters)


def evidence(row: Mapping[str, Any]) -> list[str]:
    """Return what the row itself says for the video, no sentence or one."""
    if row["evidence_video_id"] is not None:
        alike = f" ({row['evidence_modality']})" if row["evidence_modality"] else ""
        return [f"You liked {row['evidence_video_id']}, and the two are alike{alike}."]
    if row["evidence_viewers"] is not None:
        who = (
            "people whose viewing resembles yours"
            if row["source"] == "user_neighbours"
            else "people"
        )
        return [f"{row['evidence_viewers']} {who} liked it."]
    if row["evidence_trend"] is not None:
        return [f"It fits your trend {row['evidence_trend']}."]
    if row["propensity"] < 1:
        return [f"It was drawn among new videos, with a chance of {row['propensity']:.2g}."]
    return []


def bucket_of(n_positive: int) -> str:
    """Return the bucket of users, as `blend_weights` names it, of who has liked so many videos."""
    return next(
        name
        for name, least, most in BUCKETS
        if n_positive >= least and (most is None or n_positive <= most)
    )


def _shares(release: Release, user_id: str) -> dict[str, float]:
    """Share of each source in the order of lists of users of whom as much is known, the greatest first."""
    # Edges are kept for a shorter time than lists.
    if not release.warehouse.exists("watch_edges", day=release.day):
        return {}
    weights = release.read("blend_weights")
    bucket = bucket_of(_liked(release, user_id))
    in_bucket = pc.and_(pc.equal(weights["fit"], "final"), pc.equal(weights["bucket"], bucket))
    rows = weights.filter(in_bucket).to_pylist()
    return {row["source"]: row["weight"] for row in sorted(rows, key=_by_weight)}


def _by_weight(row: Mapping[str, Any]) -> tuple[float, str]:
    return -row["weight"], row["source"]


def _liked(release: Release, user_id: str) -> int:
    """How many videos the user had liked, as the night of the release knew it."""
    idx = _index(release, "users", user_id)
    if idx is None:
        return 0
    edges = release.warehouse.read("watch_edges", day=release.day, where={"user_idx": idx})
    liked = standing(edges) & (column(edges, "n_positive") > 0)
    return len(np.unique(column(edges, "video_idx")[liked]))


def _index(release: Release, table: str, user_id: str) -> int | None:
    """The index of the user in a table of users of the night; None where it has none, or is kept no more."""
    if not release.warehouse.exists(table, day=release.day):
        return None
    rows = release.warehouse.read(table, day=release.day, columns=["user_id", "user_idx"])
    theirs: list[int] = rows.filter(pc.equal(rows["user_id"], user_id))["user_idx"].to_pylist()
    return theirs[0] if theirs else None


def _order(parameters: Mapping[str, float]) -> list[str]:
    """How the list was put in order, no sentence or one."""
    shown = [(name, share) for name, share in parameters.items() if share >= LEAST_SHARE]
    if not shown:
        return []
    words = [f"{SOURCES.get(name, name)} {share:.0%}" for name, share in shown[:NAMED]]
    return [f"Of the order of your list decide: {', '.join(words)}."]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
