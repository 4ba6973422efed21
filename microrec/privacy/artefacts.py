"""Models without some people: their rows become zeros, their lists go, and they leave the lists of others.

Of the last two days, which the next night may start from, models are saved anew under the digest of what they are then.
The folders of earlier days, which no night reads, go as a whole; so do checkpoints of trainings that never ended.
"""

import datetime as dt
import logging
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as fs
from safetensors.numpy import load_file, save_file

from microrec.core import fitted
from microrec.core.array_types import Int64s
from microrec.core.fitted import Embeddings, Fitted, NeighbourLists, Trends
from microrec.errors import MissingDay
from microrec.tables.arrow import Warehouse
from microrec.tables.commit import filesystem

logger = logging.getLogger(__name__)

KEPT_DAYS = 2
USER_ROWS = ("user_id", "preference")
"""Last parts of the names of parameters that have a row per user (`USER_ROWS` of the networks)."""


def erase(warehouse: Warehouse, indices: Mapping[str, Collection[int]]) -> list[str]:
    """Save the models of the last days without some users.

    Args:
        warehouse: has the models.
        indices: by day the `user_idx` of those who go.

    Returns:
        Folders that go, relative to the warehouse: those of earlier days, and those that were saved anew.
    """
    left = []
    last = _last_days(warehouse)
    for day in sorted(indices):
        if day not in last:
            left += [path for path in _named(warehouse, day) if _is_folder(warehouse, path)]
            continue
        gone = np.array(sorted(indices[day]), np.int64)
        for row in warehouse.read("models", day=dt.date.fromisoformat(day)).to_pylist():
            if _save_without(warehouse, row, gone):
                left.append(str(row["path"]))
    return sorted(left)


def _save_without(warehouse: Warehouse, row: Mapping[str, Any], gone: Int64s) -> bool:
    """Save one model anew, and point its row of `models` to it; whether it was another."""
    try:
        folder = warehouse.open_artefact(row["path"], row["digest"])
    except MissingDay as missing:
        logger.info("artefact passed over: %s", missing)
        return False
    scope = {name: row[name] for name in ("day", "fit", "model")}

    def save(target: Path) -> None:
        shutil.copytree(folder, target, dirs_exist_ok=True)
        without(target, gone, n_users=int(row["n_users"]))

    path, digest = warehouse.save_artefact(**scope, save=save)
    if path == row["path"]:
        return False
    changed = {name: value for name, value in row.items() if name not in scope}
    kinds = [f for f in warehouse.table("models").contract.schema if f.name in changed]
    schema = pa.schema([pa.field(each.name, each.type) for each in kinds])
    rows = pa.Table.from_pylist([changed | {"path": path, "digest": digest}], schema=schema)
    warehouse.write("models", rows, **scope)
    return True


def without(folder: Path, gone: Int64s, *, n_users: int) -> None:
    """Take users out of a model, in place; a file that has nothing of them stays as it is, byte for byte.

    Args:
        folder: as `core.fitted.save` writes it; one of another format has nothing of users (trees).
        gone: user_idx of those who go; the model has none of them from `n_users` on. [n_gone]
        n_users: indices of the model's users.
    """
    gone = gone[gone < n_users]
    if (folder / "model.json").exists():
        model = fitted.load(folder)
        cleaned = _without(model, gone)
        if cleaned is not model:
            _save_arrays(cleaned, folder)
    parameters = folder / fitted.PARAMETERS
    if parameters.exists():
        arrays = load_file(parameters)
        of_users = [
            name
            for name, array in arrays.items()
            if name.split(".")[-1] in USER_ROWS and array.shape[:1] == (n_users,)
        ]
        for name in of_users:
            arrays[name][gone] = 0
        if of_users:
            save_file(arrays, parameters)


def _without(model: Fitted, gone: Int64s) -> Fitted:
    if isinstance(model, Embeddings):
        user, known = model.user.copy(), model.user_known.copy()
        user[gone], known[gone] = 0, False
        return replace(model, user=user, user_known=known)
    if isinstance(model, Trends):
        user, known = model.user.copy(), model.trend_known.copy()
        user[gone], known[gone] = 0, False
        return replace(model, user=user, trend_known=known)
    if isinstance(model, NeighbourLists) and model.axis == "user":
        node = np.repeat(np.arange(len(model.indptr) - 1), np.diff(model.indptr))
        kept = ~np.isin(node, gone) & ~np.isin(model.neighbour, gone)
        sizes = np.bincount(node[kept], minlength=len(model.indptr) - 1)
        indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(model.indptr.dtype)
        return replace(
            model,
            indptr=indptr,
            neighbour=model.neighbour[kept],
            similarity=model.similarity[kept],
        )
    return model


def _save_arrays(model: Fitted, folder: Path) -> None:
    fields = dict(vars(model))
    arrays = {
        name: np.ascontiguousarray(array)
        for name, array in fields.items()
        if isinstance(array, np.ndarray)
    }
    save_file(arrays, folder / "arrays.safetensors")


def unnamed(warehouse: Warehouse, days: Collection[str]) -> list[str]:
    """Return the folders of single models of some days that no row of `models` points to, checkpoints among them.

    Args:
        warehouse: has the models.
        days: with somebody who is erased among their users.

    Returns:
        Paths relative to the warehouse.
    """
    unnamed_paths = []
    for day in sorted(days):
        named = _named(warehouse, day)
        unnamed_paths += [path for path in _folders(warehouse, day) if path not in named]
    return unnamed_paths


def modified_at(warehouse: Warehouse, path: str) -> float:
    """Return when something in a folder was last changed, seconds since 1970."""
    store, root = filesystem(warehouse.root, warehouse.options)
    infos = store.get_file_info(fs.FileSelector(f"{root}/{path}", recursive=True))
    return max([(info.mtime_ns or 0) / 1e9 for info in infos], default=0.0)


def delete(warehouse: Warehouse, paths: Sequence[str]) -> None:
    """Delete folders of models, and the folders above them that are empty then.

    Args:
        warehouse: has them.
        paths: relative to it; those that are gone are passed over.
    """
    store, root = filesystem(warehouse.root, warehouse.options)
    for path in paths:
        if not _is_folder(warehouse, path):
            continue
        store.delete_dir(f"{root}/{path}")
        above = path.rsplit("/", 1)[0]
        while above.count("/") and not store.get_file_info(fs.FileSelector(f"{root}/{above}")):
            store.delete_dir(f"{root}/{above}")
            above = above.rsplit("/", 1)[0]


def _named(warehouse: Warehouse, day: str) -> set[str]:
    """Folders that rows of `models` of a day point to."""
    of_day = dt.date.fromisoformat(day)
    if not warehouse.exists("models", day=of_day):
        return set()
    return set(warehouse.read("models", day=of_day, columns=["path"])["path"].to_pylist())


def _last_days(warehouse: Warehouse) -> list[str]:
    days = {str(partition["day"]) for partition in warehouse.partitions("models")}
    return sorted(days)[-KEPT_DAYS:]


def _folders(warehouse: Warehouse, day: str) -> list[str]:
    """Folders of single models of a day, checkpoints and half-written ones too."""
    store, root = filesystem(warehouse.root, warehouse.options)
    selector = fs.FileSelector(f"{root}/artefacts/day={day}", recursive=True, allow_not_found=True)
    paths = [
        info.path[len(root) :].lstrip("/")
        for info in store.get_file_info(selector)
        if info.type == fs.FileType.Directory
    ]
    return sorted(path for path in paths if path.count("/") == 4)


def _is_folder(warehouse: Warehouse, path: str) -> bool:
    store, root = filesystem(warehouse.root, warehouse.options)
    return bool(store.get_file_info(f"{root}/{path}").type == fs.FileType.Directory)
