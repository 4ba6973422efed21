"""How far back nights read: fewer days than that are never kept, whatever the recipe says.

| what a night reads of days before its own | how far back |
|---|---|
| events that arrived in its window, or on earlier days its figures are compared with | window, `returning_days` |
| rows of the window that may come late | window, lateness |
| lists and truth of the nights that teach its blend, yesterday's graphs and models | window |
| gains of nights that are judged together, figures of arrival days | `pooled_nights`; window, `trailing_days` |
| names of landing files, for what has come late | window, lateness |
"""

from microrec.config.recipe import Recipe
from microrec.evaluation import arrivals, gate


def floors(recipe: Recipe) -> dict[str, int]:
    """Return how many days before a night the night reads, by group of tables of `release.retention`.

    Args:
        recipe: says how long windows are.
    """
    night = recipe.night
    figures = recipe.section("evaluation.arrivals", arrivals.Config)
    pooled = recipe.section("evaluation.gate", gate.Config).pooled_nights
    window = night.window_days
    late = window + night.lateness_days
    return {
        "events": window + max(night.lateness_days, figures.returning_days),
        "catalogue": window,
        "graphs": window,
        "candidates": window,
        "models": window,
        "landing_files": late,
        "measurements": max(pooled, window + figures.trailing_days),
    }
