"""The learned blend, the closed form and every source on real nights: `python -m tests.benchmarks.hybrid --help`.

    python -m tests.benchmarks.hybrid --data ../shared/data/kuairand_pure --through 2022-05-04 --out DIR

Nights roll as in `tests.benchmarks.nights`. On each, every model of `--models` has its trial fit (the
night's own seed) and proposes; the lists of the closed form (`closed form`: the recipe's weights; a
source it does not name has the weight of `other`) and of the learned blend (`hybrid`) are made of the
same candidates, filtered and filled. The blend of a night has learned from the trials of the `--learn`
nights before it, never from the night itself.

* `hybrid, same day`: for warning only. The blend learned from half of the users of the very day it is
  measured on, for the other half, and the other way round: what a split by users would promise.
* `hybrid, N nights`: with no more than N nights to learn from.
* Prices (`--prices`): the hybrid's lists under each knob of variety and exploration; likeness is the mean
  similarity of the pairs of a list's first 20, by tags.
"""

import argparse
import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from microrec.candidates.lists import diversity, exploration, fill, likeness
from microrec.candidates.ranking import closed_form, learned_blend
from microrec.config import recipe
from microrec.core import fits
from microrec.core.columns import column
from microrec.evaluation.truth import BUCKETS
from microrec.models import registry
from microrec.models.basic import content
from microrec.tables.arrow import Warehouse
from tests.benchmarks import nights, quality, report, tuning
from tests.benchmarks.nights import Night
from tests.benchmarks.report import Row, row

BENCHMARK = "hybrid"
MODELS = tuple(name for name, card in registry.CARDS.items() if card.proposes)
DEFAULT = ("popularity", "content", "user_neighbours", "video_neighbours", "preference_gcn", "ease")
HYBRID, CLOSED, SAME_DAY = "hybrid", "closed form", "hybrid, same day"
PLOT = "prices.png"
KNOBS: dict[str, dict[str, Any]] = {
    "author cap 3": {"author_cap": 3},
    "author cap 1": {"author_cap": 1},
    "collapse 0.99": {"collapse": 0.99},
    "mmr 0.9": {"relevance": 0.9},
    "mmr 0.7": {"relevance": 0.7},
    "mmr 0.5": {"relevance": 0.5},
}
PLACES = (1, 2, 5)
AGAINST = ("coverage@20", "gini@20", "likeness@20")
"""What variety is bought for."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Evening:
    """A night's trial with what its sources propose."""

    night: Night
    lists: dict[str, pa.Table]
    facts: learned_blend.Facts
    pairs: learned_blend.Pairs
    liked: NDArray[np.bool_]

    @property
    def shaping(self) -> fill.Shaping:
        """The closed form."""
        return fill.Shaping(recipe.current().section("candidates.blend", closed_form.Config))

    def select(self, shaping: fill.Shaping) -> pa.Table:
        """The lists the night would publish."""
        given = {"known": self.night.case.known, "ladder": self.night.ladder}
        k = recipe.current().night.k
        return fill.select(self.lists, users=self.night.asked, **given, k=k, shaping=shaping)

    def examples(
        self, config: learned_blend.Config, *, users: NDArray[np.bool_] | None = None
    ) -> learned_blend.Examples:
        """What is learned from it, of some users (by user_idx) or of all."""
        pairs, liked = self.pairs, self.liked
        if users is not None:
            pairs, liked = _of(pairs, users[pairs.user]), liked[users[pairs.user]]
        rng = np.random.default_rng([recipe.current().night.seed, self.night.day.toordinal()])
        return learned_blend.examples(pairs, liked, config=config, rng=rng)

    def order(self, trees: Any, pairs: learned_blend.Pairs | None = None) -> pa.Table:
        """The learned order."""
        night = recipe.current().night
        return learned_blend.order(trees, pairs or self.pairs, k=night.k * night.overfetch)


def _of(pairs: learned_blend.Pairs, kept: NDArray[np.bool_]) -> learned_blend.Pairs:
    return replace(pairs, user=pairs.user[kept], video=pairs.video[kept], values=pairs.values[kept])


def read(day: dt.date, models: Sequence[str]) -> Evening:
    """Fit and ask all models of a night."""
    night, warehouse = nights.read(day), Warehouse.open()
    lists = {
        name: nights.candidates(night, nights.fit(night, nights.released(name), 0).fitted)
        for name in models
    }
    edges, videos = warehouse.read("watch_edges", day=day), warehouse.read("video_nodes", day=day)
    facts = learned_blend.facts(
        edges, videos, known=night.case.known, fit="trial", until=fits.horizon(day, "trial")
    )
    closed = recipe.current().section("candidates.blend", closed_form.Config)
    pairs, right = learned_blend.pairs(lists, facts=facts, closed=closed), night.case.truth
    logger.info("%s: %d pairs proposed", day, len(pairs.user))
    liked = learned_blend.liked(pairs, right.users[right.row], right.video)
    return Evening(night, lists, facts, pairs, liked)


def measure(
    evening: Evening, before: Sequence[Evening], models: Sequence[str]
) -> tuple[dict[str, pa.Table], Any]:
    """The lists of one night by name, and the trees of its blend (None: too few nights before)."""
    config = recipe.current().section("candidates.hybrid", learned_blend.Config)
    lists = {name: nights.filled(evening.night, rows) for name, rows in evening.lists.items()}
    lists[CLOSED] = evening.select(evening.shaping)
    trees = None
    for n in (2, 4, len(before)):
        some = [one.examples(config) for one in before[len(before) - min(n, len(before)) :]]
        trees = learned_blend.fit(some, models, config=config)
        learned = None if trees is None else evening.order(trees)
        name = HYBRID if n == len(before) else f"{HYBRID}, {n} nights"
        lists[name] = evening.select(replace(evening.shaping, learned=learned))
    lists[SAME_DAY] = evening.select(replace(evening.shaping, learned=same_day(evening, models)))
    return lists, trees


def same_day(evening: Evening, models: Sequence[str]) -> pa.Table | None:
    """Each half of the users in the order that the other half teaches; None where it teaches too little."""
    config = recipe.current().section("candidates.hybrid", learned_blend.Config)
    config = config.model_copy(update={"least_nights": 1})
    rng = np.random.default_rng(0)
    half = rng.random(evening.night.graph.n_users) < 0.5
    parts = []
    for mine in (half, ~half):
        trees = learned_blend.fit([evening.examples(config, users=~mine)], models, config=config)
        if trees is None:
            return None
        parts.append(evening.order(trees, _of(evening.pairs, mine[evening.pairs.user])))
    return pa.concat_tables(parts)


def prices(
    evening: Evening, trees: Any
) -> tuple[dict[str, pa.Table], likeness.Likeness, NDArray[np.bool_]]:
    """The hybrid's lists under each knob, what videos have in common, and which are new."""
    day, warehouse = evening.night.day, Warehouse.open()
    features, videos = (
        warehouse.read("video_features", day=day),
        warehouse.read("video_nodes", day=day),
    )
    base = replace(evening.shaping, learned=evening.order(trees))
    lists = {HYBRID: evening.select(base)}
    for name, knob in KNOBS.items():
        config = diversity.Config(**knob, pool=2)
        variety = fill.Variety(
            config, likeness.likeness(features, videos, collapse=config.collapse)
        )
        lists[name] = evening.select(replace(base, variety=variety))
    like = likeness.likeness(features, videos)
    known = evening.night.case.known
    likers, viewers = (np.diff(matrix.tocsc().indptr) for matrix in (known.positives, known.seen))
    profiles = content.fit(evening.night.graph, content.Config(), np.random.default_rng(0)).fitted
    for places in PLACES:
        explored = exploration.Config(places=places)
        new = exploration.newcomers(likers, viewers, known.eligible, config=explored)
        rng = np.random.default_rng([recipe.current().night.seed, day.toordinal(), *b"exploration"])
        order = rng.permutation(np.flatnonzero(new))
        uniforms = rng.random(known.positives.shape[0])
        vectors = profiles.user, profiles.video[order]
        discovery = fill.Discovery(explored, order, uniforms, *vectors)
        lists[f"explore {places}"] = evening.select(replace(base, discovery=discovery))
    return lists, like, new


@dataclass
class Told:
    """What the measured nights said."""

    figures: list[dict[str, quality.Figures]] = field(default_factory=list)
    priced: list[dict[str, quality.Figures]] = field(default_factory=list)
    beyond: list[Row] = field(default_factory=list)
    weights: list[pa.Table] = field(default_factory=list)


def run(asked: argparse.Namespace, days: Sequence[dt.date]) -> list[Row]:
    """Roll over the nights: the first ones are learned from only."""
    evenings: list[Evening] = []
    told = Told()
    for day in days:
        evening = read(day, asked.models)
        if day > asked.through - dt.timedelta(days=asked.nights):
            lists, trees = measure(evening, evenings[-asked.learn :], asked.models)
            _measured(told, evening, lists)
            if trees is not None:
                told.weights.append(weights(evening, trees))
            if asked.prices and trees is not None:
                _priced(told, evening, trees)
        evenings.append(evening)
    rows = _pooled(told.figures, BENCHMARK, [(HYBRID, other) for other in (*asked.models, CLOSED)])
    knobs = [name for name in (told.priced[0][""].values if told.priced else ()) if name != HYBRID]
    rows += _pooled(told.priced, "prices", [(name, HYBRID) for name in knobs], parts=("",))
    return [*rows, *_means(told.beyond), *_weights(told.weights)]


def _measured(told: Told, evening: Evening, lists: Mapping[str, pa.Table]) -> None:
    night = evening.night
    ranked = {name: [night.listed(one)] for name, one in lists.items()}
    told.figures.append(quality.measured(ranked, night.case.truth, ids=night.user_id))
    told.beyond += quality.beyond(BENCHMARK, str(night.day), ranked, night.case.truth)
    recalls = {
        name: round(quality.recall(listed, night.case.truth), 4)
        for name, (listed,) in ranked.items()
    }
    logger.info("%s recall@20 %s", night.day, recalls)


def _priced(told: Told, evening: Evening, trees: Any) -> None:
    night = evening.night
    lists, like, new = prices(evening, trees)
    ranked = {name: [night.listed(one)] for name, one in lists.items()}
    told.priced.append(quality.measured(ranked, night.case.truth, ids=night.user_id))
    told.beyond += quality.beyond("prices", str(night.day), ranked, night.case.truth)
    for name, (listed,) in ranked.items():
        first = np.where(listed[:, :20] < len(new), listed[:, :20], -1)
        alike = float(np.nanmean(diversity.intra_list_similarity(first, like)))
        share = float(new[listed[listed < len(new)]].mean())
        for metric, value in (("likeness@20", alike), ("newcomers@50", share)):
            told.beyond.append(row("prices", name, metric, str(night.day), value, unit="", seeds=1))
    logger.info("%s priced", night.day)


def weights(evening: Evening, trees: Any) -> pa.Table:
    """How much each source decides, by history."""
    users = np.unique(np.concatenate([column(rows, "user_idx") for rows in evening.lists.values()]))
    drawn = pa.array(np.random.default_rng(0).permutation(users)[:2000])
    lists = {
        name: rows.filter(pc.is_in(rows["user_idx"], value_set=drawn))
        for name, rows in evening.lists.items()
    }
    closed = recipe.current().section("candidates.blend", closed_form.Config)
    some = learned_blend.pairs(lists, facts=evening.facts, closed=closed)
    history = evening.night.case.known.history
    return learned_blend.weights(
        learned_blend.effects(trees, some), some.user, history=history, buckets=BUCKETS
    )


def _pooled(
    some: Sequence[Mapping[str, quality.Figures]],
    benchmark: str,
    pairs: Sequence[tuple[str, str]],
    parts: Sequence[str] | None = None,
) -> list[Row]:
    """All nights together, every part with paired differences."""
    rows: list[Row] = []
    for part, figures in quality.pooled(some).items() if some else ():
        if parts is None or part in parts:
            split = f"{nights.ALL}{part}"
            rows += quality.told(benchmark, split, figures, pairs=pairs, spread=False)
    return rows


def _means(rows: Sequence[Row]) -> list[Row]:
    """What has no value per user: the mean over the nights."""
    by: dict[tuple[str, str, str, str], list[float]] = {}
    for one in rows:
        if not str(one["metric"]).endswith(" sd"):
            key = tuple(str(one[name]) for name in ("benchmark", "name", "metric", "unit"))
            by.setdefault(key, []).append(float(one["value"]))  # type: ignore[arg-type,index]
    return [
        row(benchmark, name, metric, nights.ALL, float(np.mean(values)), unit=unit, seeds=1)
        for (benchmark, name, metric, unit), values in by.items()
    ]


def _weights(some: Sequence[pa.Table]) -> list[Row]:
    """Mean weight of each source over the nights, by history."""
    by: dict[tuple[str, str], list[float]] = {}
    for one in (line for table in some for line in table.to_pylist()):
        by.setdefault((one["source"], one["bucket"]), []).append(one["weight"])
    return [
        row("weights", source, "weight", bucket, float(np.mean(values)), unit="", seeds=1)
        for (source, bucket), values in by.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the tables, measure, write."""
    asked = _parser().parse_args(arguments)
    asked.out = tuning.begin(asked.out, (PLOT,))
    asked.budget, last = 0, asked.nights
    asked.nights = asked.nights + asked.learn
    days, _ = nights.prepare(asked)
    asked.nights = last
    rows = run(asked, days)
    _draw(rows, asked.out)
    report.write(rows, asked.out, preface=_preface(asked, days))
    logger.info("written to %s", asked.out)


def _draw(rows: Sequence[Row], out: Path) -> None:
    """What each knob costs, against what it buys."""
    told = {
        (str(one["name"]), str(one["metric"])): one
        for one in rows
        if str(one["benchmark"]).startswith("prices")
    }
    points = {}
    for name in dict.fromkeys(name for name, metric in told if metric == AGAINST[0]):
        price = told.get((f"{name} - {HYBRID}", "ndcg@20"))
        if price is not None or name == HYBRID:
            ends = [float(price[end]) if price else 0.0 for end in ("value", "low", "high")]  # type: ignore[arg-type]
            points[name] = ({x: float(told[name, x]["value"]) for x in AGAINST}, tuple(ends))  # type: ignore[arg-type]
    report.panels(out / PLOT, "The price of variety", points, y="NDCG@20 minus the learned blend's")


def _preface(asked: argparse.Namespace, days: Sequence[dt.date]) -> str:
    return "\n\n".join(
        [
            "# The learned blend on real nights (KuaiRand-Pure; Gao et al., CIKM 2022; CC BY-SA 4.0)",
            f"Sources: {', '.join(asked.models)}. Measured: the last {asked.nights} of {days[0]} to"
            f" {days[-1]}; the others are learned from only. One fit a night, the night's own seed."
            " Intervals: 95 %, bootstrap over users, who are drawn with all their nights."
            f" {tuning.packages()}.",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks.hybrid",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="folder of KuaiRand-Pure")
    nights.add_nights(parser)
    parser.add_argument("--learn", type=int, default=7, help="nights before to learn from, at most")
    parser.add_argument("--models", nargs="+", default=[*DEFAULT], choices=MODELS)
    parser.add_argument("--prices", action="store_true", help="also the knobs of variety")
    parser.add_argument("--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    main()
