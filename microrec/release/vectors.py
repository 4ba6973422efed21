"""Vectors of a release's models, with the producers' ids: users and videos in one space, to search and to cluster.

A model has vectors if it scores by inner products of more than one dimension; `multi_trend` has several for a user.
Neighbour lists and ranking networks have none. The artefacts are those of the night that made the release, which are
kept for fewer days than releases.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microrec.core import fitted
from microrec.core.array_types import Float32s, Indices
from microrec.core.fitted import Embeddings, Fitted, Trends
from microrec.errors import MissingDay
from microrec.tables.arrow import Warehouse

FIT = "final"


def models(warehouse: Warehouse, release: Mapping[str, Any]) -> list[str]:
    """Return the names of the models of a release that have vectors.

    Args:
        warehouse: has the models.
        release: its `day`, and `inputs`, the digest of what it was made of.

    Raises:
        MissingDay: the models of the day are gone, or of another run.
    """
    rows = _rows(warehouse, release)
    return [name for name in sorted(rows) if _has_vectors(_load(warehouse, rows[name]))]


def vectors(
    warehouse: Warehouse, release: Mapping[str, Any], model: str, *, without: pa.Array
) -> pa.Table:
    """Return the vectors of one model.

    Args:
        warehouse: has the models.
        release: its `day`, and `inputs`, the digest of what it was made of.
        model: name of the model.
        without: user_id of who is left out.

    Returns:
        One row per (kind, id, part): kind (user or video), id, part (0, or the trend of a user), model, space (only
        vectors of equal space may be compared; their inner product is the score), norm, vector [dim].

    Raises:
        MissingDay: the day has no such model, it has no vectors, or they are gone or of another run.
    """
    rows = _rows(warehouse, release)
    if model not in rows:
        raise MissingDay(f"models[day={release['day']}]: no {model}, there are {sorted(rows)}")
    loaded = _load(warehouse, rows[model])
    if not isinstance(loaded, Embeddings | Trends) or not _has_vectors(loaded):
        named = models(warehouse, release)
        raise MissingDay(f"models[day={release['day']}]: {model} has no vectors; {named} have some")
    day = release["day"]
    users = warehouse.read("users", day=day, columns=["user_idx", "user_id"])
    users = users.filter(pc.invert(pc.is_in(users["user_id"], value_set=without)))
    videos = warehouse.read("video_nodes", day=day, columns=["video_idx", "video_id"])
    of_users, of_videos = _of_users(loaded), (loaded.video, loaded.video_known)
    parts = [_table("user", users, part, *each) for part, each in enumerate(of_users)]
    whole = pa.concat_tables([*parts, _table("video", videos, 0, *of_videos)])
    names = {"model": model, "space": f"{model}@{rows[model]['digest'][:16]}"}
    for at, (name, value) in enumerate(names.items(), start=3):
        whole = whole.add_column(at, name, pa.repeat(value, whole.num_rows))
    return whole


def _rows(warehouse: Warehouse, release: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of `models` of the night that made the release, by model."""
    day = release["day"]
    if release["inputs"] is not None and warehouse.exists("nights", day=day):
        (night,) = warehouse.read("nights", day=day)["inputs"].to_pylist()
        if night != release["inputs"]:
            raise MissingDay(f"models[day={day}]: they are of a later run than the release")
    if not warehouse.exists("models", day=day):
        raise MissingDay(f"models[day={day}]: those of the release are no longer kept")
    rows = warehouse.read("models", day=day).to_pylist()
    return {row["model"]: row for row in rows if row["fit"] == FIT}


def _load(warehouse: Warehouse, row: Mapping[str, Any]) -> Fitted | None:
    """The fitted model of a row of `models`; None for the learned blend, which is trees."""
    folder = warehouse.open_artefact(row["path"], row["digest"])
    return fitted.load(folder) if (folder / "arrays.safetensors").exists() else None


def _has_vectors(model: Fitted | None) -> bool:
    return isinstance(model, Embeddings | Trends) and model.video.shape[1] > 1


def _of_users(model: Embeddings | Trends) -> list[tuple[Float32s, NDArray[np.bool_]]]:
    """Vectors of the users and which are known, by part."""
    if isinstance(model, Embeddings):
        return [(model.user, model.user_known)]
    trends = range(model.user.shape[1])
    return [(model.user[:, trend], model.trend_known[:, trend]) for trend in trends]


def _table(
    kind: str, nodes: pa.Table, part: int, vectors: Float32s, known: NDArray[np.bool_]
) -> pa.Table:
    """Rows of the nodes that have a vector, in the order of their ids."""
    nodes = nodes.sort_by(f"{kind}_id")
    idx: Indices = np.asarray(nodes[f"{kind}_idx"], dtype=np.int64)
    with_vector = np.flatnonzero(known[idx])
    rows = np.ascontiguousarray(vectors[idx[with_vector]], dtype=np.float32)
    flat = pa.array(rows.reshape(-1), pa.float32())
    n_rows = len(rows)
    return pa.table(
        {
            "kind": pa.repeat(kind, n_rows),
            "id": nodes[f"{kind}_id"].take(pa.array(with_vector)).combine_chunks(),
            "part": pa.array(np.full(n_rows, part), pa.int32()),
            "norm": pa.array(np.linalg.norm(rows, axis=1), pa.float32()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        }
    )
