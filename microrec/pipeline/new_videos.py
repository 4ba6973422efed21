"""What a trial's lists do for videos nobody liked before."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.candidates.lists import exploration, fill
from microrec.evaluation import gate
from microrec.evaluation.gate import Result
from microrec.evaluation.report import BLEND, EXPLORATION, UNEXPLORED, Figure
from microrec.evaluation.truth import Truth
from microrec.pipeline.night import Night

SHARE = (EXPLORATION, "users_share")
"""Name and metric of the share of users who have new videos in their lists."""


def judged(
    trial: Night,
    lists: Mapping[str, pa.Table],
    truth: Truth,
    figures: Sequence[Figure],
    *,
    gain: Callable[..., list[Figure]],
) -> list[Result]:
    """Judge how many such videos the blend finds of those that were liked, and how many are in a list.

    Args:
        trial: for the recipe.
        lists: the blend and the sources by name, one row per (user, rank).
        truth: what is right.
        figures: metrics of the trial.
        gain: `ranking.gain` with its configuration and generator filled in.

    Returns:
        Whether the blend finds as many as their own source does in a list of the same length, and how many are in any
        list, if the recipe explores; nothing of what was not measured.
    """
    config = trial.recipe.section("evaluation.gate", gate.Config)
    results = gate.new_listed(figures, config=config) if _explores(trial) else []
    if config.cold_source in lists:
        in_list = pc.field("rank") <= trial.config.k
        pair = {name: lists[name].filter(in_list) for name in (BLEND, config.cold_source)}
        results += gate.cold_recall(
            gain(pair, truth.cold(), metric=config.cold_metric), config=config
        )
    return results


def price(
    trial: Night, blend: pa.Table, truth: Truth, *, gain: Callable[..., list[Figure]]
) -> list[Figure]:
    """Measure what the explored videos cost: lists against the same lists without them, paired.

    Up to the rank K minus the explored places those are the lists that there would be without exploration.

    Args:
        trial: for the recipe.
        blend: one row per (user, rank), with the source of each.
        truth: what is right.
        gain: `ranking.gain` with its metric, configuration and generator filled in.

    Returns:
        The difference, overall and by history; nothing where the recipe does not explore.
    """
    if not _explores(trial):
        return []
    kept = blend.filter(pc.field("source") != fill.EXPLORED)
    kept = kept.sort_by([("user_idx", "ascending"), ("rank", "ascending")])
    user = kept["user_idx"].to_numpy()
    rank = np.arange(1, len(user) + 1) - np.searchsorted(user, user)
    at = kept.schema.get_field_index("rank")
    unexplored = kept.set_column(at, "rank", pa.array(rank, pa.int32()))
    return gain({BLEND: blend, UNEXPLORED: unexplored}, truth)


def users_share(night: Night) -> float:
    """Return which share of a fit's users have new videos in their lists.

    Args:
        night: the fit.

    Returns:
        What `contestants.made` has found in the trial; 1 in the trial itself and where it has found nothing.
    """
    trial = night.at(night.day, fit="trial")
    if night.fit == "trial" or not trial.exists("metrics", stage="evaluation"):
        return 1.0
    rows = trial.read("metrics", stage="evaluation").to_pylist()
    return next((row["value"] for row in rows if (row["name"], row["metric"]) == SHARE), 1.0)


def _explores(trial: Night) -> bool:
    return trial.recipe.section("candidates.exploration", exploration.Config).places > 0
