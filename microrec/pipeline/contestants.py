"""The lists of a trial that may be released, with no more new videos in them than their price allows."""

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from microrec.candidates.lists import exploration
from microrec.core.array_types import Indices
from microrec.evaluation import gate, ranking
from microrec.evaluation.contest import Gain
from microrec.evaluation.report import CLOSED_FORM, Figure
from microrec.evaluation.truth import Truth
from microrec.pipeline import new_videos
from microrec.pipeline.lists import ListMaker


def made(
    maker: ListMaker,
    lists: Mapping[str, pa.Table],
    *,
    users: Indices,
    best: str,
    truth: Truth,
    gain: Gain,
) -> tuple[dict[str, pa.Table], list[Figure]]:
    """Make the lists that may be released, first with new videos for all users, to measure what these cost.

    Args:
        maker: of the trial.
        lists: rows of `candidates` by source.
        users: user_idx [n_users] of everyone who gets a list.
        best: the most accurate source.
        truth: what is right.
        gain: measures the paired difference of two lists in the gates' metric.

    Returns:
        Rows by name, see `ListMaker.contestants`; and rows of `metrics`: the price, if all users have new videos in
        their lists, and the share of the users who do.
    """
    ours = maker.contestants(lists, users=users, best=best)
    price = new_videos.price(maker.night, ours[CLOSED_FORM], truth, gain=gain)
    if not price:
        return ours, []
    section = maker.night.recipe.section
    metric = section("evaluation.gate", gate.Config).metric
    config = section("evaluation.ranking", ranking.Config)
    value = ranking.means({CLOSED_FORM: ours[CLOSED_FORM]}, truth, metric=metric, config=config)[
        CLOSED_FORM
    ]
    share = exploration.users_share(
        price[0].value,
        price[0].high,
        value,
        config=section("candidates.exploration", exploration.Config),
    )
    if share < 1:
        ours = replace(maker, explored_share=share).contestants(lists, users=users, best=best)
    return ours, [*price, Figure(*new_videos.SHARE, "all", share, price[0].n)]
