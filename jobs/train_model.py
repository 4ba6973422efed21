"""Fit one model to one fit's graph of the night.

Reads: watch_edges, users, video_nodes, video_features, modality_edges, user_edges of the day (also
sequences, exposures, clip_edges, clip_features, for models of these); of a model that trains in epochs
or compares neighbours also models (a final fit takes what its trial chose: the number of epochs, how
fast a history fades); for a warm start models, users, video_nodes of the day before.
Writes: models of (day, fit, model), and the artefact folder the row points to.
"""

import datetime as dt
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from microrec.config.settings import settings
from microrec.core import fitted
from microrec.models import registry
from microrec.models.training import runtime
from microrec.pipeline import networks
from microrec.pipeline.night import Night
from microrec.runner import job, processes


def main(day: job.Day, fit: job.Fit, model: job.Model) -> None:
    """Train one model."""
    night = Night.open(day, fit=fit)
    module = registry.model(model)
    tables, graph = networks.read_inputs(night, model)
    config: Any = night.recipe.section(f"models.{model}", module.Config)
    chosen = registry.card(model).from_trial
    if fit == "final" and chosen:
        (trial,) = night.read("models", fit="trial", model=model).to_pylist()
        report = json.loads(trial["metrics"])
        config = config.model_copy(update={name: report[name] for name in chosen})
    seed = registry.seed(night.seed, day=day, model=model)
    start = _warm_start(night, model, config, tables)
    checkpoints = night.warehouse.checkpoint_folder(day=day, fit=fit, model=model)
    run = runtime.Runtime(settings().device, checkpoints, start)
    trained = processes.fit(model, graph, config, np.random.default_rng(seed), run)
    save = partial(fitted.save, trained, config=config)
    path, digest = night.warehouse.save_artefact(day=day, fit=fit, model=model, save=save)
    row = {
        "config": config.model_dump_json(),
        "seed": seed,
        "first_day": day - dt.timedelta(days=night.config.window_days - 1),
        "last_day": day if fit == "final" else night.previous_day,
        "n_users": graph.n_users,
        "n_videos": graph.n_videos,
        "n_edges": len(graph.edges),
        "metrics": json.dumps(dict(trained.report), sort_keys=True),
        "path": path,
        "digest": digest,
    }
    night.write("models", pa.Table.from_pylist([row]), fit=fit, model=model)


def _warm_start(night: Night, model: str, config: Any, tables: Mapping[str, pa.Table]) -> Any:
    """What the training starts from: parameters of the night before, where the config asks for them."""
    before = night.previous_day
    find = partial(night.warehouse.find_artefact, day=before, model=model)
    read = partial(night.warehouse.read, day=before)
    return runtime.starts(config, str(before), nodes=tables, find=find, read=read)


if __name__ == "__main__":
    job.start(main)
