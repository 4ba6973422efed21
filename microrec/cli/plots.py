"""`microrec plot`: draw what a night's release says."""

from pathlib import Path

import typer

from microrec.cli import options
from microrec.cli.printing import hide_table_logs, print_line
from microrec.runner import job

app = typer.Typer()
plots = typer.Typer(no_args_is_help=True, help="Draw what a night's release says.")
app.add_typer(plots, name="plot")


@plots.command()
def clips(
    user: options.User,
    video: options.Video,
    day: job.Day,
    out: options.Picture = Path("clips.png"),
    root: options.WarehouseRoot = None,
) -> None:
    """Draw a user's predicted interest in each clip of a video, and where the user left it."""
    from microrec.plots.data import of_user
    from microrec.plots.figures import figure_of_clips, save

    hide_table_logs()
    clips = of_user(user, video, day, root)
    title = f"user {user}, video {video}, night of {day}"
    save(figure_of_clips(clips.end_ms, clips.interest, clips.viewings, title=title), out)
    print_line(f"{title}: {out}")


@plots.command()
def retention(
    video: options.Video,
    day: job.Day,
    out: options.Picture = Path("retention.png"),
    root: options.WarehouseRoot = None,
) -> None:
    """Draw how much of a video's audience is left after each clip, as predicted and as observed."""
    from microrec.plots.data import of_video
    from microrec.plots.figures import figure_of_retention, save

    hide_table_logs()
    clips, exits = of_video(video, day, root)
    title = f"audience of video {video}, night of {day}"
    save(figure_of_retention(clips, exits, title=title), out)
    print_line(f"{title}: {out}")


@plots.command()
def weights(
    day: job.Day,
    out: options.Picture = Path("weights.png"),
    root: options.WarehouseRoot = None,
) -> None:
    """Draw how much each source decides the order of a list, by the length of a user's history."""
    import pyarrow.compute as pc

    from microrec.plots.figures import figure_of_weights, save
    from microrec.release import reader

    hide_table_logs()
    rows = reader.of(day, root).read("blend_weights")
    rows = rows.filter(pc.equal(rows["fit"], "final"))
    title = f"what decides, night of {day}"
    save(figure_of_weights(rows, title=title), out)
    print_line(f"{title}: {out}")
