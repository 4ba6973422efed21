"""Cold videos on TikTok: `python -m tests.benchmarks.cold --data ../shared/data/tiktok --out DIR`.

The data of `tests.benchmarks.tiktok`. A tenth of the videos that light users have is drawn, and every interaction of
`train` with them is taken away, so that the fits know of them what an encoder says and nothing else. What light users
(at most four videos) had of them is then looked for in their lists of 20: recall of cold videos. Beside it stands the
recall of `val`, which says what the places of new videos cost. Users whose only videos were cold are left out.

* sources: each one's own 20 best videos, warm and cold together; `..., new only`: its best of the cold ones, a bound.
* `closed form`: all sources blended by the recipe's priors, as far as it has the models.
* `closed form, n new`: the same with n of the 20 places given to new videos, as `[candidates.exploration]` draws them;
  `by preference_gcn`: its vectors say what is like the user's history, in place of those of `content`.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microrec.candidates.lists import exploration, fill, ladder
from microrec.candidates.ranking import closed_form
from microrec.candidates.retrieval import exact
from microrec.config import recipe
from microrec.core.fitted import Embeddings
from microrec.evaluation import ranking
from tests.benchmarks import quality, report, tiktok, tuning
from tests.benchmarks.quality import Case, Listed
from tests.benchmarks.tiktok import World

BENCHMARK = "cold"
MODELS = ("popularity", "content", "video_neighbours", "rp3beta", "ease", "preference_gcn")
SHARE = 0.1
LIGHT = 4
K = 20
DEPTH = 200
CLOSED = "closed form"

logger = logging.getLogger(__name__)


def without(
    world: World, rng: np.random.Generator
) -> tuple[World, NDArray[np.int64], NDArray[np.int64]]:
    """Make some videos cold.

    Args:
        world: the data.
        rng: draws the videos.

    Returns:
        The world without their interactions of `train`; the videos; and the pairs of light users that were taken away,
        of those who have another video left. [n_pairs, 2]
    """
    pairs = world.pairs["train"]
    count = np.bincount(pairs[:, 0], minlength=len(world.users))
    light = count[pairs[:, 0]] <= LIGHT
    touched = np.unique(pairs[light, 1])
    cold = np.sort(rng.choice(touched, round(SHARE * len(touched)), replace=False))
    gone = np.isin(pairs[:, 1], cold)
    left = np.bincount(pairs[~gone, 0], minlength=len(world.users))
    held = pairs[gone & light & (left[pairs[:, 0]] > 0)]
    later = world.pairs["val"][~np.isin(world.pairs["val"][:, 1], cold)]
    return replace(world, pairs={"train": pairs[~gone], "val": later}), cold, held


class Fits:
    """The fitted models of a seed, and lists made of them."""

    def __init__(self, world: World, *, seed: int) -> None:
        """Fit every model to `train` by its defaults, stopped on `val`."""
        self.fitted = {}
        for name in MODELS:
            trial = tiktok.configurations(name, 1)[0]
            run = tiktok.fit(world, trial, seed=seed, splits=("train",), stopped=True)
            logger.info("%s, seed %d: %.0f s", name, seed, run.seconds)
            self.fitted[name] = run.fitted
        self.world = world

    def lists(self, on: Case, cold: NDArray[np.int64], *, seed: int) -> dict[str, Listed]:
        """Return lists of 20 by name. [n_evaluated, 20] each.

        Args:
            on: who is asked.
            cold: video_idx without interactions.
            seed: of the exploration.
        """
        asks = {"users": on.truth.users, "config": exact.Config()}
        new = np.isin(np.arange(len(self.world)), cold)
        only = replace(on.known, eligible=on.known.eligible & new)
        proposed = {
            name: exact.best(fitted, **asks, known=on.known, k=DEPTH)
            for name, fitted in self.fitted.items()
        }
        named = {name: _first(rows, on) for name, rows in proposed.items()}
        for name in ("content", "preference_gcn"):
            rows = exact.best(self.fitted[name], **asks, known=only, k=K)
            named[f"{name}, new only"] = _first(rows, on)
        named[CLOSED] = self._blended(proposed, on, None)
        for source in ("content", "preference_gcn"):
            for places in (1, 2, 4):
                config = exploration.Config(places=places, every=K // places, source=source)
                discovery = self._discovery(config, on, seed=seed)
                label = "" if source == "content" else f", by {source}"
                named[f"{CLOSED}, {places} new{label}"] = self._blended(proposed, on, discovery)
        return named

    def _blended(
        self, proposed: Mapping[str, pa.Table], on: Case, discovery: fill.Discovery | None
    ) -> Listed:
        weights = recipe.current().section("candidates.blend", closed_form.Config)
        popular = np.argsort(-np.diff(on.known.positives.tocsc().indptr), kind="stable")
        rungs = {name: np.empty(0, np.int64) for name in ladder.RUNGS} | {"popular": popular}
        rows = fill.select(
            proposed,
            users=on.truth.users,
            known=on.known,
            ladder=ladder.climb(rungs),
            k=K,
            shaping=fill.Shaping(weights, discovery=discovery),
        )
        return _first(rows, on)

    def _discovery(self, config: exploration.Config, on: Case, *, seed: int) -> fill.Discovery:
        likers, viewers = (
            np.diff(each.tocsc().indptr) for each in (on.known.positives, on.known.seen)
        )
        new = exploration.newcomers(likers, viewers, on.known.eligible, config=config)
        rng = np.random.default_rng([seed, *b"exploration"])
        order = rng.permutation(np.flatnonzero(new))
        model = self.fitted[config.source]
        assert isinstance(model, Embeddings)
        uniforms = rng.random(len(self.world.users))
        return fill.Discovery(config, order, uniforms, model.user, model.video[order])


def _first(rows: pa.Table, on: Case) -> Listed:
    """The first 20 of each evaluated user."""
    return quality.filled(ranking.matrix(rows, on.truth, k=K), on)


def measure(world: World, *, seed: int) -> dict[str, tuple[quality.Lists, Case]]:
    """Draw cold videos, fit, and list for those who had them and for those of `val`.

    Args:
        world: the data.
        seed: of the draw and of the fits.

    Returns:
        Lists and what is right, by the name of the group.
    """
    warm, cold, held = without(world, np.random.default_rng(seed))
    logger.info("%d cold videos, %d pairs of light users", len(cold), len(held))
    fits = Fits(warm, seed=seed)
    groups = {}
    for group, pairs in (("cold", held), ("val", warm.pairs["val"])):
        on = tiktok.case(warm, pairs, split=group, seen=["train"])
        groups[group] = (
            {name: [each] for name, each in fits.lists(on, cold, seed=seed).items()},
            on,
        )
    return groups


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every seed and write the pooled table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.cold",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="the TikTok files")
    parser.add_argument(
        "--seeds", type=int, default=2, help="draws of cold videos, each with fits of its own"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    asked = parser.parse_args(arguments)
    out = tuning.begin(asked.out, ())
    world = tiktok.read(asked.data)
    by_seed = [measure(world, seed=tuning.SEED + 1 + seed) for seed in range(asked.seeds)]
    rows = []
    for group in ("cold", "val"):
        figures = quality.pooled(
            [quality.measured(lists, on.truth) for lists, on in (each[group] for each in by_seed)]
        )
        pairs = [
            (name, other)
            for other in ("content", CLOSED)
            for name in figures[""].values
            if name != other
        ]
        rows += quality.told(BENCHMARK, group, figures[""], pairs=pairs, spread=False)
    report.write(rows, out, preface=(__doc__ or "").split("\n", 2)[2].strip())
    logger.info("written to %s", out)


if __name__ == "__main__":
    main()
