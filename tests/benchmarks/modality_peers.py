"""Other ways to the k nearest vectors by cosine: what a user of microrec could have picked instead.

Each gets vectors float32 [n, d], none of them zero, brings them to length 1 inside the clock, and
gives directed edges with a cosine above 0. Building an index is part of the time: a night's vectors
are compared once. Approximate methods run at settings that were searched for on these worlds, the
cheapest found whose recall@20 is 0.99 or a little more at 200,000 x 128 (`graphs.py` names them).

Licences: numpy, scikit-learn, torch BSD-3; faiss MIT; hnswlib, usearch, Spark Apache-2.0.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.measure import Edges
from tests.benchmarks.pearson_peers import _best, _edges

BLOCK = 1024
Vectors = NDArray[np.float32]


def product(vectors: Vectors, *, k: int, threads: int) -> None:
    """The limit: the matrix product of all with all, block by block, of which nothing is kept."""
    unit = units(vectors)
    out = np.empty((BLOCK, len(unit)), np.float32)
    for start in range(0, len(unit), BLOCK):
        block = unit[start : start + BLOCK]
        np.matmul(block, unit.T, out=out[: len(block)])


def numpy_blocks(vectors: Vectors, *, k: int, threads: int) -> Edges:
    """The product and argpartition."""
    unit = units(vectors)
    blocks = (unit[at : at + BLOCK] @ unit.T for at in range(0, len(unit), BLOCK))
    return _edges(_best(blocks, k))


def torch_blocks(vectors: Vectors, *, k: int, threads: int) -> Edges:
    """The product and topk in torch."""
    import torch

    torch.set_num_threads(threads)
    unit = torch.from_numpy(units(vectors))
    scores, neighbours = [], []
    with torch.inference_mode():
        for block in unit.split(BLOCK):
            best = torch.topk(block @ unit.T, min(k + 1, len(unit)), dim=1)
            scores.append(best.values)
            neighbours.append(best.indices)
    return _edges((torch.cat(neighbours).numpy(), torch.cat(scores).numpy()))


def sklearn_neighbours(vectors: Vectors, *, k: int, threads: int) -> Edges:
    """`NearestNeighbors(algorithm="brute")` by Euclidean distance of unit rows, its fastest."""
    from sklearn.neighbors import NearestNeighbors

    unit = units(vectors)
    model = NearestNeighbors(n_neighbors=k + 1, algorithm="brute", n_jobs=threads).fit(unit)
    distance, neighbours = model.kneighbors(unit)
    return _edges((neighbours, 1 - distance * distance / 2))


def faiss_index(vectors: Vectors, *, k: int, threads: int, factory: str, search: str = "") -> Edges:
    """An index of faiss by inner product of unit rows.

    Args:
        vectors: [n, d].
        k: neighbours.
        threads: of faiss.
        factory: what to build, in the words of `faiss.index_factory`.
        search: settings of the search, in the words of `faiss.ParameterSpace`.
    """
    import faiss

    faiss.omp_set_num_threads(threads)
    unit = units(vectors)
    index = faiss.index_factory(unit.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    index.train(unit)
    index.add(unit)
    if search:
        faiss.ParameterSpace().set_index_parameters(index, search)
    scores, neighbours = index.search(unit, k + 1)
    return _edges((neighbours, scores))


def faiss_ivf(vectors: Vectors, *, k: int, threads: int, lists: int, probes: int) -> Edges:
    """Inverted lists around centres: at most one per 40 vectors."""
    lists = min(lists, len(vectors) // 40 + 1)
    return faiss_index(
        vectors, k=k, threads=threads, factory=f"IVF{lists},Flat", search=f"nprobe={probes}"
    )


def hnswlib_index(
    vectors: Vectors, *, k: int, threads: int, m: int, construction: int, search: int
) -> Edges:
    """A navigable graph by hnswlib."""
    import hnswlib

    index = hnswlib.Index(space="cosine", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=m, ef_construction=construction, random_seed=1)
    index.set_num_threads(threads)
    index.add_items(vectors)
    index.set_ef(max(search, k + 1))
    neighbours, distance = index.knn_query(vectors, k=k + 1)
    return _edges((neighbours.astype(np.int64), 1 - distance))


def usearch_exact(vectors: Vectors, *, k: int, threads: int) -> Edges:
    """usearch without an index: every pair, one at a time."""
    from usearch.index import MetricKind, search

    matches = search(vectors, vectors, k + 1, MetricKind.Cos, exact=True, threads=threads)
    return _edges((matches.keys.astype(np.int64), 1 - matches.distances))


def usearch_index(
    vectors: Vectors,
    *,
    k: int,
    threads: int,
    m: int,
    construction: int,
    search: int,
    dtype: str = "f32",
) -> Edges:
    """A navigable graph by usearch; scores are those of its own number format."""
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1],
        metric="cos",
        dtype=dtype,
        connectivity=m,
        expansion_add=construction,
        expansion_search=max(search, k + 1),
    )
    index.add(np.arange(len(vectors)), vectors, threads=threads)
    matches = index.search(vectors, k + 1, threads=threads)
    return _edges((matches.keys.astype(np.int64), 1 - matches.distances))


def spark_ready(vectors: Vectors, *, k: int, threads: int, **_: object) -> None:
    """Start the session and let it run something."""
    from microrec.tables.spark import session

    session().range(1000).selectExpr("sum(id)").collect()


def spark_lsh(vectors: Vectors, *, k: int, threads: int, bucket: float, tables: int) -> Edges:
    """Spark's `BucketedRandomProjectionLSH`, a self-join within a distance, the k best by a window.

    The distance is that of a cosine of 0.5: all but a few of the 20 nearest are nearer.
    """
    import pyarrow as pa
    from pyspark.ml.feature import BucketedRandomProjectionLSH
    from pyspark.ml.functions import array_to_vector
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    from microrec.tables.spark import session

    unit = units(vectors)
    rows = pa.table({"idx": np.arange(len(unit)), "vector": pa.array(list(unit))})
    frame = session().createDataFrame(rows).select("idx", array_to_vector("vector").alias("vector"))
    lsh = BucketedRandomProjectionLSH(
        inputCol="vector", outputCol="hashes", bucketLength=bucket, numHashTables=tables, seed=1
    )
    hashed = lsh.fit(frame).transform(frame).cache()
    pairs = lsh.fit(frame).approxSimilarityJoin(hashed, hashed, 1.0, "distance")
    named = pairs.select(
        F.col("datasetA.idx").alias("u"), F.col("datasetB.idx").alias("v"), "distance"
    )
    order = Window.partitionBy("u").orderBy("distance", "v")
    best = named.where("u <> v").withColumn("place", F.row_number().over(order))
    neighbours = best.where(F.col("place") <= k).toArrow()
    columns: dict[str, Any] = {name: neighbours[name].to_numpy() for name in ("u", "v", "distance")}
    score = 1 - columns["distance"] ** 2 / 2
    return {"idx": columns["u"], "neighbour_idx": columns["v"], "score": score}


def units(vectors: Vectors) -> Vectors:
    """Rows at length 1, contiguous."""
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
