"""The released blend beside its best source on planted services: `python -m tests.benchmarks.services --out DIR`.

Each kind of service is a planted world of its own; its last day is held out as a night holds it out. The trial runs as
the scheduler runs it, by the default recipe: weights are fitted to the held-out feedback of other users, and a blend
that is worse than its best source gives way to it. Measured is the paired difference of the released lists and the
most accurate source's, over the users who liked something on that day.

* `even`: the world that `make night` has.
* `popular`: three of five viewings follow popularity alone, which is steeper.
* `thin`: forty tastes, no popular videos to speak of.
* `small`: a fifth of the users and half of the videos.
"""

import argparse
import datetime as dt
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from microrec.config.settings import settings
from microrec.evaluation import contest, gate, ranking, truth
from microrec.evaluation.report import BEST_SOURCE, BLEND
from microrec.landing import write
from microrec.pipeline import contestants, fit_tables
from microrec.pipeline.lists import ListMaker
from microrec.pipeline.night import Night
from microrec.pipeline.proposals import Proposals
from microrec.synth.world import Config, generate
from tests.benchmarks import report
from tests.benchmarks.report import Row, row
from tests.worlds import nights

BENCHMARK = "services"
KINDS = {
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
}
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
    outcome = contest.held(
        ours,
        None,
        right,
        gain=judge,
        yardstick=contest.Yardstick(max(values.values()), night.config.window_days),
        config=asks,
    )
    blend = outcome.lists[BLEND]
    split = f"{kind}, {len(right.users)} users evaluated"
    for figure in ranking.measure(
        {**candidates, BLEND: blend}, right, config=config, generator=generator
    ):
        if figure.slice == "all" and figure.metric in METRICS:
            yield row(
                BENCHMARK, figure.name, figure.metric, split, figure.value, unit="score",
                low=figure.low, high=figure.high,
            )  # fmt: skip
    for metric in ("recall@20", "ndcg@20"):
        (figure, *_) = gain({BLEND: blend, best: candidates[best]}, right, metric)
        yield row(
            BENCHMARK, figure.name, metric, split, figure.value, unit="difference",
            low=figure.low, high=figure.high,
        )  # fmt: skip
    share = explored[-1].value
    yield row(BENCHMARK, BLEND, "users with new videos", split, share, unit="share of users")
    stands = BEST_SOURCE if outcome.judged[-1].status == "fail" else BLEND
    yield row(BENCHMARK, stands, "released", split, None, unit=f"{best} is the best source")


def run(kind: str, config: Config, place: Path, seed: int) -> list[Row]:
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
    world = generate(config, np.random.default_rng(seed))
    write.write_world(str(place / "landing"), world.parts)
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
