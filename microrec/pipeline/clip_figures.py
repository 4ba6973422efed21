"""How well the trial's clip model foretold where the viewers of the held-out day left: rows of `metrics`."""

from typing import TYPE_CHECKING

import numpy as np

from microrec.core.array_types import Bools, Floats, Int64s
from microrec.evaluation.report import Figure
from microrec.pipeline import networks
from microrec.pipeline.night import Night

if TYPE_CHECKING:
    from microrec.models.inputs.clip_arrays import ClipEdges

STAGE = "clips"
MODEL = "clip_interest"
N_BINS = 10
"""Of the calibration: equally many clips each, in the order of the predicted chance."""


def of_held_out_day(night: Night, reached: "ClipEdges", *, device: str) -> list[Figure]:
    """Ask the trial's model of the clips that were reached on the day it knows nothing of.

    Args:
        night: of the final fit.
        reached: clips that the final fit knows of. [n_reached]
        device: of torch.

    Returns:
        Rows of `metrics`; none if no trial was fitted, or nothing was reached on the day.
    """
    from microrec.models.clip import clip_interest

    trial = night.at(night.day, fit="trial")
    if not trial.exists("models", fit="trial", model=MODEL):
        return []
    _, graph = networks.read_inputs(trial, MODEL)
    of_day = reached.taken(reached.day >= clip_interest.clips_of(graph).today)
    if not len(of_day):
        return []
    network = networks.load(trial, MODEL, graph, device=device)
    logits = clip_interest.logits(network, graph, of_day.user_idx, of_day.clip)
    return figures(logits, of_day.through, of_day.clip)


def figures(logits: Floats, through: Bools, clip: Int64s) -> list[Figure]:
    """Measure chances of staying against who stayed.

    Args:
        logits: of watching the clip through. [n_reached]
        through: whether it was. [n_reached]
        clip: number of the clip; those of a clip are compared with one another. [n_reached]

    Returns:
        `within_clips`, the AUC of who left and who stayed within a clip, .5 for whatever is the same for all its
        viewers; `log_loss`; `ece`, the mean distance over `N_BINS` bins of the predicted and the observed share.
    """
    from microrec.models.sequence.auc import grouped_auc

    signed = np.where(through, logits, -logits).astype(np.float64)
    chance = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    order = np.argsort(chance, kind="stable")
    away = [
        abs(float(chance[part].mean() - through[part].mean())) * len(part)
        for part in np.array_split(order, min(N_BINS, len(order)))
    ]
    n = len(logits)
    values = {
        "within_clips": grouped_auc(logits, through, clip),
        "log_loss": float(np.logaddexp(0.0, -signed).mean()),
        "ece": sum(away) / n,
    }
    return [Figure(MODEL, metric, "all", value, n) for metric, value in values.items()]
