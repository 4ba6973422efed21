"""The fit that is published beside the fit that was measured.

The held-out day judges the trial; the final fit has been trained on that day, so nothing is left to measure it on.
But both see nearly the same days. Most of what the trial proposed first is proposed again, and a source whose final
fit proposes something else entirely is broken: its training has diverged, or its indices point to other nodes.
"""

from collections.abc import Mapping
from typing import NamedTuple

import duckdb
import pyarrow as pa

from microrec.evaluation.gate import Config, Result
from microrec.evaluation.report import Figure

FIRST = 20
METRIC = f"proposed_again@{FIRST}"

AGAIN = """
    WITH first AS (
        SELECT user_idx, video_idx FROM trial SEMI JOIN final USING (user_idx)
        ANTI JOIN seen USING (user_idx, video_idx) WHERE rank <= $first)
    SELECT count(*) FILTER (WHERE final.rank <= $first), count(*)
    FROM first LEFT JOIN final USING (user_idx, video_idx)
"""


class Overlap(NamedTuple):
    """Places of the trial that the final fit could fill again."""

    again: int
    """Filled with the same video."""
    places: int

    @property
    def share(self) -> float | None:
        """Share that is filled again; None without places."""
        return self.again / self.places if self.places else None


def overlap(trial: pa.Table, final: pa.Table, seen: pa.Table) -> Overlap:
    """Count how many of the trial's first videos a source proposes first again.

    Args:
        trial: `candidates` rows of one source: user_idx, rank, video_idx.
        final: likewise; users that only one of the two has do not count.
        seen: user_idx, video_idx; what users have seen by now is not proposed to them again.
    """
    with duckdb.connect() as session:
        for name, rows in (("trial", trial), ("final", final), ("seen", seen)):
            session.register(name, rows)
        again, places = session.execute(AGAIN, {"first": FIRST}).fetchall()[0]
    return Overlap(again, places)


def figures(overlaps: Mapping[str, Overlap]) -> list[Figure]:
    """Return rows of `metrics`, of the sources that have places to compare.

    Args:
        overlaps: by source.
    """
    return [
        Figure(source, METRIC, "all", each.share, each.places)
        for source, each in sorted(overlaps.items())
        if each.share is not None
    ]


def refit_alike(
    tonight: Mapping[str, float], before: Mapping[str, float], *, config: Config
) -> Result:
    """Judge whether every source proposes what its trial proposed.

    Args:
        tonight: shares by source.
        before: those of the night before; empty where there was none.
        config: least share, and how much of the share of the night before must be left.

    Returns:
        A result that names the sources that do not. It holds where the night before had one of them: of a service of a
        few days, whose trial has seen half of what its final fit has, nobody knows what is usual, so it warns.
    """
    unlike = {
        source: share
        for source, share in sorted(tonight.items())
        if share < max(config.refit_alike, config.source_kept * before.get(source, 0.0))
    }
    severity = "hold" if not unlike or unlike.keys() & before.keys() else "warn"
    named = ", ".join(f"{source} ({share:.3f})" for source, share in unlike.items())
    detail = (
        f"sources whose final fit proposes less than {config.refit_alike:g} of the first {FIRST} videos of its trial, "
        f"or less than {config.source_kept:g} of the share of the night before: {named or 'none'}"
    )
    status = "fail" if unlike else "pass"
    return Result("refit_alike", severity, status, float(len(unlike)), 0.0, detail)
