"""Figures of a night as `metrics` rows, and those of a finished release."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

FLOOR = "popularity"
"""The source that everything is compared with."""

BLEND = "blend"
"""Name of the final lists, after filter-and-fill."""

LEARNED, CLOSED_FORM = "learned", "closed_form"
"""Names of the final lists in the learned order and in that of the closed form; one of them is the blend."""

BEST_SOURCE = "best_source"
"""Name of the final lists that follow the most accurate source alone."""

CHAMPION = "champion"
"""Name of the lists of the release of the day before."""

UNEXPLORED = "unexplored"
"""Name of the blend's lists without the videos that are shown so that something is learned of them."""

DIFFERENCE = f"{BLEND}-minus-{FLOOR}"
"""Name of their paired difference."""

PRICE = f"{BLEND}-minus-{UNEXPLORED}"
"""Likewise: what exploration costs."""

WORTH = "worth_ndcg@20"
"""The metric of what a source is worth to the blend: what its lists lose without the source."""

EXPLORATION = "exploration"
"""Name of what is said of exploration itself."""

OURS = frozenset(
    {BLEND, LEARNED, CLOSED_FORM, BEST_SOURCE, CHAMPION, DIFFERENCE, PRICE, EXPLORATION}
)
"""Names of figures that are of no source."""

RELEASE = """
    SELECT 'recommendations' AS name, 'rows' AS metric, 'all' AS slice, count(*) AS value FROM lists
    UNION ALL SELECT 'recommendations', 'users', 'all', count(DISTINCT user_id) FROM lists
    UNION ALL SELECT 'recommendations', 'videos', 'all', count(DISTINCT video_id) FROM lists
    UNION ALL SELECT 'recommendations', 'share', 'source=' || source,
        count(*) / (SELECT count(*) FROM lists) FROM lists GROUP BY source
    UNION ALL SELECT 'fallback_recommendations', 'rows', 'segment=' || segment,
        count(*) FROM fallback WHERE starts_with(segment, '__') GROUP BY segment
    UNION ALL SELECT 'fallback_recommendations', 'segments', kind,
        count(DISTINCT segment) FROM fallback
        JOIN (SELECT unnest(['surface', 'tag']) AS kind) ON starts_with(segment, kind || '=') GROUP BY kind
    ORDER BY ALL
"""
"""One row per figure of a finished release."""


@dataclass(frozen=True)
class Figure:
    """One `metrics` row."""

    name: str
    metric: str
    slice: str
    value: float
    n: int
    low: float | None = None
    high: float | None = None


def table(figures: Sequence[Figure]) -> pa.Table:
    """Return rows of `metrics`, without day and stage.

    Args:
        figures: in any order.
    """
    types = {"value": pa.float64(), "low": pa.float64(), "high": pa.float64(), "n": pa.int64()}
    columns = {
        name: pa.array([getattr(figure, name) for figure in figures], types.get(name, pa.string()))
        for name in ("name", "metric", "slice", "value", "low", "high", "n")
    }
    return pa.table(columns)


def release(
    recommendations: pa.Table,
    fallback: pa.Table,
    *,
    n_users: int,
    n_nothing_left: int,
    n_unprofiled: int,
) -> list[Figure]:
    """Measure the sizes of a release, the share of its rows that each source gave, and who gets no list.

    Args:
        recommendations: `recommendations` rows, as read back from the table.
        fallback: `fallback_recommendations` rows, likewise.
        n_users: users of the night who have a list of their own.
        n_nothing_left: of these, the ones who have seen every eligible video.
        n_unprofiled: people who want no profiling, whether the night knows them or not.

    Returns:
        One figure per table, and per source; `nothing_left`, the users who get no list as nothing is left for them;
        `unprofiled`, those who get the list of everybody.
    """
    with duckdb.connect() as session:
        session.register("lists", recommendations)
        session.register("fallback", fallback)
        rows = session.sql(RELEASE).fetchall()
    sizes = {
        "recommendations": recommendations.num_rows,
        "fallback_recommendations": fallback.num_rows,
    }
    figures = [
        Figure(name, metric, part, float(value), sizes[name]) for name, metric, part, value in rows
    ]
    nobody = Figure("recommendations", "nothing_left", "all", float(n_nothing_left), n_users)
    for_all = Figure("recommendations", "unprofiled", "all", float(n_unprofiled), n_unprofiled)
    return [*figures, nobody, for_all]
