"""Generated worlds with a known answer, as the tables a model's graph is built from.

`checkerboard` is benfred/implicit's: even users like all even videos but one, odd users all odd
ones but one; the one that is withheld is the only right first recommendation.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Matrix = npt.NDArray[np.float32]
PARTS = ("train", "validation", "holdout")
DAY_US = 86_400_000_000


def checkerboard(n: int = 20) -> dict[str, pa.Table]:
    """n users, n videos, everything in the part train, two modalities that tell even from odd."""
    index = np.arange(n)
    likes = (index[:, None] + index) % 2 == 0
    likes[index, [withheld(user, n) for user in index]] = False
    return tables({"train": likes}, vectors=parity_vectors(n))


def withheld(user: int, n: int = 20) -> int:
    """The video the checkerboard keeps from a user."""
    return user % 2 + 2 * ((user // 2 + 3) % (n // 2))


def parity_vectors(n: int) -> dict[str, Matrix]:
    """Visual vectors for all videos, acoustic ones for all but every fifth (a row of NaN)."""
    rng = np.random.default_rng(5)
    found = {}
    for modality, dim in (("visual", 6), ("acoustic", 4)):
        vectors = 0.1 * rng.standard_normal((n, dim))
        vectors[np.arange(n), np.arange(n) % 2] += 1
        found[modality] = vectors.astype(np.float32)
    found["acoustic"][::5] = np.nan
    return found


def clusters(seed: int, *, n_users: int = 60, n_videos: int = 90) -> dict[str, pa.Table]:
    """Three interests: users like a third of their cluster's videos and little else; some vectors
    are missing, one user and the last two videos have no edge, a sixth of the edges is later."""
    rng = np.random.default_rng(seed)
    own = rng.integers(3, size=n_users)[:, None] == rng.integers(3, size=n_videos)
    likes = rng.random((n_users, n_videos)) < np.where(own, 0.35, 0.02)
    likes[n_users // 2] = False
    likes[:, -2:] = False
    later = rng.random(likes.shape) < 1 / 6
    cluster_vectors = rng.standard_normal((3, 5))[rng.integers(3, size=n_videos)]
    vectors = {
        name: (cluster_vectors + 0.2 * rng.standard_normal((n_videos, 5))).astype(np.float32)
        for name in ("visual", "textual")
    }
    vectors["textual"][rng.random(n_videos) < 0.3] = np.nan
    return tables({"train": likes & ~later, "validation": likes & later}, vectors=vectors)


def tables(
    likes: Mapping[str, npt.NDArray[np.bool_]], *, vectors: Mapping[str, Matrix] | None = None
) -> dict[str, pa.Table]:
    """All tables of a graph from the liked pairs of each part and the vectors per modality."""
    n_users, n_videos = next(iter(likes.values())).shape
    ids = [f"v{video:04d}" for video in range(n_videos)]
    anywhere = np.logical_or.reduce(list(likes.values()))
    return {
        "watch_edges": pa.concat_tables(
            watch_edges(split, *np.nonzero(liked)) for split, liked in likes.items()
        ),
        "users": pa.table(
            {
                "user_idx": pa.array(range(n_users), pa.int32()),
                "user_id": [f"u{user:04d}" for user in range(n_users)],
            }
        ),
        "video_nodes": pa.table(
            {
                "video_idx": pa.array(range(n_videos), pa.int32()),
                "video_id": ids,
                "eligible": [True] * n_videos,
            }
        ),
        "video_features": video_features(vectors or {}, ids),
        "modality_edges": modality_edges(vectors or {}, k=4),
        "user_edges": user_edges(anywhere),
    }


def watch_edges(split: str, user: npt.ArrayLike, video: npt.ArrayLike) -> pa.Table:
    """One positive viewing for each pair; the later in the part the higher the indices."""
    user, video = np.asarray(user), np.asarray(video)
    at = PARTS.index(split) * DAY_US + (user * 7919 + video * 104729) % 1000 * 1000
    return pa.table(
        {
            "split": pa.array([split] * len(user), pa.string()),
            "user_idx": pa.array(user, pa.int32()),
            "video_idx": pa.array(video, pa.int32()),
            "weight": pa.array(1 + (user + video) % 3 / 7, pa.float64()),
            "n_views": pa.array(np.ones(len(user)), pa.int32()),
            "n_positive": pa.array(np.ones(len(user)), pa.int32()),
            "n_negative": pa.array(np.zeros(len(user)), pa.int32()),
            "undone": pa.array(np.zeros(len(user), dtype=bool)),
            "last_at": pa.array(at, pa.int64()).cast(pa.timestamp("us", "UTC")),
        }
    )


def video_features(vectors: Mapping[str, Matrix], ids: list[str]) -> pa.Table:
    """A row for each vector without NaN."""
    rows = [
        (modality, ids[video], vector.tolist())
        for modality, matrix in vectors.items()
        for video, vector in enumerate(matrix)
        if np.isfinite(vector).all()
    ]
    names, owners, values = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "modality": pa.array(names, pa.string()),
            "video_id": pa.array(owners, pa.string()),
            "vector": pa.array(values, pa.list_(pa.float32())),
        }
    )


def modality_edges(vectors: Mapping[str, Matrix], *, k: int) -> pa.Table:
    """Brute-force cosine neighbours."""
    rows = []
    for modality, matrix in vectors.items():
        whole = np.flatnonzero(np.isfinite(matrix).all(axis=1))
        unit = matrix[whole] / np.linalg.norm(matrix[whole], axis=1, keepdims=True)
        cosine = unit @ unit.T
        for place, video in enumerate(whole):
            order = [other for other in np.argsort(-cosine[place]) if other != place][:k]
            rows += [(modality, video, whole[other], cosine[place, other]) for other in order]
    names, videos, neighbours, similarities = zip(*rows, strict=True) if rows else ((),) * 4
    return pa.table(
        {
            "modality": pa.array(names, pa.string()),
            "video_idx": pa.array(videos, pa.int32()),
            "neighbour_idx": pa.array(neighbours, pa.int32()),
            "similarity": pa.array(similarities, pa.float32()),
        }
    )


def user_edges(likes: npt.NDArray[np.bool_]) -> pa.Table:
    """Brute-force positive Pearson correlations, all of them."""
    with np.errstate(invalid="ignore", divide="ignore"):
        pearson = np.nan_to_num(np.corrcoef(likes.astype(float)))
    np.fill_diagonal(pearson, 0)
    user, neighbour = np.nonzero(pearson > 1e-12)
    return pa.table(
        {
            "user_idx": pa.array(user, pa.int32()),
            "neighbour_idx": pa.array(neighbour, pa.int32()),
            "pearson": pa.array(pearson[user, neighbour], pa.float64()),
        }
    )


def shuffled(world: Mapping[str, pa.Table], seed: int) -> dict[str, pa.Table]:
    """The same rows of every table in another order."""
    rng = np.random.default_rng(seed)
    return {name: rows.take(rng.permutation(rows.num_rows)) for name, rows in world.items()}
