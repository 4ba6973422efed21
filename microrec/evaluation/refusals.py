"""Gates of refused lines: of each raw table and rule, the share of a day's lines, alone and beside the days before.

Optional values that were passed over count as refused ones do, though their lines stay.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from microrec.evaluation.arrivals import NAMED, Config, Day, History, Value, rule_of, trailing
from microrec.evaluation.gate import Result

REFUSED, REFUSED_RISE, REFUSED_WARNED = "refused", "refused_rise", "refused_warned"
IN_DOUBT = "in_doubt"
NULLED = "nulled"
HARMLESS = ("duplicate", "other_encoder")
"""Rules that only warn: a line that comes again loses nothing, and encoders have a gate of their own."""


@dataclass(frozen=True)
class Refusal:
    """Lines of a raw table and an arrival day that one rule refused, or in which it passed over a value."""

    table: str
    day: dt.date
    rule: str
    share: float
    n: int
    n_in: int
    usual: float | None
    """Greatest share of the days before; None where there is none to compare with."""
    is_nulled: bool = False
    """The lines stay, without the value."""

    @property
    def words(self) -> str:
        """Where, how many, and how many usually."""
        usual = "" if self.usual is None else f", at most {self.usual:.2%} on the days before"
        rule = f"{self.rule}, values passed over" if self.is_nulled else self.rule
        return f"{self.table}[{self.day}] {rule}: {self.share:.2%} of {self.n_in} lines ({self.n}){usual}"


def refusals(figures: History, days: Sequence[dt.date], *, config: Config) -> list[Refusal]:
    """Return the share of each raw table's lines of a day that each rule refused or took a value from, greatest first.

    Args:
        figures: of the days and of those before them.
        days: that are judged, ascending.
        config: how many days before a day it is compared with.

    Returns:
        One element per table, day and rule, of tables with `least_rows` lines that day.
    """
    accepted = {day: figures[day] for day in figures if day not in days}
    every = []
    for day in days:
        of_day = list(_refused(day, figures.get(day, {}), trailing(accepted, day, config), config))
        every += of_day
        if not any(_holds(refusal, config) or _rises(refusal, config) for refusal in of_day):
            accepted[day] = figures.get(day, {})
    return sorted(every, key=lambda refusal: (-refusal.share, refusal.words))


def notable(refused: Sequence[Refusal], *, config: Config) -> list[Refusal]:
    """Return those that hold or warn, as far as messages name them: they are worth an example.

    Args:
        refused: `refusals`.
        config: thresholds.
    """
    chosen: list[Refusal] = []
    for fails in (_holds, _rises, _warns):
        chosen += [refusal for refusal in refused if fails(refusal, config)][:NAMED]
    return list(dict.fromkeys(chosen))


def judge(
    refused: Sequence[Refusal], examples: Mapping[Refusal, str], *, config: Config
) -> list[Result]:
    """Judge the shares of refused lines.

    Args:
        refused: `refusals`, greatest share first.
        examples: of the `notable`: files that have such lines, and what may be wrong.
        config: thresholds.

    Returns:
        `refused` and `refused_rise`, which hold, and `refused_warned`, which warns.
    """
    holds = f"at most {config.refused_holds:.0%} of a day's lines"
    rise = f"at most {config.refused_rise:g} times the days before, from {config.refused_rise_least:.0%} on"
    gates = (
        (REFUSED, "hold", _holds, config.refused_holds, holds),
        (REFUSED_RISE, "hold", _rises, config.refused_rise, rise),
        (
            REFUSED_WARNED,
            "warn",
            _warns,
            config.refused_warns,
            f"warns above {config.refused_warns:.0%}",
        ),
    )
    results = []
    for name, severity, fails, threshold, words in gates:
        failed = [refusal for refusal in refused if fails(refusal, config)]
        details = [
            refusal.words + examples.get(refusal, "")
            for refusal in (failed or refused)[: NAMED if failed else 1]
        ]
        rest = [f"and {len(failed) - NAMED} more"] if len(failed) > NAMED else []
        detail = f"{words}: {'; '.join([*details, *rest]) or 'no line was refused'}"
        status = "fail" if failed else "pass"
        observed = refused[0].share if refused else 0.0
        results.append(Result(name, severity, status, observed, threshold, detail))
    return results


def doubts(figures: History, days: Sequence[dt.date]) -> list[Refusal]:
    """Return the refused lines that may have been about to withdraw something, and do, most first.

    Args:
        figures: of the days.
        days: that are judged.

    Returns:
        One element per table, day and rule, of tables of any number of lines.
    """
    found = [
        Refusal(
            table,
            day,
            part.removeprefix("rule="),
            value.value / value.n,
            int(value.value),
            value.n,
            None,
        )
        for day in days
        for (table, metric, part), value in figures.get(day, {}).items()
        if metric == IN_DOUBT and part != "all"
    ]
    return sorted(found, key=lambda refusal: (-refusal.n, refusal.words))


def judge_doubts(doubtful: Sequence[Refusal], examples: Mapping[Refusal, str]) -> Result:
    """Warn of withdrawals in doubt: videos that are not eligible, users who are opted out, until somebody says more.

    Args:
        doubtful: `doubts`.
        examples: of the first of them, as far as messages name them.
    """
    n = sum(refusal.n for refusal in doubtful)
    shown = [refusal.words + examples.get(refusal, "") for refusal in doubtful[:NAMED]]
    rest = [f"and {len(doubtful) - NAMED} more"] if len(doubtful) > NAMED else []
    detail = f"withdrawn in doubt: {'; '.join([*shown, *rest]) or 'nothing'}"
    return Result(IN_DOUBT, "warn", "fail" if n else "pass", float(n), 0.0, detail)


def _refused(day: dt.date, of_day: Day, before: History, config: Config) -> Iterator[Refusal]:
    for (table, metric, part), count in of_day.items():
        is_nulled = metric == NULLED and part != "all"
        rule = part.removeprefix("rule=") if is_nulled else rule_of(metric, part)
        lines = of_day.get((table, "rows_in", "all"))
        if rule is None or lines is None or lines.value < config.least_rows:
            continue
        shares = [
            earlier.get((table, metric, part), Value(0.0, 0)).value
            / earlier[table, "rows_in", "all"].value
            for earlier in before.values()
            if earlier.get((table, "rows_in", "all"), Value(0.0, 0)).value >= config.least_rows
        ]
        n_in = int(lines.value)
        share = count.value / n_in
        usual = max(shares, default=None)
        yield Refusal(table, day, rule, share, int(count.value), n_in, usual, is_nulled)


def _holds(refusal: Refusal, config: Config) -> bool:
    usual = 0.0 if refusal.usual is None else refusal.usual
    bound = usual + (1 - usual) * config.refused_holds
    return refusal.share > bound and refusal.rule not in HARMLESS


def _rises(refusal: Refusal, config: Config) -> bool:
    if refusal.usual is None or refusal.rule in HARMLESS:
        return False
    bound = max(config.refused_rise * refusal.usual, config.refused_rise_least)
    return refusal.share > bound


def _warns(refusal: Refusal, config: Config) -> bool:
    return refusal.share > config.refused_warns
