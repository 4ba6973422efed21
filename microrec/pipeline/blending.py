"""What the learned blend is taught by earlier nights, and the order it gives the candidates of this one."""

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.candidates.ranking import learned_blend
from microrec.core.array_types import Indices
from microrec.evaluation import truth
from microrec.pipeline import fit_tables, fusing
from microrec.pipeline.fit_tables import FitTables
from microrec.pipeline.night import Night
from microrec.pipeline.proposals import Proposals
from microrec.runner import shards


def teaching_days(night: Night) -> list[dt.date]:
    """Return the measured days a fit may know, with candidates of all sources, newest first.

    A night's trial holds its own day out, so it learns from the nights before; its final fit may learn from the day
    too. Nights older than the window of a night are not looked for.
    """
    first_back = 1 if night.fit == "trial" else 0
    days = [
        night.day - dt.timedelta(days=back) for back in range(first_back, night.config.window_days)
    ]
    # The tables are opened once, not for each day and source.
    partitions = night.warehouse.partitions
    # A night whose held-out day liked nothing was not measured, and teaches nothing.
    measured = {part["day"] for part in partitions("metrics") if part["stage"] == "evaluation"}
    proposed = {
        (part["day"], part["source"]) for part in partitions("candidates") if part["fit"] == "trial"
    }
    return [
        day
        for day in days
        if str(day) in measured
        and all((str(day), source) in proposed for source in night.config.sources)
    ]


def examples(
    trial: Night, *, config: learned_blend.Config, rng: np.random.Generator
) -> learned_blend.Examples:
    """Return what a night teaches: what its sources proposed for its held-out day, and what came of it.

    Who has withdrawn since teaches nothing.

    Args:
        trial: the night, fit trial.
        config: share of the candidates that is kept.
        rng: draws them, part by part in the order of user_idx.

    Returns:
        Candidates with their outcome.
    """
    tables, withdrawn = fit_tables.read_without_withdrawn(trial)
    proposals = Proposals.open(trial)
    right = truth.truth(tables.edges, tables.videos)
    facts = read_facts(trial, tables)
    parts = []
    for users in shards.in_parts(np.arange(tables.users.num_rows)):
        lists = _without(proposals.lists(users), withdrawn)
        for pairs in _pairs_in_blocks(trial, lists, facts):
            liked = learned_blend.liked(pairs, right.users[right.row], right.video)
            parts.append(learned_blend.examples(pairs, liked, config=config, rng=rng))
    return learned_blend.together(parts)


def read_facts(night: Night, tables: FitTables) -> learned_blend.Facts:
    """Return what the learned blend reads of users and videos.

    Args:
        night: of the fit.
        tables: of the night.

    Returns:
        Arrays by user_idx and video_idx.
    """
    return learned_blend.facts(
        tables.edges, tables.videos, known=tables.knowledge, fit=night.fit, until=night.horizon
    )


def pairs_of(proposals: Proposals, tables: FitTables, users: Indices) -> learned_blend.Pairs:
    """Return all that is proposed to some users, who need not be consecutive.

    Args:
        proposals: of the fit.
        tables: of the night.
        users: user_idx [n_users] of users who teach, in any order.

    Returns:
        Their candidates with features.
    """
    night = proposals.night
    parts = []
    for part in shards.in_parts(np.arange(tables.n_teachers)):
        drawn = np.intersect1d(users, part)
        lists = proposals.lists(drawn)
        wanted = pa.array(drawn)
        parts.append(
            {name: rows.filter(pc.is_in(rows["user_idx"], wanted)) for name, rows in lists.items()}
        )
    together = {name: pa.concat_tables(part[name] for part in parts) for name in parts[0]}
    return learned_blend.pairs(
        together,
        facts=read_facts(night, tables),
        closed=fusing.weights(night),
    )


def _without(lists: Mapping[str, pa.Table], users: Indices) -> dict[str, pa.Table]:
    """Candidates by source, those of some users left out."""
    out = pa.array(users, pa.int32())
    return {
        name: rows.filter(pc.invert(pc.is_in(rows["user_idx"], out)))
        for name, rows in lists.items()
    }


def _pairs_in_blocks(
    night: Night, lists: Mapping[str, pa.Table], facts: learned_blend.Facts
) -> Iterator[learned_blend.Pairs]:
    """All that is proposed to some users, a block of them at a time."""
    config = night.recipe.section("candidates.hybrid", learned_blend.Config)
    closed = fusing.weights(night)
    for block in learned_blend.in_blocks(lists, size=config.block_users):
        yield learned_blend.pairs(block, facts=facts, closed=closed)


@dataclass(frozen=True, eq=False)
class LearnedOrder:
    """Orders the candidates of a fit by the learned blend, part by part.

    What is known of users and videos is computed by the first part and kept; it is not pickled.
    """

    blend: learned_blend.Blend
    tables: FitTables
    proposals: Proposals

    def __call__(self, *, users: Indices) -> pa.Table:
        """Order all that is proposed to some users.

        Args:
            users: user_idx [n_users] of consecutive users, ascending.

        Returns:
            Rows of `candidates`, at most k * overfetch a user.
        """
        config = self.proposals.night.config
        k = config.k * config.overfetch
        lists = self.proposals.lists(users)
        blocks = _pairs_in_blocks(self.proposals.night, lists, self._facts)
        return pa.concat_tables(learned_blend.order(self.blend, pairs, k=k) for pairs in blocks)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the fields without what was computed."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _facts(self) -> learned_blend.Facts:
        return read_facts(self.proposals.night, self.tables)


def save(night: Night, blend: learned_blend.Blend, row: Mapping[str, object]) -> None:
    """Store a learned blend: its artefact, and the row of `models` that points to it.

    Args:
        night: of the fit.
        blend: the blend.
        row: the other values of the row, by column.
    """
    model = learned_blend.SOURCE
    path, digest = night.warehouse.save_artefact(
        day=night.day, fit=night.fit, model=model, save=partial(learned_blend.save, blend)
    )
    rows = pa.Table.from_pylist([{**row, "path": path, "digest": digest}])
    night.write("models", rows, fit=night.fit, model=model)


def training_summary(
    tables: FitTables, days: Sequence[dt.date], examples: Sequence[learned_blend.Examples]
) -> dict[str, object]:
    """Return what a `models` row says of the nights a blend has learned from.

    Args:
        tables: of the night that learns.
        days: of the nights it learned from.
        examples: of each of them.

    Returns:
        Values by column of `models`.
    """
    return {
        "first_day": min(days),
        "last_day": max(days),
        "n_users": tables.n_teachers,
        "n_videos": tables.videos.num_rows,
        "n_edges": int(sum(night.liked.sum() for night in examples)),
        "metrics": json.dumps({"nights": len(days)}),
    }
