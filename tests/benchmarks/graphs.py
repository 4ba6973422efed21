"""The graphs beside other ways to build them: `python -m tests.benchmarks.graphs --out DIR`.

Stages: `pearson` (kernel and peers), `spark` (the user graph as a Spark job, against one process
that reads, computes and writes the same), `modality` (nearest vectors; the Spark stage too),
`knobs` (what caps and thresholds keep of the exact neighbours) and `fit` (cost through sizes).
Worlds are in `worlds.py`. Peers need `pip install -e '.[bench]'`; one that is not installed is said
to be missing. The tables are written after every stage, so a run that is stopped has left
something.
"""

import argparse
import dataclasses
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse import csr_matrix, save_npz

from tests.benchmarks import compare, modality_peers, ours, pearson_peers, report, worlds
from tests.benchmarks.compare import Plan, results, rounds
from tests.benchmarks.measure import Method
from tests.benchmarks.report import Row, row
from tests.benchmarks.truth import Truth, cosine_units, pearson_units

K_USERS, K_VIDEOS = 50, 20
CHECKED_USERS, CHECKED_VIDEOS = 300, 1000
MOST_PAIRS = 2_000_000_000
"""A self-join of more rows is not started: 16 bytes each is 32 GB."""
MOST_CELLS = 500_000_000
KERNEL, COSINE = "microrec kernel", "microrec exact"
EXACT, RECIPE = "microrec Spark stage, exact", "microrec Spark stage, default caps"
PROCESS = "microrec process: read, kernel, write"

PACKAGES = (
    *("numpy", "scipy", "numba", "pyspark", "duckdb", "polars", "torch", "scikit-learn"),
    *("faiss-cpu", "hnswlib", "usearch", "implicit", "sparse_dot_topn"),
)

logger = logging.getLogger(__name__)

PEARSON = [
    Method(KERNEL, ours.pearson_kernel, "exact Pearson"),
    Method(
        "limit: additions of a row-wise product, no ranking",
        pearson_peers.accumulate,
        "common videos, thrown away",
        needs=("numba",),
    ),
    Method(
        "peer: sparse_dot_topn",
        pearson_peers.sparse_dot_topn,
        "exact Pearson (one dense column added)",
        needs=("sparse_dot_topn",),
    ),
    Method(
        "peer: sparse_dot_topn, cosine",
        pearson_peers.sparse_dot_topn_cosine,
        "cosine, not the same formula",
        needs=("sparse_dot_topn",),
    ),
    Method(
        "peer: implicit",
        pearson_peers.implicit_cosine,
        "cosine, not the same formula",
        needs=("implicit",),
    ),
    Method("peer: scipy blocks", pearson_peers.scipy_blocks, "exact Pearson"),
    Method("peer: numpy dense", pearson_peers.numpy_dense, "exact Pearson", dense=True),
    Method(
        "peer: scikit-learn",
        pearson_peers.sklearn_neighbours,
        "exact Pearson (cosine of centred rows)",
        needs=("sklearn",),
        dense=True,
    ),
    Method(
        "peer: Polars self-join",
        pearson_peers.polars_join,
        "exact Pearson",
        needs=("polars",),
        lists_pairs=True,
    ),
    Method("peer: DuckDB self-join", pearson_peers.duckdb_join, "exact Pearson", lists_pairs=True),
    Method(
        "peer: Spark SQL self-join",
        pearson_peers.spark_join,
        "exact Pearson",
        ready=pearson_peers.spark_ready,
        lists_pairs=True,
    ),
]

SPARK = [
    Method(
        name,
        ours.pearson_stage,
        words,
        options,
        ready=ours.pearson_ready,
        after=ours.user_edges_written,
        again=True,
    )
    for name, words, options in (
        (EXACT, "exact Pearson", ours.EXACT),
        (RECIPE, "Config's defaults", {}),
    )
] + [
    Method(
        PROCESS,
        ours.pearson_process,
        "exact Pearson",
        ours.EXACT,
        ready=ours.process_ready,
        after=ours.user_edges_written,
        again=True,
    ),
]

GRAPH = {"m": 16, "construction": 80, "search": 64}
MODALITY = [
    Method("limit: matrix product", modality_peers.product, "product, thrown away"),
    Method(COSINE, ours.cosine_kernel, "exact cosine"),
    Method(
        "microrec approximate",
        ours.cosine_approximate,
        "approximate cosine",
        needs=("microrec.graphs.similarity.cells",),
    ),
    Method(
        "peer: torch product and topk",
        modality_peers.torch_blocks,
        "exact cosine",
        needs=("torch",),
    ),
    Method("peer: numpy product and argpartition", modality_peers.numpy_blocks, "exact cosine"),
    Method(
        "peer: scikit-learn", modality_peers.sklearn_neighbours, "exact cosine", needs=("sklearn",)
    ),
    Method(
        "peer: faiss flat",
        modality_peers.faiss_index,
        "exact cosine",
        {"factory": "Flat"},
        needs=("faiss",),
    ),
    Method(
        "peer: faiss IVF",
        modality_peers.faiss_ivf,
        "approximate cosine, lists=1024, probes=24",
        {"lists": 1024, "probes": 24},
        needs=("faiss",),
    ),
    Method(
        "peer: faiss HNSW",
        modality_peers.faiss_index,
        "approximate cosine, m=32",
        {"factory": "HNSW32", "search": "efSearch=64"},
        needs=("faiss",),
    ),
    Method(
        "peer: hnswlib",
        modality_peers.hnswlib_index,
        "approximate cosine, " + ", ".join(f"{k}={v}" for k, v in GRAPH.items()),
        GRAPH,
        needs=("hnswlib",),
    ),
    Method(
        "peer: usearch",
        modality_peers.usearch_index,
        "approximate cosine, " + ", ".join(f"{k}={v}" for k, v in GRAPH.items()),
        GRAPH,
        needs=("usearch",),
    ),
    Method(
        "peer: usearch int8",
        modality_peers.usearch_index,
        "approximate cosine of rounded vectors",
        {**GRAPH, "dtype": "i8"},
        needs=("usearch",),
    ),
    Method("peer: usearch exact", modality_peers.usearch_exact, "exact cosine", needs=("usearch",)),
    Method(
        "peer: Spark LSH",
        modality_peers.spark_lsh,
        "approximate cosine, random projections",
        {"bucket": 0.5, "tables": 4},
        ready=modality_peers.spark_ready,
    ),
]
STAGE = Method(
    "microrec Spark stage",
    ours.modality_stage,
    "exact cosine",
    ready=ours.modality_ready,
    after=ours.modality_edges_written,
    again=True,
)

KNOBS: dict[str, dict[str, object]] = {
    "exact": {},
    "hub_cap=2000": {"hub_cap": 2000},
    "hub_cap=1000": {"hub_cap": 1000},
    "hub_cap=300": {"hub_cap": 300},
    "hub_cap=100": {"hub_cap": 100},
    "activity_cap=1000": {"activity_cap": 1000},
    "activity_cap=300": {"activity_cap": 300},
    "activity_cap=100": {"activity_cap": 100},
    "min_common=2": {"min_common": 2},
    "min_common=5": {"min_common": 5},
    "min_common=2, light_positives=3": {"min_common": 2, "light_positives": 3},
    "shrinkage=1": {"shrinkage": 1.0},
    "shrinkage=10": {"shrinkage": 10.0},
    "shrinkage=100": {"shrinkage": 100.0},
    "k=20": {"k": 20},
    "k=100": {"k": 100},
}
TOLD = {"seconds", "cpu", "times_cpu", "peak", f"recall@{K_USERS}"}
"""Of a knob: it runs once, and capped values are not brute force's."""
PARTS = {
    "smoke": (("smoke", 0.25), ("smoke", 0.5), ("smoke", 1.0)),
    "S": (("S", 0.125), ("S", 0.25), ("S", 0.5), ("S", 1.0)),
    "SP": (("SP", 0.125), ("SP", 0.25), ("SP", 0.5), ("SP", 1.0)),
}


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all stages are given."""

    plan: Plan
    scales: tuple[str, ...]
    large: bool
    work: Path
    out: Path


def pearson(bench: Bench) -> Iterator[Row]:
    """Kernel and peers on every world."""
    for scale in bench.scales:
        matrix, given, rows = _world(bench, scale)
        refused = {
            one.name: reason for one in PEARSON if (reason := _too_much(one, matrix)) is not None
        }
        outcomes = rounds(
            f"pearson {scale}",
            PEARSON,
            given,
            rows=rows,
            k=K_USERS,
            plan=bench.plan,
            infeasible=refused,
        )
        truth = _truth_of_users(matrix, rows)
        yield from _facts("pearson", scale, matrix)
        yield from results("pearson", scale, PEARSON, outcomes, truth=truth, against=KERNEL)
        _draw_times(
            bench.out / f"pearson-{scale}.png", f"Top {K_USERS} by Pearson, {scale}", outcomes
        )


def spark(bench: Bench) -> Iterator[Row]:
    """The user graph as a Spark job on every world, and what one process takes for the same."""
    for scale in bench.scales:
        matrix, _, rows = _world(bench, scale)
        root = bench.work / f"warehouse-{scale}"
        ours.commit_watches(matrix, root)
        outcomes = rounds(f"spark {scale}", SPARK, root, rows=rows, k=K_USERS, plan=bench.plan)
        truth = _truth_of_users(matrix, rows)
        yield from _facts("spark", scale, matrix)
        yield from results("spark", scale, SPARK, outcomes, truth=truth, against=PROCESS)
        yield from _per_pair("spark", scale, outcomes, worlds.n_pairs(matrix))


def modality(bench: Bench) -> Iterator[Row]:
    """Nearest vectors: kernel, peers and the Spark stage on every space."""
    spaces = ["smoke"] if bench.scales == ("smoke",) else ["20000x512"]
    for space in spaces + ["200000x128"] * bench.large:
        vectors, cluster = worlds.vectors(worlds.SPACES[space])
        given = bench.work / f"vectors-{space}.npy"
        np.save(given, vectors)
        rows = _sample(len(vectors), CHECKED_VIDEOS)
        plan = bench.plan
        title = f"modality {space}"
        outcomes = dict(rounds(title, MODALITY, given, rows=rows, k=K_VIDEOS, plan=plan))
        if plan.wants(STAGE.name):
            root = bench.work / f"warehouse-{space}"
            ours.commit_vectors(vectors, root)
            outcomes |= rounds(title, [STAGE], root, rows=rows, k=K_VIDEOS, plan=plan)
        truth = Truth(cosine_units(vectors), len(vectors), rows, K_VIDEOS)
        yield from _spread(space, vectors, cluster, rows)
        yield from results(
            "modality", space, [*MODALITY, STAGE], outcomes, truth=truth, against=COSINE
        )
        _draw_times(
            bench.out / f"modality-{space}.png", f"Top {K_VIDEOS} by cosine, {space}", outcomes
        )
        _draw_recall(bench.out / f"modality-{space}-recall.png", space, outcomes, truth)


def knobs(bench: Bench) -> Iterator[Row]:
    """What each cap and threshold keeps of the exact neighbours, and what it saves."""
    tastes = ["S-tastes"] if "S" in bench.scales else []
    for scale in [*bench.scales, *tastes]:
        matrix, given, rows = _world(bench, scale)
        methods = [
            Method(name, ours.pearson_capped, options=options) for name, options in KNOBS.items()
        ]
        plan = dataclasses.replace(bench.plan, runs=1)
        outcomes = rounds(f"knobs {scale}", methods, given, rows=rows, k=K_USERS, plan=plan)
        truth = _truth_of_users(matrix, rows)
        rows_ = results("knobs", scale, methods, outcomes, truth=truth, against="exact")
        yield from (one for one in rows_ if one["metric"] in TOLD)
        for name, (outcome, *_) in outcomes.items():
            if outcome.why is None:
                mean = ("mean n_common", outcome.mean_common, "videos")
                edges = ("edges", float(outcome.n_edges), "rows")
                for metric, value, unit in (mean, edges):
                    yield row("knobs", name, metric, scale, value, unit=unit, seeds=1)


def fit(bench: Bench) -> Iterator[Row]:
    """Cost of the kernel through sizes, and the slopes of its logarithm."""
    points: dict[str, list[tuple[float, float, float]]] = {}
    for family in [scale for scale in bench.scales if scale in PARTS]:
        for of, share in PARTS[family]:
            name = of if share == 1 else f"{of}/{1 / share:.0f}"
            sizes = worlds.part(worlds.SCALES[of], share)
            matrix = worlds.watches(sizes)
            given = bench.work / "part.npz"
            save_npz(given, matrix, compressed=False)
            rows = _sample(sizes.n_users, CHECKED_USERS)
            outcomes = rounds(
                f"fit {name}", PEARSON[:1], given, rows=rows, k=K_USERS, plan=bench.plan
            )
            good = [one for one in outcomes.get(KERNEL, ()) if one.why is None]
            if good:
                seconds = float(np.median([one.cpu_seconds for one in good]))
                pairs = worlds.n_pairs(matrix)
                points.setdefault(family, []).append((pairs, sizes.n_users, seconds))
                yield row("fit", name, "users", "sizes", sizes.n_users, unit="users")
                yield row("fit", name, "pairs", "sizes", pairs, unit="pairs")
                yield row("fit", name, "cost", "sizes", seconds, unit="CPU s", seeds=len(good))
                peak = float(np.median([one.peak_mb for one in good]))
                yield row("fit", name, "memory", "sizes", peak, unit="peak MB", seeds=len(good))
    yield from _slopes(points)
    report.lines(
        bench.out / "fit.png",
        "Pearson kernel, exact",
        {name: ([p for p, *_ in some], [s for *_, s in some]) for name, some in points.items()},
        x="pairs of viewers",
        y="CPU seconds",
    )


STAGES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "pearson": pearson,
    "spark": spark,
    "modality": modality,
    "knobs": knobs,
    "fit": fit,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line names and write the tables."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    logging.getLogger("microrec").setLevel(logging.WARNING)
    chosen = _parser().parse_args(arguments)
    plan = Plan(chosen.runs, chosen.threads, chosen.limit, tuple(chosen.only))
    rows: list[Row] = []
    # Spark's spill, tables and worlds: all of it is removed at the end.
    with tempfile.TemporaryDirectory(prefix="microrec-graphs-") as work:
        out = chosen.out.resolve()
        out.mkdir(parents=True, exist_ok=True)
        for drawn in (*out.glob("pearson-*.png"), *out.glob("modality-*.png"), out / "fit.png"):
            drawn.unlink(missing_ok=True)  # of an earlier run: not what these tables say
        bench = Bench(plan, tuple(chosen.scale), chosen.modality_large, Path(work), out)
        for stage in chosen.stage:
            for one in STAGES[stage](bench):
                rows.append(one)
            report.write(rows, out, preface=_preface(chosen))
            logger.info("%s: written to %s", stage, out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.graphs", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--scale", nargs="+", choices=[*worlds.SCALES], default=["S", "real"], help="worlds")
    add("--out", type=Path, required=True, help="folder of the results")
    add("--stage", nargs="+", choices=[*STAGES], default=[*STAGES], help="parts to run")
    add("--only", type=_names, default=[], metavar="NAME,...", help="methods, by parts of names")
    add("--runs", type=int, default=3, help="interleaved repeats")
    add("--threads", type=int, default=1, help="of every library, and cores of Spark")
    add("--limit", type=float, default=600.0, help="seconds a method may take")
    add("--modality-large", action="store_true", help="200,000 x 128 too")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _world(bench: Bench, scale: str) -> tuple[csr_matrix, Path, NDArray[np.int64]]:
    """The watches of a scale, the file they are in, and the users whose lists are checked."""
    if scale == "real":
        matrix = worlds.real()
    elif scale == "S-tastes":
        matrix = worlds.watches(dataclasses.replace(worlds.SCALES["S"], tastes=20))
    else:
        matrix = worlds.watches(worlds.SCALES[scale])
    given = bench.work / f"watches-{scale}.npz"
    save_npz(given, matrix, compressed=False)
    return matrix, given, _sample(matrix.shape[0], CHECKED_USERS)


def _sample(n: int, checked: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).choice(n, min(n, checked), replace=False)


def _truth_of_users(matrix: csr_matrix, rows: NDArray[np.int64]) -> Truth:
    return Truth(pearson_units(matrix), matrix.shape[0], rows, K_USERS)


def _too_much(method: Method, matrix: csr_matrix) -> str | None:
    """Why a method is not started at all on a world."""
    pairs, cells = worlds.n_pairs(matrix), matrix.shape[0] * matrix.shape[1]
    if method.lists_pairs and pairs > MOST_PAIRS:
        return f"not feasible: {pairs:,} pairs, {16 * pairs:,} bytes"
    if method.dense and cells > MOST_CELLS:
        work = 2 * cells * matrix.shape[0]
        return f"not feasible: {4 * cells:,} bytes dense, {work:.1e} operations"
    return None


def _facts(benchmark: str, scale: str, matrix: csr_matrix) -> Iterator[Row]:
    """What a world is like, as rows of its own table."""
    viewers = np.bincount(matrix.indices, minlength=matrix.shape[1])
    facts = {
        "users": (matrix.shape[0], "users"),
        "videos": (matrix.shape[1], "videos"),
        "watches": (matrix.nnz, "watches"),
        "pairs": (worlds.n_pairs(matrix), "pairs"),
        "viewers of the first video": (int(viewers.max()), "users"),
        "videos of a median user": (float(np.median(np.diff(matrix.indptr))), "videos"),
    }
    for metric, (value, unit) in facts.items():
        yield row(f"{benchmark} world", scale, metric, "all", value, unit=unit)


def _spread(
    space: str, vectors: NDArray[np.float32], cluster: NDArray[np.int64], rows: NDArray[np.int64]
) -> Iterator[Row]:
    """How hard a space is: who the nearest are, and how their similarity falls with the rank."""
    unit, rows = modality_peers.units(vectors), rows[:200]
    similar = unit[rows] @ unit.T
    similar[np.arange(len(rows)), rows] = -1
    order = np.argsort(-similar, axis=1)[:, :100]
    ranked = np.take_along_axis(similar, order, axis=1)
    own = cluster[order[:, :K_VIDEOS]] == cluster[rows][:, None]
    facts = {
        f"of the {K_VIDEOS} nearest in the own cluster": (float(own.mean()), "of 1"),
        "cosine at rank 1": (float(ranked[:, 0].mean()), "cosine"),
        f"cosine at rank {K_VIDEOS}": (float(ranked[:, K_VIDEOS - 1].mean()), "cosine"),
        "cosine at rank 100": (float(ranked[:, -1].mean()), "cosine"),
    }
    for metric, (value, unit_of) in facts.items():
        yield row("modality world", space, metric, "all", value, unit=unit_of)


def _per_pair(benchmark: str, scale: str, runs: compare.Outcomes, pairs: int) -> Iterator[Row]:
    """Nanoseconds per pair of viewers: what may not grow with the world."""
    for name, outcomes in runs.items():
        good = [one.seconds for one in outcomes if one.why is None]
        if good:
            value = float(np.median(good)) / pairs * 1e9
            yield row(benchmark, name, "per_pair", scale, value, unit="ns", seeds=len(good))


def _slopes(points: dict[str, list[tuple[float, float, float]]]) -> Iterator[Row]:
    """Slopes of log seconds against log pairs and log users squared, with 95 % intervals."""
    for family, some in points.items():
        pairs, users, seconds = (np.log(np.array(column)) for column in zip(*some, strict=True))
        if len(some) < 3:
            continue
        for metric, across in (
            ("slope against pairs", pairs),
            ("slope against users^2", 2 * users),
        ):
            line = stats.linregress(across, seconds)
            half = float(stats.t.ppf(0.975, len(some) - 2) * line.stderr)
            yield row(
                "fit",
                KERNEL,
                f"{metric}, {family}",
                "slopes",
                float(line.slope),
                low=float(line.slope) - half,
                high=float(line.slope) + half,
                unit="log s / log",
                seeds=len(some),
            )


def _draw_times(path: Path, title: str, runs: compare.Outcomes) -> None:
    seconds = {
        name: float(np.median([one.seconds for one in outcomes]))
        for name, outcomes in runs.items()
        if outcomes[-1].why is None
    }
    report.bars(path, title, seconds, unit="seconds (median)")


def _draw_recall(path: Path, space: str, runs: compare.Outcomes, truth: Truth) -> None:
    points = {
        name: (
            float(np.median([one.seconds for one in outcomes])),
            truth.recall(outcomes[-1].edges),
        )
        for name, outcomes in runs.items()
        if outcomes[-1].why is None and outcomes[-1].edges
    }
    title = f"Top {truth.k} by cosine, {space}"
    report.scatter(path, title, points, x="seconds (median)", y=f"recall@{truth.k}")


def _preface(chosen: argparse.Namespace) -> str:
    """What was run, on what."""
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return f"""# Graph benchmarks

{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; {versions}.

{chosen.threads} thread(s) each, {chosen.runs} interleaved runs, limit {chosen.limit:.0f} s. Every
method runs in a process of its own. `seconds` are medians of the wall clock, `cpu` of the CPU time;
`times_microrec` and `times_cpu` are medians of the ratios run by run; `peak` is the largest sum of
the resident sizes of the process and its descendants; `ready` is imports, compilation, a first call
on a few rows or the start of a Spark session, not in `seconds`; `again` is a second run in the same
process. `equal` is the share of the places in the lists of {CHECKED_USERS} users or
{CHECKED_VIDEOS} videos that hold brute force's value to 1e-5; `recall` the share of the true
neighbours found. A method that took more than {compare.SLOW:.0%} of the limit ran once.

Worlds: {" ".join(line.strip() for line in (worlds.__doc__ or "").splitlines()[2:]).strip()}"""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


if __name__ == "__main__":
    main()
