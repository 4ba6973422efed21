"""What a night's lists are made of, out of the warehouse, counted anew."""

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from microrec import networks, recipe
from microrec.candidates import blend, diversity, exploration, hybrid, ladder, retrieval
from microrec.evaluation import gate
from microrec.models import fitted, registry
from microrec.settings import settings
from microrec.tables.arrow import Warehouse

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Scorer = Callable[[Ints, Ints], Floats]
"""Scores [n_pairs] of pairs of user_idx and video_idx."""

DAY_US = 86_400_000_000
PARTS = ("train", "validation", "holdout")
"""Of the window, in the order of time: the final fit sees all, the last one is the last day's."""


class Config(BaseModel):
    """How many users are checked, and what counts as equal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: PositiveInt = 1000
    """Users, drawn from the published ones each night."""
    tolerance: PositiveFloat = 1e-5
    """By how much a sum of float32 numbers may be off, as a share of the sum of their absolute values.
    At worst it is off by half of 1.2e-7 for each addend, so this holds up to 170 of them. On
    KuaiRand-Pure no stored score of 1,000 users was off by more than 3.5e-7."""
    network_tolerance: PositiveFloat = 1e-4
    """By how much a ranking network's score s may be off, as a share of 1 + |s|: by no more than 1.8e-7 in the
    same night, but a device may add in yet another order."""


class Rows(NamedTuple):
    """Values by a whole number.

    Shapes:
        start: [n + 1], where the values of each number start; value: [n_values]
    """

    start: Ints
    value: Ints

    def of(self, number: int) -> Ints:
        """The values of one number, ascending."""
        return self.value[self.start[number] : self.start[number + 1]]


class Stored(NamedTuple):
    """A source's stored list of one user, in the order of the ranks. Both are [n_listed]."""

    video: Ints
    score: Floats


NOTHING = Stored(np.empty(0, dtype=np.int64), np.empty(0))


class Alike(NamedTuple):
    """Similarity of videos, both directions, by the first and then the second of a pair.

    Shapes:
        start: [n_videos + 1]; video, similarity: [n_pairs]
    """

    start: Ints
    video: Ints
    similarity: NDArray[np.float32]

    def of(self, video: int) -> tuple[Ints, NDArray[np.float32]]:
        """Videos that are like this one, ascending, and how much."""
        here = slice(self.start[video], self.start[video + 1])
        return self.video[here], self.similarity[here]


@dataclass(frozen=True, eq=False)
class Facts:
    """What the final fit knows of who watched what.

    Shapes:
        eligible, viewers, likers, last_likers, age_days: [n_videos]
    """

    barred: Rows
    """Videos each user has seen, or uploaded where authors are users."""
    liked: Rows
    """Those with a positive viewing."""
    eligible: Bools
    viewers: Ints
    likers: Ints
    last_likers: Ints
    """On the last day."""
    age_days: Floats
    """Since publication; NaN where that is not known or ahead."""

    @cached_property
    def told(self) -> dict[str, Floats]:
        """What the trees read of every video, by name. [n_videos] each."""
        return {
            "place": _place(self.likers),
            "place_last_day": _place(self.last_likers),
            "age_days": self.age_days,
        }


@dataclass(frozen=True, eq=False)
class Rules:
    """The recipe of the list."""

    k: int
    depth: int
    """Length of a source's list."""
    trend_share: float
    exact_up_to: int
    blend: blend.Config
    ladder: ladder.Config
    diversity: diversity.Config
    exploration: exploration.Config
    oracle: Config


@dataclass(frozen=True, eq=False)
class Night:
    """All that a night's lists are made of."""

    rules: Rules
    user_idx: dict[str, int]
    """By user_id, of everyone who may be served."""
    video_id: list[str]
    """By video_idx."""
    author: list[str | None]
    """By video_idx."""
    facts: Facts
    models: dict[str, fitted.Fitted]
    """By source; those whose candidates the night has."""
    searched: frozenset[str]
    """Sources that may search an index instead of comparing all videos."""
    exact: dict[str, Floats]
    """Vectors of the videos in float64, of the models that have some."""
    rankers: dict[str, Scorer]
    """By source, likewise."""
    stored: Mapping[str, Mapping[int, Stored]]
    """What the sources' tables hold, by user_idx."""
    booster: lightgbm.Booster | None
    """The learned blend, where it is trusted."""
    alike: Alike
    """Over all modalities, where the recipe asks for it."""
    by_modality: dict[str, Alike]
    new: Ints
    """New videos in the order in which they are drawn."""
    uniform: Floats
    """By user_idx."""


def read(warehouse: Warehouse, day: dt.date, user_ids: Collection[str], config: Config) -> Night:
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
    return Night(
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


def uploads(users: pa.Table, videos: pa.Table) -> list[tuple[int, int]]:
    """user_idx and video_idx of each video whose author is a user."""
    user_idx = dict(zip(users["user_id"].to_pylist(), users["user_idx"].to_pylist(), strict=True))
    authors = zip(videos["author_id"].to_pylist(), videos["video_idx"].to_pylist(), strict=True)
    return [(user_idx[author], video) for author, video in authors if author in user_idx]


def count(
    edges: pa.Table,
    videos: pa.Table,
    n_users: int,
    until: dt.datetime,
    own: Collection[tuple[int, int]] = (),
) -> Facts:
    """Count what the final fit knows.

    Args:
        edges: `watch_edges` of the day.
        videos: `video_nodes` of the day, in the order of video_idx.
        n_users: rows of `users` of the day.
        until: end of the day.
        own: user_idx and video_idx of what is barred though it was not seen.
    """
    n_videos = videos.num_rows
    user, video = _integers(edges["user_idx"]), _integers(edges["video_idx"])
    positive = _integers(edges["n_positive"]) > 0
    part = np.array([PARTS.index(one) for one in edges["split"].to_pylist()], dtype=np.int64)
    last = part == len(PARTS) - 1
    seen = np.unique(user << 32 | video)
    mine = np.array([one << 32 | video for one, video in own], dtype=np.int64)
    barred = np.unique(np.concatenate([seen, mine]))
    disliked = dict[int, int]()  # the last part that undoes, by pair
    undone = np.array(edges["undone"].to_pylist(), dtype=np.bool_)
    for one, then in zip((user << 32 | video)[undone].tolist(), part[undone].tolist(), strict=True):
        disliked[one] = max(then, disliked.get(one, 0))
    likes = zip((user << 32 | video)[positive].tolist(), part[positive].tolist(), strict=True)
    stands = {one for one, then in likes if then >= disliked.get(one, 0)}
    liked = np.array(sorted(stands), dtype=np.int64)
    published = _integers(pc.fill_null(videos["published_at"].cast(pa.int64()), 1 << 62))
    age = int(until.timestamp()) * 1_000_000 - published

    def per_video(some: Ints) -> Ints:
        return np.bincount(some, minlength=n_videos)

    return Facts(
        barred=_by(barred >> 32, barred & 0xFFFFFFFF, n_users),
        liked=_by(liked >> 32, liked & 0xFFFFFFFF, n_users),
        eligible=np.array(videos["eligible"].to_pylist(), dtype=np.bool_),
        viewers=per_video(seen & 0xFFFFFFFF),
        likers=per_video(liked & 0xFFFFFFFF),
        last_likers=per_video(video[last & positive]),
        age_days=np.where(age > 0, age / DAY_US, np.nan),
    )


def alike(edges: pa.Table | None, n_videos: int) -> Alike:
    """Mean similarity over the modalities; of the two directions of a pair the greater counts.

    Args:
        edges: `modality_edges` of the day, in any order; None: nothing is alike.
        n_videos: in the catalogue.
    """
    rows = pa.table({"modality": pa.array([], pa.string())}) if edges is None else edges
    names, best = sorted(pc.unique(rows["modality"]).to_pylist()), []
    for name in names:
        of_it = rows.filter(pc.equal(rows["modality"], name))
        one, other = _integers(of_it["video_idx"]), _integers(of_it["neighbour_idx"])
        similarity = np.asarray(of_it["similarity"], dtype=np.float64)
        kept = (similarity > 0) & (one != other)
        pair = np.minimum(one, other)[kept] << 32 | np.maximum(one, other)[kept]
        similarity = np.minimum(similarity[kept], 1.0)
        order = np.lexsort((similarity, pair))
        greatest = np.append(np.diff(pair[order]) > 0, True)[: len(pair)]
        best.append((pair[order][greatest], similarity[order][greatest]))
    pairs = np.unique(np.concatenate([np.empty(0, np.int64), *(pair for pair, _ in best)]))
    total = np.zeros(len(pairs))
    for pair, similarity in best:
        total[np.searchsorted(pairs, pair)] += similarity
    mean = np.tile((total / max(len(names), 1)).astype(np.float32), 2)
    one, other = pairs >> 32, pairs & 0xFFFFFFFF
    one, other = np.concatenate([one, other]), np.concatenate([other, one])
    order = np.lexsort((other, one))
    start = np.searchsorted(one[order], np.arange(n_videos + 1))
    return Alike(start, other[order], mean[order])


def alike_in_each(edges: pa.Table, n_videos: int) -> dict[str, Alike]:
    """The same by modality, each by itself."""
    names = sorted(pc.unique(edges["modality"]).to_pylist())
    of_each = {name: edges.filter(pc.equal(edges["modality"], name)) for name in names}
    return {name: alike(some, n_videos) for name, some in of_each.items()}


def _searches(model: fitted.Fitted, facts: Facts, rules: Rules) -> bool:
    """Whether a model's lists may come from an index."""
    if not isinstance(model, fitted.Embeddings) or model.video.shape[1] == 1:
        return False
    return int((facts.eligible & model.video_known).sum()) > rules.exact_up_to


def _exact(models: Mapping[str, fitted.Fitted]) -> dict[str, Floats]:
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
        blend=recipe.section("candidates.blend", blend.Config),
        ladder=recipe.section("candidates.ladder", ladder.Config),
        diversity=recipe.section("candidates.diversity", diversity.Config),
        exploration=recipe.section("candidates.exploration", exploration.Config),
        oracle=config,
    )


def _newcomers(
    facts: Facts, config: exploration.Config, n_users: int, seed: list[int]
) -> tuple[Ints, Floats]:
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

    def score(users: Ints, videos: Ints) -> Floats:
        return np.asarray(module.scores(network, graph, users, videos), dtype=np.float64)

    return score


def _stored(
    warehouse: Warehouse, day: dt.date, source: str, asked: Collection[int]
) -> dict[int, Stored]:
    """The lists that the table holds for the asked users."""
    rows = warehouse.read("candidates", day=day, fit="final", source=source)
    rows = rows.filter(pc.is_in(rows["user_idx"], value_set=pa.array(asked, pa.int32())))
    rows = rows.sort_by([("user_idx", "ascending"), ("rank", "ascending")])
    user, video = _integers(rows["user_idx"]), _integers(rows["video_idx"])
    score = np.asarray(rows["score"], dtype=np.float64)
    users, first = np.unique(user, return_index=True)
    ends = np.append(first, len(user))[1:]
    return {
        int(one): Stored(video[start:end], score[start:end])
        for one, start, end in zip(users, first, ends, strict=True)
    }


def _booster(warehouse: Warehouse, day: dt.date) -> lightgbm.Booster | None:
    """The trees, if the night has some that order something and the trial has not found them worse."""
    where: dict[str, Any] = {"day": day, "fit": "final", "source": hybrid.SOURCE}
    if not warehouse.exists("candidates", **where) or not warehouse.count("candidates", **where):
        return None
    judged = warehouse.read("gate_results", day=day, fit="trial").to_pylist()
    said = {row["status"] for row in judged if row["gate"] == gate.LEARNED_NOT_WORSE}
    if "pass" not in said:
        return None
    folder = warehouse.find_artefact(day=day, fit="final", model=hybrid.SOURCE)
    return hybrid.load(folder, recipe.night().sources)


def _place(likers: Ints) -> Floats:
    """Minus ln of 1 + the videos that more users like. [n_videos]."""
    more = {n: int((likers > n).sum()) for n in set(likers.tolist())}
    return -np.log1p(np.array([more[n] for n in likers.tolist()], dtype=np.float64))


def _by(number: Ints, value: Ints, n: int) -> Rows:
    """Values by ascending numbers 0..n-1."""
    return Rows(np.searchsorted(number, np.arange(n + 1)), value)


def _integers(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column, dtype=np.int64)
