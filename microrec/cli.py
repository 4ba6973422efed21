"""The `microrec` command: what an operator or a reader types.

microrec world       write a planted world into a landing zone
microrec import      write public data into a landing zone
microrec night       run the nightly DAG for a day
microrec show        print rows of a table
microrec releases    list releases
"""

import datetime as dt
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from microrec import job
from microrec.errors import MicrorecError
from microrec.settings import HOME, settings

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
imports = typer.Typer(no_args_is_help=True, help="Write public data into a landing zone.")
app.add_typer(imports, name="import")

Landing = Annotated[Path, typer.Option("--landing", help="Root of the raw files.")]
Warehouse = Annotated[Path | None, typer.Option("--warehouse", help="Root of the tables.")]

console = Console(highlight=False)


@app.command()
def world(
    landing: Landing,
    seed: Annotated[int, typer.Option(help="Root of every random number.")] = 1,
    users: Annotated[int, typer.Option(help="Number of users.")] = 400,
    videos: Annotated[int, typer.Option(help="Number of videos by the last day.")] = 800,
    days: Annotated[int, typer.Option(help="Number of days.")] = 8,
) -> None:
    """Generate a planted world and write it, with its truth beside it."""
    import numpy as np

    from microrec.synth.world import Config, generate
    from microrec.tables import landing as zone

    if landing.exists():
        shutil.rmtree(landing)
    planted = generate(
        Config(seed=seed, users=users, videos=videos, days=days), np.random.default_rng(seed)
    )
    zone.write_world(str(landing), planted)
    console.print(f"planted world: {users} users, {videos} videos, {days} days in {landing}")


@imports.command()
def kuairand(
    source: Annotated[Path, typer.Argument(help="Folder of the public KuaiRand-Pure files.")],
    landing: Landing,
) -> None:
    """Import the public KuaiRand-Pure files (Gao et al., CIKM 2022; CC BY-SA 4.0)."""
    from microrec.tables import kuairand as public

    public.import_files(source, str(landing))


@app.command()
def night(
    day: job.Day,
    landing: Annotated[
        Path | None, typer.Option("--landing", help="Root of the raw files.")
    ] = None,
    warehouse: Warehouse = None,
) -> None:
    """Run the nightly DAG for a day through Airflow, here in the terminal, and show what it made."""
    from microrec import night as nightly

    _require_java()
    environment = {
        "MICROREC_LANDING": str((landing or Path(settings().landing)).resolve()),
        "MICROREC_WAREHOUSE": str((warehouse or Path(settings().warehouse)).resolve()),
    }
    airflow_home = Path(os.environ.get("AIRFLOW_HOME", HOME / "var" / "airflow")).resolve()
    succeeded = nightly.run(day, airflow_home=airflow_home, environment=environment)
    settings.cache_clear()
    if not succeeded:
        console.print(f"night {day}: FAILED; the previous release stands", style="bold red")
        sys.exit(1)
    _report(day)


@app.command()
def show(
    table: Annotated[str, typer.Argument(help="Name of a table, such as recommendations.")],
    day: Annotated[
        str | None, typer.Option("--day", help="Day; the greatest that is committed if left out.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="Rows of one user_id.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many rows.")] = 20,
    warehouse: Warehouse = None,
) -> None:
    """Print rows of a table; result tables come from their day's release, whatever was written since."""
    from microrec.release import reader

    rows = reader.rows_of(
        table,
        day=day and dt.date.fromisoformat(day),
        user_id=user,
        limit=limit,
        warehouse=warehouse and str(warehouse),
    )
    _print_rows(table, rows.column_names, rows.to_pylist())


@app.command()
def releases(warehouse: Warehouse = None) -> None:
    """List releases by day; the last one is what consumers follow."""
    from microrec.release import reader

    rows = reader.releases(warehouse and str(warehouse))
    _print_rows("releases", ["day", "run_id", "code_version", "valid_until", "tables"], rows)


def _report(day: dt.date) -> None:
    """What a night ends with: the release, its metrics against the floor, one user's list, where it all lies."""
    from microrec.release import reader

    release = reader.of(day)
    console.rule(f"release {day}")
    _print_rows("result tables", ["table", "version", "rows", "digest"], release.tables)
    metrics = reader.headline(release)
    _print_rows(
        "held-out day: sources against the popularity floor (95 % bootstrap)",
        list(metrics[0]),
        metrics,
    )
    listing = release.read("recommendations")
    someone = listing.column("user_id")[0].as_py()
    head = release.read("recommendations", user_id=someone).slice(0, 5)
    _print_rows(
        f"the head of user {someone}'s list",
        ["rank", "video_id", "score", "source", "reason"],
        head.to_pylist(),
    )
    console.print(f"warehouse {settings().warehouse}\nlanding   {settings().landing}")


def _print_rows(title: str, columns: list[str], rows: list[dict[str, object]]) -> None:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*[_text(row.get(column)) for column in columns])
    console.print(table)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list) and value and isinstance(value[0], dict) and "table" in value[0]:
        return " ".join(f"{one['table']}@{one['version']}" for one in value)
    return "" if value is None else str(value)


def _require_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if not (shutil.which("java") or (home and Path(home, "bin", "java").exists())):
        console.print(
            "Spark needs Java 17 and finds none: install a JDK 17 and set JAVA_HOME or PATH",
            style="bold red",
        )
        sys.exit(1)


def main() -> None:
    """Console script: domain errors become one line and exit status 65."""
    job.configure_logs()
    try:
        app()
    except MicrorecError as error:
        console.print(f"{type(error).__name__}: {error}", style="bold red", markup=False)
        sys.exit(job.EX_DATAERR)
