"""The `microrec` command: what an operator or a reader types.

Heavy packages (Airflow, Spark, torch ...) are imported by the commands that use them, so that `--help` and completion
answer at once.
"""

import sys

import typer

from microrec.cli import data, export, night, options, plots, privacy, releases, report
from microrec.cli.printing import print_error, print_rows
from microrec.config.settings import redacted
from microrec.errors import MicrorecError
from microrec.runner import job
from microrec.runner.exit_status import ExitStatus, status_of

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="The nightly recommendation pipeline: make data, run nights, read and look after releases.",
    epilog="`microrec exit-codes` lists the exit statuses.",
)
for group in (data, night, releases, export, report, privacy, plots):
    app.add_typer(group.app)


@app.command()
def exit_codes(as_json: options.AsJson = False) -> None:
    """List the exit statuses of this command and of the jobs."""
    rows = [{"status": int(status), "meaning": status.meaning} for status in ExitStatus]
    print_rows("exit statuses", ["status", "meaning"], rows, as_json=as_json)


def main() -> None:
    """Run the command line; errors of data and recipe become one line and exit status 65 or 78."""
    job.configure_logs()
    try:
        app()
    except MicrorecError as error:
        print_error(redacted(f"{type(error).__name__}: {error}"))
        sys.exit(status_of(error))
