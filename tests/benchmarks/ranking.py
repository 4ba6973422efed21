"""The k best videos of many users beside other ways to them: `python -m tests.benchmarks.ranking --out DIR`.

A slice of the users is ranked over the whole catalogue, all methods on the same slice, each run in a process of its
own, interleaved. The time for all users is the slice's, scaled: every user costs the same, and the row says so. Vectors
are a planted mixture (`worlds.vectors`), users and videos from the same clusters; a user has seen some videos of the
own cluster, which would be at the top of the list. No list may hold them.

Limits are the matrix product alone, in microrec's tiles, of which nothing is kept: by the threads of BLAS, or by as
many blocks of users at a time with one BLAS thread each. `times product` is measured against the faster of the two.
Peers: a blocked loop in torch (product, seen videos masked, topk) and the exact index of faiss, which cannot mask per
user: it is asked for as many more videos as anybody has seen, and those are taken out afterwards. `microrec, dense` is
what microrec did before and does with few users: numpy's product, partition and sort.

A method gets a time only if every place in the lists of some users holds brute force's value, in float64; the index,
which may miss videos, if it holds LEAST of the best ones.
"""

import argparse
import datetime as dt
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, load_npz, save_npz

from tests.benchmarks import graphs, report, worlds
from tests.benchmarks.measure import FEW, Edges, Method, Outcome, once
from tests.benchmarks.report import Row, row

OURS, TILED, DENSE = "microrec", "microrec, a block per thread", "microrec, dense"
SEARCHED, LEAST = "microrec, an index", 0.99
"""What `approximate` does, and the share of right places it must have; the index is made before the clock starts."""
PRODUCT, TILED_PRODUCT = "limit: product", "limit: product, a block per thread"
WRITTEN = "microrec, all users into a table"
BENCHMARK = "ranking"
PARTITION = {"day": dt.date(2026, 1, 1), "fit": "final", "source": "preference_gcn"}
BLOCK = 1024
"""Users of a block of the peers; smaller ones are slower."""
SEEN, PER_CLUSTER, CHECKED = 30, 250, 100
"""Videos a user has seen, videos of a cluster, users whose lists are checked."""
CLOSE = 1e-5
"""Error of a score, as a share of the largest: float32 cannot tell more."""
GROWTH = 4
"""Memory is measured with the slice and with so many times its users."""
PACKAGES = ("numpy", "scipy", "numba", "torch", "faiss-cpu")

logger = logging.getLogger(__name__)


class World(NamedTuple):
    """What is ranked: vectors [n, dim] and seen pairs [n_users, n_videos]."""

    user: NDArray[np.float32]
    video: NDArray[np.float32]
    seen: csr_matrix

    @property
    def megabytes(self) -> float:
        """What all methods are given, in memory."""
        seen = (self.seen.data, self.seen.indices, self.seen.indptr)
        return sum(part.nbytes for part in (self.user, self.video, *seen)) / 1e6


def planted(n_users: int, n_videos: int, dim: int, *, seed: int = 1) -> World:
    """Users and videos of the same clusters, and videos of the own cluster each user has seen."""
    clusters = max(2, n_videos // PER_CLUSTER)
    sizes = worlds.Vectors(n_users + n_videos, dim, clusters)
    vectors, cluster = worlds.vectors(sizes, seed=seed)
    rng = np.random.default_rng(seed)
    of_user, of_video = cluster[:n_users], cluster[n_users:]
    shelf = np.argsort(of_video, kind="stable")
    start, end = (np.searchsorted(of_video[shelf], of_user, side) for side in ("left", "right"))
    # A cluster without videos: its users have seen anything.
    start, end = np.where(end > start, start, 0), np.where(end > start, end, n_videos)
    drawn = start[:, None] + rng.random((n_users, SEEN)) * (end - start)[:, None]
    at = (np.repeat(np.arange(n_users), SEEN), shelf[drawn.astype(np.int64).ravel()])
    seen = csr_matrix((np.ones(len(at[0]), np.float32), at), shape=(n_users, n_videos))
    seen.data[:] = 1
    return World(vectors[:n_users], vectors[n_users:], seen)


def product(world: World, *, k: int, threads: int, blocks: int = 1) -> None:
    """Every score, in the tiles of microrec; nothing is kept."""
    from microrec.candidates.retrieval import tiled as topk

    def of_block(start: int) -> None:
        user = world.user[start : start + topk.ROWS]
        out = np.empty((len(user), topk.COLUMNS), np.float32)
        for first in range(0, len(world.video), topk.COLUMNS):
            video = world.video[first : first + topk.COLUMNS]
            np.matmul(user, video.T, out=out[:, : len(video)])

    with ThreadPoolExecutor(blocks) as pool:
        list(pool.map(of_block, range(0, len(world.user), topk.ROWS)))


def tiled(world: World, *, k: int, threads: int, blocks: int = 1) -> Edges:
    """`by_embeddings` with tiles, whatever the size: what a night calls."""
    return _by_embeddings(world, k, least=0, threads=blocks)


def dense(world: World, *, k: int, threads: int) -> Edges:
    """`by_embeddings` with dense blocks of scores, whatever the size."""
    return _by_embeddings(world, k, least=sys.maxsize, threads=1)


def searched(world: World, *, k: int, threads: int) -> Edges | None:
    """An index, held against exact lists of the first users it is asked for; nothing if it would not find enough."""
    from microrec.candidates.retrieval import quantised
    from microrec.candidates.retrieval import tiled as topk

    if not _INDEX:
        began = time.perf_counter()
        catalogue = topk.Catalogue.of(world.video, np.ones(len(world.video), np.bool_))
        sample, given = np.arange(len(world.user)), {"seen": world.seen, "k": k}
        _INDEX.append(quantised.index(catalogue, world.user, sample=sample, least=LEAST, **given))
        logger.info("index: %s, %.1f s", _INDEX[0] and _INDEX[0].depth, time.perf_counter() - began)
    if _INDEX[0] is None:
        return None
    users = np.arange(len(world.user))
    lists = _INDEX[0].ranked(world.user, users=users, seen=world.seen, k=k)
    return {"idx": lists.user, "neighbour_idx": lists.video, "score": lists.score}


_INDEX: list[Any] = []
"""Of this process."""


def passed_on(world: World, *, k: int, threads: int) -> None:
    """Lists that are handed on block by block, as a writer would take them: nothing is kept."""
    from microrec.candidates.retrieval import tiled as topk

    catalogue = topk.Catalogue.of(world.video, np.ones(len(world.video), np.bool_))
    users = np.arange(len(world.user))
    for _ in topk.ranked(catalogue, world.user, users=users, seen=world.seen, k=k):
        pass


def written(world: World, *, k: int, threads: int, blocks: int = 1) -> None:
    """What the job does: everybody's lists, part by part, as a checked and committed partition of `candidates`."""
    from microrec.candidates.retrieval import exact as retrieval
    from microrec.config.settings import settings
    from microrec.runner import shards

    os.environ["MICROREC_WAREHOUSE"] = tempfile.mkdtemp(prefix="warehouse-")
    settings.cache_clear()
    fitted, known = _model(world)
    config = retrieval.Config(threads=blocks)
    ask = partial(retrieval.best, fitted, known=known, k=k, config=config)
    shards.write("candidates", ask, np.arange(len(world.user)), **PARTITION)


def read_back(world: World, **_: object) -> Edges:
    """The lists of the first users, out of the table."""
    from microrec.tables import arrow

    warehouse = arrow.Warehouse.open()
    snapshot = warehouse.snapshot("candidates", **PARTITION)
    files = [file for _, some in snapshot.parts for file in some]
    named = pc.field("user_idx") < CHECKED
    rows = ds.dataset(files, schema=warehouse.table("candidates").contract.file_schema)
    candidates = rows.to_table(["user_idx", "video_idx", "score"], filter=named)
    return _as_edges(candidates) | {"rows": np.array([snapshot.rows])}


def torch_blocks(world: World, *, k: int, threads: int) -> Edges:
    """Product, mask and topk in torch."""
    import torch

    torch.set_num_threads(threads)
    videos = torch.from_numpy(world.video)
    scores, neighbours = [], []
    with torch.inference_mode():
        for start in range(0, len(world.user), BLOCK):
            block = torch.from_numpy(world.user[start : start + BLOCK]) @ videos.T
            rows, seen = world.seen[start : start + BLOCK].nonzero()
            block[torch.from_numpy(rows).long(), torch.from_numpy(seen).long()] = -torch.inf
            best = torch.topk(block, k, dim=1)
            scores.append(best.values)
            neighbours.append(best.indices)
    return _edges(torch.cat(neighbours).numpy(), torch.cat(scores).numpy())


def faiss_flat(world: World, *, k: int, threads: int) -> Edges:
    """`IndexFlatIP`, asked for what was seen as well; BLOCK users at a time, so that the longer lists are few."""
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(world.video.shape[1])
    index.add(world.video)
    most = int(np.diff(world.seen.indptr).max())
    results = []
    for start in range(0, len(world.user), BLOCK):
        user = world.user[start : start + BLOCK]
        scores, neighbours = index.search(user, min(k + most, index.ntotal))
        results.append(_without(scores, neighbours, world.seen[start : start + BLOCK], k))
    scores, neighbours = (np.concatenate(parts) for parts in zip(*results, strict=True))
    return _edges(neighbours, scores)


WAYS: dict[str, Callable[..., Edges | None]] = {
    "product": product,
    "tiled": tiled,
    "dense": dense,
    "torch": torch_blocks,
    "faiss": faiss_flat,
    "searched": searched,
    "passed_on": passed_on,
    "written": written,
}


def ready(folder: str, *, way: str, **arguments: Any) -> World:
    """Read the world; imports, compilation and thread pools by a few users."""
    at = Path(folder)
    seen = csr_matrix(load_npz(at / "seen.npz"))
    world = World(np.load(at / "user.npy"), np.load(at / "video.npy"), seen)
    WAYS[way](World(world.user[:FEW], world.video, seen[:FEW]), **arguments)
    return world


def run(world: World, *, way: str, **arguments: Any) -> Edges | None:
    """Rank everybody in one of the ways."""
    return WAYS[way](world, **arguments)


def _method(name: str, way: str, computes: str, *needs: str, **options: object) -> Method:
    return Method(name, run, computes, {"way": way, **options}, needs, ready)


def methods(threads: int) -> list[tuple[Method, int]]:
    """What runs with so many threads in all, and the threads of its libraries."""
    exact = "exact"
    alike = [
        _method(PRODUCT, "product", "all scores, thrown away"),
        _method(OURS, "tiled", exact),
        _method("peer: torch product and topk", "torch", exact, "torch"),
        _method("peer: faiss flat", "faiss", f"{exact}, seen taken out afterwards", "faiss"),
        _method(DENSE, "dense", exact),
        _method(SEARCHED, "searched", f"{LEAST} of the exact lists", "faiss"),
    ]
    blocked = [
        _method(TILED_PRODUCT, "product", "all scores, thrown away", blocks=threads),
        _method(TILED, "tiled", exact, blocks=threads),
    ]
    return [(one, threads) for one in alike] + [(one, 1) for one in blocked if threads > 1]


class Truth:
    """Every unseen score of some users, in float64."""

    def __init__(self, world: World, rows: NDArray[np.int64], k: int) -> None:
        """Users `rows`, lists of `k`."""
        self.rows, self.k = rows, k
        self.scores = world.user[rows].astype(np.float64) @ world.video.astype(np.float64).T
        self.close = CLOSE * float(np.abs(self.scores).max())
        self.scores[world.seen[rows].nonzero()] = -np.inf
        self.best = -np.sort(np.partition(-self.scores, k - 1, axis=1)[:, :k], axis=1)

    def right(self, edges: Edges) -> float:
        """Share of the places that hold the value that belongs there, of a video that has it."""
        right = 0
        for scores, best, user in zip(self.scores, self.best, self.rows, strict=True):
            mine = edges["idx"] == user
            order = np.argsort(-edges["score"][mine], kind="stable")
            videos, claimed = edges["neighbour_idx"][mine][order], edges["score"][mine][order]
            if len(np.unique(videos)) == self.k == len(videos):
                near = [abs(one - best) <= self.close for one in (claimed, scores[videos])]
                right += int((near[0] & near[1]).sum())
        return right / self.best.size

    def found(self, edges: Edges) -> float:
        """Share of the best videos that the lists hold, or videos as good."""
        n_found = 0
        for scores, best, user in zip(self.scores, self.best, self.rows, strict=True):
            videos = np.unique(edges["neighbour_idx"][edges["idx"] == user])
            n_found += int((scores[videos] >= best[-1] - self.close).sum())
        return min(n_found, self.best.size) / self.best.size


def shared(one: Edges, other: Edges) -> float:
    """Share of the pairs of the one that the other has, too."""
    pairs = [
        {*zip(e["idx"].tolist(), e["neighbour_idx"].tolist(), strict=True)} for e in (one, other)
    ]
    return len(pairs[0] & pairs[1]) / max(len(pairs[0]), 1)


Runs = dict[str, list[Outcome]]


@dataclass(frozen=True)
class Bench:
    """What is run, on what."""

    chosen: argparse.Namespace
    world: World
    folder: Path
    truth: Truth

    def rounds(self, threads: int) -> Runs:
        """Every method once, then every method again."""
        results: Runs = {}
        for number in range(self.chosen.runs):
            for method, of_libraries in methods(threads):
                wanted = any(part in method.name for part in self.chosen.only or [""])
                before = results.get(method.name, [])
                if not wanted or any(one.why for one in before):
                    continue
                outcome = self.once(method, self.folder, of_libraries)
                results[method.name] = [*before, outcome]
                said = outcome.why or f"{outcome.seconds:.3g} s, CPU {outcome.cpu_seconds:.3g} s"
                logger.info("%d thread(s), run %d: %s: %s", threads, number + 1, method.name, said)
        return results

    def once(self, method: Method, folder: Path, threads: int) -> Outcome:
        """One run of a method."""
        given = {"rows": self.truth.rows, "k": self.chosen.k, "limit": self.chosen.limit}
        return once(method, folder, threads=threads, **given)

    def results(self, threads: int, results: Runs) -> Iterator[Row]:
        """Rows of all methods; a time only where the lists are right."""
        split = f"{threads} thread{'s' * (threads > 1)}"
        limits = [results[name] for name in (PRODUCT, TILED_PRODUCT) if name in results]
        for name, outcomes in results.items():
            computes = next(one.computes for one, _ in methods(threads) if one.name == name)
            yield row(BENCHMARK, name, "computes", split, None, unit=computes)
            least = LEAST if name == SEARCHED else 1.0
            why = next((one.why for one in outcomes if one.why), None)
            why = why or self.wrong(outcomes, least)
            if why is not None:
                yield row(BENCHMARK, name, "seconds", split, None, unit=why)
                continue
            figures = [*self.costs(outcomes, limits), *self.checks(outcomes, results.get(OURS, []))]
            for metric, value, unit in figures:
                yield row(BENCHMARK, name, metric, split, value, unit=unit, seeds=len(outcomes))

    def wrong(self, outcomes: Sequence[Outcome], least: float) -> str | None:
        """What is wrong with the lists, if there are lists."""
        told = (self.share(one.edges, least) for one in outcomes if one.edges)
        right = min(told, default=1.0)
        return None if right >= least else f"not told: {right:.4%} of the places are right"

    def share(self, edges: Edges, least: float) -> float:
        """Places that are right; of lists that may miss videos, the best videos that they hold."""
        return self.truth.right(edges) if least == 1 else self.truth.found(edges)

    def costs(
        self, outcomes: Sequence[Outcome], limits: Sequence[Sequence[Outcome]]
    ) -> Iterator[tuple[str, float, str]]:
        """Medians over the runs; ratios run by run, then their median."""
        seconds = median(one.seconds for one in outcomes)
        yield "seconds", seconds, "s"
        yield "cpu", median(one.cpu_seconds for one in outcomes), "s"
        for metric, field in (("times product", "seconds"), ("times product, cpu", "cpu_seconds")):
            took = [[getattr(one, field) for one in runs] for runs in (outcomes, *limits)]
            bare = [min(some) for some in zip(*took[1:], strict=True)]
            if bare and len(bare) == len(outcomes):
                yield metric, median(a / b for a, b in zip(took[0], bare, strict=True)), "x"
        users = self.chosen.users
        yield f"{users:,} users, scaled", seconds * users / len(self.world.user), "s"
        peak = median(one.peak_mb for one in outcomes)
        yield "peak", peak, "MB"
        yield "beside the input", peak - self.world.megabytes, "MB"

    def checks(
        self, outcomes: Sequence[Outcome], ours: Sequence[Outcome]
    ) -> Iterator[tuple[str, float, str]]:
        """How a method's lists compare with brute force's and with microrec's."""
        if outcomes[0].edges:
            yield "right", min(self.truth.right(one.edges) for one in outcomes), "share"
            yield "found", min(self.truth.found(one.edges) for one in outcomes), "share"
        if outcomes[0].edges and ours and ours[0].edges:
            yield "as microrec", shared(ours[0].edges, outcomes[0].edges), "of 1"

    def memory(self, work: Path) -> Iterator[Row]:
        """Peak memory of microrec with the slice and with more users; lists are handed on."""
        method, n = _method("", "passed_on", ""), len(self.world.user)
        for n_users in (n, GROWTH * n):
            world = planted(n_users, self.chosen.videos, self.chosen.dim)
            outcome = self.once(method, saved(world, work / f"{n_users}"), 1)
            name = f"microrec, {n_users:,} users"
            if outcome.why is not None:
                yield row("memory", name, "peak", "lists handed on", None, unit=outcome.why)
                continue
            figures = {"peak": outcome.peak_mb, "input": world.megabytes}
            figures["beside the input"] = outcome.peak_mb - world.megabytes
            for metric, value in figures.items():
                yield row(
                    "memory", name, metric, "lists handed on", value, unit="MB in all", seeds=1
                )


def whole(chosen: argparse.Namespace, threads: int, work: Path) -> Iterator[Row]:
    """All users, not a slice: the bare product, and the job's way to a committed table."""
    world = planted(chosen.users, chosen.videos, chosen.dim)
    truth = Truth(world, np.arange(CHECKED), chosen.k)
    folder, size = saved(world, work / f"whole-{threads}"), world.megabytes
    del world
    blocks = {"blocks": threads}
    product_ = _method(TILED_PRODUCT, "product", "all scores, thrown away", **blocks)
    job = replace(_method(WRITTEN, "written", "exact", **blocks), after=read_back)
    outcomes = {}
    for method in (product_, job):
        given = {"k": chosen.k, "threads": 1, "limit": chosen.limit}
        outcomes[method.name] = measurements = once(method, folder, **given)
        split = f"{chosen.users:,} users, {threads} thread(s)"
        logger.info(
            "%s: %s: %s", split, method.name, measurements.why or f"{measurements.seconds:.0f} s"
        )
        if measurements.why is not None:
            yield row("whole", method.name, "seconds", split, None, unit=measurements.why)
            continue
        figures = {"seconds": (measurements.seconds, "s"), "cpu": (measurements.cpu_seconds, "s")}
        figures |= {
            "peak": (measurements.peak_mb, "MB"),
            "beside the input": (measurements.peak_mb - size, "MB"),
        }
        if measurements.edges:
            figures["right"] = (truth.right(measurements.edges), "share")
            figures["rows"] = (float(measurements.edges["rows"][0]), "")
            figures["times product"] = (measurements.seconds / outcomes[TILED_PRODUCT].seconds, "x")
        for metric, (value, unit) in figures.items():
            yield row("whole", method.name, metric, split, value, unit=unit, seeds=1)


def saved(world: World, folder: Path) -> Path:
    """Where the methods read it."""
    folder.mkdir(parents=True)
    np.save(folder / "user.npy", world.user)
    np.save(folder / "video.npy", world.video)
    save_npz(folder / "seen.npz", world.seen, compressed=False)
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line names and write the tables."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    chosen = _parser().parse_args(arguments)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="microrec-ranking-") as name:
        work = Path(name)
        world = planted(chosen.slice, chosen.videos, chosen.dim)
        sample = np.random.default_rng(0).permutation(chosen.slice)[:CHECKED]
        truth = Truth(world, np.sort(sample), chosen.k)
        bench = Bench(chosen, world, saved(world, work / "slice"), truth)
        for threads in chosen.threads:
            rows += bench.results(threads, bench.rounds(threads))
            report.write(rows, chosen.out, preface=_preface(chosen))
        rows += bench.memory(work)
        for threads in chosen.threads if chosen.whole else []:
            report.write(rows, chosen.out, preface=_preface(chosen))
            rows += whole(chosen, threads, work)
        report.write(rows, chosen.out, preface=_preface(chosen))
        logger.info("written to %s", chosen.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ranking", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--users", type=int, default=1_000_000, help="users that times are scaled to")
    add("--videos", type=int, default=100_000)
    add("--dim", type=int, default=64, help="dimensions of the vectors")
    add("--k", type=int, default=100, help="length of a list")
    add("--slice", type=int, default=16_384, help="users measured")
    add("--threads", type=int, nargs="+", default=[1, 2], help="one table for each")
    add("--runs", type=int, default=3, help="interleaved repeats")
    add("--limit", type=float, default=600.0, help="seconds a method may take")
    add("--whole", action="store_true", help="also all users, into a table")
    add("--only", nargs="+", default=[], help="methods, by parts of names")
    add("--out", type=Path, required=True, help="folder of the results")
    return parser


def _preface(chosen: argparse.Namespace) -> str:
    """What was run, on what."""
    versions = ", ".join(f"{name} {graphs._version(name)}" for name in PACKAGES)
    return f"""# Ranking all users

{graphs._processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; {versions}.

The {chosen.k} best of {chosen.videos:,} videos by inner product in {chosen.dim} dimensions, for {chosen.slice:,} users
of whom each has seen up to {SEEN}; {chosen.runs} interleaved run(s), medians. Times for {chosen.users:,} users are the
slice's, scaled, but for the table `whole`: one run with all users, whose lists are written, checked and committed.
`peak` is the resident memory of the process, libraries and lists included; `beside the input` is that without the
vectors and seen pairs all methods are given. `right` is the share of places in the lists of {CHECKED} users that hold
brute force's value; `as microrec` the share of microrec's videos that are there.

{(__doc__ or "").split(chr(10), 2)[2].strip()}"""


def _by_embeddings(world: World, k: int, *, least: int, threads: int) -> Edges:
    from microrec.candidates.retrieval import exact as retrieval

    retrieval.TILED = least
    fitted, known = _model(world)
    users, config = np.arange(len(world.user)), retrieval.Config(threads=threads)
    return _as_edges(retrieval.by_embeddings(fitted, users=users, known=known, k=k, config=config))


def _model(world: World) -> tuple[Any, Any]:
    """The world as a fitted model and as what is known."""
    from microrec.core import knowledge
    from microrec.core.fitted import Embeddings

    users, videos = (np.ones(len(part), np.bool_) for part in (world.user, world.video))
    model = Embeddings(world.user, world.video, user_known=users, video_known=videos)
    return model, knowledge.Knowledge(seen=world.seen, positives=world.seen, eligible=videos)


def _as_edges(rows: pa.Table) -> dict[str, NDArray[Any]]:
    names = {"user_idx": "idx", "video_idx": "neighbour_idx", "score": "score"}
    return {name: rows[column].to_numpy() for column, name in names.items()}


def _without(
    scores: NDArray[np.float32], neighbours: NDArray[np.int64], seen: csr_matrix, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The first k of each row that were not seen, in their order."""
    n_videos = seen.shape[1]
    rows, videos = seen.nonzero()
    pairs = np.arange(len(neighbours))[:, None] * n_videos + neighbours
    kept = ~np.isin(pairs, rows.astype(np.int64) * n_videos + videos)
    first = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, first, 1), np.take_along_axis(neighbours, first, 1)


def _edges(neighbours: NDArray[np.integer], scores: NDArray[np.floating]) -> Edges:
    idx = np.repeat(np.arange(len(neighbours)), neighbours.shape[1])
    return {"idx": idx, "neighbour_idx": neighbours.ravel(), "score": scores.ravel()}


if __name__ == "__main__":
    from tests.benchmarks import (
        ranking,
    )  # a child imports the methods by name, and __main__ is another there

    ranking.main()
