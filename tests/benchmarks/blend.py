"""What each change of the learned blend is worth on KuaiRand's nights: `python -m tests.benchmarks.blend --help`.

    python -m tests.benchmarks.blend --data ../shared/data/kuairand_pure --out DIR

Every day of the logs from the third on is held out once (`kuairand_nights`, no Spark): the recipe's sources are fitted
to the days before and propose. A night's blend has learned from at most seven nights before it. Its closed form has
the weights that were fitted to the held-out day of the night before, as a final fit has them; in the nights that
teach, the weights are cross-fitted over users, as in a trial. Lists are the first of the order: every user has a
hundred candidates and more, so no ladder is needed.

`chosen on` are the nights by which variants are chosen, `confirmed on` others, where nothing is. Differences are
paired, minus the learned blend of before (`BEFORE`: 50 trees that start from nothing); 95 %, bootstrap over users with
all their nights.
"""

import argparse
import datetime as dt
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microrec.candidates.ranking import closed_form, fusion, learned_blend
from microrec.candidates.ranking.candidate_union import by_score
from microrec.candidates.ranking.learned_blend import Blend, Examples
from microrec.config import recipe
from microrec.core import fits
from microrec.core.rates import NAMES, features
from microrec.core.trees import REPRODUCIBLE
from microrec.evaluation import ranking
from microrec.evaluation.truth import BUCKETS, Truth
from microrec.models.rates import rates
from tests.benchmarks import kuairand, kuairand_nights, quality, report
from tests.benchmarks.hybrid import DEFAULT
from tests.benchmarks.kuairand_nights import Trial
from tests.benchmarks.report import Row, row

BENCHMARK = "blend"
CHOSEN = ("2022-04-29", "2022-04-30")
CONFIRMED = ("2022-05-01", "2022-05-02", "2022-05-03", "2022-05-05")
TAUGHT_BY = 7
K = 20
BEFORE, ADOPTED, CLOSED = "50 trees from nothing", "25 trees from the closed form", "closed form"
SCORED_AT_ONCE = 200_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Variant:
    """How a blend is grown."""

    name: str
    start: bool = True
    """From the closed form."""
    rates: bool = False
    """Reads all rates too, as of the start of the day, on the surface where the user is shown most."""
    surfaces: bool = False
    """Reads the places of a video on that surface."""
    constraints: bool = True
    trees: int = 25
    leaves: int = 4
    options: Mapping[str, Any] = field(default_factory=dict)


RANK = {"objective": "lambdarank", "lambdarank_truncation_level": 30}
LINEAR = {"linear_tree": True, "linear_lambda": 1.0}
VARIANTS = (
    Variant(BEFORE, start=False, trees=50),
    Variant(f"{BEFORE}, all rates", start=False, trees=50, rates=True),
    Variant("lambdarank, 200 trees from nothing", start=False, trees=200, options=RANK),
    Variant(ADOPTED),
    Variant("as adopted, all rates", rates=True),
    Variant("as adopted, places on the user's surface", surfaces=True),
    Variant("as adopted, no constraints", constraints=False),
    Variant("as adopted, linear trees", constraints=False, options=LINEAR),
    Variant("as adopted, lambdarank, 10 trees", trees=10, options=RANK),
    Variant("as adopted, 50 trees of two leaves", trees=50, leaves=2),
    Variant("as adopted, 50 trees", trees=50),
    Variant("as adopted, 100 trees", trees=100),
)


@dataclass(frozen=True, eq=False)
class Evening:
    """A night's trial, its candidates with everything that some variant reads."""

    day: str
    truth: Truth
    history: NDArray[np.int64]
    taught: learned_blend.Pairs
    """With the closed form of a trial."""
    asked: learned_blend.Pairs
    """With the closed form of a final fit: the weights of the night before."""
    liked: NDArray[np.bool_]
    points: Mapping[str, NDArray[np.float64]]
    """Of each source alone. [n_pairs]"""
    rates: NDArray[np.float32]
    surfaces: NDArray[np.float32]
    fitted: closed_form.Config
    """The weights for the next night."""


def evening(trial: Trial, videos: pa.Table, before: closed_form.Config) -> Evening:
    """Return what variants read of a night.

    Args:
        trial: the night.
        videos: `video_nodes`.
        before: the weights that were fitted to the held-out day of the night before.
    """
    night, prior = trial.night, recipe.current().section("candidates.blend", closed_form.Config)
    right, known = night.case.truth, night.case.known
    pairs = (right.users[right.row], right.video)
    evidence = fusion.evidence(trial.lists, right=pairs, history=known.history, prior=prior)
    folds = fusion.fit_folds(evidence, prior=prior, config=fusion.Config())
    crossed = closed_form.CrossFitted(tuple(folds[n] for n in sorted(folds.keys() - {fusion.ALL})))
    facts = learned_blend.facts(
        trial.edges, videos, known=known, fit="trial", until=fits.horizon(night.day, "trial")
    )
    asked = learned_blend.pairs(trial.lists, facts=facts, closed=before)
    at = {name: asked.names.index(f"points_{name}") for name in asked.sources}
    return Evening(
        night.day.isoformat(),
        right,
        known.history,
        learned_blend.pairs(trial.lists, facts=facts, closed=crossed),
        asked,
        learned_blend.liked(asked, *pairs),
        {name: asked.values[:, place].astype(np.float64) for name, place in at.items()},
        *_of_rates(trial, asked),
        folds[fusion.ALL],
    )


def _of_rates(
    trial: Trial, pairs: learned_blend.Pairs
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rates of pairs [n_pairs, n_rates], and the places of their videos on the user's surface [n_pairs, 2]."""
    inputs = rates.rates_of(trial.night.graph)
    shown, counts = inputs.serving(pairs.user, pairs.video), inputs.counts
    totals = rates.book(inputs, rates.Config()).as_of(inputs.today)
    parts = [
        features(totals.of(shown.taken(slice(start, start + SCORED_AT_ONCE))), prior=10.0)
        for start in range(0, len(shown), SCORED_AT_ONCE)
    ]
    n_surfaces, n_videos = len(inputs.surfaces), len(trial.night.graph.eligible)
    places = np.zeros((n_surfaces + 1, n_videos, 2), dtype=np.float32)
    for surface in range(n_surfaces):
        of_it = counts.surface == surface
        for column, days in enumerate((of_it, of_it & (counts.day == inputs.today - 1))):
            liked = np.bincount(counts.video_idx[days], counts.n_positive[days], n_videos)
            above = n_videos - np.searchsorted(np.sort(liked), liked, side="right")
            places[surface, :, column] = -np.log1p(above)
    return np.concatenate(parts), places[shown.surface, pairs.video]


def matrix(
    night: Evening, pairs: learned_blend.Pairs, variant: Variant
) -> tuple[NDArray[np.float32], list[str]]:
    """Return what a variant reads of a night's pairs, and the names of the columns."""
    columns, names = [pairs.values], list(pairs.names)
    if variant.rates:
        columns.append(night.rates)
        names += [f"rate_{name}" for name in NAMES]
    if variant.surfaces:
        columns.append(night.surfaces)
        names += ["surface_place", "surface_place_last_day"]
    return np.concatenate(columns, axis=1), names


def grow(nights: Sequence[Evening], variant: Variant) -> Blend:
    """Return a variant's blend of several nights."""
    config, outcomes, values, users = learned_blend.Config(), [], [], []
    for number, night in enumerate(nights):
        table, names = matrix(night, night.taught, variant)
        rng = np.random.default_rng([recipe.current().night.seed, number])
        rows = learned_blend.Pairs(night.taught.user, night.taught.video, table, ())
        drawn = learned_blend.examples(rows, night.liked, config=config, rng=rng)
        rng = np.random.default_rng([recipe.current().night.seed, number])
        marked = learned_blend.Pairs(
            night.taught.user, night.taught.video, night.taught.user[:, None], ()
        )
        users.append(learned_blend.examples(marked, night.liked, config=config, rng=rng).values)
        outcomes.append(drawn.liked)
        values.append(drawn.values)
    return _grown(
        Examples(np.concatenate(values), np.concatenate(outcomes)),
        np.concatenate([np.unique(each, return_counts=True)[1] for each in users]),
        names,
        variant,
    )


def _grown(
    examples: Examples, of_user: NDArray[np.int64], names: Sequence[str], variant: Variant
) -> Blend:
    config = learned_blend.Config()
    of_sources = learned_blend.OF_SOURCES
    rising = [int(name.startswith(of_sources) or name == CLOSED_AT) for name in names]
    options: dict[str, Any] = {
        "objective": "binary",
        "boost_from_average": not variant.start,
        "num_leaves": variant.leaves,
        "learning_rate": config.learning_rate,
        "min_data_in_leaf": config.least_in_leaf,
        "lambda_l2": config.l2,
        **REPRODUCIBLE,
        **variant.options,
    }
    if variant.constraints:
        options["monotone_constraints"] = rising
    points = learned_blend.log_points(examples.values[:, names.index(CLOSED_AT)])
    slope, offset = learned_blend.logistic(points, examples.liked) if variant.start else (0.0, 0.0)
    data = lightgbm.Dataset(
        examples.values,
        examples.liked.astype(np.int8),
        feature_name=list(names),
        init_score=offset + slope * points if variant.start else None,
        group=of_user if options["objective"] == "lambdarank" else None,
        params={"linear_tree": options.get("linear_tree", False)},
    )
    return Blend(lightgbm.train(options, data, num_boost_round=variant.trees), slope, offset)


CLOSED_AT = learned_blend.CLOSED_FORM


@dataclass(frozen=True, eq=False)
class Measured:
    """A list's accuracy by (night, user)."""

    user: NDArray[np.int64]
    history: NDArray[np.int64]
    recall: NDArray[np.float64]
    ndcg: NDArray[np.float64]
    coverage: float
    seconds: float = 0.0


def judged(night: Evening, scores: NDArray[np.float64], seconds: float = 0.0) -> Measured:
    """Return how good the lists are that scores of a night's pairs give. [n_pairs]."""
    closed = night.asked.values[:, night.asked.names.index(CLOSED_AT)].astype(np.float64)
    rows = by_score(night.asked.user, night.asked.video, scores, k=K, then=closed)
    listed = ranking.matrix(rows, night.truth, k=K)
    _, metrics, values = ranking.per_user({"": listed}, night.truth, (K,))
    n_videos = len(night.truth.eligible)
    n_listed = len(np.unique(listed[listed < n_videos]))
    by = {name: values[:, 0, metrics.index(f"{name}@{K}")] for name in ("recall", "ndcg")}
    share = n_listed / night.truth.eligible.sum()
    return Measured(night.truth.users, night.truth.history, **by, coverage=share, seconds=seconds)


def pooled(nights: Sequence[Measured]) -> Measured:
    """Return several nights as one."""
    columns = [
        np.concatenate([getattr(night, name) for night in nights])
        for name in ("user", "history", "recall", "ndcg")
    ]
    means = [
        float(np.mean([getattr(night, name) for night in nights]))
        for name in ("coverage", "seconds")
    ]
    return Measured(*columns, *means)


def measure(nights: Sequence[Evening], days: Sequence[str]) -> dict[str, Measured]:
    """Return the accuracy of every source, the closed form and every variant on some nights.

    Args:
        nights: all, in the order of time.
        days: which are judged; the nights before each teach.
    """
    results: dict[str, list[Measured]] = {}
    for number, night in enumerate(nights):
        if night.day not in days:
            continue
        for name, points in night.points.items():
            results.setdefault(name, []).append(judged(night, points))
        closed = night.asked.values[:, night.asked.names.index(CLOSED_AT)].astype(np.float64)
        results.setdefault(CLOSED, []).append(judged(night, closed))
        for variant in VARIANTS:
            began = time.monotonic()
            blend = grow(nights[max(0, number - TAUGHT_BY) : number], variant)
            values, _ = matrix(night, night.asked, variant)
            scores = blend.log_odds(values)
            seconds = time.monotonic() - began
            results.setdefault(variant.name, []).append(judged(night, scores, seconds))
            logger.info("%s %s: %.1f s", night.day, variant.name, seconds)
    return {name: pooled(parts) for name, parts in results.items()}


def told(measured: Mapping[str, Measured], split: str) -> list[Row]:
    """Return the rows of some nights: every list, its difference to `BEFORE`, and by history that of `ADOPTED`."""
    rows: list[Row] = []
    base = measured[BEFORE]
    for name, of in measured.items():
        for metric in ("recall", "ndcg"):
            values, others = getattr(of, metric), getattr(base, metric)
            rows.append(row(BENCHMARK, name, f"{metric}@{K}", split, values.mean(), unit="score"))
            low, high = between(of.user, values - others)
            mean = float((values - others).mean())
            rows.append(
                row(
                    BENCHMARK, f"{name} - {BEFORE}", f"{metric}@{K}", split, mean,
                    unit="difference", low=low, high=high,
                )
            )  # fmt: skip
        rows.append(row(BENCHMARK, name, f"coverage@{K}", split, of.coverage, unit="share"))
        if of.seconds:
            rows.append(row(BENCHMARK, name, "seconds", split, of.seconds, unit="s"))
    rows += _by_history(measured, split)
    return rows


def _by_history(measured: Mapping[str, Measured], split: str) -> list[Row]:
    """The adopted blend minus every source, and itself, by history."""
    rows, ours = [], measured[ADOPTED]
    for bucket, least, most in BUCKETS:
        members = (ours.history >= least) & (ours.history <= (np.inf if most is None else most))
        if not members.any():
            continue
        rows.append(
            row(BENCHMARK, ADOPTED, f"ndcg@{K}", f"{split}, {bucket}", ours.ndcg[members].mean(), unit="score")
        )  # fmt: skip
        for name in (*DEFAULT, CLOSED):
            gain = (ours.ndcg - measured[name].ndcg)[members]
            low, high = between(ours.user[members], gain)
            rows.append(
                row(
                    BENCHMARK, f"{ADOPTED} - {name}", f"ndcg@{K}", f"{split}, {bucket}",
                    float(gain.mean()), unit="difference", low=low, high=high,
                )
            )  # fmt: skip
    return rows


def between(users: NDArray[np.int64], gains: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of a mean over (night, user) pairs, users drawn with all their nights."""
    at = np.unique(users, return_inverse=True)[1]
    sums = np.stack([np.bincount(at, gains), np.bincount(at)], axis=1)
    draws = quality.resampled(sums, generator=np.random.default_rng(0))
    low, high = np.percentile(draws[:, 0] / draws[:, 1], [2.5, 97.5])
    return float(low), float(high)


def importance(nights: Sequence[Evening], day: str) -> list[Row]:
    """Return by history how far each source, the closed form and what is known spread a user's candidates apart."""
    number = [night.day for night in nights].index(day)
    night = nights[number]
    (adopted,) = (variant for variant in VARIANTS if variant.name == ADOPTED)
    blend = grow(nights[max(0, number - TAUGHT_BY) : number], adopted)
    weights = learned_blend.weights(
        learned_blend.effects(blend, night.asked),
        night.asked.user,
        history=night.history,
        buckets=BUCKETS,
    )
    return [
        row(BENCHMARK, line["source"], "weight", line["bucket"], line["weight"], unit="share")
        for line in weights.to_pylist()
    ]


def run(world: kuairand.World, days: Sequence[str]) -> list[Evening]:
    """Return all nights, in the order of time.

    Args:
        world: the files.
        days: of the nights.
    """
    before = recipe.current().section("candidates.blend", closed_form.Config)
    nights = []
    for day in days:
        trial = kuairand_nights.trial(world, dt.date.fromisoformat(day), DEFAULT)
        nights.append(evening(trial, world.videos, before))
        before = nights[-1].fitted
        logger.info("%s: %d pairs, %d liked", day, len(nights[-1].liked), nights[-1].liked.sum())
    return nights


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.blend",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of KuaiRand-Pure")
    parser.add_argument("--chosen", nargs="*", default=list(CHOSEN), metavar="DAY")
    parser.add_argument("--confirmed", nargs="*", default=list(CONFIRMED), metavar="DAY")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    asked = parser.parse_args(arguments)
    world = kuairand.read(asked.data)
    last = max(asked.chosen + asked.confirmed)
    first = world.first_day + EPOCH_DAYS + 2
    span = range(first, dt.date.fromisoformat(last).toordinal() + 1)
    nights = run(world, [dt.date.fromordinal(number).isoformat() for number in span])
    rows: list[Row] = []
    for split, days in (("chosen on", asked.chosen), ("confirmed on", asked.confirmed)):
        if days:
            rows += told(measure(nights, days), f"{split} {', '.join(days)}")
    rows += importance(nights, last)
    report.write(rows, asked.out, preface=(__doc__ or "").split("\n", 2)[2].strip())


EPOCH_DAYS = kuairand.EPOCH

if __name__ == "__main__":
    main()
