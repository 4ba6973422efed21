"""Models of sequences on real nights: `python -m tests.benchmarks.trends --help`.

    python -m tests.benchmarks.trends --data ../shared/data/kuairand_pure --through 2022-05-04 --out DIR

Tables, nights and fits are those of `tests.benchmarks.nights`: day D is held out, every model has
its trial fit. Two tasks:

* `clicks`: every exposure of D (the log's own viewings) is scored from what was known when D began.
  Label: positive feedback (watched through, watched long, or reacted to). gAUC is the AUC within a
  user, averaged by exposures over the users with both kinds of label; `gauc within durations` counts
  only pairs of a user's videos in the same tenth of durations, since short videos are watched
  through by themselves; `calibration` is the mean over ten equal bins of scores of
  |mean score - share of positives|, weighted by size.
  Beside the models the floor `video rate`: a video's share of positives so far, smoothed by
  `PRIOR` exposures of the mean; it knows nobody.
* `retrieval`: next-day recall@20 and ndcg@20 over all eligible videos, lists completed as a night
  completes them (`nights.filled`).

Intervals: 95 %, bootstrap over users with all their rows and nights; differences are paired. With
`--budget`, configurations are chosen on the night before the first measured one: by gAUC, or by
recall@20 for a model that only proposes. `--ablate` adds the chosen `multi_trend` with one thing
changed at a time. `future of others`: each row of `sequences` gets the future of another user as of
the same cut, so that what comes from Pearson's neighbours is told from what is merely fresh.
"""

import argparse
import datetime as dt
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microrec.config import recipe
from microrec.core.columns import copied, microseconds
from microrec.core.fitted import Ranker
from microrec.core.rates import Shown as Pairs
from microrec.models import registry
from microrec.models.inputs.graph_arrays import Graph
from microrec.models.inputs.sequence_arrays import Exposures, Steps, build
from microrec.models.rates import rates
from microrec.models.sequence import exposures as logged
from microrec.models.sequence.auc import group_aucs
from microrec.tables.arrow import Warehouse
from tests.benchmarks import nights, quality, report, spaces, tuning
from tests.benchmarks.nights import Night
from tests.benchmarks.quality import Figures
from tests.benchmarks.report import Row, row
from tests.benchmarks.tuning import Run, Trial

CLICKS, RETRIEVAL = "clicks", "retrieval"
RANKING = ("multi_trend", "din", "dnn", "rates")
"""Models that score exposures."""
MODELS = (*RANKING, "sasrec", "preference_gcn", "video_neighbours", "popularity")
SUBJECT = "multi_trend"
OTHERS = "future of others"
RATE = "video rate"
PRIOR = 20
ALL = "all nights"
N_BINS = 10
BARS = "gauc.png"
EPOCH = dt.date(1970, 1, 1).toordinal()
ORDER = [("started_at", "ascending"), ("user_idx", "ascending"), ("video_idx", "ascending")]
"""Of the exposures in `Sequences`."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Shown:
    """The exposures of a night's held-out day.

    Shapes:
        every array: [n_exposures]
    """

    exposures: Exposures
    """Rows are those of the trial's sequences: what was known when the day began."""
    user_id: NDArray[np.str_]
    tenth: NDArray[np.int64]
    """Of the durations of the day's exposures."""
    pairs: Pairs
    """The same as rates are asked for them, with the surfaces."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One night: figures by task and name, one array per seed."""

    clicks: dict[str, list[NDArray[np.float64]]]
    """Probabilities [n_exposures]."""
    shown: Shown
    lists: dict[str, Figures]
    seconds: dict[str, list[float]]


def shown(night: Night) -> Shown:
    """What was shown on the held-out day."""
    warehouse, day = Warehouse.open(), night.day
    tables = {
        name: warehouse.read(name, day=day) for name in ("sequences", "exposures", "video_nodes")
    }
    whole = build(tables, fit="final", n_users=night.graph.n_users)
    trial = logged.sequences_of(night.graph)
    cut = int(trial.cut_at.max())
    of_day = whole.exposures.taken(whole.exposures.at >= cut)
    of_day = replace(of_day, row=trial.serving[of_day.user_idx])
    length = night.graph.duration_ms[of_day.video_idx]
    edges = np.quantile(length, np.arange(1, 10) / 10)
    known = rates.rates_of(night.graph).surfaces
    surface = _surfaces(tables["exposures"], known, cut)
    columns = [column.astype(np.int64) for column in (of_day.user_idx, of_day.video_idx, surface)]
    pairs = Pairs(*columns, np.full(len(of_day), day.toordinal() - EPOCH))
    return Shown(of_day, night.user_id[of_day.user_idx], np.searchsorted(edges, length), pairs)


def _surfaces(exposures: pa.Table, known: pa.Array, cut: int) -> NDArray[Any]:
    """Numbers of the surfaces of the labelled exposures from an instant on, in the order of `Sequences`."""
    labelled = exposures.filter(pc.not_equal(exposures["feedback"], "not_started"))
    late = labelled.filter(pc.greater_equal(microseconds(labelled["started_at"]), cut))
    names = pc.fill_null(late.sort_by(ORDER)["surface"], "")
    return copied(pc.fill_null(pc.index_in(names, value_set=known), -1), np.int64)


def with_others_future(graph: Graph, rng: np.random.Generator) -> Graph:
    """The same graph; each row has the future of another row of the same cut."""
    sequences = logged.sequences_of(graph)
    order = np.arange(len(sequences.cut_at))
    for cut in np.unique(sequences.cut_at):
        mine = np.flatnonzero(sequences.cut_at == cut)
        order[mine] = rng.permutation(mine)
    return replace(graph, sequences=replace(sequences, future=_taken(sequences.future, order)))


def _taken(steps: Steps, order: NDArray[np.int64]) -> Steps:
    """The lists of some rows."""
    lengths = np.diff(steps.indptr)[order]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    place = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)
    place = place + np.repeat(steps.indptr[order], lengths)
    return Steps(indptr, steps.video_idx[place], steps.at[place], steps.weight[place])


def fit(night: Night, trial: Trial, seed: int) -> tuple[Run, Graph]:
    """The trial fit of a night, and the graph it was fitted to."""
    if not trial.name.endswith(OTHERS):
        return nights.fit(night, trial, seed), night.graph
    changed = with_others_future(night.graph, np.random.default_rng([seed, night.day.toordinal()]))
    return nights.fit(replace(night, graph=changed), trial, seed), changed


def probabilities(graph: Graph, trial: Trial, run: Run, of: Shown) -> NDArray[np.float64]:
    """What a fitted model says of exposures. [n_exposures]."""
    module: Any = registry.model(trial.model)
    config = module.Config.model_validate(trial.config)
    return chances(module.restore(graph, config, run.parameters), graph, config, of)


def chances(network: Any, graph: Graph, config: Any, of: Shown) -> NDArray[np.float64]:
    """What a network says of exposures, or what scores pairs of a user and a video on a surface. [n_exposures]."""
    if hasattr(network, "of_exposures"):
        return np.asarray(network.of_exposures(of.pairs), dtype=np.float64)
    values = logged.logits(network, graph, of.exposures, config).astype(np.float64)
    return 1 / (1 + np.exp(-values))


def video_rates(before: Exposures, n_videos: int) -> NDArray[np.float64]:
    """Smoothed share of positives of each video. [n_videos]."""
    n_shown = np.bincount(before.video_idx, minlength=n_videos)
    n_liked = np.bincount(before.video_idx, weights=before.label, minlength=n_videos)
    mean = before.label.mean() if len(before) else 0.5
    rates: NDArray[np.float64] = (n_liked + PRIOR * mean) / (n_shown + PRIOR)
    return rates


def gauc(scores: NDArray[Any], of: Shown) -> float:
    """gAUC of one night."""
    values, sizes = group_aucs(scores, of.exposures.label, of.exposures.user_idx)
    return float(np.average(values, weights=sizes))


def measure(day: dt.date, chosen: Sequence[Trial], *, seeds: int) -> Measured:
    """All fits of one night."""
    night = nights.read(day)
    of = shown(night)
    of_videos = video_rates(logged.sequences_of(night.graph).exposures, night.graph.n_videos)
    clicks = {RATE: [of_videos[of.exposures.video_idx]]}
    lists: dict[str, list[Any]] = {}
    seconds: dict[str, list[float]] = {}
    for trial in chosen:

        def one(seed: int, trial: Trial = trial) -> Run:
            run, graph = fit(night, trial, seed)
            words = ""
            if trial.model in RANKING:
                clicks.setdefault(trial.name, []).append(probabilities(graph, trial, run, of))
                words += f", gauc {gauc(clicks[trial.name][-1], of):.4f}"
            if not isinstance(run.fitted, Ranker):
                proposed = nights.filled(night, nights.candidates(night, run.fitted))
                lists.setdefault(trial.name, []).append(night.listed(proposed))
                words += (
                    f", recall@20 {quality.recall(lists[trial.name][-1], night.case.truth):.4f}"
                )
            _tell(trial, f"{day} seed {seed}", run, words)
            return replace(run, fitted=None, parameters={})

        runs = tuning.by_seed(one, range(seeds))
        seconds[trial.name] = [run.seconds for run in runs]
    # Nothing is proposed where only rankers are asked for.
    figures = quality.measured(lists, night.case.truth, ids=night.user_id) if lists else {}
    return Measured(clicks, of, figures, seconds)


def told(measured: Mapping[dt.date, Measured]) -> list[Row]:
    """The rows of all nights together."""
    some = [*measured.values()]
    result_rows = _clicks(some)
    pooled = quality.pooled([one.lists for one in some]) if any(one.lists for one in some) else {}
    for part, figures in pooled.items():
        names = [*figures.values]
        pairs = [(SUBJECT, name) for name in names if name != SUBJECT and SUBJECT in names]
        result_rows += quality.told(RETRIEVAL, ALL + part, figures, pairs=pairs, spread=part == "")
    for name in some[0].seconds:
        mean = float(np.mean([s for one in some for s in one.seconds[name]]))
        result_rows.append(row(CLICKS, name, "seconds a fit", ALL, mean, unit="s"))
    return result_rows


def _clicks(some: Sequence[Measured]) -> list[Row]:
    """gAUC and log loss with intervals, the rest without."""
    names = [*some[0].clicks]
    columns: dict[str, dict[str, NDArray[np.float64]]] = {}
    who: dict[str, NDArray[Any]] = {}
    for metric, of in PER_ROW.items():
        parts = [of(one, names) for one in some]
        who[metric] = np.concatenate([part[0] for part in parts])
        columns[metric] = {
            name: np.concatenate([part[1][name] for part in parts], axis=1) for name in names
        }
    results = []
    for metric, values in columns.items():
        labels = [(name, metric, CLICKS) for name in names]
        flat = [values[name].mean(axis=0) for name in names]
        for a, b in combinations(names, 2):
            if SUBJECT in (a, b):
                first, second = (a, b) if a == SUBJECT else (b, a)
                labels.append((f"{first} - {second}", metric, f"{CLICKS}: paired differences"))
                flat.append(values[first].mean(axis=0) - values[second].mean(axis=0))
        table = np.stack(flat, axis=1)
        low, high = quality.interval(table, who[metric], generator=np.random.default_rng(1))
        for (name, what, group), value, lower, upper in zip(
            labels, table.mean(axis=0), low, high, strict=True
        ):
            told_ = {"unit": "", "low": float(lower), "high": float(upper)}
            n = len(values[name]) if name in values else None
            results.append(row(group, name, what, ALL, float(value), **told_, seeds=n))
        for name in names:
            if len(values[name]) > 1:
                spread = float(np.std(values[name].mean(axis=1), ddof=1))
                results.append(row(CLICKS, name, f"{metric} sd", ALL, spread, unit=""))
    for name in names:
        for metric, whole in WHOLE.items():
            value = float(
                np.mean(
                    [whole(p, one.shown.exposures.label) for one in some for p in one.clicks[name]]
                )
            )
            results.append(row(CLICKS, name, metric, ALL, value, unit=""))
    return results


PerRow = tuple[NDArray[Any], dict[str, NDArray[np.float64]]]


def gauc_rows(one: Measured, names: Sequence[str], *, within: bool) -> PerRow:
    """Each user's AUC, once for each of the user's exposures: its mean over the rows is gAUC."""
    of = one.shown
    group = of.exposures.user_idx.astype(np.int64)
    if within:
        group = group * N_BINS + of.tenth
    values, who = {}, of.user_id[:0]
    for name in names:
        seeds = []
        for scores in one.clicks[name]:
            aucs, sizes = group_aucs(scores, of.exposures.label, group)
            seeds.append(np.repeat(aucs, sizes))
        values[name] = np.stack(seeds)
    order = np.argsort(group, kind="stable")
    label, sorted_group = of.exposures.label[order], group[order]
    _, at, n = np.unique(sorted_group, return_inverse=True, return_counts=True)
    positive = np.bincount(at, weights=label)
    both = (positive > 0) & (positive < n)
    who = of.user_id[order][both[at]]
    return who, values


def _log_loss_rows(one: Measured, names: Sequence[str]) -> PerRow:
    """Log loss of each exposure."""
    label = one.shown.exposures.label
    values = {
        name: np.stack([-np.log(np.clip(np.where(label, p, 1 - p), 1e-7, 1)) for p in one.clicks[name]])
        for name in names
    }  # fmt: skip
    return one.shown.user_id, values


PER_ROW: dict[str, Callable[[Measured, Sequence[str]], PerRow]] = {
    "gauc": lambda one, names: gauc_rows(one, names, within=False),
    "gauc within durations": lambda one, names: gauc_rows(one, names, within=True),
    "log loss": _log_loss_rows,
}
"""Metrics whose mean over rows is the figure, so that users can be resampled."""


def auc(scores: NDArray[np.float64], label: NDArray[np.bool_]) -> float:
    """AUC of all exposures together."""
    values, _ = group_aucs(scores, label, np.zeros(len(label), dtype=np.int64))
    return float(values[0])


def calibration(scores: NDArray[np.float64], label: NDArray[np.bool_]) -> float:
    """Expected calibration error over bins of equally many exposures."""
    order = np.argsort(scores, kind="stable")
    bins = np.array_split(order, N_BINS)
    gaps = [abs(scores[one].mean() - label[one].mean()) for one in bins if len(one)]
    return float(np.average(gaps, weights=[len(one) for one in bins if len(one)]))


WHOLE = {"auc": auc, "calibration": calibration}


def tune(day: dt.date, model: str, *, budget: int) -> list[Trial]:
    """Every configuration tried on a night before the measured ones, the best one marked."""
    if budget == 0:
        return [nights.released(model)]
    night = nights.read(day)
    of, base = (
        shown(night),
        recipe.current().section(f"models.{model}", registry.model(model).Config),
    )

    def attempt(trial: Trial, step: str) -> tuple[Run, float]:
        run, graph = fit(night, trial, tuning.SEED)
        if model in RANKING:
            value = gauc(probabilities(graph, trial, run, of), of)
        else:
            listed = night.listed(nights.filled(night, nights.candidates(night, run.fitted)))
            value = quality.recall(listed, night.case.truth)
        _tell(trial, f"{day} {step}", run, f", {value:.4f}")
        return run, value

    space = spaces.nights(model)
    trials = tuning.configurations(model, space, budget=budget, base=base)
    return tuning.tune(trials, attempt)


def ablated(chosen: Sequence[Trial]) -> list[Trial]:
    """The chosen multi_trend with one thing changed at a time."""
    return [
        replace(whole, name=f"{SUBJECT}, {words}", config={**whole.config, **fields})
        for whole in chosen
        if whole.name == SUBJECT
        for words, fields in {**spaces.TREND_ABLATIONS, OTHERS: {}}.items()
    ]


def _tell(trial: Trial, step: str, run: Run, words: str) -> None:
    tuning.tell(trial, step, run, words, base=nights.released(trial.model).config)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the tables, measure, write."""
    asked = _parser().parse_args(arguments)
    asked.out = out = tuning.begin(asked.out, (BARS,))
    days, before = nights.prepare(asked)
    tried = [] if asked.tuned else [
        one for model in asked.models for one in tune(before, model, budget=asked.budget)
    ]  # fmt: skip
    chosen = tuning.earlier(asked.tuned, asked.models) or [one for one in tried if one.chosen]
    tuning.save(tried or chosen, out)
    if asked.ablate:
        chosen = [*chosen, *ablated(chosen)]
    measurements = {day: measure(day, chosen, seeds=asked.seeds) for day in days}
    rows = told(measurements)
    gaucs = {
        str(one["name"]): float(str(one["value"]))
        for one in rows
        if one["benchmark"] == CLICKS and one["metric"] == "gauc"
    }
    report.bars(out / BARS, f"gAUC, {len(days)} nights", gaucs, unit="gauc", scale="linear")
    report.write(rows, out, preface=_preface(asked, measurements, chosen, before))
    logger.info("written to %s", out)


def _preface(
    asked: argparse.Namespace,
    measurements: Mapping[dt.date, Measured],
    chosen: Sequence[Trial],
    before: dt.date,
) -> str:
    """What was measured, how and with what."""
    how = f"chosen on {before}, at most {asked.budget} each, one seed"
    how = "taken from an earlier run" if asked.tuned else how if asked.budget else "the recipe's"
    nights_ = [
        f"- {day}: {len(one.shown.exposures):,} exposures,"
        f" {one.shown.exposures.label.mean():.3f} positive"
        for day, one in measurements.items()
    ]
    lines = [
        "# Models of sequences on real nights (KuaiRand-Pure; Gao et al., CIKM 2022; CC BY-SA 4.0)",
        str(__doc__).split("\n\n", 2)[2].strip(),
        f"{asked.seeds} seeds (1 where nothing is random). Configurations: {how}. {tuning.packages()}.",
        "\n".join(nights_),
        "Configurations:",
        tuning.listed(chosen),
    ]
    return "\n\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = tuning.parser("tests.benchmarks.trends", str(__doc__), MODELS, budget=0)
    nights.add_nights(parser)
    words = "also the chosen multi_trend with one thing changed at a time"
    parser.add_argument("--ablate", action="store_true", help=words)
    return parser


if __name__ == "__main__":
    main()
