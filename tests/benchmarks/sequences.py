"""What a night of sequences costs: `python -m tests.benchmarks.sequences --data DIR --day D --out DIR`.

    python -m tests.benchmarks.sequences --data ../shared/data/kuairand_pure --day 2022-05-04 --copies 1,10 --out DIR

Every job a model of sequences needs runs as a process of its own, as Airflow would start it, and then
one trial of each model with one and with three epochs: half the difference is an epoch. Seconds are
wall seconds, MB the sum of the peak resident sizes of the process and its JVM, as the job logs them.

A world n times larger has n users for each user of the log. The videos of a copy are exchanged among
neighbours in popularity (blocks of `BLOCK`), so that videos keep their popularity and copies are not
one another's nearest neighbours.
"""

import argparse
import datetime as dt
import logging
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from microrec.config.settings import HOME
from microrec.landing import zone
from microrec.landing.importers import kuairand
from microrec.models import registry
from tests.benchmarks import report, tuning
from tests.benchmarks.report import Row, row
from tests.worlds.nights import ANYWAY, BEFORE_MODELS

BENCHMARK = "a night of sequences"
CLIPS = "clip_interest"
MODELS = ("multi_trend", "din", "dnn", "sasrec", CLIPS)
SOURCES = ("popularity", "video_neighbours")
"""Whose candidates are scored."""
BLOCK = 16
EPOCHS = (1, 3)
PREFACE = f"# {BENCHMARK.capitalize()}\n\n" + str(__doc__).split("\n\n", 2)[2].strip()
COST = re.compile(r"seconds=([0-9.]+) peak_mb=([0-9]+)")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cost:
    """Of one process."""

    seconds: float
    megabytes: float


def multiply(landing_root: Path, copies: int, generator: np.random.Generator) -> None:
    """Add copies of every user to a landing zone, in place."""
    text = csv.ConvertOptions(column_types={"user_id": pa.string(), "video_id": pa.string()})
    paths = [
        path
        for day in zone.days(str(landing_root), "raw_interactions")
        for path in zone.files(str(landing_root), "raw_interactions", day)
    ]
    logs = [csv.read_csv(path, convert_options=text) for path in paths]
    videos = pa.concat_tables([one.select(["video_id"]) for one in logs])
    order = videos.group_by("video_id").aggregate([([], "count_all")])
    order = order.sort_by([("count_all", "descending"), ("video_id", "ascending")])["video_id"]
    exchanged = [exchange(len(order), generator) for _ in range(1, copies)]
    for path, log in zip(paths, logs, strict=True):
        place = pc.index_in(log["video_id"], value_set=order.combine_chunks())
        parts = [log]
        for number, other in enumerate(exchanged, start=1):
            user = pc.binary_join_element_wise(log["user_id"], str(number), "-")
            mine = log.set_column(log.schema.get_field_index("user_id"), "user_id", user)
            video = order.take(pa.array(other).take(place.combine_chunks()))
            parts.append(mine.set_column(log.schema.get_field_index("video_id"), "video_id", video))
        with pa.CompressedOutputStream(str(path), "gzip") as out:
            csv.write_csv(pa.concat_tables(parts), out)


def exchange(n: int, generator: np.random.Generator) -> np.ndarray:
    """A permutation of 0..n-1 within blocks of `BLOCK`."""
    blocks = np.split(np.arange(n), range(BLOCK, n, BLOCK))
    return np.concatenate([generator.permutation(one) for one in blocks])


def cost(job: str, *words: str) -> Cost:
    """Run a job as a process and read what it says of itself.

    Raises:
        SystemExit: it failed; its last lines are shown.
    """
    command = [sys.executable, "-m", f"jobs.{job}", *words]
    run = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False)
    told = COST.findall(run.stderr)
    if run.returncode or not told:
        raise SystemExit(f"{job} {' '.join(words)}\n{run.stderr[-3000:]}")
    paid = Cost(float(told[-1][0]), float(told[-1][1]))
    logger.info("%s %s: %.0f s, %.0f MB", job, " ".join(words), paid.seconds, paid.megabytes)
    return paid


def night(day: dt.date, scale: str, models: Sequence[str], recipe: Path) -> list[Row]:
    """The jobs of one warehouse, an epoch of each model, and what clips cost after their fit."""
    rows = []
    for job in BEFORE_MODELS:
        table = ANYWAY.get(job)
        if table and not any(table in registry.card(one).reads for one in models):
            continue
        words = ["--anyway"] if table else []
        paid = cost(job, "--day", str(day), *words)
        rows += told(job, scale, paid.seconds, paid.megabytes)
    for model in models:
        some = []
        for epochs in EPOCHS:
            recipe.write_text(f"[models.{model}]\nepochs = {epochs}\n")
            some.append(cost("train_model", "--day", str(day), "--fit", "trial", "--model", model))
        epoch = (some[1].seconds - some[0].seconds) / (EPOCHS[1] - EPOCHS[0])
        rows += told(f"{model}, an epoch", scale, epoch, some[1].megabytes)
    return rows + (served(day, scale, recipe) if CLIPS in models else [])


def served(day: dt.date, scale: str, recipe: Path) -> list[Row]:
    """The clip model's scores of all users' candidates, and its tables."""
    named = ", ".join(f'"{one}"' for one in SOURCES)
    night_ = f'[night]\nmodels = [{named}]\nrankers = ["{CLIPS}"]\n'
    recipe.write_text(f"{night_}[models.{CLIPS}]\nepochs = 1\n")
    of = ("--day", str(day), "--fit", "final", "--model")
    for model in (*SOURCES, CLIPS):
        cost("train_model", *of, model)
    for model in SOURCES:
        cost("select_candidates", *of, model)
    ranked = cost("rank_candidates", *of, CLIPS)
    described = cost("describe_clips", "--day", str(day))
    return [
        *told(f"{CLIPS}, rank_candidates", scale, ranked.seconds, ranked.megabytes),
        *told("describe_clips", scale, described.seconds, described.megabytes),
    ]


def told(name: str, scale: str, seconds: float, megabytes: float) -> list[Row]:
    """Two rows."""
    return [
        row(BENCHMARK, name, "seconds", scale, seconds, unit="s"),
        row(BENCHMARK, name, "peak", scale, megabytes, unit="MB"),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the worlds, run the jobs, write."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", type=Path, required=True, help="the KuaiRand files")
    options.add_argument("--day", type=dt.date.fromisoformat, required=True)
    options.add_argument(
        "--copies", default="1,10", help="sizes of the worlds, in copies of the log"
    )
    options.add_argument("--models", default=",".join(MODELS))
    options.add_argument("--out", type=Path, required=True, help="also holds the warehouses")
    asked = options.parse_args(arguments)
    out = tuning.begin(asked.out, ())
    rows = []
    for copies in map(int, asked.copies.split(",")):
        place = out / f"world-{copies}"
        recipe = place / "recipe.toml"
        os.environ.update(
            MICROREC_WAREHOUSE=str(place / "warehouse"),
            MICROREC_LANDING=str(place / "landing"),
            MICROREC_RECIPE=str(recipe),
        )
        kuairand.import_files(asked.data, str(place / "landing"))
        if copies > 1:
            multiply(place / "landing", copies, np.random.default_rng(copies))
        recipe.write_text("")
        rows += night(asked.day, f"{copies} x the log", asked.models.split(","), recipe)
        report.write(rows, out, preface=PREFACE)
    logger.info("written to %s", out)


if __name__ == "__main__":
    main()
