"""Each user's own exposures of the next day, ranked: `python -m tests.benchmarks.exposures --help`.

    python -m tests.benchmarks.exposures --data ../shared/data/kuairand_pure --through 2022-05-05 --out DIR

Models are fitted to the days before a night's held-out day (`tests.benchmarks.kuairand`, no Spark), and the exposures
that a user had on that day are one list, ranked by score. Three tasks:

* `long_view`: the platform's label, all exposures of the log.
* `long_view, with the past`: the same lists; the fits also see up to 50 exposures a user before the first log day
  (`train_exposures_last50.parquet`). `fm` learns from them as from all others, `popularity` counts them, `rates` counts
  them in the rates of all later days and has no examples there (they have no days), `dnn` and `din` have them in
  histories and no examples there either.
* `positive`: the pipeline's label, of exposures that started. The past does not have it.

Figures: `gauc`, the AUC within a list, averaged by the list's positives over the lists with both kinds of label;
`ndcg@5`, averaged over all lists, 0 where nothing is positive; `mean` of the two. Equal scores share their places.
`oracle` ranks by the label itself: what `ndcg@5` can reach. `one list a user`: one fit, to the days before the first
night; a user's exposures of all nights are one list. (Fits of several days in one list would be unfair to all that
know users: who liked much on one day gets higher scores on the next, and the positives of the list are behind.)

Intervals: 95 %, bootstrap over users with all their nights; differences are paired. Every label is learned by every
model for itself. Configurations are chosen by `mean` on the `CHOSEN_ON` nights before the first measured one, one
seed.
"""

import argparse
import dataclasses
import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from microrec.core.columns import copied
from microrec.core.rates import Shown as Pairs
from microrec.models import registry
from microrec.models.inputs.graph_arrays import Graph
from microrec.models.inputs.sequence_arrays import Exposures
from microrec.models.rates import rates
from microrec.models.sequence import exposures as logged
from microrec.models.sequence.auc import group_aucs
from tests.benchmarks import factorization, kuairand, quality, report, trends, tuning
from tests.benchmarks.kuairand import EPOCH, LONG_VIEW, POSITIVE, Labelled, World
from tests.benchmarks.report import Row, row
from tests.benchmarks.tuning import Run, Trial

POPULARITY, FM, RATES, ORACLE = "popularity", "fm", "rates", "oracle"
MODELS = (POPULARITY, FM, "dnn", "din", RATES)
BASES = (POPULARITY, FM)
"""What every other model is subtracted from."""
CHOSEN_ON = 2
CUT = 5
NEXT_DAY, ONE_LIST = "next day", "one list a user"
FIGURES = ("gauc", f"ndcg@{CUT}", "mean")
SPACES: dict[str, dict[str, list[Any]]] = {
    FM: {
        "learning_rate": [1e-3, 3e-3],
        "l2": [3e-2, 1e-1, 3e-1],
        "epochs": [2, 3, 5, 8],
    },
    RATES: {"leaves": [2, 4, 8], "half_life_days": [2.5, 5.0]},
}
"""What is tried; the networks keep their defaults and choose their epochs on the last day before the held-out one."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What is learned and ranked by."""

    name: str
    label: str
    with_past: bool = False


TASKS = (
    Task(LONG_VIEW, LONG_VIEW),
    Task(f"{LONG_VIEW}, with the past", LONG_VIEW, with_past=True),
    Task(POSITIVE, POSITIVE),
)


@dataclass(frozen=True, eq=False)
class Night:
    """One held-out day of a task, or several in a row, of which nothing is known."""

    day: dt.date
    graph: Graph
    before: Labelled
    """All that a fit may see."""
    of: Labelled
    """The exposures of the day or days."""
    shown: trends.Shown
    """The same as models are asked for them."""


class Nothing(BaseModel):
    """Config of what has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def night(world: World, task: Task, day: dt.date, *, days: int = 1) -> Night:
    """Return a night of a task.

    Args:
        world: the files.
        task: label, and what is learned from.
        day: held out, the first one if there are several.
        days: how many are.
    """
    rows = world.rows(task.label, with_past=task.with_past)
    number = day.toordinal() - EPOCH
    before = rows.taken(rows.day < number)
    of = rows.taken((rows.day >= number) & (rows.day < number + days))
    graph = kuairand.graph(world, before, day, example_days=rates.Config().example_days)
    known = rates.rates_of(graph).surfaces
    codes = pc.fill_null(pc.index_in(kuairand.surfaces(of.surface), value_set=known), -1)
    pairs = Pairs(of.user_idx, of.video_idx, copied(codes, np.int64), np.full(len(of), number))
    serving = logged.sequences_of(graph).serving
    exposures = Exposures(
        serving[of.user_idx],
        of.user_idx.astype(np.int32),
        of.video_idx.astype(np.int32),
        of.at,
        of.label,
    )
    no_tenths = np.zeros(len(of), dtype=np.int64)
    return Night(
        day, graph, before, of, trends.Shown(exposures, of.user_idx.astype(str), no_tenths, pairs)
    )


def module(model: str) -> Any:
    """Return the module that fits a model."""
    return factorization if model == FM else registry.model(model)


def base(model: str) -> BaseModel:
    """Return a model's defaults."""
    config: BaseModel = Nothing() if model == POPULARITY else module(model).Config()
    return config


def scored(
    of: Night, trial: Trial, seed: int, *, first_day: int
) -> tuple[Run, NDArray[np.float64]]:
    """Fit a model to the days before a night, and score the night's exposures.

    Args:
        of: the night.
        trial: the model and its configuration.
        seed: of the fit.
        first_day: of the log, in days since 1970: earlier exposures are counted and are no examples.

    Returns:
        The fit, and scores [n_exposures].
    """
    if trial.model == POPULARITY:
        video = trends.video_rates(of.before, of.graph.n_videos)
        return Run(None, 0.0, {}, random=False), video[of.of.video_idx]
    config = dict(trial.config)
    if trial.model == RATES:
        days = of.day.toordinal() - EPOCH - first_day
        config["example_days"] = min(config["example_days"], days)
    rng = np.random.default_rng([seed, of.day.toordinal(), *trial.model.encode()])
    run = tuning.fit(module(trial.model), of.graph, config, rng)
    parsed = module(trial.model).Config.model_validate(config)
    network = module(trial.model).restore(of.graph, parsed, run.parameters)
    return run, trends.chances(network, of.graph, parsed, of.shown)


def ndcgs(
    scores: NDArray[Any], label: NDArray[np.bool_], group: NDArray[Any], *, k: int = CUT
) -> NDArray[np.float64]:
    """Return nDCG@k of each group, in the order of the groups; 0 where nothing is positive.

    Exposures with equal scores share the discounts of their places, as if every order of them were as likely.

    Args:
        scores: [n]
        label: [n]
        group: number of each exposure's list. [n]
        k: places that count.
    """
    order = np.lexsort((-scores, group))
    scores, label, group = scores[order], label[order], group[order]
    _, first, at = np.unique(group, return_index=True, return_inverse=True)
    place = np.arange(len(group)) - first[at]
    discount = np.where(place < k, 1 / np.log2(place + 2), 0.0)
    new = np.concatenate([[True], (at[1:] != at[:-1]) | (scores[1:] != scores[:-1])])
    tie = np.cumsum(new) - 1
    shared = (np.bincount(tie, discount) / np.bincount(tie))[tie]
    gain = np.bincount(at, label * shared)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2))])
    best = ideal[np.minimum(np.bincount(at, label).astype(np.int64), k)]
    return np.divide(gain, best, out=np.zeros_like(gain), where=best > 0)


def list_sums(
    scores: NDArray[Any], label: NDArray[np.bool_], group: NDArray[Any]
) -> NDArray[np.float64]:
    """Return what the figures of each list are made of, in the order of the lists.

    Args:
        scores: [n]
        label: [n]
        group: number of each exposure's list. [n]

    Returns:
        Positives times AUC and positives, both 0 in a list of one kind of label; nDCG; 1. [n_lists, 4]
    """
    lists, at = np.unique(group, return_inverse=True)
    positives = np.bincount(at, label)
    both = (positives > 0) & (positives < np.bincount(at))
    sums = np.zeros((len(lists), 4))
    sums[both, 0] = group_aucs(scores, label, at)[0] * positives[both]
    sums[both, 1] = positives[both]
    sums[:, 2] = ndcgs(scores, label, at)
    sums[:, 3] = 1
    return sums


def figures(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the `FIGURES` of sums over lists. [..., 4] to [..., 3]."""
    gauc = totals[..., 0] / totals[..., 1]
    ndcg = totals[..., 2] / totals[..., 3]
    return np.stack([gauc, ndcg, (gauc + ndcg) / 2], axis=-1)


def lists(of: Labelled, *, by_day: bool) -> NDArray[np.int64]:
    """Return the number of each exposure's list, the user's in the high digits. [n]."""
    numbers: NDArray[np.int64] = (of.user_idx << 20) + of.day * by_day
    return numbers


def user_sums(scores: NDArray[np.float64], of: Labelled, *, by_day: bool) -> NDArray[np.float64]:
    """Return the sums over the lists of each user, in the order of user_idx. [n_users, 4].

    Args:
        scores: [n]
        of: the exposures; label and lists are theirs. [n]
        by_day: a list for each day, else one for all days.
    """
    group = lists(of, by_day=by_day)
    sums = list_sums(scores, of.label, group)
    _, at = np.unique(np.unique(group) >> 20, return_inverse=True)
    return np.stack([np.bincount(at, column) for column in sums.T], axis=1)


def tune(nights: Sequence[Night], model: str, *, budget: int, first_day: int) -> list[Trial]:
    """Return every configuration tried on nights before the measured ones, the best one marked."""

    def attempt(trial: Trial, step: str) -> tuple[Run, float]:
        values, runs = [], []
        for one in nights:
            run, scores = scored(one, trial, tuning.SEED, first_day=first_day)
            values.append(figures(user_sums(scores, one.of, by_day=True).sum(axis=0))[-1])
            runs.append(run)
        tuning.tell(
            trial, step, runs[-1], f", {np.mean(values):.4f}", base=tuning.as_json(base(model))
        )
        return runs[-1], float(np.mean(values))

    space = SPACES.get(model, {})
    if budget == 0 or not space:
        return [Trial(model, model, tuning.as_json(base(model)), chosen=True)]
    return tuning.tune(
        tuning.configurations(model, space, budget=budget, base=base(model)), attempt
    )


def measure(
    nights: Sequence[Night], chosen: Sequence[Trial], split: str, *, seeds: int, first_day: int
) -> tuple[Labelled, dict[str, list[NDArray[np.float64]]], dict[str, float]]:
    """Fit and score every night.

    Args:
        nights: measured.
        chosen: a configuration of each model.
        split: how exposures make lists.
        seeds: fits of what draws at random.
        first_day: of the log, in days since 1970.

    Returns:
        The exposures of all nights; by model one array of scores a seed; seconds of a fit by model.
    """
    columns = zip(*(vars(one.of).values() for one in nights), strict=True)
    of = Labelled(*(np.concatenate(parts) for parts in columns))
    scores: dict[str, list[NDArray[np.float64]]] = {}
    seconds: dict[str, float] = {}
    for trial in chosen:
        for seed in range(seeds):
            fits = [scored(one, trial, seed, first_day=first_day) for one in nights]
            scores.setdefault(trial.name, []).append(np.concatenate([fit[1] for fit in fits]))
            seconds[trial.name] = float(np.mean([fit[0].seconds for fit in fits]))
            sums = user_sums(scores[trial.name][-1], of, by_day=split == NEXT_DAY)
            mean = figures(sums.sum(axis=0))
            logger.info(
                "%s seed %d: %.1f s a fit, %s", trial.name, seed, seconds[trial.name], mean.round(4)
            )
            if not any(fit[0].random for fit in fits):
                break
    scores[ORACLE] = [of.label.astype(np.float64)]
    return of, scores, seconds


def told(
    task: str, split: str, of: Labelled, scores: Mapping[str, Sequence[NDArray[np.float64]]]
) -> list[Row]:
    """Return figures of every model and paired differences, with intervals.

    Args:
        task: its name.
        split: `NEXT_DAY`, a list for each day, or `ONE_LIST`.
        of: the exposures of all nights. [n]
        scores: by model, one array a seed. [n] each
    """
    names, by_day = [*scores], split == NEXT_DAY
    sums = [
        np.mean([user_sums(one, of, by_day=by_day) for one in scores[name]], axis=0)
        for name in names
    ]
    drawn = quality.resampled(np.concatenate(sums, axis=1), generator=np.random.default_rng(1))
    draws = figures(drawn.reshape(len(drawn), len(names), 4))  # [n_resamples, n_names, 3]
    whole = figures(np.stack([one.sum(axis=0) for one in sums]))  # [n_names, 3]
    # The value first, then the draws, so that one line of a difference makes both.
    stacked = np.moveaxis(np.concatenate([whole[None], draws]), 1, 0)
    values = dict(zip(names, stacked, strict=True))
    rows: list[Row] = []
    for name in names:
        rows += _rows(task, name, split, values[name], seeds=len(scores[name]))
    for a, b in differences(names):
        gain = values[a] - values[b]
        rows += _rows(f"{task}: paired differences", f"{a} - {b}", split, gain, seeds=None)
    return rows


def differences(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return what is subtracted from what: each base from every other model, two bases once."""
    models = [name for name in names if name != ORACLE]
    return [
        (one, other)
        for number, other in enumerate(BASES)
        for one in models
        if other in models and one not in BASES[: number + 1]
    ]


def _rows(
    group: str, name: str, split: str, values: NDArray[np.float64], *, seeds: int | None
) -> list[Row]:
    """Rows of each figure; `values` [1 + n_resamples, 3] has the figures, then those of the resamples."""
    low, high = np.percentile(values[1:], [2.5, 97.5], axis=0)
    columns = zip(FIGURES, values[0].tolist(), low.tolist(), high.tolist(), strict=True)
    return [
        row(group, name, metric, split, value, unit="", low=lower, high=upper, seeds=seeds)
        for metric, value, lower, upper in columns
    ]


def sizes(of: Labelled, *, by_day: bool) -> str:
    """Return how many exposures, users and lists there are, in words."""
    sums = list_sums(np.zeros(len(of)), of.label, lists(of, by_day=by_day))
    both, positive = int((sums[:, 1] > 0).sum()), (sums[:, 2] > 0).mean()
    return (
        f"{len(of):,} exposures ({of.label.mean():.3f} positive) of {len(np.unique(of.user_idx)):,} users in"
        f" {len(sums):,} lists, {both:,} of them with both labels, {positive:.3f} with a positive"
    )


def run(asked: argparse.Namespace) -> None:
    """Choose, measure and write."""
    world = kuairand.read(asked.data)
    days = [asked.through - dt.timedelta(days=back) for back in reversed(range(asked.nights))]
    earlier = [days[0] - dt.timedelta(days=back) for back in reversed(range(1, CHOSEN_ON + 1))]
    rows, lines, tried = [], [], []
    for task in (one for one in TASKS if one.name in asked.tasks):
        logger.info("%s", task.name)
        mine = tuned(world, task, earlier, asked)
        tried += [dataclasses.replace(one, name=f"{task.name}: {one.name}") for one in mine]
        chosen = [one for one in mine if one.chosen]
        for split, nights in (
            (NEXT_DAY, [night(world, task, day) for day in days]),
            (ONE_LIST, [night(world, task, days[0], days=len(days))]),
        ):
            of, scores, seconds = measure(
                nights, chosen, split, seeds=asked.seeds, first_day=world.first_day
            )
            rows += told(task.name, split, of, scores)
            rows += [
                row(task.name, name, "seconds a fit", split, value, unit="s")
                for name, value in seconds.items()
            ]
            lines.append(f"- {task.name}, {split}: {sizes(of, by_day=split == NEXT_DAY)}")
        tuning.save(tried, asked.out)
        report.write(rows, asked.out, preface=_preface(asked, days, earlier, lines, tried))
    logger.info("written to %s", asked.out)


def tuned(
    world: World, task: Task, earlier: Sequence[dt.date], asked: argparse.Namespace
) -> list[Trial]:
    """Return what was tried of every model, the best ones marked; what an earlier run chose is not tried again."""
    known = {one.name: one for one in tuning.earlier(asked.tuned, asked.models)}
    trials = []
    nights: list[Night] = []
    for model in asked.models:
        if earlier_choice := known.get(f"{task.name}: {model}"):
            trials.append(dataclasses.replace(earlier_choice, name=model))
            continue
        if asked.budget and model in SPACES and not nights:
            nights = [night(world, task, day) for day in earlier]
        trials += tune(nights, model, budget=asked.budget, first_day=world.first_day)
    return trials


def _preface(
    asked: argparse.Namespace,
    days: Sequence[dt.date],
    earlier: Sequence[dt.date],
    lines: Sequence[str],
    tried: Sequence[Trial],
) -> str:
    """What was measured, how and with what."""
    where = " and ".join(map(str, earlier))
    how = (
        f"chosen on {where}, at most {asked.budget} each, one seed" if asked.budget else "defaults"
    )
    how += ", or taken from an earlier run" if asked.tuned else ""
    parts = [
        "# A user's own exposures, ranked (KuaiRand-Pure; Gao et al., CIKM 2022; CC BY-SA 4.0)",
        str(__doc__).split("\n\n", 2)[2].strip(),
        f"Nights {days[0]} to {days[-1]}, {asked.seeds} seeds (1 where nothing is random). Configurations: {how}."
        f" {tuning.packages()}.",
        "\n".join(lines),
        "Configurations:",
        tuning.listed([one for one in tried if one.chosen]),
    ]
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose, measure, write."""
    asked = _parser().parse_args(arguments)
    asked.out = tuning.begin(asked.out, ())
    run(asked)


def _parser() -> argparse.ArgumentParser:
    parser = tuning.parser("tests.benchmarks.exposures", str(__doc__), MODELS, budget=0)
    day = {"type": dt.date.fromisoformat, "metavar": "YYYY-MM-DD"}
    parser.add_argument("--through", required=True, help="last night", **day)
    parser.add_argument("--nights", type=int, default=5, help="how many")
    names = [one.name for one in TASKS]
    parser.add_argument("--tasks", nargs="+", choices=names, default=names, help="which tasks")
    return parser


if __name__ == "__main__":
    main()
