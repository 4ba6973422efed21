"""What a night's lists are made of, out of the warehouse, for the oracle."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microrec.candidates.lists import diversity, exploration, ladder
from microrec.candidates.ranking import learned_blend
from microrec.candidates.retrieval import exact as retrieval
from microrec.config.recipe import ranked_by
from microrec.config.settings import settings
from microrec.core import days, fitted
from microrec.core.array_types import Float64s, Int64s
from microrec.evaluation import gate
from microrec.evaluation.report import BEST_SOURCE
from microrec.models import registry
from microrec.oracle.inputs import (
    Config,
    Facts,
    Learned,
    ListInputs,
    Rules,
    Scorer,
    Stored,
    Vectors,
    alike_in_each,
    blocked,
    count,
    integers,
    remembered,
    uploads,
    vectors,
)
from microrec.oracle.lists import clusters
from microrec.pipeline import (
    absence,
    fit_tables,
    fusing,
    likeness,
    memory,
    networks,
    new_videos,
    served_models,
    wishes,
)
from microrec.pipeline.night import Night


def read(night: Night, user_ids: Collection[str], config: Config) -> ListInputs:
    """Read all that the final lists of a night are made of.

    Args:
        night: of the final fit.
        user_ids: users whose stored candidates are wanted.
        config: of the oracle.

    Returns:
        The inputs of the oracle.

    Raises:
        MissingDay: a table or an artefact of the night is not there.
    """
    rules = _rules(night, config)
    tables = fit_tables.read(night)
    users = tables.users
    videos = tables.videos.sort_by("video_idx")
    user_idx = _served(users, night.unused())
    facts = count(
        tables.histories,
        videos,
        users.num_rows,
        until=days.end(night.day, night.config.timezone),
        never=_never(night, users, videos) + _remembered(night, users, videos),
        n_teachers=tables.n_teachers,
    )
    sources = _sources(night)
    proposing = [name for name in night.config.models if name in sources]
    models = {name: served_models.load(night, name, tables) for name in proposing}
    wanted = [user_idx[user_id] for user_id in user_ids if user_id in user_idx]
    modality_edges = night.read("modality_edges")
    in_common = _vectors(night, videos, rules.diversity)
    new, uniform = _newcomers(night, facts, rules.exploration, user_idx, users.num_rows)
    return ListInputs(
        rules=rules,
        user_idx=user_idx,
        unprofiled=_unprofiled(night, videos),
        video_id=videos["video_id"].to_pylist(),
        author=videos["author_id"].to_pylist(),
        facts=facts,
        models=models,
        searched=frozenset(name for name in models if _searches(models[name], facts, rules)),
        exact=_exact(models),
        rankers=_rankers(night, sources),
        stored={source: _stored(night, source, wanted) for source in sources},
        learned=_learned(night),
        vectors=in_common,
        cluster=clusters(in_common, rules.diversity.collapse, modality_edges),
        by_modality=alike_in_each(modality_edges, videos.num_rows),
        new=new,
        uniform=uniform,
        explored_share=new_videos.users_share(night),
    )


def unit_vectors(night: Night, videos: pa.Table, *, without: Collection[str] = ()) -> Vectors:
    """Read the vectors of the videos.

    Args:
        night: has them.
        videos: rows of `video_nodes`, in the order of video_idx.
        without: modalities that do not count.

    Returns:
        Unit vectors. [n_videos, n_dims]
    """
    ids = videos["video_id"].to_pylist()
    return vectors(likeness.features(night, without=without), ids, likeness.centred(night))


def _vectors(night: Night, videos: pa.Table, config: diversity.Config) -> Vectors:
    """Vectors of the videos where the recipe asks for variety, else of none."""
    return (
        unit_vectors(night, videos) if config.active else Vectors(np.empty((videos.num_rows, 0)), 0)
    )


def _never(night: Night, users: pa.Table, videos: pa.Table) -> list[tuple[int, int]]:
    """Pairs of a user and a video that is not shown to them though they have not seen it."""
    preferences = night.preferences()
    pairs = blocked(preferences, users, videos, wishes.tags_of(night, preferences))
    return pairs + (uploads(users, videos) if night.config.authors_are_users else [])


def _remembered(night: Night, users: pa.Table, videos: pa.Table) -> list[tuple[int, int]]:
    """Pairs of a user and a video that they have watched or disliked before the window."""
    if not night.exists(memory.TABLE):
        return []
    return remembered(night.read(memory.TABLE), memory.withheld(night), users, videos)


def _unprofiled(night: Night, videos: pa.Table) -> dict[str, set[int]]:
    """Who wants no profiling, and the videos that are not shown to them."""
    ids = night.unprofiled().to_pylist()
    people = pa.table({"user_id": pa.array(ids, pa.string()), "user_idx": list(range(len(ids)))})
    barred: dict[str, set[int]] = {user_id: set() for user_id in ids}
    for number, video in _never(night, people, videos):
        barred[ids[number]].add(video)
    return barred


def _sources(night: Night) -> list[str]:
    """Sources of the recipe that have candidates of the final fit."""
    return [
        source
        for source in night.config.sources
        if night.exists("candidates", fit="final", source=source)
    ]


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


def _served(users: pa.Table, unused: pa.Table) -> dict[str, int]:
    """user_idx of everyone who may have a list of their own."""
    out = set(unused["user_id"].to_pylist())
    named = zip(users["user_id"].to_pylist(), users["user_idx"].to_pylist(), strict=True)
    return {user_id: idx for user_id, idx in named if user_id is not None and user_id not in out}


def _rules(night: Night, config: Config) -> Rules:
    section = night.recipe.section
    searched = section("candidates.retrieval", retrieval.Config)
    return Rules(
        k=night.config.k,
        depth=night.config.k * night.config.overfetch,
        trend_share=searched.trend_share,
        exact_up_to=searched.exact_up_to,
        blend=fusing.weights_of_everybody(night),
        ladder=section("candidates.ladder", ladder.Config),
        diversity=section("candidates.diversity", diversity.Config),
        exploration=section("candidates.exploration", exploration.Config),
        oracle=config,
        least_people=night.config.least_people,
    )


def _newcomers(
    night: Night,
    facts: Facts,
    config: exploration.Config,
    user_idx: Mapping[str, int],
    n_users: int,
) -> tuple[Int64s, Float64s]:
    """The night's new videos in their order, and a number of each user, as `pipeline.lists` draws them."""
    new = [
        video
        for video, eligible in enumerate(facts.eligible)
        if eligible
        and facts.likers[video] <= config.max_likers
        and facts.viewers[video] <= config.max_viewers
    ]
    rng = np.random.default_rng([night.seed, night.day.toordinal(), *b"exploration"])
    order = rng.permutation(np.array(new, dtype=np.int64))
    uniform = rng.random(n_users)
    for wish in night.preferences().to_pylist():
        if wish["kind"] == "no_exploration" and wish["user_id"] in user_idx:
            uniform[user_idx[wish["user_id"]]] = 1.0
    return order, uniform


def _rankers(night: Night, sources: Collection[str]) -> dict[str, Scorer]:
    """Scores of the ranking models that have candidates, by source; not of those that have nothing to say."""
    mute = absence.mute_rankers(night)
    models = {ranked_by(model): model for model in night.config.rankers}
    return {
        source: _scorer(night, model)
        for source, model in models.items()
        if source in sources and source not in mute
    }


def _scorer(night: Night, model: str) -> Scorer:
    """The score of pairs by a ranking model of the final fit."""
    graph = networks.read_inputs(night, model).graph
    network = networks.load(night, model, graph, device=settings().device)
    module: Any = registry.model(model)

    def score(users: Int64s, videos: Int64s) -> Float64s:
        return np.asarray(module.scores(network, graph, users, videos), dtype=np.float64)

    return score


def _stored(night: Night, source: str, users: Collection[int]) -> dict[int, Stored]:
    """The stored candidates of some users."""
    rows = night.read("candidates", fit="final", source=source)
    rows = rows.filter(pc.is_in(rows["user_idx"], value_set=pa.array(users, pa.int32())))
    rows = rows.sort_by([("user_idx", "ascending"), ("rank", "ascending")])
    user = integers(rows["user_idx"])
    video = integers(rows["video_idx"])
    score = np.asarray(rows["score"], dtype=np.float64)
    with_rows, first = np.unique(user, return_index=True)
    ends = np.append(first, len(user))[1:]
    return {
        int(user_idx): Stored(video[start:end], score[start:end])
        for user_idx, start, end in zip(with_rows, first, ends, strict=True)
    }


def _learned(night: Night) -> Learned | None:
    """The learned blend, if it orders something, and the trial has found neither it nor the whole blend worse."""
    partition: dict[str, Any] = {"fit": "final", "source": learned_blend.SOURCE}
    if not night.exists("candidates", **partition):
        return None
    if not night.warehouse.count("candidates", day=night.day, **partition):
        return None
    results = night.read("gate_results", fit="trial").to_pylist()
    judged = {(row["gate"], row["status"]) for row in results}
    if (gate.LEARNED_NOT_WORSE, "pass") not in judged or (BEST_SOURCE, "fail") in judged:
        return None
    blend = learned_blend.load(night.artefact(learned_blend.SOURCE), night.config.sources)
    return Learned(blend.trees, blend.slope, blend.offset)
