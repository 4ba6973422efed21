"""How often the gates hold a night that is good, and one that is not: `python -m tests.benchmarks.gates --out DIR`.

    python -m tests.benchmarks.gates --warehouse DIR --day 2022-05-04 --out DIR

The trial of one real or planted night gives what its blend, its best source and popularity were worth to each
evaluated user. Services of other sizes are drawn from it: each of their users is one of that night's, and on each of
30 nights as many of them come back as came on that night, each with the outcome of a user drawn from those with as
long a history (`BUCKETS`). Hits of all lists become rarer or more frequent together from night to night, by
`--ups-and-downs`. From night 16 on the blend is what the scenario says:

* `as measured`: what it was.
* `10 % worse`, `30 % worse`: each user's hits are all lost with that chance.
* `popularity`: no better than the floor, from the first night on.

Judged by the gates themselves: `better_than_popularity` (of tonight alone, as with `pooled_nights = 1`, and pooled),
`gain_kept`, and `champion` against the lists of before the fall, on all that came back. A night is released if all
three pass. Services are independent; `--services` of each size are drawn.
"""

import argparse
import datetime as dt
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from microrec.config.settings import settings
from microrec.core.array_types import Float64s, Int64s
from microrec.core.pairs import starts
from microrec.evaluation import gate, pooled, ranking, truth
from microrec.evaluation.bootstrap import interval
from microrec.evaluation.pooled import Earlier
from microrec.evaluation.report import (
    BEST_SOURCE,
    BLEND,
    CHAMPION,
    CLOSED_FORM,
    DIFFERENCE,
    FLOOR,
    Figure,
)
from microrec.pipeline import contestants, fit_tables
from microrec.pipeline.lists import ListMaker
from microrec.pipeline.night import Night
from microrec.pipeline.proposals import Proposals
from tests.benchmarks import report
from tests.benchmarks.report import Row, row

BENCHMARK = "gates"
SIZES = (300, 1000, 4000)
NIGHTS, FALL = 30, 15
"""Nights of a service, and the last one before the blend falls."""
SCENARIOS = {"as measured": 0.0, "10 % worse": 0.1, "30 % worse": 0.3, "popularity": None}
"""Chance that a user's hits are lost; None: the blend is popularity."""
RESAMPLES = 300

logger = logging.getLogger(__name__)


class Outcomes(NamedTuple):
    """What lists were worth to the evaluated users of a night. [n_evaluated] each."""

    values: dict[str, Float64s]
    """By name: the blend, its best source, popularity."""
    bucket: Int64s
    """Which length of history."""
    share: float
    """Evaluated users among all of the night."""
    window_days: int


class Rates(NamedTuple):
    """What the gates said of the nights of one service. [NIGHTS] each, True where held."""

    alone: list[bool]
    """`better_than_popularity`, tonight alone."""
    together: list[bool]
    kept: list[bool]
    champion: list[bool]

    @property
    def held(self) -> list[bool]:
        """Any of those that count."""
        return [any(each) for each in zip(self.together, self.kept, self.champion, strict=True)]


def outcomes(night: Night) -> Outcomes:
    """Measure what the lists of a trial were worth to each of its evaluated users.

    Args:
        night: a trial whose candidates are there.

    Returns:
        Values of the gates' metric.
    """
    asks = night.recipe.section("evaluation.gate", gate.Config)
    config = night.recipe.section("evaluation.ranking", ranking.Config)
    tables = fit_tables.read(night)
    right = truth.truth(tables.edges, tables.videos)
    users = np.intersect1d(fit_tables.served_users(night, tables), right.users)
    maker = ListMaker(night, tables, Proposals.open(night))
    candidates = maker.proposals.lists()
    best = gate.best_source(ranking.means(candidates, right, metric=asks.metric, config=config))
    gain = partial(
        ranking.gain, metric=asks.metric, config=config, generator=np.random.default_rng(1)
    )
    ours, _ = contestants.made(maker, candidates, users=users, best=best, truth=right, gain=gain)
    lists = {
        BLEND: ours[CLOSED_FORM],
        BEST_SOURCE: candidates[best],
        FLOOR: candidates[FLOOR],
    }
    nothing = lists[FLOOR].slice(0, 0)
    values = {
        name: ranking.differences(
            {"list": rows, "none": nothing}, right, asks.metric, config=config
        )
        for name, rows in lists.items()
    }
    bucket = sum(
        at * right.bucket(least, most).astype(np.int64)
        for at, (_, least, most) in enumerate(truth.BUCKETS)
    )
    share = len(right.users) / tables.users.num_rows
    return Outcomes(values, np.asarray(bucket), share, night.config.window_days)


def simulate(
    given: Outcomes,
    n_users: int,
    worse: float | None,
    *,
    ups_and_downs: float,
    config: gate.Config,
    generator: np.random.Generator,
) -> Rates:
    """Draw the nights of one service and let the gates judge them.

    Args:
        given: of a night.
        n_users: of the service.
        worse: see `SCENARIOS`.
        ups_and_downs: deviation of the share of hits, of one night from the next, as a share of it.
        config: of the gates.
        generator: source of the draws.

    Returns:
        What was held.
    """
    members = generator.integers(0, len(given.bucket), n_users)
    names = np.array([f"u{each}" for each in range(n_users)])
    by_bucket = np.argsort(given.bucket, kind="stable")
    size = np.bincount(given.bucket)
    start = starts(size)
    rates = Rates([], [], [], [])
    earlier: list[Earlier] = []
    for at in range(NIGHTS):
        came = np.flatnonzero(generator.random(n_users) < given.share)
        bucket = given.bucket[members[came]]
        drawn = (generator.random(len(came)) * size[bucket]).astype(np.int64)
        rows = by_bucket[start[bucket] + drawn]
        lucky = generator.random(len(rows)) < min(
            1.0, 0.7 * np.exp(generator.normal(0, ups_and_downs))
        )
        values = {name: value[rows] * lucky for name, value in given.values.items()}
        before = values[BLEND]
        if worse is None:
            values[BLEND] = values[FLOOR]
        elif at >= FALL:
            values[BLEND] = before * (generator.random(len(rows)) >= worse)
        judged = _judge(values, before, names[came], earlier, given, config, generator)
        for verdicts, failed in zip(rates, judged[:4], strict=True):
            verdicts.append(failed)
        earlier = [Earlier(judged[4], not rates.held[-1]), *earlier][: config.pooled_nights - 1]
    return rates


def _judge(
    values: dict[str, Float64s],
    before: Float64s,
    names: "np.ndarray[tuple[int], np.dtype[np.str_]]",
    earlier: Sequence[Earlier],
    given: Outcomes,
    config: gate.Config,
    generator: np.random.Generator,
) -> tuple[bool, bool, bool, bool, pooled.Evidence]:
    """Which gates hold a night, and what the night leaves as evidence."""
    gains = values[BLEND] - values[FLOOR]
    tonight = _figure(DIFFERENCE, gains, config.metric, generator)
    shown = pooled.evidence(
        pooled.figures(gains, pa.chunked_array([pa.array(names)]), metric=config.metric)
    )
    assert shown is not None
    nights = [shown, *(each.evidence for each in earlier)]
    alone, together = (
        pooled.better_than_popularity(
            tonight, some, config=config, resamples=RESAMPLES, generator=generator
        ).status
        == "fail"
        for some in (nights[:1], nights)
    )
    source_value = float(max(values[name].mean() for name in (BEST_SOURCE, FLOOR)))
    kept = pooled.gain_kept(tonight, earlier, source_value, config=config)
    fallen = _figure(f"{BLEND}-minus-{CHAMPION}", values[BLEND] - before, config.metric, generator)
    (champion,) = gate.against_champion([fallen], source_value, given.window_days, config=config)
    failed = any(result.status == "fail" for result in kept)
    return alone, together, failed, champion.status == "fail", shown


def _figure(name: str, gains: Float64s, metric: str, generator: np.random.Generator) -> Figure:
    (low,), (high,) = interval(gains[:, None], resamples=RESAMPLES, generator=generator)
    return Figure(name, metric, "all", float(gains.mean()), len(gains), float(low), float(high))


def results(
    given: Outcomes, *, services: int, ups_and_downs: float, config: gate.Config, seed: int
) -> Iterator[Row]:
    """Yield shares of held nights, by size and scenario.

    Args:
        given: of a night.
        services: of each size and scenario.
        ups_and_downs: see `simulate`.
        config: of the gates.
        seed: of the draws.
    """
    for n_users in SIZES:
        for scenario, worse in SCENARIOS.items():
            generator = np.random.default_rng([seed, n_users, *scenario.encode()])
            drawn = [
                simulate(
                    given,
                    n_users,
                    worse,
                    ups_and_downs=ups_and_downs,
                    config=config,
                    generator=generator,
                )
                for _ in range(services)
            ]
            split = f"{n_users:,} users"
            for metric, value in _shares(drawn).items():
                yield row(
                    BENCHMARK, scenario, metric, split, value, unit="share held", seeds=services
                )
            logger.info("%s, %s: %s", split, scenario, _shares(drawn))


def _shares(drawn: Sequence[Rates]) -> dict[str, float]:
    """Shares of nights that are held, before the fall and after it."""
    held = np.array([service.held for service in drawn])  # [n_services, NIGHTS]
    gates = {
        name: np.array([getattr(service, name) for service in drawn]) for name in Rates._fields
    }
    return {
        "first night": float(held[:, 0].mean()),
        "nights 1 to 15, tonight alone": float(gates["alone"][:, :FALL].mean()),
        "nights 1 to 15": float(held[:, :FALL].mean()),
        "nights 6 to 15": float(held[:, 5:FALL].mean()),
        "night 16": float(held[:, FALL].mean()),
        "night 16, tonight alone": float(gates["alone"][:, FALL].mean()),
        "any of nights 16 to 20": float(held[:, FALL : FALL + 5].any(axis=1).mean()),
        "nights 16 to 30": float(held[:, FALL:].mean()),
        "nights 16 to 30, gain_kept": float(gates["kept"][:, FALL:].mean()),
        "nights 16 to 30, champion": float(gates["champion"][:, FALL:].mean()),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line names and write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.gates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--warehouse", type=Path, required=True, help="has the trial of the night")
    add("--recipe", type=Path, help="of the night; the default one if left out")
    add("--day", type=dt.date.fromisoformat, required=True)
    add("--services", type=int, default=200, help="drawn of each size and scenario")
    add("--ups-and-downs", type=float, default=0.15)
    add("--seed", type=int, default=1)
    add("--out", type=Path, required=True, help="folder of the results")
    chosen = parser.parse_args(arguments)
    os.environ["MICROREC_WAREHOUSE"] = str(chosen.warehouse)
    if chosen.recipe:
        os.environ["MICROREC_RECIPE"] = str(chosen.recipe)
    settings.cache_clear()
    night = Night.open(chosen.day, fit="trial")
    given = outcomes(night)
    means = {name: round(float(value.mean()), 4) for name, value in given.values.items()}
    logger.info("%d evaluated users, %.2f of all: %s", len(given.bucket), given.share, means)
    rows = results(
        given,
        services=chosen.services,
        ups_and_downs=chosen.ups_and_downs,
        config=night.recipe.section("evaluation.gate", gate.Config),
        seed=chosen.seed,
    )
    preface = (
        f"{len(given.bucket)} evaluated users, {given.share:.2f} of all; means {means}; ups and downs"
        f" {chosen.ups_and_downs}\n\n{(__doc__ or '').split(chr(10), 2)[2].strip()}"
    )
    report.write(list(rows), chosen.out, preface=preface)


if __name__ == "__main__":
    main()
