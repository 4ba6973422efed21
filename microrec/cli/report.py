"""`microrec report`: the page of a night, written anywhere."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from microrec.cli import options
from microrec.cli.printing import hide_table_logs, print_line
from microrec.runner import job

app = typer.Typer()


@app.command()
def report(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="File to write; beside the tables, as the night does, if left out."
        ),
    ] = None,
    day: Annotated[
        dt.date | None,
        options.day_option("--day", text="Day; that of the latest release if left out."),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=0, help="Show lists of so many users; needs --out.")
    ] = 0,
    ids: Annotated[
        bool, typer.Option("--ids", help="Name these users, and the videos they watched.")
    ] = False,
    root: options.WarehouseRoot = None,
) -> None:
    """Write the page of a night: verdict and why, what came in, quality, lists, changes; also of a held one.

    Lists of users are personal data: whoever writes them to a file sees to it that the file goes.
    """
    from microrec.config import recipe
    from microrec.errors import BadArgument
    from microrec.release import reader
    from microrec.report import facts, page
    from microrec.tables import pages
    from microrec.tables.arrow import Warehouse

    if samples and out is None:
        raise BadArgument(
            "--samples: name a file with --out; no list of a user lies beside the tables"
        )
    job.restrict_files()
    hide_table_logs()
    warehouse = Warehouse.open(root)
    night = recipe.current().night
    of_night = facts.gather(
        warehouse,
        day or reader.latest(root).day,
        sources=night.models,
        least_people=night.least_people,
        samples=samples,
        ids=ids,
    )
    text = page.render(of_night)
    if out is None:
        path = pages.save(warehouse, of_night.day, text)
    else:
        out.write_text(text, encoding="utf-8")
        path = str(out)
    print_line(f"{of_night.verdict.word}: {of_night.verdict.why}")
    print_line(path)
