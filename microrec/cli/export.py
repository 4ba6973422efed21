"""`microrec export`: hand a release to the store that serves it, and take out of it who has withdrawn."""

import datetime as dt
import time
from typing import TYPE_CHECKING, Annotated

import typer

from microrec.cli import options
from microrec.cli.printing import hide_table_logs, print_rows
from microrec.core import arguments
from microrec.errors import BadArgument
from microrec.runner import job

if TYPE_CHECKING:
    from microrec.release.reader import Release

app = typer.Typer()


@app.command()
def export(  # noqa: PLR0913 - the parameters of a command are its options
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="ADDRESS",
            show_default="MICROREC_EXPORT_TO",
            help="redis://, rediss://, postgresql://, parquet:FOLDER or jsonl:FOLDER; an address with a password"
            " belongs into the variable, as others see the arguments of a process.",
        ),
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(
            "--release",
            parser=arguments.release,
            metavar="RELEASE",
            help="Id or day of a release that is not withdrawn; the latest one if left out.",
        ),
    ] = None,
    vectors: Annotated[
        list[str] | None,
        typer.Option(
            "--vectors",
            parser=arguments.model,
            metavar="MODEL",
            help="Serve the vectors of this model, too (Postgres, files); may be repeated.",
        ),
    ] = None,
    withdrawn: Annotated[
        bool,
        typer.Option(
            "--withdrawn",
            help="Only take out of the store who has left the release that it serves: erased, opted out.",
        ),
    ] = False,
    name: Annotated[
        str, typer.Option("--name", help="What keys begin with (Redis), or the schema (Postgres).")
    ] = "microrec",
    root: options.WarehouseRoot = None,
    as_json: options.AsJson = False,
) -> None:
    """Hand the latest release to the store that serves it, in the place of the one before.

    A release that the store serves already only has its time to live set anew. An export that is killed leaves the
    store as it was.
    """
    from microrec.config.settings import settings
    from microrec.export import handoff, stores
    from microrec.release import reader

    address = to or settings().export_to
    if not address:
        raise BadArgument("export: name a store with --to or MICROREC_EXPORT_TO")
    if withdrawn and (release or vectors):
        raise BadArgument("--withdrawn: goes with neither --release nor --vectors")
    job.restrict_files()
    hide_table_logs()

    def chosen() -> "Release":
        if release is None:
            return reader.latest(root)
        return reader.of(reader.named(release, root).day, root)

    target = stores.open_store(address, name)
    begun = time.monotonic()
    if withdrawn:
        removed = handoff.remove_withdrawn(target, lambda served: reader.named(served, root))
        print_rows("taken out", ["users"], [{"users": removed}], as_json=as_json)
        return
    outcome = handoff.export(target, chosen, at=dt.datetime.now(dt.UTC), models=vectors or ())
    row = outcome._asdict() | {"seconds": round(time.monotonic() - begun, 1)}
    columns = ["release", "action", "lists", "valid_until", "seconds"]
    print_rows("export", columns, [row], as_json=as_json)


@app.command(name="dbt-sources")
def dbt_sources() -> None:
    """Print the result tables as sources of dbt (sources.yml), from their contracts."""
    from microrec.config.settings import settings
    from microrec.export import dbt

    typer.echo(dbt.sources(settings().schemas), nl=False)
