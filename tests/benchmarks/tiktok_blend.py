"""The learned blend on TikTok: `python -m tests.benchmarks.tiktok_blend --help`.

    python -m tests.benchmarks.tiktok_blend --data ../shared/data/tiktok --tuned FILE --seeds 3 --out DIR

The data of `tests.benchmarks.tiktok`, where nothing has a time: no earlier night can teach the blend.
Two things stand in its place; the sources are fitted to `train` alone in both.

* `taught by other users`: the users of `val` are dealt into `PARTS`; the blend orders the candidates of
  each part as the videos held out from the users of the other parts teach it. It sees no video of a user
  it is judged on. It is told nothing of videos but what the sources say of them, which can only speak for
  a video: else it would learn which videos `val` likes. `..., places` shows that, for warning only.
* `taught by train`: one training video, drawn, of each user who has two to `--most` is held out, twice;
  the sources are fitted to the rest and asked. The blend sees nothing of `val`.

The sources' configurations are those of `--tuned` (chosen on `val`, so the sources' figures flatter, and
so do those of the blends), else the defaults.
"""

import argparse
import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from microrec.candidates.ranking import candidate_union, closed_form, learned_blend
from microrec.candidates.retrieval import exact
from microrec.config import recipe
from microrec.core import fits
from microrec.evaluation import ranking
from tests.benchmarks import quality, report, tiktok, tuning
from tests.benchmarks.quality import Case
from tests.benchmarks.tiktok import World
from tests.benchmarks.tuning import Trial

BENCHMARK = "tiktok blend"
MODELS = tuple(one for one in tiktok.MODELS if one not in ("hybrid", "mmgcn"))
FOLDS = 2
PARTS = 5
K = 200
"""Length of a source's list."""
NO_DAY = dt.date(2000, 1, 1)
CLOSED = "closed form"
BY_USERS, BY_TRAIN = "blend taught by other users", "blend taught by train"
LEAK = "blend taught by other users, places"

logger = logging.getLogger(__name__)


def fold(world: World, rng: np.random.Generator, *, most: int) -> World:
    """The same world with one training video of each user of few in place of `val`.

    Args:
        world: the data.
        rng: draws the videos.
        most: users with more training videos have none held out.
    """
    pairs = world.pairs["train"]
    pairs = pairs[np.lexsort((rng.random(len(pairs)), pairs[:, 0]))]
    count = np.bincount(pairs[:, 0], minlength=len(world.users))
    first = np.diff(pairs[:, 0], prepend=-1) > 0
    held = first & (count[pairs[:, 0]] >= 2) & (count[pairs[:, 0]] <= most)
    return replace(world, pairs={"train": pairs[~held], "val": pairs[held]})


def proposed(world: World, trials: Sequence[Trial], on: Case, *, seed: int) -> dict[str, pa.Table]:
    """What every source, fitted to `train`, proposes to the users of the case."""
    given = {"users": on.truth.users, "known": on.known, "k": K, "config": exact.Config()}
    results = {}
    for trial in trials:
        run = tiktok.fit(world, trial, seed=seed, splits=("train",), stopped=False)
        results[trial.name] = exact.best(run.fitted, **given)
        recall = quality.recall(quality.lists_of(run.fitted, on), on.truth)
        logger.info("%s, seed %d: recall@20 %.4f, %.0f s", trial.name, seed, recall, run.seconds)
    return results


def pairs_of(
    sources: Mapping[str, pa.Table], on: Case, *, places: bool = False
) -> learned_blend.Pairs:
    """What the blend reads; nothing has a time, so no day is the last and nothing has an age.

    Args:
        sources: Candidates by source.
        on: Has what the fits know.
        places: Also each video's place in popularity.
    """
    n_videos = on.known.n_videos
    none = pa.array([], pa.int32())
    edges = pa.table({"split": pa.array([], pa.string()), "video_idx": none, "n_positive": none})
    times = pa.nulls(n_videos, pa.timestamp("us", "UTC"))
    videos = pa.table({"video_idx": np.arange(n_videos), "published_at": times})
    facts = learned_blend.facts(
        edges, videos, known=on.known, fit="trial", until=fits.horizon(NO_DAY, "trial")
    )
    if not places:
        facts = replace(facts, video=np.zeros_like(facts.video))
    return learned_blend.pairs(
        sources,
        facts=facts,
        closed=recipe.current().section("candidates.blend", closed_form.Config),
    )


def taught(
    world: World, trials: Sequence[Trial], *, seed: int, most: int
) -> list[learned_blend.Examples]:
    """What the folds of a world teach."""
    config, results = recipe.current().section("candidates.hybrid", learned_blend.Config), []
    for number in range(FOLDS):
        rng = np.random.default_rng([seed, number])
        inner = fold(world, rng, most=most)
        on = tiktok.case(inner, inner.pairs["val"], split=f"fold {number}", seen=["train"])
        pairs = pairs_of(proposed(inner, trials, on, seed=seed), on)
        right = learned_blend.liked(pairs, on.truth.users[on.truth.row], on.truth.video)
        results.append(learned_blend.examples(pairs, right, config=config, rng=rng))
    return results


def by_other_users(pairs: learned_blend.Pairs, on: Case, *, seed: int) -> pa.Table:
    """The learned order of each part of the users, as the other parts teach it."""
    config = recipe.current().section("candidates.hybrid", learned_blend.Config)
    rng = np.random.default_rng(seed)
    part = rng.integers(PARTS, size=len(on.known.history))[pairs.user]
    right = learned_blend.liked(pairs, on.truth.users[on.truth.row], on.truth.video)
    some = [of(pairs, part == number) for number in range(PARTS)]
    told = [
        learned_blend.examples(one, right[part == number], config=config, rng=rng)
        for number, one in enumerate(some)
    ]
    results = []
    for number, one in enumerate(some):
        others = [taught for other, taught in enumerate(told) if other != number]
        results.append(ordered(one, others))
    return pa.concat_tables(results)


def of(pairs: learned_blend.Pairs, kept: np.ndarray) -> learned_blend.Pairs:
    """Some of the pairs."""
    return replace(pairs, user=pairs.user[kept], video=pairs.video[kept], values=pairs.values[kept])


def ordered(pairs: learned_blend.Pairs, examples: Sequence[learned_blend.Examples]) -> pa.Table:
    """The order that examples teach.

    Raises:
        SystemExit: they are too few.
    """
    config = recipe.current().section("candidates.hybrid", learned_blend.Config)
    blend = learned_blend.fit(examples, pairs.sources, config=config)
    if blend is None:
        raise SystemExit("too few examples to learn from")
    return learned_blend.order(blend, pairs, k=quality.K)


def lists(
    world: World, trials: Sequence[Trial], on: Case, *, seed: int, most: int
) -> dict[str, quality.Listed]:
    """The lists of every source and of all blends, filled up alike."""
    sources = proposed(world, trials, on, seed=seed)
    pairs = pairs_of(sources, on)
    closed = pairs.values[:, pairs.names.index(learned_blend.CLOSED_FORM)]
    orders = {
        **sources,
        CLOSED: candidate_union.by_score(pairs.user, pairs.video, closed, k=quality.K),
        BY_USERS: by_other_users(pairs, on, seed=seed),
        LEAK: by_other_users(pairs_of(sources, on, places=True), on, seed=seed),
    }
    if most:
        orders[BY_TRAIN] = ordered(pairs, taught(world, trials, seed=seed, most=most))
    return {
        name: quality.filled(ranking.matrix(rows, on.truth, k=quality.K), on)
        for name, rows in orders.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, learn, measure, write."""
    asked = _parser().parse_args(arguments)
    out = tuning.begin(asked.out, ())
    world = tiktok.read(asked.data)
    on = tiktok.case(world, world.pairs["val"], split="val", seen=["train"])
    known = {one.name: one for one in tuning.earlier(asked.tuned, asked.models)}
    trials = [known.get(name) or tiktok.configurations(name, 1)[0] for name in asked.models]
    by_seed = [
        lists(world, trials, on, seed=tuning.SEED + 1 + seed, most=asked.most)
        for seed in range(asked.seeds)
    ]
    together = {name: [one[name] for one in by_seed] for name in by_seed[0]}
    rows = quality.rows(BENCHMARK, on.split, together, on.truth)
    preface = "\n\n".join(
        [
            "# The learned blend on TikTok (split of MMSSL and DiffMM)",
            f"Evaluated on val: {quality.sizes(on.truth)}. {asked.seeds} seeds, of the fits and of"
            f" what is dealt and held out. Train teaches by users with at most {asked.most} videos."
            f" {tuning.packages()}.",
            tuning.listed(trials),
        ]
    )
    report.write(rows, out, preface=preface)
    logger.info("written to %s", out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks.tiktok_blend",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="the TikTok files")
    add("--models", nargs="+", default=[*MODELS], choices=MODELS)
    add(
        "--tuned",
        type=Path,
        nargs="+",
        default=[],
        help="tuning.json of runs of tests.benchmarks.tiktok",
    )
    add("--seeds", type=int, default=3)
    add(
        "--most",
        type=int,
        default=20,
        help="training videos of a user that teaches, at most; 0: train does not teach",
    )
    add("--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    main()
