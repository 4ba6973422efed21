"""Yesterday's release as tonight's rival: what it would have been worth on the day both did not know.

The release of D - 1 and the trial of D both end at D - 1 (the release's window begins a day earlier), so
they are compared on day D, on users who had a list yesterday. No other place looks at an earlier release.
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
    """Lists of an earlier release by tonight's indices.

    Args:
        released: `recommendations` of that day; users and videos that tonight does not know are left out.
        users: `users` of tonight.
        videos: `video_nodes` of tonight.

    Returns:
        user_idx, rank, video_idx.
    """
    with duckdb.connect() as session:
        for name, table in (("released", released), ("users", users), ("videos", videos)):
            session.register(name, table)
        return session.sql(LISTED).to_arrow_table()


def churn(blended: pa.Table, champion: pa.Table, *, k: int = 10) -> float | None:
    """Mean share of a user's first places that are new; None where no user has both.

    Args:
        blended: Tonight's lists: user_idx, rank, video_idx.
        champion: Those before.
        k: First places that count.
    """
    with duckdb.connect() as session:
        session.register("blended", blended)
        session.register("champion", champion)
        found = session.execute(CHURN, {"k": k}).fetchall()
    users = sum(n for _, _, n in found)
    return sum(n * (1 - kept / size) for kept, size, n in found) / users if users else None
