"""The gate of what arrived: figures of the arrival days, those of the days before, and examples of refused lines."""

import datetime as dt
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from microrec.errors import LandingError
from microrec.evaluation import arrivals, distributions, encoders, gate, refusals
from microrec.events import catalogue, counts, hints, profile, signals
from microrec.events.config import Config as EventsConfig
from microrec.events.consent import WITHHELD
from microrec.pipeline import arrival_figures, arrival_zones, promotion, unmet_ids
from microrec.pipeline.arrival_figures import FIT, STAGE
from microrec.pipeline.night import Night
from microrec.tables.spark import Warehouse

logger = logging.getLogger(__name__)

EXAMPLES = 3
VIDEOS = "raw_videos"


@dataclass(frozen=True)
class Lines:
    """Lines of a raw table."""

    delivered: DataFrame
    """One row per line, every value as text."""
    judged: DataFrame
    """The same lines with their rule."""

    def refused(self, day: dt.date, rule: str) -> list[dict[str, Any]]:
        """Return the first lines, by file and text, that a rule refused on an arrival day or took a value from."""
        breaks = F.coalesce(F.col("rule") == rule, F.lit(False))
        if counts.NULLED in self.judged.columns:
            breaks = breaks | F.array_contains(counts.NULLED, rule)
        of_rule = (counts.landed(self.judged) == F.lit(day)) & breaks
        chosen = self.judged.where(of_rule).select("file", "line").orderBy("file", "line")
        keys = [(row["file"], row["line"]) for row in chosen.limit(EXAMPLES).collect()]
        files, texts = zip(*keys, strict=True)
        is_wanted = F.col("file").isin(*files) & F.col("line").isin(*texts)
        rows = self.delivered.where((F.col("day") == F.lit(day)) & is_wanted).collect()
        by_key = {(row["file"], row["line"]): row.asDict() for row in rows}
        return [by_key[key] for key in keys]


@dataclass(frozen=True)
class Delivery:
    """What a night judges."""

    lines: Mapping[str, Lines]
    """By raw table."""
    tallies: Collection[Any]
    """Collected rows of `counts.tally`."""
    days: Sequence[dt.date]
    """Arrival days that are judged, ascending."""

    def example(self, table: str, day: dt.date, rule: str) -> str:
        """Return what may be wrong with lines that a rule refused, and files that have some, as the end of a sentence.

        The lines themselves are what people did: messages go to logs and chats, and none of them quotes a line.
        """
        rows = self.lines[table].refused(day, rule)
        values = {name: text for name, text in rows[0].items() if isinstance(text, str | None)}
        known = self._known_videos() if rule == "unknown_video" else ()
        described = hints.described(rule, values, known_videos=known)
        files = ", ".join(dict.fromkeys(row["file"] for row in rows))
        where = f"e.g. in {files} (`microrec inspect --day {day}` shows lines)"
        return ", " + "; ".join(filter(None, [described, where]))

    def encoders(self) -> list[dict[str, Any]]:
        """Return the encoder of each modality and how many videos are on it."""
        judged = self.lines[encoders.TABLE].judged
        return [row.asDict() for row in catalogue.encoders(judged).collect()]

    def _known_videos(self) -> tuple[str, ...]:
        accepted = self.lines[VIDEOS].judged.where(F.col("rule").isNull()).select("video_id")
        return tuple(row["video_id"] for row in accepted.orderBy("video_id").limit(2).collect())


def figures(
    delivery: Delivery,
    viewings: DataFrame,
    earlier: DataFrame | None,
    *,
    first: dt.date,
    returning_days: int,
) -> list[dict[str, Any]]:
    """Measure the arrival days.

    Args:
        delivery: what is judged.
        viewings: `signals.viewings` of the accepted lines.
        earlier: rows of `events` that arrived on the days before; None if there are none.
        first: first day of them, or else of the judged ones.
        returning_days: days before a day whose users and videos are known.

    Returns:
        Rows of `metrics`, stage arrivals, with their day.
    """
    bins = profile.counted(viewings, delivery.lines[VIDEOS].judged).collect()
    n_viewings = max(counts.of_day(delivery.tallies, day)["accepted"] for day in delivery.days)
    every = profile.sampling(n_viewings)
    ids = profile.returning(viewings, earlier, days=returning_days, every=every).collect()
    measured = profile.figures(bins, ids, days=delivery.days, first=first)
    return [*counts.arrivals(delivery.tallies, delivery.days), *measured]


def require(
    night: Night, warehouse: Warehouse, delivery: Delivery, viewings: DataFrame
) -> pa.Table:
    """Check, measure and judge the arrival days, write the results, and hold the night if a gate fails.

    Args:
        night: recipe, and Arrow's view of the warehouse.
        warehouse: Spark's view of it.
        delivery: what is judged.
        viewings: `signals.viewings` of the accepted lines.

    Returns:
        Rows of `metrics` with day and stage, a partition per arrival day: later days are compared with them.

    Raises:
        LandingError: a day has no line; no line of the night's day is accepted, or no video of the catalogue.
        CheckFailed: a line was lost or doubled between the landing zone and the verdict.
        GateHeld: a gate failed, and nobody has overruled it.
    """
    for day in delivery.days:
        logger.info("validated arrived_on=%s %s", day, counts.checked(delivery.tallies, day))
    delivered = {table: lines.delivered for table, lines in delivery.lines.items()}
    arrival_zones.warn(delivered, delivery.days, night.config.timezone)
    counts.check_tables(delivery.tallies)
    _require_accepted(delivery, night.day)
    rows, results = _judge(night, warehouse, delivery, viewings)
    night.write("gate_results", results, fit=FIT)
    promotion.require(results, day=night.day, fit=FIT)
    return rows


def _require_accepted(delivery: Delivery, day: dt.date) -> None:
    """Refuse a night of which nothing is left: no video in its catalogue, or no viewing that arrived on its day."""
    for table, of_day in ((VIDEOS, None), (counts.LINES, day)):
        refused = counts.all_refused(delivery.tallies, table, of_day)
        if refused is not None:
            rule, last, n, n_in = refused
            # Who has withdrawn is quoted nowhere.
            example = "" if rule == WITHHELD else delivery.example(table, last, rule)
            raise LandingError(
                f"{table}[{day}]: none of {n_in} lines is accepted, {rule} refused {n}{example}"
            )


def _judge(
    night: Night, warehouse: Warehouse, delivery: Delivery, viewings: DataFrame
) -> tuple[pa.Table, pa.Table]:
    """Rows of `metrics`, and of `gate_results`."""
    config = night.recipe.section("evaluation.arrivals", arrivals.Config)
    events = night.recipe.section("events", EventsConfig)
    accepted = arrival_figures.accepted_days(night, before=max(delivery.days), config=config)
    before = [day for day in accepted if day not in delivery.days]
    back = dt.timedelta(days=config.returning_days)
    late = [dt.timedelta(days=age) for age in range(night.config.lateness_days + 1)]
    known = [day for day in before if day >= min(delivery.days) - back]
    pairs = {(day - age, day) for day in known for age in late}
    rows = figures(
        delivery,
        viewings,
        warehouse.read_arrivals("events", pairs) if pairs else None,
        first=min([*known, *delivery.days]),
        returning_days=config.returning_days,
    )
    trailing = [
        row
        for day in before
        for row in night.warehouse.read("metrics", day=day, stage=STAGE).to_pylist()
    ]
    history = arrivals.history([*trailing, *rows])
    label = signals.positive_words(events)
    by_modality = delivery.encoders()
    of_encoders = encoders.judge(by_modality, config=config)
    results = _results(delivery, history, delivery.days, label, config) + of_encoders
    if all(result.status == "pass" or result.severity != "hold" for result in results):
        # What is kept is about the night's own day, so that a night that is repeated keeps the same.
        _log_warnings(results)
        results = _results(delivery, history, [night.day], label, config) + of_encoders
    rows += [row | {"day": night.day} for row in encoders.figures(by_modality)]
    judged = {table: lines.judged for table, lines in delivery.lines.items()}
    unmet = unmet_ids.figures(night, warehouse, judged)
    return _metrics([*rows, *unmet], night), gate.table([*results, unmet_ids.judged(unmet)])


def _results(
    delivery: Delivery,
    history: arrivals.History,
    days: Sequence[dt.date],
    label: str,
    config: arrivals.Config,
) -> list[gate.Result]:
    """Judge days of arrival by the shares of their refused lines and by their distributions."""
    refused = refusals.refusals(history, days, config=config)
    doubtful = refusals.doubts(history, days)
    examples = {
        refusal: delivery.example(refusal.table, refusal.day, refusal.rule)
        for refusal in [*refusals.notable(refused, config=config), *doubtful[: arrivals.NAMED]]
    }
    results = [
        *refusals.judge(refused, examples, config=config),
        refusals.judge_doubts(doubtful, examples),
    ]
    return results + distributions.judge(history, days, label=label, config=config)


def _log_warnings(results: Sequence[gate.Result]) -> None:
    for result in results:
        if result.status != "pass":
            logger.warning("gate=%s %s", result.gate, result.detail)


def _metrics(rows: Sequence[Mapping[str, Any]], night: Night) -> pa.Table:
    schema = night.warehouse.table("metrics").contract.schema
    complete = [{"stage": STAGE, "low": None, "high": None} | dict(row) for row in rows]
    return pa.Table.from_pylist(complete, schema=schema)
