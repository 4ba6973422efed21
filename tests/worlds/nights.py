"""A night in this process: the jobs in the order of dags/nightly.py, one JVM instead of five."""

import datetime as dt
import importlib
from typing import Any

from microrec.config import recipe

BEFORE_MODELS = (
    "validate_events",
    "extract_features",
    "build_watch_graph",
    "build_modality_graph",
    "build_user_graph",
    "count_exposures",
    "build_sequences",
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
    call("select_recommendations", day)
    call("describe_trends", day)
    call("describe_clips", day)
    call("check_recommendations", day)
    call("publish_release", day)


def fit_and_select(day: dt.date, fit: str) -> None:
    night = recipe.current().night
    jobs = {
        "train_model": night.trained,
        "select_candidates": night.models,
        "rank_candidates": night.rankers,
    }
    for job, models in jobs.items():
        for model in models:
            call(job, day, fit=fit, model=model)
    call("blend_candidates", day, fit=fit)
