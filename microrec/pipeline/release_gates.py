"""Whether a day's lists, as written, obey what they must, and how large they are."""

from typing import Any, NamedTuple

import pyarrow as pa

from microrec.evaluation import gate, report, subjects
from microrec.evaluation.gate import Result
from microrec.evaluation.report import Figure
from microrec.pipeline import private, segment_lists, similar_videos, wishes
from microrec.pipeline.night import Night


class Judged(NamedTuple):
    """What is found of the lists of a night."""

    results: list[Result]
    """Personal lists, those without profiling if there are any, those of segments, those beside videos."""
    figures: list[Figure]


def judge(night: Night, personal: pa.Table, fallback: pa.Table) -> Judged:
    """Check the lists of a night by the producers' ids, and measure them.

    Args:
        night: its warehouse has the graph of the day, and what people ask for as of now.
        personal: rows of `recommendations`.
        fallback: rows of `fallback_recommendations`.

    Returns:
        Results and figures.
    """
    asks, k = night.recipe.section("evaluation.gate", gate.Config), night.config.k
    users = private.beside(night.read("users"), private.users(night))
    edges = private.beside(night.read("watch_edges"), private.edges(night))
    nodes = {"users": users, "video_nodes": night.read("video_nodes"), "watch_edges": edges}
    tables = wishes.of_now(night, nodes)
    rules: dict[str, Any] = {"k": k, "authors_are_users": night.config.authors_are_users}
    everyones = subjects.by_id(personal, night=tables, **rules)
    results = gate.check(everyones, config=asks)
    same_for_all = subjects.unprofiled(personal, night=tables, **rules)
    if same_for_all.users.num_rows or same_for_all.lists.num_rows:
        results += gate.check(same_for_all, config=asks, checks=gate.LAWS, prefix="unprofiled_")
    anyones = subjects.fallback(fallback, videos=tables["video_nodes"], k=k)
    results += gate.check(anyones, config=asks, checks=gate.LAWS, prefix="fallback_")
    results += segment_lists.judge(night, everyones, config=asks)
    results += similar_videos.judge(night, tables["video_nodes"], config=asks)
    figures = report.release(
        personal,
        fallback,
        n_users=everyones.users.num_rows,
        n_nothing_left=gate.nothing_left(everyones),
        n_unprofiled=same_for_all.users.num_rows,
    )
    return Judged(results, figures)
