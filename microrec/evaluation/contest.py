"""Choose between the learned blend and the closed form, and compare the choice with the release of the day before."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from microrec.evaluation import champion, gate
from microrec.evaluation.gate import Result
from microrec.evaluation.report import BEST_SOURCE, BLEND, CHAMPION, CLOSED_FORM, LEARNED, Figure
from microrec.evaluation.truth import Truth

Gain = Callable[[Mapping[str, pa.Table], Truth], list[Figure]]
"""`ranking.gain` with all but the two lists and the truth filled in."""


class Yardstick(NamedTuple):
    """What a loss is compared with."""

    source_value: float
    """The best source's figure of merit."""
    window_days: int
    """Event days a release sees."""


class Outcome(NamedTuple):
    """How the contest went."""

    lists: dict[str, pa.Table]
    """All that took part, the blend among them, by name."""
    judged: list[Result]
    churn: float | None
    """Share of first places that are new since yesterday; None without a release of yesterday."""


def held(
    lists: Mapping[str, pa.Table],
    before: pa.Table | None,
    truth: Truth,
    *,
    gain: Gain,
    yardstick: Yardstick,
    config: gate.Config,
) -> Outcome:
    """Compare the lists of the trial on what its users went on to like.

    The learned blend stands unless it is shown to be worse than the closed form; which of the two stands gives way to
    the best source alone if it is worse; what then stands is compared with the release of the day before.

    Args:
        lists: `closed_form`, `best_source`, and `learned` if there is one; one row per (user, rank) each.
        before: the lists of the release of the day before by tonight's indices, if there is one.
        truth: what is right.
        gain: measures the paired difference of two lists.
        yardstick: what a loss is compared with.
        config: how much worse the blend may be.

    Returns:
        The lists under the names of the report, the gates' results, and the churn.
    """
    judged = list[Result]()
    churn = None
    compared = dict(lists)
    blended = lists[CLOSED_FORM]
    if LEARNED in lists:
        pair = {name: lists[name] for name in (LEARNED, CLOSED_FORM)}
        judged.append(gate.learned_not_worse(gain(pair, truth)))
        blended = lists[LEARNED] if judged[0].status == "pass" else blended
    pair = {BLEND: blended, BEST_SOURCE: lists[BEST_SOURCE]}
    source_kept = gate.not_below_source(gain(pair, truth), yardstick.source_value, config=config)
    judged.append(source_kept)
    blended = blended if source_kept.status == "pass" else lists[BEST_SOURCE]
    if before is not None:
        shared = truth.only(np.isin(truth.users, before["user_idx"].to_numpy()))
        gains = gain({BLEND: blended, CHAMPION: before}, shared)
        judged += gate.against_champion(gains, *yardstick, config=config)
        compared[CHAMPION] = before
        churn = champion.churn(blended, before)
    return Outcome({**compared, BLEND: blended}, judged, churn)
