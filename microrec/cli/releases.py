"""`microrec show`, `explain`, `releases`, `diff`, `rollback`, `watch`, `prune`, `vacuum`: read releases, undo them."""

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microrec.cli import options
from microrec.cli.printing import hide_table_logs, print_json, print_line, print_rows
from microrec.core import arguments
from microrec.runner import job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microrec.release.reader import Release
    from microrec.tables.arrow import Warehouse

app = typer.Typer()


@app.command()
def show(  # noqa: PLR0913 - the parameters of a command are its options
    table: Annotated[
        str,
        typer.Argument(
            parser=arguments.table,
            metavar="TABLE",
            help="Name of a table, such as recommendations.",
        ),
    ],
    day: Annotated[
        dt.date | None, options.day_option("--day", text="Day; the last committed one if left out.")
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--user", parser=arguments.identifier, metavar="ID", help="Only rows of this user_id."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many rows.")] = 20,
    committed: Annotated[
        bool,
        typer.Option("--committed", help="Also of a day without a release, as one that was held."),
    ] = False,
    root: options.WarehouseRoot = None,
    as_json: options.AsJson = False,
) -> None:
    """Print rows of a table: a result table as its day's release pins it, any other as committed."""
    from microrec.release import reader

    hide_table_logs()
    rows = reader.rows_of(table, day=day, user_id=user, as_committed=committed, root=root)
    title = f"{table}: {rows.num_rows} rows"
    print_rows(title, rows.column_names, rows.slice(0, limit).to_pylist(), as_json=as_json)


@app.command()
def explain(
    user: options.User,
    rank: Annotated[int, typer.Option("--rank", min=1, help="Place in the list, from 1.")] = 1,
    day: Annotated[
        dt.date | None, options.day_option("--day", text="Day; the latest release if left out.")
    ] = None,
    root: options.WarehouseRoot = None,
    as_json: options.AsJson = False,
) -> None:
    """Say why a video is in a user's list: what speaks for it, and what decided the order.

    With --json it prints one object: `day`, `release`, `rank`, `video_id`, `sentences`, and `parameters`, the share of
    each source in the order of lists of users of whom as much is known.
    """
    from microrec.release import explanation, reader

    hide_table_logs()
    release = reader.latest(root) if day is None else reader.of(day, root)
    explained = explanation.explain(release, user, rank)
    if as_json:
        print_json([explained._asdict()])
        return
    print_line(f"{explained.video_id}, place {explained.rank} of {explained.release}:")
    for sentence in explained.sentences:
        print_line(sentence)


@app.command()
def releases(
    root: options.WarehouseRoot = None,
    latest: Annotated[
        bool,
        typer.Option("--latest", help="Only day and id of the latest one, as a line of JSON."),
    ] = False,
    shown_id: Annotated[
        str | None,
        typer.Option(
            "--show",
            parser=arguments.release,
            metavar="RELEASE",
            help="Only what the release with this id or day was made of.",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List releases by day; consumers follow the last one that is not withdrawn.

    With --show and --json it prints one object: `release`, `plan` (digests of what it was made of), `is_of_release`,
    `models` with their digests and configurations, `files` of the landing zone, `gates` that failed, `tables` (the
    pins), `erasures`.
    """
    from microrec.release import reader

    hide_table_logs()
    if shown_id is not None:
        _show_release(shown_id, root, as_json=as_json)
        return
    if latest:
        release = reader.latest(root)
        typer.echo(json.dumps({"day": str(release.day), "release": release.id}))
        return
    rows = [_release_row(release) for release in reader.every(root)]
    if as_json:
        print_json(rows)
        return
    shown = [row | {"tables": _pins_in_short(row["tables"])} for row in rows]
    columns = ["id", "status", "reason", "run_id", "code_version", "valid_until", "tables"]
    print_rows("releases", columns, shown, as_json=False)


@app.command()
def diff(
    before: Annotated[
        str, typer.Argument(parser=arguments.release, metavar="BEFORE", help="Id or day.")
    ],
    after: Annotated[
        str, typer.Argument(parser=arguments.release, metavar="AFTER", help="Id or day.")
    ],
    root: options.WarehouseRoot = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what differs between two releases: inputs, models, landing files, figures, gates, rows, people's lists.

    Prints a row for each difference: `what`, `name`, `before`, `after`.
    """
    from microrec.release import provenance, reader

    hide_table_logs()
    pair = (reader.named(before, root), reader.named(after, root))
    rows = [each._asdict() for each in provenance.differences(*pair)]
    title = f"{pair[0].id} and {pair[1].id}"
    print_rows(title, ["what", "name", "before", "after"], rows, as_json=as_json)


@app.command()
def rollback(
    to: Annotated[
        str,
        typer.Option(
            "--to",
            parser=arguments.release,
            metavar="RELEASE",
            help="Id or day of the release that consumers are to follow.",
        ),
    ],
    reason: Annotated[
        str,
        typer.Option(
            "--reason",
            parser=arguments.words,
            metavar="WORDS",
            help="Why; kept beside the withdrawn releases.",
        ),
    ],
    root: options.WarehouseRoot = None,
) -> None:
    """Make an earlier release the latest: those of later days are withdrawn until their rows change."""
    from microrec.release import reader
    from microrec.release import rollback as rollbacks

    job.restrict_files()
    hide_table_logs()
    withdrawn = rollbacks.to(to, reason=reason, root=root)
    print_line(f"withdrawn: {', '.join(map(str, withdrawn)) or 'none'}")
    print_line(f"latest:    {reader.latest(root).id}")


@app.command()
def watch(
    now: Annotated[
        dt.datetime | None,
        typer.Option(
            "--now",
            parser=arguments.instant,
            metavar="INSTANT",
            help="Judge as of this instant (ISO 8601); now if left out.",
        ),
    ] = None,
    metrics_file: Annotated[
        Path | None,
        typer.Option(
            "--metrics-file",
            help="Write figures for Prometheus here; MICROREC_METRICS_FILE if left out.",
        ),
    ] = None,
    landing: options.OptionalLanding = None,
    root: options.WarehouseRoot = None,
    as_json: options.AsJson = False,
) -> None:
    """Check the releases: late, expired, shrunk, withdrawn, unfinished; exit status 65 if anything is wrong.

    Landing files that were added, rewritten or removed after the last night had read their day are named, too; so are
    privacy requests of the last day that could not be read or are of users whom no log knows, and erasures that are
    overdue.

    With --json it prints one object: `now`, the id of the `latest` release (null if none is in force), and the
    `findings`, a text each. With a file for Prometheus it writes what `microrec.report.prometheus` lists, whatever it
    finds.
    """
    from microrec.config import recipe
    from microrec.config.settings import settings
    from microrec.errors import CheckFailed
    from microrec.release import reader
    from microrec.report import prometheus
    from microrec.tables.arrow import Warehouse

    hide_table_logs()
    at = now or dt.datetime.now(dt.UTC)
    warehouse = Warehouse.open(root)
    every = reader.every(root)
    findings = _findings(warehouse, every, at, str(landing or settings().landing))
    in_force = [release.id for release in every if release.status == reader.RELEASED]
    latest = in_force[-1] if in_force else None
    if as_json:
        print_json([{"now": at, "latest": latest, "findings": findings}])
    file = metrics_file or settings().metrics_file
    if file is not None:
        night = recipe.current().night
        figures = prometheus.samples(
            warehouse,
            every,
            findings=len(findings),
            now=at,
            sources=night.models,
            timezone=night.timezone,
        )
        prometheus.write(file, figures)
    if findings:
        raise CheckFailed("; ".join(findings))
    if not as_json:
        print_line(f"all is well: {latest}")


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=1, help="Releases that keep their results.")] = 30,
    airflow_logs: Annotated[
        Path | None, typer.Option(help="Folder of Airflow's log files: old ones are deleted, too.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be taken out.")
    ] = False,
    root: options.WarehouseRoot = None,
    as_json: options.AsJson = False,
) -> None:
    """Take out rows that are older than the recipe keeps them, `[retention]`; `vacuum` deletes their files later."""
    from microrec.config import recipe
    from microrec.core import days
    from microrec.pipeline import kept_days
    from microrec.release import retention
    from microrec.tables.arrow import Warehouse

    job.restrict_files()
    hide_table_logs()
    current = recipe.current()
    config = current.section("retention", retention.Config)
    now = dt.datetime.now(dt.UTC)
    pruned = retention.prune(
        Warehouse.open(root),
        config,
        today=days.of(now, current.night.timezone),
        floors=kept_days.floors(current),
        releases=keep,
        dry_run=dry_run,
    )
    if airflow_logs is not None:
        before = now - dt.timedelta(days=config.airflow_logs)
        pruned["airflow_logs"] = retention.prune_logs(airflow_logs, before=before, dry_run=dry_run)
    rows = [
        {"table": table, "partitions": n, "dry_run": dry_run} for table, n in pruned.items() if n
    ]
    title = "would be taken out" if dry_run else "taken out"
    print_rows(title, ["table", "partitions"], rows, as_json=as_json)


@app.command()
def vacuum(
    hours: Annotated[int, typer.Option(min=24, help="Younger files stay.")] = 168,
    keep: Annotated[int, typer.Option(min=1, help="Releases that keep the files they pin.")] = 30,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be deleted.")
    ] = False,
    root: options.WarehouseRoot = None,
    as_json: options.AsJson = False,
) -> None:
    """Delete files that no kept release and no table needs any more, those of failed attempts included."""
    from microrec.release import retention
    from microrec.tables.arrow import Warehouse

    job.restrict_files()
    hide_table_logs()
    deleted = retention.vacuum(
        Warehouse.open(root),
        hours=hours,
        keep=keep,
        now=dt.datetime.now(dt.UTC),
        dry_run=dry_run,
    )
    rows = [
        {"table": table, "deleted": len(files), "dry_run": dry_run}
        for table, files in deleted.items()
    ]
    title = "would be deleted" if dry_run else "deleted"
    print_rows(title, ["table", "deleted"], rows, as_json=as_json)


def _findings(
    warehouse: "Warehouse", every: "Sequence[Release]", now: dt.datetime, landing: str
) -> list[str]:
    """What is wrong with the releases, the landing zone's files and people's requests, a text each."""
    from microrec.config import recipe
    from microrec.pipeline import landing_files, requests
    from microrec.privacy import erasure
    from microrec.release import health

    current = recipe.current()
    night = current.night
    findings = health.findings(
        every,
        {dt.date.fromisoformat(str(each["day"])) for each in warehouse.partitions("users")},
        now=now,
        config=current.section("release.watch", health.Config),
        timezone=night.timezone,
    )
    findings += landing_files.unread(
        warehouse, landing, window_days=night.window_days, lateness_days=night.lateness_days
    )
    findings += requests.findings(warehouse)
    allowed = current.section("privacy.erasure", erasure.Config).proof_days
    return findings + requests.overdue(warehouse, now=now, days_allowed=allowed)


def _show_release(release: str, root: str | None, *, as_json: bool) -> None:
    """Print what a release was made of, part by part."""
    from microrec.release import provenance, reader

    made_of = provenance.of(reader.named(release, root))
    if as_json:
        print_json([made_of._asdict()])
        return
    parts: dict[str, list[Any]] = {"release": [made_of.release], "plan": [made_of.plan]}
    for name, rows in (parts | made_of._asdict()).items():
        rows = parts.get(name, rows)
        if isinstance(rows, list) and rows and rows[0]:
            columns = [column for column in rows[0] if column not in ("config", "detail")]
            print_rows(name, columns, rows, as_json=False)
    if made_of.is_of_release is False:
        print_line("plan, models and files are those of a later run of the day")


def _release_row(release: "Release") -> dict[str, Any]:
    """Return a release as `releases --json` prints it."""
    return {
        "id": release.id,
        "day": release.day,
        "status": release.status,
        "reason": release.reason,
        "run_id": release.run_id,
        "code_version": release.code_version,
        "valid_until": release.valid_until,
        "inputs": release.inputs,
        "tables": {
            name: {"version": pin.version, "rows": pin.rows, "digest": pin.digest}
            for name, pin in release.tables.items()
        },
    }


def _pins_in_short(tables: dict[str, dict[str, Any]]) -> str:
    return " ".join(f"{name}@{pin['version']}" for name, pin in tables.items())
