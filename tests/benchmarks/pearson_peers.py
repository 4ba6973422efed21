"""Other ways to the k most correlated users: what a user of microrec could have picked instead.

Each gets the watches as a matrix of ones [n_users, n_videos] (engines with tables make one of it,
inside the clock) and gives directed edges with Pearson above 0. Each library has the best
formulation we found:

- Pearson is a product of vectors: with a_u = 1 / sqrt(n_u (N - n_u)), r(u, v) is
  N a_u a_v c(u, v) - (a_u n_u) (a_v n_v). So a sparse product of rows sqrt(N) a_u x_u, extended by
  one dense column (a_u n_u on the left, its negative on the right), is Pearson itself, at the price
  of one video that everybody viewed. sparse_dot_topn can do it; its cosine is there to compare.
- implicit multiplies a matrix by its own transpose, so the column of negatives is out of its reach:
  cosine, not the same formula.
- scikit-learn compares dense centred rows by cosine; by Euclidean distance of unit rows, faster for
  short vectors, it takes three times as long here.
- The self-joins of DuckDB and Polars go by blocks of left users, so that they hold and spill few
  pairs at a time; Spark has the one query, and spills.

Licences: numpy, scipy, scikit-learn BSD-3; sparse_dot_topn Apache-2.0; implicit, DuckDB, Polars
MIT; Spark Apache-2.0.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack

from tests.benchmarks.measure import Edges

BLOCK = 512
JOINED = 1000
"""Left users per self-join."""

PEARSON = """(n_videos * c - n_u * n_v) / sqrt(n_u * (n_videos - n_u) * n_v * (n_videos - n_v))"""


def accumulate(matrix: csr_matrix, *, k: int, threads: int) -> None:
    """The limit of every row-wise sparse product: add up the common videos of all pairs, rank nothing."""
    rows = csr_matrix(matrix)
    columns = rows.tocsc()
    _accumulator()(rows.indptr, rows.indices, columns.indptr, columns.indices)


@cache
def _accumulator() -> Any:
    from numba import njit

    @njit
    def accumulate(indptr, indices, starts, viewers):
        counts = np.zeros(len(indptr) - 1, np.uint16)
        seen = 0
        for u in range(len(indptr) - 1):
            for video in indices[indptr[u] : indptr[u + 1]]:
                for entry in range(starts[video], starts[video + 1]):
                    counts[viewers[entry]] += np.uint16(1)
            seen += counts[0]  # without a use, the compiler would drop the loop
            counts[:] = 0
        return seen

    return accumulate


def numpy_dense(matrix: csr_matrix, *, k: int, threads: int) -> Edges:
    """Dense product of centred float32 rows, block by block, and argpartition."""
    units = _units(matrix)
    blocks = (units[at : at + BLOCK] @ units.T for at in range(0, len(units), BLOCK))
    return _edges(_best(blocks, k))


def scipy_blocks(matrix: csr_matrix, *, k: int, threads: int) -> Edges:
    """Sparse product of a block of rows with all, made dense, corrected to Pearson, argpartition."""
    rows = csr_matrix(matrix, dtype=np.float32)
    scale, n = _scale(rows), _n_positive(rows)
    left, right = _scaled(rows, scale), _scaled(rows, scale).T.tocsr()

    def blocks() -> Iterator[NDArray[np.float32]]:
        for at in range(0, rows.shape[0], BLOCK):
            block = (left[at : at + BLOCK] @ right).toarray()
            block -= np.outer(scale[at : at + BLOCK] * n[at : at + BLOCK], scale * n)
            yield block

    return _edges(_best(blocks(), k))


def sparse_dot_topn(matrix: csr_matrix, *, k: int, threads: int) -> Edges:
    """`sp_matmul_topn` of the extended rows: Pearson itself."""
    from sparse_dot_topn import sp_matmul_topn

    left, right = _extended(matrix)
    neighbours = sp_matmul_topn(
        left, right.T.tocsr(), top_n=k + 1, threshold=0.0, sort=True, n_threads=threads
    )
    return _of_csr(neighbours)


def sparse_dot_topn_cosine(matrix: csr_matrix, *, k: int, threads: int) -> Edges:
    """`sp_matmul_topn` of unit rows."""
    from sparse_dot_topn import sp_matmul_topn

    rows = csr_matrix(matrix, dtype=np.float32)
    unit = _scaled_by(rows, 1 / np.sqrt(np.maximum(_n_positive(rows), 1)))
    neighbours = sp_matmul_topn(
        unit, unit.T.tocsr(), top_n=k + 1, threshold=0.0, sort=True, n_threads=threads
    )
    return _of_csr(neighbours)


def implicit_cosine(matrix: csr_matrix, *, k: int, threads: int) -> Edges:
    """`CosineRecommender`: its "items" are our users."""
    from implicit.nearest_neighbours import CosineRecommender

    model = CosineRecommender(K=k + 1, num_threads=threads)
    model.fit(matrix.T.tocsr(), show_progress=False)
    return _of_csr(csr_matrix(model.similarity))


def sklearn_neighbours(matrix: csr_matrix, *, k: int, threads: int) -> Edges:
    """`NearestNeighbors` by cosine distance on dense centred rows: Pearson itself."""
    from sklearn.neighbors import NearestNeighbors

    units = _units(matrix)
    model = NearestNeighbors(
        n_neighbors=k + 1, algorithm="brute", metric="cosine", n_jobs=threads
    ).fit(units)
    distance, neighbours = model.kneighbors(units)
    return _edges((neighbours, 1 - distance))


def duckdb_join(matrix: csr_matrix, *, k: int, threads: int) -> Edges:
    """A self-join on the video, grouped by the pair, for JOINED left users at a time."""
    import duckdb
    import pyarrow as pa

    results = []
    with duckdb.connect(config={"threads": threads}) as session:
        for name, columns in _tables(matrix).items():
            session.register(f"{name}_given", pa.table(columns))
            session.execute(f"CREATE TABLE {name} AS FROM {name}_given")
        for start in range(0, matrix.shape[0], JOINED):
            results.append(session.execute(_join(k, start, matrix.shape[1])).to_arrow_table())
    return _of_arrow(pa.concat_tables(results))


def polars_join(matrix: csr_matrix, *, k: int, threads: int) -> Edges:
    """The same in Polars."""
    import polars as pl

    tables = _tables(matrix)
    edges, users = pl.DataFrame(tables["edges"]), pl.DataFrame(tables["users"])
    sizes = users.rename({"u": "v", "n_u": "n_v"})
    n_videos, results = float(matrix.shape[1]), []
    n_u, n_v = pl.col("n_u"), pl.col("n_v")
    variance = n_u * (n_videos - n_u) * n_v * (n_videos - n_v)
    pearson = (n_videos * pl.col("c") - n_u * n_v) / variance.sqrt()
    for start in range(0, matrix.shape[0], JOINED):
        block = edges.filter(pl.col("u").is_between(start, start + JOINED - 1))
        pairs = block.lazy().join(edges.lazy().rename({"u": "v"}), on="video", how="inner")
        counts = (
            pairs.group_by("u", "v").agg(pl.len().alias("c")).filter(pl.col("u") != pl.col("v"))
        )
        scored = counts.join(users.lazy(), on="u").join(sizes.lazy(), on="v")
        scored = scored.select("u", "v", pearson.alias("r")).filter(pl.col("r") > 0)
        best = scored.sort("u", "r", "v", descending=[False, True, False]).group_by("u").head(k)
        results.append(best.collect())
    return _of_arrow(pl.concat(results).to_arrow())


def spark_ready(matrix: csr_matrix, *, k: int, threads: int) -> None:
    """Start the session and let it run something."""
    from microrec.tables.spark import session

    session().range(1000).selectExpr("sum(id)").collect()


def spark_join(matrix: csr_matrix, *, k: int, threads: int) -> Edges:
    """The same as one Spark SQL query over Parquet files."""
    import tempfile

    import pyarrow as pa
    import pyarrow.parquet as pq

    from microrec.tables.spark import session

    with tempfile.TemporaryDirectory() as folder:
        for name, columns in _tables(matrix).items():
            pq.write_table(pa.table(columns), f"{folder}/{name}.parquet")
            session().read.parquet(f"{folder}/{name}.parquet").createOrReplaceTempView(name)
        query = _join(k, None, matrix.shape[1])
        return _of_arrow(session().sql(query).toArrow())


def _join(k: int, start: int | None, n_videos: int) -> str:
    """SQL that DuckDB and Spark both read."""
    block = "" if start is None else f"a.u BETWEEN {start} AND {start + JOINED - 1} AND"
    return f"""
        WITH counts AS (
            SELECT a.u AS u, b.u AS v, count(*) AS c
            FROM edges AS a JOIN edges AS b ON a.video = b.video
            WHERE {block} a.u <> b.u GROUP BY a.u, b.u),
        scored AS (
            SELECT u, v, {PEARSON.replace("n_videos", f"{n_videos}e0")} AS r
            FROM counts JOIN users USING (u) JOIN (SELECT u AS v, n_u AS n_v FROM users) AS o USING (v)),
        ranked AS (
            SELECT *, row_number() OVER (PARTITION BY u ORDER BY r DESC, v) AS place
            FROM scored WHERE r > 0)
        SELECT u, v, r FROM ranked WHERE place <= {k}"""


def _tables(matrix: csr_matrix) -> dict[str, dict[str, NDArray[Any]]]:
    """The watches as columns, and the number of videos of each user; a user who viewed all has no variance."""
    rows = csr_matrix(matrix)
    n = np.diff(rows.indptr)
    real = np.flatnonzero((n > 0) & (n < rows.shape[1])).astype(np.int32)
    user = np.repeat(np.arange(rows.shape[0], dtype=np.int32), n)
    return {
        "edges": {"u": user, "video": rows.indices.astype(np.int32)},
        "users": {"u": real, "n_u": n[real].astype(np.float64)},
    }


def _n_positive(rows: csr_matrix) -> NDArray[np.float32]:
    return np.diff(rows.indptr).astype(np.float32)


def _scale(rows: csr_matrix) -> NDArray[np.float32]:
    """a_u = 1 / sqrt(n_u (N - n_u)); 0 for a user without variance."""
    n = np.diff(rows.indptr).astype(np.float64)
    variance = n * (rows.shape[1] - n)
    return np.where(variance > 0, 1 / np.sqrt(np.maximum(variance, 1)), 0).astype(np.float32)


def _scaled_by(rows: csr_matrix, scale: NDArray[Any]) -> csr_matrix:
    data = np.repeat(scale, np.diff(rows.indptr)).astype(rows.dtype)
    return csr_matrix((data, rows.indices, rows.indptr), shape=rows.shape)


def _scaled(rows: csr_matrix, scale: NDArray[np.float32]) -> csr_matrix:
    return _scaled_by(rows, scale * np.float32(np.sqrt(rows.shape[1])))


def _extended(matrix: csr_matrix) -> tuple[csr_matrix, csr_matrix]:
    """Two matrices whose rows' products are Pearson: [n_users, n_videos + 1]."""
    rows = csr_matrix(matrix, dtype=np.float32)
    scale = _scale(rows)
    offset = csr_matrix((scale * _n_positive(rows))[:, None])
    scaled = _scaled(rows, scale)
    return hstack([scaled, offset]).tocsr(), hstack([scaled, -offset]).tocsr()


def _units(matrix: csr_matrix) -> NDArray[np.float32]:
    """Dense centred rows at length 1."""
    dense = matrix.toarray().astype(np.float32)
    dense -= dense.mean(axis=1, keepdims=True)
    length = np.linalg.norm(dense, axis=1, keepdims=True)
    dense /= np.where(length > 1e-6, length, 1)
    return dense


def _best(
    blocks: Iterator[NDArray[np.float32]], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Columns and values of the k + 1 greatest of each row, itself among them."""
    neighbours, scores = [], []
    for block in blocks:
        n = min(k + 1, block.shape[1])
        chosen = np.argpartition(block, -n, axis=1)[:, -n:]
        neighbours.append(chosen)
        scores.append(np.take_along_axis(block, chosen, axis=1))
    return np.concatenate(neighbours), np.concatenate(scores)


def _edges(best: tuple[NDArray[Any], NDArray[Any]]) -> Edges:
    """Edges above 0 and not to oneself, the k best of each row, in order."""
    neighbours, scores = best
    rows = np.arange(len(scores))[:, None]
    scores = np.where((neighbours == rows) | (neighbours < 0), -1, scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, : scores.shape[1] - 1]
    scores = np.take_along_axis(scores, order, axis=1)
    row, place = np.nonzero(scores > 0)
    return {
        "idx": row.astype(np.int32),
        "neighbour_idx": neighbours[row, order[row, place]].astype(np.int32),
        "score": scores[row, place],
    }


def _of_csr(results: csr_matrix) -> Edges:
    row = np.repeat(np.arange(results.shape[0], dtype=np.int32), np.diff(results.indptr))
    kept = (row != results.indices) & (results.data > 0)
    return {"idx": row[kept], "neighbour_idx": results.indices[kept], "score": results.data[kept]}


def _of_arrow(results: Any) -> Edges:
    names = {"idx": "u", "neighbour_idx": "v", "score": "r"}
    return {ours: results[theirs].to_numpy() for ours, theirs in names.items()}
