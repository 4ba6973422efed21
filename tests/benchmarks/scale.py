"""What the user graph would cost at sizes no machine here holds: `python -m tests.benchmarks.scale --out DIR`.

The exact kernel (`microrec/graphs/similarity/pearson.py`) does four kinds of work, and all follow from the sizes
and the popularity of the videos alone:

  scan    every ordered pair of users: a counter is cleared and compared with a bound
  words   every ordered pair of users, per 16 videos that more than 5 % of the users viewed: a population count
  pushes  every user: entries that come into the list, k * ln(users / k) if candidates come in no order
  raises  every ordered pair of viewers of a video that fewer viewed: a counter is raised

Seconds per unit of each are fitted (non-negative least squares on relative errors) to the kernel's CPU time on parts of
S and SP, each left out once to see what the fit is worth; then the work of larger worlds is computed and priced.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from microrec.graphs.similarity import pearson
from tests.benchmarks import report, worlds

K = 50
KINDS = ("scan", "words", "raises", "pushes")
PAPER = {
    "1 M users, 500 k videos, 100 M watches": worlds.Watches(1_000_000, 500_000, 100_000_000),
    "100 M users, 50 M videos, 10 G watches": worlds.Watches(100_000_000, 50_000_000, 10**10),
}
SHARES = (0.125, 0.25, 0.5, 1.0)
logger = logging.getLogger(__name__)


def work(viewers: NDArray[np.float64], n_users: int) -> NDArray[np.float64]:
    """Units of each kind, from the number of viewers of each video."""
    dense = viewers > pearson.DENSE * n_users
    stride = pearson.WORD * pearson.UNROLLED
    words = -(-int(dense.sum()) // stride) * pearson.UNROLLED
    squares = float(n_users) ** 2
    pushes = n_users * K * max(1.0, float(np.log(n_users / K)))
    return np.array([squares, squares * words, float((viewers[~dense] ** 2).sum()), pushes])


def expected_viewers(sizes: worlds.Watches) -> NDArray[np.float64]:
    """Viewers of each video of a world too large to be drawn."""
    weights = (np.arange(1.0, sizes.n_videos + 1) + worlds.SHIFT) ** -worlds.POPULARITY
    mean = weights / weights.sum() * sizes.n_watches / sizes.n_users
    # Some of many draws of a popular video fall on users who have it already.
    return sizes.n_users * (1 - np.exp(-mean))


def measured() -> list[tuple[str, NDArray[np.float64], float]]:
    """Name, work and CPU seconds of the kernel (the best of two runs) for parts of the two worlds."""
    points = []
    for family in ("S", "SP"):
        for share in SHARES:
            sizes = worlds.part(worlds.SCALES[family], share)
            matrix = worlds.watches(sizes)
            seconds = []
            for _ in range(2):
                began = time.process_time()
                pearson.lists(matrix, config=pearson.Config(k=K, min_common=1, light_positives=0))
                seconds.append(time.process_time() - began)
            viewers = np.bincount(matrix.indices, minlength=matrix.shape[1]).astype(float)
            name = f"{family} x {share:g}"
            points.append((name, work(viewers, sizes.n_users), min(seconds)))
            logger.info("%s: %.2f s", name, min(seconds))
    return points


def prices(units: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds per unit of each kind, none negative; every point counts by its relative error."""
    scale = units.max(axis=0)
    price, _ = nnls(units / scale / seconds[:, None], np.ones(len(seconds)))
    return price / scale


def main() -> None:
    """Measure, fit, price and write the tables."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    out = parser.parse_args().out
    tiny = worlds.watches(worlds.SCALES["smoke"])
    pearson.lists(tiny, config=pearson.Config(k=K))  # compiles
    points = measured()
    units, seconds = np.stack([p[1] for p in points]), np.array([p[2] for p in points])
    fitted = prices(units, seconds)
    rows = [
        report.row("prices", kind, "price", "fit", float(price) * 1e9, unit="ns")
        for kind, price in zip(KINDS, fitted, strict=True)
    ]
    for place, (name, mine, took) in enumerate(points):
        others = np.arange(len(points)) != place
        without = prices(units[others], seconds[others])
        for metric, value in (
            ("seconds", took),
            ("fitted", mine @ fitted),
            ("left out", mine @ without),
        ):
            rows.append(report.row("kernel", name, metric, "measured", float(value), unit="CPU s"))
    for name, sizes in PAPER.items():
        mine = work(expected_viewers(sizes), sizes.n_users)
        for kind, units_of, price in zip(KINDS, mine, fitted, strict=True):
            rows.append(
                report.row("kernel", name, kind, "on paper", float(units_of * price), unit="CPU s")
            )
        rows.append(
            report.row("kernel", name, "all", "on paper", float(mine @ fitted), unit="CPU s")
        )
    report.write(rows, out, preface="# The user graph at sizes on paper")
    logger.info((out / "results.md").read_text())


if __name__ == "__main__":
    main()
