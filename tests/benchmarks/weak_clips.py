"""The clip that bores, by FRAME with its clip vectors and without: `python -m tests.benchmarks.weak_clips --out DIR`.

Planted worlds with films (`microrec world --media`): one quarter of each film is off its theme (grey, a shape that
stands still), and whoever leaves a film leaves it there more often than not. Films are rendered, decoded and cut as a
night cuts them, 5 s each, and `clip_interest` is fitted to the viewings twice, with the clips' vectors and without, all
else equal: the same draws, and the vectors of whole films in both. A fifth of the films is shown to nobody before
(`cold`), a fifth has its first `LIGHT` viewings alone (`light`); the others are `warm`.

* `weak clip first`: of a video, whether the clip of the greatest hazard lies in the planted quarter. Videos of one
  clip, or all of whose clips lie in it, are left out. The hazard is that of the mean of all users.
* `exit hr@1`: of the viewings that left a video and were learned from by nobody, whether they left in the clip where
  most viewers were expected to; and the same of those that went past the first clip, among the later ones.
* `log loss`: of the clips that those viewings reached, for the user who reached them.

Beside: chance; the place in the video alone; of exits the clip of each video that most of them were in, which nobody
can know before. Intervals: 95 %, bootstrap over videos, differences paired.
"""

import argparse
import datetime as dt
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from microrec.config import recipe
from microrec.core.pairs import positions
from microrec.features import files
from microrec.features.files import Cuts
from microrec.models.clip import clip_interest
from microrec.models.inputs.clip_arrays import ClipEdges
from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.synth import media
from microrec.synth.population import N_CLIPS
from microrec.synth.world import Config, World, generate
from tests.benchmarks import quality, report
from tests.benchmarks.features import catalogue
from tests.benchmarks.report import Row, row
from tests.worlds import clips as clip_tables
from tests.worlds import logs

BENCHMARK = "weak clips"
WITH, WITHOUT, DIFFERENCE = "with clip vectors", "without", "with - without"
PLACE, CHANCE, BEST = "limit:place alone", "limit:chance", "limit:best clip of each"
FIRST, HIT, LOSS = "weak clip first", "exit hr@1", "log loss"
HIT_LATER = "exit hr@1 past the first clip"
COLD, LIGHT_KIND, WARM = "cold", "light", "warm"
LIGHT = 5
"""Viewings of a lightly watched video that are learned from."""
EARLY_MS, COMPLETED = 5_000, 0.95

Doubles = NDArray[np.float64]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Case:
    """A world as a fit sees it, and what is known of it besides.

    Shapes:
        kind: [n_videos]; weak: [n_clips]
    """

    graph: Graph
    kind: NDArray[np.str_]
    weak: NDArray[np.bool_]
    """Whether a clip's middle lies in the planted quarter."""
    held: ClipEdges
    """Clips that were reached by viewings that nobody learns from."""


def looked_at(world: World, videos: pa.Table, seed: int, folder: Path) -> dict[str, dict]:
    """Vectors of each film's clips and of the whole, by video."""
    made = {}
    length = dict(
        zip(videos["video_id"].to_pylist(), videos["duration_ms"].to_pylist(), strict=True)
    )
    for number, (name, film) in enumerate(sorted(world.films.items())):
        video = Path(name).stem
        path = folder / "film.mp4"
        path.write_bytes(media.render(film, np.random.default_rng([seed, number])))
        job = files.job(
            files.Config(), paths={"video": str(path)}, modalities=[files.VISUAL, files.CLIPS],
            duration_ms=length[video],
        )  # fmt: skip
        made[video] = files.make(job)
    return made


def viewings(world: World, videos: pa.Table) -> pd.DataFrame:
    """The last viewing of each pair and day, in the order of time, with `n_through` of a video's `n_clips`."""
    parts = [part.rows for part in world.parts if part.table == "raw_interactions" and part.rows]
    log = (
        pa.concat_tables(parts)
        .select(["user_id", "video_id", "started_at", "watch_ms"])
        .to_pandas()
    )
    log = log.drop_duplicates().sort_values(["started_at", "user_id"])
    position = {video: number for number, video in enumerate(videos["video_id"].to_pylist())}
    log["user_idx"] = log["user_id"].factorize(sort=True)[0]
    log["video_idx"] = log["video_id"].map(position)
    log["day"] = log["started_at"].astype("int64") // logs.DAY_US
    log = log.drop_duplicates(["user_idx", "video_idx", "day"], keep="last")
    duration = np.array(videos["duration_ms"].to_pylist())[log["video_idx"]]
    cuts = Cuts()
    log["n_clips"] = np.minimum(-(-duration // cuts.clip_ms), cuts.most_clips)
    through = np.minimum(log["watch_ms"] // cuts.clip_ms, log["n_clips"] - 1)
    log["n_through"] = np.where(log["watch_ms"] >= COMPLETED * duration, log["n_clips"], through)
    return log[log["watch_ms"] > 0].reset_index(drop=True)


def kinds_of(n_videos: int, rng: np.random.Generator) -> NDArray[np.str_]:
    """A fifth of the videos cold, a fifth light, by chance."""
    kind = np.full(n_videos, WARM, dtype=f"U{len(LIGHT_KIND)}")
    drawn = rng.permutation(n_videos)
    kind[drawn[: n_videos // 5]] = COLD
    kind[drawn[n_videos // 5 : 2 * n_videos // 5]] = LIGHT_KIND
    return kind


def reached(log: pd.DataFrame) -> pd.DataFrame:
    """One row per clip that a viewing reached: columns of `clip_edges`, without the part."""
    n = log["n_clips"].to_numpy()
    n_through = log["n_through"].to_numpy()
    viewing, clip_no = positions(np.minimum(n_through + 1, n))
    through = clip_no < n_through[viewing]
    early = log["watch_ms"].to_numpy()[viewing] < EARLY_MS
    columns = ["user_idx", "video_idx", "day"]
    return (
        log[columns]
        .iloc[viewing]
        .assign(
            clip_no=clip_no,
            sign=np.where(through, 1, -1),
            weight=np.where(through, 1.0 / n[viewing], np.where(early, 1.0, 0.5)),
        )
    )


def tables_of(
    videos: pa.Table, learned: pd.DataFrame, n_users: int, made: Mapping[str, dict]
) -> dict[str, pa.Table]:
    """Tables of a night whose last two days are the validation and the held-out day."""
    n_videos = len(videos)
    ids = videos["video_id"].to_pylist()
    visual = np.array([made[video][files.VISUAL] for video in ids], dtype=np.float32)
    likes = np.zeros((n_users, n_videos), dtype=np.bool_)
    known = logs.tables(dict.fromkeys(logs.PARTS, likes), vectors={files.VISUAL: visual})
    ends = [[end for _, end, _ in made[video][files.CLIPS]] for video in ids]
    nodes = known["video_nodes"].append_column("clip_ends_ms", pa.array(ends, pa.list_(pa.int64())))
    names = nodes["video_id"].to_pylist()
    place = nodes.schema.get_field_index("duration_ms")
    nodes = nodes.set_column(place, "duration_ms", videos["duration_ms"])
    rows = [
        (name, number, start, end, vector)
        for name, video in zip(names, ids, strict=True)
        for number, (start, end, vector) in enumerate(made[video][files.CLIPS])
    ]
    fields = [[row[column] for row in rows] for column in range(len(clip_tables.FEATURES))]
    last = int(learned["day"].max())
    split = np.where(learned["day"] == last, "validation", "train")
    watched_on = [dt.date(1970, 1, 1) + dt.timedelta(days=int(day)) for day in learned["day"]]
    edges = learned.assign(split=split, watched_on=watched_on)[clip_tables.EDGES.names]
    return {
        **known,
        "video_nodes": nodes,
        "clip_edges": pa.Table.from_pandas(edges, schema=clip_tables.EDGES, preserve_index=False),
        "clip_features": pa.table(fields, schema=clip_tables.FEATURES),
    }


def case(seed: int, n_users: int, n_videos: int, folder: Path) -> Case:
    """A world, its films looked at."""
    config = Config(
        users=n_users, videos=n_videos, media=True, dirt_per_kind=0, no_duration_share=0.0
    )
    world = generate(config, np.random.default_rng(seed))
    videos = catalogue(world)
    made = looked_at(world, videos, seed, folder)
    log = viewings(world, videos)
    kind = kinds_of(n_videos, np.random.default_rng([seed, 2]))
    order = log.groupby("video_idx").cumcount().to_numpy()
    mine = kind[log["video_idx"]]
    is_held = (mine == COLD) | ((mine == LIGHT_KIND) & (order >= LIGHT))
    is_held |= (log["day"] == log["day"].max()).to_numpy()
    tables = tables_of(videos, reached(log[~is_held]), int(log["user_idx"].max()) + 1, made)
    graph = build_graph(tables, fit="trial")
    clips = clip_interest.clips_of(graph)
    held = reached(log[is_held])
    first = clips.first[held["video_idx"].to_numpy()]
    edges = ClipEdges(
        user_idx=held["user_idx"].to_numpy(np.int64),
        clip=first + held["clip_no"].to_numpy(np.int64),
        day=held["day"].to_numpy(np.int64),
        through=held["sign"].to_numpy() > 0,
        weight=held["weight"].to_numpy(np.float64),
    )
    planted = np.array([world.truth.weak_clip[video] for video in videos["video_id"].to_pylist()])
    middle = (clips.start_ms + clips.end_ms) / 2
    quarter = middle * N_CLIPS // graph.duration_ms[clips.video]
    return Case(graph, kind, quarter == planted[clips.video], edges)


def fitted(graph: Graph, seed: int) -> clip_interest.ClipInterest:
    """A network of the recipe's configuration."""
    config = recipe.current().section("models.clip_interest", clip_interest.Config)
    trained = clip_interest.fit(graph, config, np.random.default_rng([seed, 3]))
    logger.info("epochs %s", trained.report.get("epochs"))
    return clip_interest.restore(graph, config, trained.parameters)


def without_vectors(graph: Graph) -> Graph:
    """The same graph whose clips have no vectors."""
    clips = clip_interest.clips_of(graph)
    bare = np.zeros((clips.n_clips, 0), np.float32)
    return replace(graph, clips=replace(clips, vector=bare))


def hazard_of(network: clip_interest.ClipInterest, graph: Graph) -> Doubles:
    """Hazard of every clip, of all users' mean retention. [n_clips]."""
    retention = clip_interest.audience(network, graph, [np.arange(graph.n_users)])[0]
    clips = clip_interest.clips_of(graph)
    before = clips.before(retention, first=1.0)
    return 1.0 - retention / np.maximum(before, 1e-12)


def exits_of(hazard: Doubles, graph: Graph) -> Doubles:
    """Chance to reach a clip and leave in it. [n_clips]."""
    clips = clip_interest.clips_of(graph)
    ln = np.log1p(-np.clip(hazard, 0.0, 1.0 - 1e-9))
    total = np.cumsum(ln) - ln
    return np.exp(total - total[clips.first[clips.video]]) * hazard


def by_place(of: Case) -> Doubles:
    """Hazard of each clip's place, of what is learned from. [n_clips]."""
    clips = clip_interest.clips_of(of.graph)
    edges = clips.edges
    number = clips.number[edges.clip]
    size = int(clips.number.max()) + 1
    left = np.bincount(number[~edges.through], minlength=size)
    hazard = (left + 1.0) / (np.bincount(number, minlength=size) + 5.0)
    return hazard[clips.number]


def weak_first(hazard: Doubles, of: Case) -> Doubles:
    """Whether each video's clip of the greatest hazard is in the planted quarter, NaN of those left out. [n_videos]."""
    clips = clip_interest.clips_of(of.graph)
    n_weak = np.add.reduceat(of.weak.astype(np.int64), clips.first[:-1])
    n = np.diff(clips.first)
    best = np.lexsort((-hazard, clips.video))[clips.first[:-1]]
    return np.where((n_weak > 0) & (n_weak < n), of.weak[best], np.nan)


def exits_held(of: Case) -> Doubles:
    """How many of the held viewings left in each clip. [n_clips]."""
    clip = of.held.clip[~of.held.through]
    return np.bincount(clip, minlength=len(of.weak)).astype(np.float64)


def exit_hits(exits: Doubles, of: Case, *, first: int) -> tuple[NDArray[np.int64], Doubles]:
    """Video of each held exit, and whether it was in the likeliest clip, of the clips from one on.

    Videos with one such clip are left out.
    """
    clips = clip_interest.clips_of(of.graph)
    counts = np.where(clips.number >= first, exits, -1.0)
    best = np.lexsort((-counts, clips.video))[clips.first[:-1]]
    clip = of.held.clip[~of.held.through]
    video = clips.video[clip]
    counted = (np.diff(clips.first)[video] > first + 1) & (clips.number[clip] >= first)
    return video[counted], (best[video] == clip)[counted].astype(np.float64)


def told(name: str, metric: str, video: NDArray[np.int64], value: Doubles) -> pd.DataFrame:
    """Values of videos, several of one video as their sum and number."""
    frame = pd.DataFrame({"video": video, "sum": value, "n": 1}).groupby("video").sum()
    return frame.reset_index().assign(name=name, metric=metric)


def of_networks(of: Case, seed: int) -> tuple[dict[str, Doubles], list[pd.DataFrame]]:
    """Hazards of both fits, and the log loss of the clips that held viewings reached."""
    clips = clip_interest.clips_of(of.graph)
    hazards, losses = {}, []
    for name, graph in ((WITH, of.graph), (WITHOUT, without_vectors(of.graph))):
        network = fitted(graph, seed)
        hazards[name] = hazard_of(network, graph)
        stays = clip_interest.logits(network, graph, of.held.user_idx, of.held.clip)
        signed = np.where(of.held.through, -stays, stays).astype(np.float64)
        losses.append(told(name, LOSS, clips.video[of.held.clip], np.logaddexp(0.0, signed)))
    return hazards, losses


def measure(seed: int, n_users: int, n_videos: int) -> pd.DataFrame:
    """Values of a world's videos: name, metric, kind, video, sum, n."""
    with tempfile.TemporaryDirectory(prefix="microrec-films-") as folder:
        of = case(seed, n_users, n_videos, Path(folder))
    rng = np.random.default_rng([seed, 4])
    hazards, rows = of_networks(of, seed)
    exits = {name: exits_of(hazard, of.graph) for name, hazard in hazards.items()}
    hazards |= {PLACE: by_place(of), CHANCE: rng.random(len(of.weak))}
    exits |= {PLACE: exits_of(hazards[PLACE], of.graph), CHANCE: hazards[CHANCE]}
    exits |= {BEST: exits_held(of)}
    for name, hazard in hazards.items():
        first = weak_first(hazard, of)
        kept = np.flatnonzero(~np.isnan(first))
        rows.append(told(name, FIRST, kept, first[kept]))
    for first, metric in enumerate((HIT, HIT_LATER)):
        for name, chances in exits.items():
            rows.append(told(name, metric, *exit_hits(chances, of, first=first)))
    table = pd.concat(rows, ignore_index=True)
    return table.assign(kind=of.kind[table["video"]], who=[f"{seed} {v}" for v in table["video"]])


def results(measured: pd.DataFrame, n_worlds: int) -> list[Row]:
    """Rows of all worlds: means with intervals, and paired differences."""
    rows = []
    for (kind, metric), part in measured.groupby(["kind", "metric"]):
        sums = part.pivot(index="who", columns="name", values="sum")
        weight = part.groupby("who")["n"].first().reindex(sums.index).to_numpy(np.float64)
        sums[DIFFERENCE] = sums[WITH] - sums[WITHOUT]
        low, mean, high = ratios(sums.to_numpy(), weight)
        rows += [
            row(BENCHMARK, name, metric, f"{kind} ({len(sums)} videos)", mean[at], unit="",
                low=low[at], high=high[at], seeds=n_worlds)
            for at, name in enumerate(sums.columns)
        ]  # fmt: skip
    return rows


def ratios(sums: Doubles, weight: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Sums over weights with their 95 % intervals, videos drawn with replacement. [n_columns] each."""
    totals = np.column_stack([sums, weight])
    drawn = quality.resampled(totals, generator=np.random.default_rng(1))
    low, high = np.percentile(drawn[:, :-1] / drawn[:, -1:], [2.5, 97.5], axis=0)
    return low, sums.sum(axis=0) / weight.sum(), high


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--users", type=int, default=400)
    parser.add_argument("--videos", type=int, default=320)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    worlds = [measure(seed, arguments.users, arguments.videos) for seed in arguments.seeds]
    report.write(results(pd.concat(worlds), len(worlds)), arguments.out)


if __name__ == "__main__":
    main()
