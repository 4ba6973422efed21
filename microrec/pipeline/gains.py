"""The blend's gain over popularity: what a night keeps of it, and what the nights before have shown."""

import datetime as dt
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from microrec.evaluation import gate, pooled, ranking
from microrec.evaluation.gate import Result
from microrec.evaluation.pooled import Earlier
from microrec.evaluation.report import BLEND, DIFFERENCE, FLOOR, OURS, Figure
from microrec.evaluation.truth import Truth
from microrec.pipeline.fit_tables import FitTables
from microrec.pipeline.night import Night
from microrec.release import reader

STAGE = "gains"
"""Stage of the rows of `metrics`."""


def by_cluster(
    night: Night, tables: FitTables, lists: Mapping[str, pa.Table], truth: Truth
) -> list[Figure]:
    """Return what the night keeps of its users' gains.

    Args:
        night: for the recipe.
        tables: of the night; has the ids of its users.
        lists: the blend and popularity among them, one row per (user, rank).
        truth: what is right.

    Returns:
        Rows of `metrics`, stage gains; none where the recipe has no popularity.
    """
    if FLOOR not in lists:
        return []
    metric = night.recipe.section("evaluation.gate", gate.Config).metric
    config = night.recipe.section("evaluation.ranking", ranking.Config)
    pair = {name: lists[name] for name in (BLEND, FLOOR)}
    gains = ranking.differences(pair, truth, metric, config=config)
    order = np.argsort(tables.users["user_idx"].to_numpy())
    user_ids = tables.users["user_id"].take(order[truth.users])
    return pooled.figures(gains, user_ids, metric=metric)


def judged(
    night: Night,
    clusters: Sequence[Figure],
    figures: Sequence[Figure],
    *,
    source_value: float,
) -> list[Result]:
    """Judge the blend's gain over popularity beside that of the nights before.

    Args:
        night: of the trial.
        clusters: result of `by_cluster`.
        figures: metrics of the trial.
        source_value: the best source's figure of merit.

    Returns:
        Results that hold: whether the gain is shown, and whether it is kept.
    """
    asks = night.recipe.section("evaluation.gate", gate.Config)
    resamples = night.recipe.section("evaluation.ranking", ranking.Config).resamples
    tonight = next(
        (f for f in figures if (f.name, f.metric, f.slice) == (DIFFERENCE, asks.metric, "all")),
        None,
    )
    shown = pooled.evidence(clusters)
    earlier = _earlier(night, {figure.name for figure in figures}, asks)
    nights = [] if shown is None else [shown, *(each.evidence for each in earlier)]
    better = pooled.better_than_popularity(
        tonight, nights, config=asks, resamples=resamples, generator=night.generator(STAGE)
    )
    return [better, *pooled.gain_kept(tonight, earlier, source_value, config=asks)]


def _earlier(night: Night, names: set[str], asks: gate.Config) -> list[Earlier]:
    """Nights before that had the same sources, latest first."""
    measured = night.warehouse.partitions("metrics")
    days = {part["day"] for part in measured if part["stage"] == STAGE}
    released = set(reader.days(night.warehouse.root))
    nights = []
    for back in range(1, asks.pooled_nights):
        day = night.day - dt.timedelta(days=back)
        if str(day) in days:
            evidence = _evidence(night.at(day, fit="trial"), names - OURS, asks.metric)
            nights += [Earlier(evidence, day in released)] if evidence is not None else []
    return nights


def _evidence(before: Night, sources: set[str], metric: str) -> pooled.Evidence | None:
    """What a night before has shown, if its blend was made of the same sources."""
    names = set(before.read("metrics", stage="evaluation")["name"].to_pylist())
    if names - OURS != sources:
        return None
    rows = before.read("metrics", stage=STAGE).drop_columns(["day", "stage"]).to_pylist()
    return pooled.evidence(Figure(**row) for row in rows if row["metric"] == metric)
