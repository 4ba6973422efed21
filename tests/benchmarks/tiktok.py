"""Every model on TikTok: `python -m tests.benchmarks.tiktok --data ../shared/data/tiktok --out DIR`.

The split of MMSSL and DiffMM (microrec/models/README.md, 7.1 and 7.2): one held-out video for each user of `val` and of
`test`, whose users are disjoint. What happens, in this order:

1. Tuning. Up to `--budget` configurations of each model, the Config as it stands first, the others
   drawn from its space (`spaces.py`); each is fitted once, with the seed of tuning, on `train`, and
   measured on `val`. A model that is trained stops early on `val`. `tuning.json` tells all of them.
2. The best configuration by val recall@20, with the epochs it stopped at, is fitted to `train` with
   `--seeds` other seeds. These fits cannot see `val`; they are what is measured on it. The figures
   of `val` still flatter, by the choice among configurations, those of `test` do not.
3. With `--test`, the file is opened when all fits are done. The same fitted models are measured on
   it once, and so are the same configurations fitted to train and val, in rows of their own.

A fit that draws nothing from its generator is the same for every seed and is not repeated.
`--tuned FILE` takes the chosen configurations of an earlier run's `tuning.json` and skips step 1;
an entry may be named freely there, so that an ablation is a file of edited entries.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveInt
from scipy.sparse import csr_matrix

from microrec.core.knowledge import Knowledge
from microrec.graphs.similarity import cosine, pearson
from microrec.models import registry
from microrec.models.inputs.graph_arrays import Graph, build_graph
from tests.benchmarks import quality, report, tuning
from tests.benchmarks.quality import Case
from tests.benchmarks.report import Row, row
from tests.benchmarks.spaces import ABLATIONS, SPACES
from tests.benchmarks.tuning import Run, Trial

BENCHMARK = "tiktok"
OUT = {name for name, card in registry.CARDS.items() if card.family in ("sequence", "clip")}
"""Models that need a clock, and those that propose nothing."""
MODELS = (*(one for one in registry.CARDS if one not in OUT), "hybrid")
"""All but those that need a log with times."""
SPLITS = ("train", "val")
MODALITIES = ("visual", "acoustic")
PLOTS = ("recall-val.png", "recall-test.png", "losses.png", "recalls.png")
REFIT = " (refit on train+val)"

PUBLISHED = {
    "MF-BPR": (0.0346, 0.0130),
    "VBPR": (0.0380, 0.0134),
    "NGCF": (0.0604, 0.0238),
    "LightGCN": (0.0653, 0.0282),
    "LightGCN-M": (0.0679, 0.0273),
    "MMGCN": (0.0730, 0.0307),
    "MMGCL": (0.0799, 0.0326),
    "GRCN": (0.0804, 0.0350),
    "LATTICE": (0.0843, 0.0367),
    "SLMRec": (0.0845, 0.0353),
    "MMSSL": (0.0921, 0.0392),
    "BM3": (0.0957, 0.0404),
    "DiffMM*": (0.1129, 0.0456),
    "GenRec-V1*": (0.1165, 0.0492),
    "MDMNS*": (0.1193, 0.0525),
}
"""Recall@20 and NDCG@20 on test (microrec/models/README.md, section 7.1). *: the epoch was chosen by test recall."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class World:
    """The data, by index.

    Shapes:
        users, videos: ids by user_idx and by video_idx; pairs: (user_idx, video_idx) [n, 2] by
        split; features: [n_videos, dim] by modality
    """

    users: NDArray[np.int64]
    videos: NDArray[np.int64]
    pairs: Mapping[str, NDArray[np.int64]]
    features: Mapping[str, NDArray[np.float32]]

    def places(self, rows: pa.Table) -> NDArray[np.int64]:
        """(user_idx, video_idx) of each row; unknown users get numbers of their own, videos -1."""
        user, video = (rows[name].to_numpy().astype(np.int64) for name in ("user_id", "item_id"))
        strangers = np.unique(user[~np.isin(user, self.users)])
        known = np.concatenate([self.users, strangers])
        return np.stack([_place(user, known), _place(video, self.videos)], axis=1)

    def __len__(self) -> int:
        """Number of videos."""
        return len(self.videos)

    def matrix(self, splits: Sequence[str]) -> csr_matrix:
        """Float32 ones at the pairs of the splits [n_users, n_videos]."""
        pairs = np.concatenate([self.pairs[split] for split in splits])
        shape = (len(self.users), len(self.videos))
        return csr_matrix((np.ones(len(pairs), np.float32), tuple(pairs.T)), shape=shape)


class GraphConfig(BaseModel):
    """How the graphs between videos and between users are built; defaults are the pipeline's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    centred: tuple[str, ...] = ()
    """Modalities whose mean vector is taken off before neighbours are looked for."""
    k_videos: PositiveInt = 10
    """Neighbours per video and modality."""
    k_users: PositiveInt = 50
    """Neighbours per user."""
    min_common: PositiveInt = 2
    """Videos two users must share (one is enough for a light user, see `pearson.Config`)."""


def read(folder: Path) -> World:
    """The two files of the published form.

    Ids are row numbers of the published matrices, so users without an interaction exist too.
    """
    rows = pq.read_table(folder / "interactions.parquet")
    items = pq.read_table(folder / "item_features.parquet")
    item = items["item_id"].to_numpy().astype(np.int64)
    videos = np.array(quality.in_hash_order(item.tolist()))
    order = _place(videos, item)
    features = {
        name: pc.list_flatten(items[name]).to_numpy().reshape(len(item), -1)[order]
        for name in MODALITIES
    }
    world = World(np.arange(pc.max(rows["user_id"]).as_py() + 1), videos, {}, features)
    pairs = {one: world.places(rows.filter(pc.equal(rows["split"], one))) for one in SPLITS}
    return replace(world, pairs=pairs)


def _place(ids: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each id, -1 for an unknown one."""
    order = np.argsort(among)
    at = order[np.minimum(np.searchsorted(among, ids, sorter=order), len(among) - 1)]
    return np.where(among[at] == ids, at, -1)


@cache
def graph(world: World, splits: tuple[str, ...], config: GraphConfig) -> Graph:
    """What a model is fitted to: the edges of `splits`.

    With `train` alone, early stopping is on val; with both splits there is nothing to stop on.
    """
    names = pa.array([str(one) for one in world.videos])
    nodes = {"video_idx": np.arange(len(world)), "video_id": names}
    tables = {
        "users": pa.table({"user_idx": np.arange(len(world.users))}),
        "video_nodes": pa.table(
            {
                **nodes,
                "eligible": np.ones(len(world), dtype=np.bool_),
                "author_id": pa.nulls(len(world), pa.string()),
                "duration_ms": pa.nulls(len(world), pa.int64()),
            }
        ),
        "watch_edges": pa.concat_tables(_watches(world, split) for split in SPLITS),
        "video_features": pa.concat_tables(
            pa.table({"modality": [name] * len(world), "video_id": names, "vector": list(vectors)})
            for name, vectors in world.features.items()
        ),
        "modality_edges": pa.concat_tables(
            _nearest(name, vectors, config) for name, vectors in world.features.items()
        ),
        "user_edges": _renamed(
            pearson.lists(
                world.matrix(splits),
                config=pearson.Config(k=config.k_users, min_common=config.min_common),
            ),
            "user_idx",
        ),
    }
    graph = build_graph(tables, fit="trial")
    if splits == SPLITS:
        return replace(graph, early_stopping=None)
    return replace(graph, edges=graph.early_stopping.edges)


def _watches(world: World, split: str) -> pa.Table:
    """`watch_edges` of a split: every interaction is one positive viewing, all at one instant."""
    user, video = world.pairs[split].T
    ones, zeros = np.ones(len(user), dtype=np.int32), np.zeros(len(user), dtype=np.int64)
    return pa.table(
        {
            "split": ["train" if split == "train" else "validation"] * len(user),
            "user_idx": user.astype(np.int32),
            "video_idx": video.astype(np.int32),
            "weight": ones.astype(np.float64),
            "n_views": ones,
            "n_positive": ones,
            "undone": zeros.astype(np.bool_),
            "last_at": zeros.astype("datetime64[us]"),
        }
    )


def _nearest(modality: str, vectors: NDArray[np.float32], config: GraphConfig) -> pa.Table:
    """`modality_edges`: the exact nearest videos by cosine, if asked of centred vectors."""
    has = np.flatnonzero(np.any(vectors != 0, axis=1))
    some = vectors[has].astype(np.float64)
    if modality in config.centred:
        some = some - some.mean(axis=0)
    edges = cosine.lists(some, k=config.k_videos)
    edges = {**edges, "idx": has[edges["idx"]], "neighbour_idx": has[edges["neighbour_idx"]]}
    table = _renamed(edges, "video_idx")
    return table.append_column("modality", pa.array([modality] * len(table), pa.string()))


def _renamed(edges: Mapping[str, NDArray[Any]], node: str) -> pa.Table:
    return pa.table({node if name == "idx" else name: array for name, array in edges.items()})


def case(world: World, pairs: NDArray[np.int64], *, split: str, seen: Sequence[str]) -> Case:
    """Measure models of `train` on the given pairs; `seen` splits are masked."""
    train = world.matrix(["train"])
    right = quality.truth(
        pairs,
        history=np.diff(train.indptr).astype(np.int64),
        viewers=np.bincount(train.indices, minlength=len(world)),
        eligible=np.ones(len(world), dtype=np.bool_),
    )
    return Case(split, right, Knowledge(world.matrix(seen), train, right.eligible))


def configurations(model: str, budget: int) -> list[Trial]:
    """At most `budget` distinct configurations: the Config as it stands, then drawn ones."""
    given = {"base": _module(model).Config(), "graph": GraphConfig()}
    return tuning.configurations(model, SPACES.get(model, {}), budget=budget, **given)


def fit(world: World, trial: Trial, *, seed: int, splits: tuple[str, ...], stopped: bool) -> Run:
    """Fit a configuration; only with `stopped` can it see val to end its training."""
    given = graph(world, splits, GraphConfig(**trial.graph))
    given = given if stopped else replace(given, early_stopping=None)
    rng = tuning.generator(seed, trial.model)
    return tuning.fit(_module(trial.model), given, trial.config, rng)


def tune(world: World, model: str, *, budget: int, on: Case) -> list[Trial]:
    """Every configuration tried, the best one marked and given its epochs."""

    def attempt(trial: Trial, step: str) -> tuple[Run, float]:
        run = fit(world, trial, seed=tuning.SEED, splits=("train",), stopped=True)
        return run, _tell(trial, f"{step}, seed {tuning.SEED}", run, on)

    return [_stopped(one) for one in tuning.tune(configurations(model, budget), attempt)]


def _stopped(trial: Trial) -> Trial:
    """A chosen configuration is to train for the epochs it stopped at."""
    if not (trial.chosen and "epochs" in trial.config):
        return trial
    return replace(trial, config={**trial.config, "epochs": trial.report["epochs"]})


def final(
    world: World, trial: Trial, *, seeds: int, splits: tuple[str, ...], on: Case | None
) -> list[Run]:
    """The chosen configuration with each seed but tuning's, val out of sight; once if not random."""

    def one(seed: int) -> Run:
        run = fit(world, trial, seed=seed, splits=splits, stopped=False)
        _tell(trial, f"final on {'+'.join(splits)}, seed {seed}", run, on)
        return run

    return tuning.by_seed(one, range(tuning.SEED + 1, tuning.SEED + 1 + seeds))


def _tell(trial: Trial, step: str, run: Run, on: Case | None) -> float:
    """Log a fit; recall@20 on the case, if there is one."""
    base = {**tuning.as_json(GraphConfig()), **tuning.as_json(_module(trial.model).Config())}
    recall = quality.recall(quality.lists_of(run.fitted, on), on.truth) if on else float("nan")
    tuning.tell(trial, step, run, f", val recall@20 {recall:.4f}" if on else "", base=base)
    return recall


def _module(model: str) -> Any:
    return quality.hybrid if model == "hybrid" else registry.model(model)


def held_out(world: World, path: Path) -> tuple[NDArray[np.int64], int]:
    """The pairs of the test file that can be right, and how many cannot.

    Left out are doubles, videos that are not in the catalogue, and what train or val hold already.
    """
    pairs = world.places(pq.read_table(path, columns=["user_id", "item_id"]))
    given = np.concatenate([world.pairs[split] for split in SPLITS])
    known = set(map(tuple, given.tolist()))
    right = sorted({one for one in map(tuple, pairs.tolist()) if one[1] >= 0} - known)
    return np.array(right, dtype=np.int64).reshape(-1, 2), len(pairs) - len(right)


def main(arguments: Sequence[str] | None = None) -> None:
    """Tune, fit, measure, write."""
    asked = _parser().parse_args(arguments)
    out = tuning.begin(asked.out, PLOTS)
    world = read(asked.data)
    on = case(world, world.pairs["val"], split="val", seen=["train"])
    chosen = tuning.earlier(asked.tuned, asked.models) if asked.tuned else _tuned(world, asked, on)
    if asked.ablate:
        chosen = [*chosen, *_ablated(world, chosen, on)]
        tuning.save(chosen, out)
    runs = {
        one.name: final(world, one, seeds=asked.seeds, splits=("train",), on=on) for one in chosen
    }
    rows = [*measured(runs, on), *published()]
    notes = [f"Evaluated on val: {quality.sizes(on.truth)}."]
    _write(rows, chosen, out, preface=_preface(world, asked, chosen, notes))
    if asked.test:
        test_rows, note = _tested(world, asked, chosen, runs)
        _write(
            [*rows, *test_rows], chosen, out, preface=_preface(world, asked, chosen, [*notes, note])
        )
    logger.info("written to %s", out)


def _tuned(world: World, asked: argparse.Namespace, on: Case) -> list[Trial]:
    """Tune every model; what was tried is on disk after each."""
    tried: list[Trial] = []
    for model in asked.models:
        tried += tune(world, model, budget=asked.budget, on=on)
        tuning.save(tried, asked.out)
    return [one for one in tried if one.chosen]


def _ablated(world: World, chosen: Sequence[Trial], on: Case) -> list[Trial]:
    """The chosen preference_gcn with one thing changed at a time; each finds epochs of its own."""
    results = []
    for whole in (one for one in chosen if one.name == "preference_gcn"):
        for words, fields in ABLATIONS.items():
            if {**whole.config, **fields} == whole.config:
                continue
            config = {**whole.config, **fields, "epochs": None}
            trial = replace(whole, name=f"preference_gcn, {words}", config=config)
            run = fit(world, trial, seed=tuning.SEED, splits=("train",), stopped=True)
            recall = _tell(trial, f"seed {tuning.SEED}", run, on)
            trial = _stopped(replace(trial, recall=recall, report=dict(run.report)))
            results.append(trial)
    return results


def measured(runs: Mapping[str, Sequence[Run]], on: Case) -> list[Row]:
    """All figures of all fits on one case, and the seconds a fit took."""
    lists = {
        name: [quality.lists_of(run.fitted, on) for run in some] for name, some in runs.items()
    }
    seconds = {name: [run.seconds for run in some] for name, some in runs.items()}
    return quality.rows(BENCHMARK, on.split, lists, on.truth) + [
        row(BENCHMARK, name, "seconds", on.split, float(np.mean(some)), unit="s", seeds=len(some))
        for name, some in seconds.items()
    ]


def _tested(
    world: World, asked: argparse.Namespace, chosen: Sequence[Trial], runs: Mapping[str, Sequence[Run]]
) -> tuple[list[Row], str]:  # fmt: skip
    """Refit to train and val too, and only then open the test file."""
    refits = {
        one.name + REFIT: final(world, one, seeds=asked.seeds, splits=SPLITS, on=None)
        for one in chosen
    }
    pairs, n_left_out = held_out(world, asked.test)
    on = case(world, pairs, split="test", seen=SPLITS)
    later = replace(on, known=replace(on.known, positives=on.known.seen))
    lists = {
        name: [quality.lists_of(run.fitted, given) for run in some]
        for group, given in ((runs, on), (refits, later))
        for name, some in group.items()
    }
    note = f"Evaluated on test: {quality.sizes(on.truth)}; {n_left_out} rows of the file left out."
    return quality.rows(BENCHMARK, "test", lists, on.truth), note


def published() -> list[Row]:
    """What others have published, on test."""
    return [
        row(BENCHMARK, f"published: {name}", metric, "test (published)", value, unit="share")
        for name, pair in PUBLISHED.items()
        for metric, value in zip(quality.PAIRED, pair, strict=True)
    ]


def _write(rows: Sequence[Row], chosen: Sequence[Trial], out: Path, *, preface: str) -> None:
    """Tables and plots."""
    _draw(rows, chosen, out)
    report.write(rows, out, preface=preface)


def _draw(rows: Sequence[Row], chosen: Sequence[Trial], out: Path) -> None:
    """Bars of recall@20 beside what was published; learning curves of the chosen trials."""
    for split in ("val", "test"):
        shown = {
            str(one["name"]): float(one["value"])
            for one in rows
            if one["benchmark"] == BENCHMARK and one["metric"] == "recall@20"
            and one["split"] in (split, "test (published)")
        }  # fmt: skip
        if len(shown) > len(PUBLISHED):
            title = f"TikTok, recall@20: ours on {split}, published (grey) on test"
            report.bars(out / f"recall-{split}.png", title, shown, unit="recall@20", scale="linear")
    for what, label in (("losses", "loss"), ("recalls", "val recall@20")):
        curves = {
            one.name: (range(1, 1 + len(one.report[what])), one.report[what])
            for one in chosen
            if one.report.get(what)
        }
        title = f"{label} while tuning, chosen configurations"
        report.lines(out / f"{what}.png", title, curves, x="epoch", y=label, scale="linear")


def _preface(
    world: World, asked: argparse.Namespace, chosen: Sequence[Trial], notes: Sequence[str]
) -> str:
    """What was measured, how and with what."""
    sizes = ", ".join(f"{len(pairs):,} {split}" for split, pairs in world.pairs.items())
    how = "taken from an earlier run" if asked.tuned else f"at most {asked.budget} each, one seed"
    lines = [
        "# TikTok (split of MMSSL and DiffMM)",
        f"{len(world.users):,} users, {len(world):,} videos, interactions: {sizes}.",
        f"All videos ranked, seen ones masked, ties by hash of the id. Configurations: {how},"
        " chosen by val recall@20; then fitted with other seeds"
        f" ({asked.seeds}; 1 where nothing is random) that cannot see val. val figures flatter by"
        " the choice among configurations. Intervals: 95 %, bootstrap over users of the mean over"
        f" seeds. Models marked * chose their epoch by test recall. {tuning.packages()}.",
        *notes,
        "Chosen:",
        tuning.listed(chosen),
    ]
    return "\n\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = tuning.parser("tests.benchmarks.tiktok", str(__doc__), MODELS, budget=12)
    words = "also the chosen preference_gcn with one thing changed at a time (spaces.py)"
    parser.add_argument("--ablate", action="store_true", help=words)
    text = "Parquet of (user_id, item_id), opened when all is fitted"
    parser.add_argument("--test", type=Path, help=text)
    return parser


if __name__ == "__main__":
    main()
