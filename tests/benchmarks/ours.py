"""microrec's own graphs as methods to measure: the kernels alone, and the Spark stages.

The Spark rows run the stage as the night's job does: read the committed table, build, write with
audit and commit. Beside them stands the least one process could do for the same tables: read, one
kernel call, write, through the Arrow warehouse.
"""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tests.benchmarks.measure import Edges

DAY = dt.date(2026, 1, 8)
FITS = [{"fit": "trial"}, {"fit": "final"}]
FIT = "final"
"""All watches are holdout: one of the night's two fits sees them, the other has no rows."""
EXACT = {"min_common": 1, "light_positives": 0, "hub_cap": None}
"""Options of a Pearson without thresholds and caps."""
MODALITY = "visual"


def pearson_kernel(matrix: csr_matrix, *, k: int, threads: int, **config: Any) -> Edges:
    """One process, one thread."""
    from microrec.graphs.similarity import pearson

    return pearson.lists(matrix, config=pearson.Config(k=k, **{**EXACT, **config}))


def pearson_capped(matrix: csr_matrix, *, k: int, threads: int, **config: Any) -> Edges:
    """The kernel after the caps that the table builder applies: entries go, sums stay full.

    The worlds have no times, so which viewers of a hub stay (in the night: the latest) is drawn.
    """
    from microrec.graphs.similarity import pearson
    from microrec.graphs.similarity.running_topk import Lists

    chosen = pearson.Config(k=k, **{**EXACT, **config})
    full = pearson.users_of(matrix)
    kept = _within_cap(matrix, chosen.hub_cap)
    users = full._replace(
        indptr=kept.indptr.astype(np.int64), video_idx=kept.indices.astype(np.int32)
    ).where(full.n_positive <= chosen.activity_cap)
    best = Lists.empty(len(users.idx), k)
    n_videos = float(matrix.shape[1])
    for start in range(0, matrix.shape[0], chosen.block_size):
        here = (users.idx >= start) & (users.idx < start + chosen.block_size)
        other = pearson.block(users.where(here), n_videos)
        pearson.compare(users, other, best, n_videos=n_videos, config=chosen)
    return best.edges(users.idx, score="pearson", note="n_common")


def _within_cap(matrix: csr_matrix, hub_cap: int | None) -> csr_matrix:
    """The matrix with at most `hub_cap` viewers of each video, drawn with a fixed seed."""
    if hub_cap is None:
        return matrix
    entries = matrix.tocoo()
    drawn = np.random.default_rng(1).random(len(entries.row))
    order = np.lexsort((drawn, entries.col))
    column = entries.col[order]
    place = np.arange(len(column)) - np.searchsorted(column, column, side="left")
    stay = np.sort(order[place < hub_cap])
    return csr_matrix(
        (entries.data[stay], (entries.row[stay], entries.col[stay])), shape=matrix.shape
    )


def cosine_kernel(vectors: NDArray[np.float32], *, k: int, threads: int) -> Edges:
    """One process, exact."""
    from microrec.graphs.similarity import cosine

    return cosine.lists(vectors, k=k)


def cosine_approximate(vectors: NDArray[np.float32], *, k: int, threads: int) -> Edges:
    """One process, by microrec's approximate search."""
    from microrec.graphs.similarity import cells

    return cells.lists(vectors, k=k)


def commit_watches(matrix: csr_matrix, root: Path) -> None:
    """Commit a matrix of ones as one day's watch graph; all is holdout, so that one fit sees it."""
    from microrec.tables import arrow

    rows = csr_matrix(matrix)
    n = rows.nnz
    last = dt.datetime.combine(DAY, dt.time(12), tzinfo=dt.UTC)
    columns = {
        "split": pa.repeat(pa.scalar("holdout"), n),
        "user_idx": pa.array(np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), pa.int32()),
        "video_idx": pa.array(rows.indices, pa.int32()),
        "weight": pa.array(rows.data, pa.float64()),
        "n_views": pa.repeat(pa.scalar(1, pa.int32()), n),
        "n_positive": pa.repeat(pa.scalar(1, pa.int32()), n),
        "n_negative": pa.repeat(pa.scalar(0, pa.int32()), n),
        "undone": pa.repeat(pa.scalar(False), n),
        "last_at": pa.repeat(pa.scalar(last, pa.timestamp("us", "UTC")), n),
    }
    splits = [{"split": split} for split in ("train", "validation", "holdout")]
    warehouse = arrow.Warehouse.open(str(root))
    _commit(warehouse, "watch_edges", pa.table(columns), replace=splits)
    users = {"user_idx": pa.array(range(rows.shape[0]), pa.int32())}
    users["user_id"] = pc.cast(users["user_idx"], pa.string())
    _commit(warehouse, "users", pa.table(users))


def commit_vectors(vectors: NDArray[np.float32], root: Path) -> None:
    """Commit vectors as one modality's features of one day, and the index of their videos."""
    from microrec.tables import arrow

    n, d = vectors.shape
    ids = [f"v{number:07d}" for number in range(n)]
    flat = pa.array(vectors.ravel())
    warehouse = arrow.Warehouse.open(str(root))
    features = {
        "modality": pa.repeat(pa.scalar(MODALITY), n),
        "video_id": pa.array(ids),
        "encoder_version": pa.repeat(pa.scalar("1"), n),
        "vector": pa.ListArray.from_arrays(np.arange(0, n * d + 1, d, dtype=np.int32), flat),
    }
    _commit(warehouse, "video_features", pa.table(features))
    nodes = {"video_idx": pa.array(range(n), pa.int32()), "video_id": pa.array(ids)}
    _commit(warehouse, "video_nodes", pa.table(nodes))


def _commit(warehouse: Any, table: str, rows: pa.Table, **options: Any) -> None:
    """Write rows of a day in the contract's types; columns that are missing get a neutral value."""
    schema = warehouse.table(table).contract.schema
    for field in schema:
        if field.name != "day" and field.name not in rows.column_names:
            rows = rows.append_column(field, _neutral(field, rows.num_rows))
    names = [name for name in schema.names if name != "day"]
    wanted = pa.schema([schema.field(name) for name in names])
    warehouse.write(table, rows.select(names).cast(wanted), day=DAY, **options)


def _neutral(field: pa.Field, n: int) -> pa.Array:
    if field.nullable:
        return pa.nulls(n, field.type)
    if pa.types.is_list(field.type):
        return pa.array([[]] * n, field.type)
    noon = dt.datetime.combine(DAY, dt.time(12), tzinfo=dt.UTC)
    value = {pa.types.is_timestamp: noon, pa.types.is_date: DAY, pa.types.is_boolean: True}
    chosen = next((one for kind, one in value.items() if kind(field.type)), 1)
    return pa.repeat(pa.scalar(chosen).cast(field.type), n)


def pearson_process(root: str, *, k: int, threads: int, **config: Any) -> None:
    """Read the watch graph, one kernel call, write the user graph."""
    from microrec.tables import arrow

    warehouse = arrow.Warehouse.open(root)
    edges = warehouse.read("watch_edges", columns=["user_idx", "video_idx"], day=DAY)
    user, video = (edges[name].to_numpy() for name in ("user_idx", "video_idx"))
    matrix = csr_matrix((np.ones(len(user)), (user, video)))
    kernel = pearson_capped if config.get("hub_cap") else pearson_kernel
    neighbours = kernel(matrix, k=k, threads=threads, **config)
    columns = {
        "user_idx": pa.array(neighbours["idx"], pa.int32()),
        "neighbour_idx": pa.array(neighbours["neighbour_idx"], pa.int32()),
        "pearson": pa.array(neighbours["pearson"]),
        "n_common": pa.array(neighbours["n_common"], pa.int32()),
        "rank": pa.array(neighbours["rank"], pa.int32()),
        "fit": pa.repeat(pa.scalar(FIT), len(neighbours["idx"])),
    }
    _commit(warehouse, "user_edges", pa.table(columns), replace=FITS)


def process_ready(root: str, *, k: int, threads: int, **config: Any) -> None:
    """Import and compile; the tables are not touched."""
    from microrec.tables import arrow

    matrix = csr_matrix(np.eye(4 * k, 200))
    kernel = pearson_capped if config.get("hub_cap") else pearson_kernel
    kernel(matrix, k=k, threads=threads, **config)
    arrow.Warehouse.open(root).read("watch_edges", columns=["user_idx"], day=DAY)


def pearson_ready(root: str, *, k: int, threads: int, **config: Any) -> None:
    """Start the session and, as `process_ready` does, let a few users through the kernel; no table is touched."""
    from microrec.graphs.similarity import pearson, user_edges
    from microrec.tables.spark import session

    rows = session().range(4 * k).selectExpr(
        "'holdout' split", "int(id) user_idx", "int(id % 9) video_idx", "1 n_positive",
        "false undone", "1.0d weight", "timestamp'2026-01-08' last_at",
    )  # fmt: skip
    chosen = pearson.Config(k=k, **config)
    edges = user_edges.user_edges(rows, fit=FIT, n_users=4 * k, n_videos=200, config=chosen)
    edges.toArrow()


def modality_ready(root: str, *, k: int, threads: int) -> None:
    """The same for a few vectors."""
    from microrec.graphs.similarity import modality_edges
    from microrec.tables.spark import session

    rows = session().range(4 * k).selectExpr(
        "string(id) video_id", "int(id) video_idx", "'visual' modality", "'1' encoder_version",
        "array(float(sin(id)), float(cos(id))) vector",
    )  # fmt: skip
    features, nodes = rows.drop("video_idx"), rows.select("video_id", "video_idx")
    config = modality_edges.Config(k=k)
    modality_edges.modality_edges(features, nodes, n_videos=4 * k, config=config).toArrow()


def pearson_stage(root: str, *, k: int, threads: int, **config: Any) -> None:
    """Read, build and write the user graph as the night's job does."""
    from microrec.graphs.similarity import pearson, user_edges
    from microrec.tables import spark

    warehouse = spark.Warehouse.open(root)
    watched, n_users = warehouse.read("watch_edges", day=DAY), warehouse.count("users", day=DAY)
    chosen = pearson.Config(k=k, **config)
    n_videos = user_edges.count_videos(watched, fit=FIT, config=chosen)
    network = user_edges.user_edges(
        watched, fit=FIT, n_users=n_users, n_videos=n_videos, config=chosen
    )
    warehouse.write("user_edges", network, day=DAY, replace=FITS)


def modality_stage(root: str, *, k: int, threads: int) -> None:
    """Read, build and write one modality's graph as the night's job does."""
    from microrec.graphs.similarity import modality_edges
    from microrec.tables import spark

    warehouse = spark.Warehouse.open(root)
    features, nodes = (
        warehouse.read("video_features", day=DAY),
        warehouse.read("video_nodes", day=DAY),
    )
    n_videos = warehouse.count("video_nodes", day=DAY)
    edges = modality_edges.modality_edges(
        features, nodes, n_videos=n_videos, config=modality_edges.Config(k=k)
    )
    warehouse.write("modality_edges", edges, day=DAY)


def user_edges_written(root: str, *, k: int, threads: int, **config: Any) -> Edges:
    """What was committed last."""
    return _written(root, "user_edges", "user_idx", "pearson", "n_common")


def modality_edges_written(root: str, *, k: int, threads: int) -> Edges:
    """What was committed last."""
    return _written(root, "modality_edges", "video_idx", "similarity")


def _written(root: str, table: str, idx: str, *measures: str) -> Edges:
    from microrec.tables import arrow

    rows = arrow.Warehouse.open(root).read(table, day=DAY)
    columns = {name: rows[name].to_numpy() for name in ("neighbour_idx", "rank", *measures)}
    return {"idx": rows[idx].to_numpy(), **columns}
