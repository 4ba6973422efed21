"""Methods side by side: interleaved runs, and the rows of a report they become."""

import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.measure import Method, Outcome, once
from tests.benchmarks.report import Row, row
from tests.benchmarks.truth import Truth

Outcomes = Mapping[str, Sequence[Outcome]]
"""All runs of each method, by name, in the order of the methods."""

SLOW = 0.25
"""A run that takes more than this share of the limit is not repeated."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How to measure."""

    runs: int = 3
    threads: int = 1
    limit: float = 600.0
    only: tuple[str, ...] = ()
    """Parts of names; a method runs if one of them is in its name. None: all run."""

    def wants(self, name: str) -> bool:
        """Whether a method is to run."""
        return not self.only or any(part.lower() in name.lower() for part in self.only)


def rounds(
    title: str,
    methods: Sequence[Method],
    given: Path,
    *,
    rows: NDArray[np.int64],
    k: int,
    plan: Plan,
    infeasible: Mapping[str, str] | None = None,
) -> Outcomes:
    """Run every method once, then every method again: whatever disturbs the machine disturbs all.

    Args:
        title: for the log.
        methods: what to run, in order.
        given: the input, see `measure.once`.
        rows: indices whose edges are kept, to be checked.
        k: neighbours per row.
        plan: how often, how long, which.
        infeasible: reasons, by name, not to start a method at all.
    """
    chosen = [method for method in methods if plan.wants(method.name)]
    refused = infeasible or {}
    outcomes: dict[str, list[Outcome]] = {
        one.name: [Outcome(why=refused[one.name])] if one.name in refused else [] for one in chosen
    }
    took: dict[str, float] = {}
    for run in range(plan.runs):
        for place, method in enumerate(chosen):
            if _is_done(outcomes[method.name], plan):
                continue
            began = time.monotonic()
            outcome = once(method, given, rows=rows, k=k, threads=plan.threads, limit=plan.limit)
            outcomes[method.name].append(outcome)
            took[method.name] = time.monotonic() - began
            seconds = sum(
                took.get(other.name, 0.0) * (plan.runs - run - (at <= place))
                for at, other in enumerate(chosen)
                if not _is_done(outcomes[other.name], plan)
            )
            said = outcome.why or f"{outcome.seconds:.3g} s, {outcome.peak_mb:.0f} MB"
            left = f"{seconds:.0f} s left" if run else f"{len(chosen) - place - 1} to go"
            logger.info(
                "%s, run %d of %d: %s: %s (%s)",
                title, run + 1, plan.runs, method.name, said, left,
            )  # fmt: skip
    return outcomes


def _is_done(outcomes: Sequence[Outcome], plan: Plan) -> bool:
    """Whether a further run would tell nothing (there is no result) or take too long."""
    last = outcomes[-1] if outcomes else Outcome()
    return last.why is not None or last.seconds > SLOW * plan.limit


def results(
    benchmark: str,
    split: str,
    methods: Sequence[Method],
    outcomes: Outcomes,
    *,
    truth: Truth | None,
    against: str | None = None,
) -> list[Row]:
    """Rows of a report: what each method computes, whether it is right, what it takes.

    Args:
        benchmark: name of the benchmark.
        split: world it ran on.
        methods: those that ran, and others.
        outcomes: their runs.
        truth: brute force on the kept rows; without it nothing is checked.
        against: the method all times are divided by, run by run.
    """
    rows: list[Row] = []
    base = [o for o in outcomes.get(against or "", ()) if o.why is None]
    for method in methods:
        if method.name not in outcomes:
            continue
        good = [outcome for outcome in outcomes[method.name] if outcome.why is None]
        texts = {"computes": method.computes}
        if not good:
            texts["seconds"] = str(outcomes[method.name][-1].why)
        rows += [
            row(benchmark, method.name, metric, split, None, unit=text)
            for metric, text in texts.items()
            if text
        ]
        if good:
            figures = _figures(good, base) + _checks(good, truth)
            rows += [
                row(benchmark, method.name, metric, split, value, unit=unit, seeds=len(good))
                for metric, value, unit in figures
            ]
    return rows


def _figures(good: Sequence[Outcome], base: Sequence[Outcome]) -> list[tuple[str, float, str]]:
    """Medians over the runs; ratios run by run, then their median."""
    walls, cpus = [o.seconds for o in good], [o.cpu_seconds for o in good]
    figures = [
        ("seconds", statistics.median(walls), "s"),
        ("fastest", min(walls), "s"),
        ("slowest", max(walls), "s"),
        ("cpu", statistics.median(cpus), "s"),
    ]
    again = [o.again_seconds for o in good if o.again_seconds is not None]
    if again:
        figures.append(("again", statistics.median(again), "s"))
    pairs = list(zip(good, base, strict=False))
    if pairs:
        times = statistics.median(a.seconds / b.seconds for a, b in pairs)
        cpu = statistics.median(a.cpu_seconds / b.cpu_seconds for a, b in pairs)
        figures += [("times_microrec", times, "x"), ("times_cpu", cpu, "x")]
        if again and pairs[0][1].again_seconds is not None:
            later = statistics.median(a.again_seconds / b.again_seconds for a, b in pairs)
            figures.append(("times_again", later, "x"))
    figures.append(("peak", statistics.median(o.peak_mb for o in good), "MB"))
    figures.append(("ready", statistics.median(o.ready_seconds for o in good), "s"))
    return figures


def _checks(good: Sequence[Outcome], truth: Truth | None) -> list[tuple[str, float, str]]:
    """The worst run counts."""
    if truth is None or not good[0].edges:
        return []
    return [
        ("equal", min(truth.equal(o.edges) for o in good), "share"),
        (f"recall@{truth.k}", min(truth.recall(o.edges) for o in good), "share"),
    ]
