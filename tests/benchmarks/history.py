"""What one more day costs, however long the history: `python -m tests.benchmarks.history --out DIR`.

For each length of history a warehouse is planted: as many days of `events` and `daily_watches`, all
alike, with a commit per day and table. Then one more day arrives, and the two steps of
`build_watch_graph` are timed in one warm Spark session: `aggregate` (plan, read the new events,
write their aggregates) and `window` (read the window's aggregates, write nodes and edges). A share
of every day arrives a day late, so each night reopens the day before it. The yardstick is the day
alone, without history and with nothing to reopen. Repeats are interleaved over the histories.
"""

import argparse
import datetime as dt
import functools
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import build_watch_graph
from microrec.config import recipe
from microrec.config.settings import settings
from microrec.graphs.watch import clip_edges, daily
from microrec.tables import arrow, spark
from tests.benchmarks import report

FIRST = dt.date(2024, 1, 1)
ONE_DAY = dt.timedelta(days=1)
N_USERS, N_VIDEOS = 20_000, 3_000
CONFIG = clip_edges.Config()
STEPS = ("plan", "aggregate", "window", "both")
YARDSTICK = 0
"""Days of history that costs are compared with: the day alone."""

Arrival = tuple[dt.date, dt.date]
Figures = dict[str, float]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class World:
    """A warehouse with so many days of history, and the day that comes next."""

    root: Path
    history: int
    n_rows: int
    n_late: int

    @property
    def night(self) -> dt.date:
        """The day that is one more."""
        return FIRST + dt.timedelta(days=self.history)

    def enter(self) -> None:
        """Make this the warehouse of the process."""
        os.environ["MICROREC_WAREHOUSE"] = str(self.root)
        settings.cache_clear()

    def partitions(self, arrived_on: dt.date) -> list[Arrival]:
        """What arrives on a day: its own viewings, and late ones of the day before."""
        own = [(arrived_on, arrived_on)]
        return (
            [*own, (arrived_on - ONE_DAY, arrived_on)]
            if self.n_late and arrived_on > FIRST
            else own
        )

    def rows(self, table: str, partition: Arrival) -> pa.Table:
        """The rows of a partition of `events` or `daily_watches`; no pair is in two partitions of a day."""
        of, arrived_on = partition
        events, pairs = day_of(of, self.n_rows)
        n_first = self.n_rows - self.n_late
        begin, length = (0, n_first) if of == arrived_on else (n_first, self.n_late)
        rows = (events if table == "events" else pairs).slice(begin, length)
        for name, value in (("day", of), ("arrived_on", arrived_on)):
            rows = rows.append_column(name, pa.repeat(pa.scalar(value), length))
        return rows


def main() -> None:
    """Plant the histories, time the nights, write the report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--days", default="5,50,500", help="lengths of history, in days")
    options.add_argument("--rows", type=int, default=20_000, help="viewings per day")
    options.add_argument("--late", type=float, default=0.02, help="share that arrives a day late")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--out", type=Path, required=True)
    given = options.parse_args()
    logging.basicConfig(level=logging.WARNING)
    logger.setLevel(logging.INFO)
    histories = [YARDSTICK, *(int(one) for one in given.days.split(","))]
    with tempfile.TemporaryDirectory(prefix="microrec-history-") as folder:
        worlds = [
            World(Path(folder) / str(n), n, given.rows, int(given.rows * given.late))
            for n in histories
        ]
        for world in worlds:
            began = time.perf_counter()
            plant(world)
            logger.info("planted days=%d seconds=%.0f", world.history, time.perf_counter() - began)
        outcomes = measured(worlds, given.repeats)
    preface = (
        f"# One more day\n\n{given.rows:,} viewings a day, {given.late:.0%} of them a day late; "
        f"{os.cpu_count()} cores, one warm session, medians of {given.repeats} interleaved repeats. "
        "`x` compares with the day alone."
    )
    given.out.mkdir(parents=True, exist_ok=True)
    report.lines(
        given.out / "history.png",
        "One more night",
        {
            step: (list(outcomes), [median(runs, step) for runs in outcomes.values()])
            for step in STEPS
        },
        x="days of history",
        y="seconds",
    )
    report.write(results(outcomes, given.repeats), given.out, preface=preface)
    print((given.out / "results.md").read_text())  # noqa: T201 - the answer of a command


def plant(world: World) -> None:
    """Commit the history day by day, as its nights would have, and what the next night needs."""
    world.enter()
    warehouse = spark.Warehouse.open()
    past = [world.night - dt.timedelta(days=age) for age in range(world.history, 0, -1)]
    for day in past:
        deliver(world, day)
    for day in (*past[-1:], world.night):
        commit("rejected_rows", [], day=day, raw_table="raw_interactions")
        commit("suppressed_users", [], day=day)
        commit("videos", [{"video_id": v, "eligible": True} for v in names("v", N_VIDEOS)], day=day)
    known = warehouse.arrivals("events", day=past[-1], days=world.history) if past else {}
    words = daily.plan(known, {}, config=CONFIG).build
    for day in past:
        parts = world.partitions(day)
        scopes = [{"day": of, "arrived_on": on} for of, on in parts]
        rows = pa.concat_tables([world.rows("daily_watches", part) for part in parts])
        arrow.Warehouse.open().write(
            "daily_watches", rows, replace=scopes, made_with=[words[part] for part in parts]
        )


def deliver(world: World, arrived_on: dt.date) -> None:
    """Commit the events that arrive on a day."""
    parts = [world.rows("events", part) for part in world.partitions(arrived_on)]
    warehouse = arrow.Warehouse.open()
    warehouse.write("events", pa.concat_tables(parts), replace=[{"arrived_on": arrived_on}])


def commit(
    table: str, rows: Sequence[Mapping[str, Any]], *, day: dt.date, **partition: str
) -> None:
    """Commit a day of a small table, or a part of it."""
    warehouse = arrow.Warehouse.open()
    schema = warehouse.table(table).contract.file_schema
    filled = [{name: row.get(name) for name in schema.names} for row in rows]
    warehouse.write(table, pa.Table.from_pylist(filled, schema=schema), day=day, **partition)


@functools.lru_cache(maxsize=4)
def day_of(day: dt.date, n: int) -> tuple[pa.Table, pa.Table]:
    """A day's viewings of distinct pairs, and their aggregates: row i of one is row i of the other."""
    generator = np.random.default_rng([7, day.toordinal()])
    codes = generator.permutation(np.unique(_popular_pairs(generator, 2 * n)))[:n]
    duration = generator.choice([8_000, 15_000, 40_000], n)
    watch = (duration * generator.uniform(0, 1.2, n)).astype(np.int64)
    disliked, ratio = generator.random(n) < 0.01, watch / duration
    watch = np.maximum(watch, 1)  # every viewing played
    feedback = np.where(ratio >= 0.95, "positive", np.where(watch < 3_000, "negative", "neutral"))
    feedback[disliked] = "negative"
    micros = (
        generator.integers(86_400_000_000, size=n) + (day.toordinal() - 719_163) * 86_400_000_000
    )
    at = pa.array(micros, pa.timestamp("us", "UTC"))
    pair = {
        "user_id": names("u", N_USERS).take(codes // N_VIDEOS),
        "video_id": names("v", N_VIDEOS).take(codes % N_VIDEOS),
    }
    events = pair | {
        "event_id": [f"{day:%Y%m%d}-{number:07}" for number in range(n)],
        "corrects": pa.nulls(n, pa.date32()),
        "started_at": at,
        "watch_ms": watch,
        "duration_ms": duration,
        "watch_ratio": ratio,
        "n_replays": np.zeros(n, np.int32),
        "skipped": feedback == "negative",
        **{name: np.zeros(n, bool) for name in ("liked", "shared", "followed", "commented")},
        "disliked": disliked,
        "session_id": pa.nulls(n, pa.string()),
        "surface": pa.nulls(n, pa.string()),
        "feedback": feedback,
    }
    pairs = pair | {
        "n_views": np.ones(n, np.int32),
        "n_positive": (feedback == "positive").astype(np.int32),
        "n_negative": (feedback == "negative").astype(np.int32),
        "undone": disliked,
        "first_at": at,
        "last_at": at,
        "clip_exits": _exits(watch, duration),
        "started": _started(feedback),
        "viewings": _viewings(watch, duration, counts=feedback != "negative"),
    }
    return pa.table(events), pa.table(pairs)


def _popular_pairs(generator: np.random.Generator, n: int) -> np.ndarray:
    """Pairs as one number each; a few videos have most of the viewings."""
    users = generator.integers(N_USERS, size=n)
    videos = (N_VIDEOS * generator.random(n) ** 2).astype(np.int64)
    return users * N_VIDEOS + videos


def _started(feedback: np.ndarray) -> pa.Array:
    """Where each viewing was shown and whether it was positive, as lists of one."""
    n = len(feedback)
    shown = pa.StructArray.from_arrays(
        [pa.repeat(pa.scalar(""), n), pa.array(feedback == "positive")], ["surface", "positive"]
    )
    return pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32), shown)


def _viewings(watch: np.ndarray, duration: np.ndarray, *, counts: np.ndarray) -> pa.Array:
    """Length and watch time of each viewing and whether it counts, as lists of one."""
    columns = [pa.array(each) for each in (duration, watch, counts)]
    viewings = pa.StructArray.from_arrays(columns, ["duration_ms", "watch_ms", "counts"])
    return pa.ListArray.from_arrays(np.arange(len(watch) + 1, dtype=np.int32), viewings)


def _exits(watch: np.ndarray, duration: np.ndarray) -> pa.Array:
    """Where each viewing left, as lists of one."""
    n_clips = np.minimum(-(-duration // CONFIG.clip_ms), CONFIG.max_clips)
    through = np.minimum(watch // CONFIG.clip_ms, n_clips - 1)
    through = np.where(watch >= duration * CONFIG.completed_ratio, n_clips, through)
    early = (through < n_clips) & (watch < CONFIG.early_ms)
    exits = pa.StructArray.from_arrays(
        [pa.array(through, pa.int32()), pa.array(n_clips, pa.int32()), pa.array(early)],
        ["n_through", "n_clips", "early"],
    )
    return pa.ListArray.from_arrays(np.arange(len(watch) + 1, dtype=np.int32), exits)


@functools.lru_cache
def names(prefix: str, n: int) -> pa.Array:
    """Ids as services have them: a letter and ten digits."""
    return pa.array([f"{prefix}{number:010}" for number in range(n)])


def measured(worlds: Sequence[World], repeats: int) -> dict[int, list[Figures]]:
    """Run one more night in every world, again and again; the first round warms up and is thrown away."""
    measurements: dict[int, list[Figures]] = {world.history: [] for world in worlds}
    for round_ in range(repeats + 1):
        for world in worlds:
            world.enter()
            deliver(world, world.night)  # new files, so the night has its aggregates to build again
            figures = night(world)
            check(world)
            logger.info("days=%d %s", world.history, {k: round(v, 2) for k, v in figures.items()})
            if round_:
                measurements[world.history].append(figures)
    return measurements


def night(world: World) -> Figures:
    """Seconds of the two steps, and what they read."""
    warehouse, days = spark.Warehouse.open(), recipe.current().night.window_days
    plan_began = time.perf_counter()
    events = warehouse.arrivals("events", day=world.night, days=days)
    committed = warehouse.arrivals_made_with("daily_watches", day=world.night, days=days)
    plan = daily.plan(events, committed, config=CONFIG)
    began = time.perf_counter()
    build_watch_graph.aggregate(warehouse, world.night, days=days, config=CONFIG)
    halfway = time.perf_counter()
    build_watch_graph.main(day=world.night)
    ended = time.perf_counter()
    read = {*plan.fresh, *plan.late, *plan.earlier}
    window = warehouse.arrivals("daily_watches", day=world.night, days=days)
    return {
        "plan": began - plan_began,
        "aggregate": halfway - began,
        "window": ended - halfway,
        "both": ended - began,
        "partitions built": len(plan.build),
        "events read": megabytes("events", read),
        "the day's own events": megabytes("events", set(world.partitions(world.night))),
        "aggregates read": megabytes("daily_watches", window),
        "partitions of the window": len(window),
    }


def megabytes(table: str, partitions: Collection[Arrival]) -> float:
    """Size of the committed files of some partitions."""
    delta = arrow.Warehouse.open().table(table).open()
    assert delta is not None
    files = pa.table(delta.get_add_actions(flatten=True)).to_pylist()
    wanted = {(str(of), str(on)) for of, on in partitions}
    mine = [f for f in files if (str(f["partition.day"]), str(f["partition.arrived_on"])) in wanted]
    return sum(file["size_bytes"] for file in mine) / 1e6


def check(world: World) -> None:
    """What the night built is what was planted."""
    warehouse = arrow.Warehouse.open()
    order = [("user_id", "ascending"), ("video_id", "ascending")]
    for part in world.partitions(world.night):
        built = warehouse.read("daily_watches", day=part[0], arrived_on=part[1]).sort_by(order)
        planted = world.rows("daily_watches", part).select(built.schema.names).sort_by(order)
        if not built.equals(planted.cast(built.schema)):
            raise AssertionError(f"{world.history} days: other rows than planted in {part}")


def median(runs: Sequence[Figures], name: str) -> float:
    """Median of a figure over the repeats."""
    return statistics.median(run[name] for run in runs)


def results(measurements: Mapping[int, Sequence[Figures]], repeats: int) -> list[report.Row]:
    """Rows of the report: a split per length of history, a line per step."""
    medians = {
        history: {name: median(runs, name) for name in runs[0]}
        for history, runs in measurements.items()
    }
    rows = []
    for history, figures in medians.items():
        one = functools.partial(report.row, "history", split=f"{history} days", seeds=repeats)
        for step in STEPS:
            runs = [run[step] for run in measurements[history]]
            rows.append(one(step, "seconds", value=figures[step], low=min(runs), high=max(runs), unit="s"))  # fmt: skip
            times = figures[step] / medians[YARDSTICK][step]
            rows.append(one(step, "against the yardstick", value=times, unit="x"))
        own = figures["the day's own events"]
        for name, read in (("aggregate", figures["events read"]), ("window", figures["aggregates read"])):  # fmt: skip
            rows.append(one(name, "read", value=read, unit="MB"))
            rows.append(one(name, "read / the day's own events", value=read / own, unit="x"))
        for name, metric in (("aggregate", "partitions built"), ("window", "partitions of the window")):  # fmt: skip
            rows.append(one(name, "partitions", value=figures[metric], unit=""))
    return rows


if __name__ == "__main__":
    main()
