"""`microrec erase`, `erasures`, `prove-erasure`, `export-user`: erase people, prove it, tell what is held of them."""

import datetime as dt
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microrec.cli import options
from microrec.cli.printing import hide_table_logs, print_line, print_rows
from microrec.core import arguments
from microrec.errors import BadArgument, CheckFailed
from microrec.runner import job

if TYPE_CHECKING:
    from microrec.privacy.proof import Scan
    from microrec.privacy.quotes import Ids
    from microrec.tables.arrow import Warehouse

app = typer.Typer()


@app.command()
def erase(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be rewritten.")
    ] = False,
    landing: options.OptionalLanding = None,
    root: options.WarehouseRoot = None,
    as_json: options.AsJson = False,
) -> None:
    """Erase whoever asks for it and has no receipt, now; each night does so before it reads anything.

    Requests that no night has read are read first; with --dry-run they are not.
    """
    from microrec.config import recipe
    from microrec.config.settings import settings
    from microrec.pipeline import erasing, requests
    from microrec.pipeline.night import Night
    from microrec.privacy import erasure, receipts
    from microrec.privacy.subjects import Subjects
    from microrec.tables.arrow import Warehouse

    job.restrict_files()
    hide_table_logs()
    warehouse = Warehouse.open(root)
    current = recipe.current()
    if not dry_run:
        requests.fold_now(root, str(landing) if landing else None)
    asking = receipts.requests(warehouse)
    subject_of = Subjects.open(warehouse.root).of
    n_due = len(receipts.due(warehouse, asking, subject_of))
    if dry_run:
        authors_are_users = current.night.authors_are_users
        tallies = erasure.plan(
            warehouse, asking, subject_of=subject_of, authors_are_users=authors_are_users
        )
    else:
        night = Night(dt.datetime.now(dt.UTC).date(), "final", warehouse, current)
        tallies = erasing.erase_due(night, str(landing or settings().landing))
    rows = [
        {"table": each.table, "files": len(each.files), "bytes": each.bytes, "dry_run": dry_run}
        for each in tallies
        if each.files
    ]
    title = f"{n_due} people {'would be erased' if dry_run else 'erased'}"
    print_rows(title, ["table", "files", "bytes"], rows, as_json=as_json)


@app.command()
def erasures(
    root: options.WarehouseRoot = None,
    last: Annotated[
        bool, typer.Option("--last", help="Only id and instant of the last one, as a line of JSON.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """List the receipts of erasures, one a line; they name nobody. With --last and no receipt it prints `{}`."""
    from microrec.privacy import receipts
    from microrec.tables.arrow import Warehouse

    hide_table_logs()
    rows = receipts.every(Warehouse.open(root))
    if last:
        latest = {name: str(rows[-1][name]) for name in ("erasure", "done_at")} if rows else {}
        typer.echo(json.dumps(latest))
        return
    print_rows("erasures", ["erasure", "done_at", "people", "proved"], rows, as_json=as_json)


@app.command(name="prove-erasure")
def prove_erasure(
    root: options.WarehouseRoot = None,
    landing: options.OptionalLanding = None,
    state: Annotated[
        list[Path] | None,
        typer.Option(
            "--state",
            show_default="the folder of Airflow, and var/",
            help="Folder of what runs leave behind, searched besides the warehouse; may be repeated.",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Search everything that is kept for people whose ids stand on standard input, one a line.

    It decodes Parquet, the Delta log, models, JSON, logs and SQLite under the warehouse and the state folders, but not
    the landing zone, which is the producers'. Objects of a store are copied here one at a time, and of a versioned
    bucket only the current ones are seen. Hits are printed by place, never an id; any hit ends it with exit status
    65. If there is none, the receipts of the people say so (`proved_at`).
    """
    from microrec.privacy import receipts
    from microrec.privacy.quotes import Ids
    from microrec.privacy.subjects import Subjects
    from microrec.tables.arrow import Warehouse

    job.restrict_files()
    hide_table_logs()
    ids = Ids(line.rstrip("\r\n") for line in sys.stdin)
    if not ids:
        raise BadArgument("prove-erasure: no ids on standard input, one a line")
    warehouse = Warehouse.open(root)
    scan = _scanned(warehouse, ids, landing, state)
    hits = [{"place": place, "hits": n} for place, n in sorted(scan.hits.items())]
    print_rows(f"{scan.n_files} files searched", ["place", "hits"], hits, as_json=as_json)
    if hits:
        n_hits = sum(scan.hits.values())
        raise CheckFailed(f"prove-erasure: {n_hits} hits in {len(hits)} places")
    subject_of = Subjects.open(warehouse.root).of
    subjects = [subject_of(each) for each in ids.ids]
    n_proved = receipts.prove(warehouse, subjects, at=dt.datetime.now(dt.UTC))
    if not as_json:
        print_line(f"nothing is left of {len(ids.ids)} people; receipts: {n_proved}")


@app.command(name="export-user")
def export_user(
    out: Annotated[Path, typer.Option("--out", help="Folder to write; it is made, or empty.")],
    root: options.WarehouseRoot = None,
    as_json: options.AsJson = False,
) -> None:
    """Write what the warehouse holds of the person whose id stands on standard input, JSON lines, a file a table.

    `about.json` says what the files are. Only the owner may read them. The landing zone is the producers'.
    """
    from microrec.config import recipe
    from microrec.privacy import export
    from microrec.tables.arrow import Warehouse

    job.restrict_files()
    hide_table_logs()
    ids = sys.stdin.read().splitlines()
    if len(ids) != 1:
        raise BadArgument(f"export-user: {len(ids)} lines on standard input, not one id")
    counts = export.export(
        Warehouse.open(root),
        arguments.identifier(ids[0]),
        out,
        authors_are_users=recipe.current().night.authors_are_users,
    )
    rows = [{"table": table, "rows": n_rows} for table, n_rows in counts.items()]
    print_rows(f"{len(rows)} tables", ["table", "rows"], rows, as_json=as_json)


def _scanned(
    warehouse: "Warehouse", ids: "Ids", landing: Path | None, state: list[Path] | None
) -> "Scan":
    """Search the warehouse and the folders of state, each file once."""
    from microrec.cli import local_airflow
    from microrec.config import recipe
    from microrec.config.settings import STATE, settings
    from microrec.privacy.proof import Scan, namesakes
    from microrec.tables.commit import filesystem

    authors = recipe.current().night.authors_are_users
    others = namesakes(warehouse, ids, authors_are_users=authors)
    scan = Scan(ids, warehouse.schemas, namesakes=others, authors_are_users=authors)
    searched = [Path(landing or settings().landing)]
    kept = [*(state or [local_airflow.airflow_home(), STATE])]
    if "://" in warehouse.root:
        name = warehouse.root.rstrip("/").rsplit("/", 1)[-1]
        scan.store(*filesystem(warehouse.root, warehouse.options), name)
    else:
        kept.insert(0, Path(warehouse.root))
    for folder in kept:
        scan.folder(folder, without=searched)
        searched.append(folder)
    return scan
