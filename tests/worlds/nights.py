"""A night in this process: the jobs in the order of dags/nightly.py, one JVM instead of five."""

import datetime as dt
import importlib
from typing import Any

from microrec.config import recipe
from microrec.config.recipe import NightConfig

BEFORE_MODELS = (
    "validate_events",
    "extract_features",
    "build_watch_graph",
    "build_modality_graph",
    "build_user_graph",
    "count_exposures",
    "build_sequences",
)
AFTER_MODELS = (
    "select_recommendations",
    "describe_trends",
    "describe_clips",
    "check_recommendations",
    "publish_release",
)
ANYWAY = {"count_exposures": "exposure_counts", "build_sequences": "sequences"}
"""Of these, the jobs that write no rows unless a model of the recipe reads the table; with `anyway` they do."""


def call(job: str, day: dt.date, **options: Any) -> None:
    importlib.import_module(f"jobs.{job}").main(day=day, **options)


def run_trial(day: dt.date) -> None:
    """Everything before the gate."""
    call("plan_night", day, force=True)
    for job in BEFORE_MODELS:
        call(job, day)
    fit_and_select(day, "trial")


def run_night(day: dt.date) -> None:
    """The whole night."""
    run_trial(day)
    call("evaluate_sources", day)
    fit_and_select(day, "final")
    for job in AFTER_MODELS:
        call(job, day)


def fit_and_select(day: dt.date, fit: str) -> None:
    for job, options in of_fit(recipe.current().night, fit):
        call(job, day, **options)


def of_fit(night: NightConfig, fit: str) -> list[tuple[str, dict[str, str]]]:
    """Return the jobs of a fit and their options, in order."""
    jobs = {
        "train_model": night.trained,
        "select_candidates": night.models,
        "rank_candidates": night.rankers,
    }
    of_models = [
        (job, {"fit": fit, "model": model}) for job, models in jobs.items() for model in models
    ]
    return [*of_models, ("blend_candidates", {"fit": fit})]


def jobs_of(night: NightConfig) -> list[tuple[str, dict[str, str]]]:
    """Return all jobs of a night and their options, in an order that the DAG allows."""
    between = [("evaluate_sources", {})]
    after = [(job, {}) for job in AFTER_MODELS]
    before = [(job, {}) for job in ("plan_night", *BEFORE_MODELS)]
    return [*before, *of_fit(night, "trial"), *between, *of_fit(night, "final"), *after]
