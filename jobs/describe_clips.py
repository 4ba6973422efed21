"""Tell where videos lose their viewers: interest and hazard of every clip, exit points by kind of user.

Reads: models of both fits, what the model was fitted to, suppressed_users, preferences as of now.
Writes: clip_interest, exit_points and metrics (stage clips: how well the trial foretold the held-out day) of the day;
no rows if the recipe has no model of clips, or everybody watched every clip through, as in a log without watch times.
"""

import logging

import numpy as np

from microrec.config.settings import settings
from microrec.core import knowledge
from microrec.evaluation import report
from microrec.insights import clips
from microrec.models import registry
from microrec.pipeline import clip_figures, networks
from microrec.pipeline.night import Night
from microrec.runner import job

MODEL = clip_figures.MODEL
TABLES = ("clip_interest", "exit_points")

logger = logging.getLogger(__name__)


def main(day: job.Day) -> None:
    """Describe the clips by the final fit."""
    night = Night.open(day, fit="final")
    if reason := _nothing_to_tell(night):
        for table in TABLES:
            logger.info("%s day=%s rows=0 reason=%s", table, day, reason)
            night.write_empty(table)
        night.write_empty("metrics", stage=clip_figures.STAGE)
        return
    # Here, since most recipes end above: torch alone takes longer than such a night's task.
    from microrec.models.clip import clip_counts, clip_interest

    tables, graph = networks.read_inputs(night, MODEL)
    network = networks.load(night, MODEL, graph, device=settings().device)
    seen = clip_interest.clips_of(graph)
    catalogue = clips.catalogue(tables["video_nodes"])
    served = knowledge.served(tables["users"], night.unused())
    of_users = clip_counts.Counts(seen).of_users(served, np.full(len(served), seen.today))
    segments = clips.segments(
        served,
        np.where(np.isin(served, seen.edges.user_idx), of_users[:, 0], np.nan),
        config=night.recipe.section("candidates.clips", clips.Config),
        rng=np.random.default_rng(registry.seed(night.seed, day=day, model=MODEL)),
    )
    audience = clip_interest.audience(network, graph, segments.sample)
    curves = clips.curves(audience, segments)
    reached, left = clips.counts(seen.edges.clip, seen.edges.through, seen.n_clips)
    everyone, least = curves[clips.EVERYONE], night.config.least_people
    interest = clips.interest(everyone, catalogue, reached=reached, left=left, least_people=least)
    night.write("clip_interest", interest)
    night.write("exit_points", clips.exits(curves, catalogue))
    figures = clip_figures.of_held_out_day(night, seen.edges, device=settings().device)
    night.write("metrics", report.table(figures), stage=clip_figures.STAGE)


def _nothing_to_tell(night: Night) -> str | None:
    """Why there is nothing to tell of clips; None where there is."""
    if MODEL not in night.config.trained:
        return f"no_{MODEL}_in_the_recipe"
    label = networks.only_label(night, MODEL)
    return None if label is None else f"all_labels_{label}"


if __name__ == "__main__":
    job.start(main)
