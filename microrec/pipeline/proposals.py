"""What a night's sources propose, out of the warehouse: the part of several jobs that is alike."""

import datetime as dt
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microrec.candidates.lists import diversity, evidence, exploration, fill, ladder
from microrec.candidates.lists.diversity import Likeness
from microrec.candidates.ranking import candidate_union, closed_form, learned_blend
from microrec.config import recipe
from microrec.core import fitted, knowledge
from microrec.core.array_types import Indices
from microrec.core.fits import horizon
from microrec.core.knowledge import Knowledge
from microrec.evaluation import truth
from microrec.runner import shards
from microrec.tables.arrow import Warehouse

logger = logging.getLogger(__name__)


class Proposals(NamedTuple):
    """The candidates of a fit, and what the fit knows."""

    users: pa.Table
    edges: pa.Table
    videos: pa.Table
    known: Knowledge
    lists: dict[str, pa.Table]
    """`candidates` rows by source."""
    learned: pa.Table | None
    """The learned order, if the night has one."""


def read(warehouse: Warehouse, sources: Sequence[str], *, day: dt.date, fit: str) -> Proposals:
    """Read what the sources propose; one that is not there is missed in the log.

    Raises:
        MissingDay: a graph table has no rows of the day.
    """
    return with_lists(warehouse, known(warehouse, day=day, fit=fit), sources, day=day, fit=fit)


def known(warehouse: Warehouse, *, day: dt.date, fit: str) -> Proposals:
    """What a fit knows, without any list yet.

    Raises:
        MissingDay: a graph table has no rows of the day.
    """
    users, edges = warehouse.read("users", day=day), warehouse.read("watch_edges", day=day)
    videos = warehouse.read("video_nodes", day=day)
    authors = users if recipe.night().authors_are_users else None
    told = knowledge.knowledge(
        edges, videos, n_users=users.num_rows, fit=fit, day=day, authors=authors
    )
    return Proposals(users, edges, videos, told, {}, None)


def asked(warehouse: Warehouse, found: Proposals, *, day: dt.date, fit: str) -> Indices:
    """user_idx whom a fit proposes something to, ascending: in the trial only those who can be evaluated.

    Raises:
        MissingDay: suppressed_users has no rows of the day.
    """
    served = knowledge.served(found.users, warehouse.read("suppressed_users", day=day))
    if fit == "final":
        return served
    return np.intersect1d(served, knowledge.viewers(found.edges, "holdout"))


def with_lists(
    warehouse: Warehouse,
    found: Proposals,
    sources: Sequence[str],
    *,
    day: dt.date,
    fit: str,
    users: Indices | None = None,
) -> Proposals:
    """The same with what the sources propose, to all or to some consecutive users (ascending)."""
    some = None if users is None else {"user_idx": spanned(users)}
    lists = {}
    for source in sorted({*sources, learned_blend.SOURCE}):
        if warehouse.exists("candidates", day=day, fit=fit, source=source):
            lists[source] = warehouse.read(
                "candidates", where=some, day=day, fit=fit, source=source
            )
        elif source in sources:
            logger.warning("blend day=%s fit=%s missing_source=%s", day, fit, source)
    learned = lists.pop(learned_blend.SOURCE, None)
    if learned is not None and not warehouse.count(
        "candidates", day=day, fit=fit, source=learned_blend.SOURCE
    ):
        learned = None
    return found._replace(lists=lists, learned=learned)


def spanned(users: Indices) -> range:
    """From the first of ascending numbers to the last."""
    return range(int(users[0]), int(users[-1]) + 1) if len(users) else range(0)


def recommended(
    warehouse: Warehouse,
    found: Proposals,
    *,
    day: dt.date,
    trusted: bool,
    until: dt.datetime,
    users: Indices,
) -> pa.Table:
    """The final lists of some users.

    Args:
        warehouse: has the night's tables.
        found: what the final fit knows.
        day: of the night.
        trusted: whether the learned order counts, if there is one.
        until: instant at which a row expires.
        users: user_idx of consecutive users, ascending.

    Returns:
        Rows of `recommendations`.
    """
    part = with_lists(warehouse, found, recipe.night().sources, day=day, fit="final", users=users)
    learned = part.learned if trusted else None
    method = "closed_form" if learned is None else "learned"
    logger.info("blend day=%s fit=final method=%s users=%d", day, method, len(users))
    select = selection(warehouse, part, users=users, day=day, fit="final")
    rows = with_evidence(warehouse, part, select(learned), day=day)
    nodes = {"user": found.users, "video": found.videos, "evidence_video": found.videos}
    return fill.with_ids(rows, nodes=nodes, valid_until=until)


def rungs(found: Proposals, *, day: dt.date, fit: str) -> dict[str, NDArray[np.int64]]:
    """The global lists of a fit."""
    config = recipe.section("candidates.ladder", ladder.Config)
    return ladder.rungs(
        found.edges, found.videos, known=found.known, fit=fit, day=day, config=config
    )


def selection(
    warehouse: Warehouse, found: Proposals, *, users: Indices, day: dt.date, fit: str
) -> Callable[[pa.Table | None], pa.Table]:
    """How final lists are made of the proposals, by the recipe.

    Args:
        warehouse: has the night's tables.
        found: what is proposed.
        users: user_idx of everyone who gets a list.
        day: of the night.
        fit: trial or final.

    Returns:
        Makes the lists in a learned order, or in that of the closed form if given None.

    Raises:
        MissingDay: variety or exploration is asked for and there are no modality_edges.
    """
    steps = ladder.climb(rungs(found, day=day, fit=fit))
    base = _shaping(warehouse, found, day=day, fit=fit)

    def select(learned: pa.Table | None) -> pa.Table:
        return fill.select(
            found.lists,
            users=users,
            known=found.known,
            ladder=steps,
            k=recipe.night().k,
            shaping=replace(base, learned=learned),
        )

    return select


def _shaping(warehouse: Warehouse, found: Proposals, *, day: dt.date, fit: str) -> fill.Shaping:
    """The recipe's weights, variety and exploration."""
    plain = fill.Shaping(recipe.section("candidates.blend", closed_form.Config))
    varied = recipe.section("candidates.diversity", diversity.Config)
    explored = recipe.section("candidates.exploration", exploration.Config)
    if not varied.active and not explored.places:
        return plain
    like = diversity.likeness(
        warehouse.read("modality_edges", day=day), found.videos, config=varied
    )
    if varied.active:
        plain = replace(plain, variety=fill.Variety(varied, like))
    if explored.places:
        plain = replace(plain, discovery=discovery(found, like, explored, day=day, fit=fit))
    return plain


def discovery(
    found: Proposals, like: Likeness, config: exploration.Config, *, day: dt.date, fit: str
) -> fill.Discovery:
    """New videos in a random order, and a random number for each user."""
    viewers = np.diff(found.known.seen.tocsc().indptr)
    age = knowledge.age_days(found.videos, horizon(day, fit))
    new = exploration.newcomers(age, viewers, found.known.eligible, config=config)
    rng = np.random.default_rng([recipe.night().seed, day.toordinal(), *b"exploration"])
    order = rng.permutation(np.flatnonzero(new))
    return fill.Discovery(config, like, order, rng.random(found.users.num_rows))


def with_evidence(
    warehouse: Warehouse, found: Proposals, rows: pa.Table, *, day: dt.date
) -> pa.Table:
    """The rows of final lists with what speaks for each.

    Raises:
        MissingDay: a source of the lists has no artefact, or there are no modality_edges.
    """
    edges = warehouse.read("modality_edges", day=day)
    names = [name for name in recipe.night().models if name in found.lists]
    places = ((name, warehouse.find_artefact(day=day, fit="final", model=name)) for name in names)
    models = ((name, fitted.load(place)) for name, place in places)
    alike = evidence.by_modality(edges, n_videos=found.videos.num_rows)
    return evidence.add(rows, models, known=found.known, alike=alike)


def facts(found: Proposals, *, day: dt.date, fit: str) -> learned_blend.Facts:
    """What the learned blend reads of users and videos."""
    return learned_blend.facts(found.edges, found.videos, known=found.known, fit=fit, day=day)


def nights(
    warehouse: Warehouse, sources: Sequence[str], *, last: dt.date, fit: str
) -> list[dt.date]:
    """Measured nights whose day a fit may know, with the candidates of all sources, newest first.

    A night's trial holds its own day out, so it learns from the nights before; its final fit may
    learn from the day too. Nights older than the window of a night are not looked for.
    """
    first_back = 1 if fit == "trial" else 0
    days = [
        last - dt.timedelta(days=back) for back in range(first_back, recipe.night().window_days)
    ]
    # A night whose held-out day liked nothing was not measured, and teaches nothing.
    return [
        one
        for one in days
        if warehouse.exists("metrics", day=one, stage="evaluation")
        and all(
            warehouse.exists("candidates", day=one, fit="trial", source=name) for name in sources
        )
    ]


def examples(
    warehouse: Warehouse, day: dt.date, *, config: learned_blend.Config, rng: np.random.Generator
) -> learned_blend.Examples:
    """What a night teaches: what its sources proposed for its held-out day, and what came of it."""
    found = known(warehouse, day=day, fit="trial")
    right, told = truth.truth(found.edges, found.videos), facts(found, day=day, fit="trial")
    parts = []
    for users in shards.in_parts(np.arange(found.users.num_rows)):
        for pairs in _pairs(warehouse, found, told, users, day=day, fit="trial"):
            liked = learned_blend.liked(pairs, right.users[right.row], right.video)
            parts.append(learned_blend.examples(pairs, liked, config=config, rng=rng))
    return learned_blend.together(parts)


def in_learned_order(
    warehouse: Warehouse,
    found: Proposals,
    booster: lightgbm.Booster,
    *,
    day: dt.date,
    fit: str,
    users: Indices,
) -> pa.Table:
    """`candidates` rows of some users, all that is proposed to them in the learned order.

    Args:
        warehouse: has the candidates.
        found: what the fit knows.
        booster: the learned blend.
        day: of the night.
        fit: trial or final.
        users: user_idx of consecutive users, ascending.
    """
    told, k = facts(found, day=day, fit=fit), recipe.night().k * recipe.night().overfetch
    blocks = _pairs(warehouse, found, told, users, day=day, fit=fit)
    return pa.concat_tables(learned_blend.order(booster, pairs, k=k) for pairs in blocks)


def in_order_of(
    warehouse: Warehouse,
    score: Callable[[Indices, Indices], NDArray[np.floating]],
    *,
    day: dt.date,
    fit: str,
    users: Indices,
) -> pa.Table:
    """`candidates` rows of some users, all that the night's models propose to them in the order of one more score.

    Args:
        warehouse: has the candidates.
        score: of pairs, user_idx [n] and video_idx [n].
        day: of the night.
        fit: trial or final.
        users: user_idx of consecutive users, ascending.

    Raises:
        MissingDay: a model of the night has no candidates.
        MicrorecError: a score is not finite.
    """
    night, some = recipe.night(), {"user_idx": spanned(users)}
    lists = {
        source: warehouse.read("candidates", where=some, day=day, fit=fit, source=source)
        for source in night.models
    }
    pairs = candidate_union.union(lists)
    return candidate_union.by_score(*pairs, score(*pairs), k=night.k * night.overfetch)


def some_pairs(
    warehouse: Warehouse, found: Proposals, users: Indices, *, day: dt.date, fit: str
) -> learned_blend.Pairs:
    """All that is proposed to some users, who need not be consecutive."""
    parts = []
    for part in shards.in_parts(np.arange(found.users.num_rows)):
        mine = np.intersect1d(users, part)
        lists = with_lists(
            warehouse, found, recipe.night().sources, day=day, fit=fit, users=mine
        ).lists
        drawn = pa.array(mine)
        parts.append(
            {name: rows.filter(pc.is_in(rows["user_idx"], drawn)) for name, rows in lists.items()}
        )
    together = {name: pa.concat_tables(one[name] for one in parts) for name in parts[0]}
    closed = recipe.section("candidates.blend", closed_form.Config)
    return learned_blend.pairs(together, facts=facts(found, day=day, fit=fit), closed=closed)


def _pairs(
    warehouse: Warehouse,
    found: Proposals,
    told: learned_blend.Facts,
    users: Indices,
    *,
    day: dt.date,
    fit: str,
) -> Iterator[learned_blend.Pairs]:
    """All that is proposed to consecutive users, some of them at a time."""
    config = recipe.section("candidates.hybrid", learned_blend.Config)
    closed = recipe.section("candidates.blend", closed_form.Config)
    lists = with_lists(
        warehouse, found, recipe.night().sources, day=day, fit=fit, users=users
    ).lists
    for block in learned_blend.in_blocks(lists, size=config.block_users):
        yield learned_blend.pairs(block, facts=told, closed=closed)


def learned_from(
    found: Proposals, days: Sequence[dt.date], examples: Sequence[learned_blend.Examples]
) -> dict[str, object]:
    """What a `models` row says of the nights a blend has learned from."""
    return {
        "first_day": min(days),
        "last_day": max(days),
        "n_users": found.users.num_rows,
        "n_videos": found.videos.num_rows,
        "n_edges": int(sum(one.liked.sum() for one in examples)),
        "metrics": json.dumps({"nights": len(days)}),
    }
