"""The released blend beside its best source on planted services: `python -m tests.benchmarks.services --out DIR`.

Each kind of service is a planted world of its own; its last day is held out as a night holds it out. The trial runs as
the scheduler runs it, by the default recipe: weights are fitted to the held-out feedback of other users, and a blend
that is worse than its best source gives way to it. Measured is the paired difference of the released lists and the
most accurate source's, over the users who liked something on that day.

* `even`: the world that `make night` has.
* `popular`: three of five viewings follow popularity alone, which is steeper.
* `thin`: forty tastes, no popular videos to speak of.
* `small`: a fifth of the users and half of the videos.
* `order`: nothing but the order of viewings is known, and one leads to the next (`tests.worlds.chains`).

`unexplored` is the blend without new videos: what these cost is a price that the recipe sets, not the order's fault.
Beside the recipe's sources stands `item kNN, 0.7 a step`: `video_neighbours` whose histories fade by .7 a step.
"""

import argparse
import datetime as dt
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa

from microrec.candidates.retrieval import exact
from microrec.config.settings import settings
from microrec.core.array_types import Indices
from microrec.evaluation import contest, gate, ranking, truth
from microrec.evaluation.report import BEST_SOURCE, BLEND, UNEXPLORED, Figure
from microrec.landing import write
from microrec.models.neighbours import video_neighbours
from microrec.pipeline import contestants, fit_tables, networks
from microrec.pipeline.fit_tables import FitTables
from microrec.pipeline.lists import ListMaker
from microrec.pipeline.night import Night
from microrec.pipeline.proposals import Proposals
from microrec.synth.world import Config, Part, generate
from tests.benchmarks import report
from tests.benchmarks.report import Row, row
from tests.worlds import chains, nights

BENCHMARK = "services"
KINDS: dict[str, Config | chains.Config] = {
    "even": Config(formats=("parquet",), users=1500, videos=1200),
    "popular": Config(
        formats=("parquet",), users=1500, videos=1200, explore=0.6, popularity_exponent=1.8
    ),
    "thin": Config(
        formats=("parquet",),
        users=1500,
        videos=1200,
        clusters=40,
        popularity_exponent=0.2,
        explore=0.05,
    ),
    "small": Config(formats=("parquet",), users=300, videos=600),
    "order": chains.Config(),
}
STEP = 0.7
KNN = f"item kNN, {STEP} a step"
METRICS = ("recall@20", "ndcg@20", "coverage@20")

logger = logging.getLogger(__name__)


def measure(day: dt.date, kind: str) -> Iterator[Row]:
    """Yield what the released lists and the sources of a trial are worth.

    Args:
        day: of the night; its candidates are there.
        kind: name of the service.
    """
    night = Night.open(day, fit="trial")
    asks = night.recipe.section("evaluation.gate", gate.Config)
    config = night.recipe.section("evaluation.ranking", ranking.Config)
    generator = np.random.default_rng(night.seed)
    tables = fit_tables.read(night)
    right = truth.truth(tables.edges, tables.videos)
    users = np.intersect1d(fit_tables.served_users(night, tables), right.users)
    maker = ListMaker(night, tables, Proposals.open(night))
    candidates = maker.proposals.lists()
    values = ranking.means(candidates, right, metric=asks.metric, config=config)
    best = gate.best_source(values)
    gain = partial(ranking.gain, config=config, generator=generator)
    judge = partial(gain, metric=asks.metric)
    ours, explored = contestants.made(
        maker, candidates, users=users, best=best, truth=right, gain=judge
    )
    held = partial(
        contest.held,
        before=None,
        truth=right,
        gain=judge,
        yardstick=contest.Yardstick(max(values.values()), night.config.window_days),
        config=asks,
    )
    outcome = held(ours)
    blend = outcome.lists[BLEND]
    plain = replace(maker, explored_share=0.0)
    unexplored = held(plain.contestants(candidates, users=users, best=best)).lists[BLEND]
    candidates |= {KNN: item_knn(night, tables, users)}
    split = f"{kind}, {len(right.users)} users evaluated"
    lists = {**candidates, BLEND: blend}
    for figure in ranking.measure(lists, right, config=config, generator=generator):
        if figure.slice == "all" and figure.metric in METRICS:
            yield _row(figure, split, "score")
    pairs = (
        {BLEND: blend, KNN: candidates[KNN]},
        {UNEXPLORED: unexplored, best: candidates[best]},
        {BLEND: blend, best: candidates[best]},
    )
    for pair, metric in product(pairs, ("recall@20", "ndcg@20")):
        yield _row(gain(pair, right, metric)[0], split, "difference")
    yield row(
        BENCHMARK, BLEND, "users with new videos", split, explored[-1].value, unit="share of users"
    )
    stands = BEST_SOURCE if outcome.judged[-1].status == "fail" else BLEND
    yield row(BENCHMARK, stands, "released", split, None, unit=f"{best} is the best source")


def _row(figure: Figure, split: str, unit: str) -> Row:
    return row(
        BENCHMARK, figure.name, figure.metric, split, figure.value, unit=unit,
        low=figure.low, high=figure.high,
    )  # fmt: skip


def item_knn(night: Night, tables: FitTables, users: Indices) -> pa.Table:
    """Return what an item kNN with recency proposes, whatever the recipe's sources have chosen.

    Args:
        night: of the trial.
        tables: of the night.
        users: user_idx of those who are asked. [n_users]

    Returns:
        Rows of `candidates`.
    """
    graph = networks.read_inputs(night, "video_neighbours").graph
    config = night.recipe.section("models.video_neighbours", video_neighbours.Config)
    config = config.model_copy(update={"history_decay": STEP})
    fitted = video_neighbours.fit(graph, config, np.random.default_rng(0)).fitted
    asks = {"users": users, "known": tables.knowledge, "k": night.config.k * night.config.overfetch}
    return exact.best(fitted, **asks, config=exact.Config())


def run(kind: str, config: Config | chains.Config, place: Path, seed: int) -> list[Row]:
    """Make the trial of a service and measure it.

    Args:
        kind: name of the service.
        config: of its world.
        place: an empty folder.
        seed: of the world.

    Returns:
        Rows of results.
    """
    variables = {"MICROREC_WAREHOUSE": place / "warehouse", "MICROREC_LANDING": place / "landing"}
    os.environ |= {name: str(folder) for name, folder in variables.items()}
    settings.cache_clear()
    rng = np.random.default_rng(seed)
    if isinstance(config, chains.Config):
        parts: Sequence[Part] = chains.parts(config, rng)
    else:
        parts = generate(config, rng).parts
    write.write_world(str(place / "landing"), parts)
    day = config.first_day + dt.timedelta(days=config.days - 1)
    nights.run_trial(day)
    rows = list(measure(day, kind))
    for each in rows:
        logger.warning("%s", each)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line names and write the table."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.services",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    chosen = parser.parse_args(arguments)
    rows: list[Row] = []
    for kind in chosen.kinds:
        with tempfile.TemporaryDirectory(prefix="microrec-services-") as folder:
            rows += run(kind, KINDS[kind], Path(folder), chosen.seed)
            preface = (__doc__ or "").split("\n", 2)[2].strip()
            report.write(rows, chosen.out, preface=preface)


if __name__ == "__main__":
    main()
