"""Fitted models: four kinds, saved as safetensors and JSON.

A folder holds `arrays.safetensors`, `model.json` (format, kind, axis, config, report) and, of a model that was trained
in epochs, `parameters.safetensors` for the next night's warm start. All are a function of their content alone (no
clock, no host, sorted keys), so that a digest of the folder tells whether two nights trained the same model.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from safetensors.numpy import load_file, save_file

from microrec.core.array_types import Bools, Float32s, Int32s, Int64s
from microrec.errors import ContractViolation

PARAMETERS = "parameters.safetensors"
FORMAT = 2
"""Version of the folder's layout; raised when a reader of the old one would misread the new one. 2: neighbour
lists have `history_decay`; those of format 1 were made with 1."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Score of (user, video) = inner product of their rows; an unknown one has a row of zeros.

    Shapes:
        user: [n_users, dim], video: [n_videos, dim], user_known: [n_users],
        video_known: [n_videos]
    """

    user: Float32s
    video: Float32s
    user_known: Bools
    video_known: Bools


@dataclass(frozen=True, eq=False)
class NeighbourLists:
    """For each node its neighbours, nearest first (ties by index), as compressed rows.

    N_u are the videos of the positive edges of user u; R_uj = history_decay^s for each of them, s = 0 for the one
    watched last, 1 for the one before it (`Knowledge.recent`), else 0.

    - axis `user`: node u lists users w; score(u, v) = sum over w of sim(u, w) R_wv
    - axis `video`: node j lists videos v; score(u, v) = sum over j in N_u of R_uj sim(j, v) / sum over j of R_uj

    Shapes:
        indptr: [n_nodes + 1], neighbour: [n_pairs], similarity: [n_pairs]
    """

    axis: Literal["user", "video"]
    indptr: Int64s
    neighbour: Int32s
    similarity: Float32s
    history_decay: float = 1.0
    """Weight of a video of a history against the one watched after it."""


@dataclass(frozen=True, eq=False)
class Trends:
    """Several rows per user; score of (user, video) = the largest of their inner products.

    Shapes:
        user: [n_users, n_trends, dim], zeros where not known; video: [n_videos, dim];
        trend_known: [n_users, n_trends]; video_known: [n_videos]
    """

    user: Float32s
    video: Float32s
    trend_known: Bools
    video_known: Bools


@dataclass(frozen=True, eq=False)
class Ranker:
    """Proposes nothing: scores pairs of a user and a video by the network of its parameters."""


Fitted = Embeddings | NeighbourLists | Trends | Ranker


@dataclass(frozen=True, eq=False)
class Trained:
    """Result of a model's `fit`."""

    fitted: Fitted
    report: Mapping[str, Any]
    """What training found out, JSON values only; no times, so that a re-run writes the same."""
    parameters: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """What a network learned, by name, for a later fit to start from."""


ONLY_LABEL = "only_label"
"""Entry of the report of a model that learned to tell two kinds of feedback apart, and was shown one alone."""


def only_label(label: Bools) -> dict[str, bool]:
    """Return an entry of a report: which label all examples have, if they have one alone.

    Args:
        label: of each example. [n_examples]

    Returns:
        `ONLY_LABEL` and the label; nothing where there are both, or no examples.
    """
    return {ONLY_LABEL: bool(label[0])} if len(label) and bool((label == label[0]).all()) else {}


def save(trained: Trained, folder: Path, *, config: BaseModel) -> None:
    """Write a fitted model into a folder.

    Args:
        trained: the model, its report and the parameters of its network.
        folder: created if need be.
        config: the configuration the model was fitted with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fitted = trained.fitted
    report = trained.report
    fields = dict(vars(fitted))
    header = {
        "format": FORMAT,
        "kind": type(fitted).__name__,
        "axis": fields.pop("axis", None),
        "config": config.model_dump(mode="json"),
        "report": dict(report),
    }
    if "history_decay" in fields:
        header["history_decay"] = fields.pop("history_decay")
    arrays = {name: np.ascontiguousarray(array) for name, array in fields.items()}
    save_file(arrays, folder / "arrays.safetensors")
    if trained.parameters:
        parameters = {name: np.ascontiguousarray(p) for name, p in trained.parameters.items()}
        save_file(parameters, folder / PARAMETERS)
    text = json.dumps(header, indent=2, sort_keys=True, allow_nan=False)
    (folder / "model.json").write_text(text + "\n")


def load(folder: Path) -> Fitted:
    """Read a model that `save` wrote, bit for bit.

    Returns:
        An instance of the class that was saved.

    Raises:
        ContractViolation: the folder was written in another format or holds another kind.
    """
    header = json.loads((folder / "model.json").read_text())
    arrays = load_file(folder / "arrays.safetensors")
    match header["format"], header["kind"]:
        case 1 | 2, "Embeddings":
            return Embeddings(**arrays)
        case 1 | 2, "Ranker":
            return Ranker()
        case 1 | 2, "Trends":
            return Trends(**arrays)
        case 1 | 2, "NeighbourLists":
            decay = header.get("history_decay", 1.0)
            return NeighbourLists(axis=header["axis"], **arrays, history_decay=decay)
        case other:
            raise ContractViolation(f"model {folder}: format and kind {other} are not known here")


def load_config(folder: Path) -> dict[str, Any]:
    """Return the configuration a model was fitted with, as its `Config` takes it."""
    config: dict[str, Any] = json.loads((folder / "model.json").read_text())["config"]
    return config


def load_parameters(folder: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a model's network by name; empty for a model without parameters.

    Returns:
        Arrays as `Trained.parameters` held them, shapes [n_rows, dim] or as the network declares.
    """
    path = folder / PARAMETERS
    return load_file(path) if path.exists() else {}
