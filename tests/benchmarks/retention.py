"""Predicted retention of videos against what was watched: `python -m tests.benchmarks.retention --help`.

    python -m tests.benchmarks.retention --data ../shared/data/kuairand_pure --through 2022-05-05 --out DIR

Models are fitted to the days before a night's held-out day (`tests.benchmarks.kuairand`, no Spark), and tell the
share of a video's viewers who watch each clip through, as `jobs/describe_clips.py` does for `clip_interest` and
`exit_points`. Observed: of all viewings of the video on the day, the share that watched the clip through. A
viewing counts once for each clip of its video. Figures, over the viewings of all nights together:

* `ece`: predictions in `N_BINS` bins of equally many; mean distance of the predicted and the observed share.
* `bias`: mean of predicted less observed.
* `distance`: root mean square distance of the predicted and the observed share of a video's clip, with the noise
  taken off that so few viewings have (p (1 - p) / (n - 1)): what a right curve would have is 0.

Parts: videos with `MANY` viewings in these nights, of these by length of the video and by surface (predictions know
neither the day nor the surface), and `cold`: videos with fewer than `FEW` viewings before the day.

* `place`: the hazard of the clip's place; `counts`: that of the clip, shrunk to its video's and its place's.
* `clip_interest`: the published curve, the mean of a sample of all users.
* `viewers`: the same model asked of the very users who came.
* `right level`: the published curve with the day's own hazard in place of yesterday's (`limit`): what is left if the
  level of the day were known.

Intervals: 95 %, bootstrap over users with all their nights.
"""

import argparse
import datetime as dt
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microrec.config import recipe
from microrec.core.clips import ClipLayout
from microrec.core.pairs import positions
from microrec.insights import clips as insights
from microrec.models.clip import clip_interest
from microrec.models.clip.clip_counts import OWN, Counts
from microrec.models.inputs.clip_arrays import ClipEdges
from microrec.models.inputs.graph_arrays import Graph
from tests.benchmarks import clip_viewers, kuairand, quality, report, tuning
from tests.benchmarks.kuairand import EPOCH, World
from tests.benchmarks.report import Row, row

SUBJECT = clip_interest.__name__.rpartition(".")[2]
PLACE, COUNTS, VIEWERS, LEVEL = "place", "counts", "viewers", "limit: right level"
N_BINS = 10
MANY = 50
FEW = 5
LENGTHS_S = (15, 30, 60)
SURFACES = (1, 4, 0, 2)
"""The player, and the three tabs with most viewings besides."""

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Viewings:
    """Viewings of some days, a row for each clip of the viewing's video.

    Shapes:
        who, clip, surface, known: [n]; stayed: [n]; predicted: [n] by model
    """

    who: Integers
    clip: Integers
    surface: Integers
    known: Integers
    """Viewings of the video before the day."""
    stayed: NDArray[np.bool_]
    """Whether the clip was watched through."""
    predicted: dict[str, Doubles]

    @classmethod
    def together(cls, parts: Sequence["Viewings"]) -> "Viewings":
        """Return the viewings of several nights as one."""
        names = [*parts[0].predicted]
        joined = {name: np.concatenate([one.predicted[name] for one in parts]) for name in names}
        fields = ("who", "clip", "surface", "known", "stayed")
        return cls(*(np.concatenate([getattr(one, f) for one in parts]) for f in fields), joined)


def observed(
    viewings: pd.DataFrame, layout: ClipLayout, predicted: dict[str, Doubles], known: Integers
) -> Viewings:
    """Return what was watched of a day beside what was predicted for its videos.

    Args:
        viewings: of the day, as `clip_viewers.viewings_of` has them.
        layout: the clips.
        predicted: retention at the end of every clip, by model. [n_clips] each
        known: viewings of each video before. [n_videos]
    """
    viewing, clip_no = positions(viewings["n_clips"].to_numpy())
    video = viewings["video_idx"].to_numpy()[viewing]
    clip = layout.first[video] + clip_no
    return Viewings(
        who=viewings["user_idx"].to_numpy(np.int64)[viewing],
        clip=clip,
        surface=viewings["tab"].to_numpy(np.int64)[viewing],
        known=known[video],
        stayed=clip_no < viewings["n_through"].to_numpy()[viewing],
        predicted={name: curve[clip] for name, curve in predicted.items()},
    )


def curve(stay: Doubles, layout: ClipLayout) -> Doubles:
    """Return the retention at the end of every clip, from the chances to watch each through. [n_clips]."""
    total = np.cumsum(np.log(np.clip(stay, 1e-12, 1.0)))
    start = layout.first[layout.video]
    before = np.concatenate([[0.0], total])[start]
    return np.exp(total - before)


def published(network: Any, graph: Graph, seed: int) -> Doubles:
    """Return the curve of everybody as `jobs/describe_clips.py` makes it. [n_clips]."""
    known = clip_interest.clips_of(graph)
    everybody = np.arange(graph.n_users)
    stays = Counts(known).of_users(everybody, np.full(graph.n_users, known.today))[:, 0]
    config = recipe.current().section("candidates.clips", insights.Config)
    segments = insights.segments(
        everybody,
        np.where(np.isin(everybody, known.edges.user_idx), stays, np.nan),
        config=config,
        rng=np.random.default_rng(seed),
    )
    audience = clip_interest.audience(network, graph, segments.sample)
    return insights.curves(audience, segments)[insights.EVERYONE]


def of_viewers(network: Any, graph: Graph, viewings: pd.DataFrame) -> Doubles:
    """Return what the model says of each viewing, a row for each clip of its video. [n]."""
    rows = clip_interest.all_rows(network, graph)
    pairs = [viewings[name].to_numpy(np.int64) for name in ("user_idx", "video_idx")]
    blocks = clip_interest.stays(network, rows, *pairs)
    return np.concatenate(
        [np.exp(clip_interest.retained(pair, chance)) for pair, _, chance in blocks]
    )


def right_level(retention: Doubles, layout: ClipLayout, reached: ClipEdges) -> Doubles:
    """Return the curve whose hazards are so scaled that their sum over what was reached is what left. [n_clips]."""
    hazard = 1.0 - retention / np.maximum(layout.before(retention, first=1.0), 1e-12)
    scale = float((~reached.through).sum() / hazard[reached.clip].sum())
    return curve(1.0 - np.clip(scale * hazard, 0.0, 1.0), layout)


def night(world: World, day: dt.date, seeds: int) -> Viewings:
    """Return what every model says of a day, beside what was watched; curves are means over seeds."""
    layout, edges = clip_viewers.edges_of(world)
    graph, reached = clip_viewers.night(world, day, layout, edges)
    viewings = clip_viewers.viewings_of(world, layout)
    viewings = viewings[viewings["day"] == day.toordinal() - EPOCH]
    known = clip_interest.clips_of(graph)
    config = clip_viewers.released()
    counted = Counts(known).of_clips(
        np.arange(layout.n_clips), np.full(layout.n_clips, known.today)
    )
    curves, told = [], []
    for seed in range(seeds):
        trained = clip_interest.fit(graph, config, np.random.default_rng([seed, *SUBJECT.encode()]))
        network = clip_interest.restore(graph, config, trained.parameters)
        curves.append(published(network, graph, seed))
        told.append(of_viewers(network, graph, viewings))
        logger.info("%s seed %d: %s epochs", day, seed, trained.report["epochs"])
    everyone = np.mean(curves, axis=0)
    logit = counted[:, [0, OWN]].astype(np.float64)
    place, own = (curve(1 / (1 + np.exp(-column)), layout) for column in logit.T)
    predicted = {PLACE: place, COUNTS: own, SUBJECT: everyone}
    predicted[LEVEL] = right_level(everyone, layout, reached)
    started = known.edges.taken(layout.number[known.edges.clip] == 0)
    n_known = np.bincount(layout.video[started.clip], minlength=len(layout.first) - 1)
    seen = observed(viewings, layout, predicted, n_known)
    seen.predicted[VIEWERS] = np.mean(told, axis=0)
    return seen


def figures_of(viewings: Viewings, name: str, part: NDArray[np.bool_]) -> dict[str, Any]:
    """Return `ece` and `bias` with their intervals, and `distance`, of one model on some of the rows."""
    predicted = viewings.predicted[name][part]
    stayed = viewings.stayed[part].astype(np.float64)
    bins = np.empty(len(predicted), dtype=np.int64)
    order = np.argsort(predicted, kind="stable")
    bins[order] = np.arange(len(order)) * N_BINS // len(order)
    _, who = np.unique(viewings.who[part], return_inverse=True)
    n_users = int(who.max()) + 1
    cell = who * N_BINS + bins
    away = np.bincount(cell, predicted - stayed, n_users * N_BINS).reshape(n_users, N_BINS)
    sums = np.column_stack([away, np.bincount(who)])
    drawn = quality.resampled(sums, generator=np.random.default_rng(1))
    of_drawn = {
        "ece": np.abs(drawn[:, :-1]).sum(axis=1) / drawn[:, -1],
        "bias": drawn[:, :-1].sum(axis=1) / drawn[:, -1],
    }
    total = away.sum(axis=0)
    n = len(predicted)
    ends = {metric: np.percentile(values, [2.5, 97.5]) for metric, values in of_drawn.items()}
    return {
        "ece": (float(np.abs(total).sum()) / n, *ends["ece"]),
        "bias": (float(total.sum()) / n, *ends["bias"]),
        "distance": (distance(viewings.clip[part], predicted, stayed), None, None),
    }


def distance(clip: Integers, predicted: Doubles, stayed: Doubles) -> float:
    """Return the distance of predicted and observed shares by clip, less noise, of clips of two viewings or more."""
    n = np.bincount(clip)
    counted = n > 1
    n = n[counted]
    share = np.bincount(clip, stayed)[counted] / n
    said = np.bincount(clip, predicted)[counted] / n
    square = (said - share) ** 2 - share * (1 - share) / (n - 1)
    return float(np.sqrt(max(float(np.average(square, weights=n)), 0.0)))


def parts_of(viewings: Viewings, layout: ClipLayout) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield names and rows of the parts that are measured."""
    video = layout.video[viewings.clip]
    first = viewings.clip == layout.first[video]
    n_viewings = np.bincount(video[first], minlength=len(layout.first) - 1)
    many = n_viewings[video] >= MANY
    length = layout.end_ms[layout.first[video + 1] - 1] / 1000
    edges = (0, *LENGTHS_S, np.inf)
    yield "all", np.ones(len(video), dtype=np.bool_)
    yield f"videos of {MANY} viewings", many
    for low, high in pairwise(edges):
        yield f"of these {low:g} to {high:g} s", many & (length > low) & (length <= high)
    for surface in SURFACES:
        yield f"of these tab {surface}", many & (viewings.surface == surface)
    yield f"cold, fewer than {FEW}", viewings.known < FEW


def rows_of(viewings: Viewings, layout: ClipLayout) -> list[Row]:
    """Return the figures of all nights together."""
    rows = []
    for part, chosen in parts_of(viewings, layout):
        if not chosen.any():
            continue
        n = int((layout.number[viewings.clip[chosen]] == 0).sum())
        for name in viewings.predicted:
            for metric, (value, low, high) in figures_of(viewings, name, chosen).items():
                ends = {} if low is None else {"low": float(low), "high": float(high)}
                split = f"{part} ({n} viewings)"
                rows.append(row(SUBJECT, name, metric, split, value, unit="", **ends))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the nights up to `--through`, write."""
    asked = _parser().parse_args(arguments)
    out = tuning.begin(asked.out, ())
    world = kuairand.read(asked.data)
    days = [asked.through - dt.timedelta(days=ago) for ago in range(asked.nights)][::-1]
    viewings = Viewings.together([night(world, day, asked.seeds) for day in days])
    preface = f"Nights {days[0]} to {days[-1]}, {asked.seeds} seeds. {tuning.packages()}."
    report.write(rows_of(viewings, clip_viewers.layout_of(world)), out, preface=preface)
    logger.info("written to %s", out)


def _parser() -> argparse.ArgumentParser:
    parser = tuning.parser("tests.benchmarks.retention", str(__doc__), (SUBJECT,), budget=0)
    day = {"type": dt.date.fromisoformat, "metavar": "YYYY-MM-DD"}
    parser.add_argument("--through", required=True, help="last night", **day)
    parser.add_argument("--nights", type=int, default=5, help="how many")
    return parser


if __name__ == "__main__":
    main()
