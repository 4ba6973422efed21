"""How a fit runs, as opposed to what it learns: nothing here changes what a model is after.

No torch in this file: jobs make a `Runtime` for models that never ask for it.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from microrec.core.fitted import load_parameters
from microrec.errors import MissingDay

logger = logging.getLogger(__name__)

NODES = ("users", "video_nodes")
"""The tables that say which node a row of parameters is of."""
STARTS = {"search": "trial", "refit": "final"}
"""By phase of a fit of day D: the fit of day D-1 that has seen no other days than the phase trains
on. A search trains on the days before D-1, as yesterday's trial did, and is judged by D-1. A refit
trains on the days before D, as yesterday's final fit did, and in the final fit on D besides."""

Parameters = Mapping[str, npt.NDArray[np.float32]]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Yesterday:
    """Parameters of an earlier fit, and where today's nodes are among its rows.

    Shapes:
        user: [n_users], video: [n_videos]; row of the earlier fit, -1 for a node it did not have
    """

    day: str
    parameters: Parameters
    user: Rows
    video: Rows


@dataclass(frozen=True, eq=False)
class Runtime:
    """Where and from where a fit starts."""

    device: str = "cpu"
    """As torch names it: `cpu`, `cuda`, `cuda:1`."""
    checkpoints: Path | None = None
    """Folder in which a fit leaves its state after each epoch, and from which it goes on; None:
    a fit that is interrupted starts anew."""
    yesterday: Mapping[str, Yesterday] = field(default_factory=dict)
    """By phase. `search` (choosing the number of epochs) may start from a fit that has seen no more
    than the training part, `refit` from one that has seen no more than the fit's own edges."""


def starts(
    config: Any,
    day: str,
    *,
    nodes: Mapping[str, pa.Table],
    find: Callable[..., Path],
    read: Callable[[str], pa.Table],
) -> dict[str, Yesterday]:
    """Return what the phases of a fit start from, if its config asks for a warm start.

    A phase for which yesterday left nothing is left out, and starts cold.

    Args:
        config: of the model
        day: yesterday
        nodes: `users` and `video_nodes` rows of today, by name
        find: opens the artefact of yesterday's `fit`
        read: opens one of yesterday's `NODES`

    Returns:
        Yesterday's parameters and places, by phase.
    """
    by_phase: dict[str, Yesterday] = {}
    if not getattr(config, "warm_start", False):
        return by_phase
    for phase in ("refit",) if config.epochs else ("search", "refit"):
        try:
            parameters = load_parameters(find(fit=STARTS[phase]))
            then = {name: read(name) for name in NODES}
        except MissingDay as missing:
            logger.info("warm_start phase=%s cold: %s", phase, missing)
            continue
        if parameters:
            by_phase[phase] = Yesterday(day, parameters, *places(nodes, then))
        logger.info("warm_start phase=%s day=%s parameters=%d", phase, day, len(parameters))
    return by_phase


def places(now: Mapping[str, pa.Table], then: Mapping[str, pa.Table]) -> tuple[Rows, Rows]:
    """Return where today's users and videos are among yesterday's, by id.

    Args:
        now: rows of today's `NODES`, by name.
        then: rows of yesterday's.

    Returns:
        [n_users] and [n_videos]; -1 where they are new.
    """

    def ids(of: Mapping[str, pa.Table], table: str, node: str) -> Any:
        return of[table].sort_by(f"{node}_idx")[f"{node}_id"].combine_chunks()

    def rows_of(table: str, node: str) -> Rows:
        position = pc.index_in(ids(now, table, node), value_set=ids(then, table, node))
        # The place among the rows of then is no index where somebody was erased.
        index = then[table].sort_by(f"{node}_idx")[f"{node}_idx"].combine_chunks().take(position)
        rows: Rows = pc.fill_null(index, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        return rows

    return rows_of("users", "user"), rows_of("video_nodes", "video")
