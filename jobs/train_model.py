"""Fit one model to one fit's graph of the night.

Reads: watch_edges, users, video_nodes, video_features, modality_edges, user_edges of the day (also
sequences, exposures, for models of these); of a model that trains in epochs also models (a final fit
takes their number from its trial); for a warm start models, users, video_nodes of the day before.
Writes: models of (day, fit, model), and the artefact folder the row points to.
"""

import datetime as dt
import json
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from microrec.config import recipe
from microrec.config.settings import settings
from microrec.core import fitted
from microrec.models import registry
from microrec.models.training import runtime
from microrec.pipeline import networks
from microrec.runner import job, processes
from microrec.tables import arrow


def main(day: job.Day, fit: job.Fit, model: job.Model) -> None:
    """Train one model."""
    warehouse, night, module = arrow.Warehouse.open(), recipe.night(), registry.model(model)
    tables, graph = networks.learned(warehouse, model, day=day, fit=fit)
    config: Any = recipe.section(f"models.{model}", module.Config)
    if fit == "final" and "epochs" in module.Config.model_fields:
        (trial,) = warehouse.read("models", day=day, fit="trial", model=model).to_pylist()
        config = config.model_copy(update={"epochs": json.loads(trial["metrics"])["epochs"]})
    seed, before = registry.seed(night.seed, day=day, model=model), day - dt.timedelta(days=1)
    find = partial(warehouse.find_artefact, day=before, model=model)
    read = partial(warehouse.read, day=before)
    start = runtime.starts(config, str(before), nodes=tables, find=find, read=read)
    checkpoints = warehouse.checkpoint_folder(day=day, fit=fit, model=model)
    run = runtime.Runtime(settings().device, checkpoints, start)
    trained = processes.fit(model, graph, config, np.random.default_rng(seed), run)
    save = partial(fitted.save, trained, config=config)
    path, digest = warehouse.save_artefact(day=day, fit=fit, model=model, save=save)
    row = {
        "config": config.model_dump_json(),
        "seed": seed,
        "first_day": day - dt.timedelta(days=night.window_days - 1),
        "last_day": day - dt.timedelta(days=0 if fit == "final" else 1),
        "n_users": graph.n_users,
        "n_videos": graph.n_videos,
        "n_edges": len(graph.edges),
        "metrics": json.dumps(dict(trained.report), sort_keys=True),
        "path": path,
        "digest": digest,
    }
    warehouse.write("models", pa.Table.from_pylist([row]), day=day, fit=fit, model=model)


if __name__ == "__main__":
    job.start(main)
