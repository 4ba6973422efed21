"""Which lists a night goes on with: the learned blend's, the closed form's, and are they up to yesterday's?"""

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from microrec import recipe
from microrec.evaluation import champion, gate, ranking, report
from microrec.evaluation.gate import Result
from microrec.evaluation.truth import Truth
from microrec.proposals import Proposals
from microrec.release import reader
from microrec.tables.arrow import Warehouse


class Outcome(NamedTuple):
    """How the contest went."""

    lists: dict[str, pa.Table]
    """All that took part, the blend among them, by name."""
    judged: list[Result]
    churn: float | None
    """Share of first places that are new since yesterday; None without a release of yesterday."""


def held(
    found: Proposals,
    select: Callable[[pa.Table | None], pa.Table],
    right: Truth,
    *,
    day: dt.date,
    rng: np.random.Generator,
) -> Outcome:
    """Compare the lists of the trial on what its users went on to like.

    The learned blend stands unless it is shown to be worse than the closed form; which of the two
    stands is then compared with the release of the day before.

    Args:
        found: What is proposed.
        select: Makes lists in a learned order, or in that of the closed form if given None.
        right: What is right.
        day: Of the night.
        rng: Draws the resamples.
    """
    asks = recipe.section("evaluation.gate", gate.Config)
    config = recipe.section("evaluation.ranking", ranking.Config)
    gain = partial(ranking.gain, metric=asks.metric, config=config, generator=rng)
    lists, judged, churn = {report.CLOSED_FORM: select(None)}, [], None
    blended = lists[report.CLOSED_FORM]
    if found.learned is not None:
        lists = {report.LEARNED: select(found.learned), **lists}
        judged.append(gate.learned_not_worse(gain(lists, right)))
        blended = lists[report.LEARNED] if judged[0].status == "pass" else blended
    before = yesterdays(found, day=day)
    if before is not None:
        shared = right.only(np.isin(right.users, before["user_idx"].to_numpy()))
        rivals = {report.BLEND: blended, report.CHAMPION: before}
        judged += gate.against_champion(gain(rivals, shared), config=asks)
        lists[report.CHAMPION], churn = before, champion.churn(blended, before)
    return Outcome({**lists, report.BLEND: blended}, judged, churn)


def yesterdays(found: Proposals, *, day: dt.date) -> pa.Table | None:
    """The lists of the release of the day before by tonight's indices, if there is one."""
    before = day - dt.timedelta(days=1)
    if before not in reader.days():
        return None
    released = reader.of(before).read("recommendations")
    return champion.listed(released, users=found.users, videos=found.videos)


def yesterdays_figures(day: dt.date, metric: str) -> dict[str, float]:
    """A metric of every list of the trial of the day before, by name; empty if there was none."""
    house, before = Warehouse.open(), day - dt.timedelta(days=1)
    if not house.exists("metrics", day=before, stage="evaluation"):
        return {}
    rows = house.read("metrics", day=before, stage="evaluation").to_pylist()
    return {
        row["name"]: row["value"]
        for row in rows
        if (row["metric"], row["slice"]) == (metric, "all")
    }
