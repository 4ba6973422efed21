"""The `microrec` command: what an operator or a reader types.

microrec world       write a planted world into a landing zone
microrec import      write public data into a landing zone
microrec warm        once per installation: compile what nights would compile, archive what Spark would load
microrec night       run the nightly DAG for a day
microrec plan        say which days a backfill would make again, and why
microrec show        print rows of a table
microrec releases    list releases
microrec rollback    make an earlier release the latest
microrec watch       say what is wrong with the releases
microrec vacuum      delete what no kept release needs
microrec plot        draw one user's interest in a video's clips, its audience, or what decides in the blend
"""

import datetime as dt
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from microrec.config.settings import HOME, redacted, settings
from microrec.core import arguments, messages
from microrec.errors import MicrorecError
from microrec.runner import job
from microrec.runner.exit_status import ExitStatus

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
imports = typer.Typer(no_args_is_help=True, help="Write public data into a landing zone.")
app.add_typer(imports, name="import")
plots = typer.Typer(no_args_is_help=True, help="Draw what a night says.")
app.add_typer(plots, name="plot")

Landing = Annotated[Path, typer.Option("--landing", help="Root of the raw files.")]
Warehouse = Annotated[
    str | None,
    typer.Option(
        "--warehouse",
        parser=arguments.root,
        metavar="ROOT",
        help="Root of the tables: a folder or the URI of a place in an object store.",
    ),
]
Video = Annotated[
    str,
    typer.Option("--video", parser=arguments.identifier, metavar="ID", help="A video_id."),
]
Picture = Annotated[
    Path, typer.Option("--out", help="Picture to write; its ending says which kind.")
]

console = Console(highlight=False)
RECORDS = dt.timedelta(days=90)
"""How long `microrec ui` keeps Airflow's records of runs: tasks cannot reach its database."""
WIDE = 1000
"""Characters of a line that nobody looks at in a terminal, at most."""


def _day(name: str, words: str) -> Any:
    """An option that is a day."""
    return typer.Option(name, parser=arguments.day, metavar="YYYY-MM-DD", help=words)


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

    from microrec.landing import zone as landing_root
    from microrec.synth.world import Config, generate

    config = Config(users=users, videos=videos, days=days)
    planted = generate(config, np.random.default_rng(seed))
    landing_root.write_world(
        str(landing), planted.parts, truth=planted.truth.model_dump(mode="json")
    )
    console.print(f"planted world: {users} users, {videos} videos, {days} days in {landing}")


@imports.command()
def kuairand(
    source: Annotated[Path, typer.Argument(help="Folder of the public KuaiRand-Pure files.")],
    landing: Landing,
) -> None:
    """Import the public KuaiRand-Pure files (Gao et al., CIKM 2022; CC BY-SA 4.0)."""
    from microrec.landing.importers import kuairand as public

    public.import_files(source, str(landing))


@app.command()
def warm() -> None:
    """Do once what would be done again and again: load the JVM's classes into an archive, compile the kernels."""
    from microrec.candidates.retrieval import tiled
    from microrec.graphs.similarity import kernels
    from microrec.spark import class_archive

    _require_java()
    made = class_archive.build(settings())
    console.print(
        f"class archive {made}" if made else "no class archive: starts stay slow, see above"
    )
    kernels.compile_kernels()
    tiled.compile_kernel()
    console.print("kernels compiled")


@app.command()
def night(
    day: job.Day,
    landing: Annotated[
        Path | None, typer.Option("--landing", help="Root of the raw files.")
    ] = None,
    warehouse: Warehouse = None,
) -> None:
    """Run the nightly DAG for a day through Airflow, here in the terminal, and show what it made."""
    from microrec.cli import local_airflow as nightly

    _require_java()
    places = _places(landing, warehouse)
    succeeded = nightly.run(day, airflow_home=_airflow_home(), environment=places)
    settings.cache_clear()
    if not succeeded:
        console.print(f"night {day}: FAILED; the previous release stands", style="bold red")
        sys.exit(1)
    _report(day)


@app.command()
def plan(
    first: Annotated[dt.date, _day("--from", "First day.")],
    last: Annotated[dt.date, _day("--to", "Last day.")],
    landing: Annotated[
        Path | None, typer.Option("--landing", help="Root of the raw files.")
    ] = None,
    warehouse: Warehouse = None,
) -> None:
    """Say what a backfill of these days would make, and why; it changes nothing.

    Days are looked at one by one: what changes one changes those after it that its blend learns from, too.
    """
    from microrec.pipeline import night_inputs as planned
    from microrec.tables.arrow import Warehouse as House

    _quiet()
    os.environ |= _places(landing, warehouse)
    settings.cache_clear()
    opened = House.open()
    rows: list[dict[str, object]] = []
    for back in range((last - first).days + 1):
        day = first + dt.timedelta(days=back)
        why = planned.stale_reasons(opened, day, planned.current_inputs(opened, day))
        rows.append({"day": day, "plan": "make" if why else "skip", "because": "; ".join(why)})
    _print_rows("plan", ["day", "plan", "because"], rows)


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8080) -> None:
    """Start Airflow on this machine with the nightly DAG in it (Ctrl-C ends it)."""
    from microrec.cli import local_airflow as nightly

    _require_java()
    kept = _airflow_home() / "simple_auth_manager_passwords.json.generated"
    console.print(
        f"Airflow will answer on http://localhost:{port} in about a minute: user operator,"
    )
    console.print(f"password in {kept}")
    # `airflow standalone` starts its parts as `airflow ...`: the one beside this interpreter.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = os.environ | nightly.ui_environment(_airflow_home(), port) | {"PATH": path}
    old = (dt.datetime.now(dt.UTC) - RECORDS).isoformat()
    for words in (
        ["db", "migrate"],
        ["db", "clean", "--clean-before-timestamp", old, "--skip-archive", "--yes"],
        ["pools", "import", str(HOME / "dags" / "pools.json")],
    ):
        subprocess.run([sys.executable, "-m", "airflow", *words], env=environment, check=True)
    os.execve(sys.executable, [sys.executable, "-m", "airflow", "standalone"], environment)


@app.command()
def show(
    table: Annotated[
        str,
        typer.Argument(
            parser=arguments.table,
            metavar="TABLE",
            help="Name of a table, such as recommendations.",
        ),
    ],
    day: Annotated[
        dt.date | None,
        typer.Option(
            "--day",
            parser=arguments.day,
            metavar="YYYY-MM-DD",
            help="Day; the greatest that is committed if left out.",
        ),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--user", parser=arguments.identifier, metavar="ID", help="Rows of one user_id."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many rows.")] = 20,
    warehouse: Warehouse = None,
) -> None:
    """Print rows of a table; result tables come from their day's release, whatever was written since."""
    from microrec.release import reader

    _quiet()
    where = str(warehouse) if warehouse else None
    rows = reader.rows_of(table, day=day, user_id=user, root=where)
    _print_rows(
        f"{table}: {rows.num_rows} rows", rows.column_names, rows.slice(0, limit).to_pylist()
    )


@app.command()
def releases(
    warehouse: Warehouse = None,
    latest: Annotated[
        bool, typer.Option("--latest", help="Only the one to follow, as a line of JSON.")
    ] = False,
) -> None:
    """List releases by day; the last one that is not withdrawn is what consumers follow."""
    from microrec.release import reader

    _quiet()
    where = str(warehouse) if warehouse else None
    if latest:
        one = reader.latest(where)
        typer.echo(json.dumps({"day": str(one.day), "release": one.id}))
        return
    listed = [vars(one) | {"id": one.id} for one in reader.every(where)]
    columns = ["id", "status", "reason", "run_id", "code_version", "valid_until", "tables"]
    _print_rows("releases", columns, listed)


@app.command()
def rollback(
    to: Annotated[
        str,
        typer.Option(
            "--to",
            parser=arguments.release,
            metavar="RELEASE",
            help="Id or day of the release to follow.",
        ),
    ],
    reason: Annotated[
        str,
        typer.Option(
            "--reason",
            parser=arguments.words,
            metavar="WORDS",
            help="Why; kept beside the withdrawn ones.",
        ),
    ],
    warehouse: Warehouse = None,
) -> None:
    """Make an earlier release the latest: those of later days are withdrawn, and stay so until they change."""
    from microrec.release import reader
    from microrec.release import rollback as back

    _quiet()
    where = str(warehouse) if warehouse else None
    withdrawn = back.to(to, reason=reason, root=where)
    console.print(f"withdrawn: {', '.join(map(str, withdrawn)) or 'none'}")
    console.print(f"latest:    {reader.latest(where).id}")


@app.command()
def watch(
    now: Annotated[
        dt.datetime | None,
        typer.Option(
            "--now",
            parser=arguments.instant,
            metavar="INSTANT",
            help="ISO 8601; this one if left out.",
        ),
    ] = None,
    warehouse: Warehouse = None,
) -> None:
    """Say what is wrong with the releases: late, expired, shrunk, withdrawn, unfinished; status 65 if anything is."""
    from microrec.config import recipe
    from microrec.errors import CheckFailed
    from microrec.release import health as outside
    from microrec.release import reader
    from microrec.tables.arrow import Warehouse as House

    _quiet()
    where = str(warehouse) if warehouse else None
    at = now or dt.datetime.now(dt.UTC)
    partitions = House.open(where).partitions("users")
    found = outside.findings(
        reader.every(where),
        {dt.date.fromisoformat(str(one["day"])) for one in partitions},
        now=at,
        config=recipe.section("release.watch", outside.Config),
    )
    if found:
        raise CheckFailed("; ".join(found))
    console.print(f"all is well: {reader.latest(where).id}")


@app.command()
def vacuum(
    hours: Annotated[int, typer.Option(min=24, help="Younger files stay.")] = 168,
    keep: Annotated[int, typer.Option(min=1, help="Releases that keep what they pin.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    warehouse: Warehouse = None,
) -> None:
    """Delete what no kept release and no table needs any more, files of failed attempts with it."""
    from microrec.release import retention
    from microrec.tables.arrow import Warehouse as House

    _quiet()
    opened = House.open(str(warehouse) if warehouse else None)
    now = dt.datetime.now(dt.UTC)
    found = retention.vacuum(opened, hours=hours, keep=keep, now=now, dry_run=dry_run)
    rows = [{"table": name, "deleted": len(files)} for name, files in found.items()]
    _print_rows("would be deleted" if dry_run else "deleted", ["table", "deleted"], rows)


@plots.command()
def clips(
    user: Annotated[
        str, typer.Option("--user", parser=arguments.identifier, metavar="ID", help="A user_id.")
    ],
    video: Video,
    day: job.Day,
    out: Picture = Path("clips.png"),
    warehouse: Warehouse = None,
) -> None:
    """Draw one user's predicted interest in each clip of a video, and where the user left it."""
    from microrec.plots.data import of_user
    from microrec.plots.figures import figure_of_clips, save

    _quiet()
    found = of_user(user, video, day, str(warehouse) if warehouse else None)
    title = f"user {user}, video {video}, night of {day}"
    save(figure_of_clips(found.end_ms, found.interest, found.viewings, title=title), out)
    console.print(f"{title}: {out}")


@plots.command()
def retention(
    video: Video, day: job.Day, out: Picture = Path("retention.png"), warehouse: Warehouse = None
) -> None:
    """Draw how much of a video's audience is left, as predicted and as observed, as released."""
    from microrec.plots.data import of_video
    from microrec.plots.figures import figure_of_retention, save

    _quiet()
    known, exits = of_video(video, day, str(warehouse) if warehouse else None)
    title = f"audience of video {video}, night of {day}"
    save(figure_of_retention(known, exits, title=title), out)
    console.print(f"{title}: {out}")


@plots.command()
def weights(day: job.Day, out: Picture = Path("weights.png"), warehouse: Warehouse = None) -> None:
    """Draw which source decides how much of the order of a list, by history, as released."""
    import pyarrow.compute as pc

    from microrec.plots.figures import figure_of_weights, save
    from microrec.release import reader

    _quiet()
    rows = reader.of(day, str(warehouse) if warehouse else None).read("blend_weights")
    rows = rows.filter(pc.equal(rows["fit"], "final"))
    title = f"what decides, night of {day}"
    save(figure_of_weights(rows, title=title), out)
    console.print(f"{title}: {out}")


def _places(landing: Path | None, warehouse: str | None) -> dict[str, str]:
    """Settings of where the raw files and the tables are."""
    return {
        "MICROREC_LANDING": str((landing or Path(settings().landing)).resolve()),
        "MICROREC_WAREHOUSE": warehouse or arguments.root(settings().warehouse),
    }


def _report(day: dt.date) -> None:
    """What a night ends with: the release, metrics against the floor, one user's list, where it all lies."""
    from microrec.release import reader

    _quiet()
    release = reader.of(day)
    console.rule(f"release {day}")
    pins = [vars(pin) for pin in release.tables.values()]
    _print_rows("result tables", ["table", "version", "rows", "digest"], pins)
    figures = release.read("metrics").to_pylist()
    _print_rows("held-out day, all users (95 % bootstrap interval)", *_headline(figures))
    someone = release.read("recommendations")["user_id"][0].as_py()
    head = release.read("recommendations", user_id=someone).slice(0, 5).to_pylist()
    columns = ["rank", "video_id", "score", "source", "reason"]
    _print_rows(f"the head of user {someone}'s list", columns, head)
    console.print(f"warehouse {settings().warehouse}\nlanding   {settings().landing}")


def _headline(figures: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """Recall and NDCG at 20 of every source, the blend and its difference to popularity, one row each."""
    shown = ["recall@20", "ndcg@20"]
    rows: dict[str, dict[str, Any]] = {}
    for figure in figures:
        if (
            figure["stage"] == "evaluation"
            and figure["slice"] == "all"
            and figure["metric"] in shown
        ):
            row = rows.setdefault(figure["name"], {"name": figure["name"], "users": figure["n"]})
            span = "" if figure["low"] is None else f" [{figure['low']:.4f}, {figure['high']:.4f}]"
            row[figure["metric"]] = f"{figure['value']:.4f}{span}"
    return ["name", *shown, "users"], [rows[name] for name in sorted(rows)]


def _print_rows(title: str, columns: list[str], rows: list[dict[str, object]]) -> None:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == columns[0])
    for row in rows:
        # As it is: brackets in an id are no markup, and no character of it moves the cursor.
        table.add_row(*[Text(messages.plain(_text(row.get(column)))) for column in columns])
    # Into a file or a pipe lines are as long as they are: folded ids cannot be searched for.
    unfolded = Console(highlight=False, width=WIDE)
    (console if console.is_terminal else unfolded).print(table)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, dict):
        return " ".join(f"{name}@{pin.version}" for name, pin in value.items())
    return "" if value is None else str(value)


def _quiet() -> None:
    """Somebody reads: the tables' log lines are for runs."""
    logging.getLogger("microrec").setLevel(logging.WARNING)


def _airflow_home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", HOME / "var" / "airflow")).resolve()


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
        # In one line: a task's alert is the last line that was printed.
        words = messages.one_line(redacted(f"{type(error).__name__}: {error}"))
        console.print(words, style="bold red", markup=False, soft_wrap=True)
        sys.exit(ExitStatus.DATA_ERROR)
