"""What users want of their lists, from one wish to the next.

A block holds until it is taken back, not for the window of a night alone. A reset is a line under a history: nothing
that was watched before it counts. Who wants no profiling has the list that everybody gets, and what they watched is
used for nothing, until they take it back: then all counts again that they have not reset. Who wants to teach nobody has
a list of their own, made of what they watched, and nothing else is learned of it. Both of two wishes at one instant
count, if they can: what is blocked and unblocked is not, who asks for profiling and for none has none.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from microrec.core.request_kinds import BLOCKS, CONSENTS, RESET, TAKEN_BACK, UNBLOCK


class Wish(NamedTuple):
    """A wish that holds."""

    user_id: str
    kind: str
    """One of `BLOCKS`, reset, no_exploration, no_profiling or no_teaching."""
    value: str
    """video_id, author_id or tag; empty for the other kinds."""
    since: dt.datetime
    """Instant from which it counts."""


def after(held: Iterable[Wish], asked: Iterable[Mapping[str, Any]]) -> list[Wish]:
    """Return what holds once some wishes have been heard.

    Wishes are heard by their day of arrival and then by their instant, whatever their order here.

    Args:
        held: what held before.
        asked: day, counts_at, user_id, kind (`request_kinds.PREFERENCES`) and value of each wish.

    Returns:
        One wish per user, kind and value, in that order.
    """
    holding = {(wish.user_id, wish.kind, wish.value): wish for wish in held}
    for wish in sorted(asked, key=_turn):
        _hear(holding, wish)
    return [holding[key] for key in sorted(holding)]


def _turn(wish: Mapping[str, Any]) -> tuple[Any, ...]:
    """What goes by consent comes first: at one instant the wish that it takes back holds."""
    kind = wish["kind"]
    last = kind in (UNBLOCK, "exploration")
    return wish["day"], wish["counts_at"], last - (kind in CONSENTS)


def _hear(holding: dict[tuple[str, str, str], Wish], wish: Mapping[str, Any]) -> None:
    """Change what holds by one wish."""
    user, kind, at = wish["user_id"], wish["kind"], wish["counts_at"]
    value = wish["value"] if kind in (*BLOCKS, UNBLOCK) else ""
    if kind == UNBLOCK:
        for block in BLOCKS:
            holding.pop((user, block, value), None)
    elif kind in TAKEN_BACK:
        holding.pop((user, TAKEN_BACK[kind], ""), None)
    else:
        before = holding.get((user, kind, value))
        # The latest reset decides; of the others the first is as good as any later one.
        if before is None or (kind == RESET and before.since < at):
            holding[user, kind, value] = Wish(user, kind, value, at)
