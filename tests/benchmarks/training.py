"""One training step of LightGCN beside other implementations: `python -m tests.benchmarks.training --out DIR`.

LightGCN (He et al. 2020), 3 layers of 64 dimensions; BPR plus L2 of the batch's own rows, which RecBole has as
`require_pow` and PyG when it is told the nodes of the triples; Adam. All methods start from the same rows and take the
same triples in the same order, drawn beforehand. A peer gets a time only if its losses in all steps, and the rows it
ends with, are microrec's.

RecBole 1.2.1 (MIT) wants a colorlog older than Airflow's, so it is not in our extras. Its model needs less than it asks
for; in an environment kept for benchmarks, since `pip check` fails after it:

    pip install --no-deps recbole==1.2.1
    pip install -c constraints.txt colorama 'scikit-learn>=1.7,<2' tensorboard texttable

Where it is missing its row says so.
"""

import argparse
import dataclasses
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import block_array, csr_matrix, load_npz, save_npz

from tests.benchmarks import compare, graphs, report, worlds
from tests.benchmarks.compare import Plan, results, rounds
from tests.benchmarks.measure import Method, Outcome
from tests.benchmarks.report import Row, row

LAYERS, DIM, L2, LEARNING_RATE = 3, 64, 1e-4, 1e-3
WARM, STEPS = 2, 5
"""Steps before the clock starts, and steps it runs for."""
EVERY = 50
"""Rows compared after the last step: one of so many."""
CLOSE = 1e-4
"""Largest relative difference between methods that do the same."""
BENCHMARK, OURS = "training step", "microrec"
SAME = "LightGCN, 3 layers of 64"
MASKED, LARGE = "the same, from a graph without the batch's edges", "fewer, larger steps"
PACKAGES = ("numpy", "scipy", "torch", "torch-geometric", "recbole")
RECBOLE = ("recbole", "tensorboard", "texttable", "colorama", "sklearn")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scale:
    """A world, and the sizes of the batches."""

    sizes: worlds.Watches
    batch: int
    large: int
    """Of the second row: fewer, larger steps."""


SCALES = {
    "AB": Scale(worlds.Watches(40_550, 31_094, 1_181_294), 4_096, 65_536),
    "smoke": Scale(worlds.SCALES["smoke"], 256, 1_024),
}


# In the child: a model is made ready, then takes its steps against the clock.


@dataclass(frozen=True)
class Given:
    """What every method starts from.

    Shapes:
        watched: [n_users, n_videos]; initial: [n_users + n_videos, dim]; triples: [n_batches, 4, n]
    """

    watched: csr_matrix
    initial: Any
    triples: Any
    """User, positive, negative, and the position of (user, positive) among the edges."""


@dataclass(frozen=True)
class Work:
    """A method ready to take steps."""

    step: Callable[[Any], float | None]
    """Takes a batch [4, n]; gives the loss before the step, if there is one."""
    triples: Any
    parameters: Sequence[Any] = ()
    """Those that are fitted: users, then videos."""
    losses: list[float] = dataclasses.field(default_factory=list)

    def take(self, batches: range) -> None:
        """Step through some of the batches."""
        for batch in batches:
            loss = self.step(self.triples[batch])
            self.losses.extend([] if loss is None else [loss])


def steps(work: Work, *, threads: int, **_: object) -> dict[str, NDArray[np.float64]]:
    """Against the clock; the losses of all steps since the start, and where some rows have come to."""
    work.take(range(WARM, WARM + STEPS))
    parts = [part.detach().numpy() for part in work.parameters]
    rows = np.concatenate(parts)[::EVERY] if parts else np.empty(0)
    return {"loss": np.array(work.losses), "rows": rows}


def microrec(folder: str, *, threads: int, batch: int, masked: bool = False) -> Work:
    """A step as `fitting.py` takes it, here on batches that are drawn already."""
    given = _given(folder, threads, batch)

    import torch

    from microrec.models.graph import fitting, lightgcn, propagation
    from microrec.models.graph.sampling import Triples

    edges, within_cap, n_videos = _edges(given.watched)
    watch = propagation.WatchGraph(edges, within_cap=within_cap, n_videos=n_videos)
    config = lightgcn.Config(dim=DIM, layers=LAYERS, l2=L2, mask_targets=masked)
    network = lightgcn.LightGCN(watch, config, torch.Generator())
    for table, part in zip((network.user_id, network.video_id), _tables(given), strict=True):
        table.data.copy_(part)

    def loss(triples: Any) -> Any:
        drawn, present = Triples(*triples), watch.whole.present
        watched = watch.without(present, drawn.edge) if masked else watch.whole
        return fitting.batch_loss(
            network, fitting.Batch(drawn, 1.0, watched, opponents=drawn.user[:0]), config
        )

    return _ready(given, [network.user_id, network.video_id], loss)


def recbole(folder: str, *, threads: int, batch: int) -> Work:
    """RecBole's class with its own adjacency and `calculate_loss`; only reading its data set is replaced."""
    import scipy.sparse as sp

    given = _given(folder, threads, batch)
    # The private method with which RecBole fills its matrix; scipy has it no more.
    if not hasattr(sp.dok_matrix, "_update"):
        sp.dok_matrix._update = lambda matrix, entries: matrix._dict.update(entries)

    from recbole.model.general_recommender.lightgcn import LightGCN

    class Watched:
        """What the model asks of a data set."""

        def num(self, field: str) -> int:
            return given.watched.shape[field == "video"]

        def inter_matrix(self, form: str) -> Any:
            return given.watched.asformat(form)

    config = {
        "USER_ID_FIELD": "user",
        "ITEM_ID_FIELD": "video",
        "NEG_PREFIX": "other_",
        "device": "cpu",
        "embedding_size": DIM,
        "n_layers": LAYERS,
        "reg_weight": L2,
        "require_pow": True,
    }
    model = LightGCN(config, Watched())
    for table, part in zip(
        (model.user_embedding, model.item_embedding), _tables(given), strict=True
    ):
        table.weight.data.copy_(part)

    def loss(triples: Any) -> Any:
        return model.calculate_loss(
            dict(zip(("user", "video", "other_video"), triples[:3], strict=True))
        )

    return _ready(given, list(model.parameters()), loss)


def pyg(folder: str, *, threads: int, batch: int) -> Work:
    """PyG's class on an edge index with both directions, as in its example, and its `recommendation_loss`."""
    given = _given(folder, threads, batch)

    import torch
    from torch_geometric.nn.models import LightGCN
    from torch_geometric.utils import to_undirected

    n_users, n_videos = given.watched.shape
    user, video = (torch.from_numpy(part).long() for part in given.watched.nonzero())
    edge_index = to_undirected(torch.stack([user, video + n_users]))
    model = LightGCN(n_users + n_videos, DIM, LAYERS)
    model.embedding.weight.data.copy_(given.initial)

    def loss(triples: Any) -> Any:
        user, positive, negative = triples[0], triples[1] + n_users, triples[2] + n_users
        ends = torch.stack([user.repeat(2), torch.cat([positive, negative])])
        scores = model(edge_index, ends).chunk(2)
        nodes = torch.cat([user, positive, negative])
        return model.recommendation_loss(*scores, node_id=nodes, lambda_reg=L2 / 2)

    return _ready(given, list(model.parameters()), loss)


def factorisation(folder: str, *, threads: int, batch: int) -> Work:
    """The same step on the rows as they are."""
    given = _given(folder, threads, batch)

    import torch
    from torch.nn import functional

    from microrec.models.nn import losses

    user, video = (torch.nn.Parameter(part) for part in _tables(given))

    def loss(triples: Any) -> Any:
        u = functional.embedding(triples[0], user)
        i, j = (functional.embedding(idx, video) for idx in triples[1:3])
        difference = losses.bpr((u * i).sum(dim=1), (u * j).sum(dim=1))
        return difference + L2 * losses.half_squares(u, i, j)

    return _ready(given, [user, video], loss)


def propagation(folder: str, *, threads: int, batch: int) -> Work:
    """Products alone: all layers, there and back."""
    given = _given(folder, threads, batch)

    from microrec.models.graph import propagation

    watched = given.watched
    graph = block_array([[None, watched], [watched.T, None]], format="csr")
    conv = propagation.SparseConv(propagation.sym(graph), symmetric=True)
    rows = given.initial.requires_grad_()

    def step(_: Any) -> None:
        rows.grad, out = None, rows
        for _ in range(LAYERS):
            out = conv(out)
        out.backward(rows.detach())

    return _warmed(Work(step, given.triples))


def optimizer(folder: str, *, threads: int, batch: int) -> Work:
    """Adam alone, on gradients that are there."""
    given = _given(folder, threads, batch)

    import torch

    rows = torch.nn.Parameter(given.initial.clone())
    rows.grad = given.initial
    adam = torch.optim.Adam([rows], lr=LEARNING_RATE)

    def step(_: Any) -> None:
        adam.step()

    return _warmed(Work(step, given.triples))


def drawing(folder: str, *, threads: int, batch: int) -> Work:
    """The triples of a batch, as they are drawn before every step."""
    given = _given(folder, threads, batch)

    import torch

    sampler, generator = _sampler(given.watched), torch.Generator().manual_seed(1)

    def step(_: Any) -> None:
        sampler.by_users(batch, generator)

    return _warmed(Work(step, given.triples))


def _given(folder: str, threads: int, batch: int) -> Given:
    import torch

    torch.set_num_threads(threads)
    at, n_batches = Path(folder), WARM + STEPS
    drawn = torch.from_numpy(np.load(at / "triples.npy"))[:, : n_batches * batch]
    triples = drawn.reshape(4, n_batches, batch).transpose(0, 1)
    initial = torch.from_numpy(np.load(at / "initial.npy"))
    return Given(csr_matrix(load_npz(at / "watched.npz")), initial, triples.contiguous())


def _tables(given: Given) -> tuple[Any, Any]:
    n_users = given.watched.shape[0]
    return given.initial[:n_users].clone(), given.initial[n_users:].clone()


def _ready(given: Given, parameters: list[Any], loss: Callable[[Any], Any]) -> Work:
    import torch

    from microrec.models.training import loop

    adam = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    step = partial(loop.step, adam, loss)
    return _warmed(Work(step, given.triples, parameters))


def _warmed(work: Work) -> Work:
    work.take(range(WARM))
    return work


def _edges(watched: csr_matrix) -> tuple[Any, NDArray[np.bool_], int]:
    """All edges as microrec has them, users of whom all speak, and the number of videos."""
    from microrec.models.inputs.graph_arrays import Edges

    user, video = (part.astype(np.int32) for part in watched.nonzero())
    zeros = np.zeros(len(user), np.int64)
    edges = Edges(user, video, zeros.astype(float), n_views=zeros, n_positive=zeros, last_at=zeros)
    return edges, np.ones(watched.shape[0], np.bool_), watched.shape[1]


def _sampler(watched: csr_matrix) -> Any:
    from microrec.models.graph.sampling import Sampler

    edges, within_cap, n_videos = _edges(watched)
    return Sampler(edges, within_cap=within_cap, n_videos=n_videos)


# In the parent: the input, the runs, the tables.


def methods(scale: Scale) -> list[Method]:
    """What is measured, microrec first."""
    one = partial(Method, run=steps, options={"batch": scale.batch})
    return [
        one(name=OURS, ready=microrec, computes=SAME),
        one(name="peer: RecBole", ready=recbole, computes=SAME, needs=RECBOLE),
        one(name="peer: PyG", ready=pyg, computes=SAME),
        one(name="limit: propagation", ready=propagation, computes="the sparse products alone"),
        one(name="limit: optimizer", ready=optimizer, computes="Adam alone, all rows"),
        one(name="limit: no graph", ready=factorisation, computes="matrix factorisation"),
        one(name="limit: triples", ready=drawing, computes="drawing them, not part of a step"),
        one(
            name="targets left out",
            ready=microrec,
            computes=MASKED,
            options={"batch": scale.batch, "masked": True},
        ),
        one(
            name=f"batches of {scale.large:,}",
            ready=microrec,
            computes=LARGE,
            options={"batch": scale.large},
        ),
    ]


def measured(scale: str, plan: Plan, folder: Path, out: Path) -> Iterator[Row]:
    """Rows of one world."""
    every = methods(SCALES[scale])
    n_edges = write_input(SCALES[scale], folder)
    initial = np.load(folder / "initial.npy")[::EVERY]
    runs = rounds(f"training {scale}", every, folder, rows=None, k=None, plan=plan)
    outcomes_by_name = {
        name: [per_step(one) for one in outcomes] for name, outcomes in runs.items()
    }
    gaps = differences(outcomes_by_name, initial)
    for name, gap in gaps.items():
        if not all(value <= CLOSE for value in gap.values()):
            said = ", ".join(f"{part} differ by {value:.1e}" for part, value in gap.items())
            outcomes_by_name[name] = [Outcome(why=f"not timed: {said}")]
    yield from results(BENCHMARK, scale, every, outcomes_by_name, truth=None, against=OURS)
    for method in every:
        told = partial(row, BENCHMARK, method.name, split=scale)
        for part, value in gaps.get(method.name, {}).items():
            unit, seeds = "of 1", len(runs[method.name])
            yield told(metric=f"{part} differ", value=value, unit=unit, seeds=seeds)
        good = [one for one in outcomes_by_name.get(method.name, ()) if one.why is None]
        if good and method.computes in (SAME, MASKED, LARGE):
            losses = good[0].edges["loss"]
            yield told(metric="first loss", value=float(losses[0]), unit="", seeds=len(good))
            yield told(metric="last loss", value=float(losses[-1]), unit="", seeds=len(good))
            epoch = -(-n_edges // method.options["batch"]) * _median_cpu(good)
            yield told(metric="epoch", value=epoch, unit="CPU s", seeds=len(good))
    drawn = {
        name: _median_cpu(some) for name, some in outcomes_by_name.items() if some[-1].why is None
    }
    title = f"One training step, {scale}"
    report.bars(out / f"training-{scale}.png", title, drawn, unit="CPU seconds (median)")


def write_input(scale: Scale, folder: Path) -> int:
    """Watches, first rows and triples as the methods read them; the number of edges."""
    import torch

    watched = worlds.watches(scale.sizes)
    save_npz(folder / "watched.npz", watched, compressed=False)
    generator = torch.Generator().manual_seed(1)
    # LightGCN's own start: the scores of a smaller one are all 0, and every loss is ln 2.
    initial = 0.1 * torch.randn(sum(watched.shape), DIM, generator=generator)
    np.save(folder / "initial.npy", initial.numpy())
    drawn = _sampler(watched).by_users((WARM + STEPS) * scale.large, generator)
    triples = torch.stack([drawn.user, drawn.positive, drawn.negative, drawn.edge])
    np.save(folder / "triples.npy", triples.numpy())
    return watched.nnz


def per_step(outcome: Outcome) -> Outcome:
    """The clock ran for all steps."""
    return dataclasses.replace(
        outcome, seconds=outcome.seconds / STEPS, cpu_seconds=outcome.cpu_seconds / STEPS
    )


def differences(
    outcomes_by_name: compare.Outcomes, initial: NDArray[np.float32]
) -> dict[str, dict[str, float]]:
    """How far each peer is from microrec in its worst run: relative, over all steps and rows.

    Raises:
        RuntimeError: microrec itself did not run.
    """
    if outcomes_by_name[OURS][0].why is not None:
        raise RuntimeError(f"{OURS}: {outcomes_by_name[OURS][0].why}")
    ours = outcomes_by_name[OURS][0].edges
    moved = np.linalg.norm(ours["rows"] - initial)
    gaps = {}
    for name, outcomes in outcomes_by_name.items():
        good = [one.edges for one in outcomes if one.why is None]
        if name.startswith("peer:") and good:
            losses = [np.abs(one["loss"] / ours["loss"] - 1).max() for one in good]
            rows = [np.linalg.norm(one["rows"] - ours["rows"]) / moved for one in good]
            gaps[name] = {"losses": float(np.max(losses)), "rows": float(np.max(rows))}
    return gaps


def _median_cpu(outcomes: Sequence[Outcome]) -> float:
    return float(np.median([one.cpu_seconds for one in outcomes]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line names and write the tables."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.training", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the results")
    add("--scale", choices=[*SCALES], default="AB", help="world")
    add("--runs", type=int, default=3, help="interleaved repeats")
    add("--threads", type=int, default=1, help="of every library")
    add("--only", nargs="+", default=[], metavar="NAME", help="parts of names beside microrec's")
    chosen = parser.parse_args(arguments)
    out = chosen.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    only = (OURS, *chosen.only) if chosen.only else ()
    with tempfile.TemporaryDirectory(prefix="microrec-training-") as work:
        plan = Plan(chosen.runs, chosen.threads, only=only)
        rows = list(measured(chosen.scale, plan, Path(work), out))
    report.write(rows, out, preface=_preface(chosen))
    logger.info("written to %s", out)


def _preface(chosen: argparse.Namespace) -> str:
    versions = ", ".join(f"{name} {graphs._version(name)}" for name in PACKAGES)
    scale = SCALES[chosen.scale]
    sizes = scale.sizes
    return f"""# One training step of LightGCN

{graphs._processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; {versions}.

{chosen.threads} thread(s) each, {chosen.runs} interleaved runs of {STEPS} steps after {WARM}, every run in a process
of its own. World {chosen.scale}: {sizes.n_users:,} users x {sizes.n_videos:,} videos, {sizes.n_watches:,} edges,
drawn as in worlds.py; batches of {scale.batch:,} triples.

`seconds` (medians), `fastest` and `slowest` are wall clock per step, `cpu` is CPU time per step (median);
`times_microrec` and `times_cpu` are medians of the ratios run by run; `peak` is the resident size of the process while
it takes its steps; `ready` is imports, normalising the graph and the first {WARM} steps. `losses differ` is the largest
relative difference from microrec's in any of the {WARM + STEPS} steps; `rows differ` is the distance from microrec's
rows after the last, of the way these have come. `epoch` is what the steps of as many triples as edges take."""


if __name__ == "__main__":
    # A child imports its method by name, which is not __main__.
    from tests.benchmarks import training

    training.main()
