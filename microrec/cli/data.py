"""`microrec world`, `microrec import`, `microrec inspect`: raw files in a landing zone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microrec.cli import options
from microrec.cli.printing import print_json, print_line, print_table
from microrec.core import messages
from microrec.errors import BadArgument
from microrec.runner import job

if TYPE_CHECKING:
    from microrec.landing.importers.table import Report

app = typer.Typer()
imports = typer.Typer(no_args_is_help=True, help="Write other data into a landing zone.")
app.add_typer(imports, name="import")


@app.command()
def world(  # noqa: PLR0913 - the parameters of a command are its options
    landing: options.Landing,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random generator.")] = 1,
    users: Annotated[int, typer.Option(min=20, help="Number of users.")] = 400,
    videos: Annotated[int, typer.Option(min=40, help="Number of videos by the last day.")] = 800,
    days: Annotated[int, typer.Option(min=1, help="Number of days, from 2026-01-01 on.")] = 8,
    words: Annotated[
        bool,
        typer.Option(
            "--words",
            help="Captions in two languages and no vectors of words: the night makes them.",
        ),
    ] = False,
    media: Annotated[
        bool,
        typer.Option(
            "--media",
            help="With --words, and a film for each video instead of vectors (microrec[media]; minutes).",
        ),
    ] = False,
) -> None:
    """Generate a planted world and write its raw files, with the truth beside them."""
    import numpy as np

    from microrec.landing import write
    from microrec.synth.media import render
    from microrec.synth.world import Config, generate

    config = Config(users=users, videos=videos, days=days, words=words or media, media=media)
    planted = generate(config, np.random.default_rng(seed))
    write.write_world(str(landing), planted.parts, truth=planted.truth.model_dump(mode="json"))
    for path, film in planted.films.items():
        write.write_file(
            str(landing), path, render(film, np.random.default_rng([seed, *path.encode()]))
        )
    print_line(f"planted world: {users} users, {videos} videos, {days} days in {landing}")


@imports.command()
def kuairand(
    source: Annotated[Path, typer.Argument(help="Folder of the public KuaiRand-Pure files.")],
    landing: options.Landing,
) -> None:
    """Import the public KuaiRand-Pure files (Gao et al., CIKM 2022; CC BY-SA 4.0), by day of the recipe's time zone."""
    from microrec.config import recipe
    from microrec.landing.importers import kuairand as importer

    importer.import_files(source, str(landing), recipe.current().night.timezone)


@imports.command()
def table(  # noqa: PLR0913 - the parameters of a command are its options
    files: Annotated[
        list[str], typer.Argument(help="CSV, JSON lines or Parquet files, or patterns of such.")
    ],
    landing: options.Landing,
    as_table: Annotated[
        str, typer.Option("--as", help="Landing table, such as raw_interactions.")
    ] = "",
    mapped: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="COLUMN=EXPRESSION", help="What a landing column is made of (SQL)."
        ),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option("--mapping", help="TOML file: columns, units, time zone and so on."),
    ] = None,
    day_of: Annotated[
        str,
        typer.Option(
            "--day-of",
            metavar="RULE",
            help="Arrival day: event (the day of the time column), a date or an expression.",
        ),
    ] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace earlier deliveries of the same file names.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and write nothing.")] = False,
) -> None:
    """Import anybody's table: columns are mapped by SQL expressions, rows land by arrival day.

    Example: `microrec import table logs/*.csv --as raw_interactions --map user_id=uid --map watch_ms='seconds*1000'`.
    The page schemas/README.md shows a mapping file. A mapping is code: use none that you have not read.
    """
    from microrec.landing.importers import table as importer
    from microrec.landing.importers.mapping import Mapping

    changes = {"table": as_table, "columns": dict(map(_pair, mapped or [])), "day": day_of}
    wanted = Mapping.load(mapping, changes)
    report = importer.import_files(files, wanted, str(landing), replace=replace, dry_run=dry_run)
    _print_import(report, dry_run=dry_run)


@app.command()
def inspect(landing: options.Landing, day: job.Day, as_json: options.AsJson = False) -> None:
    """Say what a night would make of a landing day, in seconds and without Spark.

    Which files arrived and whether they are whole, rows by the rule that refuses them with examples, days, units, time
    zones, ids that do not meet, vectors, and what the recipe lacks. It reads the viewings of the day (and of those
    before that may be late) and all days of the other tables, in at most 1 GB and a scratch folder; nothing is written
    elsewhere.
    """
    from microrec.config import recipe
    from microrec.events.config import Config
    from microrec.landing import inspection, verify
    from microrec.landing.verdicts import Thresholds

    night = recipe.current()
    labels = night.section("events", Config).model_dump(include=set(Thresholds.__annotations__))
    thresholds = Thresholds(
        lateness_days=night.night.lateness_days, timezone=night.night.timezone, **labels
    )
    limits = verify.limits_of(night)
    report = inspection.inspect(str(landing), day, thresholds=thresholds, limits=limits)
    if as_json:
        print_json([report])
    else:
        _print_inspection(report)


def _print_inspection(report: dict[str, Any]) -> None:
    files = [
        row
        | {
            "whole": "yes" if not row["problem"] else "no",
            "unknown columns": ", ".join(row["unknown_columns"]),
        }
        for row in report["files"]
        if row["day"] == report["day"]
    ]
    columns = ["table", "file", "kind", "bytes", "rows", "whole", "unknown columns"]
    print_table(f"files of {report['day']}", columns, files)
    print_table("rows by rule", ["table", "rule", "effect", "n"], report["rules"])
    for row in report["rules"]:
        for example in row["examples"]:
            where = f"{example['file']} line {example['number']}"
            print_line(f"{row['rule']}: {where}: {messages.shown(example['line'], 120)}")
    print_table("event days", ["day", "viewings", "first", "last"], report["event_days"])
    units = report["units"]
    print_line(
        f"medians: watch {units['watch_ms']} ms, length {units['duration_ms']} ms, ratio {units['watch_ratio']};"
        f" quietest hours (UTC): {', '.join(map(str, units['quiet_hours_utc']))}"
    )
    print_table("ids that do not meet", ["what", "rows", "ids", "example"], report["ids"])
    print_table(
        "vectors", ["modality", "encoder_version", "length", "videos", "share"], report["coverage"]
    )
    print_line(", ".join(f"{name} {n}" for name, n in report["totals"].items()))
    for text in report["lacking"] or ["nothing is lacking for a night"]:
        print_line(f"- {text}")


def _pair(text: str) -> tuple[str, str]:
    column, equals, expression = text.partition("=")
    if not (column.strip() and equals and expression.strip()):
        raise BadArgument(
            f"--map {messages.shown(text)}: expected COLUMN=EXPRESSION, such as user_id=uid"
        )
    return column.strip(), expression.strip()


def _print_import(report: "Report", *, dry_run: bool) -> None:
    for path, n_read in report.read.items():
        n_filtered = report.filtered[path]
        unused = ", ".join(report.unused[path]) or "none"
        print_line(
            f"{path}: {n_read} rows read, {n_filtered} left out by `where`, {n_read - n_filtered} imported; unused"
            f" columns: {unused}"
        )
    columns = [
        {"column": column, "made of": made_of, "empty": report.empty[column]}
        for column, made_of in report.expressions.items()
    ]
    print_table(report.table, ["column", "made of", "empty"], columns)
    for column, (n, example) in report.uncomputed.items():
        print_line(
            f"{column}: {n} value(s) could not be computed, first {example}; the night refuses their rows"
        )
    if report.undated:
        print_line(f"{report.undated} row(s) without a readable day lie on their file's last day")
    days = [{"day": day, "rows": n} for day, n in sorted(report.written.items())]
    print_table("would be written" if dry_run else "written", ["day", "rows"], days)
    if report.unchanged or report.removed:
        print_line(f"{report.unchanged} file(s) were there already, {len(report.removed)} removed")
