"""The job that makes final lists, part by part, on a planted night: `python -m tests.benchmarks.final_lists --out DIR`.

The night has node and edge tables, candidates and artefacts of four models, drawn at random; lists get variety,
exploration and evidence. The job runs as `python -m jobs.select_recommendations` in a process of its own. With
`--against CHECKOUT` the same job of another checkout runs on the same night, in turns, and the lists must be equal.

Measured are the seconds of the job, its peak memory, and how often it reads what table, from its log.
"""

import argparse
import datetime as dt
import logging
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from microrec.candidates.retrieval import exact as retrieval
from microrec.config.settings import HOME, settings
from microrec.core import fitted
from microrec.core.fitted import Embeddings, NeighbourLists
from microrec.evaluation import gate
from microrec.runner import shards
from microrec.tables import arrow, contract
from tests.benchmarks import graphs, report
from tests.benchmarks.report import Row, row

DAY = dt.date(2026, 1, 8)
BENCHMARK = "final_lists"
MODELS = ("content", "popularity", "user_neighbours", "video_neighbours")
MODALITIES = ("acoustic", "textual", "visual")
WATCHED, NEIGHBOURS, DIM = 8, 20, 64
"""Videos a user has watched, neighbours of a node, dimensions of vectors."""
GROUP, RING = 40, 24
"""Users of a group, and the videos that they watch between them."""
RECIPE = """
[night]
k = {k}
models = ["content", "popularity", "user_neighbours", "video_neighbours"]
[candidates.diversity]
author_cap = 3
collapse = 0.95
[candidates.exploration]
places = 1
"""

logger = logging.getLogger(__name__)


class Sizes(NamedTuple):
    """Of the planted night."""

    users: int
    videos: int
    k: int


class Job(NamedTuple):
    """What one run of the job took."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    reads: Counter[str]
    """Reads by table."""


def plant(warehouse: arrow.Warehouse, sizes: Sizes) -> None:
    """Write all that the job reads.

    Args:
        warehouse: an empty one.
        sizes: of the night.
    """
    rng = np.random.default_rng(1)
    for table, columns in _graph_tables(rng, sizes).items():
        write(warehouse, table, columns)
    for table in ("suppressed_users", "video_features"):
        warehouse.write_empty(table, day=DAY)
    verdict = gate.Result(gate.LEARNED_NOT_WORSE, "warn", "fail", None, 0.0, "no trees")
    warehouse.write("gate_results", gate.table([verdict]), day=DAY, fit="trial")
    for source, model in _models(rng, sizes).items():
        columns = _candidates(rng, sizes, source)
        write(warehouse, "candidates", columns, fit="final", source=source)
        save = partial(fitted.save, fitted.Trained(model, {}), config=retrieval.Config())
        path, digest = warehouse.save_artefact(day=DAY, fit="final", model=source, save=save)
        columns = {"path": [path], "digest": [digest], "first_day": [DAY], "last_day": [DAY]}
        columns |= {"config": ["{}"], "metrics": ["{}"]}
        write(warehouse, "models", columns, fit="final", model=source)


def write(
    warehouse: arrow.Warehouse, table: str, columns: Mapping[str, Any], **partition: str
) -> None:
    """Write rows of a table; columns that the job does not read are filled in.

    Args:
        warehouse: where.
        table: its name.
        columns: values by column, [n_rows] each.
        **partition: further partition values.
    """
    schema = contract.load(settings().schemas, table).schema
    given = pa.table(dict(columns))
    complete = {}
    for field in schema:
        if field.name in ("day", *partition):
            continue
        if field.name in columns:
            complete[field.name] = given[field.name].cast(field.type)
        elif pa.types.is_list(field.type):
            complete[field.name] = pa.array([[]] * given.num_rows, field.type)
        else:
            complete[field.name] = pa.array([1] * given.num_rows, pa.int64()).cast(field.type)
    warehouse.write(table, pa.table(complete), day=DAY, **partition)


def _graph_tables(rng: np.random.Generator, sizes: Sizes) -> dict[str, dict[str, Any]]:
    """Columns of the graph tables, by table."""
    users, videos = np.arange(sizes.users), np.arange(sizes.videos)
    end = dt.datetime.combine(DAY, dt.time(), tzinfo=dt.UTC)
    published = [
        end - dt.timedelta(hours=int(hours)) for hours in rng.integers(1, 900, len(videos))
    ]
    near = _distinct(rng, len(videos), NEIGHBOURS, len(videos))
    n_near = len(MODALITIES) * near.size
    watched = _rings(sizes)[np.arange(len(users))[:, None], _slice_of(users)]
    return {
        "users": {"user_idx": users, "user_id": [f"u{user:08d}" for user in users]},
        "video_nodes": {
            "video_idx": videos,
            "video_id": [f"v{video:06d}" for video in videos],
            "author_id": [f"a{video // 4:06d}" for video in videos],
            "eligible": rng.random(len(videos)) < 0.95,
            "published_at": pa.array(published, pa.timestamp("us", "UTC")),
        },
        "videos": {
            "video_id": [f"v{video:06d}" for video in videos],
            "tags": pa.array([[f"tag{video % 40}"] for video in videos]),
        },
        "exposure_counts": {
            "user_idx": np.repeat(users, WATCHED),
            "video_idx": watched.ravel(),
            "surface": np.where(watched.ravel() % 10 < 7, "feed", "search"),
            "shown_on": [DAY] * watched.size,
            "n_positive": np.ones(watched.size, dtype=np.int64),
        },
        "watch_edges": {
            "user_idx": np.repeat(users, WATCHED),
            "video_idx": watched.ravel(),
            "split": pa.array(["train", "validation", "holdout"]).take(
                pa.array(rng.integers(0, 3, watched.size))
            ),
            "n_positive": np.ones(watched.size, dtype=np.int64),
            "undone": np.zeros(watched.size, dtype=np.bool_),
        },
        "modality_edges": {
            "modality": np.repeat(MODALITIES, near.size),
            "video_idx": np.tile(np.repeat(videos, NEIGHBOURS), len(MODALITIES)),
            "neighbour_idx": np.tile(near.ravel(), len(MODALITIES)),
            "similarity": rng.random(n_near, dtype=np.float32),
            "rank": np.tile(np.arange(1, NEIGHBOURS + 1), len(MODALITIES) * len(videos)),
        },
    }


def _models(rng: np.random.Generator, sizes: Sizes) -> dict[str, fitted.Fitted]:
    def vectors(dim: int) -> Embeddings:
        user = rng.random((sizes.users, dim), dtype=np.float32)
        video = rng.random((sizes.videos, dim), dtype=np.float32)
        known = (np.ones(len(rows), dtype=np.bool_) for rows in (user, video))
        return Embeddings(user, video, *known)

    def lists(axis: Any, near: Any) -> NeighbourLists:
        start = np.arange(0, near.size + 1, NEIGHBOURS)
        similarity = rng.random(near.size, dtype=np.float32)
        return NeighbourLists(axis, start, near.ravel().astype(np.int32), similarity)

    return {
        "content": vectors(DIM),
        "popularity": vectors(1),
        "user_neighbours": lists("user", _neighbours(sizes.users)),
        "video_neighbours": lists("video", _distinct(rng, sizes.videos, NEIGHBOURS, sizes.videos)),
    }


def _candidates(rng: np.random.Generator, sizes: Sizes, source: str) -> dict[str, Any]:
    """Columns of a source's candidates: 2 k of everyone; those of user_neighbours are liked by a neighbour."""
    length = 2 * sizes.k
    if source == "user_neighbours":
        others = (
            _slice_of(np.arange(sizes.users))[:, :1] + np.arange(WATCHED, WATCHED + length)
        ) % RING
        video = _rings(sizes)[np.arange(sizes.users)[:, None], others]
    else:
        video = _distinct(rng, sizes.users, length, sizes.videos)
    return {
        "user_idx": np.repeat(np.arange(sizes.users), length),
        "rank": np.tile(np.arange(1, length + 1), sizes.users),
        "video_idx": video.ravel(),
        "score": np.tile(np.linspace(1, 0.1, length, dtype=np.float32), sizes.users),
    }


def _rings(sizes: Sizes) -> Any:
    """RING videos of each user's group, of which each user has watched a slice. [n_users, RING]."""
    group = np.arange(sizes.users) // GROUP
    return (7 * group[:, None] + sizes.videos // RING * np.arange(RING)) % sizes.videos


def _slice_of(users: Any) -> Any:
    """Positions in the ring of what users have watched. [n_users, WATCHED]."""
    return (users % (RING // WATCHED) * WATCHED)[:, None] + np.arange(WATCHED)


def _neighbours(n_users: int) -> Any:
    """Other users of the same group. [n_users, NEIGHBOURS]."""
    users = np.arange(n_users)
    first = users // GROUP * GROUP
    size = np.minimum(GROUP, n_users - first)[:, None]
    return first[:, None] + (users - first + np.arange(1, NEIGHBOURS + 1)[:, None]).T % size


def _distinct(rng: np.random.Generator, rows: int, length: int, n: int) -> Any:
    """Numbers below n, different ones in each row. [rows, length]."""
    step = max(1, n // (length + 1))
    return (rng.integers(0, n, rows)[:, None] + step * np.arange(1, length + 1)) % n


def run(checkout: Path, place: Path) -> Job:
    """Run the job of a checkout.

    Args:
        checkout: its root.
        place: has warehouse and recipe.

    Returns:
        What its log says it took.
    """
    environment = os.environ | {"PYTHONPATH": str(checkout)} | variables(place)
    command = [sys.executable, "-m", "jobs.select_recommendations", "--day", str(DAY)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise RuntimeError(ended.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (figures,) = re.findall(r"seconds=([\d.]+) peak_mb=(\d+)", ended.stderr)
    reads = re.findall(r" read table=(\w+)", ended.stderr)
    return Job(float(figures[0]), cpu, float(figures[1]), Counter(reads))


def variables(place: Path) -> dict[str, str]:
    """Return where the job finds its tables and its recipe.

    Args:
        place: has them.
    """
    return {
        "MICROREC_WAREHOUSE": str(place / "warehouse"),
        "MICROREC_RECIPE": str(place / "recipe.toml"),
    }


def results(runs: Mapping[str, Sequence[Job]], sizes: Sizes) -> Iterator[Row]:
    """Yield medians of what the runs took, and reads by table.

    Args:
        runs: by name of the checkout.
        sizes: of the night.
    """
    split = f"{sizes.users:,} users, {-(-sizes.users // shards.USERS_AT_ONCE)} parts"
    for name, jobs in runs.items():
        for figure, unit in (("seconds", "s"), ("cpu_seconds", "s"), ("peak_mb", "MB")):
            value = median(getattr(job, figure) for job in jobs)
            yield row(BENCHMARK, name, figure, split, value, unit=unit, seeds=len(jobs))
        yield row(BENCHMARK, name, "reads", split, float(jobs[0].reads.total()), unit="reads")
        for table, n in sorted(jobs[0].reads.items()):
            yield row(BENCHMARK, name, f"reads of {table}", split, float(n), unit="reads")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line names and write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    chosen = _parser().parse_args(arguments)
    sizes = Sizes(chosen.users, chosen.videos, chosen.k)
    checkouts = {"microrec": HOME}
    if chosen.against:
        checkouts["against"] = chosen.against.resolve()
    with tempfile.TemporaryDirectory(prefix="microrec-lists-", dir=chosen.work) as name:
        place = Path(name)
        (place / "recipe.toml").write_text(RECIPE.format(k=sizes.k))
        os.environ |= variables(place)
        settings.cache_clear()
        warehouse = arrow.Warehouse.open()
        plant(warehouse, sizes)
        runs: dict[str, list[Job]] = {name: [] for name in checkouts}
        digests = set()
        for _ in range(chosen.runs):
            for checkout, root in checkouts.items():
                runs[checkout].append(run(root, place))
                digests.add(warehouse.digest("recommendations", day=DAY))
                job = runs[checkout][-1]
                logger.info(
                    "%s: %.1f s, CPU %.1f s, %d MB, %s", checkout, *job[:3], dict(job.reads)
                )
    if len(digests) != 1:
        raise RuntimeError("the checkouts make other lists")
    report.write(list(results(runs, sizes)), chosen.out, preface=_preface(chosen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.final_lists",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--users", type=int, default=1_000_000)
    add("--videos", type=int, default=2_000)
    add("--k", type=int, default=5, help="length of a list")
    add("--runs", type=int, default=1, help="interleaved repeats")
    add("--against", type=Path, help="another checkout, whose job is run too")
    add("--work", type=Path, help="folder for the planted night; that of the system if left out")
    add("--out", type=Path, required=True, help="folder of the results")
    return parser


def _preface(chosen: argparse.Namespace) -> str:
    return f"""# Final lists, part by part

{graphs._processor()}, {os.cpu_count()} cores. {chosen.users:,} users, {chosen.videos:,} videos, lists of {chosen.k},
{len(MODELS)} sources of {2 * chosen.k} candidates a user, parts of {shards.USERS_AT_ONCE:,} users;
{chosen.runs} run(s) in turns, medians.

{(__doc__ or "").split(chr(10), 2)[2].strip()}"""


if __name__ == "__main__":
    main()
