"""What a night goes without: models for which nobody ever delivered what they need, tables that no model reads.

Nor has a ranking model anything to say that has learned from feedback of one kind alone, such as that of a log without
watch times: its order of the candidates is left out, and named.

Absent is what no producer has: no line of the raw table in any file through the day, and no row of its table that day
(vectors may be made of words) or the night before. Vectors that have stopped arriving, or that were all refused, are a
fault, and the gate judges their source.
"""

import datetime as dt
from collections.abc import Mapping

from microrec.candidates.lists.segments import Config as Segments
from microrec.config.recipe import ranked_by
from microrec.models import registry
from microrec.pipeline import networks
from microrec.pipeline.night import Night

RAW = {"video_features": "raw_video_features", "clip_features": "raw_clip_features"}
"""Raw table of each table that a producer need not have."""


def is_read(night: Night, table: str) -> bool:
    """Return whether a model that the recipe has trained, or lists of surfaces, read a table.

    Args:
        night: for the recipe.
        table: name of the table.
    """
    if (
        table == "exposure_counts"
        and night.recipe.section("candidates.segments", Segments).surfaces
    ):
        return True
    return any(table in registry.card(model).reads for model in night.config.trained)


def absent_models(night: Night) -> Mapping[str, str]:
    """Return the models of the recipe that have nothing to go by, and the tables they need.

    Args:
        night: its day is validated.

    Returns:
        Names of tables by model; empty where every model has what it needs, or nothing was counted as it arrived.
    """
    if not night.exists("metrics", stage="events"):
        return {}
    rows = night.read("metrics", stage="events").to_pylist()
    n_lines = {row["name"]: row["value"] for row in rows if row["metric"] == "rows_in"}
    absent = {
        table
        for table, raw in RAW.items()
        if not n_lines.get(raw, 0)
        and not any(_has_rows(night, table, day) for day in (night.day, night.previous_day))
    }
    needed = {
        model: absent.intersection(registry.card(model).needs) for model in night.config.trained
    }
    return {model: ", ".join(sorted(tables)) for model, tables in needed.items() if tables}


def mute_rankers(night: Night) -> Mapping[str, str]:
    """Return the sources of ranking models that learned from one kind of feedback alone, and what they need.

    Args:
        night: of a fit; its rankers are fitted.

    Returns:
        What is lacking, in words, by source; empty where every ranker has been shown both kinds.
    """
    labels = {ranked_by(model): networks.only_label(night, model) for model in night.config.rankers}
    words = {True: "feedback that is not positive", False: "positive feedback"}
    return {source: words[label] for source, label in labels.items() if label is not None}


def _has_rows(night: Night, table: str, day: dt.date) -> bool:
    return night.warehouse.exists(table, day=day) and night.warehouse.count(table, day=day) > 0
