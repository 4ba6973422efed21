"""The peer of a whole night: Polars reads the landing zone, the ALS of `implicit` proposes (`night.py`)."""

import datetime as dt
from typing import Any

import numpy as np

FACTORS, ROUNDS, SEED = 64, 15, 1
"""Of the ALS."""
K = 20
"""Length of a list."""


def make_ready(given: str, *, threads: int, day: str) -> None:
    """Pay for the peer's imports before its clock starts."""
    import polars  # noqa: F401


def recommend(given: str, *, threads: int, day: str) -> dict[str, Any]:
    """Return the peer's lists.

    Args:
        given: the landing zone.
        threads: of ALS.
        day: the night; viewings of earlier days teach.

    Returns:
        user_id and video_id by rank, [n_users * K] each.
    """
    import implicit.als
    import polars as pl
    from scipy.sparse import csr_matrix

    until = dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC)
    log = pl.scan_parquet(f"{given}/raw_interactions/**/*.parquet", missing_columns="insert")
    reaction = pl.any_horizontal("liked", "shared", "followed", "commented")
    watched = (pl.col("watch_ms") >= pl.col("duration_ms")) | (pl.col("watch_ms") >= 18_000)
    views = (
        log.filter(pl.col("user_id").is_not_null(), pl.col("video_id").is_not_null())
        .with_columns((reaction | watched).fill_null(False).alias("positive"))
        .group_by("user_id", "video_id")
        .agg(((pl.col("started_at") < until) & pl.col("positive")).sum().alias("n_positive"))
        .sort("user_id", "video_id")
        .collect()
    )
    users, row = np.unique(views["user_id"].to_numpy().astype(str), return_inverse=True)
    videos, column = np.unique(views["video_id"].to_numpy().astype(str), return_inverse=True)
    times = views["n_positive"].to_numpy().astype(np.float32)
    matrix = csr_matrix((times, (row, column)), shape=(len(users), len(videos)))
    matrix.eliminate_zeros()
    model = implicit.als.AlternatingLeastSquares(
        factors=FACTORS, iterations=ROUNDS, random_state=SEED, num_threads=threads
    )
    model.fit(matrix, show_progress=False)
    best, _ = model.recommend(np.arange(len(users)), matrix, N=K)
    popular = np.argsort(-matrix.getnnz(axis=0), kind="stable")[:K]
    best[matrix.getnnz(axis=1) == 0] = popular
    return {"user_id": users.repeat(K), "video_id": videos[best.ravel()]}
