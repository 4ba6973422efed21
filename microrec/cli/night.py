"""`microrec warm`, `check-recipe`, `night`, `plan`, `ui`, `airflow`: prepare an installation, plan and run nights."""

import datetime as dt
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from microrec.cli import options
from microrec.cli.printing import (
    ERROR,
    hide_table_logs,
    output,
    print_error,
    print_json,
    print_line,
    print_rows,
    print_table,
)
from microrec.config import recipe
from microrec.config.recipe import Recipe
from microrec.config.settings import settings
from microrec.core import arguments
from microrec.errors import BadArgument, MissingDay
from microrec.runner.exit_status import ExitStatus

app = typer.Typer()

HEADLINE = ("recall@20", "ndcg@20")
"""Metrics that a night's report shows."""


@app.command()
def warm() -> None:
    """Prepare an installation, once: archive the classes that Spark's JVM loads, compile the kernels."""
    from microrec.candidates.retrieval import tiled
    from microrec.graphs.sequences import futures
    from microrec.graphs.similarity import kernels
    from microrec.spark import class_archive

    _require_java()
    archive = class_archive.build(settings())
    print_line(
        f"class archive {archive}" if archive else "no class archive: starts stay slow, see above"
    )
    kernels.compile_kernels()
    futures.compile_kernels()
    tiled.compile_kernel()
    print_line("kernels compiled")


@app.command()
def night(
    day: options.NightDay,
    last: options.LastNight = None,
    landing: options.OptionalLanding = None,
    root: options.WarehouseRoot = None,
    recipe_file: options.OptionalRecipe = None,
    as_json: options.AsJson = False,
) -> None:
    """Run the nightly DAG for a day, or for one day after another, in this terminal, and report each release.

    Ends at the first day that fails. With --json the progress goes to standard error and the report of a day is one
    object: `day`, `release`, `tables` (the pins), `metrics` (held-out day, all users), `list` (the head of one user's
    list), `warehouse`, `landing`.
    """
    from microrec.pipeline import recipe_check

    days = [day + dt.timedelta(days=offset) for offset in range(((last or day) - day).days + 1)]
    if not days:
        raise BadArgument(f"night: --from {day} is after --to {last}")
    _require_java()
    environment = _run_variables(landing, root, recipe_file)
    recipe_check.require(Recipe.parse(Path(environment["MICROREC_RECIPE"]), settings().models))
    _require_viewings(days, environment["MICROREC_LANDING"], environment["MICROREC_WAREHOUSE"])
    for each in days:
        _run(each, environment, as_json=as_json)


@app.command()
def plan(
    first: options.FirstDay,
    last: options.LastDay,
    landing: options.OptionalLanding = None,
    root: options.WarehouseRoot = None,
    recipe_file: options.OptionalRecipe = None,
    as_json: options.AsJson = False,
) -> None:
    """Say which of these days a backfill would make again, and why; nothing is changed.

    Days are judged one by one: a day that is made again also changes later days whose blend learns from it.
    """
    from microrec.pipeline import night_inputs, recipe_check
    from microrec.pipeline.night import Night

    hide_table_logs()
    os.environ |= _run_variables(landing, root, recipe_file)
    settings.cache_clear()
    recipe_check.require(recipe.parsed())
    rows: list[dict[str, Any]] = []
    for offset in range((last - first).days + 1):
        day = first + dt.timedelta(days=offset)
        night = Night.open(day)
        reasons = night_inputs.stale_reasons(night, night_inputs.current_inputs(night))
        rows.append({"day": day, "plan": "make" if reasons else "skip", "because": reasons})
    if as_json:
        print_json(rows)
        return
    shown = [row | {"because": "; ".join(row["because"])} for row in rows]
    print_table("plan", ["day", "plan", "because"], shown)


@app.command()
def check_recipe(
    recipe_file: options.OptionalRecipe = None, as_json: options.AsJson = False
) -> None:
    """Say what is wrong with a recipe, all of it: names nobody reads, values out of range, models; 78 if anything is.

    Prints a row for each fault and for each part that has no effect: `kind` (fault, unused), `section`, `key`, `value`,
    `problem`.
    """
    from microrec.pipeline import recipe_check

    chosen = Recipe.parse(recipe_file or settings().recipe, settings().models)
    findings = recipe_check.check(chosen)
    rows = [
        {"kind": kind, **finding._asdict()}
        for kind, part in (("fault", findings.faults), ("unused", findings.unused))
        for finding in part
    ]
    columns = ["kind", "section", "key", "value", "problem"]
    if rows or as_json:
        print_rows(f"recipe {chosen.path}", columns, rows, as_json=as_json)
    else:
        print_line(f"recipe {chosen.path}: nothing is wrong")
    if findings.faults:
        sys.exit(ExitStatus.RECIPE_ERROR)


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8080) -> None:
    """Start Airflow on this machine with the DAGs in it; Ctrl-C ends it."""
    from microrec.cli import local_airflow

    _require_java()
    sys.exit(local_airflow.serve(local_airflow.airflow_home(), port))


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def airflow(context: typer.Context) -> None:
    """Run an `airflow` command against the Airflow of `microrec ui`, such as `microrec airflow backfill create`."""
    from microrec.cli import local_airflow

    local_airflow.command(local_airflow.airflow_home(), context.args)


def _require_viewings(days: Sequence[dt.date], landing: str, root: str) -> None:
    """Refuse days of which nothing was delivered, before Airflow starts: that takes a minute or two.

    Raises:
        MissingDay: a day has neither viewings in the landing zone nor events that an earlier run has kept.
    """
    from microrec.landing import zone
    from microrec.tables.arrow import Warehouse

    table = "raw_interactions"
    delivered = zone.days(landing, table) if zone.is_there(landing) else []
    lacking = sorted(set(days) - set(delivered))
    if lacking:
        kept = Warehouse.open(root)
        lacking = [day for day in lacking if not kept.exists("events", day=day)]
    if lacking:
        spread = f"days there are {delivered[0]} to {delivered[-1]}" if delivered else "it has none"
        named = ", ".join(map(str, lacking))
        raise MissingDay(f"landing zone {landing}: no {table} of {named}; {spread}")


def _run(day: dt.date, environment: dict[str, str], *, as_json: bool) -> None:
    """Run the night of a day and print its report; ends the command if it fails."""
    from microrec.cli import local_airflow

    failures = local_airflow.run(
        day,
        home=local_airflow.airflow_home(),
        environment=environment,
        stream=sys.stderr if as_json else sys.stdout,
    )
    settings.cache_clear()
    if not failures:
        _print_report(_report(day), as_json=as_json)
        return
    failure = f"night {day}: FAILED; the previous release stands; {'; '.join(failures)}"
    if as_json:
        print_error(failure)
    else:
        print_line(failure, style=ERROR)
    sys.exit(ExitStatus.FAILURE)


def _run_variables(
    landing: Path | None, root: str | None, recipe_file: Path | None
) -> dict[str, str]:
    """Return the variables that tell jobs where the raw files, the tables and the recipe are."""
    return {
        "MICROREC_LANDING": str((landing or Path(settings().landing)).resolve()),
        "MICROREC_WAREHOUSE": root or arguments.root(settings().warehouse),
        "MICROREC_RECIPE": str((recipe_file or settings().recipe).resolve()),
    }


def _report(day: dt.date) -> dict[str, Any]:
    """Return what a night ends with, as `night --json` prints it."""
    from microrec.release import reader

    hide_table_logs()
    release = reader.of(day)
    figures = release.read("metrics").to_pylist()
    user = release.read("recommendations")["user_id"][0].as_py()
    columns = ["rank", "video_id", "score", "source", "reason"]
    head = release.read("recommendations", user_id=user, columns=columns).slice(0, 5)
    return {
        "day": day,
        "release": release.id,
        "tables": [vars(pin) for pin in release.tables.values()],
        "metrics": [
            {key: figure[key] for key in ("name", "metric", "value", "low", "high", "n")}
            for figure in figures
            if figure["stage"] == "evaluation"
            and figure["slice"] == "all"
            and figure["metric"] in HEADLINE
        ],
        "list": {"user_id": user, "rows": head.to_pylist()},
        "warehouse": settings().warehouse,
        "landing": settings().landing,
    }


def _print_report(report: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json([report])
        return
    output.rule(f"release {report['day']}")
    print_table("result tables", ["table", "version", "rows", "digest"], report["tables"])
    title = "held-out day, all users (95 % bootstrap interval)"
    print_table(title, ["name", *HEADLINE, "users"], _headline(report["metrics"]))
    head = report["list"]
    title = f"the head of user {head['user_id']}'s list"
    print_table(title, ["rank", "video_id", "score", "source", "reason"], head["rows"])
    print_line(f"warehouse {report['warehouse']}")
    print_line(f"landing   {report['landing']}")


def _headline(figures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row of texts for each source, the blend and its difference to popularity, by name."""
    rows: dict[str, dict[str, Any]] = {}
    for figure in figures:
        row = rows.setdefault(figure["name"], {"name": figure["name"], "users": figure["n"]})
        interval = "" if figure["low"] is None else f" [{figure['low']:.4f}, {figure['high']:.4f}]"
        row[figure["metric"]] = f"{figure['value']:.4f}{interval}"
    return [rows[name] for name in sorted(rows)]


def _require_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if not (shutil.which("java") or (home and Path(home, "bin", "java").exists())):
        print_error(
            "Spark needs Java 17 and there is none: install a JDK 17 and set JAVA_HOME or PATH"
        )
        sys.exit(ExitStatus.FAILURE)
