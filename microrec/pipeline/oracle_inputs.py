"""What a night's lists are made of, out of the warehouse, for the oracle."""

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.candidates.lists import diversity, exploration, ladder
from microrec.candidates.ranking import closed_form, learned_blend
from microrec.candidates.retrieval import exact as retrieval
from microrec.config import recipe
from microrec.config.settings import settings
from microrec.core import fitted
from microrec.core.array_types import Float64s, Int64s
from microrec.evaluation import gate
from microrec.models import registry
from microrec.oracle.inputs import (
    Config,
    Facts,
    ListInputs,
    Rules,
    Scorer,
    Stored,
    alike,
    alike_in_each,
    count,
    integers,
    uploads,
)
from microrec.pipeline import networks
from microrec.tables.arrow import Warehouse


def read(
    warehouse: Warehouse, day: dt.date, user_ids: Collection[str], config: Config
) -> ListInputs:
    """Read a night.

    Args:
        warehouse: the warehouse.
        day: of the night.
        user_ids: whose candidates are wanted.
        config: of the oracle.

    Raises:
        MissingDay: a table or an artefact of the night is not there.
    """
    rules, night = _rules(config), recipe.night()
    users, videos = warehouse.read("users", day=day), warehouse.read("video_nodes", day=day)
    videos = videos.sort_by("video_idx")
    served = _served(users, warehouse.read("suppressed_users", day=day))
    asked = [served[user_id] for user_id in user_ids if user_id in served]
    own = uploads(users, videos) if night.authors_are_users else []
    edges = warehouse.read("watch_edges", day=day)
    facts = count(edges, videos, users.num_rows, until=_end(day), own=own)
    there = [
        s for s in night.sources if warehouse.exists("candidates", day=day, fit="final", source=s)
    ]
    loaded = {
        source: fitted.load(warehouse.find_artefact(day=day, fit="final", model=source))
        for source in night.models
        if source in there
    }
    ranked = {recipe.ranked_by(model): model for model in night.rankers}
    shaped = rules.diversity.active or rules.exploration.places > 0
    near = warehouse.read("modality_edges", day=day)
    seed = [night.seed, day.toordinal()]
    new, uniform = _newcomers(facts, rules.exploration, users.num_rows, seed)
    return ListInputs(
        rules=rules,
        user_idx=served,
        video_id=videos["video_id"].to_pylist(),
        author=videos["author_id"].to_pylist(),
        facts=facts,
        models=loaded,
        searched=frozenset(
            source for source, model in loaded.items() if _searches(model, facts, rules)
        ),
        exact=_exact(loaded),
        rankers={s: _scorer(warehouse, day, model) for s, model in ranked.items() if s in there},
        stored={source: _stored(warehouse, day, source, asked) for source in there},
        booster=_booster(warehouse, day),
        alike=alike(near if shaped else None, videos.num_rows),
        by_modality=alike_in_each(near, videos.num_rows),
        new=new,
        uniform=uniform,
    )


def _searches(model: fitted.Fitted, facts: Facts, rules: Rules) -> bool:
    """Whether a model's lists may come from an index."""
    if not isinstance(model, fitted.Embeddings) or model.video.shape[1] == 1:
        return False
    return int((facts.eligible & model.video_known).sum()) > rules.exact_up_to


def _exact(models: Mapping[str, fitted.Fitted]) -> dict[str, Float64s]:
    """Vectors of the videos in float64, by source."""
    return {
        source: model.video.astype(np.float64)
        for source, model in models.items()
        if isinstance(model, fitted.Embeddings | fitted.Trends)
    }


def _served(users: pa.Table, suppressed: pa.Table) -> dict[str, int]:
    """user_idx of everyone who may have a list."""
    out = set(suppressed["user_id"].to_pylist())
    named = zip(users["user_id"].to_pylist(), users["user_idx"].to_pylist(), strict=True)
    return {user_id: idx for user_id, idx in named if user_id not in out}


def _end(day: dt.date) -> dt.datetime:
    """The first instant that the final fit does not see."""
    return dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC) + dt.timedelta(days=1)


def _rules(config: Config) -> Rules:
    night, found = recipe.night(), recipe.section("candidates.retrieval", retrieval.Config)
    return Rules(
        k=night.k,
        depth=night.k * night.overfetch,
        trend_share=found.trend_share,
        exact_up_to=found.exact_up_to,
        blend=recipe.section("candidates.blend", closed_form.Config),
        ladder=recipe.section("candidates.ladder", ladder.Config),
        diversity=recipe.section("candidates.diversity", diversity.Config),
        exploration=recipe.section("candidates.exploration", exploration.Config),
        oracle=config,
    )


def _newcomers(
    facts: Facts, config: exploration.Config, n_users: int, seed: list[int]
) -> tuple[Int64s, Float64s]:
    """The night's new videos in their order, and a number of each user, as `proposals` draws them."""
    young = facts.age_days < config.max_age_days
    new = [
        video
        for video in range(len(young))
        if facts.eligible[video] and (young[video] or facts.viewers[video] <= config.max_viewers)
    ]
    rng = np.random.default_rng([*seed, *b"exploration"])
    order = rng.permutation(np.array(new, dtype=np.int64))
    return order, rng.random(n_users)


def _scorer(warehouse: Warehouse, day: dt.date, model: str) -> Scorer:
    """What a ranking model of the final fit says of pairs."""
    graph = networks.learned(warehouse, model, day=day, fit="final").graph
    device = settings().device
    network = networks.network(warehouse, model, graph, day=day, fit="final", device=device)
    module: Any = registry.model(model)

    def score(users: Int64s, videos: Int64s) -> Float64s:
        return np.asarray(module.scores(network, graph, users, videos), dtype=np.float64)

    return score


def _stored(
    warehouse: Warehouse, day: dt.date, source: str, asked: Collection[int]
) -> dict[int, Stored]:
    """The lists that the table holds for the asked users."""
    rows = warehouse.read("candidates", day=day, fit="final", source=source)
    rows = rows.filter(pc.is_in(rows["user_idx"], value_set=pa.array(asked, pa.int32())))
    rows = rows.sort_by([("user_idx", "ascending"), ("rank", "ascending")])
    user, video = integers(rows["user_idx"]), integers(rows["video_idx"])
    score = np.asarray(rows["score"], dtype=np.float64)
    users, first = np.unique(user, return_index=True)
    ends = np.append(first, len(user))[1:]
    return {
        int(one): Stored(video[start:end], score[start:end])
        for one, start, end in zip(users, first, ends, strict=True)
    }


def _booster(warehouse: Warehouse, day: dt.date) -> lightgbm.Booster | None:
    """The trees, if the night has some that order something and the trial has not found them worse."""
    where: dict[str, Any] = {"day": day, "fit": "final", "source": learned_blend.SOURCE}
    if not warehouse.exists("candidates", **where) or not warehouse.count("candidates", **where):
        return None
    judged = warehouse.read("gate_results", day=day, fit="trial").to_pylist()
    said = {row["status"] for row in judged if row["gate"] == gate.LEARNED_NOT_WORSE}
    if "pass" not in said:
        return None
    folder = warehouse.find_artefact(day=day, fit="final", model=learned_blend.SOURCE)
    return learned_blend.load(folder, recipe.night().sources)
