"""Options that several commands share, and how an option that is a day is declared."""

import datetime as dt
from pathlib import Path
from typing import Annotated, Any

import typer

from microrec.config.settings import Settings
from microrec.core import arguments


def _setting(name: str, default: str | None = None) -> str:
    """What `--help` says of an option that is a setting if it is left out."""
    return f"MICROREC_{name.upper()}, else {default or Settings.model_fields[name].default}"


Landing = Annotated[Path, typer.Option("--landing", help="Root folder of the raw files.")]
OptionalLanding = Annotated[
    Path | None,
    typer.Option(
        "--landing", show_default=_setting("landing"), help="Root folder of the raw files."
    ),
]
OptionalRecipe = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        show_default=_setting("recipe", "microrec.toml of the installation"),
        help="The recipe: models, thresholds and parameters.",
    ),
]
WarehouseRoot = Annotated[
    str | None,
    typer.Option(
        "--warehouse",
        parser=arguments.root,
        metavar="ROOT",
        show_default=_setting("warehouse"),
        help="Root of the tables, a folder or an object-store URI.",
    ),
]
Video = Annotated[
    str,
    typer.Option("--video", parser=arguments.identifier, metavar="ID", help="A video_id."),
]
User = Annotated[
    str, typer.Option("--user", parser=arguments.identifier, metavar="ID", help="A user_id.")
]
Picture = Annotated[
    Path, typer.Option("--out", help="File to write; its ending sets the format (png, svg, pdf).")
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON lines, an object a row, and nothing else."),
]


def day_option(*names: str, text: str) -> Any:
    """Return the declaration of an option that is a day.

    Args:
        *names: the option, such as `--from`, and other words for it.
        text: what its help says.

    Returns:
        For `Annotated[datetime.date, ...]`.
    """
    return typer.Option(*names, parser=arguments.day, metavar="YYYY-MM-DD", help=text)


NightDay = Annotated[dt.date, day_option("--day", "--from", text="UTC day of the night.")]
LastNight = Annotated[
    dt.date | None,
    day_option("--to", text="Last of several days, whose nights run one after another."),
]
FirstDay = Annotated[dt.date, day_option("--from", text="First day.")]
LastDay = Annotated[dt.date, day_option("--to", text="Last day.")]
