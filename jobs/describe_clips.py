"""Tell where videos lose their viewers: interest and hazard of every clip, exit points by kind of user.

Reads: models (fit final), what the model was fitted to, suppressed_users of the day.
Writes: clip_interest, exit_points of the day; no rows if the recipe has no model of clips.
"""

import logging

import numpy as np

from microrec.config import recipe
from microrec.config.settings import settings
from microrec.core import knowledge
from microrec.insights import clips
from microrec.models import registry
from microrec.models.clip import clip_counts, clip_interest
from microrec.pipeline import networks
from microrec.runner import job
from microrec.tables import arrow

MODEL = "clip_interest"
TABLES = ("clip_interest", "exit_points")

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Describe the clips by the final fit."""
    night, warehouse = recipe.night(), arrow.Warehouse.open()
    if MODEL not in night.trained:
        for table in TABLES:
            logger.info("%s day=%s rows=0 reason=no_%s_in_the_recipe", table, day, MODEL)
            warehouse.write_empty(table, day=day)
        return
    tables, graph = networks.learned(warehouse, MODEL, day=day, fit="final")
    device = settings().device
    network = networks.network(warehouse, MODEL, graph, day=day, fit="final", device=device)
    seen, known = clip_interest.clips_of(graph), clips.catalogue(tables["video_nodes"])
    served = knowledge.served(tables["users"], warehouse.read("suppressed_users", day=day))
    of_users = clip_counts.Counts(seen).of_users(served, np.full(len(served), seen.today))
    found = clips.segments(
        served,
        np.where(np.isin(served, seen.edges.user_idx), of_users[:, 0], np.nan),
        config=recipe.section("candidates.clips", clips.Config),
        rng=np.random.default_rng(registry.seed(night.seed, day=day, model=MODEL)),
    )
    curves = clips.curves(clip_interest.audience(network, graph, found.sample), found)
    reached, left = clips.counts(seen.edges.clip, seen.edges.through, seen.n_clips)
    rows = clips.interest(curves[clips.EVERYONE], known, reached=reached, left=left)
    warehouse.write("clip_interest", rows, day=day)
    warehouse.write("exit_points", clips.exits(curves, known), day=day)


if __name__ == "__main__":
    job.start(main)
