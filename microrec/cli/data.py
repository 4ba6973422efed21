"""`microrec world`, `microrec import`: write raw files into a landing zone."""

from pathlib import Path
from typing import Annotated

import typer

from microrec.cli import options
from microrec.cli.printing import print_line

app = typer.Typer()
imports = typer.Typer(no_args_is_help=True, help="Write public data into a landing zone.")
app.add_typer(imports, name="import")


@app.command()
def world(
    landing: options.Landing,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random generator.")] = 1,
    users: Annotated[int, typer.Option(min=20, help="Number of users.")] = 400,
    videos: Annotated[int, typer.Option(min=40, help="Number of videos by the last day.")] = 800,
    days: Annotated[int, typer.Option(min=1, help="Number of days, from 2026-01-01 on.")] = 8,
) -> None:
    """Generate a planted world and write its raw files, with the truth beside them."""
    import numpy as np

    from microrec.landing import write
    from microrec.synth.world import Config, generate

    config = Config(users=users, videos=videos, days=days)
    planted = generate(config, np.random.default_rng(seed))
    write.write_world(str(landing), planted.parts, truth=planted.truth.model_dump(mode="json"))
    print_line(f"planted world: {users} users, {videos} videos, {days} days in {landing}")


@imports.command()
def kuairand(
    source: Annotated[Path, typer.Argument(help="Folder of the public KuaiRand-Pure files.")],
    landing: options.Landing,
) -> None:
    """Import the public KuaiRand-Pure files (Gao et al., CIKM 2022; CC BY-SA 4.0)."""
    from microrec.landing.importers import kuairand as importer

    importer.import_files(source, str(landing))
