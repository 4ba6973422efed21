"""What the sources of a night propose in the final fit, beside their trials."""

import numpy as np

from microrec.evaluation import gate, refit
from microrec.evaluation.gate import Result
from microrec.evaluation.report import Figure
from microrec.pipeline import proposals
from microrec.pipeline.night import Night
from microrec.pipeline.proposals import Proposals

USERS = 5000
"""Users that are compared at most: neighbours by index, so that few files are read."""


def figures(night: Night) -> list[Figure]:
    """Compare what every source proposes in both fits to some of the users, drawn by the night's seed.

    Args:
        night: both fits have candidates.

    Returns:
        Rows of `metrics`, stage release.
    """
    n_users = night.n_users
    last_start = max(0, n_users - USERS)
    start = int(night.generator("refit").integers(0, last_start + 1))
    users = np.arange(start, min(n_users, start + USERS))
    where = {"user_idx": range(start, start + len(users))}
    names = ["user_idx", "video_idx"]
    seen = night.warehouse.read("watch_edges", day=night.day, columns=names, where=where)
    trial, final = (Proposals.open(night.at(night.day, fit=fit)) for fit in ("trial", "final"))
    overlaps = {}
    for source in sorted({*trial.sources} & {*final.sources}):
        rows = [proposals.read(fit.night, source, users) for fit in (trial, final)]
        overlaps[source] = refit.overlap(rows[0], rows[1], seen)
    return refit.figures(overlaps)


def judged(night: Night, tonight: list[Figure]) -> Result:
    """Judge whether every source proposes what its trial proposed.

    Args:
        night: whose release is to be.
        tonight: result of `figures`.

    Returns:
        See `refit.refit_alike`.
    """
    before: dict[str, float] = {}
    earlier = night.at(night.previous_day, fit="final")
    if earlier.exists("metrics", stage="release"):
        rows = earlier.read("metrics", stage="release").to_pylist()
        before = {row["name"]: row["value"] for row in rows if row["metric"] == refit.METRIC}
    config = night.recipe.section("evaluation.gate", gate.Config)
    return refit.refit_alike({f.name: f.value for f in tonight}, before, config=config)
