"""What a trial's lists do for videos nobody liked before."""

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from microrec.candidates.lists import exploration
from microrec.evaluation import gate
from microrec.evaluation.gate import Result
from microrec.evaluation.report import BLEND, Figure
from microrec.evaluation.truth import Truth
from microrec.pipeline.night import Night


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
    explores = trial.recipe.section("candidates.exploration", exploration.Config).places > 0
    results = gate.new_listed(figures, config=config) if explores else []
    if config.cold_source in lists:
        in_list = pc.field("rank") <= trial.config.k
        pair = {name: lists[name].filter(in_list) for name in (BLEND, config.cold_source)}
        results += gate.cold_recall(
            gain(pair, truth.cold(), metric=config.cold_metric), config=config
        )
    return results
