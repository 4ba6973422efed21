"""Where viewers leave, and what they watch: `python -m tests.benchmarks.clips --help`.

    python -m tests.benchmarks.clips --segmm ../shared/data/segmm --kuairand ../shared/data/kuairand_pure --out DIR

Tasks, each told from what was known before the day (SegMM: the period) of the viewing:

* `skipped clip`: of a viewing that was left, all clips of the video are ranked by the chance that it is
  left there; hr@1, hr@5, ndcg@5 of the clip it was left in. Equal chances are ordered at random. On
  `warm` videos somebody was seen before, on `cold` ones nobody. Beside: `random`; `global position`:
  how often viewers left at that place of any video; `item position`: at that clip of this video (where
  that says nothing, the global one decides); `item position, smoothed` by 20 viewings of the global one;
  `user position`: of this user, smoothed by 5; `lightgcn`: fitted to who left in which clip.
* `viewings`: all exposures of the day scored; label: positive feedback, and watched to the end. AUC,
  AUC within users (`gauc`), per tenth of durations; beside a tuned `din`.
* `re-ranking` (`--rerank`): next-day ndcg@20 of the night's blend, and of the blend with
  `clip_interest` as one more source at several weights.

KuaiRand: rolling nights as in `tests.benchmarks.trends`. SegMM has no clock of days: its time is cut
into ten periods, the last two are held out; with `--heldout FILE` (same columns) all ten are learned
from, and that file is scored once. Intervals: 95 %, bootstrap over users; differences are paired.
"""

import argparse
import datetime as dt
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from microrec.candidates.ranking import candidate_union
from microrec.config import recipe
from microrec.models import registry
from microrec.models.clip import clip_interest
from microrec.models.clip.clip_interest import Viewings
from microrec.models.graph import lightgcn
from microrec.models.inputs import clip_arrays, graph_arrays
from microrec.models.inputs.graph_arrays import Edges, Graph, Neighbours
from microrec.tables.arrow import Warehouse
from tests.benchmarks import nights, quality, report, spaces, trends, tuning
from tests.benchmarks.report import Row, row
from tests.benchmarks.tuning import Run, Trial

MODELS = ("clip_interest", "din")
SUBJECT = "clip_interest"
ABLATIONS: dict[str, dict[str, Any]] = {
    "no graph": {"graph": False},
    "fixed fusion": {"fusion": "fixed"},
    "positive only": {"fusion": "positive"},
    "pairs at a clip": {"pairwise_weight": 1.0},
    "beside": {"neighbours": True},
}
WEIGHTS = (0.1, 0.3, 1.0)
METRICS = ("hr@1", "hr@5", "ndcg@5")
N_PERIODS = 10
HELD_PERIODS = 2
PLOT = "hr.png"

Doubles = NDArray[np.float64]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Left:
    """Viewings that were left, and what was known before.

    Shapes:
        user_idx, video_idx, clip_no: [n]; who: [n]
    """

    graph: Graph
    user_idx: NDArray[np.int64]
    video_idx: NDArray[np.int64]
    clip_no: NDArray[np.int64]
    who: NDArray[np.str_]

    @property
    def known(self) -> clip_arrays.Clips:
        """What was reached before."""
        return clip_interest.clips_of(self.graph)

    @property
    def warm(self) -> NDArray[np.bool_]:
        """Videos somebody was seen watching before. [n]."""
        seen = np.unique(self.known.video[self.known.edges.clip])
        return np.isin(self.video_idx, seen)

    def flat(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All clips of the viewings' videos: which viewing, which clip."""
        return self.known.of(self.video_idx)


Scorer = Callable[[Left, np.random.Generator], Doubles]
"""Scores of `flat` clips: the greater, the likelier it was left there."""


def at_random(of: Left, rng: np.random.Generator) -> Doubles:
    """Nothing is known."""
    return np.zeros(len(of.flat()[0]))


def by_place(of: Left, rng: np.random.Generator) -> Doubles:
    """Share of all exits at the clip's place."""
    _, clip = of.flat()
    return _places(of.known)[of.known.number[clip]]


def by_video(of: Left, rng: np.random.Generator, *, smoothing: float = 1e-6) -> Doubles:
    """Exits in the clip, and a little of what holds for its place."""
    _, clip = of.flat()
    edges = of.known.edges
    left = np.bincount(edges.clip[~edges.through], minlength=of.known.n_clips)
    return left[clip] + smoothing * _places(of.known)[of.known.number[clip]]


def by_video_smoothed(of: Left, rng: np.random.Generator) -> Doubles:
    """The same as 20 viewings of the place."""
    return by_video(of, rng, smoothing=20.0)


def by_user(of: Left, rng: np.random.Generator) -> Doubles:
    """Exits of the user at the place, and as 5 viewings those of all."""
    viewing, clip = of.flat()
    edges, number = of.known.edges, of.known.number
    width = int(number.max(initial=0)) + 1
    key = edges.user_idx[~edges.through] * width + number[edges.clip[~edges.through]]
    left = np.bincount(key, minlength=of.graph.n_users * width)
    mine = left[of.user_idx[viewing] * width + number[clip]]
    return mine + 5.0 * _places(of.known)[number[clip]]


def by_lightgcn(of: Left, rng: np.random.Generator) -> Doubles:
    """Clips as videos, an edge where a user left."""
    edges = of.known.edges.taken(~of.known.edges.through)
    key = np.unique(edges.user_idx * of.known.n_clips + edges.clip)
    n = len(key)
    user, clip = (
        (key // of.known.n_clips).astype(np.int32),
        (key % of.known.n_clips).astype(np.int32),
    )
    ones, instants = np.ones(n), np.ones(n, dtype=np.int64)
    graph = replace(
        of.graph,
        n_videos=of.known.n_clips,
        eligible=np.ones(of.known.n_clips, dtype=np.bool_),
        edges=Edges(user, clip, ones, instants, instants, instants),
        early_stopping=None,
        features={},
        modality_edges={},
    )
    embeddings: Any = lightgcn.fit(graph, lightgcn.Config(), rng).fitted
    viewing, asked = of.flat()
    return np.einsum("nd,nd->n", embeddings.user[of.user_idx[viewing]], embeddings.video[asked])


PRIORS: dict[str, Scorer] = {
    "random": at_random,
    "global position": by_place,
    "item position": by_video,
    "item position, smoothed": by_video_smoothed,
    "user position": by_user,
    "lightgcn": by_lightgcn,
}


def _places(known: clip_arrays.Clips) -> Doubles:
    """Share of all exits by place. [places]."""
    edges = known.edges
    left = known.number[edges.clip[~edges.through]]
    counts = np.bincount(left, minlength=int(known.number.max(initial=0)) + 1).astype(np.float64)
    return counts / max(counts.sum(), 1.0)


def by_model(network: Any, of: Left) -> Doubles:
    """Chance to reach the clip and leave there: retention before it minus retention after."""
    rows = clip_interest.all_rows(network, of.graph)
    scores = []
    for place, _, chance in clip_interest.stays(network, rows, of.user_idx, of.video_idx):
        after = clip_interest.retained(place, chance)
        scores.append(np.exp(after - chance) - np.exp(after))
    return np.concatenate([np.empty(0), *scores])


def ranks(of: Left, scores: Doubles, rng: np.random.Generator) -> Doubles:
    """hr@1, hr@5, ndcg@5 of each viewing; equal scores in random order. [n, 3]."""
    viewing, clip = of.flat()
    order = np.lexsort((rng.random(len(scores)), -scores, viewing))
    place = np.arange(len(order)) - np.searchsorted(viewing[order], viewing[order])
    hit = of.known.number[clip[order]] == of.clip_no[viewing[order]]
    rank = np.full(len(of.user_idx), np.iinfo(np.int64).max)
    rank[viewing[order][hit]] = place[hit]
    gain = np.where(rank < 5, 1 / np.log2(np.minimum(rank, 5) + 2), 0.0)
    return np.stack([(rank < 1).astype(float), (rank < 5).astype(float), gain], axis=1)


def left_in(graph: Graph, edges: clip_arrays.ClipEdges, who: NDArray[np.str_]) -> Left:
    """The exits among some edges, of videos the graph has clips of."""
    known = clip_interest.clips_of(graph)
    exits = edges.taken(~edges.through)
    video = known.video[exits.clip]
    return Left(graph, exits.user_idx, video, known.number[exits.clip], who[exits.user_idx])


@dataclass(frozen=True, eq=False)
class Measured:
    """One night, or the one split of SegMM.

    Shapes:
        exits: by name, per seed [n_left, 3]; scores: by name, per seed [n_exposures]
    """

    left: Left
    exits: dict[str, list[Doubles]]
    shown: trends.Shown | None
    complete: NDArray[np.bool_]
    scores: dict[str, list[Doubles]]
    seconds: dict[str, float]


def skipped(of: Left, *, seeds: int) -> dict[str, list[Doubles]]:
    """What every prior says."""
    results: dict[str, list[Doubles]] = {}
    for name, scorer in PRIORS.items():
        n = seeds if name in ("random", "lightgcn") else 1
        rngs = [np.random.default_rng([seed, *name.encode()]) for seed in range(n)]
        results[name] = [ranks(of, scorer(of, rng), rng) for rng in rngs]
        logger.info("%s: hr@1 %.4f", name, np.mean([one[:, 0].mean() for one in results[name]]))
    return results


def fitted(graph: Graph, trial: Trial, rng: np.random.Generator) -> tuple[Run, Any]:
    """A fit, and its network."""
    module: Any = registry.model(trial.model)
    run = tuning.fit(module, graph, trial.config, rng)
    config = module.Config.model_validate(trial.config)
    return run, module.restore(graph, config, run.parameters)


def measure(day: dt.date, chosen: Sequence[Trial], *, seeds: int) -> Measured:
    """All fits of one night of KuaiRand."""
    night = nights.read(day)
    of = trends.shown(night)
    final = read(day, "final")
    known = clip_interest.clips_of(night.graph)
    edges = clip_interest.clips_of(final).edges
    of_day = edges.taken(edges.day >= known.today)
    left = left_in(night.graph, of_day, night.user_id)
    exits = skipped(left, seeds=seeds)
    scores: dict[str, list[Doubles]] = {}
    seconds: dict[str, float] = {}
    for trial in chosen:
        for seed in range(seeds):
            rng = np.random.default_rng([seed, night.day.toordinal(), *trial.model.encode()])
            run, network = fitted(night.graph, trial, rng)
            module: Any = registry.model(trial.model)
            user, video = of.exposures.user_idx, of.exposures.video_idx
            said = module.scores(network, night.graph, user, video).astype(np.float64)
            scores.setdefault(trial.name, []).append(said)
            seconds[trial.name] = run.seconds
            words = f", gauc {trends.gauc(said, of):.4f}"
            if trial.model == SUBJECT:
                exits.setdefault(trial.name, []).append(ranks(left, by_model(network, left), rng))
                words += f", hr@1 {exits[trial.name][-1][:, 0].mean():.4f}"
            tuning.tell(trial, f"{day} seed {seed}", run, words, base=trial.config)
    complete = _complete(known, of_day, of)
    return Measured(left, exits, of, complete, scores, seconds)


def _complete(
    known: clip_arrays.Clips, edges: clip_arrays.ClipEdges, of: trends.Shown
) -> NDArray[np.bool_]:
    """Whether the pair's last clip was watched through that day. [n_exposures]."""
    last = known.first[known.video[edges.clip] + 1] - 1
    ends = edges.taken((edges.clip == last) & edges.through)
    key = ends.user_idx << 32 | known.video[ends.clip]
    asked = of.exposures.user_idx.astype(np.int64) << 32 | of.exposures.video_idx
    return np.isin(asked, key)


def read(day: dt.date, fit: str) -> Graph:
    """A night's graph with its clips."""
    warehouse = Warehouse.open()
    needed = graph_arrays.reads(registry.card("clip_interest").reads, fit)
    tables = {name: warehouse.read(name, day=day, **part) for name, part in needed.items()}
    return graph_arrays.build_graph(tables, fit=fit)


def told(benchmark: str, some: Sequence[Measured]) -> list[Row]:
    """The rows of some nights together."""
    who = np.concatenate([one.left.who for one in some])
    warm = np.concatenate([one.left.warm for one in some])
    names = [*some[0].exits]
    values = {
        name: np.concatenate([np.mean(one.exits[name], axis=0) for one in some]) for name in names
    }
    results = []
    for part, mask in (("all", warm | ~warm), ("warm", warm), ("cold", ~warm)):
        if not mask.any():
            continue
        split = f"{part} ({int(mask.sum())} viewings)"
        columns = {(name, m): values[name][mask, m] for name in names for m in range(len(METRICS))}
        for other in names:
            if SUBJECT in names and other != SUBJECT:
                for m in range(len(METRICS)):
                    gain = columns[SUBJECT, m] - columns[other, m]
                    columns[f"{SUBJECT} - {other}", m] = gain
        results += _with_intervals(f"{benchmark}: skipped clip", split, columns, METRICS, who[mask])
    return results


def _with_intervals(
    benchmark: str,
    split: str,
    columns: Mapping[tuple[str, int], Doubles],
    metrics: Sequence[str],
    who: NDArray[np.str_],
) -> list[Row]:
    table = np.stack([*columns.values()], axis=1)
    low, high = quality.interval(table, who, generator=np.random.default_rng(1))
    return [
        row(benchmark, name, metrics[m], split, float(mean), unit="", low=float(a), high=float(b))
        for (name, m), mean, a, b in zip(columns, table.mean(axis=0), low, high, strict=True)
    ]


def viewings(benchmark: str, some: Sequence[Measured]) -> list[Row]:
    """gauc with intervals, auc, and auc by tenth of durations, for both labels."""
    result_rows: list[Row] = []
    title = f"{benchmark}: viewings"
    for name in some[0].seconds:
        mean = float(np.mean([one.seconds[name] for one in some]))
        result_rows.append(row(title, name, "a fit", "seconds", mean, unit="s"))
    for label in ("positive", "complete"):
        columns: dict[tuple[str, int], Doubles] = {}
        who: list[NDArray[np.str_]] = []
        names = [*some[0].scores]
        parts: dict[str, list[Doubles]] = {name: [] for name in names}
        for one in some:
            of = _labelled(one, label)
            for name in names:
                seeds = [trends.gauc_rows(_as_trends(one, of, said), [name], within=False)
                         for said in ({name: [s]} for s in one.scores[name])]  # fmt: skip
                parts[name].append(np.mean([rows[1][name][0] for rows in seeds], axis=0))
                rows_who = seeds[0][0]
            who.append(rows_who)
        for name in names:
            columns[name, 0] = np.concatenate(parts[name])
        for name in names:
            if name != SUBJECT and SUBJECT in names:
                columns[f"{SUBJECT} - {name}", 0] = columns[SUBJECT, 0] - columns[name, 0]
        split = f"{label} (all nights)"
        result_rows += _with_intervals(title, split, columns, ("gauc",), np.concatenate(who))
        for name in names:
            result_rows += _whole(title, split, name, some, label)
    return result_rows


def _whole(title: str, split: str, name: str, some: Sequence[Measured], label: str) -> list[Row]:
    """AUC of all exposures of a night, and of each tenth of durations; means over nights and seeds."""
    parts = [(said, _labelled(one, label)) for one in some for said in one.scores[name]]
    value = np.mean([trends.auc(said, of.exposures.label) for said, of in parts])
    result_rows = [row(title, name, "auc", split, float(value), unit="")]
    for tenth in range(trends.N_BINS):
        values = []
        for said, of in parts:
            mine = of.tenth == tenth
            of_tenth = of.exposures.label[mine]
            if 0 < of_tenth.sum() < len(of_tenth):
                values.append(trends.auc(said[mine], of_tenth))
        if values:
            metric = f"auc {tenth + 1}/10"
            result_rows.append(row(title, name, metric, split, float(np.mean(values)), unit=""))
    return result_rows


def _labelled(one: Measured, label: str) -> trends.Shown:
    if one.shown is None:
        raise ValueError("no exposures were scored")
    if label == "positive":
        return one.shown
    return replace(one.shown, exposures=replace(one.shown.exposures, label=one.complete))


def _as_trends(one: Measured, of: trends.Shown, said: dict[str, list[Doubles]]) -> trends.Measured:
    return trends.Measured(said, of, {}, {})


def rerank(days: Sequence[dt.date], trial: Trial) -> list[Row]:
    """The night's blend, with and without the clip model's order of all candidates."""
    lists: list[dict[str, Any]] = []
    name = recipe.ranked_by(SUBJECT)
    for day in days:
        night, asks = nights.read(day), recipe.current().night
        sources = {
            model: nights.candidates(night, nights.fit(night, nights.released(model), 0).fitted)
            for model in asks.models
        }
        rng = np.random.default_rng([0, day.toordinal(), *SUBJECT.encode()])
        _, network = fitted(night.graph, trial, rng)
        users, videos = candidate_union.union(sources)
        said = clip_interest.scores(network, night.graph, users, videos)
        more = {
            **sources,
            name: candidate_union.by_score(users, videos, said, k=asks.k * asks.overfetch),
        }
        base = recipe.current().section("candidates.blend", nights.blend.Config)
        ranked = {"blend": [night.listed(nights.blended(night, sources))]}
        for weight in WEIGHTS:
            given = {name: {"warm": weight, "cold": weight}}
            config = nights.blend.Config.model_validate(
                {**base.model_dump(), "weights": {**base.model_dump()["weights"], **given}}
            )
            proposed = nights.select(night, more, config)
            ranked[f"blend + {weight} {SUBJECT}"] = [night.listed(proposed)]
        alone = nights.filled(night, more[name])
        ranked[f"{SUBJECT} alone"] = [night.listed(alone)]
        lists.append(quality.measured(ranked, night.case.truth, ids=night.user_id))
        logger.info("%s re-ranked", day)
    rows: list[Row] = []
    for part, figures in quality.pooled(lists).items():
        pairs = [(one, "blend") for one in figures.values if one != "blend"]
        if part == "":
            rows += quality.told("re-ranking", nights.ALL, figures, pairs=pairs, spread=False)
    return rows


@dataclass(frozen=True, eq=False)
class Segments:
    """SegMM's rows as a graph, and rows that are asked for."""

    graph: Graph
    asked: clip_arrays.ClipEdges
    who: NDArray[np.str_]


def segments(learned: pa.Table, heldout: pa.Table | None) -> Segments:
    """Turn labelled rows into edges; `heldout` comes after everything that is learned from."""
    both = [learned] if heldout is None else [learned, heldout]
    rows = pa.concat_tables([one.combine_chunks() for one in both])
    who, user = np.unique(rows["user_id"].to_numpy(), return_inverse=True)
    ids, video = np.unique(rows["video_id"].to_numpy(), return_inverse=True)
    time, labels = rows["time_ms"].to_numpy(), rows["segment_labels"].to_pylist()
    lengths = np.array([len(one) for one in labels])
    duration = rows["duration_ms"].to_numpy()
    n_clips, length = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
    n_clips[video], length[video] = lengths, duration
    first = np.concatenate([[0], np.cumsum(n_clips)])
    number = np.arange(first[-1]) - np.repeat(first[:-1], n_clips)
    end = np.minimum((number + 1) * 5000, np.repeat(length, n_clips))
    period = np.searchsorted(
        np.quantile(time[: len(learned)], np.arange(1, N_PERIODS) / N_PERIODS), time
    )
    period[len(learned) :] = N_PERIODS
    flat = np.concatenate([np.array(one, dtype=np.int64) for one in labels])
    of = np.repeat(np.arange(len(labels)), lengths)
    place = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    reached = (flat >= 0) & (place < n_clips[video[of]])
    of, place, through = of[reached], place[reached], flat[reached] > 0
    early = rows["playing_time"].to_numpy() < 5000
    weight = np.where(through, 1 / lengths[of], np.where(early[of], 1.0, 0.5))
    edges = clip_arrays.ClipEdges(user[of], first[video[of]] + place, period[of], through, weight)
    edges = edges.taken(np.lexsort((edges.clip, edges.user_idx, edges.day)))
    start = N_PERIODS if heldout is not None else N_PERIODS - HELD_PERIODS
    known = edges.taken(edges.day < start)
    nothing = np.zeros((first[-1], 0), dtype=np.float32)
    seen_clips = clip_arrays.Clips(
        first=first, end_ms=end, vector=nothing, edges=known, validated_on=start - 1, today=start
    )
    return Segments(
        _bare(len(who), length, seen_clips), edges.taken(edges.day >= start), who.astype(str)
    )


def _bare(n_users: int, length: NDArray[np.int64], clips: clip_arrays.Clips) -> Graph:
    """A graph of clips and nothing else."""
    n = len(length)
    nobody = Neighbours(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0))
    none = Edges(*(np.zeros(0, kind) for kind in (np.int32, np.int32, float, int, int, int)))
    everything = np.ones(n, dtype=np.bool_)
    author = np.zeros(n, dtype=np.int32)
    return Graph(n_users, n, everything, author, length, none, None, {}, {}, nobody, clips=clips)


def measure_segments(of: Segments, chosen: Sequence[Trial], *, seeds: int) -> Measured:
    """Skipped clips of SegMM."""
    left = left_in(of.graph, of.asked, of.who)
    exits = skipped(left, seeds=seeds)
    seconds: dict[str, float] = {}
    for trial in chosen:
        for seed in range(seeds):
            rng = np.random.default_rng([seed, *trial.model.encode()])
            run, network = fitted(of.graph, trial, rng)
            exits.setdefault(trial.name, []).append(ranks(left, by_model(network, left), rng))
            seconds[trial.name] = run.seconds
            words = f", hr@1 {exits[trial.name][-1][:, 0].mean():.4f}"
            tuning.tell(trial, f"SegMM seed {seed}", run, words, base=trial.config)
    return Measured(left, exits, None, np.zeros(0, dtype=np.bool_), {}, seconds)


def tune(day: dt.date, *, budget: int) -> list[Trial]:
    """Configurations of the clip model on a night before the measured ones: log loss of its clips."""
    base = recipe.current().section(f"models.{SUBJECT}", clip_interest.Config)
    if not budget:
        return [nights.released(SUBJECT)]
    graph, final = read(day, "trial"), read(day, "final")
    edges = clip_interest.clips_of(final).edges
    asked = clip_interest.viewings(
        edges.taken(edges.day >= clip_interest.clips_of(graph).today), clip_interest.clips_of(graph)
    )

    def attempt(trial: Trial, step: str) -> tuple[Run, float]:
        rng = np.random.default_rng([tuning.SEED, *SUBJECT.encode()])
        run, network = fitted(graph, trial, rng)
        value = -_loss(network, graph, asked)
        tuning.tell(
            trial, f"{day} {step}", run, f", log loss {-value:.5f}", base=tuning.as_json(base)
        )
        return replace(run, fitted=None, parameters={}), value

    trials = tuning.configurations(SUBJECT, spaces.nights(SUBJECT), budget=budget, base=base)
    return tuning.tune(trials, attempt)


def _loss(network: Any, graph: Graph, asked: Viewings) -> float:
    reader = clip_interest.Reader(clip_interest.clips_of(graph), network.config)
    return clip_interest.log_loss(network, reader, asked)


def ablated(chosen: Sequence[Trial]) -> list[Trial]:
    """The clip model with one thing changed at a time."""
    return [
        replace(whole, name=f"{SUBJECT}, {words}", config={**whole.config, **fields})
        for whole in chosen
        if whole.model == SUBJECT
        for words, fields in ABLATIONS.items()
    ]


def choose(asked: argparse.Namespace, before: dt.date) -> list[Trial]:
    """Configurations of earlier runs; where there is none, found on the night before the measured ones."""
    trials = tuning.earlier(asked.tuned, asked.models)
    missing = [one for one in asked.models if one not in {trial.model for trial in trials}]
    for model in missing if asked.kuairand else {SUBJECT} & {*missing}:
        tried = tune if model == SUBJECT else partial(trends.tune, model=model)
        trials += tried(before, budget=asked.budget)
    tuning.save(trials, asked.out)
    return [one for one in trials if one.chosen]


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the tables, measure, write."""
    asked = _parser().parse_args(arguments)
    asked.out, asked.data = tuning.begin(asked.out, (PLOT,)), asked.kuairand
    days, before = nights.prepare(asked) if asked.kuairand else ([], asked.through)
    chosen = choose(asked, before)
    mine = [one for one in chosen if one.model == SUBJECT]
    rivals = [one for one in chosen if one.model != SUBJECT]
    mine += ablated(mine) if asked.ablate else []
    rows: list[Row] = []
    if asked.segmm:
        learned = pq.read_table(asked.segmm / "segments_a.parquet")
        held = pq.read_table(asked.heldout) if asked.heldout else None
        measured = measure_segments(segments(learned, held), mine, seeds=asked.seeds)
        rows += told("SegMM" if held is None else "SegMM, held-out file", [measured])
    some = [measure(day, [*mine, *rivals], seeds=asked.seeds) for day in days]
    if some:
        rows += told("KuaiRand", some) + viewings("KuaiRand", some)
    if some and asked.rerank:
        rows += rerank(days, mine[0])
    hits = {
        f"{one['benchmark']}: {one['name']}": float(str(one["value"]))
        for one in rows
        if str(one["split"]).startswith("all (") and one["metric"] == METRICS[0]
        if " - " not in str(one["name"])
    }
    report.bars(asked.out / PLOT, "hr@1 of the skipped clip", hits, unit="hr@1", scale="linear")
    report.write(rows, asked.out, preface=_preface(asked, days, chosen))
    logger.info("written to %s", asked.out)


def _preface(asked: argparse.Namespace, days: Sequence[dt.date], chosen: Sequence[Trial]) -> str:
    lines = [
        "# Where viewers leave (KuaiRand-Pure; Gao et al., CIKM 2022; CC BY-SA 4.0. SegMM)",
        str(__doc__).split("\n\n", 2)[2].strip(),
        f"Nights {', '.join(map(str, days))}; {asked.seeds} seeds. {tuning.packages()}.",
        "Configurations:",
        tuning.listed(chosen),
    ]
    return "\n\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = tuning.parser("tests.benchmarks.clips", str(__doc__), MODELS, budget=0)
    nights.add_nights(parser)
    for action in parser._actions:
        action.required = action.required and action.dest == "out"
    parser.set_defaults(through=dt.date(2022, 5, 4))
    parser.add_argument("--kuairand", type=Path, help="folder of KuaiRand-Pure")
    parser.add_argument("--segmm", type=Path, help="folder of SegMM's rows")
    parser.add_argument("--heldout", type=Path, help="a file of SegMM's form, scored once")
    parser.add_argument("--ablate", action="store_true", help="also with one thing changed")
    parser.add_argument("--rerank", action="store_true", help="also within the night's blend")
    return parser


if __name__ == "__main__":
    main()
