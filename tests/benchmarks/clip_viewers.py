"""Of the viewers of one clip, who left and who stayed: `python -m tests.benchmarks.clip_viewers --help`.

    python -m tests.benchmarks.clip_viewers --data ../shared/data/kuairand_pure --through 2022-05-05 --out DIR

Models are fitted to the days before a night's held-out day (`tests.benchmarks.kuairand`, no Spark). Of
everybody who left in a clip on that day, the figure is the share of those who stayed in the same clip and day
whom the model thought likelier to stay, equal scores half: an AUC within clips over users. Whatever is the same
for all viewers of a clip, its place, its video, how many leave, scores .5 by construction. `warm`: viewers who
had reached `WARM` clips or more before, alone. Beside it the log loss of the clips that were reached.

* `user`: how often a user has left so far against what clips of these places expect of anybody; nothing is fitted.
* `no graph`: `clip_interest` by counts alone.
* `clip_interest`: as the recipe has it.
* `pairs`: with the loss of pairs at one clip beside the log loss.

Intervals: 95 %, bootstrap over the users who left, with all their nights; differences are paired.
"""

import argparse
import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microrec.config import recipe
from microrec.core.clips import ClipLayout
from microrec.core.pairs import positions, starts
from microrec.graphs.watch.clip_edges import Config as Cut
from microrec.models.clip import clip_interest
from microrec.models.clip.clip_counts import Counts
from microrec.models.inputs.clip_arrays import ClipEdges, Clips
from microrec.models.inputs.graph_arrays import Graph
from tests.benchmarks import kuairand, quality, report, tuning
from tests.benchmarks.kuairand import DAY_US, EPOCH, POSITIVE, World
from tests.benchmarks.report import Row, row

USER, SUBJECT = "user", "clip_interest"
CHANGES: dict[str, dict[str, object]] = {
    "no graph": {"graph": False},
    SUBJECT: {},
    "pairs": {"pairwise_weight": 1.0},
}
WARM = 20

Doubles = NDArray[np.float64]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Told:
    """What a model says of those who left on one night.

    Shapes:
        who, above: [n_left]; loss: [n_reached]
    """

    who: NDArray[np.int64]
    above: Doubles
    """Share of the clip's stayers whom the model thought likelier to stay."""
    loss: Doubles | None


def layout_of(world: World) -> ClipLayout:
    """Return how the videos are cut."""
    config = Cut()
    length = world.videos["duration_ms"].to_numpy()
    n_clips = np.clip(-(-length // config.clip_ms), 0, config.max_clips)
    video, place = positions(n_clips)
    end_ms = np.where(place == n_clips[video] - 1, length[video], (place + 1) * config.clip_ms)
    return ClipLayout(first=starts(n_clips), end_ms=end_ms)


def viewings_of(world: World, layout: ClipLayout) -> pd.DataFrame:
    """Return the latest started viewing of each pair and day: lines of the log with `day`, `n_clips`, `n_through`.

    Args:
        world: the files.
        layout: how the videos are cut; `n_through` of a video's `n_clips` clips were watched through.
    """
    config = Cut()
    log = world.log[world.log["play_time_ms"] > 0]
    log = log.assign(day=log["time_ms"] * 1000 // DAY_US)
    log = log.drop_duplicates(["user_idx", "video_idx", "day"], keep="last")
    watched = log["play_time_ms"].to_numpy()
    n = np.diff(layout.first)[log["video_idx"].to_numpy()]
    complete = watched >= config.completed_ratio * log["duration_ms"].to_numpy()
    n_through = np.where(complete, n, np.minimum(watched // config.clip_ms, n - 1))
    return log.assign(n_clips=n, n_through=n_through)


def edges_of(world: World) -> tuple[ClipLayout, ClipEdges]:
    """Return how the videos are cut, and the clips that the latest viewing of a pair and day reached."""
    layout = layout_of(world)
    log = viewings_of(world, layout)
    n_through, n = log["n_through"].to_numpy(), log["n_clips"].to_numpy()
    viewing, clip_no = positions(np.minimum(n_through + 1, n))
    through = clip_no < n_through[viewing]
    early = log["play_time_ms"].to_numpy()[viewing] < Cut().early_ms
    edges = ClipEdges(
        user_idx=log["user_idx"].to_numpy(np.int64)[viewing],
        clip=layout.first[log["video_idx"].to_numpy()[viewing]] + clip_no,
        day=log["day"].to_numpy(np.int64)[viewing],
        through=through,
        weight=np.where(through, 1.0 / np.maximum(n[viewing], 1), np.where(early, 1.0, 0.5)),
    )
    return layout, edges.taken(np.lexsort((edges.clip, edges.user_idx, edges.day)))


def night(
    world: World, day: dt.date, layout: ClipLayout, edges: ClipEdges
) -> tuple[Graph, ClipEdges]:
    """Return the graph of a day's trial, and the clips that were reached on the day."""
    today = day.toordinal() - EPOCH
    clips = Clips(
        first=layout.first,
        end_ms=layout.end_ms,
        vector=np.zeros((layout.n_clips, 0), np.float32),
        edges=edges.taken(edges.day < today),
        validated_on=today - 1,
        today=today,
    )
    graph = kuairand.graph(world, world.labelled[POSITIVE], day, example_days=1)
    return replace(graph, clips=clips), edges.taken(edges.day == today)


def released() -> clip_interest.Config:
    """Return the configuration of the recipe."""
    return recipe.current().section(f"models.{SUBJECT}", clip_interest.Config)


def stays_of(graph: Graph, changed: Mapping[str, object], reached: ClipEdges, seed: int) -> Doubles:
    """Return the logits of staying of a fitted model. [n_reached]."""
    config = clip_interest.Config.model_validate({**released().model_dump(), **changed})
    trained = clip_interest.fit(graph, config, np.random.default_rng([seed, *SUBJECT.encode()]))
    network = clip_interest.restore(graph, config, trained.parameters)
    said = clip_interest.logits(network, graph, reached.user_idx, reached.clip)
    return said.astype(np.float64)


def told(stays: Doubles, reached: ClipEdges, loss: Doubles | None = None) -> Told:
    """Compare everybody who left in a clip with those who stayed in it; clips where nobody stayed do not count."""
    by_score = np.lexsort((stays, reached.clip))
    clip, score = reached.clip[by_score], stays[by_score]
    stayed = reached.through[by_score]
    new = np.concatenate([[True], (np.diff(clip) != 0) | (np.diff(score) != 0)])
    new_clip = np.concatenate([[True], np.diff(clip) != 0])
    tie, group = np.cumsum(new) - 1, np.cumsum(new_clip) - 1
    through = np.concatenate([[0], np.cumsum(stayed)])
    begin, end = np.flatnonzero(new), np.append(np.flatnonzero(new)[1:], len(clip))
    ends = np.append(np.flatnonzero(new_clip)[1:], len(clip))[group]
    n_stayed = through[ends] - through[np.flatnonzero(new_clip)[group]]
    higher = through[ends] - through[end[tie]] + (through[end[tie]] - through[begin[tie]]) / 2
    above = np.full(len(reached), np.nan)
    counts = ~stayed & (n_stayed > 0)
    above[by_score[counts]] = higher[counts] / n_stayed[counts]
    counted = np.isfinite(above)
    return Told(reached.user_idx[counted], above[counted], loss)


def measure(
    world: World, day: dt.date, layout: ClipLayout, edges: ClipEdges, seeds: int
) -> dict[str, dict[str, Told]]:
    """Return what every model says of one night, by part (`all`, `warm`); scores are means over seeds."""
    graph, reached = night(world, day, layout, edges)
    known = clip_interest.clips_of(graph)
    counts = Counts(known).of_users(reached.user_idx, np.full(len(reached), known.today))
    stays = {USER: counts[:, 0].astype(np.float64)}
    for name, changed in CHANGES.items():
        stays[name] = np.mean([stays_of(graph, changed, reached, s) for s in range(seeds)], axis=0)
    warm = np.bincount(known.edges.user_idx, minlength=graph.n_users)[reached.user_idx] >= WARM
    parts: dict[str, dict[str, Told]] = {"all": {}, "warm": {}}
    for name, score in stays.items():
        loss = np.logaddexp(0, np.where(reached.through, -score, score)) if name != USER else None
        parts["all"][name] = told(score, reached, loss)
        parts["warm"][name] = told(score[warm], reached.taken(warm))
        logger.info("%s %s: %.4f", day, name, parts["all"][name].above.mean())
    return parts


def rows_of(nights: Sequence[Mapping[str, Mapping[str, Told]]]) -> list[Row]:
    """Return the figures of all nights together."""
    rows: list[Row] = []
    for part in ("all", "warm"):
        names = [*nights[0][part]]
        who = np.concatenate([one[part][USER].who for one in nights])
        above = {name: np.concatenate([one[part][name].above for one in nights]) for name in names}
        columns = dict(above)
        columns |= {
            f"{SUBJECT} - {name}": above[SUBJECT] - above[name] for name in names if name != SUBJECT
        }
        table = np.stack([*columns.values()], axis=1)
        low, high = quality.interval(table, who, generator=np.random.default_rng(1))
        split = f"{part} ({len(who)} who left)"
        rows += [
            row(SUBJECT, name, "within clips", split, float(mean), unit="", low=a, high=b)
            for name, mean, a, b in zip(
                columns, table.mean(axis=0), low.tolist(), high.tolist(), strict=True
            )
        ]
    losses = {name: [one["all"][name].loss for one in nights] for name in CHANGES}
    return rows + [
        row(SUBJECT, name, "log loss", "all", float(np.concatenate(some).mean()), unit="")
        for name, some in losses.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the nights up to `--through`, write."""
    asked = _parser().parse_args(arguments)
    out = tuning.begin(asked.out, ())
    world = kuairand.read(asked.data)
    layout, edges = edges_of(world)
    days = [asked.through - dt.timedelta(days=ago) for ago in range(asked.nights)][::-1]
    nights = [measure(world, day, layout, edges, asked.seeds) for day in days]
    preface = f"Nights {days[0]} to {days[-1]}, {asked.seeds} seeds. {tuning.packages()}."
    report.write(rows_of(nights), out, preface=preface)
    logger.info("written to %s", out)


def _parser() -> argparse.ArgumentParser:
    parser = tuning.parser("tests.benchmarks.clip_viewers", str(__doc__), (SUBJECT,), budget=0)
    day = {"type": dt.date.fromisoformat, "metavar": "YYYY-MM-DD"}
    parser.add_argument("--through", required=True, help="last night", **day)
    parser.add_argument("--nights", type=int, default=5, help="how many")
    return parser


if __name__ == "__main__":
    main()
