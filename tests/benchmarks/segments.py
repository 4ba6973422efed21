"""Lists of surfaces on KuaiRand's nights: `python -m tests.benchmarks.segments --help`.

    python -m tests.benchmarks.segments --data ../shared/data/kuairand_pure --out DIR

What a user liked on one surface (a tab of the app) on the held-out day is looked for in the first twenty of the
user's list of that surface, of the list of everything (`all`), and of what most users like there (`popular there`:
the list for whoever has none). Sources and blend are those of `tests.benchmarks.blend`, taught by the nights before;
surfaces, weights and lists are made by the pipeline's code. Every user who liked something on the surface counts,
whether they had met it before or not. Differences are minus `all`, paired; 95 %, bootstrap over users with all their
nights.
"""

import argparse
import datetime as dt
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microrec.candidates.lists import fill, ladder, segments
from microrec.candidates.ranking import closed_form, learned_blend
from microrec.config import recipe
from microrec.core import fits
from microrec.core.columns import column
from tests.benchmarks import blend, kuairand, kuairand_nights, report
from tests.benchmarks.blend import ADOPTED, CHOSEN, CONFIRMED, EPOCH_DAYS, TAUGHT_BY, VARIANTS, K
from tests.benchmarks.hybrid import DEFAULT
from tests.benchmarks.kuairand import POSITIVE, World
from tests.benchmarks.kuairand_nights import Trial
from tests.benchmarks.report import Row, row

BENCHMARK = "segments"
ALL, THERE, OWN = "all", "popular there", "list of the surface"
Liked = dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Users and videos of what was liked on the held-out day, by segment."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Found:
    """How much of what each user liked a list of twenty finds."""

    user: NDArray[np.int64]
    recall: NDArray[np.float64]
    ndcg: NDArray[np.float64]


def night(
    trial: Trial, evenings: Sequence[blend.Evening], world: World
) -> dict[tuple[str, str], Found]:
    """Return what the lists of one night find, by segment and kind of list.

    Args:
        trial: the night.
        evenings: the nights before it, that teach, and the night itself.
        world: the files.
    """
    (variant,) = (each for each in VARIANTS if each.name == ADOPTED)
    grown = blend.grow(evenings[max(0, len(evenings) - 1 - TAUGHT_BY) : -1], variant)
    asked, known = evenings[-1].asked, trial.night.case.known
    depth = recipe.current().night.k * recipe.current().night.overfetch
    shaping = fill.Shaping(
        recipe.current().section("candidates.blend", closed_form.Config),
        learned=learned_blend.order(grown, asked, k=depth),
    )
    today = trial.night.day.toordinal() - EPOCH_DAYS
    shown = kuairand.counts(_before(world, trial.night.day), trial.night.day)
    order = _everyones(trial, world)
    config = segments.Config(tags=0)
    of = segments.of_surfaces(
        shown, order, n_videos=known.n_videos, today=today, k=K, config=config
    )
    liked = _liked(world, trial, [segment.name for segment in of])
    of = [segment for segment in of if len(liked[segment.name][0])]
    user = np.concatenate([np.unique(liked[segment.name][0]) for segment in of])
    number = np.repeat(np.arange(len(of)), [len(np.unique(liked[each.name][0])) for each in of])
    at = np.lexsort((number, user))
    given = {"known": known, "k": K, "shaping": shaping}
    members = segments.Members(of, user[at], number[at])
    own = segments.select(trial.lists, members=members, offset=config.offset, **given)
    whole = fill.select(trial.lists, users=np.unique(user), ladder=order, **given)
    found = {}
    for segment in of:
        users, videos = liked[segment.name]
        of_it = own.filter(pa.array(np.array(own["segment"].to_pylist()) == segment.name))
        lists = {ALL: whole, OWN: of_it, THERE: _unseen(segment, np.unique(users), known)}
        for name, rows in lists.items():
            found[segment.name, name] = judged(rows, users, videos)
    return found


def judged(rows: pa.Table, users: NDArray[np.int64], videos: NDArray[np.int64]) -> Found:
    """Return what lists find of what was liked.

    Args:
        rows: user_idx, rank and video_idx; a user may have no list.
        users: user_idx of each like. [n_likes]
        videos: video_idx of each like. [n_likes]
    """
    asked, n_liked = np.unique(users, return_counts=True)
    liked = set(zip(users.tolist(), videos.tolist(), strict=True))
    user, rank, video = (column(rows, name) for name in ("user_idx", "rank", "video_idx"))
    hit = np.array(
        [pair in liked for pair in zip(user.tolist(), video.tolist(), strict=True)], bool
    )
    at = np.searchsorted(asked, user[hit])
    gain = 1.0 / np.log2(np.arange(2, K + 2))
    ideal = np.concatenate([[0.0], np.cumsum(gain)])[np.minimum(n_liked, K)]
    return Found(
        asked,
        np.bincount(at, minlength=len(asked)) / np.minimum(n_liked, K),
        np.bincount(at, gain[rank[hit] - 1], len(asked)) / ideal,
    )


def _before(world: World, day: dt.date) -> kuairand.Labelled:
    labelled = world.labelled[POSITIVE]
    return labelled.taken(labelled.day < day.toordinal() - EPOCH_DAYS)


def _everyones(trial: Trial, world: World) -> ladder.Ladder:
    """The order in which videos fill everybody's list."""
    steps = recipe.current().section("candidates.ladder", ladder.Config)
    rungs = ladder.rungs(
        trial.edges,
        world.videos,
        known=trial.night.case.known,
        fit="trial",
        until=fits.horizon(trial.night.day, "trial"),
        config=steps,
    )
    return ladder.climb(rungs, ladder.SEGMENTS["__global__"])


def _liked(world: World, trial: Trial, names: Sequence[str]) -> Liked:
    """What the metric counts as liked, by the surface it was liked on."""
    right, labelled = trial.night.case.truth, world.labelled[POSITIVE]
    held = labelled.taken(labelled.day == trial.night.day.toordinal() - EPOCH_DAYS)
    held = held.taken(held.label)
    on = set(
        zip(held.user_idx.tolist(), held.video_idx.tolist(), held.surface.tolist(), strict=True)
    )
    users, liked = right.users[right.row], {}
    for name in names:
        surface = int(name.removeprefix(segments.SURFACE).removeprefix("tab="))
        kept = np.array(
            [
                (u, v, surface) in on
                for u, v in zip(users.tolist(), right.video.tolist(), strict=True)
            ]
        )
        liked[name] = (users[kept].astype(np.int64), right.video[kept].astype(np.int64))
    return liked


def _unseen(segment: segments.Segment, users: NDArray[np.int64], known: fill.Knowledge) -> pa.Table:
    """The segment's own order, without what each user has seen."""
    rows = []
    for user in users.tolist():
        seen = known.barred[user].indices
        best = segment.video[~np.isin(segment.video, seen)][:K].tolist()
        rows += [(user, rank, video) for rank, video in enumerate(best, start=1)]
    columns = [list(values) for values in zip(*rows, strict=True)]
    return pa.table(columns, names=["user_idx", "rank", "video_idx"])


def told(nights: Sequence[dict[tuple[str, str], Found]], split: str) -> list[Row]:
    """Return the rows of some nights together.

    Args:
        nights: as of `night`.
        split: name of these nights.
    """
    rows = []
    for segment in sorted({segment for each in nights for segment, _ in each}):
        having = [each for each in nights if (segment, ALL) in each]
        where = f"{split}, {segment}"
        of = {
            name: [np.concatenate([getattr(each[segment, name], field) for each in having])
                   for field in ("user", "recall", "ndcg")]
            for name in (ALL, THERE, OWN)
        }  # fmt: skip
        rows.append(row(BENCHMARK, "users", "lists", where, len(of[ALL][0]), unit="count"))
        for name, (user, *values) in of.items():
            for metric, value, base in zip(("recall", "ndcg"), values, of[ALL][1:], strict=True):
                at = f"{metric}@{K}"
                rows.append(row(BENCHMARK, name, at, where, value.mean(), unit="score"))
                if name != ALL:
                    low, high = blend.between(user, value - base)
                    gain = float((value - base).mean())
                    rows.append(
                        row(BENCHMARK, f"{name} - {ALL}", at, where, gain, unit="difference", low=low, high=high)
                    )  # fmt: skip
    return rows


def run(
    world: World, days: Sequence[str], asked: Sequence[str]
) -> dict[str, dict[tuple[str, str], Found]]:
    """Return what the lists of the asked nights find.

    Args:
        world: the files.
        days: all nights in the order of time; the earlier ones teach.
        asked: nights that are measured.
    """
    before = recipe.current().section("candidates.blend", closed_form.Config)
    evenings: list[blend.Evening] = []
    found = {}
    for day in days:
        trial = kuairand_nights.trial(world, dt.date.fromisoformat(day), DEFAULT)
        evenings.append(blend.evening(trial, world.videos, before))
        before = evenings[-1].fitted
        if day in asked:
            found[day] = night(trial, evenings, world)
            logger.info("%s: %s", day, sorted({segment for segment, _ in found[day]}))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.segments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of KuaiRand-Pure")
    parser.add_argument("--chosen", nargs="*", default=list(CHOSEN), metavar="DAY")
    parser.add_argument("--confirmed", nargs="*", default=list(CONFIRMED), metavar="DAY")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    asked = parser.parse_args(arguments)
    world = kuairand.read(asked.data)
    last = dt.date.fromisoformat(max(asked.chosen + asked.confirmed)).toordinal()
    span = range(world.first_day + EPOCH_DAYS + 2, last + 1)
    days = [dt.date.fromordinal(number).isoformat() for number in span]
    found = run(world, days, asked.chosen + asked.confirmed)
    rows: list[Row] = []
    for split, chosen in (("chosen on", asked.chosen), ("confirmed on", asked.confirmed)):
        if chosen:
            rows += told([found[day] for day in chosen], f"{split} {', '.join(chosen)}")
    report.write(rows, asked.out, preface=(__doc__ or "").split("\n", 2)[2].strip())


if __name__ == "__main__":
    main()
