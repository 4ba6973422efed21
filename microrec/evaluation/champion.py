"""The champion: the lists of the release of the day before, measured on the day that neither has seen.

The release of D - 1 and the trial of D both end at D - 1, so they are compared on day D, on users who had a list
yesterday. The release's window begins a day earlier, for which the gate makes allowance. No other place looks at
an earlier release.
"""

import duckdb
import pyarrow as pa

LISTED = """
    SELECT user_idx, rank, video_idx
    FROM released JOIN users USING (user_id) JOIN videos USING (video_id)
    ORDER BY user_idx, rank
"""
"""The release's lists in the numbers of tonight."""

CHURN = """
    WITH tonight AS (SELECT user_idx, list(video_idx) AS first FROM blended WHERE rank <= $k GROUP BY ALL),
    before AS (SELECT user_idx, list(video_idx) AS first FROM champion WHERE rank <= $k GROUP BY ALL)
    SELECT len(list_intersect(tonight.first, before.first)) AS kept, len(tonight.first) AS size, count(*)
    FROM tonight JOIN before USING (user_idx)
    GROUP BY ALL ORDER BY ALL
"""
"""How many users have kept how many of yesterday's first K videos, in lists of which size. Counted, not averaged: the
order in which DuckDB's threads add up fractions differs from run to run, and with it the last digits."""


def listed(released: pa.Table, *, users: pa.Table, videos: pa.Table) -> pa.Table:
    """Return the lists of an earlier release by tonight's indices.

    Args:
        released: `recommendations` rows of that day; users and videos that tonight does not know are left out.
        users: `users` of tonight.
        videos: `video_nodes` of tonight.

    Returns:
        One row per (user, rank): user_idx, rank, video_idx.
    """
    with duckdb.connect() as session:
        for name, table in (("released", released), ("users", users), ("videos", videos)):
            session.register(name, table)
        return session.sql(LISTED).to_arrow_table()


def churn(blended: pa.Table, champion: pa.Table, *, k: int = 10) -> float | None:
    """Return the mean share of a user's first places that are new.

    Args:
        blended: tonight's lists, one row per (user, rank): user_idx, rank, video_idx.
        champion: those before, likewise.
        k: first places that count.

    Returns:
        From 0 to 1; None where no user has both lists.
    """
    with duckdb.connect() as session:
        session.register("blended", blended)
        session.register("champion", champion)
        counts = session.execute(CHURN, {"k": k}).fetchall()
    users = sum(n for _, _, n in counts)
    return sum(n * (1 - kept / size) for kept, size, n in counts) / users if users else None
